"""Every kind that the server serves: ``ALL`` are kept, ``REVIEWS`` are answered and forgotten. *Pure.*"""

from collections.abc import Callable

from kubenet.apiserver.registry import (
    access,
    autoscalers,
    batch,
    cluster,
    endpoints,
    events,
    plain,
    pods,
    policies,
    services,
    workloads,
)
from kubenet.apiserver.registry.custom import DEFINITION, defined
from kubenet.apiserver.strategy import Kind
from kubenet.apiserver.tree import text_at
from kubenet.model.objects import Json

ALL: tuple[Kind, ...] = (
    plain.CONFIGMAP,
    endpoints.ENDPOINT,
    plain.EVENT,
    cluster.NAMESPACE,
    cluster.NODE,
    pods.KIND,
    plain.SECRET,
    plain.SERVICEACCOUNT,
    services.KIND,
    workloads.DEPLOYMENT,
    workloads.REPLICASET,
    plain.LEASE,
    endpoints.SLICE,
    *batch.KINDS,
    *policies.KINDS,
    *access.KINDS,
    DEFINITION,
)
REVIEWS = access.REVIEWS
SERVED = (*ALL, *REVIEWS, events.VIEW, autoscalers.VIEW)

NAMESPACE = cluster.NAMESPACE
EVENT = plain.EVENT
NODE = cluster.NODE
POD = pods.KIND
SERVICE = services.KIND
SERVICEACCOUNT = plain.SERVICEACCOUNT

BUDGET = next(kind for kind in policies.KINDS if kind.plural == "poddisruptionbudgets")

BY_PATH = {(kind.resource.group, kind.resource.version, kind.plural): kind for kind in SERVED}
BY_PLURAL = {kind.plural: kind for kind in ALL}
BY_KIND = {(kind.resource.api_version, kind.resource.kind): kind for kind in ALL}


class Catalogue:
    """The kinds of one server: the built-in ones, and those that definitions in its store add."""

    def __init__(self) -> None:
        self._custom: dict[str, Kind] = {}  # by the definition's name

    def define(self, definition: Json) -> Kind | None:
        """Take a definition, new or changed; return the kind that it defines, if it serves one."""
        name = text_at(definition, "metadata", "name")
        self._custom.pop(name, None)
        kind = defined(definition)
        if kind is not None and self.at(kind.resource.group, kind.resource.version, kind.plural) is None:
            self._custom[name] = kind
            return kind
        return None

    def forget(self, name: str) -> Kind | None:
        """Drop a definition; return the kind that is gone."""
        return self._custom.pop(name, None)

    @property
    def served(self) -> tuple[Kind, ...]:
        return (*SERVED, *self._custom.values())

    @property
    def group_versions(self) -> tuple[tuple[str, str], ...]:
        return tuple(dict.fromkeys((kind.resource.group, kind.resource.version) for kind in self.served))

    def at(self, group: str, version: str, plural: str) -> Kind | None:
        """Return the kind at a path."""
        found = BY_PATH.get((group, version, plural))
        return found or self._custom_kind(lambda kind: _place(kind) == (group, version, plural))

    def of_kind(self, api_version: str, kind_name: str) -> Kind | None:
        """Return the kind that an object says it is of."""
        asked = (api_version, kind_name)
        found = BY_KIND.get(asked)
        return found or self._custom_kind(
            lambda kind: (kind.resource.api_version, kind.resource.kind) == asked
        )

    def in_directory(self, directory: str) -> Kind | None:
        """Return the kind that is kept in a directory of the store."""
        return BY_PLURAL.get(directory) or self._custom.get(directory)

    def _custom_kind(self, fits: Callable[[Kind], bool]) -> Kind | None:
        return next((kind for kind in self._custom.values() if fits(kind)), None)


def _place(kind: Kind) -> tuple[str, str, str]:
    return kind.resource.group, kind.resource.version, kind.plural


BUILT_IN = Catalogue()
"""For whoever asks about the built-in kinds only; nothing is ever defined in it."""
