"""A wire that computes no checksums for the packets inside of packets is noticed, and only that one."""

import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address

import pytest

from cni.checksums import Proof, prove
from kubenet.kernel import offload
from kubenet.kernel.netns import NetNs
from kubenet.kernel.run import run
from tests.netns.cni.conftest import LabNode, NodeMaker, Pin, observe
from tests.netns.cni.test_dataplane import TUNNEL, pod, reaches, talk

pytestmark = pytest.mark.netns

FAR_END = ip_address("10.244.2.0")


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On these wires an answer takes a millisecond, and most of the time none comes."""
    monkeypatch.setattr("cni.checksums.ANSWER_WITHIN_S", 0.2)


@pytest.fixture
def node_pair(make_node: NodeMaker) -> tuple[LabNode, LabNode]:
    one, two = make_node(1), make_node(2)
    one.start(two.net)
    two.start(one.net)
    return one, two


@contextmanager
def poor_wire(wire: NetNs) -> Iterator[None]:
    """Carry frames from node to node as they are in memory: what a device should have filled in, is not."""
    ends = []
    for ifname in ("node1", "node2"):
        run(["ip", "link", "set", ifname, "nomaster"], netns=wire)
        end = wire.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))  # ETH_P_ALL
        end.bind((ifname, 3))
        ends.append(end)
    over = threading.Event()
    thread = threading.Thread(target=_carry, args=(ends[0], ends[1], over))
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        for end in ends:
            end.close()


def _carry(one: socket.socket, two: socket.socket, over: threading.Event) -> None:
    other = {one: two, two: one}
    while not over.is_set():
        for end in select.select([one, two], [], [], 0.05)[0]:
            frame, where = end.recvfrom(65536)
            if where[2] != socket.PACKET_OUTGOING:
                try:
                    other[end].send(frame)
                except OSError:
                    continue  # larger than the link: segmentation was left to the device, too


def both(nodes: tuple[LabNode, LabNode]) -> list[tuple[Proof, bool]]:
    """Let each node prove its tunnel by the other; return what it found, and whether offload is on then."""
    found = []
    for node, peer in (nodes, reversed(nodes)):
        proof = prove(node.netns, TUNNEL, [peer.net.pod_cidrs[0].network_address])
        found.append((proof, offload.leaves_checksums(node.netns, TUNNEL)))
    return found


def test_a_sound_wire_keeps_its_offload(node_pair: tuple[LabNode, LabNode]) -> None:
    assert both(node_pair) == [(Proof.RIGHT, True)] * 2


def test_a_wire_that_computes_no_checksums_is_noticed_and_repaired(
    node_pair: tuple[LabNode, LabNode], wire: NetNs, pin: Pin
) -> None:
    one, two = node_pair
    with poor_wire(wire), pod(one, pin("a")) as (a, a_ip), pod(two, pin("b")) as (b, b_ip):
        assert not reaches(a, b, b_ip)
        assert both(node_pair) == [(Proof.REPAIRED, False)] * 2
        assert reaches(a, b, b_ip)
        assert talk(a, b, b_ip) == a_ip
        assert both(node_pair) == [(Proof.REPAIRED, False)] * 2  # and it stays


def test_what_does_not_help_does_not_stay(node_pair: tuple[LabNode, LabNode]) -> None:
    one, two = node_pair
    run(["iptables", "-I", "INPUT", "-p", "udp", "--dport", "9", "-j", "DROP"], netns=two.netns)
    assert prove(one.netns, TUNNEL, [FAR_END]) is Proof.UNKNOWN
    assert offload.leaves_checksums(one.netns, TUNNEL)


def test_a_peer_that_is_away_proves_nothing_and_the_next_is_asked(node_pair: tuple[LabNode, LabNode]) -> None:
    one, _ = node_pair
    assert prove(one.netns, TUNNEL, [ip_address("10.244.9.0")]) is Proof.UNKNOWN
    assert prove(one.netns, TUNNEL, [ip_address("10.244.9.0"), FAR_END]) is Proof.RIGHT


def test_the_agent_proves_each_tunnel_device_once(node_pair: tuple[LabNode, LabNode], wire: NetNs) -> None:
    one, two = node_pair
    assert one.agent is not None
    with poor_wire(wire):
        one.agent.prove_tunnel()
        assert one.agent.vitals.checksums == "repaired"
        assert "kubenet_agent_checksum_workaround 1" in one.agent.vitals.metrics()
        run(["ip", "link", "delete", TUNNEL], netns=one.netns)
        one.agent.sync(one.net, [two.net])
        assert offload.leaves_checksums(one.netns, TUNNEL)  # a new device knows nothing of it
        one.agent._prove_due_s = 0.0
        one.agent.prove_tunnel()
        assert not offload.leaves_checksums(one.netns, TUNNEL)
        assert observe(one.netns).links[TUNNEL].up
