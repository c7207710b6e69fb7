"""What is told while it happens."""

import os
from pathlib import Path

import pytest

from kubenet.kernel.run import run
from kubenet.model.packet import TCP, UDP
from kubenet.observe.capturing import Capture
from kubenet.observe.probe import Probe, Target, dns_query
from kubenet.observe.watch_text import Happening
from kubenet.observe.watching import Watcher
from tests.netns.observe import world as w

pytestmark = pytest.mark.netns

CLIENT, SERVER = "test/node-1-pod-1", "test/node-2-pod-2"


def heard(watcher: Watcher, wanted: str) -> list[Happening]:
    """Return what happened until something of that kind did."""
    told: list[Happening] = []
    for _ in range(50):
        told += watcher.happenings(0.2)
        if any(wanted in (each.what, each.text) or wanted in each.text for each in told):
            break
    return told


def sent(net: w.Net, target: Target) -> None:
    with Probe(net.netns(CLIENT), target) as probe:
        probe.send(1.0)


def test_C4_drops_name_place_interface_reason_and_who(tmp_path: Path) -> None:
    with w.network(tmp_path, "nftables") as net:
        watcher = Watcher(net.site, "drops")
        sent(net, Target(TCP, net.server.address, 9999))
        told = heard(watcher, "NO_SOCKET")
        watcher.close()
    (loss,) = [each for each in told if each.what == "NO_SOCKET" and "SYN" in each.text]
    assert loss.place == f"{SERVER}/eth0"
    assert f"{CLIENT} > {SERVER}" in loss.text


def test_C4_connections_say_how_they_are_translated(tmp_path: Path) -> None:
    with w.network(tmp_path, "nftables") as net:
        watcher = Watcher(net.site, "conntrack")
        sent(net, Target(TCP, w.WEB, 80))
        told = heard(watcher, f"answers from {net.server.address}:{w.HTTP} ({SERVER})")
        watcher.close()
    assert any(
        each.place == "node-1" and each.what == "new" and f"{CLIENT} > svc test/web" in each.text
        for each in told
    )


def test_C4_rules_links_and_questions_are_told(tmp_path: Path) -> None:
    with w.network(tmp_path, "nftables") as net:
        rules, links, dns = (Watcher(net.site, subject) for subject in ("rules", "links", "dns"))
        run(["nft", "add", "table", "ip", "mine"], netns=net.netns("node-2"))
        run(["ip", "link", "set", "node-2", "mtu", "1400"], netns=net.netns("wire"))
        sent(net, Target(UDP, w.DNS_VIP, w.DNS, dns_query("web.test.svc.cluster.local")))
        assert Happening("node-2", "table made", "table mine") in heard(rules, "table made")
        assert any(
            each.place == "wire/node-2" and "mtu 1400" in each.text for each in heard(links, "link up")
        )
        told = [each for each in heard(dns, "hears") if each.place == CLIENT]
        assert told[0] == Happening(
            CLIENT, "asks", "web.test.svc.cluster.local A?   to svc kube-system/kube-dns"
        )
        for each in (rules, links, dns):
            each.close()


def test_watching_leaves_no_descriptor(tmp_path: Path) -> None:
    with w.network(tmp_path, "nftables") as net:
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
        for subject in ("drops", "conntrack", "rules", "links", "dns"):
            Watcher(net.site, subject).close()
        assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_C3_a_capture_has_the_packets_of_a_service_also_translated(tmp_path: Path) -> None:
    from kubenet.observe.dissect import summary

    with w.network(tmp_path, "nftables") as net, Capture(net.site, [w.WEB]) as taken:
        sent(net, Target(TCP, w.WEB, 80))
        packets = list(taken.take(1.0))
    syn = [packet for packet in packets if " S" in summary(packet.frame)]
    assert {packet.ifname for packet in syn} >= {f"{CLIENT}/eth0", "node-1/kubenet.1", f"{SERVER}/eth0"}
    assert f"{w.WEB}:http S" in summary(syn[0].frame)
    inside = [summary(packet.frame) for packet in syn if packet.ifname == "wire/node-1"]
    assert all("VXLAN 1 / " in words for words in inside)
