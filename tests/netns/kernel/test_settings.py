"""Kernel settings and iptables rules of one namespace, and of no other."""

import pytest

from kubenet.errors import InvalidInput, NotFound, ProgramFailed
from kubenet.kernel import iptables, sysctl
from kubenet.kernel.iptables import Family
from kubenet.kernel.netns import NetNs
from kubenet.kernel.rtnl import Rtnl
from kubenet.model.flavour import Flavour
from kubenet.model.links import Link, LinkKind, LinkState, diff_state, state_of

pytestmark = pytest.mark.netns


def test_a_setting_is_of_its_namespace(netns: NetNs, other_netns: NetNs) -> None:
    sysctl.write(netns, "net.ipv4.ip_forward", 1)
    sysctl.write(other_netns, "net.ipv4.ip_forward", "0")
    assert sysctl.read(netns, "net.ipv4.ip_forward") == "1"
    assert sysctl.read(other_netns, "net/ipv4/ip_forward") == "0"
    with netns.entered():
        assert sysctl.read(None, "net.ipv4.ip_forward") == "1"


def test_many_settings_are_written_in_their_order(netns: NetNs) -> None:
    # "all" is copied to every device when it is written, so the device has to come after it.
    sysctl.write_all(netns, {"net.ipv4.conf.all.forwarding": 1, "net.ipv4.conf.lo.forwarding": 0})
    assert sysctl.read(netns, "net.ipv4.conf.all.forwarding") == "1"
    assert sysctl.read(netns, "net.ipv4.conf.lo.forwarding") == "0"


def test_with_slashes_a_name_may_hold_dots(netns: NetNs, rtnl: Rtnl) -> None:
    rtnl.apply(diff_state(LinkState(), state_of(Link("br.1", LinkKind.BRIDGE))))
    sysctl.write(netns, "net/ipv4/conf/br.1/rp_filter", 2)
    assert sysctl.read(netns, "net/ipv4/conf/br.1/rp_filter") == "2"


def test_a_setting_that_is_not_there_is_named(netns: NetNs) -> None:
    with pytest.raises(NotFound, match=r"net\.ipv4\.no_such_thing: the kernel has no such setting here"):
        sysctl.read(netns, "net.ipv4.no_such_thing")
    with pytest.raises(NotFound, match="net/ipv4/conf/eth9/rp_filter"):
        sysctl.write(netns, "net/ipv4/conf/eth9/rp_filter", 1)


def test_a_value_that_the_kernel_refuses_is_named(netns: NetNs) -> None:
    with pytest.raises(InvalidInput, match=r"net\.ipv4\.ip_forward = many: Invalid argument"):
        sysctl.write(netns, "net.ipv4.ip_forward", "many")


@pytest.mark.parametrize("key", ["", "net..ip_forward", "net/../kernel/hostname", "/net/ipv4"])
def test_a_key_that_leads_elsewhere_is_refused(netns: NetNs, key: str) -> None:
    with pytest.raises(InvalidInput, match="not the name of a kernel setting"):
        sysctl.read(netns, key)


RULES = "*nat\n:KUBENET - [0:0]\n-A KUBENET -p tcp -m tcp --dport 80 -j RETURN\nCOMMIT\n"


@pytest.mark.parametrize("family", [4, 6])
def test_rules_are_loaded_into_their_namespace(netns: NetNs, other_netns: NetNs, family: Family) -> None:
    iptables.restore(netns, RULES, family=family)
    rule = "-A KUBENET -p tcp -m tcp --dport 80 -j RETURN"
    assert rule in iptables.save(netns, "nat", family=family).splitlines()
    assert "KUBENET" not in iptables.save(other_netns, "nat", family=family)
    assert "KUBENET" not in iptables.save(netns, "filter", family=family)


def test_chains_that_are_not_declared_stay_unless_all_is_flushed(netns: NetNs) -> None:
    iptables.restore(netns, RULES)
    iptables.restore(netns, b"*nat\n:OTHER - [0:0]\nCOMMIT\n")
    assert "-A KUBENET" in iptables.save(netns, "nat")
    iptables.restore(netns, "*nat\n:OTHER - [0:0]\nCOMMIT\n", noflush=False)
    assert "KUBENET" not in iptables.save(netns, "nat")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        pytest.param("-A NOBODY -j RETURN", r"'-A NOBODY -j RETURN'", id="unknown chain"),
        pytest.param("-A KUBENET --no-such-option", r"'-A KUBENET --no-such-option'", id="unknown option"),
        pytest.param("-A KUBENET -j NOWHERE", "NOWHERE", id="unknown target"),
    ],
)
def test_a_refusal_names_the_line_and_changes_nothing(netns: NetNs, line: str, said: str) -> None:
    iptables.restore(netns, RULES)
    with pytest.raises(ProgramFailed, match=said):
        iptables.restore(netns, f"*nat\n:KUBENET - [0:0]\n{line}\nCOMMIT\n")
    assert "-A KUBENET -p tcp" in iptables.save(netns, "nat")


def test_a_table_that_does_not_exist_is_refused(netns: NetNs) -> None:
    with pytest.raises(ProgramFailed, match="iptables-save"):
        iptables.save(netns, "bogus")


def test_the_flavour_of_the_installed_programs_is_known() -> None:
    assert iptables.installed_flavour() in Flavour
