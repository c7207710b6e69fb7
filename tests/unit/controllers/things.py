"""Objects for the tests of controllers, with the fields that matter as arguments."""

from datetime import UTC, datetime, timedelta

import msgspec

from kubenet.clock import rfc3339
from kubenet.model.objects import (
    Condition,
    Container,
    ContainerPort,
    ContainerStatus,
    Deployment,
    DeploymentSpec,
    DeploymentStrategy,
    LabelSelector,
    ObjectMeta,
    OwnerReference,
    Pod,
    PodIP,
    PodSpec,
    PodStatus,
    PodTemplate,
    ReplicaSet,
    ReplicaSetSpec,
    ReplicaSetStatus,
    RollingUpdate,
)

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


def ago(seconds: float) -> str:
    return rfc3339(NOW - timedelta(seconds=seconds))


def owner(kind: str, uid: str, name: str = "") -> tuple[OwnerReference, ...]:
    return (OwnerReference(kind=kind, name=name or uid, uid=uid, controller=True),)


def pod(  # what a table of pods varies
    name: str = "p",
    *,
    node: str = "n1",
    phase: str = "Running",
    ready: bool = True,
    ready_ago_s: float = 100.0,
    age_s: float = 1000.0,
    restarts: int = 0,
    labels: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None,
    controlled_by: str = "",
    dying: bool = False,
    ips: tuple[str, ...] = ("10.244.1.1",),
    hostname: str = "",
    subdomain: str = "",
    ports: tuple[tuple[str, int], ...] = (),
) -> Pod:
    return Pod(
        metadata=ObjectMeta(
            name=name,
            namespace="ns",
            uid=f"uid-{name}",
            resource_version="1",
            labels={"app": "web"} if labels is None else labels,
            annotations=annotations or {},
            creation_timestamp=ago(age_s),
            deletion_timestamp=ago(-30) if dying else None,
            deletion_grace_period_seconds=30 if dying else None,
            owner_references=owner("ReplicaSet", controlled_by) if controlled_by else (),
        ),
        spec=PodSpec(
            node_name=node,
            hostname=hostname,
            subdomain=subdomain,
            containers=(
                Container(
                    name="c",
                    ports=tuple(ContainerPort(name=key, container_port=number) for key, number in ports),
                ),
            ),
        ),
        status=PodStatus(
            phase=phase,
            pod_ip=ips[0] if ips else "",
            pod_ips=tuple(PodIP(ip=ip) for ip in ips),
            conditions=(
                Condition(
                    type="Ready",
                    status="True" if ready else "False",
                    last_transition_time=ago(ready_ago_s),
                ),
            ),
            container_statuses=(ContainerStatus(name="c", restart_count=restarts),),
        ),
    )


def template(image: str = "v1", **labels: str) -> PodTemplate:
    spec = {"containers": [{"name": "c", "image": image}]}
    return PodTemplate(
        metadata=ObjectMeta(labels={"app": "web", **labels}), spec=msgspec.Raw(msgspec.json.encode(spec))
    )


WEB = LabelSelector(match_labels={"app": "web"})


def replicaset(
    name: str = "web-1",
    *,
    replicas: int = 3,
    have: int = 0,
    available: int = 0,
    image: str = "v1",
    revision: int = 1,
    min_ready_s: int = 0,
    age_s: float = 100.0,
    controlled_by: str = "uid-web",
    dying: bool = False,
) -> ReplicaSet:
    return ReplicaSet(
        metadata=ObjectMeta(
            name=name,
            namespace="ns",
            uid=f"uid-{name}",
            resource_version="7",
            generation=1,
            labels={"app": "web"},
            annotations={"deployment.kubernetes.io/revision": str(revision)},
            creation_timestamp=ago(age_s),
            deletion_timestamp=ago(0) if dying else None,
            owner_references=owner("Deployment", controlled_by) if controlled_by else (),
        ),
        spec=ReplicaSetSpec(
            replicas=replicas, min_ready_seconds=min_ready_s, selector=WEB, template=template(image)
        ),
        status=ReplicaSetStatus(
            replicas=have, ready_replicas=available, available_replicas=available, observed_generation=1
        ),
    )


def deployment(
    *,
    replicas: int = 4,
    image: str = "v1",
    surge: int | str = 1,
    unavailable: int | str = 1,
    strategy: str = "RollingUpdate",
    paused: bool = False,
    history: int = 10,
    annotations: dict[str, str] | None = None,
) -> Deployment:
    return Deployment(
        metadata=ObjectMeta(
            name="web",
            namespace="ns",
            uid="uid-web",
            resource_version="5",
            generation=2,
            annotations=annotations or {},
        ),
        spec=DeploymentSpec(
            replicas=replicas,
            paused=paused,
            selector=WEB,
            template=template(image),
            revision_history_limit=history,
            strategy=DeploymentStrategy(
                type=strategy, rolling_update=RollingUpdate(max_surge=surge, max_unavailable=unavailable)
            ),
        ),
    )
