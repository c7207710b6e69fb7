"""What the controllers read: one informer a kind, covered by the answers to our own writes."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Generic

from kubenet.client.cache import Change
from kubenet.client.informer import Informer
from kubenet.client.recent import Recent
from kubenet.client.transport import ApiClient
from kubenet.client.writer import Writer
from kubenet.clock import Clock
from kubenet.controllers.cronjobs import CRONJOBS
from kubenet.controllers.daemonsets import DAEMONSETS
from kubenet.controllers.jobs import JOBS
from kubenet.controllers.revisions import REVISIONS
from kubenet.controllers.statefulsets import STATEFULSETS
from kubenet.model.objects import (
    Deployment,
    Endpoints,
    EndpointSlice,
    KubeObject,
    Lease,
    Node,
    ObjectT,
    Pod,
    ReplicaSet,
    Service,
)
from kubenet.model.resources import (
    BY_PLURAL_KEPT,
    DEPLOYMENTS,
    ENDPOINTS,
    ENDPOINTSLICES,
    LEASES,
    NODES,
    PODS,
    REPLICASETS,
    SERVICES,
    Resource,
)
from kubenet.model.workloads import (
    ControllerRevision,
    CronJob,
    DaemonSet,
    Job,
    ReplicationController,
    StatefulSet,
)

REPLICATION_CONTROLLERS = BY_PLURAL_KEPT["replicationcontrollers"]
LEASE_NAMESPACE = "kube-node-lease"
CONTROLLER, NAMESPACE, NODE, SERVICE = "controller", "namespace", "node", "service"


def orphans_of(namespace: str) -> str:
    """Return the value of the index CONTROLLER for objects of a namespace that nobody controls."""
    return f"nobody in {namespace}"  # no uid has a space


class Watched(Generic[ObjectT]):
    """One kind."""

    def __init__(
        self, client: ApiClient, writer: Writer, resource: Resource, type: type[ObjectT], namespace: str = ""
    ) -> None:
        self.informer = Informer(client, resource, type, namespace=namespace)
        self._recent = Recent(self.informer.cache)
        writer.remember(resource, self._recent, type)
        self.get = self._recent.get
        self.objects = self._recent.objects
        self.indexed = self._recent.indexed

    def index(self, name: str, values: Callable[[ObjectT], Iterable[str]]) -> None:
        """Make objects findable by ``values``."""
        self.informer.cache.add_index(name, values)

    def on_change(self, callback: Callable[[ObjectT], None]) -> None:
        """Call ``callback`` with the old and the new state at every change."""

        def both(change: Change[ObjectT]) -> None:
            for state in (change.old, change.new):
                if state is not None:
                    callback(state)

        self.informer.on_change(both)


class Objects:
    """All kinds that the controllers read."""

    def __init__(self, client: ApiClient, writer: Writer, clock: Clock) -> None:
        self.clock = clock
        self.deployments = Watched(client, writer, DEPLOYMENTS, Deployment)
        self.replicasets = Watched(client, writer, REPLICASETS, ReplicaSet)
        self.pods = Watched(client, writer, PODS, Pod)
        self.services = Watched(client, writer, SERVICES, Service)
        self.slices = Watched(client, writer, ENDPOINTSLICES, EndpointSlice)
        self.endpoints = Watched(client, writer, ENDPOINTS, Endpoints)
        self.nodes = Watched(client, writer, NODES, Node)
        self.leases = Watched(client, writer, LEASES, Lease, LEASE_NAMESPACE)
        self.revisions = Watched(client, writer, REVISIONS, ControllerRevision)
        self.daemonsets = Watched(client, writer, DAEMONSETS, DaemonSet)
        self.statefulsets = Watched(client, writer, STATEFULSETS, StatefulSet)
        self.jobs = Watched(client, writer, JOBS, Job)
        self.cronjobs = Watched(client, writer, CRONJOBS, CronJob)
        self.jobs.index(CONTROLLER, _controller)
        self.replication = Watched(client, writer, REPLICATION_CONTROLLERS, ReplicationController)
        self.revisions.index(CONTROLLER, _controller)
        self.replicasets.index(CONTROLLER, _controller)
        self.pods.index(CONTROLLER, _controller)
        self.pods.index(NAMESPACE, lambda pod: (pod.metadata.namespace,))
        self.pods.index(NODE, lambda pod: (pod.spec.node_name,))
        self.services.index(NAMESPACE, lambda service: (service.metadata.namespace,))
        self.slices.index(SERVICE, lambda each: (each.service_key,))
        self.replicasets.index(NAMESPACE, lambda each: (each.metadata.namespace,))
        self._informers = (
            self.deployments.informer,
            self.replicasets.informer,
            self.pods.informer,
            self.services.informer,
            self.slices.informer,
            self.endpoints.informer,
            self.nodes.informer,
            self.leases.informer,
            self.revisions.informer,
            self.daemonsets.informer,
            self.statefulsets.informer,
            self.jobs.informer,
            self.cronjobs.informer,
            self.replication.informer,
        )

    def start(self, group: asyncio.TaskGroup) -> None:
        """Begin to watch."""
        for informer in self._informers:
            group.create_task(informer.run(), name=f"watch {informer.resource.plural}")

    async def wait_synced(self) -> None:
        """Return once every kind has been seen whole."""
        for informer in self._informers:
            await informer.wait_synced()


def controller_key(each: KubeObject, kind: str) -> str:
    """Return the key of the controller, if it is of that kind."""
    for owner in each.metadata.owner_references:
        if owner.controller and owner.kind == kind:
            return f"{each.metadata.namespace}/{owner.name}"
    return ""


def _controller(each: KubeObject) -> tuple[str]:
    return (each.metadata.controller_uid or orphans_of(each.metadata.namespace),)
