"""Whether an object may stay, judged by its owners. *Pure.*

Source: Kubernetes documentation, "Owners and Dependents", "Garbage Collection" (cascading deletion).
"""

from collections.abc import Callable, Iterable
from enum import Enum

from kubenet.apiserver.tree import ensure_table, tables_at, text_at, texts_at
from kubenet.model.objects import Json, OwnerReference

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"


class Owner(Enum):
    """What has become of an owner."""

    PRESENT = "present"
    WAITING = "it is deleted and waits for its dependents"
    ABSENT = "absent"


class Verdict(Enum):
    """What becomes of a dependent; the value is how it is deleted."""

    KEEP = ""
    DELETE = "Background"
    DELETE_DEPENDENTS_FIRST = "Foreground"


def verdict(references: Iterable[OwnerReference], state_of: Callable[[OwnerReference], Owner]) -> Verdict:
    """Return what becomes of an object with these owners: one that is present keeps it."""
    states = [state_of(reference) for reference in references]
    if not states or Owner.PRESENT in states:
        return Verdict.KEEP
    return Verdict.DELETE_DEPENDENTS_FIRST if Owner.WAITING in states else Verdict.DELETE


def without_owner(value: Json, uid: str) -> Json:
    """Return an object that forgets one owner."""
    kept = [
        owner for owner in tables_at(value, "metadata", "ownerReferences") if text_at(owner, "uid") != uid
    ]
    ensure_table(value, "metadata")["ownerReferences"] = [*kept]
    return value


def without_finalizer(value: Json, name: str) -> Json:
    """Return an object that one finalizer does not hold any more."""
    kept = [other for other in texts_at(value, "metadata", "finalizers") if other != name]
    ensure_table(value, "metadata")["finalizers"] = [*kept]
    return value
