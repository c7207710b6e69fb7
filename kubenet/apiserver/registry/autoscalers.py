"""Autoscalers as autoscaling/v1 has them: a view of version 2 with the processor as only aim. *Pure.*

Source: Kubernetes API reference, autoscaling/v1 and v2 HorizontalPodAutoscaler.
"""

from kubenet.apiserver.registry.policies import KINDS, AutoscalerStrategy
from kubenet.apiserver.strategy import Kind, Lens
from kubenet.apiserver.tree import int_at, table_at, tables_at, text_at
from kubenet.model.objects import Json, JsonValue
from kubenet.model.resources import Resource

KEPT = next(kind for kind in KINDS if kind.plural == "horizontalpodautoscalers")
PERCENT = "targetCPUUtilizationPercentage"
_NOT_IN_1 = ("metrics", "behavior", "currentMetrics", "conditions")


def _shown(kept: Json) -> Json:
    shown = {key: value for key, value in kept.items() if key not in ("kind", "apiVersion")}
    for part in ("spec", "status"):
        if part in kept:
            table = table_at(kept, part)
            shown[part] = {key: value for key, value in table.items() if key not in _NOT_IN_1}
    for metric in tables_at(kept, "spec", "metrics"):
        if text_at(metric, "resource", "name") == "cpu":
            percent = int_at(metric, "resource", "target", "averageUtilization")
            shown["spec"] = {**table_at(shown, "spec"), PERCENT: percent}
    return shown


def _kept(shown: Json) -> Json:
    kept = {key: value for key, value in shown.items() if key not in ("kind", "apiVersion")}
    percent = table_at(shown, "spec").get(PERCENT)
    if percent is not None:
        target: Json = {"type": "Utilization", "averageUtilization": percent}
        metric: Json = {"type": "Resource", "resource": {"name": "cpu", "target": target}}
        metrics: list[JsonValue] = [metric]
        spec = {key: value for key, value in table_at(shown, "spec").items() if key != PERCENT}
        kept["spec"] = {**spec, "metrics": metrics}
    return kept


VIEW = Kind(
    Resource("autoscaling", "v1", "horizontalpodautoscalers", "HorizontalPodAutoscaler", True),
    AutoscalerStrategy(),
    short_names=("hpa",),
    categories=("all",),
    subresources=("status",),
    lens=Lens(KEPT, "autoscaling.v1.HorizontalPodAutoscaler", _shown, _kept),
)
