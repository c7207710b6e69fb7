"""Take a snapshot of a site: read every place, probe every pair, ask every DNS server.

Probes are packets that pods may send anyway: an echo request from each to each, a connection to each Service
port from one pod a node, a question to each DNS server.
"""

import errno
import os
import select
import socket
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from ipaddress import IPv4Address

from dns.wire import HEADER_BYTES, RType, read_record_head, skip_name
from kubenet.errors import Malformed
from kubenet.kernel.conntrack import Conntrack
from kubenet.model.packet import TCP, UDP
from kubenet.observe.checks.base import address_of
from kubenet.observe.echo import End, echoed
from kubenet.observe.events import PlaceKind
from kubenet.observe.gather import states_of
from kubenet.observe.names import Names, names_of
from kubenet.observe.place import Place, Site
from kubenet.observe.probe import dns_query
from kubenet.observe.snapshot import Flow, Lookup, Ping, Reach, Snapshot

CONNECT_PATIENCE_S = 0.5
DNS_PATIENCE_S = 0.5
LARGE_BYTES = 1400  # what any underlay of 1500 bytes carries inside VXLAN
DNS_SERVICE = "kube-system/kube-dns"
_RCODES = {0: "NOERROR", 2: "SERVFAIL", 3: "NXDOMAIN", 5: "REFUSED"}

EVERYTHING = frozenset({"pods", "underlay", "cni", "ipam", "overlay", "proxy", "dns", "matrix"})


def survey(site: Site, parts: Collection[str] = EVERYTHING, domain: str = "cluster.local") -> Snapshot:
    """Return the state of all places, and the probes that ``parts`` need."""
    nodes = site.of_kind(PlaceKind.NODE)
    ruled = [*nodes, *site.of_kind(PlaceKind.WIRE)]
    with_rules = {place.name.name for place in ruled} if {"cni", "proxy", "underlay"} & set(parts) else set()
    reading: Iterable[Place] = site.places if {"cni", "overlay", "matrix"} & set(parts) else ruled
    return Snapshot(
        site.cluster,
        states_of(reading, rules=with_rules),
        dict(site.resolvers) if "dns" in parts else {},
        dict(site.records) if "ipam" in parts else {},
        tuple(_flows(nodes)) if "proxy" in parts else (),
        tuple(_pings(site)) if "matrix" in parts else (),
        tuple(_reaches(site)) if "matrix" in parts else (),
        tuple(_lookups(site, domain)) if "dns" in parts else (),
        site.in_lab,
        datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _flows(nodes: Sequence[Place]) -> Iterator[Flow]:
    for place in nodes:
        with Conntrack(place.netns) as table:
            for kind in table.udp(4):
                (to, port), (by, by_port) = kind.sockets()
                if isinstance(to, IPv4Address) and isinstance(by, IPv4Address):
                    yield Flow(place.name.name, to, port, by, by_port)


def _pod_ips(site: Site) -> dict[str, IPv4Address]:
    return {
        pod.metadata.key: IPv4Address(pod.status.pod_ip)
        for pod in site.cluster.pods
        if pod.status.pod_ip and ":" not in pod.status.pod_ip and not pod.spec.host_network
    }


def _pings(site: Site) -> list[Ping]:
    """Send an echo request from every end to every other, and a large one between nodes' first pods."""
    ips = _pod_ips(site)
    pods = [place for place in site.of_kind(PlaceKind.POD) if place.name.name in ips]
    ends = [End(place.name.name, ips[place.name.name], place.netns) for place in pods]
    addresses = {node.metadata.name: address_of(node) for node in site.cluster.nodes}
    for place in site.of_kind(PlaceKind.NODE):
        ip = addresses.get(place.name.name)
        if ip is not None:
            ends.append(End(place.name.name, ip, place.netns))
    pairs = [(one.name, other.name) for one in ends for other in ends if one is not other]
    firsts = list({place.name.node: place.name.name for place in reversed(pods)}.values())
    large = [(one, other) for one in firsts for other in firsts if one != other]
    small_ok = echoed(ends, pairs)
    large_ok = echoed(ends, large, LARGE_BYTES) if large else set()
    return [
        *(Ping(*pair, pair in small_ok) for pair in pairs),
        *(Ping(*pair, pair in large_ok, True) for pair in large),
    ]


def _reaches(site: Site) -> Iterator[Reach]:
    """Connect from the first pod of each node to each TCP port of each Service that has endpoints."""
    names = names_of(site.cluster)
    targets = [
        (ip, port, at) for (ip, number, port), at in names.services.items() if number == TCP and at.endpoints
    ]
    with ExitStack() as undo:
        poller = select.poll()
        waiting: dict[int, tuple[socket.socket, Place, str]] = {}
        for place in _first_pods(site):
            for ip, port, at in targets:
                made = undo.enter_context(place.netns.socket(socket.AF_INET, socket.SOCK_STREAM))
                made.setblocking(False)
                label = f"{at.key} {port}"
                code = made.connect_ex((str(ip), port))
                if code not in (0, errno.EINPROGRESS):
                    yield Reach(place.name.name, place.name.node, label, os.strerror(code).lower(), False)
                    continue
                waiting[made.fileno()] = (made, place, label)
                poller.register(made.fileno(), select.POLLOUT)
        yield from _connected(poller, waiting)


def _connected(
    poller: "select.poll", waiting: dict[int, tuple[socket.socket, Place, str]]
) -> Iterator[Reach]:
    deadline = time.monotonic() + CONNECT_PATIENCE_S
    while waiting and (left_s := deadline - time.monotonic()) > 0:
        for fd, _ in poller.poll(left_s * 1000):
            made, place, label = waiting.pop(fd)
            poller.unregister(fd)
            code = made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            words = os.strerror(code).lower() if code else "connected"
            yield Reach(place.name.name, place.name.node, label, words, not code)
    for _, place, label in waiting.values():
        yield Reach(place.name.name, place.name.node, label, "no answer", False)


def _lookups(site: Site, domain: str) -> Iterator[Lookup]:
    """Ask each endpoint of the cluster's DNS, from a node, for each Service's name."""
    names = names_of(site.cluster)
    servers = sorted({end for at in names.services.values() if at.key == DNS_SERVICE for end in at.endpoints})
    asking = site.of_kind(PlaceKind.NODE)
    wanted = [
        service.metadata for service in site.cluster.services if service.spec.cluster_ip not in ("", "None")
    ]
    for server, port in servers if asking else ():
        place = _node_of(server, names, asking)
        questions = [f"{meta.name}.{meta.namespace}.svc.{domain}" for meta in wanted]
        yield from _asked(place, server, port, questions)
    for place in _first_pods(site) if servers else ():
        for (ip, number, port), at in names.services.items():
            if at.key == DNS_SERVICE and number == UDP:
                yield from _asked(place, ip, port, [f"kubernetes.default.svc.{domain}"])


def _first_pods(site: Site) -> list[Place]:
    """Return a pod of each node."""
    return list({place.name.node: place for place in reversed(site.of_kind(PlaceKind.POD))}.values())


def _node_of(server: IPv4Address, names: Names, nodes: Sequence[Place]) -> Place:
    """Return a node to ask from: another than the server's own, if there is one."""
    home = names.hosts.get(server, "").removeprefix("node ")
    return next((place for place in nodes if place.name.name != home), nodes[0])


def _asked(place: Place, server: IPv4Address, port: int, questions: Sequence[str]) -> Iterator[Lookup]:
    with place.netns.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.settimeout(DNS_PATIENCE_S)
        try:
            made.connect((str(server), port))
            for number, name in enumerate(questions):
                made.send(dns_query(name, number))
        except OSError:
            pass  # counted as no answer below
        left = dict(enumerate(questions))
        while left:
            try:
                answer = made.recv(1500)
            except OSError:
                break
            name = left.pop(int.from_bytes(answer[:2], "big"), "")
            if name:
                rcode = _RCODES.get(answer[3] & 15, str(answer[3] & 15))
                yield Lookup(place.name.node, server, name, tuple(_addresses_in(answer)), rcode)
        for name in left.values():
            yield Lookup(place.name.node, server, name, (), "")


def _addresses_in(answer: bytes) -> Iterator[IPv4Address]:
    """Yield the addresses in the answer to one question (RFC 1035 section 4.1)."""
    try:
        at = skip_name(answer, HEADER_BYTES) + 4
        for _ in range(int.from_bytes(answer[6:8], "big")):
            kind, _, _, start, end = read_record_head(answer, at)
            if kind == RType.A and end - start == 4:
                yield IPv4Address(answer[start:end])
            at = end
    except Malformed:
        return
