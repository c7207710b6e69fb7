"""Read and write the links, addresses, routes, neighbours and forwarding entries of one namespace.

``observe`` is five dumps. ``apply`` is a few sends, however large the change: removals, then links layer by
layer (a port after its bridge), a dump for the numbers the kernel gave them, and all the rest in one go. On
two cores of Linux 6.18: the 34 namespaces of a lab of 3 nodes with 10 pods each in 30 ms, the 211 of 10 nodes
with 20 pods in 0.2 s.

Source: rtnetlink(7).
"""

import errno
from collections.abc import Mapping
from itertools import chain
from types import MappingProxyType

from kubenet.errors import NotFound
from kubenet.kernel import arrange, codec, decode
from kubenet.kernel.dump import Dump
from kubenet.kernel.netlink import NetlinkError
from kubenet.kernel.netns import NetNs
from kubenet.kernel.nlsocket import NetlinkSocket
from kubenet.model.links import Link, LinkState, StateDiff

_NONE: Mapping[str, NetNs] = MappingProxyType({})


class Rtnl(NetlinkSocket):
    """A connection to the routing tables of one namespace, for ever. May be used by several threads."""

    def ifindex(self, ifname: str) -> int:
        """Return the number of a link. Raises NotFound."""
        try:
            (told,) = self.ask(codec.get_link(ifname))
        except NetlinkError as error:
            if error.errno != errno.ENODEV:
                raise
            raise NotFound(f"{ifname}: no such link") from error
        return decode.link(told.body).index

    def links(self) -> dict[str, decode.NumberedLink]:
        """Return all links with their numbers, by name."""
        told = [decode.link(message.body) for message in self.ask(codec.get_links())]
        return {entry.link.ifname: entry for entry in told}

    def observe(self) -> LinkState:
        """Return what the namespace holds.

        Of the routes, those of the main table with one next hop; of neighbours and forwarding entries, the
        permanent ones; of the addresses, all that the kernel does not make itself when a link comes up.
        """
        return self.tables().state()

    def tables(self) -> Dump:
        """Return what the namespace holds, unread: its imprint tells quickly whether it has changed."""
        return Dump(
            self.links(),
            self.dump(codec.get_addresses()),
            self.dump(codec.get_routes()),
            self.dump(codec.get_neighbors()),
            self.dump(codec.get_fdb()),
        )

    def apply(self, change: StateDiff, namespaces: Mapping[str, NetNs] = _NONE) -> None:
        """Carry out ``change``. ``namespaces`` holds those that new veth peers go to, by name.

        Raises NetlinkError for the first refusal of a step, the later steps being left out; NotFound for a
        link or namespace that the change speaks of and nobody made.
        """
        if not change:
            return
        have = self.links()
        if removals := arrange.removals(change, have):
            self.transact(removals)
            have = self.links()
        have = self._make(arrange.to_make(change), have, namespaces)
        if arrange.names_used(change) - have.keys():
            have = self.links()
        self.transact(arrange.contents(change, have))

    def _make(
        self, pending: dict[str, Link], have: dict[str, decode.NumberedLink], namespaces: Mapping[str, NetNs]
    ) -> dict[str, decode.NumberedLink]:
        """Make links layer by layer; return the numbers known then."""
        while pending:
            now = arrange.makeable_now(pending)
            if any(arrange.stands_on(link) - have.keys() for link in now):
                have = self.links()
            requests = (arrange.make(link, have, _peer_fd(link, namespaces)) for link in now)
            self.transact(list(chain.from_iterable(requests)))
            pending = {name: link for name, link in pending.items() if link not in now}
        return have


def _peer_fd(link: Link, namespaces: Mapping[str, NetNs]) -> int | None:
    if link.peer is None or not link.peer.netns:
        return None
    if link.peer.netns not in namespaces:
        raise NotFound(f"{link.ifname}: the namespace {link.peer.netns} of its peer is not known")
    return namespaces[link.peer.netns].fd
