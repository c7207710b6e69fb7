"""The legacy iptables interface: the guard of the jump rules, counters, the lock, and no split brain."""

import asyncio
import fcntl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ipaddress import ip_address, ip_network

import pytest

from kubenet.errors import ProgramMissing, TimedOut
from kubenet.kernel import iptables
from kubenet.kernel.iptc_legacy import LegacyTables, load, xtables_lock
from kubenet.kernel.run import ENVIRONMENT, run
from kubenet.model.flavour import Flavour
from proxy.apply_iptables import IptablesBackend, KernelIptables
from proxy.compile_iptables import FILTER_HOOKS, NAT_HOOKS
from proxy.flavours import SplitBrain
from proxy.guard import guard_jumps, mend
from proxy.host_flavour import host_flavour
from proxy.policy import Locality, serve
from proxy.ports import NodeNetwork, ServicePort, ServicePortName
from tests.netns.proxy.test_command import ran
from tests.netns.proxy.world import World, endpoints

pytestmark = pytest.mark.netns

NETWORK = NodeNetwork(4, ip_network("10.244.0.0/16"))
VIP = "10.96.0.1"
WEB = ServicePort(ServicePortName("demo", "web"), ip_address(VIP), 80, endpoints=endpoints(2))


@pytest.fixture(scope="module", autouse=True)
def _package() -> None:
    try:
        load()
    except ProgramMissing as error:
        pytest.skip(str(error))


@pytest.fixture
def programs(world: World) -> KernelIptables:
    return KernelIptables(world.node, 4, Flavour.LEGACY)


@pytest.fixture
def backend(programs: KernelIptables) -> IptablesBackend:
    made = IptablesBackend(programs, NETWORK)
    made.apply(serve([WEB], Locality("here")))
    return made


def legacy(world: World, *words: str, program: str = "iptables-legacy") -> None:
    """Run the program, on the lock of this test."""
    env = {**ENVIRONMENT, "XTABLES_LOCKFILE": str(iptables.lock_path())}
    run([program, "-w", "10", *words], netns=world.node, env=env)


@pytest.mark.parametrize(
    ("damage", "missing"),
    [
        pytest.param(["-t", "nat", "-F", "PREROUTING"], 1, id="one chain flushed"),
        pytest.param(["-F", "FORWARD"], 4, id="several rules of one chain"),
        pytest.param(["-t", "nat", "-D", "OUTPUT", "1"], 1, id="one rule deleted"),
    ],
)
def test_A7_row74_P2_jump_rules_that_others_take_away_are_put_back_as_they_were(
    world: World, backend: IptablesBackend, damage: list[str], missing: int
) -> None:
    assert world.connect(world.client, VIP)
    legacy(world, *damage)
    tables = LegacyTables(world.node, 4)
    assert mend(tables) == missing
    assert mend(tables) == 0
    assert backend.drifted() == []  # word for word, and in their order
    assert world.connect(world.client, VIP)


def test_A7_row77_rules_of_others_stay_behind_ours(world: World, backend: IptablesBackend) -> None:
    legacy(world, "-t", "nat", "-F", "PREROUTING")
    strangers = ["-A PREROUTING -d 192.0.2.1/32 -j ACCEPT", "-A PREROUTING -i eth9 -p udp -j RETURN"]
    for rule in strangers:
        legacy(world, "-t", "nat", *rule.split())
    mend(LegacyTables(world.node, 4))
    lines = iptables.save(world.node, "nat", flavour=Flavour.LEGACY).splitlines()
    rules = [line for line in lines if line.startswith("-A PREROUTING")]
    assert rules[1:] == strangers
    assert "KUBE-SERVICES" in rules[0]


def test_without_our_chains_there_is_nothing_to_lead_to(world: World) -> None:
    tables = LegacyTables(world.node, 4)
    assert mend(tables) == 0
    assert tables.missing("filter", FILTER_HOOKS) == []
    assert tables.packets("nat", "KUBE-SERVICES") == []


def test_ipv6_has_its_own(world: World) -> None:
    network = NodeNetwork(6, ip_network("fd00:244::/48"))
    IptablesBackend(KernelIptables(world.node, 6, Flavour.LEGACY), network).apply([])
    tables = LegacyTables(world.node, 6)
    assert mend(tables) == 0
    legacy(world, "-t", "nat", "-F", program="ip6tables-legacy")
    assert {chain for chain, _ in tables.missing("nat", NAT_HOOKS)} == set(NAT_HOOKS)
    assert mend(tables) == len(NAT_HOOKS)


def test_counters_are_those_of_this_namespace(world: World, backend: IptablesBackend) -> None:
    for _ in range(3):
        world.connect(world.client, VIP)
    packets = LegacyTables(world.node, 4).packets("nat", "KUBE-SERVICES")
    assert packets[0] == 3
    assert packets[0] == iptables.packets_of_first_rule(
        world.node, "nat", "KUBE-SERVICES", flavour=Flavour.LEGACY
    )
    assert LegacyTables(world.client, 4).packets("nat", "KUBE-SERVICES") == []


@contextmanager
def held() -> Iterator[None]:
    """Hold the lock as another program does."""
    with iptables.lock_path().open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def test_P4_nothing_is_written_while_somebody_else_has_the_lock(
    world: World, backend: IptablesBackend
) -> None:
    legacy(world, "-t", "nat", "-F", "PREROUTING")
    tables = LegacyTables(world.node, 4)
    with held():
        assert tables.missing("nat", NAT_HOOKS)  # looking needs no lock
        with pytest.raises(TimedOut, match="held by somebody else"), xtables_lock(0.05):
            pass
        waiting = threading.Thread(target=mend, args=(tables,))
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive()
        assert tables.missing("nat", NAT_HOOKS)
    waiting.join(10)
    assert not tables.missing("nat", NAT_HOOKS)


def test_of_many_who_write_at_once_nothing_is_lost(world: World, backend: IptablesBackend) -> None:
    """Without the lock every fifth rule was."""

    def others() -> None:
        for number in range(40):
            legacy(world, "-t", "nat", "-A", "INPUT", "-s", f"192.0.2.{number}", "-j", "ACCEPT")
            legacy(world, "-t", "nat", "-F", "PREROUTING")

    writing = threading.Thread(target=others)
    tables = LegacyTables(world.node, 4)
    writing.start()
    while writing.is_alive():
        mend(tables)
    writing.join()
    mend(tables)
    saved = iptables.save(world.node, "nat", flavour=Flavour.LEGACY)
    assert saved.count("-A INPUT -s 192.0.2.") == 40
    assert backend.drifted() == []


def test_the_guard_runs_beside_the_daemon_on_the_legacy_flavour_only(
    world: World, backend: IptablesBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.guard.LOOK_S", 0.05)
    mended = asyncio.Event()

    async def story() -> None:
        await asyncio.wait_for(guard_jumps(world.node, Flavour.NFT, [4], lambda *_: None), 5)
        task = asyncio.create_task(guard_jumps(world.node, Flavour.LEGACY, [4], lambda *_: mended.set()))
        await asyncio.to_thread(legacy, world, "-t", "nat", "-F", "OUTPUT")
        await asyncio.wait_for(mended.wait(), 10)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    asyncio.run(story())
    assert backend.drifted() == []


def test_P12_the_host_decides_and_two_minds_are_refused(world: World) -> None:
    assert host_flavour(world.node) is Flavour.NFT
    KernelIptables(world.node, 4, Flavour.LEGACY).restore(
        "*nat\n-A OUTPUT -d 192.0.2.1/32 -j ACCEPT\nCOMMIT\n"
    )
    assert host_flavour(world.node) is Flavour.LEGACY
    KernelIptables(world.node, 4, Flavour.NFT).restore("*nat\n:KUBE-SERVICES - [0:0]\nCOMMIT\n")
    with pytest.raises(SplitBrain):
        host_flavour(world.node)
    said = ("--source-file", "/dev/null", "--proxy-mode", "iptables", "--once")
    refused = ran(world, *said)
    assert refused.returncode == 1
    assert b"the nf_tables one holds rules of a service proxy (KUBE-SERVICES)" in refused.stderr
    assert ran(world, "--cleanup").returncode == 0
    assert ran(world, *said).returncode == 0
    assert "KUBE-SERVICES" in iptables.save(world.node, "nat", flavour=Flavour.LEGACY)
    assert "KUBE" not in iptables.save_all(world.node, 4, Flavour.NFT)
