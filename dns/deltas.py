"""What a server tells its workers about the cluster, as octets. *Pure.*

A frame is a length, a kind, the cluster that it is about, and the rest: for objects a key and the object as
JSON, nothing after the key if it is gone. Frames of workers ask for a cluster or tell figures.
"""

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import fields
from enum import IntEnum

import msgspec

from dns.feed import ClusterFeed
from dns.settings import Kubernetes
from kubenet.model.objects import EndpointSlice, KubeObject, Namespace, Pod, Service

_HEAD = struct.Struct("!IB16s")  # length of what follows the head, kind, cluster
_KEY = struct.Struct("!H")

Cluster = bytes  # 16 octets


class Kind(IntEnum):
    SERVICE = 1
    SLICE = 2
    NAMESPACE = 3
    POD = 4
    COMPLETE = 5  # all objects have been told
    FIGURES = 6  # told, or asked for
    FOLLOW = 7  # a worker wants to hear of a cluster
    READY = 8  # a worker answers


_service = msgspec.json.Decoder(Service).decode
_slice = msgspec.json.Decoder(EndpointSlice).decode
_namespace = msgspec.json.Decoder(Namespace).decode
_pod = msgspec.json.Decoder(Pod).decode
_encode = msgspec.json.Encoder().encode


def cluster_of(config: Kubernetes) -> Cluster:
    """Return what names a cluster, the same in every process that reads the same Corefile."""
    values = [getattr(config, each.name) for each in fields(config)]
    texts = [repr(sorted(value)) if isinstance(value, frozenset) else repr(value) for value in values]
    return hashlib.sha256("\n".join(texts).encode()).digest()[:16]


def frame(kind: Kind, cluster: Cluster = bytes(16), content: bytes = b"") -> bytes:
    """Return a frame."""
    return _HEAD.pack(len(content), kind, cluster) + content


def change(kind: Kind, cluster: Cluster, key: str, new: KubeObject | None) -> bytes:
    """Return the frame that tells what an object is now."""
    encoded = key.encode()
    return frame(kind, cluster, _KEY.pack(len(encoded)) + encoded + (_encode(new) if new else b""))


def take(feed: ClusterFeed, kind: Kind, content: bytes) -> None:
    """Tell ``feed`` what a frame says."""
    if kind is Kind.COMPLETE:
        feed.complete()
        return
    size = _KEY.unpack_from(content)[0]
    key, rest = content[_KEY.size : _KEY.size + size].decode(), content[_KEY.size + size :]
    match kind:
        case Kind.SERVICE:
            feed.service(key, _service(rest) if rest else None)
        case Kind.SLICE:
            feed.endpoint_slice(key, _slice(rest) if rest else None)
        case Kind.NAMESPACE:
            feed.namespace(key, _namespace(rest) if rest else None)
        case Kind.POD:
            feed.pod(key, _pod(rest) if rest else None)


class Frames:
    """Takes octets as they come and gives whole frames."""

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, piece: bytes) -> Iterator[tuple[Kind, Cluster, bytes]]:
        """Give the frames that are complete now."""
        buffer, at = self._buffer + piece, 0
        while len(buffer) - at >= _HEAD.size:
            size, kind, cluster = _HEAD.unpack_from(buffer, at)
            end = at + _HEAD.size + size
            if len(buffer) < end:
                break
            yield Kind(kind), cluster, buffer[at + _HEAD.size : end]
            at = end
        self._buffer = buffer[at:]
