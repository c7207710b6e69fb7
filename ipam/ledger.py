"""All attachments of one node with their addresses, in memory. *Pure*, and not locked.

The pools say which addresses are free, the entries who has the others; this is the only place that changes
both. It can be rebuilt at any time from the records of the store.

Law: an address is in use in a pool exactly while an entry holds it.
"""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from ipaddress import ip_interface

from ipam.pool import NO_RULES, AddressTaken, Pool, PoolExhausted, PoolRules
from ipam.record import AllocationRecord, Phase, Stored
from kubenet.model.links import IPAddress, IPInterface, IPNetwork


class Ledger:
    """Knows every attachment by its host ifname."""

    def __init__(self) -> None:
        self._entries: dict[str, Stored] = {}
        self._pools: tuple[Pool, ...] = ()
        self._kept: dict[str, tuple[IPAddress, ...]] = {}  # by pod

    @property
    def pools(self) -> tuple[Pool, ...]:
        """One pool a range; none before ``open``."""
        return self._pools

    def open(self, ranges: Iterable[IPNetwork], rules: PoolRules = NO_RULES) -> None:
        """Hand out addresses of ``ranges`` from now on, one of each family for an attachment.

        Of several ranges of a family the first that has room counts. Addresses of an earlier range stay with
        who has them, and go to nobody after that.

        Raises InvalidInput when a range is too small.
        """
        entries = sorted(self._entries.values(), key=lambda entry: entry.record.created_ns)
        held = [address for entry in entries for address in entry.record.addresses]
        self._pools = tuple(Pool(cidr, held, _last_in(held, cidr), rules) for cidr in ranges)
        for addresses in self._kept.values():
            for pool, address in self._places(addresses):
                pool.keep(address)

    @property
    def exhausted(self) -> Pool | None:
        """A pool of a family without a free address; None if every family has one."""
        for family in self._families():
            pools = [pool for pool in self._pools if pool.network.version == family]
            if all(pool.exhausted for pool in pools):
                return pools[0]
        return None

    def keep(self, pod: str, addresses: tuple[IPAddress, ...]) -> None:
        """Have these addresses for that pod and for no other, also while it has none."""
        self._kept[pod] = addresses
        for pool, address in self._places(addresses):
            pool.keep(address)

    def let_go(self, pod: str, now_s: float = 0.0) -> bool:
        """Keep nothing for the pod any more; return whether anything was."""
        addresses = self._kept.pop(pod, ())
        for pool, address in self._places(addresses):
            pool.let_go(address, now_s)
        return bool(addresses)

    @property
    def kept(self) -> dict[str, tuple[IPAddress, ...]]:
        """All that is kept, by pod."""
        return dict(self._kept)

    def kept_for(self, pod: str) -> tuple[IPAddress, ...]:
        """Return what is kept for the pod and can be had on this node."""
        return tuple(address for _, address in self._places(self._kept.get(pod, ())))

    def get(self, host_ifname: str) -> Stored | None:
        return self._entries.get(host_ifname)

    def in_phase(self, phase: Phase) -> list[AllocationRecord]:
        """Return the records of one phase."""
        return [entry.record for entry in self._entries.values() if entry.phase is phase]

    def adopt(self, record: AllocationRecord, phase: Phase) -> None:
        """Take in an attachment that was made earlier. To be done before ``open``."""
        self._entries[record.host_ifname] = Stored(record, phase)

    def reserve(
        self, record: AllocationRecord, wanted: Iterable[IPAddress] = (), now_s: float = 0.0
    ) -> AllocationRecord:
        """Return ``record`` with addresses, and keep it as being added.

        ``wanted`` names addresses to have instead of any. On failure nothing is reserved.

        Raises PoolExhausted, AddressTaken.
        """
        asked: dict[int, IPAddress] = {address.version: address for address in wanted}
        families = self._families()
        if strange := asked.keys() - set(families):
            raise AddressTaken(f"{asked[min(strange)]}: this node has no addresses of that family")
        got: list[tuple[Pool, IPAddress]] = []
        try:
            for family in families:
                got.append(self._one(family, asked.get(family), record.pod, now_s))
        except BaseException:
            for pool, address in got:
                pool.release(address, now_s)
            raise
        reserved = replace(record, addresses=tuple(address for _, address in got))
        self._entries[record.host_ifname] = Stored(reserved, Phase.ADDING)
        return reserved

    def _one(self, family: int, wanted: IPAddress | None, pod: str, now_s: float) -> tuple[Pool, IPAddress]:
        """Return an address of a family, and the pool it is of."""
        pools = [pool for pool in self._pools if pool.network.version == family]
        if wanted is not None:
            pool = next((pool for pool in pools if pool.offers(wanted)), pools[0])
            other = next((name for name, kept in self._kept.items() if wanted in kept), pod)
            if other != pod:
                raise AddressTaken(f"{wanted}: kept for {other}")
            pool.take(wanted)
            return pool, wanted
        for pool in pools[:-1]:
            with suppress(PoolExhausted):
                return pool, pool.allocate(now_s)
        return pools[-1], pools[-1].allocate(now_s)

    def _families(self) -> list[int]:
        return list(dict.fromkeys(pool.network.version for pool in self._pools))

    def _places(self, addresses: Iterable[IPAddress]) -> list[tuple[Pool, IPAddress]]:
        return [(pool, address) for address in addresses for pool in self._pools if pool.offers(address)]

    def assigned(self, address: IPAddress) -> tuple[IPInterface, IPAddress | None]:
        """Return the address with the prefix of its range, and the gateway of that."""
        for pool in self._pools:
            if pool.offers(address):
                return pool.interface(address), pool.gateway.ip
        return ip_interface(address), None  # its range is not the node's any more

    def move(self, host_ifname: str, phase: Phase) -> None:
        """Note how far the attachment has come."""
        self._entries[host_ifname] = replace(self._entries[host_ifname], phase=phase)

    def free(self, host_ifname: str, now_s: float = 0.0) -> None:
        """Forget the attachment and give its addresses back; one that is not known is fine."""
        entry = self._entries.pop(host_ifname, None)
        for address in entry.record.addresses if entry else ():
            for pool in self._pools:
                pool.release(address, now_s)


def _last_in(held: list[IPAddress], cidr: IPNetwork) -> IPAddress | None:
    """Return the address that was given away last, so that a restart does not begin again in front."""
    return next((a for a in reversed(held) if a.version == cidr.version and a in cidr), None)
