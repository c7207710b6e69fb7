"""Nodes as an installation makes them: the real commands as processes of their own, by docs/install.md.

What is not ours is played: a kubelet's Node objects and the calls of its runtime (as libcni makes them), and
the EndpointSlices of the cluster's controllers.
"""

import base64
import http.client
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from kubenet.kernel.netns import NetNs, unpin
from kubenet.kernel.run import ENVIRONMENT, Child, spawn
from kubenet.node.cni_conf import Attachment
from kubenet.node.cni_runtime import CniRuntime, load_network
from labs import ledger
from labs.build import build_underlay
from labs.ledger import LabDirectory, Ledger
from labs.topology import API_SERVER, LabSpec, topology
from tests.e2e.netexec import Place, Servers

ROOT = Path(__file__).parents[2]
SERVER = f"{API_SERVER}:6443"
CLUSTER_IP = "10.96.0.1"  # of the Service "kubernetes"
DNS_IP = "10.96.0.10"
NAMESPACE = "net-8152"
PORTS = (("TCP", 80), ("UDP", 81), ("TCP", 81), ("UDP", 53080))
PATIENCE_S = 20.0
SLICES = "/apis/discovery.k8s.io/v1/namespaces"
SlicePort = tuple[str, str, int]  # name, protocol, number

KUBE_PROXY_CONF = """
apiVersion: kubeproxy.config.k8s.io/v1alpha1
bindAddress: 0.0.0.0
bindAddressHardFail: false
clientConnection: {acceptContentTypes: "", burst: 0, contentType: "", kubeconfig: KUBECONFIG, qps: 0}
clusterCIDR: 10.244.0.0/16
configSyncPeriod: 0s
conntrack:
  maxPerCore: null
  min: null
  tcpBeLiberal: false
  tcpCloseWaitTimeout: null
  tcpEstablishedTimeout: null
  udpStreamTimeout: 0s
  udpTimeout: 0s
detectLocal: {bridgeInterface: "", interfaceNamePrefix: ""}
detectLocalMode: ""
enableProfiling: false
healthzBindAddress: ""
hostnameOverride: ""
iptables:
  localhostNodePorts: null
  masqueradeAll: false
  masqueradeBit: null
  minSyncPeriod: 0s
  syncPeriod: 0s
ipvs:
  excludeCIDRs: null
  minSyncPeriod: 0s
  scheduler: ""
  strictARP: false
  syncPeriod: 0s
  tcpFinTimeout: 0s
  tcpTimeout: 0s
  udpTimeout: 0s
kind: KubeProxyConfiguration
logging:
  flushFrequency: 0
  options: {json: {infoBufferSize: "0"}, text: {infoBufferSize: "0"}}
  verbosity: 0
metricsBindAddress: ""
mode: "MODE"
nftables: {masqueradeAll: false, masqueradeBit: null, minSyncPeriod: 0s, syncPeriod: 0s}
nodePortAddresses: null
oomScoreAdj: null
portRange: ""
showHiddenMetricsForVersion: ""
winkernel:
  enableDSR: false
  forwardHealthCheckVip: false
  networkName: ""
  rootHnsEndpointName: ""
  sourceVip: ""
"""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self._path))


@dataclass(frozen=True, slots=True)
class Api:
    """The API server, as everybody who is not ours uses it."""

    path: Path

    def request(self, method: str, url: str, body: object = None, kind: str = "application/json") -> Any:
        connection = _UnixConnection(self.path)
        try:
            connection.request(method, url, json.dumps(body) if body else None, {"Content-Type": kind})
            answer = connection.getresponse()
            said = answer.read()
        finally:
            connection.close()
        assert answer.status < 300, (method, url, said)
        return json.loads(said)

    def create(self, url: str, body: object) -> Any:
        return self.request("POST", url, body)

    def merge(self, url: str, body: object) -> Any:
        return self.request("PATCH", url, body, "application/merge-patch+json")

    def delete(self, url: str) -> None:
        self.request("DELETE", url)

    def answers(self) -> bool:
        try:
            self.request("GET", "/api/v1/namespaces/kube-system")
        except (OSError, AssertionError):
            return False
        return True


def until(
    true: Callable[[], object], said: Callable[[], object] = lambda: "", within_s: float = PATIENCE_S
) -> None:
    """Wait until something is true; errors of the network mean that it is not yet."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            if true():
                return
            why: object = ""
        except OSError as error:
            why = repr(error)
        assert time.monotonic() < deadline, (why, said())
        time.sleep(0.02)


@dataclass(frozen=True, slots=True)
class Pod(Place):
    """A pod that a runtime has attached, and its servers."""

    node: "Node"
    path: Path
    attachment: Attachment
    servers: list[socket.socket]


@dataclass(frozen=True, slots=True)
class Node(Place):
    """A node with the processes that run on it."""

    directory: Path
    mode: str
    runtime: CniRuntime
    children: dict[str, Child] = field(default_factory=dict)

    def http(self, port: int, path: str) -> tuple[int, str]:
        """Return status and body of a page of the node's own loopback address."""
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        connection.sock = self.netns.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            connection.sock.settimeout(5)
            connection.sock.connect(("127.0.0.1", port))
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()


@dataclass
class Cluster:
    """The nodes, the API server, and what runs."""

    directory: LabDirectory
    api: Api
    nodes: list[Node]
    servers: Servers
    log: int
    children: list[Child] = field(default_factory=list)
    pods: dict[str, Pod] = field(default_factory=dict)

    def start(self, netns: NetNs, *words: str | Path) -> Child:
        """Run the command as a process of its own; its end is the cluster's."""
        argv = [sys.executable, "-m", "kubenet", "-v", *words]
        child = spawn(argv, netns=netns, env=ENVIRONMENT, stdout=self.log, stderr=self.log, cwd=ROOT)
        self.children.append(child)
        return child

    def logged(self) -> str:
        return self.directory.log.read_text()[-3000:]

    def kubeconfig(self, account: str, server: str = SERVER) -> Path:
        """Return the kubeconfig of a service account, with a token as by ``kubectl create token``."""
        base = f"/api/v1/namespaces/kube-system/serviceaccounts/{account}/token"
        kind = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest"}
        token = self.api.create(base, {**kind, "spec": {"expirationSeconds": 3600}})["status"]["token"]
        admin = yaml.safe_load((self.directory.path / "api/admin.kubeconfig").read_text())
        ca = admin["clusters"][0]["cluster"]["certificate-authority-data"]
        assert base64.b64decode(ca).startswith(b"-----BEGIN CERT")
        path = self.directory.path / f"{account}.kubeconfig"
        cluster = {"server": f"https://{server}", "certificate-authority-data": ca}
        path.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [{"name": "c", "cluster": cluster}],
                    "users": [{"name": "u", "user": {"token": token}}],
                    "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                    "current-context": "c",
                }
            )
        )
        return path

    def start_agent(self, node: Node) -> None:
        at = node.directory
        node.children["agent"] = self.start(
            node.netns, "agent", "--kubeconfig", self.directory.path / "kubenet-agent.kubeconfig",
            "--node-name", node.name, "--cluster-cidr", "10.244.0.0/16", "--service-cidr", "10.96.0.0/16",
            "--socket", at / "cni.sock", "--state-dir", at / "state", "--sticky-file", at / "sticky.json",
            "--bin-dir", at / "bin", "--conf-dir", at / "net.d",
        )  # fmt: skip

    def start_proxy(self, node: Node) -> None:
        config = node.directory / "config.conf"
        kubeconfig = str(self.directory.path / "kubenet-proxy.kubeconfig")
        config.write_text(KUBE_PROXY_CONF.replace("KUBECONFIG", kubeconfig).replace("MODE", node.mode))
        node.children["proxy"] = self.start(
            node.netns, "proxy", f"--config={config}", f"--hostname-override={node.name}", "--v=2"
        )

    def add_pod(
        self, name: str, node: Node, ports: Sequence[tuple[str, int]] = PORTS, **capabilities: Any
    ) -> Pod:
        """Attach a pod as a runtime does, and start its servers."""
        path = self.directory.netns(f"pod-{name}")
        netns = NetNs.create(path)
        with ExitStack() as undo:
            undo.callback(unpin, path)
            undo.callback(netns.close)
            attachment = Attachment(f"sandbox-{name}", str(path), "eth0", NAMESPACE, name, f"uid-of-{name}")
            result = node.runtime.add(load_network(node.directory / "net.d"), attachment, capabilities)
            undo.callback(node.runtime.detach, attachment, node.directory / "net.d")
            ips = result["ips"]
            assert isinstance(ips, list)
            assert isinstance(ips[0], dict)
            ip = str(ips[0]["address"]).partition("/")[0]
            opened = self.servers.start(netns, name, ports)
            undo.pop_all()
        self.pods[name] = Pod(name, netns, ip, node, path, attachment, opened)
        return self.pods[name]

    def remove_pod(self, name: str) -> None:
        """Detach a pod as a runtime does."""
        pod = self.pods.pop(name)
        self.servers.stop(pod.servers)
        pod.node.runtime.detach(pod.attachment, pod.node.directory / "net.d")
        pod.netns.close()
        unpin(pod.path)

    def remove_pods(self) -> None:
        for name in list(self.pods):
            self.remove_pod(name)

    def service(
        self, name: str, *ports: dict[str, Any], namespace: str = NAMESPACE, **spec: Any
    ) -> dict[str, Any]:
        """Create a Service and return its spec as it was stored."""
        metadata = {"name": name, "labels": spec.pop("labels", {})}
        body = {"apiVersion": "v1", "kind": "Service", "metadata": metadata}
        url = f"/api/v1/namespaces/{namespace}/services"
        stored = self.api.create(url, {**body, "spec": {"ports": list(ports), **spec}})["spec"]
        assert isinstance(stored, dict)
        return stored

    def change(self, name: str, **spec: Any) -> dict[str, Any]:
        """Change a Service and return its spec as it was stored."""
        stored = self.api.merge(f"/api/v1/namespaces/{NAMESPACE}/services/{name}", {"spec": spec})["spec"]
        assert isinstance(stored, dict)
        return stored

    def endpoints(
        self, service: str, pods: Sequence[Place], *ports: SlicePort, slice_name: str = "", **more: bool
    ) -> None:
        """Write an EndpointSlice as the controller would; ``more`` are conditions."""
        conditions = {"ready": True, "serving": True, "terminating": False, **more}
        told = [
            {
                "addresses": [pod.ip],
                "conditions": conditions,
                "nodeName": node_of(pod),
                "targetRef": _reference(pod),
            }
            for pod in pods
        ]
        self.write_slice(service, slice_name or f"{service}-1", told, ports)

    def write_slice(
        self, service: str, name: str, endpoints: list[dict[str, Any]], ports: Sequence[SlicePort]
    ) -> None:
        """Create or replace an EndpointSlice."""
        url = f"{SLICES}/{NAMESPACE}/endpointslices"
        body = slice_of(service, name, endpoints, ports)
        present = [each["metadata"]["name"] for each in self.api.request("GET", url)["items"]]
        if name in present:
            self.api.merge(f"{url}/{name}", body)
        else:
            self.api.create(url, body)


def node_of(place: Place) -> str:
    return place.node.name if isinstance(place, Pod) else place.name


def _reference(place: Place) -> dict[str, str]:
    return {"kind": "Pod", "namespace": NAMESPACE, "name": place.name}


def slice_of(
    service: str, name: str, endpoints: list[dict[str, Any]], ports: Sequence[SlicePort]
) -> dict[str, Any]:
    """Return an EndpointSlice."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": [{"name": each, "protocol": protocol, "port": number} for each, protocol, number in ports],
    }


_KINDS = {
    "ServiceAccount": "/api/v1/namespaces/kube-system/serviceaccounts",
    "ClusterRole": "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
}


def _install(cluster: Cluster) -> None:
    """Bring in what the manifests say of rights, and the Services and Nodes of the cluster."""
    for name in ("agent-rbac.yaml", "proxy.yaml", "dns.yaml"):
        for document in yaml.safe_load_all((ROOT / "deploy" / name).read_text()):
            if document["kind"] in _KINDS:
                cluster.api.create(_KINDS[document["kind"]], document)
            elif document["kind"] == "Service":
                cluster.api.create("/api/v1/namespaces/kube-system/services", document)
    cluster.api.create("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
    api_server = {"addresses": [str(API_SERVER)], "conditions": {"ready": True}}
    cluster.api.create(
        f"{SLICES}/default/endpointslices",
        slice_of("kubernetes", "kubernetes", [api_server], [("https", "TCP", 6443)]),
    )
    for node in cluster.nodes:
        meta = {"name": node.name, "labels": {"kubernetes.io/hostname": node.name}}
        cluster.api.create("/api/v1/nodes", {"metadata": meta})
        addresses = [{"type": "InternalIP", "address": node.ip}, {"type": "Hostname", "address": node.name}]
        conditions = [{"type": "NetworkUnavailable", "status": "True", "reason": "NoRouteCreated"}]
        status = {"status": {"addresses": addresses, "conditions": conditions}}
        cluster.api.merge(f"/api/v1/nodes/{node.name}/status", status)


def _start_dns(cluster: Cluster, node: Node) -> None:
    """Run the DNS server in a pod, with kubeadm's Corefile; it reaches the API by the Service's address."""
    manifests = yaml.safe_load_all((ROOT / "deploy/dns.yaml").read_text())
    (corefile,) = [one["data"]["Corefile"] for one in manifests if one["kind"] == "ConfigMap"]
    path = cluster.directory.path / "Corefile"
    path.write_text(corefile)
    pod = cluster.add_pod("kube-dns", node, ())
    kubeconfig = cluster.kubeconfig("kubenet-dns", f"{CLUSTER_IP}:443")
    cluster.start(pod.netns, "dns", "--conf", path, "--kubeconfig", kubeconfig)
    server = {"addresses": [pod.ip], "conditions": {"ready": True}, "nodeName": node.name}
    ports = (("dns", "UDP", 53), ("dns-tcp", "TCP", 53), ("metrics", "TCP", 9153))
    body = slice_of("kube-dns", "kube-dns-1", [server], ports)
    cluster.api.create(f"{SLICES}/kube-system/endpointslices", body)


def _boot(cluster: Cluster, wire: NetNs) -> None:
    api = cluster.directory.path / "api"
    options = ("--data-dir", api, "--listen", f"0.0.0.0:{SERVER.rpartition(':')[2]}", "--advertise", SERVER)
    cluster.start(wire, "apiserver", *options, "--insecure-listen", f"unix:{cluster.api.path}")
    until(cluster.api.answers, cluster.logged)
    _install(cluster)
    cluster.kubeconfig("kubenet-agent")
    cluster.kubeconfig("kubenet-proxy")
    for node in cluster.nodes:
        cluster.start_agent(node)
        cluster.start_proxy(node)
    for number, node in enumerate(cluster.nodes, 1):  # the controller manager comes after the kubelets
        cidr = f"10.244.{number}.0/24"
        spec = {"podCIDR": cidr, "podCIDRs": [cidr]}
        cluster.api.merge(f"/api/v1/nodes/{node.name}", {"spec": spec})
    for node in cluster.nodes:
        until((node.directory / "net.d/10-kubenet.conflist").exists, cluster.logged)
        until(lambda: node.http(10256, "/healthz")[0] == 200, cluster.logged)  # noqa: B023
    _start_dns(cluster, cluster.nodes[1])


@contextmanager
def running_cluster(modes: Sequence[str]) -> Iterator[Cluster]:
    """A cluster with a node for each of the modes of the proxy; all goes at the end."""
    spec = LabSpec(f"t-real-{os.getpid()}", len(modes))
    directory = LabDirectory(spec.name)
    ledger.claim(directory, Ledger(spec.name, ()))
    with ExitStack() as undo:
        undo.callback(ledger.take_down, directory)
        underlay = undo.enter_context(build_underlay(topology(spec), directory))
        log = os.open(directory.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        undo.callback(os.close, log)
        cluster = Cluster(directory, Api(directory.path / "api.sock"), [], undo.enter_context(Servers()), log)
        for node, mode in zip(topology(spec).nodes, modes, strict=True):
            at = directory.node(node.name)
            at.mkdir(parents=True)
            runtime = CniRuntime((at / "bin",), at / "cache", underlay.nodes[node.name])
            cluster.nodes.append(Node(node.name, underlay.nodes[node.name], str(node.ip), at, mode, runtime))
        undo.callback(lambda: [child.terminate(0.3) for child in cluster.children])
        _boot(cluster, underlay.wire)
        undo.callback(cluster.remove_pods)
        yield cluster
