"""What we believe about iptables, in both flavours, and that the fake of the unit tests behaves the same."""

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Literal

import pytest

from kubenet.errors import ProgramFailed
from kubenet.kernel import iptables
from kubenet.kernel.netns import NetNs
from kubenet.kernel.run import run
from kubenet.model.flavour import Flavour
from kubenet.model.iptables import OneIn, Rule, TableWrite, Verdict, render_restore
from kubenet.model.iptables_save import read_rule, read_save
from proxy.apply_iptables import Iptables, IptablesBackend, KernelIptables, remove_rules
from proxy.backend import Applied
from proxy.policy import Locality, serve
from proxy.ports import Endpoint, NodeNetwork, ServicePort, ServicePortName
from tests.conftest import GOLDEN
from tests.netns.proxy.world import World
from tests.unit.proxy.fakes import FakeIptables

pytestmark = pytest.mark.netns

NETWORK = NodeNetwork(4, ip_network("10.244.0.0/16"))


def of_flavour(netns: NetNs, infix: str) -> KernelIptables:
    return KernelIptables(netns, 4, next(each for each in Flavour if each.infix == infix))


def program_of(programs: KernelIptables) -> str:
    assert programs.flavour
    return f"iptables{programs.flavour.infix}"


@pytest.fixture(params=["-nft", "-legacy"])
def flavour(request: pytest.FixtureRequest, world: World) -> KernelIptables:
    return of_flavour(world.node, request.param)


@pytest.fixture(params=["-nft", "-legacy", "fake"])
def programs(request: pytest.FixtureRequest, world: World) -> Iptables:
    return FakeIptables() if request.param == "fake" else of_flavour(world.node, request.param)


def said(text: str, table: str) -> dict[str, list[str]]:
    """Return the rules of our chains in a restore text or in what was saved."""
    chains = read_save(text.replace(" 1 ", " ", 1))[table].chains
    return {name: list(rules) for name, rules in chains.items() if name.startswith("KUBE-")}


@pytest.mark.parametrize("name", ["proxy_sentences.rules", "proxy_cluster.rules"])
def test_golden_rules_are_accepted_and_read_back_word_for_word(flavour: Iptables, name: str) -> None:
    text = (GOLDEN / name).read_text()
    flavour.restore(text)
    for table in ("nat", "filter"):
        assert said(flavour.save(table), table) == said(text, table)


def test_golden_rules_of_ipv6_are_accepted_and_read_back(world: World) -> None:
    text = (GOLDEN / "proxy_ipv6.rules").read_text()
    programs = KernelIptables(world.node, 6)
    programs.restore(text)
    for table in ("nat", "filter"):
        assert said(programs.save(table), table) == said(text, table)


def test_every_share_is_read_back_as_it_was_written(flavour: Iptables) -> None:
    rules = tuple(Rule((OneIn(share),), Verdict.RETURN) for share in range(2, 400))
    flavour.restore(render_restore([TableWrite("nat", {"KUBE-SVC-A": rules})]))
    lines = read_save(flavour.save("nat"))["nat"].chains["KUBE-SVC-A"]
    assert list(lines) == [rule.text() for rule in rules]
    assert [read_rule(line) for line in lines] == list(rules)


def web(*lasts: int, name: str = "web", ip: str = "10.96.0.1") -> ServicePort:
    endpoints = tuple(Endpoint(ip_address(f"10.244.1.{last}"), 8080) for last in lasts)
    return ServicePort(ServicePortName("demo", name), ip_address(ip), 80, 0, endpoints=endpoints)


def backend_of(programs: Iptables) -> IptablesBackend:
    return IptablesBackend(programs, NETWORK)


def test_a_second_sync_and_a_restart_write_nothing(programs: Iptables) -> None:
    serving = serve(
        [web(2, 3), replace(web(4, name="other", ip="10.96.0.2"), affinity_s=60)], Locality("here")
    )
    backend = backend_of(programs)
    assert backend.apply(serving).written
    assert backend.apply(serving) == Applied()
    assert backend.drifted() == []
    assert backend_of(programs).apply(serving) == Applied(observed=True)


def test_partial_writes_arrive_where_a_full_one_does(programs: Iptables) -> None:
    backend = backend_of(programs)
    for ports in ([web(2, 3)], [web(2, 4), web(5, name="other", ip="10.96.0.2")], [web()], [], [web(6)]):
        serving = serve(ports, Locality("here"))
        backend.apply(serving)
        assert backend.drifted() == []
        chains = read_save(programs.save("nat"))["nat"].chains
        assert sum(name.startswith("KUBE-SEP-") for name in chains) == sum(len(p.endpoints) for p in ports)


def test_A7_row72_a_refused_restore_changes_nothing(programs: Iptables) -> None:
    backend_of(programs).apply(serve([web(2, 3)], Locality("here")))
    before = read_save(programs.save("nat"))
    with pytest.raises(ProgramFailed):
        programs.restore("*nat\n:KUBE-SERVICES - [0:0]\n-A KUBE-SERVICES -j KUBE-NOWHERE-ELSE\nCOMMIT\n")
    assert read_save(programs.save("nat")) == before


def test_a_chain_that_is_jumped_to_cannot_be_deleted(programs: Iptables) -> None:
    programs.restore("*nat\n:KUBE-A - [0:0]\n:KUBE-B - [0:0]\n-A KUBE-A -j KUBE-B\nCOMMIT\n")
    with pytest.raises(ProgramFailed):
        programs.restore("*nat\n:KUBE-B - [0:0]\n-X KUBE-B\nCOMMIT\n")
    assert "KUBE-B" in read_save(programs.save("nat"))["nat"].chains


def test_a_rule_that_is_not_there_cannot_be_deleted(programs: Iptables) -> None:
    programs.restore("*nat\n:KUBE-A - [0:0]\n-A OUTPUT -j KUBE-A\nCOMMIT\n")
    with pytest.raises(ProgramFailed):
        programs.restore("*nat\n-D OUTPUT -j KUBE-A\n-D OUTPUT -j KUBE-A\nCOMMIT\n")
    assert list(read_save(programs.save("nat"))["nat"].chains["OUTPUT"]) == ["-j KUBE-A"]


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param("-F", id="iptables -t nat -F"),
        pytest.param("-F PREROUTING", id="jumps flushed"),
        pytest.param("-D KUBE-SERVICES 1", id="one rule deleted"),
        pytest.param("-I KUBE-SERVICES 1 -j RETURN", id="one rule too many"),
    ],
)
def test_A7_row74_P2_what_others_did_is_seen_and_mended(
    world: World, flavour: KernelIptables, damage: str
) -> None:
    serving = serve([web(2, 3)], Locality("here"))
    backend = backend_of(flavour)
    backend.apply(serving)
    whole = read_save(flavour.save("nat"))
    run([program_of(flavour), "-t", "nat", *damage.split()], netns=world.node)
    assert backend.drifted()
    assert backend.apply(serving).written
    assert read_save(flavour.save("nat")) == whole
    assert world.connect(world.client, "10.96.0.1").backend in ("10.244.1.2", "10.244.1.3")


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param("-t filter -F FORWARD", id="filter: jumps flushed"),
        pytest.param("-t filter -F", id="filter: all flushed"),
        pytest.param("-t nat -F KUBE-IP-10.96.1.0-28", id="nat: a part of the dispatch flushed"),
        pytest.param("-t nat -D KUBE-POSTROUTING 1", id="nat: one shared rule deleted"),
    ],
)
def test_A7_row74_every_table_and_the_fanned_out_dispatch_are_mended(
    world: World, flavour: KernelIptables, damage: str
) -> None:
    many = [web(2, name=f"s{number}", ip=f"10.96.1.{number}") for number in range(1, 100)]
    serving = serve([*many, web(name="empty", ip="10.96.2.1")], Locality("here"))
    backend = backend_of(flavour)
    backend.apply(serving)
    whole = [read_save(flavour.save(table)) for table in ("nat", "filter")]
    run([program_of(flavour), *damage.split()], netns=world.node)
    assert backend.drifted()
    assert backend.apply(serving).written
    assert [read_save(flavour.save(table)) for table in ("nat", "filter")] == whole
    assert backend.drifted() == []


def test_A6_row66_everything_of_ours_can_be_taken_out_again(programs: Iptables) -> None:
    empty = {table: read_save(programs.save(table))[table].chains for table in ("nat", "filter")}
    many = [web(2, name=f"s{number}", ip=f"10.96.1.{number}") for number in range(1, 100)]
    backend_of(programs).apply(serve(many, Locality("here")))
    assert remove_rules(programs, 4) > 200
    assert {table: read_save(programs.save(table))[table].chains for table in ("nat", "filter")} == empty
    assert remove_rules(programs, 4) == 0


def test_A7_row77_rules_of_others_stay_where_they_are(flavour: Iptables) -> None:
    flavour.restore(
        "*nat\n:DOCKER - [0:0]\n-A DOCKER -p icmp -j RETURN\n-A OUTPUT -d 192.0.2.1 -j DOCKER\nCOMMIT\n"
    )
    backend = backend_of(flavour)
    backend.apply(serve([web(2)], Locality("here")))
    backend.apply(serve([], Locality("here")))
    chains = read_save(flavour.save("nat"))["nat"].chains
    assert chains["OUTPUT"][1] == "-d 192.0.2.1/32 -j DOCKER"
    assert list(chains["DOCKER"]) == ["-p icmp -j RETURN"]


@pytest.fixture
def ears(world: World) -> Iterator[KernelIptables]:
    made = KernelIptables(world.node, 4)
    made.heard()
    yield made
    made.close()


LOADED = "*nat\n:KUBE-SVC-X - [0:0]\n-A KUBE-SVC-X -j RETURN\n-A PREROUTING -j KUBE-SVC-X\nCOMMIT\n"


@pytest.mark.parametrize(
    ("words", "heard"),
    [
        pytest.param("-t nat -F KUBE-SVC-X", True, id="a chain of ours is emptied"),
        pytest.param("-t nat -A KUBE-SVC-X -j ACCEPT", True, id="a rule is added to it"),
        pytest.param("-t nat -D PREROUTING -j KUBE-SVC-X", True, id="the way there is taken out"),
        pytest.param("-t nat -F", True, id="everything is emptied"),
        pytest.param("-t nat -A PREROUTING -d 192.0.2.1 -j RETURN", False, id="a rule of others beside it"),
        pytest.param("-t nat -N DOCKER", False, id="a chain of others"),
        pytest.param("-t mangle -F", False, id="another table"),
    ],
)
def test_A7_row74_P2_what_others_do_to_our_rules_is_heard_of(
    world: World, ears: KernelIptables, words: str, heard: bool
) -> None:
    ears.restore(LOADED)
    assert not ears.heard()  # what we write ourselves is nobody's doing
    run(["iptables-nft", *words.split()], netns=world.node)
    assert ears.heard() is heard
    assert not ears.heard()


def test_A7_row74_what_others_do_while_we_write_is_heard_of(
    world: World, ears: KernelIptables, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = iptables.restore

    def beside(netns: NetNs, text: str, *, family: Literal[4, 6], flavour: Flavour | None) -> None:
        real(netns, text, family=family, flavour=flavour)
        run(["iptables-nft", "-t", "nat", "-F", "KUBE-SVC-X"], netns=netns)

    monkeypatch.setattr(iptables, "restore", beside)
    ears.restore(LOADED)
    assert ears.disturbed
    assert ears.heard()
