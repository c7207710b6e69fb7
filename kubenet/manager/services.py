"""EndpointSlices and Endpoints: which Services a change concerns, and what a decision gets to read."""

from kubenet.client.writer import Writer
from kubenet.controllers import endpoints, endpointslices
from kubenet.controllers.backends import backends
from kubenet.controllers.decision import Decision
from kubenet.controllers.selectors import has_all
from kubenet.manager.loop import ControlLoop
from kubenet.manager.watched import NAMESPACE, SERVICE, Objects
from kubenet.model.objects import Pod
from kubenet.model.resources import ENDPOINTS, ENDPOINTSLICES
from kubenet.model.writes import delete_of

ZONE_LABEL = "topology.kubernetes.io/zone"


def service_loops(objects: Objects, writer: Writer) -> list[ControlLoop]:
    """Return the loops, wired to the changes that concern them."""
    services = _Services(objects)
    loop = ControlLoop("endpointslices", services.decide, writer, objects.clock)
    objects.services.on_change(lambda each: loop.add(each.metadata.key))
    objects.slices.on_change(lambda each: loop.add(each.service_key) if each.service_key else None)
    objects.endpoints.on_change(lambda each: loop.add(each.metadata.key))
    objects.pods.on_change(lambda pod: loop.add(*services.selecting(pod)))
    return [loop]


class _Services:
    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def selecting(self, pod: Pod) -> list[str]:
        """Return the Services that a pod stands behind, or did."""
        found = self._objects.services.indexed(NAMESPACE, pod.metadata.namespace)
        return [
            each.metadata.key
            for each in found
            if each.spec.selector and has_all(each.spec.selector, pod.metadata.labels)
        ]

    def decide(self, key: str) -> Decision:
        service = self._objects.services.get(key)
        if service is None:
            return self._abandoned(key)
        if not service.spec.selector or service.spec.type == "ExternalName":
            return Decision()  # its endpoints are somebody else's business
        if service.metadata.deletion_timestamp is not None:
            return Decision()
        pods = self._objects.pods.indexed(NAMESPACE, service.metadata.namespace)
        found = backends(service, pods, self._zones())
        slices = self._objects.slices.indexed(SERVICE, key)
        return Decision(
            (
                *endpointslices.decide(service, found, slices),
                *endpoints.decide(service, found, self._objects.endpoints.get(key)),
            )
        )

    def _abandoned(self, key: str) -> Decision:
        """A Service that is gone takes along what was made for it."""
        slices = [each for each in self._objects.slices.indexed(SERVICE, key) if endpointslices.is_ours(each)]
        object_ = self._objects.endpoints.get(key)
        writes = [delete_of(ENDPOINTSLICES, each) for each in slices]
        return Decision((*writes, *([delete_of(ENDPOINTS, object_)] if object_ else [])))

    def _zones(self) -> dict[str, str]:
        nodes = self._objects.nodes.objects().values()
        return {each.metadata.name: zone for each in nodes if (zone := each.metadata.labels.get(ZONE_LABEL))}
