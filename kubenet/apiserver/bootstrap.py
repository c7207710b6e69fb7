"""What exists in every cluster from its first moment: four namespaces, the API's own Service, the roles."""

import asyncio
from ipaddress import IPv4Address

from kubenet.apiserver.authorizer import CLUSTER_BINDING, CLUSTER_ROLE
from kubenet.apiserver.cache import Cache
from kubenet.apiserver.kinds import NAMESPACE, SERVICE
from kubenet.apiserver.policy import cluster_role_bindings, cluster_roles
from kubenet.apiserver.query import WriteOptions
from kubenet.apiserver.tree import text_at
from kubenet.apiserver.writes import Writer
from kubenet.model.objects import Json

NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")


async def bootstrap(cache: Cache, writer: Writer, api_address: IPv4Address, port: int) -> None:
    """Create what is missing."""
    for name in NAMESPACES:
        if cache.get(NAMESPACE, "", name) is None:
            await writer.create(NAMESPACE, "", {"metadata": {"name": name}}, WriteOptions())
    if cache.get(SERVICE, "default", "kubernetes") is None:
        await writer.create(SERVICE, "default", api_service(api_address, port), WriteOptions())


async def bootstrap_rights(cache: Cache, writer: Writer) -> None:
    """Create the built-in roles and bindings that are missing."""
    for kind, wanted in ((CLUSTER_ROLE, cluster_roles()), (CLUSTER_BINDING, cluster_role_bindings())):
        missing = [one for one in wanted if cache.get(kind, "", text_at(one, "metadata", "name")) is None]
        creations = (writer.create(kind, "", one, WriteOptions()) for one in missing)
        await asyncio.gather(*creations)  # together they share a commit


def api_service(address: IPv4Address, port: int) -> Json:
    """Return the Service ``kubernetes``: no selector, since the API server is no pod."""
    return {
        "metadata": {
            "name": "kubernetes",
            "labels": {"component": "apiserver", "provider": "kubernetes"},
        },
        "spec": {
            "clusterIP": str(address),
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": port}],
        },
    }
