"""Write events without anybody waiting for it; one that cannot be written is lost, and a line in the log.

Source: client-go tools/record.
"""

import asyncio
import logging
from collections import OrderedDict

from kubenet.client.errors import ObjectExists, ObjectNotFound
from kubenet.client.transport import ApiClient
from kubenet.clock import Clock, SystemClock, rfc3339, rfc3339_micro
from kubenet.errors import KubenetError
from kubenet.model.events import Occurrence, event_object, new_event_object, new_repeated, repeated
from kubenet.model.resources import EVENTS, NEW_EVENTS

log = logging.getLogger(__name__)

MOST_WAITING = 256  # a server that does not answer must not fill our memory
MOST_COUNTED = 4096  # events whose repeats are counted; beyond that the longest silent starts anew


class EventRecorder:
    """One component's events. ``run`` it as a task."""

    def __init__(
        self,
        client: ApiClient,
        component: str,
        host: str = "",
        clock: Clock | None = None,
        *,
        new_form: bool = False,  # events.k8s.io/v1, where the server has it
    ) -> None:
        self._client = client
        self._new_form = new_form
        self._component = component
        self._host = host
        self._clock = clock or SystemClock()
        self._waiting: asyncio.Queue[Occurrence] = asyncio.Queue(MOST_WAITING)
        self._counts: OrderedDict[str, int] = OrderedDict()

    def record(self, what: Occurrence) -> None:
        """Have an event written soon; returns at once."""
        try:
            self._waiting.put_nowait(what)
        except asyncio.QueueFull:
            log.debug("event lost, %d wait already: %s %s", MOST_WAITING, what.reason, what.message)

    async def run(self) -> None:
        """Write events for ever."""
        while True:
            what = await self._waiting.get()
            try:
                await self._write(what)
            except KubenetError as error:
                log.warning("event lost (%s %s): %s", what.reason, what.message, error)

    async def _write(self, what: Occurrence) -> None:
        namespace, name = what.namespace or "default", what.event_name
        count = self._counted(name)
        if count > 1 and await self._repeat(namespace, name, count):
            return
        self._counts[name] = 1
        try:
            await self._create(namespace, what)
        except ObjectExists:
            pass  # an earlier run of this component has said the same

    async def _create(self, namespace: str, what: Occurrence) -> None:
        now = self._clock.now()
        if self._new_form:
            body = new_event_object(what, self._component, self._host, rfc3339_micro(now))
            try:
                await self._client.create(NEW_EVENTS, namespace, body)
            except ObjectNotFound:
                self._new_form = False  # a server without the group
            else:
                return
        body = event_object(what, self._component, self._host, rfc3339(now))
        await self._client.create(EVENTS, namespace, body)

    def _counted(self, name: str) -> int:
        count = self._counts.pop(name, 0) + 1
        self._counts[name] = count
        if len(self._counts) > MOST_COUNTED:
            self._counts.popitem(last=False)
        return count

    async def _repeat(self, namespace: str, name: str, count: int) -> bool:
        """Return whether the server still knew the event."""
        now = self._clock.now()
        try:
            if self._new_form:
                body = new_repeated(count, rfc3339_micro(now))
                await self._client.patch(NEW_EVENTS, namespace, name, body)
            else:
                await self._client.patch(EVENTS, namespace, name, repeated(count, rfc3339(now)))
        except ObjectNotFound:
            return False
        return True
