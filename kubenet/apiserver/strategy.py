"""What a kind does differently from others: its defaults, its checks, what an update may not touch. *Pure.*

The generic parts (metadata, revisions, deletion) live in ``objects.py``; a kind overrides only what it needs,
in a file of its own under ``registry``.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import msgspec

from kubenet.apiserver.names import NameRule, dns_subdomain
from kubenet.apiserver.status import Cause
from kubenet.model.objects import Json, KubeObject
from kubenet.model.resources import Resource


@dataclass(frozen=True, slots=True)
class FieldLabel:
    """Where a field selector looks, and what it sees when nothing is there."""

    path: tuple[str, ...]
    absent: str = ""


METADATA_FIELDS = {
    "metadata.name": FieldLabel(("metadata", "name")),
    "metadata.namespace": FieldLabel(("metadata", "namespace")),
}


class Strategy:
    """The defaults for a kind without rules of its own."""

    shape: type[msgspec.Struct] = KubeObject
    """The types of the fields that something reads: an object that does not fit is refused."""
    generation_of: tuple[str, ...] = ()
    """The members whose change counts as a new generation."""
    status_keeps: tuple[str, ...] = ()
    """Members of metadata which the status subresource may change, too."""
    has_status = False
    """Whether ``status`` belongs to the status subresource alone."""
    status_on_create = False
    """Whether ``status`` is kept when an object is created."""

    def fill_defaults(self, new: Json) -> None:
        """Give ``new`` the values it left out; called on every create and update."""
        del new

    def fill_create(self, new: Json) -> None:
        """Give ``new`` what only a creation sets."""
        del new

    def fill_update(self, new: Json, old: Json) -> None:
        """Keep in ``new`` what an update may leave out but not change."""
        del new, old

    def causes(self, new: Json) -> Iterator[Cause]:
        """Yield what is wrong with ``new``."""
        del new
        yield from ()

    def update_causes(self, new: Json, old: Json) -> Iterator[Cause]:
        """Yield what may not change from ``old`` to ``new``."""
        del new, old
        yield from ()

    def unknown(self, value: Json) -> list[str]:
        """Return the fields of ``value`` that a custom kind does not have."""
        del value
        return []

    def grace_s(self, old: Json, asked_s: int | None) -> int:
        """Return how many seconds this object stays after a delete; 0 removes it at once."""
        del old, asked_s
        return 0


@dataclass(frozen=True, slots=True)
class Lens:
    """How one kind is seen as another: what is kept, what it is called, and the way there and back."""

    kept_as: "Kind"
    message: str
    shown: Callable[[Json], Json]
    kept: Callable[[Json], Json]


VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True, slots=True)
class Kind:
    """One served kind: its address, its names, its subresources and its rules."""

    resource: Resource
    strategy: Strategy
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: tuple[str, ...] = ()
    name_rule: NameRule = dns_subdomain
    field_labels: Mapping[str, FieldLabel] = field(default_factory=lambda: METADATA_FIELDS)
    verbs: tuple[str, ...] = VERBS
    lens: Lens | None = None  # objects of another kind are seen through it
    custom: bool = False  # defined by an object of the API, not by the table
    kept: bool = True  # otherwise it is a question: answered and forgotten

    @property
    def plural(self) -> str:
        return self.resource.plural

    @property
    def directory(self) -> str:
        """What tells the kind from all others: the plural, with the group if the kind is a custom one."""
        return self.resource.group_resource if self.custom else self.resource.plural

    @property
    def message(self) -> str:
        """What the table of messages calls the kind."""
        if self.lens is not None:
            return self.lens.message
        return "CustomObject" if self.custom else self.resource.kind

    @property
    def prefix(self) -> str:
        """Where all objects of this kind are kept."""
        return f"/registry/{self.directory}/"

    def key(self, namespace: str, name: str) -> str:
        """Return where one object is kept."""
        return f"{self.prefix}{namespace}/{name}" if self.resource.namespaced else f"{self.prefix}{name}"
