"""Asks a DNS server and shows what it says: ``kubenet dns query``.

dnslib writes the question and names what came back; the sockets are ours, because dnslib's own client
believes any packet. What comes back has to come from the server, with our id and our question, and has to
pass our strict parser before dnslib sees it, which a crafted packet would keep busy for seconds.

Source: RFC 1035 section 4, RFC 5452 section 9, RFC 6891; the form of the text is dig's.
"""

import re
import secrets
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from ipaddress import ip_address
from pathlib import Path

import dnslib

from dns import names
from dns.framing import FrameReader, framed
from dns.records import RRset
from dns.relay import UpstreamReply, all_records, read_reply
from dns.wire import AA, AD, CD, CLASS_IN, QR, RA, RD, TC, UDP_BYTES, Question
from kubenet.errors import InvalidInput, KubenetError, Malformed, NotFound, TimedOut, Unreachable
from kubenet.model.links import IPAddress

RESOLV_CONF = Path("/etc/resolv.conf")
RETRIES = 3

_SERVER = re.compile(r"(?:\[(?P<v6>[^]]+)\]|(?P<v4>[\d.]+))(?::(?P<port>\d+))?", re.ASCII)

SocketFactory = Callable[[int, int], socket.socket]
_FLAGS = {QR: "qr", AA: "aa", TC: "tc", RD: "rd", RA: "ra", AD: "ad", CD: "cd"}


@dataclass(frozen=True, slots=True)
class Server:
    """Whom to ask."""

    address: IPAddress
    port: int = 53

    def __str__(self) -> str:
        return f"{self.address}#{self.port}"


@dataclass(frozen=True, slots=True)
class Record:
    """One record, spelled as in a zone file."""

    name: str
    ttl_s: int
    type: str
    content: str

    def __str__(self) -> str:
        return f"{self.name}\t{self.ttl_s}\tIN\t{self.type}\t{self.content}"


@dataclass(frozen=True, slots=True)
class QueryResult:
    """What a server said. ``str`` gives it as dig would print it."""

    server: Server
    tcp: bool
    elapsed_ms: float
    size_bytes: int
    id: int
    status: str  # NOERROR, NXDOMAIN, ...
    flags: tuple[str, ...]
    question: str
    answers: tuple[Record, ...]
    authority: tuple[Record, ...]
    additional: tuple[Record, ...]

    def __str__(self) -> str:
        sections = {"ANSWER": self.answers, "AUTHORITY": self.authority, "ADDITIONAL": self.additional}
        counts = ", ".join(f"{name}: {len(records)}" for name, records in sections.items())
        lines = [
            f";; status: {self.status}, id: {self.id}, flags: {' '.join(self.flags)}; {counts}",
            f";; QUESTION\n;{self.question}",
            *(f";; {name}\n" + "\n".join(map(str, records)) for name, records in sections.items() if records),
            f";; {self.elapsed_ms:.1f} ms, {self.size_bytes} bytes from {self.server}"
            f" over {'TCP' if self.tcp else 'UDP'}",
        ]
        return "\n\n".join(lines)


def parse_server(text: str) -> Server:
    """Return the server that ``IP``, ``IP:PORT`` or ``[IP]:PORT`` means. Raises InvalidInput."""
    match = _SERVER.fullmatch(text)
    try:
        if match is None:
            return Server(ip_address(text))
        port = int(match["port"] or 53)
        if 0 < port < 65536:
            return Server(ip_address(match["v6"] or match["v4"]), port)
    except ValueError:
        pass  # said below
    raise InvalidInput(f"server {text!r}: not an address", "give IP, IP:PORT or [IPv6]:PORT")


def system_server(resolv_conf: Path = RESOLV_CONF) -> Server:
    """Return the first name server of the system. Raises NotFound."""
    try:
        lines = resolv_conf.read_text().splitlines()
    except OSError as error:
        raise NotFound(f"{resolv_conf}: {error.strerror}", "name a server with --server") from error
    for line in lines:
        match line.split():
            case ["nameserver", address, *_] if "%" not in address:  # link-local ones need an interface
                return parse_server(address)
    raise NotFound(f"{resolv_conf}: names no server", "name a server with --server")


def parse_type(text: str) -> int:
    """Return the number of a record type: ``A``, ``srv``, ``TYPE65``. Raises InvalidInput."""
    name = text.upper()
    number = name.removeprefix("TYPE")
    if number.isdecimal() and int(number) < 65536:
        return int(number)
    if name not in dnslib.QTYPE.reverse:
        near = get_close_matches(name, dnslib.QTYPE.reverse, 1)
        advice = f"did you mean {near[0]}?" if near else "give a type such as A, AAAA, SRV, PTR or TYPE65"
        raise InvalidInput(f"type {text!r}: unknown", advice)
    return int(dnslib.QTYPE.reverse[name])


def query(
    name: str,
    rtype: str = "A",
    *,
    server: Server | None = None,
    tcp: bool = False,
    timeout_s: float = 2.0,
    open_socket: SocketFactory = socket.socket,
) -> QueryResult:
    """Ask ``server`` (default: the system's first) and return what it says; blocks.

    An address for ``name`` with type PTR is asked for under its reverse name. A truncated answer is asked for
    again over TCP. ``open_socket`` decides in which network namespace: ``netns.socket``. Raises InvalidInput,
    NotFound, TimedOut, Unreachable, Malformed.
    """
    server = server or system_server()
    question = Question(_wire_name(name, rtype), parse_type(rtype), CLASS_IN)
    asker = _Asker(server, question, timeout_s, open_socket)
    reply, elapsed_ms = asker.over_tcp() if tcp else asker.over_udp()
    if reply.truncated and not tcp:
        tcp = True
        reply, elapsed_ms = asker.over_tcp()
    return _result(server, reply, tcp, elapsed_ms)


def _wire_name(name: str, rtype: str) -> names.WireName:
    if rtype.upper() == "PTR":
        try:
            return names.reverse_name(ip_address(name).packed)
        except ValueError:
            pass  # a name already
    return names.from_text(name)


class _Asker:
    """One question to one server, over one socket at a time."""

    def __init__(self, server: Server, question: Question, timeout_s: float, opener: SocketFactory) -> None:
        self._server = server
        self._question = question
        self._timeout_s = timeout_s
        self._opener = opener

    def over_udp(self) -> tuple[UpstreamReply, float]:
        for _ in range(RETRIES):
            with self._connected(socket.SOCK_DGRAM) as connection:
                message, ident = self._message()
                started = time.monotonic()
                try:
                    connection.send(message)
                    while (left_s := started + self._timeout_s - time.monotonic()) > 0:
                        connection.settimeout(left_s)
                        reply = self._ours(connection.recv(65535), ident)
                        if reply:
                            return reply, (time.monotonic() - started) * 1000
                except TimeoutError:
                    continue
                except OSError as error:
                    raise self._unreachable(error) from error
        raise TimedOut(f"{self._server}: no answer to {RETRIES} queries of {self._timeout_s:g} s each")

    def over_tcp(self) -> tuple[UpstreamReply, float]:
        started = time.monotonic()
        with self._connected(socket.SOCK_STREAM) as connection:
            message, ident = self._message()
            try:
                connection.sendall(framed(message))
                reply = self._ours(self._first_message(connection, started), ident)
            except TimeoutError as error:
                raise TimedOut(f"{self._server}: no answer over TCP in {self._timeout_s:g} s") from error
            except OSError as error:
                raise self._unreachable(error) from error
        if reply is None:
            raise Malformed(f"{self._server}: what came over TCP is no answer to our question")
        return reply, (time.monotonic() - started) * 1000

    def _first_message(self, connection: socket.socket, started: float) -> bytes:
        frames = FrameReader()
        while (left_s := started + self._timeout_s - time.monotonic()) > 0:
            connection.settimeout(left_s)
            piece = connection.recv(65535)
            if not piece:
                raise Unreachable(f"{self._server}: closed the connection without an answer")
            frames.feed(piece)
            for message in frames.messages():
                return message
        raise TimeoutError

    def _connected(self, kind: int) -> socket.socket:
        """Connected, so that the kernel drops what comes from anybody else."""
        family = socket.AF_INET if self._server.address.version == 4 else socket.AF_INET6
        opened = self._opener(family, kind)
        opened.settimeout(self._timeout_s)
        try:
            opened.connect((str(self._server.address), self._server.port))
        except OSError as error:
            opened.close()
            raise self._unreachable(error) from error
        return opened

    def _message(self) -> tuple[bytes, int]:
        labels = dnslib.DNSLabel(names.to_labels(self._question.name))
        ident = secrets.randbits(16)
        asked = dnslib.DNSRecord(
            dnslib.DNSHeader(id=ident, rd=1), q=dnslib.DNSQuestion(labels, self._question.qtype)
        )
        asked.add_ar(dnslib.EDNS0(udp_len=UDP_BYTES))
        return bytes(asked.pack()), ident

    def _ours(self, message: bytes, ident: int) -> UpstreamReply | None:
        try:
            reply = read_reply(message)
        except Malformed:
            return None
        return reply if reply.id == ident and reply.question == self._question else None

    def _unreachable(self, error: OSError) -> KubenetError:
        if isinstance(error, TimeoutError):
            return TimedOut(f"{self._server}: no connection in {self._timeout_s:g} s")
        return Unreachable(f"{self._server}: {error.strerror}", "is a server listening there?")


def _result(server: Server, reply: UpstreamReply, tcp: bool, elapsed_ms: float) -> QueryResult:
    answers, authority, additional = all_records(reply)
    asked = reply.question
    return QueryResult(
        server,
        tcp,
        elapsed_ms,
        len(reply.message),
        reply.id,
        _status(reply.rcode),
        tuple(name for bit, name in _FLAGS.items() if reply.flags & bit),
        f"{names.to_text(asked.name)}\tIN\t{_type_name(asked.qtype)}",
        _records(answers),
        _records(authority),
        _records(additional),
    )


def _records(rrsets: Sequence[RRset]) -> tuple[Record, ...]:
    return tuple(
        Record(
            names.to_text(rrset.owner), rrset.ttl_s, _type_name(rrset.rtype), _spelled(rrset.rtype, content)
        )
        for rrset in rrsets
        for content in rrset.contents
    )


def _spelled(rtype: int, content: bytes) -> str:
    """Return a content as zone files spell it; in the general form (RFC 3597) if its type does not fit.

    Each content is read by itself, so that no pointer can lead dnslib through the whole message.
    """
    reader = dnslib.RDMAP.get(_type_name(rtype), dnslib.RD)
    try:
        return str(reader.parse(dnslib.DNSBuffer(content), len(content)))
    except (
        dnslib.DNSError,
        ValueError,
        IndexError,
        RecursionError,
    ):  # labels that are not UTF-8 are a ValueError
        return f"\\# {len(content)} {content.hex()}"


def _type_name(rtype: int) -> str:
    return str(dnslib.QTYPE.get(rtype)) if rtype in dnslib.QTYPE.forward else f"TYPE{rtype}"


def _status(rcode: int) -> str:
    return str(dnslib.RCODE.get(rcode)) if rcode in dnslib.RCODE.forward else f"RCODE{rcode}"
