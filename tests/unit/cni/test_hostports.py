"""Which elements a pod's ports of the node are."""

from ipaddress import ip_address

from cni.hostports import ANY, LOOPS, PORTS, TARGETS, clash, contents_of, ruleset_of, sets_of
from ipam.record import AllocationRecord, HostPort, decode, encode
from kubenet.kernel.nft_rules import rule_bytes
from kubenet.model.protocol import Protocol

V4, V6 = ip_address("10.244.1.2"), ip_address("fd00::2")
RECORD = AllocationRecord(
    "k1",
    (V4, V6),
    host_ports=(
        HostPort(Protocol.TCP, 8080, 80),
        HostPort(Protocol.UDP, 53, 5353, ip_address("172.30.0.1")),
        HostPort(Protocol.SCTP, 99, 99, ip_address("::")),
    ),
)


def texts(record: AllocationRecord, family: int) -> dict[str, list[str]]:
    sets = sets_of(4 if family == 4 else 6)
    contents = contents_of(record, 4 if family == 4 else 6)
    return {
        name: [sets[name].element_text(*element) for element in each.items()]
        for name, each in contents.items()
    }


def test_P1_every_mapping_is_an_element_of_the_families_that_it_is_for() -> None:
    assert texts(RECORD, 4) == {
        ANY: ["tcp . 8080 : 10.244.1.2 . 80"],
        PORTS: ["172.30.0.1 . udp . 53 : 10.244.1.2 . 5353"],
        TARGETS: ["10.244.1.2 . tcp . 80", "10.244.1.2 . udp . 5353"],
        LOOPS: ["10.244.1.2 . 10.244.1.2"],
    }
    assert texts(RECORD, 6)[ANY] == ["tcp . 8080 : fd00::2 . 80", "sctp . 99 : fd00::2 . 99"]
    assert PORTS not in texts(RECORD, 6)


def test_a_pod_without_ports_has_no_elements() -> None:
    assert contents_of(AllocationRecord("k1", (V4,)), 4) == {}


def test_a_port_belongs_to_one_pod() -> None:
    other = AllocationRecord("k2", (ip_address("10.244.1.3"),), host_ports=(HostPort(Protocol.TCP, 8080, 1),))
    free = AllocationRecord("k3", (ip_address("10.244.1.4"),), host_ports=(HostPort(Protocol.UDP, 8080, 1),))
    held = {"k1": contents_of(RECORD, 4)}
    assert clash(contents_of(other, 4), held) == "k1"
    assert clash(contents_of(free, 4), held) == ""


def test_a_record_keeps_its_ports() -> None:
    assert decode(encode(RECORD)) == RECORD


def test_all_rules_can_be_said() -> None:
    for family in (4, 6):
        ruleset = ruleset_of(4 if family == 4 else 6, [contents_of(RECORD, 4 if family == 4 else 6)])
        assert all(
            rule_bytes(rule, ruleset.family) for chain in ruleset.chains.values() for rule in chain.rules
        )
