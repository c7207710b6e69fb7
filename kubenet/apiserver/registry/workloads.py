"""Deployments and ReplicaSets: a pod template, a selector, a number. *Pure.*"""

from collections.abc import Iterator

import msgspec

from kubenet.apiserver.names import label_causes
from kubenet.apiserver.registry.podspec import fill_pod_spec, pod_spec_causes
from kubenet.apiserver.selectors import selector_causes, selects
from kubenet.apiserver.status import Cause, invalid, required, unsupported
from kubenet.apiserver.strategy import METADATA_FIELDS, FieldLabel, Kind, Strategy
from kubenet.apiserver.tree import ensure_table, int_at, set_default, strings_at, table_at, text_at
from kubenet.model.objects import Deployment, Json, ReplicaSet
from kubenet.model.resources import DEPLOYMENTS, REPLICASETS

STRATEGIES = ("Recreate", "RollingUpdate")
NOT_NEGATIVE = "must be greater than or equal to 0"


class ReplicaSetStrategy(Strategy):
    """A number of pods of one template; the selector never changes."""

    shape: type[msgspec.Struct] = ReplicaSet
    generation_of = ("spec",)
    has_status = True

    def fill_defaults(self, new: Json) -> None:
        spec = ensure_table(new, "spec")
        set_default(spec, "replicas", 1)
        template = ensure_table(spec, "template")
        ensure_table(template, "metadata")
        fill_pod_spec(ensure_table(template, "spec"))

    def fill_create(self, new: Json) -> None:
        new["status"] = {"replicas": 0}

    def causes(self, new: Json) -> Iterator[Cause]:
        spec = table_at(new, "spec")
        for key in ("replicas", "minReadySeconds", "revisionHistoryLimit"):
            if int_at(spec, key) < 0:
                yield invalid(f"spec.{key}", spec[key], NOT_NEGATIVE)
        yield from _selector_causes(spec)
        yield from label_causes(table_at(spec, "template", "metadata"), "spec.template.labels")
        yield from pod_spec_causes(table_at(spec, "template", "spec"), "spec.template.spec")
        policy = text_at(spec, "template", "spec", "restartPolicy")
        if policy != "Always":
            yield unsupported("spec.template.spec.restartPolicy", policy, ("Always",))

    def update_causes(self, new: Json, old: Json) -> Iterator[Cause]:
        selector = table_at(new, "spec", "selector")
        if selector != table_at(old, "spec", "selector"):
            yield invalid("spec.selector", selector, "field is immutable")


def _selector_causes(spec: Json) -> Iterator[Cause]:
    selector = table_at(spec, "selector")
    if not selector:
        yield required("spec.selector")
        return
    troubles = list(selector_causes(selector, "spec.selector"))
    yield from troubles
    labels = strings_at(spec, "template", "metadata", "labels")
    if not troubles and not selects(selector, labels):
        shown: Json = dict(labels)
        yield invalid("spec.template.metadata.labels", shown, "`selector` does not match template `labels`")


class DeploymentStrategy(ReplicaSetStrategy):
    """A ReplicaSet's fields and a way to get from one template to the next."""

    shape = Deployment

    def fill_defaults(self, new: Json) -> None:
        super().fill_defaults(new)
        spec = ensure_table(new, "spec")
        set_default(spec, "revisionHistoryLimit", 10)
        set_default(spec, "progressDeadlineSeconds", 600)
        strategy = ensure_table(spec, "strategy")
        set_default(strategy, "type", "RollingUpdate")
        if strategy["type"] == "RollingUpdate":
            rolling = ensure_table(strategy, "rollingUpdate")
            set_default(rolling, "maxUnavailable", "25%")
            set_default(rolling, "maxSurge", "25%")

    def fill_create(self, new: Json) -> None:
        new["status"] = {}

    def causes(self, new: Json) -> Iterator[Cause]:
        yield from super().causes(new)
        strategy = text_at(new, "spec", "strategy", "type")
        if strategy not in STRATEGIES:
            yield unsupported("spec.strategy.type", strategy, STRATEGIES)
        rolling = table_at(new, "spec", "strategy", "rollingUpdate")
        if strategy == "RollingUpdate" and all(
            rolling.get(key) in (0, "0%") for key in ("maxUnavailable", "maxSurge")
        ):
            yield invalid(
                "spec.strategy.rollingUpdate.maxUnavailable",
                rolling["maxUnavailable"],
                "may not be 0 when `maxSurge` is 0",
            )


REPLICASET = Kind(
    REPLICASETS,
    ReplicaSetStrategy(),
    short_names=("rs",),
    categories=("all",),
    subresources=("status", "scale"),
    field_labels=METADATA_FIELDS | {"status.replicas": FieldLabel(("status", "replicas"), absent="0")},
)
DEPLOYMENT = Kind(
    DEPLOYMENTS,
    DeploymentStrategy(),
    short_names=("deploy",),
    categories=("all",),
    subresources=("status", "scale"),
)
