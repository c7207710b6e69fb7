"""A pod network as values."""

from labs.datapath import node_nets, pods_of
from labs.topology import LabSpec


def test_every_node_has_a_range_and_every_pod_an_address_of_its_own() -> None:
    nets = node_nets(LabSpec("t", nodes=10))
    pods = [pod for net in nets for pod in pods_of(net, 20)]
    assert len({net.pod_cidrs for net in nets}) == 10
    assert len({pod.address for pod in pods}) == len({pod.net.host_ifname for pod in pods}) == 200
    for net in nets:
        assert all(pod.address in net.pod_cidrs[0] for pod in pods_of(net, 20))


def test_no_pod_has_the_address_of_the_tunnel_or_the_gateway() -> None:
    (net,) = node_nets(LabSpec("t", nodes=1))
    reserved = {net.pod_cidrs[0][0], net.pod_cidrs[0][1]}
    assert not reserved & {pod.address for pod in pods_of(net, 50)}
