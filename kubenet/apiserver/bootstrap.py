"""What exists in every cluster from its first moment: four namespaces and the API's own Service."""

from ipaddress import IPv4Address

from kubenet.apiserver.cache import Cache
from kubenet.apiserver.kinds import NAMESPACE, SERVICE
from kubenet.apiserver.query import WriteOptions
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
