"""What nodes tell of their tunnel ends in flannel's annotations."""

from ipaddress import ip_address, ip_network

import msgspec
import pytest

from cni.flannel import BACKEND_DATA, BACKEND_TYPE, PUBLIC_IP, PUBLIC_IP_OVERWRITE, annotations_of
from cni.overlay import NodeNet, Skipped, node_net, own_net, peers_of
from kubenet.model.objects import Node
from tests.unit.cni.test_overlay import NODES, net, node

MAC = "0a:11:22:33:44:55"


def annotated(**annotations: str) -> Node:
    names = {"kind": BACKEND_TYPE, "backend": BACKEND_DATA, "ip": PUBLIC_IP, "other_ip": PUBLIC_IP_OVERWRITE}
    plain = node("node9", "172.30.0.9", "10.244.9.0/24")
    told = {names[key]: value for key, value in annotations.items()}
    return msgspec.structs.replace(plain, metadata=msgspec.structs.replace(plain.metadata, annotations=told))


def test_what_a_flannel_node_tells_goes_before_what_we_would_compute() -> None:
    told = annotated(kind="vxlan", backend=f'{{"VNI":1,"VtepMAC":"{MAC.upper()}"}}', ip="192.0.2.9")
    got = node_net(told)
    assert isinstance(got, NodeNet)
    assert (got.vtep_mac, got.node_ip) == (MAC, ip_address("192.0.2.9"))


def test_an_overwritten_address_goes_first() -> None:
    got = node_net(annotated(kind="vxlan", backend="{}", ip="192.0.2.9", other_ip="192.0.2.10"))
    assert isinstance(got, NodeNet)
    assert got.node_ip == ip_address("192.0.2.10")


def test_of_itself_a_node_says_what_it_is_and_does_not_listen_to_what_was_said() -> None:
    told = annotated(kind="vxlan", backend=f'{{"VtepMAC":"{MAC}"}}', ip="192.0.2.9")
    got = own_net(told)
    assert isinstance(got, NodeNet)
    assert got.node_ip == ip_address("172.30.0.9")
    assert got.vtep_mac != MAC


@pytest.mark.parametrize(
    ("annotations", "reason"),
    [
        pytest.param({"kind": "host-gw"}, "host-gw", id="another way to reach it"),
        pytest.param({"kind": "vxlan", "backend": '{"VNI":7}'}, "number 7", id="another tunnel"),
        pytest.param({"kind": "vxlan", "backend": "}{"}, "makes no sense", id="no JSON"),
        pytest.param({"kind": "vxlan", "backend": '{"VtepMAC":"; reboot"}'}, "no MAC", id="hostile"),
        pytest.param(
            {"kind": "vxlan", "backend": '{"VtepMAC":"01:00:5e:00:00:01"}'}, "no MAC", id="a group address"
        ),
        pytest.param({"kind": "vxlan", "ip": "nowhere"}, "wrong", id="no address"),
    ],
)
def test_a_node_that_tells_of_what_we_cannot_reach_is_left_out(
    annotations: dict[str, str], reason: str
) -> None:
    got = node_net(annotated(**annotations))
    assert isinstance(got, Skipped)
    assert reason in got.reason


def test_two_nodes_that_tell_the_same_mac_address_are_not_both_believed() -> None:
    first = annotated(kind="vxlan", backend=f'{{"VtepMAC":"{MAC}"}}')
    second = node("node99", "172.30.0.99", "10.244.99.0/24")
    second = msgspec.structs.replace(
        second, metadata=msgspec.structs.replace(second.metadata, annotations=first.metadata.annotations)
    )
    peers, skipped = peers_of(net(1), [*NODES, first, second])
    assert [peer.name for peer in peers] == ["node2", "node3", "node9"]
    assert [entry.name for entry in skipped] == ["node99"]


def test_others_read_what_we_write() -> None:
    own = NodeNet("node9", ip_address("172.30.0.9"), (ip_network("10.244.9.0/24"),))
    plain = node("node9", "172.30.0.9", "10.244.9.0/24")
    told = annotations_of(own.node_ip, own.vtep_mac, 1)
    seen = node_net(
        msgspec.structs.replace(plain, metadata=msgspec.structs.replace(plain.metadata, annotations=told))
    )
    assert isinstance(seen, NodeNet)
    assert (seen.node_ip, seen.vtep_mac, seen.pod_cidrs) == (own.node_ip, own.vtep_mac, own.pod_cidrs)
