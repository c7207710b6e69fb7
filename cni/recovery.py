"""What to make of records and links when the agent starts. *Pure.*

- A finished attachment stays, also when its link is gone: the API may still name its address.
- One that was being added or deleted when its agent died is undone.
- A link without a readable record is a pod's all the same. With routed wiring the node's route to it tells
the
  address, so it is taken in again, and its DEL will find it by name.

Law: no address of a link that is there is free afterwards.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cni.plan import is_host_ifname
from cni.shaping import shaper_ifname
from ipam.record import AllocationRecord, Phase, Stored, Unreadable, held_twice
from kubenet.errors import KubenetError
from kubenet.model.links import ROUTE_PROTOCOL, IPAddress, LinkKind, LinkState


class StateLost(KubenetError):
    """The records do not tell who has which address; to go on would risk giving one to two pods."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """What becomes of every attachment that is known."""

    kept: tuple[AllocationRecord, ...]
    found: tuple[AllocationRecord, ...]  # in the kernel; their records have to be written anew
    undone: tuple[str, ...]  # host ifnames; link and record have to go
    stray: tuple[str, ...] = ()  # host ifnames that are gone, but for what held them back


def recovery(stored: Sequence[Stored], unreadable: Sequence[Unreadable], node: LinkState) -> Recovery:
    """Return what follows from the records and from what the node's namespace holds. Raises StateLost."""
    kept = tuple(entry.record for entry in stored if entry.phase is Phase.ATTACHED)
    for one, other in held_twice(kept):
        raise StateLost(
            f"{one.label} ({one.host_ifname}) and {other.label} ({other.host_ifname}) have the same address",
            "delete both pods, then remove their records and start the agent again",
        )
    recorded = {entry.record.host_ifname for entry in stored}
    links = {name for name, link in node.links.items() if link.kind is LinkKind.VETH and is_host_ifname(name)}
    broken = {entry.host_ifname: entry for entry in unreadable}
    found = tuple(_found(name, node, broken.get(name)) for name in sorted(links - recorded))
    undone = [entry.record.host_ifname for entry in stored if entry.phase is not Phase.ATTACHED]
    shaped = {shaper_ifname(name): name for name in recorded}
    stray = tuple(f"k{name[1:]}" for name in sorted(node.links) if _is_shaper(name) and name not in shaped)
    return Recovery(
        kept,
        found,
        (*undone, *sorted(broken.keys() - links - recorded)),
        tuple(name for name in stray if name not in links),
    )


def _is_shaper(ifname: str) -> bool:
    return ifname[:1] == "b" and is_host_ifname(f"k{ifname[1:]}")


def _found(host_ifname: str, node: LinkState, broken: Unreadable | None) -> AllocationRecord:
    addresses = tuple(_addresses_behind(host_ifname, node))
    if not addresses:
        what = f"its record {broken.path} is broken: {broken.reason}" if broken else "it has no record"
        raise StateLost(
            f"{host_ifname}: a pod's link whose address nobody knows; {what}",
            f"delete its pod, or remove the link (ip link delete {host_ifname}), and start the agent again",
        )
    return AllocationRecord(host_ifname, addresses)


def _addresses_behind(host_ifname: str, node: LinkState) -> Iterator[IPAddress]:
    for route in node.routes.values():
        ours = route.ifname == host_ifname and route.protocol == ROUTE_PROTOCOL
        if ours and route.destination.prefixlen == route.destination.max_prefixlen:
            yield route.destination.network_address
