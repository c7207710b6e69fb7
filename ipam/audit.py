"""Compare who should hold an address with what the kernel has. *Pure.*"""

from collections.abc import Iterable, Iterator

from ipam.record import AllocationRecord, Phase, Stored, Unreadable, held_twice
from kubenet.model.links import ROUTE_PROTOCOL, LinkState


def findings(stored: Iterable[Stored], unreadable: Iterable[Unreadable], node: LinkState) -> Iterator[str]:
    """Yield, in words, everything that does not fit; nothing if all is well.

    Routes count only where pods are routed: with a bridge the node has none to a single pod.
    """
    entries = list(stored)
    attached = [entry.record for entry in entries if entry.phase is Phase.ATTACHED]
    yield from (f"{one.path}: not a record: {one.reason}" for one in unreadable)
    for one, other in held_twice(attached):
        yield f"{one.label} and {other.label} hold the same address"
    for entry in entries:
        if entry.phase is not Phase.ATTACHED:
            yield f"{entry.record.label}: {entry.phase.value} was not finished, or still goes on"
    for record in attached:
        if record.host_ifname not in node.links and not record.address_only:
            yield f"{record.label}: holds {addresses(record)}, and its link {record.host_ifname} is gone"
    known = {record.host_ifname: record for record in attached}
    yield from _strangers(node, known)


def _strangers(node: LinkState, known: dict[str, AllocationRecord]) -> Iterator[str]:
    """Yield the ways to pods that lead elsewhere than the records say."""
    holders = {address: record for record in known.values() for address in record.addresses}
    for route in node.routes.values():
        single = route.destination.prefixlen == route.destination.max_prefixlen
        record = holders.get(route.destination.network_address)
        if route.protocol == ROUTE_PROTOCOL and single and record and route.ifname != record.host_ifname:
            where = f"leads to {route.ifname} instead of {record.host_ifname}"
            yield f"{record.label}: {route.destination} {where}"


def addresses(record: AllocationRecord) -> str:
    """Return the addresses of a record as people read them."""
    return ", ".join(str(address) for address in record.addresses)
