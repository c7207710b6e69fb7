"""A tour of the official Python client: run with a kubeconfig; prints what it saw, one JSON a line."""

import json
import sys

from kubernetes import client, config, dynamic, watch  # type: ignore[import-not-found,unused-ignore]


def tell(**seen: object) -> None:
    print(json.dumps(seen), flush=True)


def main(kubeconfig: str) -> None:
    config.load_kube_config(kubeconfig)
    core, apps = client.CoreV1Api(), client.AppsV1Api()
    tell(version=client.VersionApi().get_code().git_version)
    tell(namespaces=[one.metadata.name for one in core.list_namespace().items])
    labels = {"app": "web"}
    container = client.V1Container(
        name="web", image="web:1", ports=[client.V1ContainerPort(container_port=80)]
    )
    template = client.V1PodTemplateSpec(
        metadata=client.V1ObjectMeta(labels=labels), spec=client.V1PodSpec(containers=[container])
    )
    spec = client.V1DeploymentSpec(
        replicas=2, selector=client.V1LabelSelector(match_labels=labels), template=template
    )
    deployment = client.V1Deployment(metadata=client.V1ObjectMeta(name="web"), spec=spec)
    made = apps.create_namespaced_deployment("default", deployment)
    tell(replicas=made.spec.replicas, surge=made.spec.strategy.rolling_update.max_surge)
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "web", "image": "web:2"}]}}}}
    patched = apps.patch_namespaced_deployment("web", "default", patch)
    tell(image=patched.spec.template.spec.containers[0].image, generation=patched.metadata.generation)
    scale = apps.patch_namespaced_deployment_scale("web", "default", {"spec": {"replicas": 5}})
    tell(scaled=scale.spec.replicas)
    follow(core)
    rules = [client.V1PolicyRule(api_groups=[""], resources=["pods"], verbs=["get"])]
    role = client.V1Role(metadata=client.V1ObjectMeta(name="reader"), rules=rules)
    client.RbacAuthorizationV1Api().create_namespaced_role("default", role)
    asked = client.V1ResourceAttributes(verb="get", resource="pods", namespace="default")
    review = client.V1SelfSubjectAccessReview(
        spec=client.V1SelfSubjectAccessReviewSpec(resource_attributes=asked)
    )
    answered = client.AuthorizationV1Api().create_self_subject_access_review(review)
    tell(allowed=answered.status.allowed)
    try:
        core.read_namespaced_pod("nobody", "default")
    except client.ApiException as error:
        tell(missing=json.loads(error.body)["message"])
    resources = dynamic.DynamicClient(client.ApiClient()).resources.get(api_version="v1", kind="ConfigMap")
    body = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "applied"}, "data": {"a": "1"}}
    resources.server_side_apply(body=body, name="applied", namespace="default", field_manager="me")
    tell(applied=resources.get(name="applied", namespace="default").data.a)


def follow(core: "client.CoreV1Api") -> None:
    """Watch while another call changes something."""
    listed = core.list_namespaced_config_map("default")
    seen = []
    core.create_namespaced_config_map(
        "default", client.V1ConfigMap(metadata=client.V1ObjectMeta(name="c"), data={"a": "1"})
    )
    core.delete_namespaced_config_map("c", "default")
    stream = watch.Watch().stream(
        core.list_namespaced_config_map,
        "default",
        resource_version=listed.metadata.resource_version,
        timeout_seconds=5,
    )
    for event in stream:
        seen.append([event["type"], event["object"].metadata.name])
        if len(seen) == 2:
            break
    tell(events=seen)


if __name__ == "__main__":
    main(sys.argv[1])
