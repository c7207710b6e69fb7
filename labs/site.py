"""A lab as a site: every namespace of it, open, and what its API server says."""

from contextlib import ExitStack
from pathlib import Path

from ipam.audit import findings
from ipam.store import RecordStore
from kubenet.errors import NotFound
from kubenet.kernel.netns import NetNs
from kubenet.kernel.rtnl import Rtnl
from kubenet.model.objects import EndpointSlice, Node, Pod, Service
from kubenet.model.resources import ENDPOINTSLICES, NODES, PODS, SERVICES
from kubenet.observe.events import PlaceKind, PlaceName
from kubenet.observe.names import Cluster
from kubenet.observe.place import Place, Site
from labs import control, ledger
from labs.ledger import LabDirectory
from labs.topology import WIRE


def site_of(name: str, root: Path = ledger.LABS) -> Site:
    """Open a lab's namespaces. Raises NotFound, Unreachable."""
    client = control.client_of(name, root)
    cluster = Cluster(
        client.list(NODES, Node),
        client.list(PODS, Pod),
        client.list(SERVICES, Service),
        client.list(ENDPOINTSLICES, EndpointSlice),
    )
    directory = LabDirectory(name, root)
    with ExitStack() as undo:
        places = []
        for node in (WIRE, *ledger.read(directory).nodes):
            kind = PlaceKind.WIRE if node == WIRE else PlaceKind.NODE
            netns = undo.enter_context(NetNs.open(directory.netns(node)))
            places.append(Place(PlaceName(node, kind, "" if node == WIRE else node), netns))
        for pod in cluster.pods:
            pinned = directory.node(pod.spec.node_name) / "netns" / pod.metadata.uid
            if not pod.spec.node_name or pod.spec.host_network:
                continue
            try:
                netns = undo.enter_context(NetNs.open(pinned))
            except NotFound:
                continue  # it is not started yet, or has ended
            places.append(Place(PlaceName(pod.metadata.key, PlaceKind.POD, pod.spec.node_name), netns))
        undo.pop_all()
    audits = {p.name.name: _audit(directory, p) for p in places if p.name.kind is PlaceKind.NODE}
    return Site(tuple(places), cluster, name, _resolvers(directory, cluster), audits)


def _resolvers(directory: LabDirectory, cluster: Cluster) -> dict[str, tuple[str, ...]]:
    """Return the nameservers that each pod was given."""
    found = {}
    for pod in cluster.pods:
        path = directory.node(pod.spec.node_name) / "pods" / pod.metadata.uid / "resolv.conf"
        if pod.spec.node_name and path.is_file():
            words = [line.split() for line in path.read_text().splitlines()]
            found[pod.metadata.key] = tuple(w[1] for w in words if len(w) > 1 and w[0] == "nameserver")
    return found


def _audit(directory: LabDirectory, place: Place) -> tuple[str, ...]:
    """Return what does not fit between a node's allocation records and its links."""
    store = RecordStore(directory.node(place.name.name) / "agent" / "attachments")
    stored, unreadable = store.load()
    with Rtnl(place.netns) as rtnl:
        return tuple(findings(stored, unreadable, rtnl.observe()))
