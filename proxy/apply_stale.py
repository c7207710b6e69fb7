"""Make the kernel forget UDP flows that lead nowhere any more."""

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Protocol

from kubenet.kernel.conntrack import Conntrack, Entry
from kubenet.kernel.netns import NetNs
from kubenet.kernel.rtnl import Rtnl
from proxy.ports import Family, IPAddress
from proxy.stale import Flow, UdpFrontends, only_grew, stale_flows, udp_frontends
from proxy.view import PortChange


class FlowTable(Protocol):
    """The UDP flows of one namespace and family."""

    def udp(self) -> Mapping[Flow, Sequence[Entry]]:
        """Return the flows, those alike together. Raises KubenetError."""
        ...

    def forget(self, entries: Sequence[Entry]) -> None:
        """Delete flows; those that have ended are fine. Raises KubenetError."""
        ...

    def node_ips(self) -> Collection[IPAddress]:
        """Return the node's own addresses. Raises KubenetError."""
        ...


class KernelFlows:
    """The real ones."""

    def __init__(self, netns: NetNs | None, family: Family) -> None:
        self._netns = netns
        self._family: Family = family

    def udp(self) -> Mapping[Flow, Sequence[Entry]]:
        with Conntrack(self._netns) as table:
            groups = table.udp(self._family)
        flows = {}
        for kind, entries in groups.items():
            (sent_to, port), (answering, answering_port) = kind.sockets()
            flows[Flow(sent_to, port, answering, answering_port)] = entries
        return flows

    def forget(self, entries: Sequence[Entry]) -> None:
        with Conntrack(self._netns) as table:
            table.forget(entries)

    def node_ips(self) -> Collection[IPAddress]:
        with Rtnl(self._netns) as rtnl:
            addresses = rtnl.observe().addresses
        return frozenset(each.interface.ip for each in addresses.values())


Count = Callable[[int, float], None]
"""Told after each look how many entries went, and how many seconds it took."""


def _uncounted(_entries: int, _took_s: float) -> None:
    return


class FlowKeeper:
    """Remembers where UDP is served, and looks for stale flows when that has changed. Calls block."""

    def __init__(self, flows: FlowTable, count: Count = _uncounted) -> None:
        self._flows = flows
        self._count = count
        self._now = UdpFrontends()
        self._unforgotten: UdpFrontends | None = None  # what was served at the last look, where that changed
        self._looked = False  # a start looks once

    def forget(self, changes: Iterable[PortChange]) -> int:
        """Delete the flows that ``changes`` made stale; return how many kinds. Call it once the rules are in.

        Raises KubenetError; the next call then looks again.
        """
        changed = list(changes)
        before = udp_frontends(each.before for each in changed if each.before)
        after = udp_frontends(each.after for each in changed if each.after)
        self._now.change(before, after)
        if self._unforgotten is None and (before == after or (self._looked and only_grew(before, after))):
            return 0
        if self._unforgotten is None:
            self._unforgotten = UdpFrontends()
        before.add(self._unforgotten)  # what was earlier counts
        self._unforgotten = before
        gone = self._look(before)
        self._unforgotten, self._looked = None, True
        return gone

    def _look(self, before: UdpFrontends) -> int:
        began_s = time.monotonic()
        table = self._flows.udp()
        asks_node = table and (self._now.by_node_port or before.by_node_port)
        stale = stale_flows(table, self._now, before, self._flows.node_ips() if asks_node else ())
        entries = [entry for flow in stale for entry in table[flow]]
        if entries:
            self._flows.forget(entries)
        self._count(len(entries), time.monotonic() - began_s)
        return len(stale)
