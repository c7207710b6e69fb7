"""A lab as a file: what it may say, and how its mistakes are told."""

from ipaddress import IPv4Network
from pathlib import Path

import pytest

from kubenet.errors import InvalidInput, InvalidManifest
from labs.impairments import Impairment, checked, filter_text, mtus, rates
from labs.labfile import read_lab
from labs.topology import LabSpec
from labs.topology import checked as checked_spec

EXAMPLE = Path(__file__).parents[3] / "labs" / "manifests" / "lossy.yaml"
NODES = ("node-1", "node-2")


def test_an_empty_file_is_the_lab_that_one_gets_without_a_file() -> None:
    assert read_lab("", "x").spec == LabSpec("demo")


def test_the_example_says_what_it_looks_like() -> None:
    lab = read_lab(EXAMPLE.read_text(), "lossy.yaml")
    assert lab.spec.name == "lossy"
    assert lab.spec.cluster_cidr == IPv4Network("10.200.0.0/16")
    assert lab.spec.proxy_mode == "nftables"
    assert [str(each) for each in lab.wire] == [
        "node-1 -> node-2: loss 10 %",
        "* -> node-3: mtu 1400, rate 10mbit",
    ]
    assert [str(each) for each in lab.objects] == ["pod/web", "service/web"]
    assert checked_spec(lab.spec) == lab.spec


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("name: x\nnodes: many\n", r"lab\.yaml:2: Expected `int`", id="wrong type"),
        pytest.param("name: x\nnode: 3\n", r"lab\.yaml:1: .*unknown field `node`", id="unknown field"),
        pytest.param("wire:\n  - {from: a}\n  - {los: 3}\n", r"lab\.yaml:3: .*`los`", id="deep inside"),
        pytest.param(
            "name: x\nproxyMode: ipvs\n", r"lab\.yaml:2: Invalid enum value 'ipvs'", id="no such mode"
        ),
        pytest.param("clusterCIDR: 10.0.0.0/40\n", r"lab\.yaml:1: ", id="no network"),
        pytest.param("nodes: [\n", r"lab\.yaml:2: not YAML", id="not YAML"),
        pytest.param("- 1\n", r"lab\.yaml:1: ", id="not a mapping"),
        pytest.param("a: &a [1]\nname: *b\n", r"lab\.yaml:2: not YAML", id="alias of nothing"),
        pytest.param(
            "objects:\n  - {kind: Pod, apiVersion: v1}\n",
            r"lab\.yaml:2.*metadata",
            id="object without a name",
        ),
    ],
)
def test_a_mistake_is_told_with_its_line(text: str, said: str) -> None:
    with pytest.raises(InvalidManifest, match=said):
        read_lab(text, "lab.yaml")


def test_deep_nesting_is_refused_before_the_parser_meets_it() -> None:
    with pytest.raises(InvalidManifest):
        read_lab("[" * 5000, "lab.yaml")


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (LabSpec("x", cluster_cidr=IPv4Network("172.30.0.0/17")), "overlaps the underlay"),
        (LabSpec("x", service_cidr=IPv4Network("10.244.0.0/20")), "overlaps"),
        (LabSpec("x", cluster_cidr=IPv4Network("10.9.0.0/28")), "each node gets a /24"),
        (LabSpec("x", service_cidr=IPv4Network("10.97.0.0/16")), "is no address of the service CIDR"),
    ],
)
def test_networks_that_cannot_be_are_refused(spec: LabSpec, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        checked_spec(spec)


@pytest.mark.parametrize(
    ("impairment", "said"),
    [
        (Impairment("node-9", "node-1", 5), "no node 'node-9'"),
        (Impairment("node-1", "node-2", 101), "0 to 100"),
        (Impairment(to="node-2", mtu=10), "68 to 9000"),
        (Impairment(to="node-2", rate="fast"), "kbit, mbit or gbit"),
        (Impairment(to="node-2", rate='1mbit"; drop'), "kbit, mbit or gbit"),
        (Impairment(mtu=1400), "is one node's"),
        (Impairment("node-1", "node-2"), "nothing is impaired"),
    ],
)
def test_an_impairment_that_cannot_be_is_refused(impairment: Impairment, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        checked([impairment], NODES)


def test_impairments_add_up() -> None:
    wire = [
        Impairment("node-1", "node-2", 12.5),
        Impairment("node-1", "*", partition=True),
        Impairment(to="node-2", mtu=1400),
    ]
    text = filter_text(wire)
    assert 'iifname "node-1" oifname "node-2" numgen random mod 10000 < 1250 drop' in text
    assert text.count(" drop\n") == 3
    assert mtus([*wire, Impairment(to="node-2", mtu=1300)], NODES, 1500) == {"node-1": 1500, "node-2": 1300}
    assert rates([Impairment(to="node-1", rate="1mbit")], NODES) == {"node-1": "1mbit", "node-2": ""}


def test_a_good_wire_has_no_table() -> None:
    assert filter_text([]) == "table bridge impairments {}\ndelete table bridge impairments\n"
