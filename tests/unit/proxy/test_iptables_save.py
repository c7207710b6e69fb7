"""From what iptables-save prints to what has to be written."""

import pytest

from kubenet.model.iptables import Comment, Jump, OneIn, Rule, Rules, Table, TableWrite, Verdict
from kubenet.model.iptables_save import SavedTable, read_rule, read_save, write_between
from tests.unit.proxy.fakes import FakeIptables

HOOK = Rule((Comment("kubernetes service portals"),), Jump("KUBE-SERVICES"))
TO_A = Rule((Comment("demo/a cluster IP"),), Jump("KUBE-SVC-A"))
STOP = Rule((), Verdict.RETURN)
WANT = Table(
    "nat", {"KUBE-SERVICES": (TO_A,), "KUBE-SVC-A": (STOP,)}, {"OUTPUT": (HOOK,), "PREROUTING": (HOOK,)}
)


def is_service(name: str) -> bool:
    return name.startswith("KUBE-SVC-")


def saved(**chains: Rules) -> SavedTable:
    """Return a table that holds WANT, with ``chains`` (an underscore is a hyphen) on top."""
    full = {**WANT.chains, **WANT.hooks, **{name.replace("_", "-"): rules for name, rules in chains.items()}}
    return SavedTable({name: [rule.text() for rule in rules] for name, rules in full.items()})


def write(have: SavedTable | None) -> TableWrite:
    return write_between(have, WANT, is_service)


def test_an_equal_table_needs_nothing() -> None:
    assert not write(saved())


def test_an_empty_table_needs_everything() -> None:
    everything = write(None)
    assert everything.chains == WANT.chains
    assert everything.inserted == [("OUTPUT", HOOK), ("PREROUTING", HOOK)]
    assert not everything.removed


@pytest.mark.parametrize(
    ("have", "expected"),
    [
        pytest.param(saved(KUBE_SVC_A=()), {"KUBE-SVC-A"}, id="emptied"),
        pytest.param(saved(KUBE_SVC_A=(STOP, STOP)), {"KUBE-SVC-A"}, id="one rule too many"),
        pytest.param(saved(KUBE_SERVICES=(STOP,)), {"KUBE-SERVICES"}, id="another rule"),
    ],
)
def test_a_changed_chain_is_written_again_and_no_other(have: SavedTable, expected: set[str]) -> None:
    assert set(write(have).chains) == expected


def test_a_lost_hook_comes_back_once() -> None:
    lost = write(saved(OUTPUT=()))
    assert lost.inserted == [("OUTPUT", HOOK)]
    assert not lost.chains


def test_a_hook_that_is_there_three_times_goes_twice() -> None:
    many = write(saved(OUTPUT=(HOOK, STOP, HOOK, HOOK)))
    assert many.withdrawn == [("OUTPUT", HOOK), ("OUTPUT", HOOK)]
    assert not many.inserted


def test_a_hook_in_other_words_is_replaced() -> None:
    older = Rule((), Jump("KUBE-SERVICES"))
    renewed = write(saved(OUTPUT=(STOP, older)))
    assert renewed.inserted == [("OUTPUT", HOOK)]
    assert renewed.withdrawn == [("OUTPUT", older)]


def test_a_strangers_rules_beside_our_hook_are_left_alone() -> None:
    assert not write(saved(OUTPUT=(STOP, HOOK, Rule((), Jump("KUBE-MARK-MASQ")), Rule((), Verdict.ACCEPT))))


def test_A7_row73_a_stale_chain_goes() -> None:
    assert write(saved(KUBE_SVC_OLD=(STOP,))).removed == ["KUBE-SVC-OLD"]


def test_A7_row77_a_chain_of_others_stays() -> None:
    assert not write(saved(DOCKER=(STOP,)))


def test_a_stale_chain_that_a_stranger_still_jumps_to_is_emptied_once() -> None:
    into = Rule((), Jump("KUBE-SVC-OLD"))
    busy = write(saved(KUBE_SVC_OLD=(STOP,), OUTPUT=(HOOK, into)))
    assert busy.removed == []
    assert busy.emptied == ["KUBE-SVC-OLD"]
    assert not write(saved(KUBE_SVC_OLD=(), OUTPUT=(HOOK, into)))


def test_another_versions_spelling_is_no_difference() -> None:
    rule = Rule((Comment("demo/a -> 10.0.0.1:80"), OneIn(3)), Jump("KUBE-SVC-A"))
    want = Table("nat", {"KUBE-SERVICES": (rule,)})
    older = rule.text().replace("0.33333333349", "0.33333333302")
    assert older != rule.text()
    assert not write_between(SavedTable({"KUBE-SERVICES": [older]}), want, is_service)


@pytest.mark.parametrize(
    "line",
    [
        "-p icmp -j ACCEPT",
        "-m set --match-set kube dst -j ACCEPT",
        "-m limit --limit 3/sec -j LOG",
        "-p tcp -m tcp --sport 80 -j ACCEPT",
        "-m statistic --mode random --probability 0.70000000000 -j KUBE-SVC-A",
        "-m mark --mark 0x1/0xff -j KUBE-SVC-A",
        '-m comment --comment "it\'s" -j KUBE-SVC-A',
        "-m addrtype --dst-type BLACKHOLE -j DROP",
        "-m recent --update --name x --mask 255.255.255.0 --rsource -j KUBE-SVC-A",
        "-j LOG",
        "-g KUBE-SVC-A",
        "-m comment --comment x",
        "! -p tcp -j ACCEPT",
        "-f -j ACCEPT",
        "",
        "-m",
        '"',
    ],
)
def test_what_we_never_say_is_a_strangers(line: str) -> None:
    assert read_rule(line) is None


def test_the_output_of_iptables_save_is_read_by_table() -> None:
    fake = FakeIptables()
    fake.restore("*nat\n:KUBE-A - [0:0]\n-A KUBE-A -j RETURN\n-A OUTPUT -j KUBE-A\nCOMMIT\n")
    tables = read_save(fake.save("nat") + fake.save("filter"))
    assert set(tables) == {"nat", "filter"}
    assert tables["nat"].chains["KUBE-A"] == ["-j RETURN"]
    assert tables["nat"].chains["OUTPUT"] == ["-j KUBE-A"]
    assert tables["filter"].chains["FORWARD"] == []
