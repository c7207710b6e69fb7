"""Word of what others do to the tables that iptables keeps in nf_tables.

The nft flavour of iptables leaves its rules in nf_tables, and there every change is an event. What we write
ourselves is not listened to: its events can be more than a queue holds. Instead the generation tells whether
somebody else wrote meanwhile, as every transaction of anybody counts it up by one.

Of the legacy flavour nothing is ever heard.

Source: linux/netfilter/nf_tables.h; nf_tables of Linux 6.x; xtables-nft(8).
"""

import errno
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from kubenet.kernel import nft_codec as codec
from kubenet.kernel import nft_uapi as nf
from kubenet.kernel import uapi
from kubenet.kernel.netlink import NetlinkError, text_in
from kubenet.kernel.netns import NetNs
from kubenet.kernel.nft import LARGEST_ANSWER_BYTES, open_nfnetlink
from kubenet.kernel.nft_rules import nfproto
from kubenet.kernel.nlsocket import NetlinkSocket
from kubenet.model.nft import Family

_GONE = (nf.DELTABLE, nf.DELCHAIN, nf.DELRULE)
_CHAIN_NAMES = {
    nf.NEWCHAIN: nf.NFTA_CHAIN_NAME,
    nf.DELCHAIN: nf.NFTA_CHAIN_NAME,
    nf.NEWRULE: nf.NFTA_RULE_CHAIN,
    nf.DELRULE: nf.NFTA_RULE_CHAIN,
}


@dataclass(frozen=True, slots=True)
class Touched:
    """Something in a chain, or a whole table, that came or went."""

    table: str
    chain: str = ""  # empty: all of the table
    gone: bool = False


class TableWatch:
    """Hears of one family's tables in one namespace. Calls do not block, but for ``own_writes``."""

    def __init__(self, netns: NetNs | None, family: Family, concerns: Callable[[Touched], bool]) -> None:
        """``concerns`` tells whether something is to be heard of."""
        self._family: Family = family
        self._concerns = concerns
        self._heard = False
        self._asking = NetlinkSocket(netns, nf.NETLINK_NETFILTER)
        try:
            self._events = open_nfnetlink(netns)
            self._events.setblocking(False)
            self._listen(True)
        except BaseException:
            self._asking.close()
            raise

    def fileno(self) -> int:
        """Return what is readable when something changed; then ask ``heard``."""
        return self._events.fileno()

    def close(self) -> None:
        """Hear no more."""
        self._asking.close()
        self._events.close()

    @property
    def disturbed(self) -> bool:
        """Whether ``heard`` is known to be true already."""
        return self._heard

    def heard(self) -> bool:
        """Return whether something of concern happened since the last call, or may have."""
        self._take_in()
        heard, self._heard = self._heard, False
        return heard

    @contextmanager
    def own_writes(self, transactions: int) -> Iterator[None]:
        """Do not listen while we write so many transactions ourselves, or none. Raises TimedOut."""
        self._take_in()
        self._listen(False)
        before = self._generation()
        try:
            yield
        finally:
            self._listen(True)
        self._heard = self._heard or self._generation() not in (before, before + transactions)

    def _listen(self, on: bool) -> None:
        act = uapi.NETLINK_ADD_MEMBERSHIP if on else nf.NETLINK_DROP_MEMBERSHIP
        self._events.setsockopt(uapi.SOL_NETLINK, act, nf.NFNLGRP_NFTABLES)

    def _generation(self) -> int:
        """Return the number of the last transaction; 0 from a kernel without nf_tables."""
        request = codec.get(nf.GETGEN, self._family, b"", "read the generation of nf_tables", 0)
        try:
            (told, *_) = self._asking.ask(request)
        except NetlinkError:
            return 0
        return codec.number(codec.body_attributes(told.body), nf.NFTA_GEN_ID)

    def _take_in(self) -> None:
        while True:
            try:
                datagram = self._events.recv(LARGEST_ANSWER_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self._heard = True  # lost: it may have been of concern
                continue
            self._heard = self._heard or any(map(self._concerns, self._touched(datagram)))

    def _touched(self, datagram: bytes) -> Iterator[Touched]:
        for kind, _, body in codec.events_in(datagram):
            if body[:1] != bytes([nfproto(self._family)]):
                continue
            found = codec.body_attributes(body)
            # In every kind of message the table's name is the first attribute.
            table, name = text_in(found, nf.NFTA_TABLE_NAME), _CHAIN_NAMES.get(kind)
            if name is not None:
                yield Touched(table, text_in(found, name), kind in _GONE)
            elif kind == nf.DELTABLE:
                yield Touched(table, gone=True)
