"""Deployments and ReplicaSets: a pod template, a selector, a number. *Pure.*"""

from collections.abc import Iterator, Mapping

import msgspec

from kubenet.apiserver.names import label_causes
from kubenet.apiserver.registry.declared import fill
from kubenet.apiserver.registry.podspec import fill_pod_spec, pod_spec_causes
from kubenet.apiserver.selectors import selector_causes, selects
from kubenet.apiserver.status import Cause, invalid, required, unsupported
from kubenet.apiserver.strategy import METADATA_FIELDS, FieldLabel, Kind, Strategy
from kubenet.apiserver.tree import (
    copied_table,
    ensure_table,
    int_at,
    set_default,
    strings_at,
    table_at,
    text_at,
)
from kubenet.model.objects import Deployment, Json, JsonValue, ReplicaSet
from kubenet.model.resources import DEPLOYMENTS, REPLICASETS

STRATEGIES = ("Recreate", "RollingUpdate")
NOT_NEGATIVE_FIELDS = ("replicas", "minReadySeconds", "revisionHistoryLimit")
NOT_NEGATIVE = "must be greater than or equal to 0"


class TemplateStrategy(Strategy):
    """Pods of one template; the selector never changes."""

    generation_of = ("spec",)
    has_status = True
    spec_defaults: Mapping[str, JsonValue] = {}
    first_status: Mapping[str, JsonValue] = {}
    restart_policies: tuple[str, ...] = ("Always",)

    def fill_defaults(self, new: Json) -> None:
        spec = ensure_table(new, "spec")
        fill_template(spec)
        fill(spec, self.spec_defaults)

    def fill_create(self, new: Json) -> None:
        new["status"] = copied_table(self.first_status)

    def causes(self, new: Json) -> Iterator[Cause]:
        spec = table_at(new, "spec")
        for key in NOT_NEGATIVE_FIELDS:
            if int_at(spec, key) < 0:
                yield invalid(f"spec.{key}", spec[key], NOT_NEGATIVE)
        yield from self.selector_causes(spec)
        yield from template_causes(spec, "spec", self.restart_policies)

    def selector_causes(self, spec: Json) -> Iterator[Cause]:
        """Yield what is wrong with how the pods are found."""
        yield from _selector_causes(spec)

    def update_causes(self, new: Json, old: Json) -> Iterator[Cause]:
        selector = table_at(new, "spec", "selector")
        if selector != table_at(old, "spec", "selector"):
            yield invalid("spec.selector", selector, "field is immutable")


def fill_template(spec: Json) -> None:
    """Give the pod template of a specification the values it left out."""
    template = ensure_table(spec, "template")
    ensure_table(template, "metadata")
    fill_pod_spec(ensure_table(template, "spec"))


def template_causes(spec: Json, field: str, restart_policies: tuple[str, ...]) -> Iterator[Cause]:
    """Yield what is wrong with the pod template of the specification at ``field``."""
    yield from label_causes(table_at(spec, "template", "metadata"), f"{field}.template.labels")
    yield from pod_spec_causes(table_at(spec, "template", "spec"), f"{field}.template.spec")
    policy = text_at(spec, "template", "spec", "restartPolicy")
    if policy not in restart_policies:
        yield unsupported(f"{field}.template.spec.restartPolicy", policy, restart_policies)


class ReplicaSetStrategy(TemplateStrategy):
    """A number of pods."""

    shape: type[msgspec.Struct] = ReplicaSet
    spec_defaults: Mapping[str, JsonValue] = {"replicas": 1}
    first_status: Mapping[str, JsonValue] = {"replicas": 0}


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
    spec_defaults: Mapping[str, JsonValue] = {
        "replicas": 1,
        "revisionHistoryLimit": 10,
        "progressDeadlineSeconds": 600,
    }
    first_status: Mapping[str, JsonValue] = {}

    def fill_defaults(self, new: Json) -> None:
        super().fill_defaults(new)
        strategy = ensure_table(new, "spec", "strategy")
        set_default(strategy, "type", "RollingUpdate")
        if strategy["type"] == "RollingUpdate":
            rolling = ensure_table(strategy, "rollingUpdate")
            set_default(rolling, "maxUnavailable", "25%")
            set_default(rolling, "maxSurge", "25%")

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
