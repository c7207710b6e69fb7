"""A pod network without daemons, whose every interface and rule is known: what stories are held against."""

import select
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

import msgspec

from kubenet.kernel.netns import NetNs
from kubenet.kernel.nft import Nftables
from kubenet.kernel.run import run
from kubenet.model.flavour import Flavour
from kubenet.model.objects import EndpointSlice, Node, Pod, Service
from kubenet.model.packet import TCP, UDP
from kubenet.observe.events import PlaceKind, PlaceName
from kubenet.observe.names import Cluster
from kubenet.observe.place import Place, Site
from labs.build import Underlay
from labs.datapath import LabPod, build_datapath, node_nets, pods_of
from labs.ledger import LabDirectory
from labs.topology import LabSpec, topology
from proxy.apply_iptables import IptablesBackend, KernelIptables
from proxy.apply_nft import NftBackend
from proxy.backend import Backend
from proxy.nft_names import TABLE
from proxy.node_config import ProxyConfig, locality_of, track_rules
from proxy.policy import serve
from proxy.track import track

BACKENDS = ("nftables", "iptables-nft", "iptables-legacy")
HTTP, DNS, NODE_PORT = 8080, 53, 30080
WEB, DNS_VIP, EMPTY = IPv4Address("10.96.0.80"), IPv4Address("10.96.0.10"), IPv4Address("10.96.0.81")


def service(
    name: str, ip: IPv4Address, port: int, target: int, protocol: str = "TCP", **spec: object
) -> Service:
    namespace, _, short = name.partition("/")
    ports = [{"name": "p", "port": port, "targetPort": target, "protocol": protocol, **spec}]
    return msgspec.convert(
        {
            "metadata": {"namespace": namespace, "name": short, "uid": name},
            "spec": {
                "clusterIP": str(ip),
                "clusterIPs": [str(ip)],
                "ipFamilies": ["IPv4"],
                "type": "NodePort" if spec else "ClusterIP",
                "selector": {"app": short},
                "ports": ports,
            },
        },
        Service,
    )


def endpoint_slice(name: str, port: int, pods: Mapping[str, LabPod], protocol: str = "TCP") -> EndpointSlice:
    namespace, _, short = name.partition("/")
    return msgspec.convert(
        {
            "metadata": {
                "namespace": namespace,
                "name": f"{short}-1",
                "labels": {"kubernetes.io/service-name": short},
            },
            "addressType": "IPv4",
            "ports": [{"name": "p", "port": port, "protocol": protocol}],
            "endpoints": [
                {"addresses": [str(pod.address)], "conditions": {"ready": True}, "nodeName": node}
                for node, pod in pods.items()
            ],
        },
        EndpointSlice,
    )


@dataclass(slots=True)
class Net:
    """Two nodes with two pods each. Pod 2 of the chosen node serves ``web`` and ``dns``."""

    site: Site
    pods: Mapping[str, tuple[LabPod, ...]]  # by node
    server: LabPod
    server_node: str
    backends: Mapping[str, Backend]

    def netns(self, place: str) -> NetNs:
        return self.site.place(place).netns


def pod_key(pod: LabPod) -> str:
    return f"test/{pod.name}"


@contextmanager
def network(directory: Path, backend: str, server_node: str = "node-2", serves: int = 1) -> Iterator[Net]:
    """Build it, and take it down whatever happens. Its nodes' rules are ``backend``'s."""
    spec = LabSpec("t", nodes=2)
    nets = {net.name: net for net in node_nets(spec)}
    pods = {name: tuple(pods_of(net, 2)) for name, net in nets.items()}
    server = pods[server_node][serves]
    lab = LabDirectory("t", directory)
    (directory / "t").mkdir()
    with ExitStack() as undo:
        underlay = build_datapath(spec, 2, lab)
        undo.callback(_unpin, lab, [*nets, "wire", *(pod.name for each in pods.values() for pod in each)])
        cluster = _cluster(spec, pods, server, server_node)
        site = undo.enter_context(Site(tuple(_places(underlay, lab, pods)), cluster, "t"))
        backends = {}
        for node in cluster.nodes:
            name = node.metadata.name
            backends[name] = _program(backend, underlay.nodes[name], node, cluster, spec, undo)
            _masquerade(backend, underlay.nodes[name], nets[name].pod_cidrs[0])
        net = Net(site, pods, server, server_node, backends)
        for each in (pod for group in pods.values() for pod in group):
            _serve(net, each, undo)
        yield net


def _unpin(lab: LabDirectory, names: list[str]) -> None:
    from kubenet.kernel.netns import unpin

    for name in names:
        unpin(lab.netns(name))


def _places(underlay: Underlay, lab: LabDirectory, pods: Mapping[str, tuple[LabPod, ...]]) -> Iterator[Place]:
    yield Place(PlaceName("wire", PlaceKind.WIRE), underlay.wire)
    for name, netns in underlay.nodes.items():
        yield Place(PlaceName(name, PlaceKind.NODE, name), netns)
        for pod in pods[name]:
            yield Place(PlaceName(pod_key(pod), PlaceKind.POD, name), NetNs.open(lab.netns(pod.name)))


def _cluster(
    spec: LabSpec, pods: Mapping[str, tuple[LabPod, ...]], server: LabPod, server_node: str
) -> Cluster:
    nets = {net.name: net for net in node_nets(spec)}
    nodes = [
        msgspec.convert(
            {
                "metadata": {"name": node.name},
                "spec": {
                    "podCIDR": str(nets[node.name].pod_cidrs[0]),
                    "podCIDRs": [str(nets[node.name].pod_cidrs[0])],
                },
                "status": {
                    "addresses": [{"type": "InternalIP", "address": str(node.ip)}],
                    "conditions": [{"type": "Ready", "status": "True"}],
                },
            },
            Node,
        )
        for node in topology(spec).nodes
    ]
    described = [
        msgspec.convert(
            {
                "metadata": {"namespace": "test", "name": pod.name, "uid": pod.name},
                "spec": {"nodeName": node},
                "status": {"phase": "Running", "podIP": str(pod.address)},
            },
            Pod,
        )
        for node, group in pods.items()
        for pod in group
    ]
    services = (
        service("test/web", WEB, 80, HTTP, nodePort=NODE_PORT),
        service("kube-system/kube-dns", DNS_VIP, DNS, DNS, "UDP"),
        service("test/empty", EMPTY, 80, HTTP),
    )
    slices = (
        endpoint_slice("test/web", HTTP, {server_node: server}),
        endpoint_slice("kube-system/kube-dns", DNS, {server_node: server}, "UDP"),
    )
    return Cluster(tuple(nodes), tuple(described), services, slices)


def _program(
    backend: str, netns: NetNs, node: Node, cluster: Cluster, spec: LabSpec, undo: ExitStack
) -> Backend:
    config = ProxyConfig(node.metadata.name, netns, spec.cluster_cidr, service_cidrs=(spec.service_cidr,))
    (family,) = config.networks_of(node)
    made: Backend
    if backend == "nftables":
        made = NftBackend(Nftables(netns, 4, TABLE), family)
        undo.callback(made.close)
    else:
        flavour = Flavour.LEGACY if backend == "iptables-legacy" else Flavour.NFT
        made = IptablesBackend(KernelIptables(netns, 4, flavour), family)
    tracked = track(cluster.services, cluster.slices, track_rules(config, family))
    made.apply(serve(tracked.service_ports, locality_of(config, node)))
    return made


def _masquerade(backend: str, netns: NetNs, cidr: object) -> None:
    program = "iptables-legacy" if backend == "iptables-legacy" else "iptables-nft"
    words = ["-s", str(cidr), "!", "-d", "10.244.0.0/16", "-j", "MASQUERADE"]
    run([program, "-t", "nat", "-A", "POSTROUTING", *words], netns=netns)


def _serve(net: Net, pod: LabPod, undo: ExitStack) -> None:
    """Listen on a pod's ports: the kernel takes connections, a thread sends datagrams back."""
    netns = net.netns(pod_key(pod))
    listener = undo.enter_context(netns.socket(socket.AF_INET, socket.SOCK_STREAM))
    listener.bind((str(pod.address), HTTP))
    listener.listen()
    answers = undo.enter_context(netns.socket(socket.AF_INET, socket.SOCK_DGRAM))
    answers.bind((str(pod.address), DNS))
    reader, writer = socket.socketpair()
    undo.enter_context(reader)
    thread = threading.Thread(target=_echo, args=(answers, reader))
    thread.start()
    undo.callback(thread.join)
    undo.callback(writer.close)


def _echo(answers: socket.socket, stop: socket.socket) -> None:
    while True:
        ready, _, _ = select.select([answers, stop], [], [])
        if stop in ready:
            return
        said, peer = answers.recvfrom(512)
        answers.sendto(said[:2] + b"\x80\0" + said[4:], peer)


__all__ = ["BACKENDS", "TCP", "UDP", "network"]
