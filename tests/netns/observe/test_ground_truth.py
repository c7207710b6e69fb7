"""Healthy paths, held against what is known of the network: every interface, every rule.

Which interfaces a packet passes follows from how the network was built. Which rules of iptables it matched,
the kernel counts, whoever traces.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kubenet.kernel.run import run
from kubenet.model.packet import ICMP, TCP, UDP
from kubenet.observe.probe import Target, dns_query
from kubenet.observe.story import Known, Story, What
from kubenet.observe.trace import trace
from labs.datapath import LabPod
from labs.topology import API_SERVER
from tests.netns.observe import world as w

pytestmark = pytest.mark.netns

Spot = tuple[str, str, str]  # place, interface, in or out
CLIENT_NODE = "node-1"
VTEP = "kubenet.1"
# What the tunnels' own packets between the nodes, and multicast, match beside those of the flow.
OF_TUNNELS = ("OUTPUT", "PREROUTING", "POSTROUTING", "KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-POSTROUTING")


@dataclass(frozen=True, slots=True)
class Course:
    """One way through the network."""

    name: str
    target: Target
    source: LabPod
    spots: tuple[Spot, ...]
    chains: frozenset[str]  # of the nftables proxy, in which a rule matches


def spots_between(source: LabPod, source_node: str, to: LabPod, to_node: str) -> tuple[Spot, ...]:
    start = ((w.pod_key(source), "eth0", "out"), (source_node, source.net.host_ifname, "in"))
    end = ((to_node, to.net.host_ifname, "out"), (w.pod_key(to), "eth0", "in"))
    if source_node == to_node:
        return (*start, *end)
    return (*start, *wire(source_node, to_node), *end)


def wire(source_node: str, to_node: str) -> tuple[Spot, ...]:
    return (
        (source_node, VTEP, "out"),
        (source_node, "eth0", "out"),
        ("wire", source_node, "in"),
        ("wire", to_node, "out"),
        (to_node, "eth0", "in"),
        (to_node, VTEP, "in"),
    )


def paths(net: w.Net) -> Iterator[Course]:
    client, server, node = net.pods[CLIENT_NODE][0], net.server, net.server_node
    there = spots_between(client, CLIENT_NODE, server, node)
    vip = frozenset({"nat-prerouting", "dispatch", "vip-cluster-1", "pick-vip-cluster-1"})
    plain = frozenset({"nat-prerouting"})
    node_ip = (
        next(n for n in net.site.cluster.nodes if n.metadata.name == CLIENT_NODE).status.addresses[0].address
    )
    yield Course("pod-pod", Target(TCP, server.address, w.HTTP), client, there, plain)
    yield Course("vip", Target(TCP, w.WEB, 80), client, there, vip)
    ported = frozenset(
        {
            "nat-prerouting",
            "nat-postrouting",
            "dispatch",
            "at-node-ports",
            "port-cluster-1",
            "pick-port-cluster-1",
        }
    )
    at_node = Target(TCP, type(w.WEB)(node_ip), w.NODE_PORT)
    yield Course("node-port", at_node, client, there, ported)
    hairpin = spots_between(server, node, server, node)
    yield Course("hairpin", Target(TCP, w.WEB, 80), server, hairpin, vip | {"nat-postrouting"})
    out = (
        (w.pod_key(client), "eth0", "out"),
        (CLIENT_NODE, client.net.host_ifname, "in"),
        (CLIENT_NODE, "eth0", "out"),
        ("wire", CLIENT_NODE, "in"),
        ("wire", "br0", "in"),
    )
    yield Course("egress", Target(ICMP, API_SERVER), client, out, plain)
    asked = Target(UDP, w.DNS_VIP, w.DNS, dns_query("web.test.svc.cluster.local"))
    yield Course("dns", asked, client, there, vip)


def counted(net: w.Net, backend: str) -> dict[tuple[str, str], int]:
    """Return how many packets each rule of the nat tables has matched, by node and text."""
    program = "iptables-legacy-save" if backend == "iptables-legacy" else "iptables-nft-save"
    found = {}
    for node in net.pods:
        saved = run([program, "-c", "-t", "nat"], netns=net.netns(node)).stdout.decode()
        for packets, rule in re.findall(r"^\[(\d+):\d+\] -A (.*)$", saved, re.MULTILINE):
            found[node, " ".join(rule.split())] = int(packets)
    return found


def told_spots(story: Story) -> list[Spot]:
    assert story.there
    return [
        (line.place, line.label, line.text.split(",")[0])
        for line in story.there.lines
        if line.what is What.HOP
    ]


def told_nat_rules(story: Story) -> set[tuple[str, str]]:
    """Return the rules of the nat tables in the story, by node and chain."""
    assert story.there
    return {
        (line.place, line.label.removeprefix("nat "))
        for line in story.there.lines
        if line.what is What.RULE
        and line.label.startswith("nat ")
        and not line.text.startswith(("policy", "return"))
    }


def matched(before: dict[tuple[str, str], int], after: dict[tuple[str, str], int]) -> set[tuple[str, str]]:
    """Return the chains, by node, of the rules that have matched since."""
    return {
        (node, rule.split(" ")[0])
        for (node, rule), count in after.items()
        if count > before.get((node, rule), 0)
    }


@pytest.mark.parametrize("server_node", ["node-1", "node-2"], ids=["same node", "other node"])
@pytest.mark.parametrize("backend", w.BACKENDS)
def test_E3_every_interface_and_every_rule_is_in_the_story(
    tmp_path: Path, backend: str, server_node: str
) -> None:
    with w.network(tmp_path, backend, server_node) as net:
        for path in paths(net):
            before = counted(net, backend) if backend != "nftables" else {}
            told = trace(net.site, w.pod_key(path.source), path.target)
            story = told.story
            assert story.result.answered, (path.name, story)
            assert story.well, (path.name, story.finding)
            assert not story.unseen
            assert told_spots(story) == list(path.spots), path.name
            if backend == "nftables":
                chains = {
                    line.label.split()[1]
                    for line in (story.there.lines if story.there else ())
                    if line.label.startswith("kubenet-proxy ")
                    and line.what is What.RULE
                    and not line.text.startswith(("policy", "return"))
                }
                assert chains == path.chains, path.name
            else:
                rules = matched(before, counted(net, backend))
                told_rules = told_nat_rules(story)
                assert told_rules <= rules, path.name
                assert {rule for rule in rules - told_rules if rule[1] not in OF_TUNNELS} == set(), path.name
            if path.name in ("vip", "node-port", "dns"):
                assert story.there
                about = {line.kubernetes for line in story.there.lines}
                service = "kube-system/kube-dns:p" if path.name == "dns" else "test/web:p"
                assert f"service {service}" in about or any(f"service {service}" in each for each in about)
                assert any(line.what is What.NAT and line.known is Known.SEEN for line in story.there.lines)
