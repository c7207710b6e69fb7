"""Where Services, EndpointSlices and our own Node come from: the API, or a file.

Source: Kubernetes API concepts; kube-proxy's selectors.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Protocol

import msgspec

from kubenet.client.cache import Change
from kubenet.client.informer import Informer
from kubenet.client.manifest import Manifest, parse
from kubenet.client.packing import Packing
from kubenet.client.recorder import EventRecorder
from kubenet.client.transport import ApiClient
from kubenet.errors import InvalidInput, InvalidManifest, KubenetError
from kubenet.model.objects import EndpointSlice, KubeObject, Node, ObjectT, Service
from kubenet.model.resources import ENDPOINTSLICES, NODES, SERVICES
from proxy.ports import ObjectKind
from proxy.tidings import Tiding, occurrence_of
from proxy.track import NOT_OURS, ServiceObjects, together
from proxy.trim import Trimmer, is_small

log = logging.getLogger(__name__)

ZONE_LABEL = "topology.kubernetes.io/zone"
COMPONENT = "kubenet-proxy"  # who tells, in events
POLL_S = 0.2  # how often a file is looked at: one stat(2) a time
_BY_SERVICE = "service"  # the index of slices
_SELECTOR = ",".join(f"!{label}" for label in sorted(NOT_OURS))


@dataclass(frozen=True, slots=True)
class SourceChange:
    """Something that may matter. ``keys`` name the Services to look at again; none for our Node."""

    keys: Collection[str] = ()
    new: KubeObject | None = None  # None when it went


OnChange = Callable[[SourceChange], None]


class Source(Protocol):
    """What the proxy knows of the cluster. Objects never change; a new state is a new object."""

    def services(self) -> Mapping[str, Service]:
        """Return the Services as they are now, by namespace/name."""
        ...

    def slices(self) -> Mapping[str, EndpointSlice]:
        """Return the EndpointSlices as they are now, by namespace/name."""
        ...

    def node(self) -> Node | None:
        """Return the Node we are on, if there is such an object."""
        ...

    def look(self, keys: Collection[str] | None = None) -> Collection[ServiceObjects]:
        """Return the Services ``keys``, there or gone, each with its slices; None asks for all there are."""
        ...

    def on_change(self, callback: OnChange) -> None:
        """Call ``callback`` in the loop whenever something has changed that may matter."""
        ...

    def tell(self, tiding: Tiding) -> None:
        """Let whoever made an object know, if there is a way; returns at once."""
        ...

    async def run(self) -> None:
        """Follow the cluster for ever."""
        ...

    async def wait_synced(self) -> None:
        """Return once everything has been heard of (row 6)."""
        ...


class Everything(Collection[ServiceObjects]):
    """All Services, each with its slices, made one by one: as a whole they would be most of the memory."""

    def __init__(
        self,
        services: Mapping[str, Service],
        slices: Mapping[str, EndpointSlice],
        groups: Mapping[str, Sequence[str]],
    ) -> None:
        """``groups`` are the keys of slices by Service."""
        self._services = services
        self._slices = slices
        self._groups = groups

    def __iter__(self) -> Iterator[ServiceObjects]:
        for key in self._keys():
            slices = [self._slices[each] for each in self._groups.get(key, ())]
            yield ServiceObjects(key, self._services.get(key), slices)

    def __len__(self) -> int:
        return len(self._keys())

    def __contains__(self, each: object) -> bool:
        return any(each == other for other in self)

    def _keys(self) -> Collection[str]:
        return dict.fromkeys(chain(self._services, self._groups)).keys()


class ApiSource:
    """An API server, watched."""

    def __init__(self, client: ApiClient, node_name: str) -> None:
        trim = Trimmer()
        self._services = Informer(
            client, SERVICES, Service, label_selector=_SELECTOR, keep=Packing(Service, trim.service)
        )
        keep = Packing(EndpointSlice, trim.slice, is_small)
        self._slices = Informer(client, ENDPOINTSLICES, EndpointSlice, label_selector=_SELECTOR, keep=keep)
        self._nodes = Informer(client, NODES, Node, field_selector=f"metadata.name={node_name}")
        self._node_name = node_name
        self._recorder = EventRecorder(client, COMPONENT, node_name, new_form=True)
        self._slices.cache.add_index(_BY_SERVICE, lambda piece: (piece.service_key,))

    def services(self) -> Mapping[str, Service]:
        return self._services.cache.objects()

    def slices(self) -> Mapping[str, EndpointSlice]:
        return self._slices.cache.objects()

    def node(self) -> Node | None:
        return self._nodes.cache.get(self._node_name)

    def look(self, keys: Collection[str] | None = None) -> Collection[ServiceObjects]:
        if keys is None:
            groups = self._slices.cache.index_keys(_BY_SERVICE)
            return Everything(self.services(), self.slices(), groups)
        services, slices = self._services.cache, self._slices.cache
        return [ServiceObjects(key, services.get(key), slices.indexed(_BY_SERVICE, key)) for key in keys]

    def on_change(self, callback: OnChange) -> None:
        self._services.on_change(lambda change: callback(SourceChange((change.key,), change.new)))
        self._slices.on_change(lambda change: callback(SourceChange(_owners(change), change.new)))
        # A node tells of itself every few seconds; hardly ever is it anything for us.
        self._nodes.on_change(
            lambda change: (
                callback(SourceChange(new=change.new)) if facts(change.old) != facts(change.new) else None
            )
        )

    def tell(self, tiding: Tiding) -> None:
        cache = self._services.cache if tiding.kind is ObjectKind.SERVICE else self._slices.cache
        about = cache.get(tiding.key)
        if about is not None:
            self._recorder.record(occurrence_of(tiding, about))

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._recorder.run())
            group.create_task(self._services.run())
            group.create_task(self._slices.run())
            group.create_task(self._nodes.run())

    async def wait_synced(self) -> None:
        await self._services.wait_synced()
        await self._slices.wait_synced()
        await self._nodes.wait_synced()


def _owners(change: Change[EndpointSlice]) -> Collection[str]:
    """Return whose slice it was, and is: a label can change."""
    return {piece.service_key for piece in (change.old, change.new) if piece}


def facts(node: Node | None) -> tuple[object, ...]:
    """Return what we look at of a Node."""
    if node is None:
        return ()
    taints = {taint.key for taint in node.spec.taints}
    meta = node.metadata
    networks = node.spec.pod_cidr, node.spec.pod_cidrs
    return meta.labels.get(ZONE_LABEL), taints, meta.deletion_timestamp, node.status.addresses, networks


class FileSource:
    """A file of manifests, read again when it changes. If it cannot be read, what was read before stays."""

    def __init__(self, path: Path, node_name: str = "") -> None:
        self._path = path
        self._node_name = node_name
        self._seen: object = None
        self._services: dict[str, Service] = {}
        self._slices: dict[str, EndpointSlice] = {}
        self._node: Node | None = None
        self._callbacks: list[OnChange] = []

    def load(self) -> None:
        """Read the file. Raises InvalidInput (it cannot be opened), InvalidManifest, UnknownKind."""
        try:
            self._seen = self._stamp()
            text = self._path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInput(f"{self._path}: cannot be read: {error}") from error
        manifests = parse(_unlisted(text, str(self._path)), str(self._path)) if text.strip() else ()
        services = self._of_kind("Service", Service, manifests)
        slices = self._of_kind("EndpointSlice", EndpointSlice, manifests)
        nodes = self._of_kind("Node", Node, manifests)
        # What has not changed stays the same object: nobody has to look at it again.
        self._services = {key: _kept(self._services.get(key), new) for key, new in services.items()}
        self._slices = {key: _kept(self._slices.get(key), new) for key, new in slices.items()}
        self._node = nodes.get(self._node_name)

    def services(self) -> Mapping[str, Service]:
        return self._services

    def slices(self) -> Mapping[str, EndpointSlice]:
        return self._slices

    def node(self) -> Node | None:
        return self._node

    def look(self, keys: Collection[str] | None = None) -> Collection[ServiceObjects]:
        all_ = together(self._services.values(), self._slices.values())
        if keys is None:
            return list(all_)
        there = {each.key: each for each in all_ if each.key in keys}
        return [there.get(key) or ServiceObjects(key, None) for key in keys]

    def on_change(self, callback: OnChange) -> None:
        self._callbacks.append(callback)

    def tell(self, tiding: Tiding) -> None:
        """Tell nobody: the log has it."""

    async def run(self) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            if self._stamp() == self._seen:
                continue
            services, slices = self._services, self._slices
            try:
                self.load()
            except KubenetError as error:
                log.warning("proxy: %s; what was read before stays", error)
                continue
            keys = _differing(services, self._services)
            for key in _differing(slices, self._slices):
                keys |= {piece.service_key for piece in (slices.get(key), self._slices.get(key)) if piece}
            for callback in self._callbacks:
                callback(SourceChange(keys))

    async def wait_synced(self) -> None:
        self.load()

    def _stamp(self) -> object:
        try:
            now = self._path.stat()
        except OSError:
            return None
        return now.st_mtime_ns, now.st_size, now.st_ino

    def _of_kind(
        self, kind: str, type_: type[ObjectT], manifests: tuple[Manifest, ...]
    ) -> dict[str, ObjectT]:
        found = {}
        for manifest in manifests:
            if manifest.resource.kind == kind:
                thing = self._converted(manifest, type_)
                found[thing.metadata.key] = thing
        return found

    def _converted(self, manifest: Manifest, type_: type[ObjectT]) -> ObjectT:
        try:
            return msgspec.convert(manifest.body, type_)
        except msgspec.ValidationError as error:
            raise InvalidManifest(f"{self._path}: {manifest}: {error}") from error


def _differing(before: Mapping[str, ObjectT], after: Mapping[str, ObjectT]) -> set[str]:
    return {key for key in before.keys() | after.keys() if before.get(key) is not after.get(key)}


def _kept(old: ObjectT | None, new: ObjectT) -> ObjectT:
    return old if old is not None and old == new else new


def _unlisted(text: str, source: str) -> str:
    """Return ``text`` with a JSON List, as kubectl prints it, turned into documents of their own."""
    if not text.lstrip().startswith("{"):
        return text
    try:
        whole: object = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise InvalidManifest(f"{source}: not JSON: {error}") from error
    items = whole.get("items") if isinstance(whole, dict) and whole.get("kind") == "List" else None
    if not isinstance(items, list):
        return text
    return "\n---\n".join(msgspec.json.encode(item).decode() for item in items)
