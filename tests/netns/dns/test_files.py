"""Files behind plugins: zones and host names that change, and zones that are given away, asked with dig."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from dns.daemon import CorefileServer
from dns.framing import framed
from kubenet.errors import InvalidInput
from kubenet.kernel import run
from tests.netns.dns.test_daemon import cluster, serving, until_ready
from tests.netns.dns.world import CLIENT, PATIENCE_S, SERVER, WEB, ZONE, World, ask, on, stream
from tests.unit.dns.world import query

pytestmark = pytest.mark.netns

ZONE_FILE = """$TTL 1h
@   IN SOA ns1 hostmaster ( {serial} 2h 1h 2w 5m ) ; the zone
    IN NS  ns1
ns1 IN A   192.0.2.1
www IN A   {address}
out IN CNAME web.demo.svc.cluster.local.
"""


async def until(asked: Callable[[], Awaitable[object]], want: object) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while await asked() != want:
            await asyncio.sleep(0.05)


async def dig(world: World, *words: str) -> list[str]:
    done = await asyncio.to_thread(run.run, ["dig", f"@{SERVER}", *words], netns=world.client, check=False)
    return [line for line in done.stdout.decode().splitlines() if line and not line.startswith(";")]


@asynccontextmanager
async def with_files(world: World, directory: Path, *lines: str) -> AsyncIterator[CorefileServer]:
    kubernetes = f"kubernetes cluster.local {{\n endpoint http://{CLIENT}:6443\n }}"
    text = ". {\n" + "\n".join((f"bind {SERVER}", "ready", kubernetes, *lines)) + "\n}"
    async with cluster(world), serving(world, directory / "Corefile", text) as server:
        await until_ready(world)
        yield server


def test_a_zone_file_is_read_again_when_its_serial_changes(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "db.example.org"
    path.write_text(ZONE_FILE.format(serial=1, address="192.0.2.3"))

    async def www() -> list[str]:
        return (await ask(world, "www.example.org")).rdata

    async def case() -> None:
        async with with_files(world, tmp_path, f"file {path} example.org {{\n reload 100ms\n}}"):
            assert await www() == ["192.0.2.3"]
            assert (await ask(world, "out.example.org")).rdata == [f"{WEB}.", "10.96.1.1"]
            path.write_text("@ SOA broken")
            await until(lambda: _said(caplog, "the zone from before stays"), True)
            assert await www() == ["192.0.2.3"]
            path.write_text(ZONE_FILE.format(serial=2, address="192.0.2.4"))
            await until(www, ["192.0.2.4"])

    with caplog.at_level(logging.INFO):
        on(case)


async def _said(caplog: pytest.LogCaptureFixture, text: str) -> bool:
    return text in caplog.text


def test_auto_serves_the_zones_that_a_directory_has(world: World, tmp_path: Path) -> None:
    zones = tmp_path / "zones"
    zones.mkdir()
    (zones / "db.example.org").write_text(ZONE_FILE.format(serial=1, address="192.0.2.3"))
    (zones / "db.elsewhere.net").write_text(ZONE_FILE.format(serial=1, address="192.0.2.9"))
    (zones / "notes.txt").write_text("no zone")

    async def case() -> None:
        async def status(name: str) -> str:
            return (await ask(world, name)).status

        async with with_files(world, tmp_path, f"auto org {{\n directory {zones}\n reload 100ms\n}}"):
            assert await status("www.example.org") == "NOERROR"
            assert await status("www.elsewhere.net") == "REFUSED"
            (zones / "db.more.org").write_text(ZONE_FILE.format(serial=1, address="192.0.2.5"))
            (zones / "db.example.org").unlink()
            await until(lambda: status("www.more.org"), "NOERROR")
            await until(lambda: status("www.example.org"), "REFUSED")

    on(case)


def test_hosts_are_read_again_when_the_file_changes(world: World, tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_text("192.0.2.7 node-1\n")

    async def case() -> None:
        async def node(name: str) -> list[str]:
            return (await ask(world, name)).rdata

        lines = f"hosts {path} {{\n 192.0.2.8 inline\n reload 50ms\n fallthrough\n}}"
        async with with_files(world, tmp_path, lines):
            assert await node("node-1") == ["192.0.2.7"]
            path.write_text("192.0.2.7 node-1\n192.0.2.9 node-2\n")
            await until(lambda: node("node-2"), ["192.0.2.9"])
            path.write_text(f"192.0.2.10 node-1 {WEB}\n")  # now it has a say in the cluster's names
            await until(lambda: node(WEB), ["192.0.2.10"])
            path.unlink()
            await until(lambda: node("node-1"), [])
            assert await node("inline") == ["192.0.2.8"]
            assert (await ask(world)).rdata == ["10.96.1.1"]

    on(case)


def test_A18_zones_are_given_to_those_who_may_have_them(world: World, tmp_path: Path) -> None:
    path = tmp_path / "db.example.org"
    path.write_text(ZONE_FILE.format(serial=7, address="192.0.2.3"))
    transfer = f"transfer {{\n to {CLIENT}\n}}"

    async def case() -> None:
        async with with_files(world, tmp_path, f"file {path} example.org", transfer) as server:
            records = await dig(world, "+onesoa", "example.org", "AXFR")
            assert sum("SOA" in line for line in records) == 1
            assert any(line.split()[::4] == ["www.example.org.", "192.0.2.3"] for line in records)
            whole = await dig(world, "example.org", "AXFR")
            assert whole[0] == whole[-1]
            assert "SOA" in whole[0]
            cluster_records = {
                tuple(line.split()[i] for i in (0, 3, 4)) for line in await dig(world, ZONE, "AXFR")
            }
            assert {
                (f"{WEB}.", "A", "10.96.1.1"),
                (f"_http._tcp.{WEB}.", "SRV", "0"),
                (f"dns-version.{ZONE}.", "TXT", '"1.1.0"'),
            } <= cluster_records
            same = await dig(world, "example.org", "IXFR=7")
            older = await dig(world, "example.org", "IXFR=6")
            assert (len(same), len(older)) == (1, len(whole))
            over_udp = await dig(world, "+notcp", "example.org", "IXFR=6")
            assert len(over_udp) == 1
            assert (await ask(world, "example.org", 252)).status == "REFUSED"
            await _check_refused(world, tmp_path, server)

    on(case)


async def _check_refused(world: World, tmp_path: Path, server: CorefileServer) -> None:
    corefile = tmp_path / "Corefile"
    corefile.write_text(corefile.read_text().replace(f"to {CLIENT}", "to 198.51.100.0/24"))
    assert await server.reload()
    assert await dig(world, "example.org", "AXFR") == []


def test_A18_a_big_zone_goes_over_many_messages(world: World, tmp_path: Path) -> None:
    path = tmp_path / "db.example.org"
    text = ZONE_FILE.format(serial=1, address="192.0.2.3")
    path.write_text(
        text + "".join(f"host-{number} A 10.0.{number >> 8}.{number & 255}\n" for number in range(5000))
    )

    async def case() -> None:
        async with with_files(world, tmp_path, f"file {path} example.org", "transfer {\n to *\n}"):
            assert len(await dig(world, "example.org", "AXFR")) == 5000 + 6

    on(case)


def test_A18_a_client_that_reads_slowly_gets_all_of_a_zone(world: World, tmp_path: Path) -> None:
    path = tmp_path / "db.example.org"
    hosts = 30_000
    lines = (f"host-{number} TXT {'x' * 80}\n" for number in range(hosts))
    path.write_text(ZONE_FILE.format(serial=1, address="192.0.2.3") + "".join(lines))

    async def case() -> None:
        async with with_files(world, tmp_path, f"file {path} example.org", "transfer {\n to *\n}"):
            async with stream(world) as connection:
                await connection.send(framed(query("example.org", 252)))
                await asyncio.sleep(0.5)  # the server has filled what buffers there are, and waits
                records = 0
                while records < hosts + 6:
                    for message in await connection.messages(1):
                        records += int.from_bytes(message[6:8], "big")
            assert records == hosts + 6

    on(case)


def test_D7_a_zone_file_that_is_wrong_is_an_error_with_its_line(world: World, tmp_path: Path) -> None:
    path = tmp_path / "db"
    path.write_text("@ SOA ns1 h 1 2 3 4 5\nwww A 192.0.2.300\n")

    async def case() -> None:
        with pytest.raises(InvalidInput, match=r"db:2: "):
            async with serving(world, tmp_path / "Corefile", f". {{\n file {path} example.org\n}}"):
                pass

    on(case)


def test_P1_errors_tell_failures_together_and_log_tells_queries(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = ("log . {\n class denial\n}", 'errors {\n consolidate 1s "no upstream .*" warning\n}')

    async def case() -> None:
        async with with_files(world, tmp_path, *lines, f"forward . {CLIENT}:5399"):
            await ask(world)
            await ask(world, f"none.{ZONE}")
            replies = await asyncio.gather(*(ask(world, f"x{number}.example.org") for number in range(3)))
            assert {reply.status for reply in replies} == {"SERVFAIL"}
            await until(lambda: _said(caplog, "3 errors like 'no upstream .*'"), True)

    with caplog.at_level(logging.INFO):
        on(case)
    told = [record.message for record in caplog.records if record.name == "dns.queries"]
    assert [line.split('"')[1].split()[2] for line in told] == [f"none.{ZONE}."]
