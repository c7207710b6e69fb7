"""What may happen to a proxy, and that packets do not notice: P1 to P5, P9, P11 and S7."""

import asyncio
import fcntl
import random
import signal
import socket
import time
from ipaddress import ip_network
from pathlib import Path

import pytest

from kubenet.apiserver.http import ApiServer
from kubenet.client.kubeconfig import ClusterConfig
from kubenet.client.transport import ApiClient
from kubenet.kernel import iptables
from kubenet.kernel.run import run
from kubenet.model.flavour import Flavour
from kubenet.model.resources import ENDPOINTSLICES, NAMESPACES, SERVICES
from kubenet.store.memory import MemoryStore
from proxy.apply_iptables import KernelIptables
from proxy.daemon import run_proxy
from proxy.node_config import ProxyConfig
from tests.netns.proxy.faults import VIP, Traffic, manifest, proxy
from tests.netns.proxy.test_command import command, ran, wait_until
from tests.netns.proxy.test_daemon import VIP as DEMO_VIP
from tests.netns.proxy.test_daemon import eventually, service_body, slice_body
from tests.netns.proxy.world import OUTSIDE, World, backend_ip

pytestmark = pytest.mark.netns

MODES = pytest.mark.parametrize("mode", ["nftables", "iptables"])
SETS = ([2], [3, 4], [2, 3, 4, 5, 6], [6])


def reaches(world: World, last: int) -> bool:
    try:
        return world.connect(world.client, VIP, patience_s=2.0).backend == backend_ip(last)
    except OSError:
        return False


@MODES
def test_P1_killed_in_the_middle_of_syncs_no_connection_fails_and_the_next_one_arrives(
    world: World, tmp_path: Path, mode: str
) -> None:
    chance = random.Random(1)
    with proxy(world, tmp_path, mode, manifest([2], 100)) as made:
        made.start()
        wait_until(lambda: reaches(world, 2))
        with Traffic(world) as traffic:
            for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
                for endpoints in SETS:
                    made.say(manifest(endpoints, chance.choice([90, 100])))
                    time.sleep(chance.uniform(0.15, 0.3))  # the file is looked at five times a second
                made.end(number)
                made.start()
            made.say(manifest([5], 100))
            wait_until(lambda: traffic.settled_on(5))
        assert traffic.failures == []
        assert traffic.count > 100
        made.end(signal.SIGTERM)
    done = ran(world, *once(tmp_path, mode))
    assert b" 0 written" in done.stdout, done  # nothing was left half done


def once(directory: Path, mode: str) -> tuple[str, ...]:
    where = ("--source-file", str(directory / "cluster.json"), "--cluster-cidr", "10.244.0.0/16")
    return (*where, "--proxy-mode", mode, "--once")


@MODES
def test_P1_stopped_and_continued_it_catches_up(world: World, tmp_path: Path, mode: str) -> None:
    with proxy(world, tmp_path, mode, manifest([2], 20)) as made:
        child = made.start()
        wait_until(lambda: reaches(world, 2))
        with Traffic(world) as traffic:
            child.signal(signal.SIGSTOP)
            made.say(manifest([3], 20))
            time.sleep(0.5)
            assert traffic.settled_on(2)  # the rules serve on
            child.signal(signal.SIGCONT)
            wait_until(lambda: traffic.settled_on(3))
        assert traffic.failures == []


@MODES
def test_A7_row78_a_restart_with_500_services_writes_nothing_and_fails_nothing(
    world: World, tmp_path: Path, mode: str
) -> None:
    with proxy(world, tmp_path, mode, manifest([2, 3], 500)):
        first = ran(world, *once(tmp_path, mode))
        assert first.returncode == 0, first.stderr
        with Traffic(world) as traffic:
            again = ran(world, *once(tmp_path, mode))
        assert again.stdout.startswith(b"501 services, 1002 endpoints, 0 written"), again
        assert traffic.failures == []


@pytest.mark.parametrize(
    "harm",
    [
        pytest.param("nft flush ruleset", id="everything flushed"),
        pytest.param("nft delete table ip kubenet-proxy", id="the table deleted"),
        pytest.param("iptables-nft -t nat -F", id="iptables flushed"),
    ],
)
def test_P2_what_others_do_to_nftables_no_connection_notices(world: World, tmp_path: Path, harm: str) -> None:
    with proxy(world, tmp_path, "nftables", manifest([2], 50)) as made:
        made.start()
        wait_until(lambda: reaches(world, 2))
        with Traffic(world) as traffic:
            for _ in range(5):
                run(harm.split(), netns=world.node, check=False)
        assert traffic.failures == []
        made.say(manifest([3], 50))
        wait_until(lambda: reaches(world, 3))


def test_P2_flushed_iptables_are_back_with_the_next_look(world: World, tmp_path: Path) -> None:
    with proxy(world, tmp_path, "iptables", manifest([2], 50), "--iptables-sync-period", "300ms") as made:
        made.start()
        wait_until(lambda: reaches(world, 2))
        iptables.restore(world.node, "*nat\nCOMMIT\n", noflush=False)
        assert not reaches(world, 2)
        wait_until(lambda: reaches(world, 2))


def test_P4_a_lock_that_somebody_holds_delays_and_breaks_nothing(world: World, tmp_path: Path) -> None:
    lock_held(world, tmp_path, 1.5)


def lock_held(world: World, directory: Path, for_s: float) -> None:
    """Hold the lock of the legacy iptables so long while endpoints change."""
    KernelIptables(world.node, 4, Flavour.LEGACY).restore(
        "*nat\n-A OUTPUT -d 192.0.2.1/32 -j ACCEPT\nCOMMIT\n"
    )
    with proxy(world, directory, "iptables", manifest([2], 20), "--iptables-sync-period", "1s") as made:
        child = made.start()
        wait_until(lambda: reaches(world, 2))
        with iptables.lock_path().open("w") as lock, Traffic(world) as traffic:
            fcntl.flock(lock, fcntl.LOCK_EX)
            until_s = time.monotonic() + for_s
            most = 0
            while time.monotonic() < until_s:
                made.say(manifest([3], 20))
                time.sleep(0.1)
                made.say(manifest([2], 20))
                time.sleep(0.1)
                most = max(most, len(children_of(child.pid)))
            made.say(manifest([4], 20))
            assert traffic.settled_on(2)  # the old rules serve
            assert most <= 1  # nobody queues up
            fcntl.flock(lock, fcntl.LOCK_UN)
            wait_until(lambda: traffic.settled_on(4))
        assert traffic.failures == []


def children_of(pid: int) -> list[str]:
    found: list[str] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += (task / "children").read_text().split()
    return found


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param("sendto:error=EBUSY:when=1", id="the first request is refused"),
        pytest.param("sendto:error=ENOBUFS:when=4", id="no room to send"),
        pytest.param("recvfrom:error=ENOBUFS:when=3", id="answers get lost"),
        pytest.param("recvfrom:error=EINTR:when=2+3", id="interrupted again and again"),
    ],
)
def test_P5_netlink_that_fails_leaves_all_or_nothing(world: World, tmp_path: Path, fault: str) -> None:
    """One run under the fault, whatever it says; then one without, that must put it right."""
    (tmp_path / "cluster.json").write_text(manifest([2], 30))
    said = once(tmp_path, "nftables")
    log = tmp_path / "calls"
    tracer = ["strace", "-f", "-qq", "-o", str(log), "-e", "trace=sendto,recvfrom", "-e", f"inject={fault}"]
    harmed = run([*tracer, *command(*said)], netns=world.node, check=False, timeout_s=60)
    assert "(INJECTED)" in log.read_text()
    assert b"Traceback" not in harmed.stderr
    assert b"internal error" not in harmed.stderr
    there = reaches(world, 2)
    assert there or b"kubenet-proxy" not in run(["nft", "list", "tables"], netns=world.node).stdout
    assert there or harmed.returncode, "it said that all was well"
    assert ran(world, *said).returncode == 0
    assert reaches(world, 2)


POISON = (
    {"metadata": {"name": "x" * 63, "namespace": "y" * 63}, "spec": {"clusterIP": "10.96.0.9"}},
    {"metadata": {"name": "a", "namespace": "demo"}, "spec": {"clusterIP": "10.96.0.256"}},
    {"metadata": {"name": "b", "namespace": "demo"}, "spec": {"clusterIP": "127.0.0.1"}},
    {"metadata": {"name": "c", "namespace": "demo"}, "spec": {"clusterIP": VIP}},
    {"metadata": {"name": 'd";\n-F', "namespace": "demo"}, "spec": {"clusterIP": "10.96.0.10"}},
    {"metadata": {"name": "e", "namespace": "demo"}, "spec": {"clusterIP": "10.96.0.11", "type": "Odd"}},
)


@MODES
def test_S7_E3_9_one_poisonous_service_never_blocks_the_others(
    world: World, tmp_path: Path, mode: str
) -> None:
    ports = [
        {"name": "p" * 15, "port": 80, "nodePort": 70000},
        {"name": "q" * 63, "port": 0},
        {"name": "r\n", "port": 81, "protocol": "QUIC"},
        {"name": "z" * 63, "port": 82},
    ]
    extra = [
        {"apiVersion": "v1", "kind": "Service", **each, "spec": {**each["spec"], "ports": ports}}
        for each in POISON
    ]
    (tmp_path / "cluster.json").write_text(manifest([2], 3, extra))
    done = ran(world, *once(tmp_path, mode))
    assert done.returncode == 0, done.stderr
    assert reaches(world, 2)
    assert done.stdout.count(b"left out: ") >= 10
    with pytest.raises(ConnectionRefusedError):  # names as long as the API allows are served like others
        world.connect(world.client, "10.96.0.9", 82)


@pytest.mark.parametrize("names", [pytest.param(0, id="younger"), pytest.param(40, id="older")])
def test_P9_an_api_server_that_goes_and_comes_back_with_another_history(world: World, names: int) -> None:
    """410, or a version of the future: either way a list says what is."""

    async def serve(last: int, names: int) -> ApiServer:
        listener = world.outside.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((OUTSIDE, 6443))
        listener.listen()
        server = ApiServer(MemoryStore())
        await server.start([listener])
        config = ClusterConfig(f"http://{OUTSIDE}:6443")
        async with ApiClient(config, socket_factory=world.outside.socket) as client:
            for number in range(names):  # so that versions differ
                await client.create(NAMESPACES, "", {"metadata": {"name": f"n{number}"}})
            await client.create(NAMESPACES, "", {"metadata": {"name": "demo"}})
            await client.create(SERVICES, "demo", service_body())
            await client.create(ENDPOINTSLICES, "demo", slice_body(last))
        return server

    def backend() -> str:
        return world.connect(world.client, DEMO_VIP).backend

    async def story() -> None:
        ready = asyncio.Event()
        config = ProxyConfig("here", world.node, ip_network("10.244.0.0/16"), min_sync_s=0.01, ready=ready)
        server = await serve(2, 20)
        async with ApiClient(
            ClusterConfig(f"http://{OUTSIDE}:6443"), socket_factory=world.node.socket
        ) as client:
            task = asyncio.create_task(run_proxy(config, client))
            try:
                await asyncio.wait_for(ready.wait(), 10)
                await server.stop()
                assert await asyncio.to_thread(backend) == backend_ip(2)
                server = await serve(3, names)
                await eventually(lambda: backend() == backend_ip(3))
            finally:
                task.cancel()
                await asyncio.wait({task})
                await server.stop()

    asyncio.run(story())
