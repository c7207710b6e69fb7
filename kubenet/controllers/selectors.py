"""Which labels a selector means. *Pure.*

Source: Kubernetes documentation, "Labels and Selectors"; API reference, LabelSelector.
"""

from collections.abc import Mapping

from kubenet.model.placement import LabelSelector, meets


def selects(selector: LabelSelector, labels: Mapping[str, str]) -> bool:
    """Whether ``labels`` meet every requirement. An empty selector (the API refuses it) selects nothing."""
    if not selector.match_labels and not selector.match_expressions:
        return False
    return has_all(selector.match_labels, labels) and all(
        meets(expression, labels) for expression in selector.match_expressions
    )


def has_all(wanted: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Whether ``labels`` hold all pairs of ``wanted``: the selectors of Services and nodes."""
    return all(labels.get(key) == value for key, value in wanted.items())
