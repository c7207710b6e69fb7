"""All attachments of one node with their addresses, in memory. *Pure*, and not locked.

The pools say which addresses are free, the entries who has the others; this is the only place that changes
both. It can be rebuilt at any time from the records of the store.

Law: an address is in use in a pool exactly while an entry holds it.
"""

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import ip_interface

from ipam.pool import AddressTaken, Pool
from ipam.record import AllocationRecord, Phase, Stored
from kubenet.model.links import IPAddress, IPInterface, IPNetwork


class Ledger:
    """Knows every attachment by its host ifname."""

    def __init__(self) -> None:
        self._entries: dict[str, Stored] = {}
        self._pools: tuple[Pool, ...] = ()

    @property
    def pools(self) -> tuple[Pool, ...]:
        """One pool a family; none before ``open``."""
        return self._pools

    def open(self, ranges: Iterable[IPNetwork]) -> None:
        """Hand out addresses of ``ranges`` from now on, one of each for an attachment.

        Addresses of an earlier range stay with who has them, and go to nobody after that.

        Raises InvalidInput when a range is too small.
        """
        entries = sorted(self._entries.values(), key=lambda entry: entry.record.created_ns)
        held = [address for entry in entries for address in entry.record.addresses]
        self._pools = tuple(Pool(cidr, held, _last_in(held, cidr)) for cidr in ranges)

    def get(self, host_ifname: str) -> Stored | None:
        return self._entries.get(host_ifname)

    def in_phase(self, phase: Phase) -> list[AllocationRecord]:
        """Return the records of one phase."""
        return [entry.record for entry in self._entries.values() if entry.phase is phase]

    def adopt(self, record: AllocationRecord, phase: Phase) -> None:
        """Take in an attachment that was made earlier. To be done before ``open``."""
        self._entries[record.host_ifname] = Stored(record, phase)

    def reserve(self, record: AllocationRecord, wanted: Iterable[IPAddress] = ()) -> AllocationRecord:
        """Return ``record`` with addresses, and keep it as being added.

        ``wanted`` names addresses to have instead of any. On failure nothing is reserved.

        Raises PoolExhausted, AddressTaken.
        """
        asked = {address.version: address for address in wanted}
        if strange := asked.keys() - {pool.network.version for pool in self._pools}:
            raise AddressTaken(f"{asked[min(strange)]}: this node has no addresses of that family")
        got: list[tuple[Pool, IPAddress]] = []
        try:
            for pool in self._pools:
                got.append((pool, _take(pool, asked.get(pool.network.version))))
        except BaseException:
            for pool, address in got:
                pool.release(address)
            raise
        reserved = replace(record, addresses=tuple(address for _, address in got))
        self._entries[record.host_ifname] = Stored(reserved, Phase.ADDING)
        return reserved

    def assigned(self, address: IPAddress) -> tuple[IPInterface, IPAddress | None]:
        """Return the address with the prefix of its range, and the gateway of that."""
        for pool in self._pools:
            if pool.offers(address):
                return pool.interface(address), pool.gateway.ip
        return ip_interface(address), None  # its range is not the node's any more

    def move(self, host_ifname: str, phase: Phase) -> None:
        """Note how far the attachment has come."""
        self._entries[host_ifname] = replace(self._entries[host_ifname], phase=phase)

    def free(self, host_ifname: str) -> None:
        """Forget the attachment and give its addresses back; one that is not known is fine."""
        entry = self._entries.pop(host_ifname, None)
        for address in entry.record.addresses if entry else ():
            for pool in self._pools:
                pool.release(address)


def _take(pool: Pool, wanted: IPAddress | None) -> IPAddress:
    if wanted is None:
        return pool.allocate()
    pool.take(wanted)
    return wanted


def _last_in(held: list[IPAddress], cidr: IPNetwork) -> IPAddress | None:
    """Return the address that was given away last, so that a restart does not begin again in front."""
    return next((a for a in reversed(held) if a.version == cidr.version and a in cidr), None)
