"""One lock a name, for as long as somebody wants it."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from kubenet.errors import TimedOut


class KeyedLocks:
    """Lets one thread at a time work on a key; keys do not wait for one another."""

    def __init__(self) -> None:
        self._guard = Lock()
        self._locks: dict[str, tuple[Lock, int]] = {}  # with the number of holders and waiters

    @contextmanager
    def held(self, key: str, timeout_s: float) -> Iterator[None]:
        """Hold the lock of ``key`` during the block. Raises TimedOut."""
        with self._guard:
            lock, users = self._locks.get(key, (Lock(), 0))
            self._locks[key] = lock, users + 1
        try:
            if not lock.acquire(timeout=timeout_s):
                raise TimedOut(f"{key}: another request has been working on it for more than {timeout_s:g} s")
            try:
                yield
            finally:
                lock.release()
        finally:
            with self._guard:
                lock, users = self._locks.pop(key)
                if users > 1:
                    self._locks[key] = lock, users - 1

    def __len__(self) -> int:
        """How many keys are being worked on."""
        return len(self._locks)
