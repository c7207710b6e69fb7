"""What the options of ``forward`` do on the wire: TLS, the next server, the next forward."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dns.framing import FrameReader, framed
from dns.wire import Rcode
from kubenet.kernel import run
from tests.netns.dns.test_daemon import serving
from tests.netns.dns.test_upstream import THERE, answered, plainly
from tests.netns.dns.world import CLIENT, PATIENCE_S, SERVER, Upstream, World, ask, on

pytestmark = pytest.mark.netns

NAME = "www.example.com"


def corefile(*lines: str) -> str:
    return f".:53 {{\n bind {SERVER}\n " + "\n ".join(lines) + "\n}\n"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with cert.pem and key.pem of a server called dns.test at the client's address."""
    directory = tmp_path_factory.mktemp("tls")
    names = f"subjectAltName=DNS:dns.test,IP:{CLIENT}"
    argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    argv += ["-keyout", str(directory / "key.pem"), "-out", str(directory / "cert.pem"), "-days", "2"]
    run.run([*argv, "-subj", "/CN=dns.test", "-addext", names])
    return directory


class TlsUpstream:
    """A server that answers over TLS; counts connections and queries."""

    def __init__(self, world: World, authority: Path) -> None:
        self.connections = self.queries = 0
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(authority / "cert.pem", authority / "key.pem")
        self._listening = world.client.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._listening.bind((CLIENT, 853))
        self._listening.listen()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "TlsUpstream":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listening.close()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            connection.settimeout(PATIENCE_S)
            try:
                with self._context.wrap_socket(connection, server_side=True) as secure:
                    self.connections += 1
                    self._serve(secure)
            except OSError:
                continue

    def _serve(self, secure: ssl.SSLSocket) -> None:
        frames = FrameReader()
        while piece := secure.recv(65535):
            frames.feed(piece)
            for message in frames.messages():
                self.queries += 1
                secure.sendall(framed(answered(message)))


def test_P6_a_server_is_asked_over_tls_on_one_connection(
    world: World, authority: Path, tmp_path: Path
) -> None:
    ca = authority / "cert.pem"
    text = corefile(f"forward . tls://{CLIENT} {{\n tls {ca}\n tls_servername dns.test\n }}")

    async def case() -> None:
        with TlsUpstream(world, authority) as upstream:
            async with serving(world, tmp_path / "Corefile", text):
                for number in range(5):
                    assert (await ask(world, f"n{number}.example.com")).rdata == ["192.0.2.1"]
            assert (upstream.connections, upstream.queries) == (1, 5)

    on(case)


@pytest.mark.parametrize(
    "option",
    [
        pytest.param("tls", id="an authority that nobody trusts"),
        pytest.param("tls {ca}\n tls_servername other.test", id="another name"),
    ],
)
def test_P6_a_server_that_cannot_be_verified_is_not_believed(
    world: World, authority: Path, tmp_path: Path, option: str
) -> None:
    told = option.format(ca=authority / "cert.pem")
    text = corefile(f"forward . tls://{CLIENT} {{\n {told}\n }}")

    async def case() -> None:
        with TlsUpstream(world, authority) as upstream:
            async with serving(world, tmp_path / "Corefile", text):
                assert (await ask(world, NAME)).status == "SERVFAIL"
            assert upstream.queries == 0

    on(case)


@contextmanager
def upstreams(world: World, *answers: Callable[[bytes, bool], list[bytes]]) -> Iterator[list[str]]:
    """Give the addresses of servers that answer so, each on a port of its own."""
    made = [Upstream(world, answer, port=5300 + number) for number, answer in enumerate(answers)]
    for each in made:
        each.__enter__()
    try:
        yield [f"{CLIENT}:{5300 + number}" for number in range(len(made))]
    finally:
        for each in made:
            each.__exit__()


def saying(rcode: Rcode) -> Callable[[bytes, bool], list[bytes]]:
    """Answer with a code and no records."""

    def answer(message: bytes, tcp: bool) -> list[bytes]:
        reply = answered(message, Rcode.NXDOMAIN)
        return [reply[:3] + bytes((reply[3] & 0xF0 | rcode,)) + reply[4:]]

    return answer


@pytest.mark.parametrize(
    ("options", "first", "expected"),
    [
        pytest.param("next NXDOMAIN", Rcode.NXDOMAIN, ["192.0.2.1"], id="by its code"),
        pytest.param("next_on_nodata", Rcode.NOERROR, ["192.0.2.1"], id="because it has no such type"),
        pytest.param("next NXDOMAIN", Rcode.NOERROR, [], id="not for another code"),
        pytest.param("max_fails 0", Rcode.NXDOMAIN, [], id="not unless told"),
    ],
)
def test_P6_the_next_forward_is_asked_by_the_first_ones_answer(
    world: World, tmp_path: Path, options: str, first: Rcode, expected: list[str]
) -> None:
    async def case() -> None:
        with upstreams(world, saying(first), plainly) as (one, two):
            text = corefile("cache 30", f"forward . {one} {{\n {options}\n }}", f"forward . {two}")
            async with serving(world, tmp_path / "Corefile", text):
                for _ in range(2):
                    assert (await ask(world, NAME)).rdata == expected

    on(case)


def test_P6_failover_asks_the_next_server(world: World, tmp_path: Path) -> None:
    async def case() -> None:
        with upstreams(world, saying(Rcode.NXDOMAIN), plainly) as (one, two):
            options = "policy sequential\n failover NXDOMAIN"
            text = corefile(f"forward . {one} {two} {{\n {options}\n }}")
            async with serving(world, tmp_path / "Corefile", text):
                assert (await ask(world, NAME)).rdata == ["192.0.2.1"]

    on(case)


def test_P6_a_slow_server_is_overtaken_by_the_next(world: World, tmp_path: Path) -> None:
    """The first never answers; the second is asked before anybody's patience ends."""

    async def case() -> None:
        with upstreams(world, lambda message, tcp: [], plainly) as (one, two):
            text = corefile(f"forward . {one} {two} {{\n policy sequential\n }}")
            async with serving(world, tmp_path / "Corefile", text) as server:
                assert (await ask(world, NAME)).rdata == ["192.0.2.1"]
                assert server.live is not None
                assert (1, 0) in server.live.parts[0].forwarders[0].took

    on(case)


def test_P6_the_servers_of_resolv_conf_are_asked(world: World, tmp_path: Path) -> None:
    resolv = tmp_path / "resolv.conf"
    resolv.write_text(f"search example.com\n# comment\nnameserver {CLIENT}\nnameserver fe80::1%lo\n")

    async def case() -> None:
        with Upstream(world, plainly, port=53):
            text = corefile(f"forward . {resolv} {{\n policy sequential\n }}")
            async with serving(world, tmp_path / "Corefile", text) as server:
                assert (await ask(world, NAME)).rdata == ["192.0.2.1"]
                assert server.live is not None
                found = server.live.parts[0].forwarders[0].upstreams
                assert [str(each.address) for each in found] == [CLIENT, "fe80::1%lo"]

    on(case)


def test_S8_ports_are_spread_over_the_whole_range(world: World, tmp_path: Path) -> None:
    """Chi-square over 16 parts of the range that the kernel takes ports from: 99.99 % of fair ones pass."""
    low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())

    async def case() -> None:
        with Upstream(world, plainly) as upstream:
            text = corefile(f"forward . {THERE[0]}:{THERE[1]}")
            async with serving(world, tmp_path / "Corefile", text):
                for number in range(800):
                    await ask(world, f"n{number}.example.com")
            counts = [0] * 16
            ports = set(upstream.ports)
            for port in ports:
                counts[(port - low) * 16 // (high + 1 - low)] += 1
        expected = len(ports) / 16
        chi_square = sum((count - expected) ** 2 / expected for count in counts)
        assert chi_square < 44.3  # 15 degrees of freedom
        assert len(ports) > 150

    on(case)


def test_S8_D1_no_forged_answer_is_cached(world: World, tmp_path: Path) -> None:
    """A forger who knows port and question, and guesses: many ids but ours, and at last ours in another case.

    The worst of all: what he sends comes from the server's own address and port, before its answer.
    """

    def forged(message: bytes, tcp: bool) -> list[bytes]:
        genuine = answered(message)
        if tcp:
            return [framed(genuine)]
        end = message.index(0, 12)
        wrong = answered(message, last=66)
        ids = [
            int.from_bytes(message[:2], "big") ^ number for number in range(1, 200)
        ]  # more would not fit its socket's buffer
        guesses = [each.to_bytes(2, "big") + wrong[2:] for each in ids]
        other_case = wrong[:12] + wrong[12:end].swapcase() + wrong[end:]
        other_name = wrong[:13] + b"xyz" + wrong[16:]
        return [*guesses, wrong[:12], other_name, other_case, genuine]

    async def case() -> None:
        with Upstream(world, forged) as upstream:
            text = corefile("cache 30", f"forward . {THERE[0]}:{THERE[1]}")
            async with serving(world, tmp_path / "Corefile", text) as server:
                for number in range(5):
                    name = f"victim{number}.example.com"
                    for _ in range(2):
                        assert (await ask(world, name)).rdata == ["192.0.2.1"]
                assert server.live is not None
                assert server.live.parts[0].forwarders[0].mismatched > 900
            assert len(upstream.asked) <= 10  # each once over UDP and once over TCP, then from the cache

    on(case)
