"""What programs a kernel: the one interface behind which iptables and nftables differ. *Pure.*"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from kubenet.errors import KubenetError
from proxy.policy import ServingPort
from proxy.ports import NodeNetwork, ServicePortName
from proxy.view import PortChange


class ProxyMode(Enum):
    """What programs the kernel, as kube-proxy calls it."""

    IPTABLES = "iptables"
    NFTABLES = "nftables"


@dataclass(frozen=True, slots=True)
class Applied:
    """What one ``apply`` wrote. Nothing at all when the kernel held it already."""

    written: int = 0  # chains or elements that were made or replaced
    removed: int = 0
    observed: bool = False  # whether the kernel's state had to be read first
    # How many rules each table holds, and how many of them were written; where there are such.
    rules: Mapping[str, int] = field(default_factory=dict, compare=False)
    rules_written: Mapping[str, int] = field(default_factory=dict, compare=False)

    @property
    def unchanged(self) -> bool:
        return not (self.written or self.removed)


class StateUnknown(KubenetError):
    """Nobody can say what the kernel holds: it has to be read."""


class Backend(Protocol):
    """Makes the kernel of one node do, in one family, what ``serving`` says. Calls block; one at a time."""

    def apply(self, serving: Sequence[ServingPort]) -> Applied:
        """Make it so, in one transaction a table. After a refusal the next call reads the kernel first.

        Raises KubenetError; packets then go where they went before.
        """
        ...

    def apply_changed(self, changed: Mapping[ServicePortName, ServingPort | None]) -> Applied:
        """Make it so for some service ports (None: gone); the others stay as they were applied.

        Raises StateUnknown, and then ``apply`` everything; any other KubenetError as ``apply`` does.
        """
        ...

    def move(self, network: NodeNetwork) -> None:
        """Have the node's network be another from the next ``apply`` on."""
        ...

    def fileno(self) -> int:
        """Return what is readable when somebody may have written to the rules; the next ``apply`` looks.

        -1 where the kernel does not tell.
        """
        ...

    @property
    def disturbed(self) -> bool:
        """Whether somebody else is known to have written to the rules since the last ``apply``."""
        ...

    def close(self) -> None:
        """Let go of the kernel; the rules stay."""
        ...

    def drifted(self) -> Sequence[str]:
        """Return the names of what somebody else changed since ``apply``; the next ``apply`` repairs it.

        Raises KubenetError.
        """
        ...

    def invalid_dropped(self) -> int:
        """Return how many packets were dropped that belong to no connection (row 47). Raises KubenetError."""
        ...

    def connections(self) -> Mapping[tuple[ServicePortName, str], int]:
        """Return how many connections each endpoint (as text) of each service port got, if that is counted.

        Raises KubenetError.
        """
        ...


class Flows(Protocol):
    """Makes the kernel forget UDP flows to endpoints that are gone. Calls block; one at a time."""

    def forget(self, changes: Iterable[PortChange]) -> int:
        """Delete what ``changes`` made stale; return how many kinds of flow. Raises KubenetError."""
        ...
