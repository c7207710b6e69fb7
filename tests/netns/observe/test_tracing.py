"""What a trace leaves behind, and what it can do with less."""

import os
import signal
from pathlib import Path

import pytest

from kubenet.kernel import sysctl
from kubenet.kernel.run import run
from kubenet.model.packet import TCP, UDP, decode
from kubenet.observe.pcapng import Captured, pcapng
from kubenet.observe.probe import Target
from kubenet.observe.render import story_mermaid
from kubenet.observe.story import What
from kubenet.observe.trace import trace
from kubenet.observe.tracer import NF_LOG
from tests.netns.observe import world as w

pytestmark = pytest.mark.netns


def rules(net: w.Net) -> list[bytes]:
    return [run(["nft", "-s", "list", "ruleset"], netns=net.netns(node)).stdout for node in net.pods]


def loggers(net: w.Net) -> list[str]:
    return [sysctl.read(net.netns(node), NF_LOG) for node in net.pods]


@pytest.mark.parametrize("backend", ["iptables-nft", "iptables-legacy"])
def test_C1_the_datapath_is_left_as_found_also_after_a_kill(tmp_path: Path, backend: str) -> None:
    with w.network(tmp_path, backend) as net:
        source = w.pod_key(net.pods["node-1"][0])
        before = rules(net), loggers(net)
        trace(net.site, source, Target(TCP, w.WEB, 80))
        assert (rules(net), loggers(net)) == before
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            from kubenet.observe.names import names_of
            from kubenet.observe.probe import Probe
            from kubenet.observe.trace import traced_of
            from kubenet.observe.tracer import Tracer

            probe = Probe(net.netns(source), Target(TCP, w.WEB, 80))
            Tracer(net.site, probe.flow, traced_of(probe.flow, names_of(net.site.cluster)))
            os.write(writer, b"x")
            os.close(writer)
            signal.pause()
        os.close(writer)
        assert os.read(reader, 1) == b"x"
        during = rules(net)
        assert all(b"kubenet-trace-" in each for each in during)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        # The process that puts the logger back holds the other end of the pipe until it has done so.
        assert os.read(reader, 1) == b""
        os.close(reader)
        assert (rules(net), loggers(net)) == before


def test_E6_without_bpf_the_same_interfaces_are_told_and_what_is_missing_is_said(tmp_path: Path) -> None:
    with w.network(tmp_path, "nftables") as net:
        source = w.pod_key(net.pods["node-1"][0])
        stories = [trace(net.site, source, Target(TCP, w.WEB, 80), bpf=bpf).story for bpf in (True, False)]
    spots = [
        [
            (line.place, line.label, line.text.split(",")[0])
            for line in story.there.lines
            if line.what is What.HOP
        ]
        for story in stories
        if story.there
    ]
    assert sorted(spots[0]) == sorted(spots[1])
    assert not stories[0].unseen
    assert "losses are not seen" in stories[1].unseen[0]


def test_both_ways_and_the_diagram_show_the_answer_translated_back(tmp_path: Path) -> None:
    with w.network(tmp_path, "iptables-nft") as net:
        story = trace(net.site, w.pod_key(net.pods["node-1"][0]), Target(TCP, w.WEB, 80)).story
    assert story.back
    assert any(line.what is What.NAT and line.text.endswith("10.96.0.80:80") for line in story.back.lines)
    picture = story_mermaid(story)
    assert picture.startswith("sequenceDiagram\n")
    assert "participant p0 as test/node-1-pod-1" in picture
    assert "DNAT 10.96.0.80:80 to 10.244.1.3:8080" in picture


def test_C3_packets_for_wireshark_have_their_interfaces_names(tmp_path: Path) -> None:
    from scapy.utils import PcapNgReader

    with w.network(tmp_path, "nftables") as net:
        told = trace(net.site, w.pod_key(net.pods["node-1"][0]), Target(UDP, w.DNS_VIP, w.DNS, b"q" * 20))
    packets = [
        Captured(h.time_ns, f"{h.place}/{h.ifname}", h.raw, len(h.raw), h.sent, "a rule")
        for h in told.seen.hops
    ]
    path = tmp_path / "trace.pcapng"
    path.write_bytes(b"".join(pcapng(packets)))
    with PcapNgReader(str(path)) as reader:
        read = list(reader)
    assert len(read) == len(packets)
    assert read[0].sniffed_on == "test/node-1-pod-1/eth0"
    assert bytes(read[0]) == packets[0].frame
    assert abs(float(read[0].time) - packets[0].time_ns / 1e9) < 1e-3
    assert {packet.sniffed_on for packet in read} >= {"wire/node-1", "node-2/kubenet.1"}
    first = decode(bytes(read[0])[14:])
    assert first
    assert first.flow.destination == w.DNS_VIP
