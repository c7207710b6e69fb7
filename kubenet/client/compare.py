"""Finds what a watch did not tell: a list beside the cache that the watch keeps. *Pure.*

A watch that has silently lost events leaves a cache wrong for ever, and nothing says so. What differs may
also be on its way, so a difference counts when it is still there a moment later.

Source: Kubernetes API concepts (resourceVersion); CoreDNS issues 3587 and 3879, watches that went silent.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Generic

from kubenet.client.cache import version_number
from kubenet.model.objects import KubeObject, ObjectT


@dataclass(frozen=True, slots=True)
class Differences(Generic[ObjectT]):
    """What the server holds otherwise than the cache."""

    newer: tuple[ObjectT, ...] = ()  # as the server has them
    gone: tuple[ObjectT, ...] = ()  # as the cache has them

    def __bool__(self) -> bool:
        return bool(self.newer or self.gone)


def differences(
    have: Mapping[str, ObjectT], listed: Iterable[ObjectT], resource_version: str
) -> Differences[ObjectT]:
    """Return where the list of ``resource_version`` knows more than ``have``."""
    at = version_number(resource_version)
    keys = set()
    newer: list[ObjectT] = []
    for each in listed:
        key = each.metadata.key
        keys.add(key)
        known = have.get(key)
        if known is None or _version(known) < _version(each):
            newer.append(each)
    gone = tuple(each for key, each in have.items() if key not in keys and _version(each) <= at)
    return Differences(tuple(newer), gone)


def still(have: Mapping[str, ObjectT], found: Differences[ObjectT]) -> Differences[ObjectT]:
    """Return what of ``found`` the watch has not told meanwhile."""

    def is_behind(each: ObjectT) -> bool:
        known = have.get(each.metadata.key)
        return known is None or _version(known) < _version(each)

    gone = tuple(each for each in found.gone if _is_still(have.get(each.metadata.key), each))
    return Differences(tuple(filter(is_behind, found.newer)), gone)


def _is_still(known: KubeObject | None, each: KubeObject) -> bool:
    return known is not None and (known is each or known.metadata == each.metadata)


def _version(each: KubeObject) -> int:
    return version_number(each.metadata.resource_version)
