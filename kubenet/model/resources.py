"""The kinds we know and their addresses in the REST API. *Pure.*

Source: Kubernetes API concepts, "Resource URIs".
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind of object as the API serves it."""

    group: str  # "" is the core group
    version: str
    plural: str
    kind: str
    namespaced: bool

    @property
    def api_version(self) -> str:
        """``v1`` or ``apps/v1``: what an object of this kind carries."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def group_resource(self) -> str:
        """``services`` or ``deployments.apps``: what error messages say."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """Return the URL path of the collection, or of one object when ``name`` is given."""
        parts = ["/apis", self.group, self.version] if self.group else ["/api", self.version]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        parts += [part for part in (name, subresource) if part]
        return "/".join(parts)


NAMESPACES = Resource("", "v1", "namespaces", "Namespace", False)
NODES = Resource("", "v1", "nodes", "Node", False)
PODS = Resource("", "v1", "pods", "Pod", True)
SERVICES = Resource("", "v1", "services", "Service", True)
ENDPOINTS = Resource("", "v1", "endpoints", "Endpoints", True)
CONFIGMAPS = Resource("", "v1", "configmaps", "ConfigMap", True)
SECRETS = Resource("", "v1", "secrets", "Secret", True)
EVENTS = Resource("", "v1", "events", "Event", True)
NEW_EVENTS = Resource("events.k8s.io", "v1", "events", "Event", True)  # the same objects in other words
DEPLOYMENTS = Resource("apps", "v1", "deployments", "Deployment", True)
REPLICASETS = Resource("apps", "v1", "replicasets", "ReplicaSet", True)
ENDPOINTSLICES = Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", True)
LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease", True)

# What the API server keeps without any part of kubenet reading it, by group version.
_KEPT = {
    "v1": "limitranges:LimitRange persistentvolumes:PersistentVolume!"
    " persistentvolumeclaims:PersistentVolumeClaim podtemplates:PodTemplate"
    " replicationcontrollers:ReplicationController resourcequotas:ResourceQuota"
    " serviceaccounts:ServiceAccount",
    "apps/v1": "controllerrevisions:ControllerRevision daemonsets:DaemonSet statefulsets:StatefulSet",
    "autoscaling/v2": "horizontalpodautoscalers:HorizontalPodAutoscaler",
    "batch/v1": "cronjobs:CronJob jobs:Job",
    "networking.k8s.io/v1": "ingressclasses:IngressClass! ingresses:Ingress ipaddresses:IPAddress!"
    " networkpolicies:NetworkPolicy servicecidrs:ServiceCIDR!",
    "node.k8s.io/v1": "runtimeclasses:RuntimeClass!",
    "policy/v1": "poddisruptionbudgets:PodDisruptionBudget",
    "rbac.authorization.k8s.io/v1": "clusterroles:ClusterRole! clusterrolebindings:ClusterRoleBinding!"
    " roles:Role rolebindings:RoleBinding",
    "scheduling.k8s.io/v1": "priorityclasses:PriorityClass!",
    "storage.k8s.io/v1": "storageclasses:StorageClass!",
}


def _kept(group_version: str, words: str) -> tuple[Resource, ...]:
    """Return the resources of a line above; ``!`` marks those that belong to no namespace."""
    group, _, version = group_version.rpartition("/")
    pairs = ([*word.rstrip("!").split(":"), word] for word in words.split())
    return tuple(
        Resource(group, version, plural, kind, not word.endswith("!")) for plural, kind, word in pairs
    )


KEPT = tuple(resource for group, words in _KEPT.items() for resource in _kept(group, words))
BY_PLURAL_KEPT = {resource.plural: resource for resource in KEPT}

ALL = (
    NAMESPACES,
    NODES,
    PODS,
    SERVICES,
    ENDPOINTS,
    CONFIGMAPS,
    SECRETS,
    EVENTS,
    DEPLOYMENTS,
    REPLICASETS,
    ENDPOINTSLICES,
    LEASES,
    *KEPT,
)

BY_KIND = {(resource.api_version, resource.kind): resource for resource in ALL}
