"""Zones as files have them: read, looked up, given away whole. *Pure.*

Types that people rarely write by hand are read by dnslib, each content by itself; it never sees a packet.

Source: RFC 1035 section 5 (the form), RFC 1034 section 4.3.2 and RFC 4592 (looking up, wildcards), RFC 6672
(DNAME), RFC 2308 (denials), RFC 2181 section 5.2 (one TTL a set).
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import dnslib

from dns import names
from dns.answer import Answer
from dns.names import WireName, is_in
from dns.rdata import absolute, knows, read_content, rtype_of, seconds, split_words
from dns.records import NAMES_IN, RRset
from dns.wire import Rcode, RType
from kubenet.errors import InvalidInput

Node = Mapping[int, RRset]  # by type; empty: there are names below
_CLASSES = ("IN", "CH", "HS")
_WITH_ADDRESSES = (RType.NS, RType.MX, RType.SRV)
_LONGEST_DENIAL_S = 3600


@dataclass(frozen=True, slots=True)
class Alias:
    """The name only points elsewhere; ``records`` say so."""

    records: tuple[RRset, ...]
    target: WireName


@dataclass(frozen=True, slots=True)
class FileZone:
    """All names of one zone."""

    origin: WireName
    soa: RRset
    nodes: Mapping[WireName, Node]

    @property
    def serial(self) -> int:
        """The version of the zone."""
        return int.from_bytes(self.soa.contents[0][-20:-16], "big")

    def find(self, name: WireName, rtype: int) -> Answer | Alias:
        """Return what the zone says of a lower-cased name in it."""
        above = [ending for _, ending in names.suffixes(name)]
        above = [ending for ending in above if is_in(ending, self.origin)] or [self.origin]
        for ending in reversed(above):
            node = self.nodes.get(ending)
            if node is None:
                return self._missing(name, ending, rtype)
            if RType.NS in node and ending != self.origin and not (rtype == RType.DS and ending == name):
                return self._referral(node[RType.NS])
            if RType.DNAME in node and ending != name:
                return _through_dname(name, node[RType.DNAME])
        return self._at(name, self.nodes[name], rtype)

    def _at(self, name: WireName, node: Node, rtype: int) -> Answer | Alias:
        """Return what a node says; ``name`` is the owner, which a wildcard takes from the question."""
        if RType.CNAME in node and rtype not in (RType.CNAME, RType.ANY):
            alias = replace(node[RType.CNAME], owner=name)
            return Alias((alias,), alias.contents[0].lower())
        found = next(iter(node.values()), None) if rtype == RType.ANY else node.get(rtype)
        if found is None:
            return Answer(Rcode.NOERROR, authority=(self._denying_soa(),))
        return Answer(Rcode.NOERROR, (replace(found, owner=name),), additional=self._addresses(found))

    def _missing(self, name: WireName, ending: WireName, rtype: int) -> Answer | Alias:
        """``ending`` does not exist, the name above it does: only a wildcard there can answer."""
        star = self.nodes.get(b"\x01*" + ending[1 + ending[0] :])
        if star is None:
            return Answer(Rcode.NXDOMAIN, authority=(self._denying_soa(),))
        return self._at(name, star, rtype)

    def _referral(self, servers: RRset) -> Answer:
        return Answer(
            Rcode.NOERROR, authority=(servers,), additional=self._addresses(servers), authoritative=False
        )

    def _addresses(self, rrset: RRset) -> tuple[RRset, ...]:
        """Return the addresses of the names in a set, as far as they are in this zone."""
        if rrset.rtype not in _WITH_ADDRESSES:
            return ()
        start, _ = NAMES_IN[rrset.rtype]
        nodes = (self.nodes.get(content[start:].lower(), {}) for content in rrset.contents)
        found = (node[rtype] for node in nodes for rtype in (RType.A, RType.AAAA) if rtype in node)
        return tuple(dict.fromkeys(found))

    def _denying_soa(self) -> RRset:
        minimum_s = int.from_bytes(self.soa.contents[0][-4:], "big")
        return replace(self.soa, ttl_s=min(self.soa.ttl_s, minimum_s, _LONGEST_DENIAL_S))

    def records(self) -> Iterator[RRset]:
        """Give the whole zone as a transfer wants it: the SOA record at both ends."""
        yield self.soa
        for name in sorted(self.nodes):
            for rrset in self.nodes[name].values():
                if rrset.rtype != RType.SOA:
                    yield rrset
        yield self.soa


def _through_dname(name: WireName, dname: RRset) -> Answer | Alias:
    target = name[: -len(dname.owner)] + dname.contents[0].lower()
    if len(target) > names.MAX_NAME:
        return Answer(Rcode.YXDOMAIN, (dname,))
    return Alias((dname, RRset(name, RType.CNAME, dname.ttl_s, (target,))), target)


def read_zone(text: str, origin: WireName, file: str) -> FileZone:
    """Return the zone ``origin`` that a file describes. Raises InvalidInput, with the file's line."""
    nodes: dict[WireName, dict[int, RRset]] = {origin: {}}
    for line, rrset in _Reader(origin, file).records(text):
        if not is_in(rrset.owner, origin):
            raise InvalidInput(
                f"{file}:{line}: {names.to_text(rrset.owner)} is not in {names.to_text(origin)}"
            )
        _add(nodes, rrset, f"{file}:{line}")
    soa = nodes[origin].get(RType.SOA)
    if soa is None or len(soa.contents) != 1:
        raise InvalidInput(f"{file}: the zone {names.to_text(origin)} needs one SOA record")
    for name in tuple(nodes):
        while name != origin:
            name = name[1 + name[0] :]  # noqa: PLW2901 - walks up: what stands between exists, too
            nodes.setdefault(name, {})
    return FileZone(origin, soa, nodes)


def _add(nodes: dict[WireName, dict[int, RRset]], rrset: RRset, where: str) -> None:
    node = nodes.setdefault(rrset.owner, {})
    if node and (rrset.rtype == RType.CNAME) != (RType.CNAME in node):
        raise InvalidInput(f"{where}: {names.to_text(rrset.owner)} has a CNAME record and others")
    known = node.get(rrset.rtype)
    if known is None:
        node[rrset.rtype] = rrset
    else:
        contents = tuple(dict.fromkeys((*known.contents, *rrset.contents)))
        node[rrset.rtype] = replace(known, ttl_s=min(known.ttl_s, rrset.ttl_s), contents=contents)


class _Reader:
    """Reads the lines of one file, each in the light of those before."""

    def __init__(self, origin: WireName, file: str) -> None:
        self._origin = origin
        self._file = file
        self._owner = origin
        self._ttl_s: int | None = None
        self._minimum_s = 3600

    def records(self, text: str) -> Iterator[tuple[int, RRset]]:
        for number, line in _logical_lines(text):
            try:
                rrset = self._line(line)
            except InvalidInput as error:
                raise InvalidInput(f"{self._file}:{number}: {error}", error.next_step) from error
            except (ValueError, IndexError, struct.error, dnslib.DNSError) as error:
                raise InvalidInput(f"{self._file}:{number}: cannot read {line.strip()!r}: {error}") from error
            if rrset is not None:
                yield number, rrset

    def _line(self, line: str) -> RRset | None:
        words = split_words(line)
        match words:
            case []:
                return None
            case ["$ORIGIN", origin]:
                self._origin = absolute(origin, self._origin).lower()
                return None
            case ["$TTL", ttl]:
                self._ttl_s = seconds(ttl)
                return None
            case [first, *_] if first.startswith("$"):
                raise InvalidInput(f"{first} is not done yet; there are $ORIGIN and $TTL")
        if not line[0].isspace():
            self._owner = absolute(words.pop(0), self._origin).lower()
        return self._record(words)

    def _record(self, words: list[str]) -> RRset:
        ttl_s: int | None = None
        while words and (words[0].upper() in _CLASSES or words[0][0].isdecimal()):
            word = words.pop(0)
            if word.upper() not in _CLASSES:
                ttl_s = seconds(word)
            elif word.upper() != "IN":
                raise InvalidInput(f"class {word}: there is IN")
        if not words:
            raise InvalidInput("a record needs a type and a content")
        rtype = rtype_of(words[0]) if knows_type(words[0]) else _rare_type(words[0])
        content = self._content(rtype, words[1:])
        if rtype == RType.SOA:
            self._minimum_s = int.from_bytes(content[-4:], "big")
        if ttl_s is None:
            ttl_s = self._minimum_s if self._ttl_s is None else self._ttl_s
        return RRset(self._owner, rtype, ttl_s, (content,))

    def _content(self, rtype: int, words: Sequence[str]) -> bytes:
        if knows(rtype) or words[:1] == ["\\#"]:
            return read_content(rtype, words, self._origin)
        reader = dnslib.RDMAP.get(dnslib.QTYPE.get(rtype))
        if reader is None:
            raise InvalidInput(f"type {rtype}: write its content in the general form, \\# LENGTH HEX")
        buffer = dnslib.DNSBuffer()
        reader.fromZone(list(words), names.to_text(self._origin)).pack(buffer)
        return bytes(buffer.data)


def knows_type(text: str) -> bool:
    """Return whether a word is a type that we name, or a number."""
    return text.upper() in RType.__members__ or text.upper().startswith("TYPE")


def _rare_type(text: str) -> int:
    if text.upper() not in dnslib.QTYPE.reverse:
        raise InvalidInput(f"type {text!r}: unknown; write TYPE and its number")
    return int(dnslib.QTYPE.reverse[text.upper()])


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Give each record's text with its first line's number; parentheses join lines, comments are gone."""
    number, depth, parts = 0, 0, list[str]()
    for at, line in enumerate(text.splitlines(), 1):
        plain, opened = _without_comment(line)
        number = number if depth else at
        parts.append(plain)
        depth += opened
        if depth <= 0:
            yield number, " ".join(parts)
            parts, depth = [], 0
    if parts:
        yield number, " ".join(parts)


def _without_comment(line: str) -> tuple[str, int]:
    """Return the line up to its comment, and by how many parentheses it opens more than it closes."""
    quoted, opened, at = False, 0, 0
    while at < len(line):
        char = line[at]
        if char == "\\":
            at += 1
        elif char == '"':
            quoted = not quoted
        elif not quoted and char == ";":
            break
        elif not quoted and char in "()":
            opened += 1 if char == "(" else -1
        at += 1
    return line[:at], opened
