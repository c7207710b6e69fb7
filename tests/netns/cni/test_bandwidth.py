"""How much a pod may receive and send: packets are counted, and the kernel is asked (rows P1, C2, D1)."""

import socket
import time
from dataclasses import replace
from typing import Any

import pytest

from cni.plan import Wiring, host_ifname
from cni.shaping import shaper_ifname
from kubenet.kernel import codec_tc
from kubenet.kernel.netlink import Request
from kubenet.kernel.netns import NetNs
from kubenet.kernel.run import run
from kubenet.model.bucket import Bucket
from tests.netns.cni.conftest import LabNode, NodeMaker, Pin, observe

pytestmark = pytest.mark.netns

RATE = 4_000_000  # bits a second
BURST = 65536 * 8
FLOOD_BYTES = 6_000_000
DATAGRAM = 1200
LINK = host_ifname("c", "eth0")


def limits(**wanted: int) -> dict[str, Any]:
    return {"runtimeConfig": {"bandwidth": wanted}}


def flood(sender: NetNs, receiver: NetNs, address: str) -> tuple[int, float]:
    """Send at full speed; return the bytes that arrived, and within which time."""
    with (
        receiver.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening,
        sender.socket(socket.AF_INET, socket.SOCK_DGRAM) as calling,
    ):
        listening.setsockopt(socket.SOL_SOCKET, 33, FLOOD_BYTES * 4)  # SO_RCVBUFFORCE: nothing is lost here
        listening.bind(("", 7000))
        began_s = time.monotonic()
        for _ in range(FLOOD_BYTES // DATAGRAM):
            calling.sendto(bytes(DATAGRAM), (address, 7000))
        got = 0
        listening.settimeout(0.3)
        try:
            while chunk := listening.recv(2048):
                got += len(chunk)
        except TimeoutError:
            pass
        return got, time.monotonic() - began_s


def possible(seconds: float) -> float:
    """The most that a bucket of these lets through, headers of packets left aside."""
    return RATE / 8 * (seconds + 1 / 40) + BURST / 8 * 2


@pytest.fixture(params=list(Wiring), ids=lambda wiring: str(wiring.value))
def shaped(request: pytest.FixtureRequest, make_node: NodeMaker) -> LabNode:
    node = make_node(1, wiring=request.param)
    node.start()
    return node


def test_P1_bandwidth_holds_back_what_a_pod_receives_and_what_it_sends(shaped: LabNode, pin: Pin) -> None:
    paths = {name: pin(name) for name in ("in", "out", "free")}
    wanted = {
        "in": limits(ingressRate=RATE, ingressBurst=BURST),
        "out": limits(egressRate=RATE, egressBurst=BURST),
        "free": {},
    }
    ips = {name: shaped.runtime.add(name, path, **wanted[name]).address for name, path in paths.items()}
    with (
        NetNs.open(paths["in"]) as held_in,
        NetNs.open(paths["out"]) as held_out,
        NetNs.open(paths["free"]) as free,
    ):
        got, took_s = flood(free, held_in, ips["in"])
        assert 0 < got < possible(took_s) < FLOOD_BYTES
        got, took_s = flood(held_out, free, ips["free"])
        assert 0 < got < possible(took_s) < FLOOD_BYTES
        # The other ways are as free as ever.
        assert flood(held_in, free, ips["free"])[0] == FLOOD_BYTES
        assert flood(free, held_out, ips["out"])[0] == FLOOD_BYTES


def test_D1_a_del_leaves_nothing_of_a_limit(shaped: LabNode, pin: Pin) -> None:
    path = pin("p")
    before = set(observe(shaped.netns).links)
    both = limits(ingressRate=RATE, egressRate=RATE)
    assert shaped.runtime.add("c", path, **both).code == 0
    assert set(observe(shaped.netns).links) == before | {LINK, shaper_ifname(LINK)}
    assert shaped.runtime.delete("c", path).code == 0
    assert shaped.nothing_left()
    assert set(observe(shaped.netns).links) == before
    # Also where the pod's link is gone already, and where the agent was.
    assert shaped.runtime.add("c", path, **both).code == 0
    run(["ip", "link", "delete", LINK], netns=shaped.netns)
    assert shaped.runtime.delete("c", path).code == 0
    assert shaped.nothing_left()
    assert set(observe(shaped.netns).links) == before
    assert shaped.runtime.add("c", path, **both).code == 0
    shaped.stop()
    for record in (shaped.config.state_dir / "attachments").glob("k*"):
        record.unlink()
    run(["ip", "link", "delete", LINK], netns=shaped.netns)
    shaped.start()
    assert set(observe(shaped.netns).links) == before


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        pytest.param(["tc", "qdisc", "del", "dev", LINK, "root"], "receives", id="no bucket"),
        pytest.param(
            f"tc qdisc replace dev {LINK} root tbf rate 1gbit burst 1m latency 9ms".split(),
            "receives",
            id="another rate",
        ),
        pytest.param(["tc", "qdisc", "del", "dev", LINK, "ingress"], "sends", id="no filter"),
        pytest.param(["ip", "link", "del", shaper_ifname(LINK)], "sends", id="no link in between"),
    ],
)
def test_C2_a_check_sees_that_a_limit_does_not_hold(
    node: LabNode, pin: Pin, spoil: list[str], said: str
) -> None:
    path = pin("p")
    both = limits(ingressRate=RATE, egressRate=RATE)
    conf = {**both, "prevResult": node.runtime.add("c", path, **both).json}
    assert node.runtime.call("CHECK", "c", path, **conf).code == 0
    run(spoil, netns=node.netns)
    answer = node.runtime.call("CHECK", "c", path, **conf)
    assert answer.error == 100
    assert said in answer.json["msg"]


def test_A2_a_limit_below_nothing_is_refused_and_nothing_stays(node: LabNode, pin: Pin) -> None:
    assert node.runtime.add("c", pin("p"), **limits(ingressRate=-1)).error == 7
    assert node.nothing_left()


def test_E10_what_the_kernel_lacks_is_refused_by_its_name(
    node: LabNode, pin: Pin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same request for a kind of queue that no kernel has; and what it has goes on."""
    path, hold_back = pin("p"), codec_tc.hold_back

    def unknown(index: int, bucket: Bucket, what: str) -> Request:
        request = hold_back(index, bucket, what)
        return replace(request, body=request.body.replace(b"tbf\0", b"tbz\0"))

    monkeypatch.setattr(codec_tc, "hold_back", unknown)
    answer = node.runtime.add("c", path, **limits(ingressRate=RATE))
    assert answer.error == 2
    assert "the kernel lacks sch_tbf" in answer.json["msg"]
    assert answer.json["details"] == "modprobe sch_tbf"
    assert node.nothing_left()
    assert node.runtime.add("c", path).code == 0
