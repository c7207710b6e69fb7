"""Every kind that the server serves: ``ALL`` are kept, ``REVIEWS`` are answered and forgotten. *Pure.*"""

from kubenet.apiserver.registry import (
    access,
    batch,
    cluster,
    endpoints,
    plain,
    pods,
    policies,
    services,
    workloads,
)
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
    *batch.KINDS,
    *policies.KINDS,
    *access.KINDS,
)
REVIEWS = access.REVIEWS
SERVED = (*ALL, *REVIEWS)

NAMESPACE = cluster.NAMESPACE
EVENT = plain.EVENT
NODE = cluster.NODE
POD = pods.KIND
SERVICE = services.KIND
SERVICEACCOUNT = plain.SERVICEACCOUNT

BUDGET = next(kind for kind in policies.KINDS if kind.plural == "poddisruptionbudgets")

BY_PATH = {(kind.resource.group, kind.resource.version, kind.plural): kind for kind in SERVED}
BY_PLURAL = {kind.plural: kind for kind in ALL}
BY_KIND = {(kind.resource.api_version, kind.resource.kind): kind for kind in ALL}

GROUP_VERSIONS = tuple(dict.fromkeys((kind.resource.group, kind.resource.version) for kind in SERVED))
