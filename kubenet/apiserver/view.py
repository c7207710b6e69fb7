"""How objects are shown to a client: as they are, as a Table, or as metadata only. *Pure.*

Source: Kubernetes API concepts, "Receiving resources as Tables", "Alternate representations of resources".
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import yaml

from kubenet.apiserver import codec
from kubenet.apiserver.status import not_acceptable
from kubenet.apiserver.table import printer
from kubenet.apiserver.tree import table_at
from kubenet.model.objects import Json, JsonValue
from kubenet.model.resources import Resource

ACCEPTED = (codec.JSON_TYPE, codec.YAML_TYPE)
INCLUDES = ("None", "Metadata", "Object")


class View(Protocol):
    """A way to write served objects into a response."""

    @property
    def name(self) -> str:
        """What tells this view from others: changes keep their encoded lines by it."""
        ...

    @property
    def content_type(self) -> str: ...

    def one(self, resource: Resource, body: bytes) -> bytes:
        """Return one object."""
        ...

    def many(self, resource: Resource, metadata: Json, bodies: Iterable[bytes]) -> bytes:
        """Return a list of objects."""
        ...


@dataclass(frozen=True, slots=True)
class Plain:
    """Objects as they are, in JSON."""

    name: str = "plain"
    content_type: str = codec.JSON_TYPE

    def one(self, resource: Resource, body: bytes) -> bytes:
        del resource
        return body

    def many(self, resource: Resource, metadata: Json, bodies: Iterable[bytes]) -> bytes:
        return codec.list_body(resource, metadata, bodies)


@dataclass(frozen=True, slots=True)
class Yaml:
    """Objects as they are, in YAML."""

    name: str = "yaml"
    content_type: str = codec.YAML_TYPE

    def one(self, resource: Resource, body: bytes) -> bytes:
        del resource
        return yaml.safe_dump(codec.decoded_table(body)).encode()

    def many(self, resource: Resource, metadata: Json, bodies: Iterable[bytes]) -> bytes:
        return self.one(resource, codec.list_body(resource, metadata, bodies))


@dataclass(frozen=True, slots=True)
class Table:
    """Rows and columns, as ``kubectl get`` prints them; ``now`` is what ages are counted to."""

    now: datetime
    include: str = "Metadata"
    content_type: str = codec.JSON_TYPE

    @property
    def name(self) -> str:
        return f"table:{self.include}"

    def one(self, resource: Resource, body: bytes) -> bytes:
        revision = table_at(codec.decoded_table(body), "metadata").get("resourceVersion")
        return self.many(resource, {"resourceVersion": revision}, (body,))

    def many(self, resource: Resource, metadata: Json, bodies: Iterable[bytes]) -> bytes:
        shown_as = printer(resource)
        definitions: list[JsonValue] = [dict(column.definition()) for column in shown_as.columns]
        rows: list[JsonValue] = []
        for body in bodies:
            value = codec.decoded_table(body)
            row: Json = {"cells": shown_as.cells(value, self.now), "object": self._included(value)}
            rows.append(row)
        return codec.encoded(
            {
                "kind": "Table",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": metadata,
                "columnDefinitions": definitions,
                "rows": rows,
            }
        )

    def _included(self, value: Json) -> JsonValue:
        if self.include == "None":
            return None
        return value if self.include == "Object" else partial(value)


@dataclass(frozen=True, slots=True)
class Partial:
    """Metadata only, for clients that need no more."""

    name: str = "partial"
    content_type: str = codec.JSON_TYPE

    def one(self, resource: Resource, body: bytes) -> bytes:
        del resource
        return codec.encoded(partial(codec.decoded_table(body)))

    def many(self, resource: Resource, metadata: Json, bodies: Iterable[bytes]) -> bytes:
        del resource
        return codec.encoded(
            {
                "kind": "PartialObjectMetadataList",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": metadata,
                "items": [partial(codec.decoded_table(body)) for body in bodies],
            }
        )


@dataclass(frozen=True, slots=True)
class Seen:
    """Objects of one kind as those of another; ``inner`` writes them."""

    inner: View
    resource: Resource
    shown: Callable[[Json], Json]

    @property
    def name(self) -> str:
        return f"{self.inner.name}@{self.resource.group}"

    @property
    def content_type(self) -> str:
        return self.inner.content_type

    def one(self, resource: Resource, body: bytes) -> bytes:
        del resource
        return self.inner.one(self.resource, self._seen(body))

    def many(self, resource: Resource, metadata: Json, bodies: Iterable[bytes]) -> bytes:
        del resource
        return self.inner.many(self.resource, metadata, (self._seen(body) for body in bodies))

    def _seen(self, body: bytes) -> bytes:
        value = codec.decoded_table(body)
        revision = int(str(table_at(value, "metadata").get("resourceVersion") or 0))
        return codec.stamped(self.resource, codec.stored(self.resource, self.shown(value)), revision)


def partial(value: Json) -> Json:
    """Return an object's metadata as an object of its own."""
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": table_at(value, "metadata"),
    }


@dataclass(frozen=True, slots=True)
class MediaRange:
    """One alternative of an Accept header."""

    media_type: str
    parameters: dict[str, str]


def media_ranges(accept: str) -> Sequence[MediaRange]:
    """Return the alternatives of an Accept header in their order; an empty header accepts anything."""
    ranges: list[MediaRange] = []
    for alternative in (accept or "*/*").split(","):
        media_type, *parameters = (part.strip() for part in alternative.split(";"))
        pairs = (parameter.partition("=") for parameter in parameters)
        ranges.append(MediaRange(media_type.lower(), {key.lower(): value for key, _, value in pairs}))
    return ranges


def negotiated(accept: str, include: str, now: datetime) -> View:
    """Return the first view that the client accepts. Raises StatusError (406)."""
    for alternative in media_ranges(accept):
        if view := _view(alternative, include, now):
            return view
    raise not_acceptable(ACCEPTED)


def _view(alternative: MediaRange, include: str, now: datetime) -> View | None:
    wanted, version = alternative.parameters.get("as", ""), alternative.parameters.get("v", "")
    if alternative.media_type == codec.YAML_TYPE and not wanted:
        return Yaml()
    if alternative.media_type not in (codec.JSON_TYPE, "application/*", "*/*"):
        return None
    if not wanted:
        return Plain()
    if version != "v1":
        return None
    if wanted == "Table":
        return Table(now, include if include in INCLUDES else "Metadata")
    return Partial() if wanted in ("PartialObjectMetadata", "PartialObjectMetadataList") else None
