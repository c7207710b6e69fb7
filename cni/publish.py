"""Publish ports of pods at the node, and take them back.

The table belongs to the agent's socket where the kernel can do that, so nobody else can flush it; where it
cannot, ``restore`` compares it from time to time.
"""

import logging
from collections.abc import Iterable, Sequence
from threading import Lock
from typing import Protocol as Interface

from cni.hostports import TABLE, Contents, chains_of, clash, contents_of, ruleset_of, sets_of
from cni.spec import CniError, Code
from ipam.record import AllocationRecord, HostPort
from kubenet.errors import KubenetError
from kubenet.kernel import sysctl
from kubenet.kernel.conntrack import Conntrack, Kind
from kubenet.kernel.netns import NetNs
from kubenet.kernel.nft import Nftables
from kubenet.kernel.rtnl import Rtnl
from kubenet.model.links import IPAddress
from kubenet.model.nft import Family
from kubenet.model.nft_change import RulesetChange, change_between
from kubenet.model.protocol import Protocol

log = logging.getLogger(__name__)

FAMILIES: tuple[Family, ...] = (4, 6)


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


class _Table:
    """The ports of one family."""

    def __init__(self, netns: NetNs, family: Family) -> None:
        self.family: Family = family
        self._nft = Nftables(netns, family, TABLE)
        self._published: dict[str, Contents] = {}

    def take_over(self, published: dict[str, Contents]) -> None:
        self._published = published
        self.restore()

    def restore(self) -> None:
        want = ruleset_of(self.family, self._published.values())
        have = self._nft.read(lambda: chains_of(self.family))
        change = change_between(have, want)
        if change:
            self._nft.commit(change)
            log.info("cni: ports of IPv%d pods written: %d pods", self.family, len(self._published))

    def publish(self, name: str, contents: Contents) -> None:
        if holder := clash(contents, self._published):
            raise CniError(Code.HOST_PORT_TAKEN, f"a port of the node leads to {holder} already")
        self._nft.commit(RulesetChange(elements_in=contents, shapes=sets_of(self.family)))
        self._published[name] = contents

    def withdraw(self, name: str) -> None:
        contents = self._published.get(name)
        if contents is None:
            return
        try:
            self._nft.commit(RulesetChange(elements_out=contents, shapes=sets_of(self.family)))
        except KubenetError as error:
            log.warning("cni: ports of %s: %s; reading the table again", name, error)
            self._published.pop(name)
            try:
                self.restore()
            except BaseException:
                self._published[name] = contents
                raise
        self._published.pop(name, None)

    def lacking(self, contents: Contents) -> bool:
        have = self._nft.read(lambda: chains_of(self.family))
        if have is None or have.chains != chains_of(self.family):
            return True
        return any(
            have.contents(name).get(key) != value
            for name in contents
            for key, value in contents[name].items()
        )

    def close(self) -> None:
        self._nft.close()


class KernelPublisher:
    """In the kernel of one node."""

    def __init__(self, netns: NetNs) -> None:
        self._netns = netns
        self._guard = Lock()
        self._tables = {family: _Table(netns, family) for family in FAMILIES}
        self._udp: dict[str, AllocationRecord] = {}  # those with UDP ports

    def take_over(self, records: Iterable[AllocationRecord]) -> None:
        publishing = [record for record in records if record.host_ports]
        with self._guard:
            for family, table in self._tables.items():
                table.take_over(
                    {r.host_ifname: contents for r in publishing if (contents := contents_of(r, family))}
                )
            self._udp = {record.host_ifname: record for record in publishing if _udp_ports(record)}

    def publish(self, record: AllocationRecord) -> None:
        if not record.host_ports:
            return
        # So that answers of the pod find back to 127.0.0.1; what else could use it, the table's guard drops.
        sysctl.write(self._netns, f"net/ipv4/conf/{record.host_ifname}/route_localnet", 1)
        with self._guard:
            for family, table in self._tables.items():
                if contents := contents_of(record, family):
                    table.publish(record.host_ifname, contents)
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
            lacking = any(
                table.lacking(contents)
                for family, table in self._tables.items()
                if (contents := contents_of(record, family))
            )
        return (
            [f"a port of {', '.join(map(str, record.host_ports))} does not lead to the pod"]
            if lacking
            else []
        )

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
