"""Keep the table of ``cni.guard`` in the kernel of one node."""

import logging

from cni.guard import TABLE
from kubenet.errors import KernelLacks
from kubenet.kernel.netns import NetNs
from kubenet.kernel.nft import Nftables
from kubenet.model.nft import Family, Ruleset
from kubenet.model.nft_change import change_between

log = logging.getLogger(__name__)

FAMILIES: tuple[Family, ...] = (4, 6)


class PeerGuard:
    """The table that says who may send into the tunnel. Other programs cannot change it."""

    def __init__(self, netns: NetNs) -> None:
        self._netns = netns
        self._table: Nftables | None = None
        self._have: Ruleset | None = None
        self._lacking = False

    def sync(self, want: Ruleset) -> None:
        """Make the table hold ``want``; without nftables in the kernel, say so once. Raises NetlinkError."""
        if self._lacking:
            return
        try:
            self._sync(want)
        except KernelLacks as error:
            self._lacking = True
            log.warning("cni: the tunnel's port is open to everybody: %s", error)

    def _sync(self, want: Ruleset) -> None:
        table = self._of(want.family)
        if table.heard():
            self._have = None
        if self._have is want:
            return
        have = self._have or table.read(lambda: want.chains)
        self._have = None  # until it is known what came of it
        if change := change_between(have, want):
            table.commit(change)
            log.info("cni: %d senders may use the tunnel", sum(map(len, want.elements.values())) - 1)
        self._have = want

    def _of(self, family: Family) -> Nftables:
        if self._table and self._table.family != family:
            # The underlay's addresses are of the other family now.
            self.remove()
        self._table = self._table or Nftables(self._netns, family, TABLE)
        return self._table

    def remove(self) -> None:
        """Delete the table, in whichever family it is. Raises NetlinkError."""
        self.close()
        for family in FAMILIES:
            table = Nftables(self._netns, family, TABLE)
            try:
                table.remove()
            except KernelLacks:
                continue
            finally:
                table.close()

    def close(self) -> None:
        """Let go of the table; it stays."""
        table, self._table, self._have = self._table, None, None
        if table:
            table.close()
