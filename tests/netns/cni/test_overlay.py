"""The overlay of a node whose agent runs: repaired by events, guarded, told of, and followed."""

import asyncio
import json
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from ipaddress import IPv4Interface, ip_address, ip_network
from pathlib import Path

import pytest

from cni.guard import TABLE
from cni.hostports import TABLE as PORTS_TABLE
from cni.overlay import NodeNet
from cni.peer_guard import PeerGuard
from cni.plan import Wiring
from kubenet.apiserver.http import ApiServer
from kubenet.client.kubeconfig import ClusterConfig
from kubenet.client.transport import STRATEGIC_PATCH, ApiClient
from kubenet.kernel import codec, iptables
from kubenet.kernel.netns import NetNs
from kubenet.kernel.rtnl import Rtnl
from kubenet.kernel.run import ENVIRONMENT, Child, run, spawn
from kubenet.model.links import Link, LinkKind, LinkState, Route, VethPeer, state_of
from kubenet.model.objects import Json, Node
from kubenet.model.resources import NODES
from kubenet.store.memory import MemoryStore
from tests.netns.cni.conftest import LabNode, NodeMaker, Pin, add_links, observe
from tests.netns.cni.test_agent import node_object, play, running, until
from tests.netns.cni.test_dataplane import HARM, OUTSIDE, UDP, forged, pod, reaches, talk

pytestmark = pytest.mark.netns

TUNNEL = "kubenet.1"
QUIET_S = 0.3
IP_RECVERR = 11  # linux/in.h: tell also of what may pass


def of_overlay(netns: NetNs) -> LinkState:
    """The overlay's part of a namespace, with the range that is the node's own."""
    return observe(netns).owned_by((TUNNEL, ""))


def _address_lost(rtnl: Rtnl) -> None:
    index = rtnl.ifindex(TUNNEL)
    ours = [a for a in rtnl.observe().addresses if a.ifname == TUNNEL]
    rtnl.transact([codec.delete_address(index, entry.interface) for entry in ours])


def _own_range_lost(rtnl: Rtnl) -> None:
    rtnl.transact([codec.delete_route(r, 0) for r in rtnl.observe().routes.values() if r.unreachable])


def _forwarding_elsewhere(rtnl: Rtnl) -> None:
    index = rtnl.ifindex(TUNNEL)
    wrong = [replace(entry, vtep=ip_address("172.30.9.9")) for entry in rtnl.observe().fdb.values()]
    rtnl.transact([codec.new_fdb(index, entry) for entry in wrong])


DRIFT: dict[str, Callable[[Rtnl], None]] = {
    **HARM,
    "address lost": _address_lost,
    "refusal of the own range lost": _own_range_lost,
    "forwarding entries lead elsewhere": _forwarding_elsewhere,
}


def test_N12_an_agent_hears_of_every_harm_to_the_overlay_and_repairs_it(make_node: NodeMaker) -> None:
    one, two = make_node(1), make_node(2)

    async def scene(client: ApiClient) -> None:
        for node in (one, two):
            await client.create(NODES, "", node_object(node))
        async with running(one, client) as ready:
            await until(ready.is_set)
            await until(lambda: bool(of_overlay(one.netns).fdb))
            whole = of_overlay(one.netns)
            for name, harm in DRIFT.items():
                await asyncio.sleep(QUIET_S)  # what the agent hears now is the harm, and not its own repair
                with Rtnl(one.netns) as rtnl:
                    harm(rtnl)
                assert of_overlay(one.netns) != whole or name == "device deleted"
                began = time.monotonic()
                await until(lambda: of_overlay(one.netns) == whole)
                print(f"{name}: repaired within {time.monotonic() - began:.2f} s")

    play(scene)


def test_N12_rules_that_somebody_flushed_come_back_without_a_word(
    make_node: NodeMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cni.network.FILTER_CHECK_S", 0.3)
    monkeypatch.setattr("cni.follow.LOOK_EVERY_S", 0.1)
    node = make_node()

    async def scene(client: ApiClient) -> None:
        await client.create(NODES, "", node_object(node))
        async with running(node, client) as ready:
            await until(ready.is_set)
            iptables.restore(node.netns, "*nat\nCOMMIT\n*raw\nCOMMIT\n", noflush=False)
            assert "KUBENET" not in iptables.save(node.netns, "nat")
            await until(lambda: "KUBENET-POSTROUTING" in iptables.save(node.netns, "nat"))
            await until(lambda: "KUBENET-GUARD" in iptables.save(node.netns, "raw"))

    play(scene)


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(("via", "172.30.0.9", "dev", "eth0"), id="left by another overlay"),
        pytest.param(("dev", "lo"), id="to another link"),
        pytest.param(("unreachable",), id="unreachable"),
        pytest.param(("blackhole",), id="a black hole"),
    ],
)
def test_a_route_of_somebody_else_to_a_peers_pods_gives_way(
    make_node: NodeMaker, words: tuple[str, ...]
) -> None:
    one, two = make_node(1), make_node(2)
    (pod_cidr,) = two.net.pod_cidrs
    kind, way = (words, ()) if len(words) == 1 else ((), words)
    run(("ip", "route", "add", *kind, str(pod_cidr), *way), netns=one.netns)

    async def scene(client: ApiClient) -> None:
        for node in (one, two):
            await client.create(NODES, "", node_object(node))
        async with running(one, client) as ready:
            await until(ready.is_set)
            await until(lambda: pod_cidr in of_overlay(one.netns).routes)

    play(scene)


def test_a_network_in_which_the_node_itself_is_never_leads_into_the_tunnel(
    make_node: NodeMaker, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = make_node(1), make_node(2)
    (pod_cidr,) = two.net.pod_cidrs
    run(("ip", "address", "add", f"{pod_cidr[9]}/{pod_cidr.prefixlen}", "dev", "eth0"), netns=one.netns)

    async def scene(client: ApiClient) -> None:
        for node in (one, two):
            await client.create(NODES, "", node_object(node))
        async with running(one, client):
            await until(lambda: f"{pod_cidr}: the node is in this network itself, on eth0" in caplog.text)
        assert observe(one.netns).routes[pod_cidr].ifname == "eth0"

    play(scene)


@pytest.mark.parametrize("underlay", ["", "eth0"], ids=["found by its address", "named"])
def test_an_agent_follows_the_nodes_address_its_range_and_its_underlay(
    make_node: NodeMaker, wire: NetNs, pin: Pin, underlay: str
) -> None:
    one, two = (make_node(number, underlay_ifname=underlay) for number in (1, 2))

    def to_the_new_link() -> None:
        """The link that carries the overlay goes, and another of its name comes."""
        with Rtnl(one.netns) as rtnl:
            rtnl.transact([codec.delete_link(ifname="eth0")])
        add_links(
            wire,
            Link("again", LinkKind.VETH, master="wire", mtu=1400, peer=VethPeer("eth0", "node")),
            namespaces={"node": one.netns},
        )
        with Rtnl(one.netns) as rtnl:
            rtnl.transact([codec.set_link(name="eth0", up=True)])
            rtnl.transact([codec.new_address(rtnl.ifindex("eth0"), IPv4Interface("172.30.0.11/16"))])

    async def scene(client: ApiClient) -> None:
        for node in (one, two):
            await client.create(NODES, "", node_object(node))
        async with running(one, client) as ready, running(two, client) as two_ready:
            await until(lambda: ready.is_set() and two_ready.is_set())
            to_the_new_link()
            await until(lambda: TUNNEL in observe(one.netns).links)
            assert observe(one.netns).links[TUNNEL].mtu == 1350
            address: Json = {"addresses": [{"type": "InternalIP", "address": "172.30.0.11"}]}
            await client.patch(NODES, "", "node1", {"status": address}, subresource="status")
            await until(lambda: _local(one.netns) == "172.30.0.11")
            await until(lambda: {str(e.vtep) for e in observe(two.netns).fdb.values()} == {"172.30.0.11"})
            await client.delete(NODES, "", "node1")  # its range cannot be changed, only that of a new one
            one.net = replace(one.net, node_ip=ip_address("172.30.0.11"), pod_cidrs=(_MOVED,))
            await client.create(NODES, "", node_object(one))
            await until(lambda: ip_network("10.244.77.0/24") in observe(two.netns).routes)
            paths = pin("a"), pin("b")
            await until(lambda: _added(one, paths[0], "10.244.77."))
            await until(lambda: _added(two, paths[1], "10.244.2."))
            with NetNs.open(paths[0]) as a, NetNs.open(paths[1]) as b:
                await until(lambda: reaches(a, b, "10.244.2.2"))

    play(scene)


_MOVED = ip_network("10.244.77.0/24")


def _added(node: LabNode, path: Path, within: str) -> bool:
    """Whether a pod gets an address that begins so."""
    answer = node.runtime.add(path.name, path)
    if answer.code == 0 and answer.address.startswith(within):
        return True
    node.runtime.delete(path.name, path)
    return False


def _local(netns: NetNs) -> str:
    link = observe(netns).links.get(TUNNEL)
    return str(link.vxlan.local) if link and link.vxlan else ""


# The guard.


@pytest.fixture
def node_pair(make_node: NodeMaker) -> tuple[LabNode, LabNode]:
    """Two nodes that know each other."""
    one, two = make_node(1), make_node(2)
    one.start(two.net)
    two.start(one.net)
    return one, two


def _add_address(netns: NetNs, ifname: str, address: str) -> None:
    with Rtnl(netns) as rtnl:
        rtnl.transact([codec.new_address(rtnl.ifindex(ifname), IPv4Interface(address))])


def arrives(sender: socket.socket, packet: bytes, to: str, listening: socket.socket) -> bool:
    """Whether the inner datagram of ``packet`` gets to its pod."""
    for _ in range(2):
        sender.sendto(packet, (to, 8472))
        try:
            listening.recv(100)
        except TimeoutError:
            continue
        return True
    return False


SENDERS = [
    pytest.param("172.30.0.1", "10.244.1.99", True, id="a peer, for its own pod"),
    pytest.param("172.30.0.1", "172.30.0.1", True, id="a peer, for itself"),
    pytest.param("172.30.0.1", "10.244.2.99", False, id="a peer, as a pod of the receiver"),
    pytest.param("172.30.0.1", "8.8.8.8", False, id="a peer, as anybody"),
    pytest.param("172.30.255.254", "10.244.1.99", False, id="a foreign host"),
    pytest.param("172.30.0.50", "10.244.1.99", False, id="a foreign host that is no node"),
]


@pytest.mark.parametrize(("outer", "inner", "welcome"), SENDERS)
def test_S5_only_peers_send_into_the_tunnel_and_only_for_their_own_pods(
    node_pair: tuple[LabNode, LabNode], wire: NetNs, pin: Pin, outer: str, inner: str, welcome: bool
) -> None:
    one, two = node_pair
    sender = one.netns if outer == "172.30.0.1" else wire
    if outer == "172.30.0.50":
        _add_address(wire, "wire", f"{outer}/16")
    with (
        pod(two, pin("b")) as (b, b_ip),
        b.socket(*UDP) as listening,
        sender.socket(*UDP) as calling,
    ):
        listening.bind(("", 0))
        listening.settimeout(0.2)
        calling.bind((outer, 0))
        packet = forged(inner, b_ip, listening.getsockname()[1], two.net.vtep_mac)
        assert arrives(calling, packet, "172.30.0.2", listening) is welcome
        if not welcome:  # and it is the guard that keeps it out
            two.stop()
            guard = PeerGuard(two.netns)
            guard.remove()
            guard.close()
            assert arrives(calling, packet, "172.30.0.2", listening)


def test_S5_a_pod_cannot_pass_for_a_peer_by_a_false_source(
    node_pair: tuple[LabNode, LabNode], pin: Pin
) -> None:
    two = node_pair[1]
    with (
        pod(two, pin("a")) as (a, _),
        pod(two, pin("b")) as (b, b_ip),
        b.socket(*UDP) as listening,
        a.socket(*UDP) as calling,
    ):
        _add_address(a, "eth0", "172.30.0.1/32")  # as a pod with every right in its own namespace
        listening.bind(("", 0))
        listening.settimeout(0.2)
        calling.bind(("172.30.0.1", 0))
        packet = forged("10.244.1.99", b_ip, listening.getsockname()[1], two.net.vtep_mac)
        assert not arrives(calling, packet, "172.30.0.2", listening)


def test_nobody_else_can_take_the_guard_away(node_pair: tuple[LabNode, LabNode]) -> None:
    one = node_pair[0]
    run(["nft", "flush", "ruleset"], netns=one.netns, check=False)
    assert run(["nft", "delete", "table", "ip", TABLE], netns=one.netns, check=False).returncode != 0
    assert TABLE in run(["nft", "list", "tables"], netns=one.netns).stdout.decode()


def test_packets_for_addresses_that_no_pod_has_are_refused_and_go_nowhere(
    node_pair: tuple[LabNode, LabNode], pin: Pin
) -> None:
    with pod(node_pair[0], pin("a")) as (a, _), a.socket(*UDP) as calling:
        calling.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
        calling.connect(("10.244.2.200", 9))
        calling.send(b"x")
        with pytest.raises(OSError) as refused:  # noqa: PT012 - the error comes with a later call
            for _ in range(50):
                time.sleep(0.05)
                calling.send(b"x")
        assert refused.value.errno in (113, 101)  # EHOSTUNREACH, ENETUNREACH: not a time-out


# Direct routes, settings, flannel.


@pytest.mark.parametrize("mode", ["on", "auto"])
def test_peers_on_the_same_network_are_reached_without_the_tunnel_when_asked(
    make_node: NodeMaker, pin: Pin, tmp_path: Path, mode: str
) -> None:
    settings = tmp_path / "agent.yaml"
    settings.write_text(f"directRouting: {mode}\n")
    one, two = (make_node(number, settings_path=settings) for number in (1, 2))
    far = NodeNet("far", ip_address("10.9.9.9"), (ip_network("10.244.9.0/24"),))
    agent = one.start(two.net, far)
    two.start(one.net)
    routes = observe(one.netns).routes
    assert routes[ip_network("10.244.2.0/24")] == Route(
        ip_network("10.244.2.0/24"), "eth0", ip_address("172.30.0.2")
    )
    assert routes[ip_network("10.244.9.0/24")].ifname == TUNNEL
    with pod(one, pin("a")) as (a, a_ip), pod(two, pin("b")) as (b, b_ip):
        assert talk(a, b, b_ip, 100_000) == a_ip
        settings.write_text("directRouting: off\n")
        agent.sync(one.net, [two.net, far])
        assert observe(one.netns).routes[ip_network("10.244.2.0/24")].ifname == TUNNEL
        assert talk(a, b, b_ip, 100_000) == a_ip


def test_a_peer_that_is_silent_on_the_underlay_is_reached_by_the_tunnel(
    make_node: NodeMaker, tmp_path: Path
) -> None:
    settings = tmp_path / "agent.yaml"
    settings.write_text("directRouting: auto\n")
    node = make_node(1, settings_path=settings)
    silent = NodeNet("silent", ip_address("172.30.7.7"), (ip_network("10.244.7.0/24"),))
    agent = node.start(silent)
    assert observe(node.netns).routes[silent.pod_cidrs[0]].ifname == "eth0"
    index = "eth0"
    run(["ip", "neigh", "replace", "172.30.7.7", "dev", index, "nud", "failed"], netns=node.netns)
    agent.sync(node.net, [silent])
    assert observe(node.netns).routes[silent.pod_cidrs[0]].ifname == TUNNEL


def test_ranges_that_need_no_translation_are_read_again_when_the_file_changes(
    make_node: NodeMaker, pin: Pin, wire: NetNs, tmp_path: Path
) -> None:
    settings = tmp_path / "agent.yaml"
    node = make_node(1, settings_path=settings)
    agent = node.start()
    with Rtnl(wire) as rtnl:
        way_back = Route(ip_network("10.244.1.0/24"), "wire", ip_address("172.30.0.1"))
        rtnl.transact([codec.new_route(way_back, rtnl.ifindex("wire"))])
    with pod(node, pin("a")) as (a, a_ip):
        assert talk(a, wire, OUTSIDE) == "172.30.0.1"
        settings.write_text("nonMasqueradeCIDRs: [172.30.255.0/24]\n")
        assert agent.drifting()
        agent.sync(node.net, ())
        assert talk(a, wire, OUTSIDE) == a_ip
        settings.write_text("nonMasqueradeCIDRs: [not a range]\n")
        agent.sync(node.net, ())
        assert talk(a, wire, OUTSIDE) == a_ip
        settings.unlink()
        agent.sync(node.net, ())
        assert talk(a, wire, OUTSIDE) == "172.30.0.1"
    assert "--random-fully" in iptables.save(node.netns, "nat")


def test_a_node_that_runs_flannel_and_one_of_ours_reach_each_other(make_node: NodeMaker, pin: Pin) -> None:
    """Flannel's part is played by its own three commands on a device that it would make."""
    ours, theirs = make_node(1), make_node(2)
    mac, underlay = "0a:11:22:33:44:55", {"netns": theirs.netns}

    async def scene(client: ApiClient) -> None:
        await client.create(NODES, "", node_object(ours))
        flannel = node_object(theirs)
        flannel["metadata"] = {
            "name": "node2",
            "annotations": {
                "flannel.alpha.coreos.com/backend-type": "vxlan",
                "flannel.alpha.coreos.com/backend-data": json.dumps({"VNI": 1, "VtepMAC": mac}),
                "flannel.alpha.coreos.com/public-ip": "172.30.0.2",
                "flannel.alpha.coreos.com/kube-subnet-manager": "true",
            },
        }
        flannel["status"] = {"addresses": [{"type": "InternalIP", "address": "172.30.99.99"}]}
        await client.create(NODES, "", flannel)
        await client.patch(
            NODES, "", "node2", {"status": flannel["status"]},
            subresource="status", content_type=STRATEGIC_PATCH,
        )  # fmt: skip
        async with running(ours, client) as ready:
            await until(ready.is_set)
            await until(lambda: {e.mac for e in observe(ours.netns).fdb.values()} == {mac})
            told = await _annotations(client, "node1")
            data = json.loads(told["flannel.alpha.coreos.com/backend-data"])
            for line in (
                f"link add flannel.1 address {mac} type vxlan id 1 dev eth0 local 172.30.0.2 dstport 8472",
                "address add 10.244.2.0/32 dev flannel.1",
                "link set flannel.1 up",
                f"neigh add 10.244.1.0 lladdr {data['VtepMAC']} dev flannel.1 nud permanent",
                "route add 10.244.1.0/24 via 10.244.1.0 dev flannel.1 onlink",
            ):
                run(["ip", *line.split()], **underlay)  # type: ignore[arg-type]
            entry = (
                f"fdb append {data['VtepMAC']} dev flannel.1 dst {told['flannel.alpha.coreos.com/public-ip']}"
            )
            run(["bridge", *entry.split()], **underlay)  # type: ignore[arg-type]
            path = pin("a")
            await until(lambda: ours.runtime.add("a", path).code == 0)
            with NetNs.open(path) as a:
                await until(lambda: reaches(a, theirs.netns, "10.244.2.0"))
                await until(lambda: reaches(theirs.netns, a, "10.244.1.2"))

    play(scene)


async def _annotations(client: ApiClient, name: str) -> dict[str, str]:
    node = await client.get(NODES, "", name, Node)
    for _ in range(100):
        if "flannel.alpha.coreos.com/backend-data" in node.metadata.annotations:
            break
        node = await client.get(NODES, "", name, Node)
    return dict(node.metadata.annotations)


# The process.


@asynccontextmanager
async def api_on(wire: NetNs) -> AsyncIterator[tuple[ApiClient, str]]:
    """An API server on the wire, and a client of it from there."""
    server = ApiServer(MemoryStore())
    listening = wire.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.bind((OUTSIDE, 0))
    await server.start([listening])
    url = f"http://{OUTSIDE}:{listening.getsockname()[1]}"
    try:
        async with ApiClient(ClusterConfig(url), socket_factory=wire.socket) as client:
            yield client, url
    finally:
        await server.stop()


def http(netns: NetNs, path: str) -> str:
    """Get a page from the agent of a node."""
    with netns.socket(socket.AF_INET, socket.SOCK_STREAM) as calling:
        calling.settimeout(5)
        try:
            calling.connect(("127.0.0.1", 9871))
        except ConnectionRefusedError:
            return ""
        calling.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        return b"".join(iter(lambda: calling.recv(65536), b"")).decode()


# What the unit of deploy/ leaves it.
CAPABILITIES = ("net_admin", "net_raw", "sys_admin", "dac_override", "sys_module")


ALL_WISHES = {
    "portMappings": [{"hostPort": 8080, "containerPort": 80}],
    "bandwidth": {"ingressRate": 10**6, "egressRate": 10**6},
}


def confined(command: list[str]) -> list[str]:
    """The command with these capabilities and no other, whatever it executes."""
    kept = ",".join(f"+{each}" for each in CAPABILITIES)
    return ["setpriv", "--no-new-privs", "--inh-caps=-all", f"--bounding-set=-all,{kept}", *command]


def agent_command(node: LabNode, kubeconfig: Path, *more: str) -> list[str]:
    options = {
        "--kubeconfig": kubeconfig,
        "--node-name": node.net.name,
        "--socket": node.config.socket_path,
        "--state-dir": node.config.state_dir,
        "--sticky-file": node.directory / "sticky.json",
        "--bin-dir": node.config.bin_dir,
        "--conf-dir": node.config.conf_dir,
        "--cluster-cidr": "10.244.0.0/16",
        "--service-cidr": "10.96.0.0/16",
    }
    words = [str(word) for pair in options.items() for word in pair]
    return [str(Path(sys.executable).parent / "kubenet"), "agent", *words, *more]


def test_S1_the_agent_is_a_process_that_serves_pods_tells_how_it_is_and_ends_cleanly(
    make_node: NodeMaker, wire: NetNs, pin: Pin, tmp_path: Path
) -> None:
    from labs.kubeconfig import kubeconfig_text

    node = make_node()
    kubeconfig = tmp_path / "kubeconfig"
    path = pin("a")

    async def scene() -> None:
        with ExitStack() as undo:
            async with api_on(wire) as (client, url):
                kubeconfig.write_text(kubeconfig_text("test", url))
                await client.create(NODES, "", node_object(node, ranged=False))
                with (tmp_path / "log").open("wb") as log:
                    child: Child = spawn(
                        confined(agent_command(node, kubeconfig)),
                        netns=node.netns,
                        env={**ENVIRONMENT, "PYTHONDONTWRITEBYTECODE": "1"},
                        stderr=log.fileno(),
                    )
                undo.callback(child.terminate, 5.0)
                await until(lambda: "503" in http(node.netns, "/healthz"), 20)
                assert not await _has_network(client)
                cidr: Json = {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24"]}
                await client.patch(NODES, "", "node1", {"spec": cidr})
                await until(lambda: "200" in http(node.netns, "/healthz").partition("\r\n")[0])
                answer = await asyncio.to_thread(node.runtime.add, "a", path, runtimeConfig=ALL_WISHES)
                assert answer.address == "10.244.1.2"
                assert "kubenet_agent_attachments 1\n" in http(node.netns, "/metrics")
                for _ in range(100):
                    if await _has_network(client):
                        break
                    await asyncio.sleep(0.05)
                assert await _has_network(client)
                os.kill(child.pid, signal.SIGTERM)
                assert await asyncio.to_thread(child.wait, 10.0) == 0, (tmp_path / "log").read_text()
                assert TUNNEL in observe(node.netns).links
                await asyncio.to_thread(_cleaned_up, node, kubeconfig, tmp_path)

    asyncio.run(scene())


def _cleaned_up(node: LabNode, kubeconfig: Path, directory: Path) -> None:
    """Clean up, and look what is left: what is a pod's, or somebody else's."""
    foreign = ["192.0.2.0/24", "192.0.2.128/25"]  # routes of somebody else who uses our number
    run(["ip", "route", "add", foreign[0], "dev", "eth0", "proto", "107"], netns=node.netns)
    run(["ip", "route", "add", "unreachable", foreign[1], "proto", "107"], netns=node.netns)
    cleanup = agent_command(node, kubeconfig, "--cleanup")
    run(cleanup, netns=node.netns)
    left = observe(node.netns)
    assert {str(r.destination) for r in left.routes.values() if r.unreachable} == {foreign[1]}
    assert foreign[0] in map(str, left.routes)
    assert TUNNEL not in left.links
    assert "10.244.1.2/32" in map(str, left.routes)  # the pod's, which lives on
    assert "KUBENET" not in "".join(iptables.save(node.netns, t) for t in ("nat", "filter", "raw"))
    tables = run(["nft", "list", "tables"], netns=node.netns).stdout.decode()
    assert TABLE not in tables
    assert PORTS_TABLE in tables  # the pod's ports, as long as it is there
    (node.config.state_dir / "attachments").rename(directory / "no pods any more")
    run(cleanup, netns=node.netns)
    assert PORTS_TABLE not in run(["nft", "list", "tables"], netns=node.netns).stdout.decode()


async def _has_network(client: ApiClient) -> bool:
    node = await client.get(NODES, "", "node1", Node)
    return any(c.type == "NetworkUnavailable" and c.status == "False" for c in node.status.conditions)


@pytest.mark.parametrize("wiring", list(Wiring), ids=lambda wiring: str(wiring.value))
def test_a_sync_that_finds_nothing_to_do_reads_only_bytes(make_node: NodeMaker, wiring: Wiring) -> None:
    node = make_node(1, wiring=wiring)
    peers = [
        NodeNet(f"n{number}", ip_address(f"172.30.1.{number}"), (ip_network(f"10.244.{number}.0/24"),))
        for number in range(10, 60)
    ]
    agent = node.start(*peers)
    agent.sync(node.net, peers)
    before = observe(node.netns)
    with Rtnl(node.netns) as rtnl:
        ours = {TUNNEL, "cni0"} & before.links.keys()
        imprint = rtnl.tables().imprint(ours)
        assert rtnl.tables().imprint(ours) == imprint
        assert state_of() != before.owned_by(ours)
        for harm in DRIFT.values():
            if harm is _own_range_lost and wiring is Wiring.BRIDGE:
                continue
            harm(rtnl)
            assert rtnl.tables().imprint(ours) != imprint
            agent.sync(node.net, peers)
            assert observe(node.netns).owned_by((*ours, "")) == before.owned_by((*ours, ""))
            imprint = rtnl.tables().imprint(ours)
