"""A cache that follows the server: the reflector's decisions, carried out.

Callbacks run in the event loop, after the cache has been updated; they poke a reconciler or add to a queue,
and return at once.

Source: client-go tools/cache (SharedInformer).
"""

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Generic

from kubenet.client.cache import Cache, Change, version_number
from kubenet.client.compare import differences, still
from kubenet.client.decoding import ReplyDecoder
from kubenet.client.errors import ApiError
from kubenet.client.packing import Packed, Packing, Whole
from kubenet.client.reflector import (
    PAGE_SIZE,
    Action,
    Broken,
    Ended,
    Event,
    Garbage,
    Input,
    List,
    Page,
    Put,
    Reflector,
    Refused,
    Remove,
    Replace,
    Update,
    Watch,
)
from kubenet.client.transport import ApiClient, selectors
from kubenet.clock import Clock, SystemClock
from kubenet.errors import Unreachable
from kubenet.model.objects import ObjectT
from kubenet.model.resources import Resource

log = logging.getLogger(__name__)

# The server ends a watch at its timeout; silence this much longer means that it, or the way to it, is dead.
WATCH_GRACE_S = 30.0
COMPARE_GRACE_S = 2.0  # for what is on its way when a list and the watch are compared


class Informer(Generic[ObjectT]):
    """Objects of one kind, for ever up to date. ``run`` it as a task."""

    def __init__(  # noqa: PLR0913 - what a watch is made of
        self,
        client: ApiClient,
        resource: Resource,
        type: type[ObjectT],
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        keep: Whole[ObjectT] | Packing[ObjectT] | None = None,
        clock: Clock | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.cache: Cache[ObjectT] = Cache(keep)
        self.resource = resource
        self._client = client
        self._path = resource.path(namespace)
        self._selectors = selectors(label_selector, field_selector)
        self._clock = clock or SystemClock()
        self._jitter = jitter
        self._decoder = ReplyDecoder(type, self._on_skipped)
        self._reflector: Reflector[ObjectT] = Reflector()
        self._callbacks: list[Callable[[Change[ObjectT]], None]] = []
        self._heard_at_s = self._clock.monotonic()
        self._synced = asyncio.Event()

    def on_change(self, callback: Callable[[Change[ObjectT]], None]) -> None:
        """Call ``callback`` for every change from now on; what is in the cache already is not repeated."""
        self._callbacks.append(callback)

    async def wait_synced(self) -> None:
        """Return once the cache has held the whole truth."""
        await self._synced.wait()

    @property
    def silent_s(self) -> float:
        """How long nothing has been heard of the server: no list, no event, no bookmark."""
        return self._clock.monotonic() - self._heard_at_s

    async def compare(self) -> int:
        """List everything once more, repair what the watch did not tell, and return how much that was.

        Raises ApiError, Unreachable; also for a list that cannot be read.
        """
        if not self.cache.synced:
            return 0
        listed, version = await self._whole_list()
        found = differences(self.cache.objects(), listed, version)
        if found:
            await self._clock.sleep(COMPARE_GRACE_S)
            found = still(self.cache.objects(), found)
        for new in found.newer:
            self._apply(Put(new))
        for last in found.gone:
            self._apply(Remove(last))
        missed = len(found.newer) + len(found.gone)
        if missed:
            log.error("%s: the watch did not tell %d changes; repaired", self.resource.group_resource, missed)
        return missed

    async def _whole_list(self) -> tuple[list[ObjectT], str]:
        listed: list[ObjectT] = []
        token = ""
        while True:
            params = self._selectors | {"limit": str(PAGE_SIZE)} | ({"continue": token} if token else {})
            page = self._decoder.page(await self._client.request("GET", self._path, params=params))
            if isinstance(page, Garbage):
                raise Unreachable(f"{self.resource.group_resource}: the reply is not a list")
            listed += (each for each in page.items if not isinstance(each, Packed))
            token = page.continue_token
            if not token:
                return listed, page.resource_version

    async def run(self) -> None:
        """List and watch for ever; ends only by cancellation or a bug."""
        while True:
            action = self._reflector.action
            if action.delay_s:
                await self._clock.sleep(action.delay_s)
            if isinstance(action, List):
                await self._list(action)
            else:
                await self._watch(action)

    async def _list(self, action: List) -> None:
        params = dict(self._selectors)
        if action.limit:
            params["limit"] = str(action.limit)
        if action.continue_token:
            params["continue"] = action.continue_token
        try:
            body = await self._client.request("GET", self._path, params=params)
        except (ApiError, Unreachable) as error:
            self._receive(_as_input(error), str(error))
        else:
            page = self._decoder.page(body)
            if isinstance(page, Page):
                page = replace(page, items=self.cache.shelved(page.items))
            self._receive(page, "the reply is not a list" if isinstance(page, Garbage) else "")

    async def _watch(self, action: Watch) -> None:
        params = self._selectors | {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": action.resource_version,
            "timeoutSeconds": str(action.timeout_s),
        }
        lines = self._client.stream(self._path, params, idle_s=action.timeout_s + WATCH_GRACE_S)
        try:
            async for line in lines:
                event = self._decoder.event(line)
                self._receive(event, _complaint(event))
                if self._reflector.action is not action:
                    return  # an error inside the stream: what still follows belongs to a past
        except (ApiError, Unreachable) as error:
            self._receive(_as_input(error), str(error))
        else:
            self._receive(Ended())
        finally:
            await lines.aclose()

    def _receive(self, what: "Input[ObjectT]", complaint: str = "") -> None:
        if isinstance(what, Page | Event | Ended):
            self._heard_at_s = self._clock.monotonic()
        update = self._reflector.receive(what, self._clock.monotonic(), self._jitter())
        self.cache.resource_version = version_number(self._reflector.resource_version)
        if update is not None:
            self._apply(update)
        if complaint:
            log.warning("%s: %s; %s", self.resource.group_resource, complaint, _plan(self._reflector.action))

    def _apply(self, update: "Update[ObjectT]") -> None:
        match update:
            case Replace(objects):
                changes = self.cache.replacing(objects)
            case Put(new):
                changes = iter([change] if (change := self.cache.put(new)) else [])
            case Remove(last):
                changes = iter([change] if (change := self.cache.remove(last)) else [])
        for change in changes:
            for callback in self._callbacks:
                callback(change)
        if self.cache.synced:
            self._synced.set()

    def _on_skipped(self, key: str, reason: str) -> None:
        log.error("%s %s: skipped, it cannot be read: %s", self.resource.group_resource, key, reason)


def _as_input(error: ApiError | Unreachable) -> Refused | Broken:
    if isinstance(error, ApiError):
        return Refused(error.status, error.retry_after_s, error.version_too_new)
    return Broken()


def _complaint(event: object) -> str:
    match event:
        case Refused(status=410):
            return "the watch fell behind what the server keeps"
        case Refused(status=status):
            return f"the watch was ended by an error (status {status})"
        case Garbage():
            return "the watch sent something that is no event"
        case _:
            return ""


def _plan(action: Action) -> str:
    verb = "list" if isinstance(action, List) else "watch"
    return f"will {verb} again in {action.delay_s:.1f} s"
