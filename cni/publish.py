"""Publish ports of pods at the node, let a bridge know what they may send, and take both back.

The table belongs to the agent's socket where the kernel can do that, so nobody else can flush it; where it
cannot, ``restore`` compares it from time to time.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from threading import Lock
from typing import NamedTuple
from typing import Protocol as Interface

from cni import senders
from cni.hostports import TABLE, Contents, clash, contents_of, merged, ruleset_of
from cni.spec import CniError, Code
from ipam.record import AllocationRecord, HostPort
from kubenet.errors import KernelLacks, KubenetError
from kubenet.kernel import sysctl
from kubenet.kernel.conntrack import Conntrack, Kind
from kubenet.kernel.netns import NetNs
from kubenet.kernel.nft import Nftables
from kubenet.kernel.rtnl import Rtnl
from kubenet.model.links import IPAddress
from kubenet.model.nft import Family, Ruleset
from kubenet.model.nft_change import RulesetChange, change_between
from kubenet.model.protocol import Protocol

log = logging.getLogger(__name__)

FAMILIES: tuple[Family, ...] = (4, 6)
BRIDGED: Family = 7


class Publisher(Interface):
    """What attaching needs for ports at the node. May be used by several threads."""

    def take_over(self, records: Iterable[AllocationRecord]) -> None:
        """Have exactly the ports of these pods published. Raises KubenetError."""
        ...

    def publish(self, record: AllocationRecord) -> None:
        """Let the ports lead to the pod, all or none. Raises CniError for one that is taken, KubenetError."""
        ...

    def withdraw(self, host_ifname: str) -> None:
        """Take the pod's ports back; one that has none is fine. Raises KubenetError."""
        ...

    def missing(self, record: AllocationRecord) -> Sequence[str]:
        """Return, in words, which ports of the pod do not lead there. Raises KubenetError."""
        ...

    def restore(self) -> None:
        """Put right what somebody else has changed. Raises KubenetError."""
        ...

    def close(self) -> None:
        """Let go; the ports stay published."""
        ...


class _Layout(NamedTuple):
    """One of the tables: what is in it, and what of it belongs to a pod."""

    family: Family
    ruleset: Callable[[Iterable[Contents]], Ruleset]
    contents_of: Callable[[AllocationRecord], Contents]


def _ports(family: Family) -> _Layout:
    return _Layout(
        family, lambda published: ruleset_of(family, published), lambda record: contents_of(record, family)
    )


def _senders(published: Iterable[Contents]) -> Ruleset:
    return Ruleset(BRIDGED, senders.sets(), senders.chains(), merged((senders.fixed(), *published)))


class _Table:
    """The elements of all pods in one table."""

    def __init__(self, netns: NetNs, layout: _Layout) -> None:
        self.layout = layout
        empty = layout.ruleset(())
        self._sets, self._chains = empty.sets, empty.chains
        self._nft = Nftables(netns, layout.family, TABLE)
        self._published: dict[str, Contents] = {}

    def take_over(self, records: Iterable[AllocationRecord]) -> None:
        told = ((record.host_ifname, self.layout.contents_of(record)) for record in records)
        self._published = {name: contents for name, contents in told if contents}
        self.restore()

    def restore(self) -> None:
        want = self.layout.ruleset(self._published.values())
        have = self._nft.read(lambda: self._chains)
        change = change_between(have, want)
        if change:
            self._nft.commit(change)
            log.info("cni: table %s of family %d written", TABLE, self.layout.family)

    def publish(self, record: AllocationRecord) -> None:
        contents = self.layout.contents_of(record)
        if not contents:
            return
        if holder := clash(contents, self._published):
            raise CniError(Code.HOST_PORT_TAKEN, f"a port of the node leads to {holder} already")
        self._nft.commit(RulesetChange(elements_in=contents, shapes=self._sets))
        self._published[record.host_ifname] = contents

    def withdraw(self, name: str) -> None:
        contents = self._published.get(name)
        if contents is None:
            return
        try:
            self._nft.commit(RulesetChange(elements_out=contents, shapes=self._sets))
        except KubenetError as error:
            log.warning("cni: elements of %s: %s; reading the table again", name, error)
            self._published.pop(name)
            try:
                self.restore()
            except BaseException:
                self._published[name] = contents
                raise
        self._published.pop(name, None)

    def lacking(self, record: AllocationRecord) -> bool:
        contents = self.layout.contents_of(record)
        have = self._nft.read(lambda: self._chains) if contents else None
        if have is None or have.chains != self._chains:
            return bool(contents)
        return any(
            have.contents(name).get(key) != value
            for name in contents
            for key, value in contents[name].items()
        )

    def close(self) -> None:
        self._nft.close()


class KernelPublisher:
    """In the kernel of one node."""

    def __init__(self, netns: NetNs, *, bridged: bool = False) -> None:
        self._netns = netns
        self._guard = Lock()
        self._tables = {family: _Table(netns, _ports(family)) for family in FAMILIES}
        if bridged:
            self._tables[BRIDGED] = _Table(netns, _Layout(BRIDGED, _senders, senders.contents_of))
        self._udp: dict[str, AllocationRecord] = {}  # those with UDP ports

    def take_over(self, records: Iterable[AllocationRecord]) -> None:
        known = list(records)
        with self._guard:
            for family in FAMILIES:
                self._tables[family].take_over(known)
            self._guard_bridge(known)
            self._udp = {record.host_ifname: record for record in known if _udp_ports(record)}

    def _guard_bridge(self, records: Iterable[AllocationRecord]) -> None:
        if BRIDGED not in self._tables:
            return
        try:
            self._tables[BRIDGED].take_over(records)
        except KernelLacks as error:
            self._tables.pop(BRIDGED).close()
            log.warning("cni: pods on the bridge can send as others: %s", error)

    def publish(self, record: AllocationRecord) -> None:
        if record.host_ports:
            # So that answers of the pod find back to 127.0.0.1; what else could use it, the guard drops.
            sysctl.write(self._netns, f"net/ipv4/conf/{record.host_ifname}/route_localnet", 1)
        with self._guard:
            for table in self._tables.values():
                table.publish(record)
            if not _udp_ports(record):
                return
            self._udp[record.host_ifname] = record
        # A client that kept sending while nobody listened would go on to be refused (kubernetes#95258).
        self._forget_flows(record)

    def withdraw(self, host_ifname: str) -> None:
        with self._guard:
            for table in self._tables.values():
                table.withdraw(host_ifname)
            record = self._udp.pop(host_ifname, None)
        if record is not None:
            self._forget_flows(record)

    def missing(self, record: AllocationRecord) -> Sequence[str]:
        with self._guard:
            lacking = [family for family, table in self._tables.items() if table.lacking(record)]
        told = []
        if any(family in FAMILIES for family in lacking):
            told.append(f"a port of {', '.join(map(str, record.host_ports))} does not lead to the pod")
        if BRIDGED in lacking:
            told.append("the bridge does not know what the pod may send")
        return told

    def restore(self) -> None:
        with self._guard:
            for table in self._tables.values():
                table.restore()

    def close(self) -> None:
        for table in self._tables.values():
            table.close()

    def _forget_flows(self, record: AllocationRecord) -> None:
        """Make the kernel forget where it sent UDP packets for these ports."""
        with Rtnl(self._netns) as rtnl, Conntrack(self._netns) as conntrack:
            own = frozenset(address.interface.ip for address in rtnl.observe().addresses)
            for family in {address.version for address in record.addresses}:
                flows = conntrack.udp(4 if family == 4 else 6)
                stale = [
                    entry for kind, each in flows.items() if _is_for(kind, record, own) for entry in each
                ]
                if stale:
                    conntrack.forget(stale)


def _udp_ports(record: AllocationRecord) -> tuple[HostPort, ...]:
    return tuple(port for port in record.host_ports if port.protocol is Protocol.UDP)


def _is_for(kind: Kind, record: AllocationRecord, own: frozenset[IPAddress]) -> bool:
    """Whether a flow was sent to one of the pod's ports at one of the node's addresses."""
    (ip, port), _ = kind.sockets()
    return (ip in own or ip.is_loopback) and any(
        port == wanted.port and (wanted.ip is None or wanted.ip.is_unspecified or wanted.ip == ip)
        for wanted in _udp_ports(record)
    )


def remove_tables(netns: NetNs) -> None:
    """Delete the tables; to be done when no pod is attached any more. Raises NetlinkError."""
    for family in (*FAMILIES, BRIDGED):
        table = Nftables(netns, family, TABLE)
        try:
            table.remove()
        except KernelLacks:
            continue
        finally:
            table.close()
