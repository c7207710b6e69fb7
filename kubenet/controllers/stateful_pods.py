"""The names of a StatefulSet's pods, and the pods. *Pure.*

Source: Kubernetes documentation, "StatefulSets" (stable network identity, pod labels).
"""

from kubenet.controllers.revisions import HASH_LABEL
from kubenet.controllers.templates import named_pod
from kubenet.model.objects import Pod, PodTemplate
from kubenet.model.resources import PODS, Resource
from kubenet.model.workloads import StatefulSet
from kubenet.model.writes import Create

NAME_LABEL = "statefulset.kubernetes.io/pod-name"
INDEX_LABEL = "apps.kubernetes.io/pod-index"


def ordinal_of(statefulset: StatefulSet, pod: Pod) -> int | None:
    """Return the ordinal in a pod's name, None for a name that the StatefulSet would never give."""
    prefix, _, digits = pod.metadata.name.rpartition("-")
    well_spelt = digits.isascii() and digits.isdecimal() and digits == str(int(digits))
    return int(digits) if prefix == statefulset.metadata.name and well_spelt else None


def new_pod(
    resource: Resource, statefulset: StatefulSet, ordinal: int, template: PodTemplate, revision: str
) -> Create:
    """Return the creation of the pod with an ordinal; its host name is its own, its domain the Service's."""
    name = f"{statefulset.metadata.name}-{ordinal}"
    labels = {NAME_LABEL: name, INDEX_LABEL: str(ordinal), HASH_LABEL: revision}
    body = named_pod(resource, statefulset, template, **labels)
    metadata, spec = body["metadata"], body["spec"]
    assert isinstance(metadata, dict)
    assert isinstance(spec, dict)
    del metadata["generateName"]
    metadata["name"] = name
    spec["hostname"] = name
    if statefulset.spec.service_name:
        spec["subdomain"] = statefulset.spec.service_name
    return Create(PODS, statefulset.metadata.namespace, body)
