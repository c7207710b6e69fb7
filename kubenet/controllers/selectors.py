"""Which labels a selector means. *Pure.*

Source: Kubernetes documentation, "Labels and Selectors"; API reference, LabelSelector.
"""

from collections.abc import Mapping

from kubenet.model.objects import LabelExpression, LabelSelector


def selects(selector: LabelSelector, labels: Mapping[str, str]) -> bool:
    """Whether ``labels`` meet every requirement. An empty selector (the API refuses it) selects nothing."""
    if not selector.match_labels and not selector.match_expressions:
        return False
    return has_all(selector.match_labels, labels) and all(
        _meets(expression, labels) for expression in selector.match_expressions
    )


def has_all(wanted: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Whether ``labels`` hold all pairs of ``wanted``: the selectors of Services and nodes."""
    return all(labels.get(key) == value for key, value in wanted.items())


def _meets(expression: LabelExpression, labels: Mapping[str, str]) -> bool:
    match expression.operator:
        case "In":
            return labels.get(expression.key) in expression.values
        case "NotIn":
            return labels.get(expression.key) not in expression.values
        case "Exists":
            return expression.key in labels
        case "DoesNotExist":
            return expression.key not in labels
        case _:
            return False  # the API refuses it; selecting nothing is the harmless mistake
