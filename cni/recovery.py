"""What to make of records and links when the agent starts. *Pure.*

- A finished attachment stays, also when its link is gone: the API may still name its address.
- One that was being added or deleted when its agent died is undone.
- A link without a readable record is a pod's all the same. The node's route to it tells the address, or the
  pod's end of it does; so it is taken in again, and its DEL will find it by name.
- If neither knows an address, no pod can be reached by the link, and it goes.

Law: no address of a link that stays is free afterwards.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from cni.plan import is_host_ifname
from ipam.record import AllocationRecord, Phase, Stored, Unreadable, held_twice
from kubenet.errors import KubenetError
from kubenet.model.links import ROUTE_PROTOCOL, IPAddress, LinkKind, LinkState, PeerEnd

_NO_ENDS: Mapping[str, PeerEnd] = MappingProxyType({})


class StateLost(KubenetError):
    """The records do not tell who has which address; to go on would risk giving one to two pods."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """What becomes of every attachment that is known."""

    kept: tuple[AllocationRecord, ...]
    found: tuple[AllocationRecord, ...]  # in the kernel; their records have to be written anew
    undone: tuple[str, ...]  # host ifnames; link and record have to go
    stray: tuple[str, ...] = ()  # host ifnames that are gone, but for what held them back


def recovery(
    stored: Sequence[Stored],
    unreadable: Sequence[Unreadable],
    node: LinkState,
    ends: Mapping[str, PeerEnd] = _NO_ENDS,
) -> Recovery:
    """Return what follows from the records, from the node's namespace, and from pods' ends of links.

    Raises StateLost.
    """
    kept = tuple(entry.record for entry in stored if entry.phase is Phase.ATTACHED)
    for one, other in held_twice(kept):
        raise StateLost(
            f"{one.label} ({one.host_ifname}) and {other.label} ({other.host_ifname}) have the same address",
            "delete both pods, then remove their records and start the agent again",
        )
    recorded = {entry.record.host_ifname for entry in stored}
    lost = strangers(stored, node)
    found = [record for name in lost if (record := _found(name, node, ends.get(name))).addresses]
    undone = [entry.record.host_ifname for entry in stored if entry.phase is not Phase.ATTACHED]
    undone += sorted({entry.host_ifname for entry in unreadable} - set(lost) - recorded)
    undone += sorted(set(lost) - {record.host_ifname for record in found})
    shaped = {f"k{name[1:]}" for name in node.links if _is_shaper(name)}
    return Recovery(kept, tuple(found), tuple(undone), tuple(sorted(shaped - recorded - node.links.keys())))


def strangers(stored: Sequence[Stored], node: LinkState) -> list[str]:
    """Return the links of pods that no record speaks of."""
    links = {name for name, link in node.links.items() if link.kind is LinkKind.VETH and is_host_ifname(name)}
    return sorted(links - {entry.record.host_ifname for entry in stored})


def _is_shaper(ifname: str) -> bool:
    return ifname[:1] == "b" and is_host_ifname(f"k{ifname[1:]}")


def _found(host_ifname: str, node: LinkState, end: PeerEnd | None) -> AllocationRecord:
    routed = tuple(_addresses_behind(host_ifname, node))
    if end is None:
        return AllocationRecord(host_ifname, routed)
    first = {address.version: address for address in reversed(end.addresses)}
    addresses = routed or tuple(first[version] for version in sorted(first))
    return AllocationRecord(host_ifname, addresses, ifname=end.ifname, mac=end.mac)


def _addresses_behind(host_ifname: str, node: LinkState) -> Iterator[IPAddress]:
    for route in node.routes.values():
        ours = route.ifname == host_ifname and route.protocol == ROUTE_PROTOCOL
        if ours and route.destination.prefixlen == route.destination.max_prefixlen:
            yield route.destination.network_address
