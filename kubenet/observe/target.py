"""What the words SRC and DST of a command mean. *Pure.*"""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address
from typing import TypeVar

from kubenet.errors import InvalidInput, NotFound
from kubenet.model.objects import KubeObject, Node
from kubenet.model.packet import ICMP, PROTOCOL_NAMES, TCP, UDP
from kubenet.observe.names import Cluster, names_of

PROTOCOLS = {name: number for number, name in PROTOCOL_NAMES.items() if number in (ICMP, TCP, UDP)}
DNS_PORT = 53

NamedT = TypeVar("NamedT", bound=KubeObject)


@dataclass(frozen=True, slots=True)
class Destination:
    """An address, a port (0: the protocol has none, or none was said) and a protocol number."""

    ip: IPv4Address
    port: int
    protocol: int


def destination(text: str, protocol_name: str, cluster: Cluster) -> Destination:
    """Return where ``text`` leads: ``svc/[NS/]NAME``, ``[NS/]POD``, ``NODE``, an address; then ``:PORT``.

    Without a protocol it is the Service's, or TCP, or ICMP where there is no port. Raises NotFound,
    InvalidInput.
    """
    host, port = _host_and_port(text)
    if host.startswith(("svc/", "service/")):
        return _service(host.partition("/")[2], port, protocol_name, cluster)
    ip = _address(host, cluster)
    name = protocol_name or ("tcp" if port else "icmp")
    if port == 0 and name != "icmp":
        raise InvalidInput(f"{text}: {name} needs a port", f"for example {host}:80")
    return Destination(ip, 0 if name == "icmp" else port, PROTOCOLS[name])


def dns_server(text: str, cluster: Cluster) -> Destination:
    """Return which server a DNS question is sent to; without a text, the cluster's. Raises NotFound."""
    if text:
        host, port = _host_and_port(text)
        return Destination(_address(host, cluster), port or DNS_PORT, UDP)
    for service in cluster.services:
        if service.metadata.key == "kube-system/kube-dns":
            return Destination(IPv4Address(service.spec.cluster_ip), DNS_PORT, UDP)
    raise NotFound("the cluster has no Service kube-system/kube-dns", "say --server ADDRESS")


def addresses_of(text: str, cluster: Cluster) -> tuple[IPv4Address, ...]:
    """Return the addresses that a pod, node, Service or address stands for. Raises NotFound."""
    if text.startswith(("svc/", "service/")):
        service = _one(text.partition("/")[2], cluster.services, "svc/")
        names = names_of(cluster)
        ends = {
            ip for at in names.services.values() if at.key == service.metadata.key for ip, _ in at.endpoints
        }
        own = [IPv4Address(service.spec.cluster_ip)] if service.spec.cluster_ip not in ("", "None") else []
        return (*own, *sorted(ends))
    return (_address(text, cluster),)


def _host_and_port(text: str) -> tuple[str, int]:
    host, colon, said = text.rpartition(":")
    if not colon:
        return text, 0
    if not said.isdecimal() or not 1 <= int(said) <= 65535:
        raise InvalidInput(f"{text}: {said!r} is no port", "a port is a number from 1 to 65535")
    return host, int(said)


def _service(words: str, port: int, protocol_name: str, cluster: Cluster) -> Destination:
    service = _one(words, cluster.services, "svc/")
    try:
        ip = IPv4Address(service.spec.cluster_ip)
    except AddressValueError as error:
        raise InvalidInput(
            f"svc/{words}: it has no cluster IP", "trace one of its pods, or ask its name: --proto dns"
        ) from error
    if protocol_name == "icmp":
        return Destination(ip, 0, ICMP)
    for each in service.spec.ports:
        name = each.protocol.lower()
        if port in (0, each.port) and protocol_name in ("", name) and name in PROTOCOLS:
            return Destination(ip, each.port, PROTOCOLS[name])
    if port:
        return Destination(ip, port, PROTOCOLS[protocol_name or "tcp"])
    raise NotFound(f"svc/{words}: it has no port for {protocol_name or 'tcp'}", "say svc/NAME:PORT")


def _address(host: str, cluster: Cluster) -> IPv4Address:
    try:
        return IPv4Address(host)
    except AddressValueError:
        pass
    for node in cluster.nodes:
        if node.metadata.name == host:
            return _internal_ip(node)
    pod = _one(host.removeprefix("pod/"), cluster.pods, "")
    if not pod.status.pod_ip:
        raise NotFound(f"{host}: it has no address yet", "kubenet lab status")
    return IPv4Address(pod.status.pod_ip)


def _internal_ip(node: Node) -> IPv4Address:
    for address in node.status.addresses:
        if address.type == "InternalIP" and ":" not in address.address:
            return IPv4Address(address.address)
    raise NotFound(f"{node.metadata.name}: it has no IPv4 address")


def _one(words: str, objects: Sequence[NamedT], prefix: str) -> NamedT:
    """Return the object of that key; the namespace may be left out if no other has the name."""
    exact = [each for each in objects if each.metadata.key == words]
    found = exact or [each for each in objects if each.metadata.name == words]
    if len(found) == 1:
        return found[0]
    if found:
        raise NotFound(f"{prefix}{words}: which of {', '.join(each.metadata.key for each in found)}?")
    import difflib

    keys = {each.metadata.key: each.metadata.key for each in objects}
    known = {each.metadata.name: each.metadata.key for each in objects} | keys
    near = difflib.get_close_matches(words, known, n=1, cutoff=0.4)
    hint = f"did you mean {prefix}{known[near[0]]}?" if near else "kubenet lab status shows what there is"
    raise NotFound(f"{prefix}{words}: no such {'Service' if prefix else 'pod or node'}", hint)
