"""Put a ``StateDiff`` into the order the kernel needs, as requests. *Pure.*

What stands on something else is made after it and removed before it: forwarding entries, neighbours and
routes stand on addresses, addresses on links, ports on their bridge, a VXLAN device on its underlay. What
stands on a link that goes is not removed one by one: it goes with the link.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain

from kubenet.diff import Diff, K, V
from kubenet.errors import InvalidInput, NotFound
from kubenet.kernel import codec
from kubenet.kernel.decode import NumberedLink, names_of, with_names
from kubenet.kernel.netlink import Request
from kubenet.model.links import DYING_GROUP, Link, LinkKind, StateDiff

# A group deletion of 120 links holds up everybody else's requests for 60 ms; 32 are as good as 120 per link.
_GROUP_DELETE = 32

_DEFAULT_MTU = 1500

Numbered = Mapping[str, NumberedLink]  # by ifname


def removals(change: StateDiff, have: Numbered) -> list[Request]:
    """Return the requests that remove what has to go, of what is there."""
    stays = {name: entry.index for name, entry in have.items() if name not in change.links.removed}
    requests = [
        codec.delete_fdb(stays[e.ifname], e) for e in change.fdb.removed.values() if e.ifname in stays
    ]
    requests += [
        codec.delete_neighbor(stays[e.ifname], e)
        for e in change.neighbors.removed.values()
        if e.ifname in stays
    ]
    requests += [
        codec.delete_route(route, stays.get(route.ifname, 0))
        for route in change.routes.removed.values()
        if route.ifname in stays or not route.ifname
    ]
    requests += [
        codec.delete_address(stays[e.ifname], e.interface, ifname=e.ifname)
        for e in change.addresses.removed.values()
        if e.ifname in stays
    ]
    going = {name: have[name].index for name in change.links.removed if name in have}
    return requests + delete_links(going)


def delete_links(index_of: Mapping[str, int]) -> list[Request]:
    """Return the requests that delete links, many in one pass of the kernel where there are many."""
    if len(index_of) == 1:
        return [codec.delete_link(index=index, ifname=ifname) for ifname, index in index_of.items()]
    requests: list[Request] = []
    going = list(index_of.items())
    for start in range(0, len(going), _GROUP_DELETE):
        group = going[start : start + _GROUP_DELETE]
        requests += [codec.set_link(index, name=ifname, group=DYING_GROUP) for ifname, index in group]
        requests.append(codec.delete_link(group=DYING_GROUP))
    return requests


def to_make(change: StateDiff) -> dict[str, Link]:
    """Return the links to be made here, by name.

    A loopback is there from the beginning, and a veth is made by the end that knows its peer, with the peer.
    """
    made = {
        name: link
        for name, link in change.links.added.items()
        if link.kind in (LinkKind.BRIDGE, LinkKind.VXLAN) or link.peer is not None
    }
    for link in tuple(made.values()):
        if link.peer and not link.peer.netns and link.ifname in made:
            made.pop(link.peer.ifname, None)
    return made


def makeable_now(pending: Mapping[str, Link]) -> list[Link]:
    """Return those that stand on none of the others. Raises InvalidInput when they go round in a circle."""
    coming = set(pending) | {
        link.peer.ifname for link in pending.values() if link.peer and not link.peer.netns
    }
    now = [link for link in pending.values() if not stands_on(link) & coming]
    if pending and not now:
        raise InvalidInput(f"links that stand on each other: {', '.join(sorted(pending))}")
    return now


def stands_on(link: Link) -> set[str]:
    """Return the names of the links that ``link`` refers to."""
    return {name for name in (link.master, link.vxlan.underlay_ifname if link.vxlan else "") if name}


def make(link: Link, have: Numbered, peer_fd: int | None) -> list[Request]:
    """Return the requests that make a link."""
    numbers = {
        "master_index": _index(have, link.master, link.ifname),
        "underlay_index": _index(have, link.vxlan.underlay_ifname if link.vxlan else "", link.ifname),
    }
    if link.kind is not LinkKind.BRIDGE or not link.mtu:
        return [codec.new_link(link, peer_fd=peer_fd, **numbers)]
    # A bridge follows the MTU of its ports until somebody changes its own; to be born with it does not count,
    # nor does a change to what it is.
    other = _DEFAULT_MTU if link.mtu != _DEFAULT_MTU else _DEFAULT_MTU - 1
    return [
        codec.new_link(replace(link, mtu=other), **numbers),
        codec.set_link(name=link.ifname, mtu=link.mtu),
    ]


def names_used(change: StateDiff) -> set[str]:
    """Return the links whose numbers ``contents`` needs."""
    used = {
        *(entry.ifname for entry in _new(change.addresses)),
        *(entry.ifname for entry in _new(change.routes)),
        *(entry.ifname for entry in _new(change.neighbors)),
        *(entry.ifname for entry in _new(change.fdb)),
    }
    used.discard("")  # of a route to nowhere
    return used.union(*({link.ifname} | stands_on(link) for link in _to_settle(change)))


def contents(change: StateDiff, have: Numbered) -> list[Request]:
    """Return the requests that settle the links that were there, and then fill all tables."""
    return [
        *_settings(_to_settle(change), have),
        *_addresses(change, have),
        *_routes(change, have),
        *_static(change, have),
    ]


def _to_settle(change: StateDiff) -> list[Link]:
    made = to_make(change)
    return [link for link in _new(change.links) if link.ifname not in made]


def _new(table: Diff[K, V]) -> Iterator[V]:
    return chain(table.added.values(), table.changed.values())


def _settings(wanted: Iterable[Link], have: Numbered) -> Iterator[Request]:
    names = names_of(have.values())
    for want in wanted:
        numbered = _numbered(have, want.ifname)
        if request := _setting(want, with_names(numbered, names), numbered.index, have):
            yield request


def _setting(want: Link, is_now: Link, index: int, have: Numbered) -> Request | None:
    """Return one message that changes all that differs; an untouched setting causes no event."""
    change = codec.LinkChange()
    if want.mtu not in (0, is_now.mtu):
        change["mtu"] = want.mtu
    if want.mac is not None and want.mac != is_now.mac:
        change["mac"] = want.mac
    if want.master != is_now.master:
        change["master_index"] = _index(have, want.master, want.ifname)
    if want.group != is_now.group:
        change["group"] = want.group
    if want.up != is_now.up:
        change["up"] = want.up
    return codec.set_link(index, name=want.ifname, **change) if change else None


def _addresses(change: StateDiff, have: Numbered) -> Iterator[Request]:
    for entry in _new(change.addresses):
        yield codec.new_address(_index(have, entry.ifname), entry.interface, ifname=entry.ifname)


def _routes(change: StateDiff, have: Numbered) -> Iterator[Request]:
    for routes, in_place in ((change.routes.added, False), (change.routes.changed, True)):
        # A gateway is accepted only once a route on the link covers it.
        for route in sorted(routes.values(), key=lambda route: route.gateway is not None):
            yield codec.new_route(route, _index(have, route.ifname), replace=in_place)


def _static(change: StateDiff, have: Numbered) -> Iterator[Request]:
    for neighbor in _new(change.neighbors):
        yield codec.new_neighbor(_index(have, neighbor.ifname), neighbor)
    for entry in _new(change.fdb):
        yield codec.new_fdb(_index(have, entry.ifname), entry)


def _index(have: Numbered, ifname: str, needed_by: str = "") -> int:
    """Return the number of a link; 0 for no name."""
    return _numbered(have, ifname, needed_by).index if ifname else 0


def _numbered(have: Numbered, ifname: str, needed_by: str = "") -> NumberedLink:
    if ifname not in have:
        raise NotFound(f"{ifname}: no such link" + (f", and {needed_by} stands on it" if needed_by else ""))
    return have[ifname]
