"""Which taints a toleration means. *Pure.*

Source: Kubernetes documentation, "Taints and Tolerations".
"""

from kubenet.model.objects import Taint, Toleration


def tolerates(toleration: Toleration, taint: Taint) -> bool:
    """Whether a pod with ``toleration`` bears ``taint``; an empty effect or key means any."""
    if toleration.effect and toleration.effect != taint.effect:
        return False
    if toleration.key and toleration.key != taint.key:
        return False
    if toleration.operator == "Exists":
        return True
    return bool(toleration.key) and toleration.value == taint.value
