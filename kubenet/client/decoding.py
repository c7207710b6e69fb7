"""Replies of the API server become inputs of the reflector. *Pure.*

One object that cannot be decoded (a field of an unexpected type) must not blind a daemon to all others: the
fast decoders take whole pages and events, and only when one fails is it looked at piece by piece.

Source: Kubernetes API concepts, "Efficient detection of changes".
"""

from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

from kubenet.client.errors import decode_status
from kubenet.client.reflector import Event, EventKind, Garbage, Page, Refused
from kubenet.model.objects import KubeObject, ObjectT

T = TypeVar("T")
_BROKEN = (msgspec.DecodeError, UnicodeDecodeError)  # not UTF-8 is the second


class _ListMeta(msgspec.Struct, frozen=True, rename="camel"):
    resource_version: str = ""
    continue_: str = msgspec.field(name="continue", default="")


class ListReply(msgspec.Struct, Generic[T], frozen=True):
    """A page of a list."""

    metadata: _ListMeta = _ListMeta()
    items: list[T] | None = None


class _Event(msgspec.Struct, Generic[T], frozen=True):
    type: str
    object: T


_raw_list = msgspec.json.Decoder(ListReply[msgspec.Raw])
_raw_event = msgspec.json.Decoder(_Event[msgspec.Raw])
_bare = msgspec.json.Decoder(KubeObject)


class ReplyDecoder(Generic[ObjectT]):
    """Decodes lists and watch events of one kind. ``skipped`` is told about objects that do not decode."""

    def __init__(self, type: type[ObjectT], skipped: Callable[[str, str], None]) -> None:
        self._object = msgspec.json.Decoder(type)
        self._list: msgspec.json.Decoder[ListReply[ObjectT]]
        self._list = msgspec.json.Decoder(ListReply[type])  # type: ignore[valid-type]  # known at run time only
        self._event: msgspec.json.Decoder[_Event[ObjectT]]
        self._event = msgspec.json.Decoder(_Event[type])  # type: ignore[valid-type]
        self._skipped = skipped

    def page(self, body: bytes) -> Page[ObjectT] | Garbage:
        """Return the page in a list reply."""
        try:
            return _page(self._list.decode(body))
        except _BROKEN:
            pass
        try:
            raw = _raw_list.decode(body)
        except _BROKEN:
            return Garbage()
        decoded = [each for item in raw.items or () if (each := self._decode(bytes(item))) is not None]
        return _page(ListReply(raw.metadata, decoded))

    def event(self, line: bytes) -> Event[ObjectT] | Refused | Garbage:
        """Return the event in a line of a watch."""
        try:
            event = self._event.decode(line)
            kind = EventKind(event.type)
        except (*_BROKEN, ValueError):
            return self._unusual_event(line)
        version = event.object.metadata.resource_version
        return (
            Event(kind, version, None if kind is EventKind.BOOKMARK else event.object)
            if version
            else Garbage()
        )

    def _unusual_event(self, line: bytes) -> Event[ObjectT] | Refused | Garbage:
        """An ERROR, an object that does not decode, or nonsense."""
        try:
            raw = _raw_event.decode(line)
            if raw.type == "ERROR":
                status = decode_status(bytes(raw.object))
                details = status.details
                wait_s = details.retry_after_seconds if details else None
                return Refused(status.code or 500, wait_s, status.names_a_future_version)
            version = _bare.decode(bytes(raw.object)).metadata.resource_version
            kind = EventKind(raw.type)
        except (*_BROKEN, ValueError):
            return Garbage()
        decoded = self._decode(bytes(raw.object)) if kind is not EventKind.BOOKMARK else None
        return Event(kind, version, decoded) if version else Garbage()

    def _decode(self, item: bytes) -> ObjectT | None:
        try:
            return self._object.decode(item)
        except _BROKEN as error:
            self._skipped(_key(item), str(error))
            return None


def _page(decoded: ListReply[ObjectT]) -> Page[ObjectT] | Garbage:
    meta = decoded.metadata
    if not meta.resource_version:
        return Garbage()
    return Page(decoded.items or [], meta.resource_version, meta.continue_)


def _key(item: bytes) -> str:
    try:
        return _bare.decode(item).metadata.key
    except _BROKEN:
        return "an object without readable metadata"
