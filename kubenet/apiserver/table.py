"""Which printer shows which kind. *Pure.*"""

from kubenet.apiserver.printers import batch, others, pods, policies, services, workloads
from kubenet.apiserver.printers.base import Printer
from kubenet.apiserver.registry.custom import CustomResource
from kubenet.model.resources import Resource

_PRINTERS: dict[str, Printer] = {
    "configmaps": others.CONFIGMAPS,
    "deployments": workloads.DEPLOYMENTS,
    "endpoints": services.ENDPOINTS,
    "endpointslices": services.ENDPOINTSLICES,
    "events": others.EVENTS,
    "leases": others.LEASES,
    "namespaces": others.NAMESPACES,
    "nodes": others.NODES,
    "pods": pods.PODS,
    "replicasets": workloads.REPLICASETS,
    "secrets": others.SECRETS,
    "serviceaccounts": others.SERVICE_ACCOUNTS,
    "services": services.SERVICES,
    "customresourcedefinitions": policies.CREATED,
    **batch.PRINTERS,
    **policies.PRINTERS,
}


def printer(resource: Resource) -> Printer:
    """Return how a kind is shown as a row; name and age if nothing more is known of it."""
    if isinstance(resource, CustomResource):
        return resource.printer or others.PLAIN
    return _PRINTERS.get(resource.plural, others.PLAIN)
