"""The wiring of one pod, as values."""

from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni.plan import (
    GATEWAY_MAC,
    Bridge,
    PodNet,
    bridge_state,
    differences,
    host_ifname,
    is_host_ifname,
    mac_for,
    new_pod_state,
    node_state,
    pod_state,
)
from kubenet.model.links import LinkState, diff_state, patched_state
from tests.strategies import ip_addresses

POD = PodNet("k0123456789abcd", "eth0", (ip_address("10.244.1.5"),), 1450)
DUAL = replace(POD, addresses=(ip_address("10.244.1.5"), ip_address("fd00::5")))
BRIDGE = Bridge("cni0", (ip_interface("10.244.1.1/24"),))
BRIDGED = replace(POD, bridge=BRIDGE)


def told(state: LinkState) -> str:
    """Every entry of a state, one a line."""
    tables = (state.links, state.addresses, state.routes, state.neighbors, state.fdb)
    return "".join(f"{entry}\n" for table in tables for entry in table.values())


def test_both_wirings_are_as_they_were(golden: Callable[[str, str], None]) -> None:
    cases = {"routed": POD, "dual stack": DUAL, "bridge": BRIDGED}
    text = "".join(
        f"# {name}, the pod\n{told(pod_state(pod))}# {name}, the node\n{told(node_state(pod))}"
        for name, pod in cases.items()
    )
    golden("cni_plan.txt", text + f"# the bridge\n{told(bridge_state(BRIDGE, 1450))}")


@given(st.text(max_size=70), st.text(max_size=15))
def test_the_hosts_end_has_a_name_that_the_kernel_takes_and_recovery_knows(
    container_id: str, ifname: str
) -> None:
    name = host_ifname(container_id, ifname)
    assert len(name) == 15
    assert is_host_ifname(name)


def test_A3_two_interfaces_of_one_container_are_two_attachments() -> None:
    names = {host_ifname(c, i) for c, i in [("c", "eth0"), ("c", "eth1"), ("d", "eth0"), ("ce", "th0")]}
    assert len(names) == 4


def test_the_tunnel_is_no_pods_link() -> None:
    assert not is_host_ifname("kubenet.1")
    assert not is_host_ifname("k0123456789abcde")


@given(ip_addresses)
def test_mac_addresses_are_unicast_and_locally_administered(address: object) -> None:
    octet = int(mac_for(ip_address(str(address))).partition(":")[0], 16)
    assert octet & 0b11 == 0b10


def test_R3_the_mac_of_the_gateway_is_the_one_that_the_hosts_end_has() -> None:
    gateway = next(iter(pod_state(POD).neighbors.values()))
    assert gateway.mac == GATEWAY_MAC == node_state(POD).links[POD.host_ifname].mac


def test_ports_of_a_bridge_have_different_mac_addresses() -> None:
    other = replace(BRIDGED, host_ifname="kfedcba98765432")
    assert BRIDGED.host_mac != other.host_mac


def test_from_the_fresh_veth_to_the_dressed_pod_nothing_is_removed() -> None:
    for pod in (POD, DUAL, BRIDGED):
        before = new_pod_state(pod)
        change = diff_state(before, pod_state(pod))
        tables = (change.links, change.addresses, change.routes, change.neighbors)
        assert not any(table.removed for table in tables)
        assert patched_state(before, change) == pod_state(pod)


def test_C4_what_was_just_made_differs_in_nothing() -> None:
    for pod in (POD, DUAL, BRIDGED):
        assert list(differences(pod_state(pod), node_state(pod), pod)) == []


def without(state: LinkState, table: str, **changes: object) -> LinkState:
    return replace(state, **{table: {}}, **changes)  # type: ignore[arg-type]  # the name decides


@pytest.mark.parametrize(
    ("spoilt", "said"),
    [
        pytest.param(lambda s: without(s, "links"), "eth0 is missing in the pod", id="interface missing"),
        pytest.param(lambda s: _link(s, up=False), "eth0 is down in the pod", id="interface down"),
        pytest.param(lambda s: _link(s, mtu=1500), "MTU 1500 instead of 1450", id="other MTU"),
        pytest.param(lambda s: _link(s, mac="0a:00:00:00:00:00"), "MAC address 0a:00", id="other MAC"),
        pytest.param(lambda s: without(s, "addresses"), "10.244.1.5/32 is not on eth0", id="no address"),
        pytest.param(lambda s: without(s, "routes"), "no route to 0.0.0.0/0", id="no route"),
        pytest.param(lambda s: without(s, "neighbors"), "169.254.1.1 is not known", id="no neighbour"),
    ],
)
def test_C2_what_the_pod_lacks_is_said(spoilt: Callable[[LinkState], LinkState], said: str) -> None:
    assert said in "; ".join(differences(spoilt(pod_state(POD)), node_state(POD), POD))


@pytest.mark.parametrize(
    ("pod", "spoilt", "said"),
    [
        pytest.param(POD, lambda s: without(s, "links"), "k0123456789abcd is missing on the node", id="link"),
        pytest.param(POD, lambda s: without(s, "routes"), "no route to 10.244.1.5/32", id="host route"),
        pytest.param(
            BRIDGED, lambda s: _link(s, POD.host_ifname, master=""), "is no port of cni0", id="off the bridge"
        ),
    ],
)
def test_C2_what_the_node_lacks_is_said(
    pod: PodNet, spoilt: Callable[[LinkState], LinkState], said: str
) -> None:
    assert said in "; ".join(differences(pod_state(pod), spoilt(node_state(pod)), pod))


def test_C3_what_a_later_plugin_adds_is_no_difference() -> None:
    more = pod_state(replace(POD, ifname="net1", addresses=(ip_address("192.0.2.1"),)))
    routes = {k: v for k, v in more.routes.items() if k != ip_network("0.0.0.0/0")}
    have = replace(more, routes=routes).union(pod_state(POD))
    assert list(differences(have, node_state(POD), POD)) == []


def _link(state: LinkState, ifname: str = "eth0", **changes: object) -> LinkState:
    link = replace(state.links[ifname], **changes)  # type: ignore[arg-type]  # a test's own table
    return replace(state, links={**state.links, ifname: link})
