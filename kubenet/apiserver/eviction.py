"""Whether a disruption budget lets a pod be evicted. *Pure.*

The numbers are counted from the pods at the moment of the eviction: a budget is kept even when no controller
writes its status. How many pods there should be is how many there are.

Source: Kubernetes documentation, "API-initiated Eviction", "Specifying a Disruption Budget".
"""

from collections.abc import Iterable
from math import ceil

from kubenet.apiserver.selectors import selects
from kubenet.apiserver.status import StatusError
from kubenet.apiserver.tree import int_at, strings_at, table_at, tables_at, text_at
from kubenet.model.objects import Json, JsonValue

FINISHED = ("Succeeded", "Failed")


def refusal(pod: Json, budgets: Iterable[Json], pods: Iterable[Json]) -> StatusError | None:
    """Return why a pod may not be evicted; ``budgets`` and ``pods`` are those of its namespace."""
    if text_at(pod, "status", "phase") in FINISHED or text_at(pod, "metadata", "deletionTimestamp"):
        return None
    mine = [budget for budget in budgets if _covers(budget, pod)]
    if len(mine) > 1:
        message = "This pod has more than one PodDisruptionBudget, which the eviction does not support."
        return StatusError(500, "InternalError", message)
    if not mine or not _is_ready(pod):  # one that is not ready gives nothing that a budget counts
        return None
    budget = mine[0]
    covered = [one for one in pods if _covers(budget, one) and _counts(one)]
    healthy, wanted = sum(1 for one in covered if _is_ready(one)), _healthy_least(budget, len(covered))
    if healthy > wanted:
        return None
    name = text_at(budget, "metadata", "name")
    why = f"The disruption budget {name} needs {wanted} healthy pods and has {healthy} currently"
    message = "Cannot evict pod as it would violate the pod's disruption budget."
    causes: list[JsonValue] = [{"reason": "DisruptionBudget", "message": why}]
    return StatusError(429, "TooManyRequests", message, {"causes": causes})


def _covers(budget: Json, pod: Json) -> bool:
    selector = table_at(budget, "spec").get("selector")
    return isinstance(selector, dict) and selects(selector, strings_at(pod, "metadata", "labels"))


def _counts(pod: Json) -> bool:
    gone = text_at(pod, "metadata", "deletionTimestamp") or text_at(pod, "status", "phase") in FINISHED
    return not gone


def _is_ready(pod: Json) -> bool:
    conditions = tables_at(pod, "status", "conditions")
    return any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)


def _healthy_least(budget: Json, expected: int) -> int:
    """Return how many pods must stay healthy."""
    spec = table_at(budget, "spec")
    if "maxUnavailable" in spec:
        return max(0, expected - _share(spec, "maxUnavailable", expected))
    return _share(spec, "minAvailable", expected)


def _share(spec: Json, key: str, expected: int) -> int:
    text = text_at(spec, key)
    if not text.endswith("%"):
        return int_at(spec, key)
    return ceil(int(text[:-1]) * expected / 100)
