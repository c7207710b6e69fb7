"""Every kind that the server serves. *Pure.*"""

from kubenet.apiserver.registry import cluster, endpoints, plain, pods, services, workloads
from kubenet.apiserver.strategy import Kind

ALL: tuple[Kind, ...] = (
    plain.CONFIGMAP,
    endpoints.ENDPOINT,
    plain.EVENT,
    cluster.NAMESPACE,
    cluster.NODE,
    pods.KIND,
    plain.SECRET,
    plain.SERVICEACCOUNT,
    services.KIND,
    workloads.DEPLOYMENT,
    workloads.REPLICASET,
    plain.LEASE,
    endpoints.SLICE,
)

NAMESPACE = cluster.NAMESPACE
EVENT = plain.EVENT
NODE = cluster.NODE
POD = pods.KIND
SERVICE = services.KIND

BY_PATH = {(kind.resource.group, kind.resource.version, kind.plural): kind for kind in ALL}
BY_PLURAL = {kind.plural: kind for kind in ALL}
BY_KIND = {(kind.resource.api_version, kind.resource.kind): kind for kind in ALL}

GROUP_VERSIONS = tuple(dict.fromkeys((kind.resource.group, kind.resource.version) for kind in ALL))
