"""A daemon's pod for a node, and the node of a daemon's pod. *Pure.*

Source: Kubernetes documentation, "DaemonSet" (how daemon pods are scheduled).
"""

import msgspec

from kubenet.controllers.daemon_nodes import own_tolerations, template_spec
from kubenet.controllers.revisions import HASH_LABEL
from kubenet.controllers.templates import named_pod, template_hash
from kubenet.model.objects import Json, Pod
from kubenet.model.placement import only_node, required_nodes
from kubenet.model.resources import PODS, Resource
from kubenet.model.workloads import DaemonSet
from kubenet.model.writes import Create


def node_of(pod: Pod) -> str:
    """Return the node that a pod is on or made for; empty for one that somebody else has made."""
    return pod.spec.node_name or only_node(required_nodes(pod.spec.affinity))


def new_pod(resource: Resource, daemonset: DaemonSet, node_name: str) -> Create:
    """Return the creation of the pod for a node."""
    template = daemonset.spec.template
    body = named_pod(resource, daemonset, template, **{HASH_LABEL: template_hash(template)})
    spec = body["spec"]
    assert isinstance(spec, dict)
    spec["affinity"] = _only_on(node_name, spec.get("affinity"))
    written, more = spec.get("tolerations"), own_tolerations(template_spec(daemonset))
    spec["tolerations"] = [
        *(written if isinstance(written, list) else ()),
        *(msgspec.to_builtins(each) for each in more),
    ]
    return Create(PODS, daemonset.metadata.namespace, body)


def _only_on(node_name: str, affinity: object) -> Json:
    """Return an affinity that allows one node; it meets what the template asks for."""
    field: Json = {"key": "metadata.name", "operator": "In", "values": [node_name]}
    only: Json = {"nodeSelectorTerms": [{"matchFields": [field]}]}
    others: Json = affinity if isinstance(affinity, dict) else {}
    own = others.get("nodeAffinity")
    required: Json = {"requiredDuringSchedulingIgnoredDuringExecution": only}
    return {**others, "nodeAffinity": {**(own if isinstance(own, dict) else {}), **required}}
