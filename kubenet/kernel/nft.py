"""The nftables of one namespace: transactions, dumps, and word of what others change.

One socket for writing lives as long as its ``Nftables``, because the kernel gives a table that is *owned* to
the socket that made it: nobody else can change or flush it. A table that also *persists* stays when the
socket is closed, and whoever comes next takes it over. Where the kernel knows no such table (owned since
5.12, persistent since 6.9) it is made as any other, and what others do to it is heard of.

Source: nft(8), linux/netfilter/nfnetlink.h; nf_tables of Linux 6.x.
"""

import errno
import socket
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from threading import Lock

from kubenet.errors import TimedOut
from kubenet.kernel import nft_codec as codec
from kubenet.kernel import nft_uapi as nf
from kubenet.kernel import uapi
from kubenet.kernel.netlink import (
    Message,
    NetlinkError,
    acknowledged,
    attributes,
    done,
    pack,
    refusal,
    text,
    text_in,
    unpack,
)
from kubenet.kernel.netns import NetNs
from kubenet.kernel.nft_counters import Counted, counted_elements
from kubenet.kernel.nft_rules import nfproto
from kubenet.kernel.nft_rules_read import packets_counted, rules_read
from kubenet.kernel.nlsocket import ANSWER_WITHIN_S, DUMP_TRIES, Resync, open_socket
from kubenet.model.nft import Chain, Elements, Family, Ruleset
from kubenet.model.nft_change import RulesetChange
from kubenet.model.nft_fields import Set

RECEIVE_BUFFER_BYTES = 4 << 20
LARGEST_ANSWER_BYTES = 1 << 18
SEND_BUFFER_BYTES = 1 << 20
LOUD_BYTES = 64 << 10  # a transaction whose events may overrun the queue

_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33  # asm-generic/socket.h
_TIMEVAL = struct.Struct("@ll")
_OWNED = nf.NFT_TABLE_F_OWNER | nf.NFT_TABLE_F_PERSIST
_NOT_KNOWN = (errno.EOPNOTSUPP, errno.EINVAL)
_UNRELIABLE = (errno.ENOBUFS, errno.EINTR, errno.EAGAIN, errno.ENOMEM)


def _no_shape(_name: str) -> None:
    """Return what a set of that name should look like: nobody knows, so it is read from the kernel."""


class NftRefused(NetlinkError):
    """The kernel refused a transaction, all of it; ``what`` is the part that it did not like."""


def open_nfnetlink(netns: NetNs | None) -> socket.socket:
    """Return a bound netfilter socket that belongs to ``netns``, with room for many events."""
    made = open_socket(netns, nf.NETLINK_NETFILTER)
    try:
        made.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _TIMEVAL.pack(ANSWER_WITHIN_S, 0))
    except BaseException:
        made.close()
        raise
    return made


class Nftables:
    """Our table in one namespace and family. May be used by several threads."""

    def __init__(self, netns: NetNs | None, family: Family, table: str, *, owned: bool = True) -> None:
        self.family: Family = family
        self.table = table
        self._flags = _OWNED if owned else 0
        self._socket = open_nfnetlink(netns)
        self._port = int(self._socket.getsockname()[0])
        self._send_buffer_bytes = 0
        self._sequence = 0
        self._foreign = False
        self._lock = Lock()
        try:
            self._events = open_nfnetlink(netns)
            self._events.setblocking(False)
            self._listen(not owned)
        except BaseException:
            self._socket.close()
            raise

    @property
    def owned(self) -> bool:
        """Whether nobody else can change the table; known once something was committed."""
        return bool(self._flags)

    @property
    def disturbed(self) -> bool:
        """Whether ``heard`` is known to be true already."""
        return self._foreign

    def fileno(self) -> int:
        """Return what is readable when something changed; then ask ``heard``."""
        return self._events.fileno()

    def close(self) -> None:
        """Let go of the table; it stays as it is."""
        self._socket.close()
        self._events.close()

    def commit(self, change: RulesetChange) -> None:
        """Carry ``change`` out, all of it or nothing.

        Raises NftRefused, which names the first part that was refused; Resync when it is not known what came
        of it; NotPermitted when the table belongs to another process.
        """
        with self._lock:
            try:
                self._commit(change)
            except NftRefused as error:
                about_table = error.what == f"table {self.table}"
                if not (self._flags and about_table and error.errno in _NOT_KNOWN):
                    raise
                self._flags = 0  # made as any other then
                self._listen(True)
                self._commit(change)
            self._foreign = self._foreign_event()  # our own events are heard too, and are all there

    def _listen(self, on: bool) -> None:
        """Hear events from now on, or no more. A table that is owned changes by nobody but us."""
        act = uapi.NETLINK_ADD_MEMBERSHIP if on else nf.NETLINK_DROP_MEMBERSHIP
        self._events.setsockopt(uapi.SOL_NETLINK, act, nf.NFNLGRP_NFTABLES)

    def _commit(self, change: RulesetChange) -> None:
        batch = codec.transaction(self.table, self.family, change, self._flags)
        packed = b"".join(batch.parts)
        if len(packed) < LOUD_BYTES:
            self._send(batch, packed)
            return
        # An event for each element would cost more than all the rest, and they would not fit the queue. So
        # nobody listens, and the generation tells whether others wrote meanwhile.
        already = self._foreign_event()
        listening = not self._flags
        self._listen(False)
        try:
            before = self._generation()
            self._send(batch, packed)
        finally:
            self._listen(listening)
        self._foreign = already or (listening and self._generation() != before + 1)

    def _send(self, batch: codec.Batch, packed: bytes) -> None:
        self._make_room(len(packed))
        try:
            self._socket.send(packed)
        except OSError as error:
            raise NftRefused(error.errno or errno.EIO, f"a transaction of {len(packed)} bytes") from error
        refused = list(self._refusals(batch))
        if refused:
            raise refused[0]

    def _make_room(self, bytes_due: int) -> None:
        """Let the socket take so much in one send; the kernel keeps a part of it for itself."""
        wanted = max(SEND_BUFFER_BYTES, 2 * bytes_due)
        if wanted > self._send_buffer_bytes:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, wanted)
            self._send_buffer_bytes = wanted

    def _refusals(self, batch: codec.Batch) -> Iterator[NftRefused]:
        """Yield what was refused. All answers are there when the send is over: the kernel works it off in it.

        The last message before the end is the one that is acknowledged; an older kernel does not answer to
        the end itself.
        """
        answered = False
        for message in self._waiting():
            if message.type != uapi.NLMSG_ERROR:
                continue
            answered = True
            code, said = acknowledged(message)
            if code in _UNRELIABLE:
                raise Resync(f"{self.table}: {refusal(code, 'transaction')}", "read the table again")
            if code:
                act = batch.acts[message.sequence] if message.sequence < len(batch.acts) else "transaction"
                yield NftRefused(code, codec.culprit(act, codec.refused_at(message)), said)
        if not answered:
            raise Resync(f"{self.table}: the kernel did not answer", "read the table again")

    def _waiting(self) -> Iterator[Message]:
        while True:
            try:
                datagram = self._socket.recv(LARGEST_ANSWER_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                raise Resync(f"{self.table}: answers of the kernel got lost", "read it again") from error
            yield from unpack(datagram)

    def remove(self) -> None:
        """Delete the table; none is fine. Raises NetlinkError."""
        batch = codec.Batch(self.table, self.family)
        batch.begin()
        body = text(nf.NFTA_TABLE_NAME, self.table)
        batch.add(nf.DELTABLE, 0, body, f"delete table {self.table}")
        batch.end()
        with self._lock:
            try:
                self._send(batch, b"".join(batch.parts))
            except NftRefused as error:
                if error.errno != errno.ENOENT:
                    raise

    def read(
        self, wanted: Callable[[], Mapping[str, Chain]], shape_of: Callable[[str], Set | None] = _no_shape
    ) -> Ruleset | None:
        """Return what the table holds, None if there is none. Rules that are as ``wanted`` are those.

        What rules have learned is not read. Raises NetlinkError, Resync, CodecError.
        """
        with self._lock:
            self._foreign_event()  # what is heard after this is news
            for _ in range(DUMP_TRIES):
                generation = self._generation()
                ruleset = self._read(wanted, shape_of)
                if generation == self._generation():
                    return ruleset
        raise Resync(f"{self.table}: it changed during each of {DUMP_TRIES} readings")

    def _read(
        self, wanted: Callable[[], Mapping[str, Chain]], shape_of: Callable[[str], Set | None]
    ) -> Ruleset | None:
        tables = self._dump(nf.GETTABLE, b"", "tables")
        if self.table not in {text_in(codec.body_attributes(m.body), nf.NFTA_TABLE_NAME) for m in tables}:
            return None
        sets: dict[str, Set] = {}
        for message in self._dump(nf.GETSET, text(nf.NFTA_SET_TABLE, self.table), "sets"):
            found = codec.body_attributes(message.body)
            name = text_in(found, nf.NFTA_SET_NAME)
            sets[name] = codec.set_read(found, shape_of(name))
        elements = {name: self._elements(name, kind) for name, kind in sets.items() if not kind.learned}
        return Ruleset(self.family, sets, self._chains(wanted()), elements)

    def _elements(self, name: str, kind: Set) -> Elements:
        body = text(nf.NFTA_SET_ELEM_LIST_TABLE, self.table) + text(nf.NFTA_SET_ELEM_LIST_SET, name)
        read: dict[bytes, bytes] = {}
        for message in self._dump(nf.GETSETELEM, body, f"elements of {name}"):
            read.update(codec.elements_read(message.body, kind))
        return read

    def _chains(self, wanted: Mapping[str, Chain]) -> dict[str, Chain]:
        rules: dict[str, list[bytes]] = {}
        chains: dict[str, Chain] = {}
        for message in self._dump(nf.GETRULE, text(nf.NFTA_RULE_TABLE, self.table), "rules"):
            body = message.body[codec.NFGENMSG.size :]
            rules.setdefault(text_in(attributes(body), nf.NFTA_RULE_CHAIN), []).append(body)
        for message in self._dump(nf.GETCHAIN, b"", "chains"):
            found = codec.body_attributes(message.body)
            if text_in(found, nf.NFTA_CHAIN_TABLE) != self.table:
                continue
            name = text_in(found, nf.NFTA_CHAIN_NAME)
            want = wanted[name].rules if name in wanted else ()
            read = rules_read(rules.get(name, []), want, self.family)
            chains[name] = replace(codec.chain_read(found), rules=read)
        return chains

    def counted(self, name: str) -> Counted:
        """Return what the elements of the map ``name`` have counted; nothing if they do not count.

        Raises NetlinkError, Resync, CodecError.
        """
        body = text(nf.NFTA_SET_ELEM_LIST_TABLE, self.table) + text(nf.NFTA_SET_ELEM_LIST_SET, name)
        read: Counted = {}
        with self._lock:
            for message in self._dump(nf.GETSETELEM, body, f"counters of {name}"):
                read.update(counted_elements(message.body))
        return read

    def packets_counted(self, chain: str) -> int:
        """Return how many packets the rules of ``chain`` have counted; 0 if there is none.

        Raises NetlinkError, Resync, CodecError.
        """
        where = text(nf.NFTA_RULE_TABLE, self.table) + text(nf.NFTA_RULE_CHAIN, chain)
        with self._lock:
            try:
                told = self._dump(nf.GETRULE, where, f"rules of {chain}")
            except NetlinkError as error:
                if error.errno == errno.ENOENT:
                    return 0
                raise
        return sum(packets_counted(message.body[codec.NFGENMSG.size :]) for message in told)

    def _generation(self) -> int:
        """Return the number of the last transaction of anybody in the namespace."""
        (told, *_) = self._dump(nf.GETGEN, b"", "generation", flags=0)
        return codec.number(codec.body_attributes(told.body), nf.NFTA_GEN_ID)

    def _dump(self, message: int, body: bytes, what: str, flags: int = uapi.NLM_F_DUMP) -> list[Message]:
        request = codec.get(message, self.family, body, f"read the {what} of {self.table}", flags)
        self._sequence += 1
        try:
            self._socket.send(pack(request, self._sequence, 0 if flags else uapi.NLM_F_ACK))
        except OSError as error:
            raise refusal(error.errno or errno.EIO, request.what) from error
        told: list[Message] = []
        while True:
            for answer in unpack(self._receive(request.what)):
                if answer.sequence != self._sequence:
                    continue
                if answer.type in (uapi.NLMSG_DONE, uapi.NLMSG_ERROR):
                    code = done(answer) if answer.type == uapi.NLMSG_DONE else acknowledged(answer)[0]
                    if code:
                        raise refusal(code, request.what)
                    return told
                told.append(answer)

    def _receive(self, what: str) -> bytes:
        try:
            return self._socket.recv(LARGEST_ANSWER_BYTES)
        except BlockingIOError as error:
            raise TimedOut(f"{what}: no answer from the kernel within {ANSWER_WITHIN_S} s") from error
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            raise Resync(f"{what}: answers of the kernel got lost", "read it again") from error

    def heard(self) -> bool:
        """Return whether anybody else changed our table since the last call, or may have. Does not block."""
        with self._lock:
            return self._foreign_event()

    def _foreign_event(self) -> bool:
        """Empty the queue of events; return whether one of them, or one that was lost, may be about us."""
        foreign = self._foreign
        self._foreign = False
        while True:
            try:
                datagram = self._events.recv(LARGEST_ANSWER_BYTES)
            except BlockingIOError:
                return foreign
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                foreign = True  # lost: it may have been about us
                continue
            foreign = foreign or self._concerns_us(datagram)

    def _concerns_us(self, datagram: bytes) -> bool:
        for kind, port, body in codec.events_in(datagram):
            if port == self._port or kind == nf.NEWGEN or body[:1] != bytes([nfproto(self.family)]):
                continue
            # In every kind of message the table's name is the first attribute.
            if text_in(codec.body_attributes(body), nf.NFTA_TABLE_NAME) == self.table:
                return True
        return False
