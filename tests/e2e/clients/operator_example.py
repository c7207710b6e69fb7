"""An operator as kopf's documentation writes them: a claim gets a ConfigMap of its own."""

import kopf  # type: ignore[import-not-found,unused-ignore]
from kubernetes import client, config  # type: ignore[import-not-found,unused-ignore]


@kopf.on.startup()  # type: ignore[untyped-decorator,unused-ignore]
def configure(settings: "kopf.OperatorSettings", **_: object) -> None:
    config.load_kube_config()
    settings.posting.enabled = False


@kopf.on.create("example.com", "v1", "claims")  # type: ignore[untyped-decorator,unused-ignore]
def create(spec: dict[str, str], name: str, namespace: str, **_: object) -> dict[str, str]:
    body = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name},
        "data": {"size": spec["size"]},
    }
    kopf.adopt(body)
    client.CoreV1Api().create_namespaced_config_map(namespace, body)
    return {"made": name}


@kopf.on.update("example.com", "v1", "claims", field="spec.size")  # type: ignore[untyped-decorator,unused-ignore]
def update(new: str, name: str, namespace: str, **_: object) -> None:
    client.CoreV1Api().patch_namespaced_config_map(name, namespace, {"data": {"size": new}})


@kopf.on.delete("example.com", "v1", "claims")  # type: ignore[untyped-decorator,unused-ignore]
def delete(name: str, namespace: str, **_: object) -> None:
    marker = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"{name}-was-deleted"}}
    client.CoreV1Api().create_namespaced_config_map(namespace, marker)
