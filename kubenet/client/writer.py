"""Carries out writes, and remembers their answers for those who read through ``Recent``."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Generic

from kubenet.client.errors import ObjectNotFound
from kubenet.client.recent import Recent
from kubenet.client.transport import ApiClient, decode
from kubenet.model.objects import ObjectT
from kubenet.model.resources import Resource
from kubenet.model.writes import Create, Delete, Patch, Replace, Write

MOST_AT_ONCE = 32  # writes under way together share a commit of the store


def _sort_of(write: Write) -> object:
    """Return what is equal for writes that may go out together: patches never are."""
    return (type(write), write.resource) if isinstance(write, Create | Delete) else id(write)


@dataclass(frozen=True, slots=True)
class _Memory(Generic[ObjectT]):
    """Where the answers of one kind go."""

    recent: Recent[ObjectT]
    type: type[ObjectT]

    def keep(self, write: Write, answer: bytes) -> None:
        match write:
            case Delete(namespace=namespace, name=name):
                key = f"{namespace}/{name}" if namespace else name
                self.recent.deleted(key, write.uid, write.resource_version)
            case Create(subresource="") | Replace() | Patch():
                self.recent.wrote(decode(answer, self.type))
            case Create():
                pass  # what a binding answers is not the pod


class Writer:
    """The one door for writes of a controller."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client
        self._memories: dict[Resource, Callable[[Write, bytes], None]] = {}

    def remember(self, resource: Resource, recent: Recent[ObjectT], type: type[ObjectT]) -> None:
        """Keep the answers to writes of this kind in ``recent``."""
        self._memories[resource] = _Memory(recent, type).keep

    async def carry_out(self, writes: Iterable[Write]) -> None:
        """Do the writes in order; the first that fails ends it. A delete of what is gone is a success.

        Creations (or deletions) of one kind that follow each other do not depend on each other: they go out
        side by side, more each time all succeeded, so that a quota or a broken template costs one refusal and
        not hundreds. Raises ApiError, Unreachable.
        """
        for _, alike in groupby(writes, key=_sort_of):
            left, size = list(alike), 1
            while left:
                batch, left = left[:size], left[size:]
                await self._side_by_side(batch)
                size = min(size * 2, MOST_AT_ONCE)

    async def _side_by_side(self, batch: Sequence[Write]) -> None:
        if len(batch) == 1:
            await self._carry_out(batch[0])
            return
        ended = await asyncio.gather(*(self._carry_out(write) for write in batch), return_exceptions=True)
        for error in ended:
            if error is not None:
                raise error

    async def _carry_out(self, write: Write) -> None:
        try:
            answer = await self._send(write)
        except ObjectNotFound:
            if not isinstance(write, Delete):
                raise
            return
        if keep := self._memories.get(write.resource):
            keep(write, answer)

    async def _send(self, write: Write) -> bytes:
        client = self._client
        match write:
            case Create(resource, namespace, body, name, subresource):
                return await client.create(resource, namespace, body, name=name, subresource=subresource)
            case Replace(resource, namespace, name, body, subresource):
                return await client.replace(resource, namespace, name, body, subresource=subresource)
            case Patch(resource, namespace, name, body, subresource):
                return await client.patch(resource, namespace, name, body, subresource=subresource)
            case Delete(resource, namespace, name, uid):
                return await client.delete(resource, namespace, name, grace_s=write.grace_s, uid=uid)
