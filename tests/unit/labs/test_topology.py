"""A lab as data."""

from ipaddress import IPv4Address

import pytest

from kubenet.errors import InvalidInput
from labs.report import decode_spec, encode_spec
from labs.topology import (
    UNDERLAY,
    WIRE,
    LabSpec,
    checked,
    node_base,
    topology,
    wire_base,
    wire_ports,
)


def test_names_and_addresses_follow_from_the_number() -> None:
    lab = topology(LabSpec("demo", nodes=3))
    assert [(node.name, node.ip) for node in lab.nodes] == [
        ("node-1", IPv4Address("172.30.0.1")),
        ("node-2", IPv4Address("172.30.0.2")),
        ("node-3", IPv4Address("172.30.0.3")),
    ]


def test_every_node_hangs_on_the_wire_by_a_port_of_its_own() -> None:
    lab = topology(LabSpec("demo", nodes=5))
    peers = [node_base(node).links["eth0"].peer for node in lab.nodes]
    assert {peer.ifname for peer in peers if peer and peer.netns == WIRE} == set(wire_ports(lab).links)
    assert all(port.master in wire_base().links for port in wire_ports(lab).links.values())


def test_all_addresses_of_the_underlay_differ() -> None:
    lab = topology(LabSpec("demo", nodes=250))
    states = [wire_base(), *(node_base(node) for node in lab.nodes)]
    addresses = [address.interface for state in states for address in state.addresses]
    assert len(set(addresses)) == len(addresses) == 251
    assert all(interface.ip in UNDERLAY for interface in addresses)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        pytest.param(LabSpec("UPPER"), "lower-case", id="upper case"),
        pytest.param(LabSpec("../x"), "lab name", id="a path"),
        pytest.param(LabSpec(""), "lab name", id="empty"),
        pytest.param(LabSpec("a" * 33), "1 to 32", id="too long"),
        pytest.param(LabSpec("a", nodes=0), "0 nodes", id="no nodes"),
        pytest.param(LabSpec("a", nodes=251), "251 nodes", id="too many nodes"),
    ],
)
def test_what_cannot_be_a_lab_is_refused(spec: LabSpec, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        checked(spec)


def test_a_spec_survives_the_way_to_the_keeper() -> None:
    spec = LabSpec("demo", nodes=7, balance="round-robin")
    assert decode_spec(encode_spec(spec)) == spec
