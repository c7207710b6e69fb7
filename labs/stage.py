"""What every exercise plays with: on each node a client, a web server, and Services. *Pure.*"""

from collections.abc import Iterable

from kubenet.model.objects import Json
from kubenet.model.resources import NAMESPACES, PODS, SERVICES, Resource
from labs.cast import number_of

NAMESPACE = "shop"
WEB_LABELS: Json = {"app": "web"}


def stage_objects(nodes: Iterable[str]) -> list[tuple[Resource, str, Json]]:
    """Return the objects with the namespace of each, in the order in which they are made."""
    named = sorted(nodes)
    namespace: Json = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    return [
        (NAMESPACES, "", namespace),
        (SERVICES, NAMESPACE, service("web")),
        (SERVICES, NAMESPACE, service("web-pods", cluster_ip="None")),
        *((PODS, NAMESPACE, client_pod(node)) for node in named),
        *((PODS, NAMESPACE, web_pod(f"web-{number_of(node)}", node)) for node in named),
    ]


def is_of_stage(pod: str) -> bool:
    """Whether a pod of the namespace is one that is always there."""
    return pod.startswith(("client-", "web-"))


def service(name: str, cluster_ip: str = "") -> Json:
    """Return a Service in front of all web servers."""
    spec: Json = {"selector": WEB_LABELS, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]}
    if cluster_ip:
        spec["clusterIP"] = cluster_ip
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def client_pod(node: str) -> Json:
    """Return the pod from which a user tries things on a node."""
    container: Json = {"name": "client", "image": "kubenet.dev/idle"}
    return _pod(f"client-{number_of(node)}", node, {"app": "client"}, container)


def web_pod(name: str, node: str) -> Json:
    """Return a web server on a node."""
    container: Json = {
        "name": "httpd",
        "image": "kubenet.dev/httpd",
        "ports": [{"name": "http", "containerPort": 8080}],
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": "http"}, "periodSeconds": 1},
    }
    return _pod(name, node, WEB_LABELS, container)


def _pod(name: str, node: str, labels: Json, container: Json) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels},
        "spec": {"nodeName": node, "terminationGracePeriodSeconds": 1, "containers": [container]},
    }
