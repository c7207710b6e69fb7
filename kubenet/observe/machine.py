"""This machine as a site: one real node of a cluster, and the pods on it.

Pods are found by their processes: a network namespace that has the address of a pod which the API server says
is on this node. Without an API server, or for what it does not know, they are called after their address.
"""

import asyncio
import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from ipaddress import IPv4Address
from pathlib import Path

from kubenet.errors import KubenetError
from kubenet.kernel.hub import is_linked
from kubenet.kernel.netns import NetNs
from kubenet.kernel.rtnl import Rtnl
from kubenet.model.links import LinkState
from kubenet.model.objects import EndpointSlice, Node, Pod, Service
from kubenet.model.resources import ENDPOINTSLICES, NODES, PODS, SERVICES
from kubenet.observe.events import PlaceKind, PlaceName
from kubenet.observe.names import Cluster
from kubenet.observe.place import Place, Site
from kubenet.observe.state import route_to

PINNED = Path("/run/netns")


def machine_site(kubeconfig: Path | None, node_name: str = "") -> Site:
    """Return this node and its pods. Raises KubenetError when the API server does not answer."""
    cluster = asyncio.run(_read(kubeconfig)) if kubeconfig else Cluster()
    with ExitStack() as undo:
        own = undo.enter_context(NetNs.current())
        rtnl = undo.enter_context(Rtnl(own))
        node = rtnl.observe()  # telling of its links, the kernel numbers the namespaces of their other ends
        name = node_name or _own_name(cluster, _addresses(node))
        keys = {pod.status.pod_ip: pod.metadata.key for pod in cluster.pods if _is_here(pod, name)}
        places = [Place(PlaceName(name, PlaceKind.NODE, name), own)]
        for netns in _others(own.inode):
            ip = _pod_address(netns, node) if is_linked(rtnl, netns) else None
            if ip is None or (cluster.pods and str(ip) not in keys):
                netns.close()
                continue
            undo.enter_context(netns)
            places.append(Place(PlaceName(keys.get(str(ip), str(ip)), PlaceKind.POD, name), netns))
        rtnl.close()
        undo.pop_all()
    return Site(tuple(places), cluster)


def _is_here(pod: Pod, node: str) -> bool:
    return pod.spec.node_name == node and not pod.spec.host_network


def _pod_address(netns: NetNs, node: LinkState) -> IPv4Address | None:
    """Return the address that a namespace has as a pod of this node; None if it is none.

    The node has a route to it that is not the overlay's, and where it keeps the pod's MAC address, that one.
    """
    with Rtnl(netns) as rtnl:
        links = rtnl.observe()
    for entry in links.addresses:
        ip, link = entry.interface.ip, links.links.get(entry.ifname)
        if not isinstance(ip, IPv4Address) or ip.is_loopback or link is None:
            continue
        route = route_to(node, ip)
        if route is None or route.unreachable or route.gateway is not None:
            continue
        neighbor = node.neighbors.get((route.ifname, ip))
        if neighbor is None or neighbor.mac == link.mac:
            return ip
    return None


def _own_name(cluster: Cluster, addresses: Iterable[IPv4Address]) -> str:
    """Return the Node whose address this machine has, or its host name."""
    own = {str(ip) for ip in addresses}
    for node in cluster.nodes:
        if any(address.address in own for address in node.status.addresses):
            return node.metadata.name
    return socket.gethostname()


def _addresses(links: LinkState) -> set[IPv4Address]:
    ips = {entry.interface.ip for entry in links.addresses}
    return {ip for ip in ips if isinstance(ip, IPv4Address) and not ip.is_loopback}


def _others(own: int) -> Iterator[NetNs]:
    """Yield each network namespace of the machine but our own, once: of processes, and pinned ones."""
    seen = {own}
    paths = [Path(f"/proc/{pid}/ns/net") for pid in os.listdir("/proc") if pid.isdecimal()]  # noqa: PTH208
    if PINNED.is_dir():
        paths += sorted(PINNED.iterdir())
    for path in paths:
        with suppress(KubenetError, OSError):  # it has ended meanwhile
            if path.stat().st_ino in seen:
                continue
            netns = NetNs.open(path)
            seen.add(netns.inode)
            yield netns


async def _read(kubeconfig: Path) -> Cluster:
    from kubenet.client.kubeconfig import load
    from kubenet.client.transport import ApiClient

    async with ApiClient(load(kubeconfig)) as client:
        return Cluster(
            await client.list(NODES, "", Node),
            await client.list(PODS, "", Pod),
            await client.list(SERVICES, "", Service),
            await client.list(ENDPOINTSLICES, "", EndpointSlice),
        )
