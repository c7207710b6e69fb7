"""A store in memory: for tests, and for labs that may forget everything."""

from bisect import bisect_right
from operator import attrgetter

from kubenet.store.base import Batch, Event, Gone, Page, Record, Write, check
from kubenet.store.feed import DEFAULT_LIMITS, Feed, FeedLimits, Feeds

REPLAY_PAGE = 500


class MemoryStore:
    """See ``kubenet.store.base.Store``."""

    def __init__(self, limits: FeedLimits = DEFAULT_LIMITS) -> None:
        self._records: dict[str, Record] = {}
        self._log: list[Event] = []  # revisions _compacted + 1, _compacted + 2, ...
        self._revision = 0
        self._compacted = 0
        self._feeds = Feeds()
        self._limits = limits

    async def create(self, key: str, value: bytes) -> int:
        return self._write(Write(key, value, 0))

    async def update(self, key: str, value: bytes, expected: int) -> int:
        return self._write(Write(key, value, expected))

    async def delete(self, key: str, expected: int) -> int:
        return self._write(Write(key, None, expected))

    def _write(self, write: Write) -> int:
        before = self._records.get(write.key)
        check(write, before.revision if before else 0)
        self._revision += 1
        if write.value is None:
            del self._records[write.key]
        else:
            self._records[write.key] = Record(write.key, write.value, self._revision)
        event = Event(self._revision, write.key, write.value, before)
        self._log.append(event)
        self._feeds.push(Batch(self._revision, (event,)))
        return self._revision

    async def get(self, key: str) -> Record | None:
        return self._records.get(key)

    async def range(self, prefix: str, limit: int = 0, start: str = "") -> Page:
        keys = sorted(key for key in self._records if key.startswith(prefix) and key >= start)
        taken = keys[:limit] if limit else keys
        records = tuple(self._records[key] for key in taken)
        return Page(records, self._revision, more=len(taken) < len(keys))

    def watch(self, prefix: str, after: int) -> Feed:
        return self._feeds.add(Feed(prefix, (after, self._revision), self._replay, self._limits))

    async def _replay(self, prefix: str, after: int, head: int) -> Batch:
        if after < self._compacted:
            raise Gone(f"revision {after} is compacted, the log begins after {self._compacted}")
        first = bisect_right(self._log, after, key=attrgetter("revision"))
        page = self._log[first : first + min(REPLAY_PAGE, head - after)]
        return Batch(page[-1].revision, tuple(event for event in page if event.key.startswith(prefix)))

    async def revision(self) -> int:
        return self._revision

    async def compact(self, revision: int) -> None:
        revision = min(revision, self._revision)
        self._log = [event for event in self._log if event.revision > revision]
        self._compacted = max(self._compacted, revision)

    async def close(self) -> None:
        self._feeds.close()
