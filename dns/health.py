"""Which upstream servers are worth asking, and which first. *Pure*: time and chance come in.

A server that failed some times in a row is down; it is asked again only by probes, until it answers one. If
all are down, asking somebody is better than asking nobody, unless the configuration says otherwise.

Source: manual page of the plugin forward of CoreDNS.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum


class Policy(Enum):
    """Which upstream server is asked first."""

    RANDOM = "random"
    ROUND_ROBIN = "round_robin"
    SEQUENTIAL = "sequential"


@dataclass(frozen=True, slots=True)
class Manners:
    """How upstream servers are asked."""

    policy: Policy = Policy.RANDOM
    max_fails: int = 0  # in a row, until a server is down; 0: it never is
    probe_s: float = 0.5
    fail_fast: bool = False  # when all are down, ask none
    force_tcp: bool = False
    whole: bool = False  # fetch over TCP what was cut, though no client over TCP waits for it
    failover: frozenset[int] = (
        frozenset()
    )  # codes, besides those of failures, that send us to the next server
    probe_name: bytes = b"\0"  # every server knows the root's name servers, or says that it will not tell
    probe_recurse: bool = True


PLAIN = Manners()


class UpstreamHealth:
    """What is remembered of each server, by its number."""

    def __init__(self, servers: int, manners: Manners, draw: Callable[[int], int]) -> None:
        self._manners = manners
        self._draw = draw
        self._fails = [0] * servers
        self._probe_at = [0.0] * servers
        self._turn = -1

    @property
    def any_down(self) -> bool:
        """Whether ``due`` has to be asked from time to time."""
        return any(map(self.is_down, range(len(self._fails))))

    def is_down(self, server: int) -> bool:
        """Return whether a server has failed too often."""
        return 0 < self._manners.max_fails <= self._fails[server]

    def failed(self, server: int, now: float) -> None:
        """No answer came from a server in time."""
        before = self.is_down(server)
        self._fails[server] += 1
        if self.is_down(server) and not before:
            self._probe_at[server] = now + self._manners.probe_s

    def answered(self, server: int) -> None:
        """A server answered, whatever it said."""
        self._fails[server] = 0

    def due(self, now: float) -> list[int]:
        """Return the servers to probe now."""
        found = [server for server, at in enumerate(self._probe_at) if at <= now and self.is_down(server)]
        for server in found:
            self._probe_at[server] = now + self._manners.probe_s
        return found

    def first(self) -> int:
        """Return where a new question begins."""
        match self._manners.policy:
            case Policy.RANDOM:
                return self._draw(len(self._fails)) if len(self._fails) > 1 else 0
            case Policy.ROUND_ROBIN:
                self._turn = (self._turn + 1) % len(self._fails)
                return self._turn
            case Policy.SEQUENTIAL:
                return 0

    def usable(self, server: int) -> int | None:
        """Return ``server``, or the next one that is up; None to ask nobody."""
        count = len(self._fails)
        for step in range(count):
            if not self.is_down((server + step) % count):
                return (server + step) % count
        return None if self._manners.fail_fast else server
