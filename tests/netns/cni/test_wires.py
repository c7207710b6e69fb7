"""The same cases over the kernel and over the fake that other tests use, so that the fake cannot drift."""

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address, ip_interface

import pytest

from cni.plan import Bridge, PodNet, bridge_state, differences, host_ifname
from cni.spec import CniError, Code
from cni.wires import KernelWires, Wires
from kubenet.kernel.netns import NetNs
from kubenet.kernel.rtnl import Rtnl
from kubenet.model.links import LinkState, diff_state
from tests.unit.cni.fakes import FakeKernel, FakeNetNs, FakeWires, Faults

pytestmark = pytest.mark.netns

POD = PodNet(host_ifname("c1", "eth0"), "eth0", (ip_address("10.244.1.5"),), 1450)
OTHER = PodNet(host_ifname("c2", "eth0"), "eth0", (ip_address("10.244.1.6"),), 1450)
DUAL = PodNet(POD.host_ifname, "eth0", (ip_address("10.244.1.5"), ip_address("fd00::5")), 1450)


@dataclass
class Place:
    """Wires of a node, and two pods' namespaces."""

    wires: Wires
    pod: NetNs
    other: NetNs

    def attach(self, pod: PodNet = POD) -> None:
        self.wires.make(pod, self.pod)
        self.wires.dress(pod, self.pod)
        self.wires.reach(pod)


@pytest.fixture(params=["kernel", "fake"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    if request.param == "fake":
        yield Place(FakeWires(FakeKernel(), Faults()), FakeNetNs(1), FakeNetNs(2))
        return
    with NetNs.unnamed() as node, NetNs.unnamed() as pod, NetNs.unnamed() as other:
        wires = KernelWires(node)
        yield Place(wires, pod, other)
        wires.close()


@pytest.mark.parametrize("pod", [POD, DUAL], ids=["IPv4", "dual stack"])
def test_what_was_wired_differs_in_nothing_from_the_plan(place: Place, pod: PodNet) -> None:
    place.attach(pod)
    assert list(differences(place.wires.pod(place.pod), place.wires.node(), pod)) == []


def test_a_veth_alone_differs(place: Place) -> None:
    place.wires.make(POD, place.pod)
    assert list(differences(place.wires.pod(place.pod), place.wires.node(), POD))


def test_A1_an_interface_that_is_there_is_not_touched(place: Place) -> None:
    place.attach()
    with pytest.raises(CniError) as caught:
        place.wires.make(OTHER, place.pod)
    assert caught.value.code == Code.ALREADY_ATTACHED
    assert list(differences(place.wires.pod(place.pod), place.wires.node(), POD)) == []
    assert OTHER.host_ifname not in place.wires.node().links


def test_N8_a_remnant_of_the_same_name_gives_way(place: Place) -> None:
    place.attach()
    place.wires.make(POD, place.other)
    assert "eth0" in place.wires.pod(place.other).links
    assert "eth0" not in place.wires.pod(place.pod).links


def test_a_retired_pod_is_cut_off_and_a_buried_one_gone(place: Place) -> None:
    place.attach()
    assert place.wires.retire(POD.host_ifname) is True
    assert POD.host_ifname in place.wires.node().links
    assert not [r for r in place.wires.node().routes.values() if r.ifname == POD.host_ifname]
    place.wires.bury([POD.host_ifname])
    assert POD.host_ifname not in place.wires.node().links
    assert "eth0" not in place.wires.pod(place.pod).links


def test_burying_also_takes_what_was_not_retired_and_leaves_others(place: Place) -> None:
    place.attach()
    place.wires.make(OTHER, place.other)
    place.wires.bury([POD.host_ifname, "k00000000000000"])
    assert set(place.wires.node().links) & {POD.host_ifname, OTHER.host_ifname} == {OTHER.host_ifname}


def test_D1_what_is_not_there_is_gone_already(place: Place) -> None:
    assert place.wires.retire(POD.host_ifname) is False
    place.wires.remove(POD.host_ifname)
    place.wires.bury([POD.host_ifname])


def test_removing_takes_both_ends(place: Place) -> None:
    place.attach()
    place.wires.remove(POD.host_ifname)
    assert POD.host_ifname not in place.wires.node().links
    assert "eth0" not in place.wires.pod(place.pod).links


def test_with_a_bridge_the_hosts_end_is_its_port() -> None:
    bridge = Bridge("cni0", (ip_interface("10.244.1.1/24"),))
    bridged = PodNet(POD.host_ifname, "eth0", POD.addresses, 1450, bridge)
    with NetNs.unnamed() as node, NetNs.unnamed() as pod, Rtnl(node) as rtnl:
        rtnl.apply(diff_state(LinkState(), bridge_state(bridge, 1450)))
        wires = KernelWires(node)
        wires.make(bridged, pod)
        wires.dress(bridged, pod)
        wires.reach(bridged)
        assert wires.node().links[POD.host_ifname].master == "cni0"
        assert list(differences(wires.pod(pod), wires.node(), bridged)) == []
        wires.close()
