"""Resource records written as text, as zone files have them. *Pure.*

Only the types that people write by hand; any other can be given in the general form ``\\# LENGTH HEX``. Much
smaller and faster than a zone file reader, so that answers can be made of templates for every query.

Source: RFC 1035 section 5.1, RFC 3597 section 5 (general form), RFC 2782, RFC 8659 (CAA).
"""

import re
import struct
from collections.abc import Callable, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address

from dns import names
from dns.names import WireName
from dns.records import RRset, srv_content, text_content
from dns.wire import RType
from kubenet.errors import InvalidInput

_CLASSES = ("IN", "CH", "HS", "ANY")
DEFAULT_TTL_S = 3600


def read_record(text: str) -> RRset:
    """Return the record that one line such as ``www.example.org. 60 IN A 192.0.2.1`` means.

    Raises InvalidInput.
    """
    words = split_words(text)
    if len(words) < 3:
        raise InvalidInput(f"record {text!r}: needs a name, a type and a content")
    owner, rest = names.from_text(words[0].lower()), words[1:]
    ttl_s = DEFAULT_TTL_S
    while len(rest) > 1 and (rest[0].isdecimal() or rest[0].upper() in _CLASSES):
        ttl_s = int(rest[0]) if rest[0].isdecimal() else ttl_s
        rest = rest[1:]
    if ttl_s >= 1 << 31:
        raise InvalidInput(f"record {text!r}: TTL {ttl_s}: must be less than 2147483648")
    rtype = rtype_of(rest[0])
    try:
        return RRset(owner, rtype, ttl_s, (read_content(rtype, rest[1:], names.ROOT),))
    except (ValueError, struct.error, IndexError) as error:
        raise InvalidInput(f"record {text!r}: no content of type {rest[0]}") from error


def rtype_of(text: str) -> int:
    """Return the number of a type. Raises InvalidInput."""
    if text.upper() in RType.__members__:
        return RType[text.upper()]
    number = text.upper().removeprefix("TYPE")
    if not number.isdecimal() or int(number) > 65535:
        raise InvalidInput(f"type {text!r}: unknown; write TYPE and its number")
    return int(number)


def knows(rtype: int) -> bool:
    """Return whether contents of a type can be read here, other than in the general form."""
    return rtype in _CONTENTS


def read_content(rtype: int, words: Sequence[str], origin: WireName) -> bytes:
    """Return the content in wire form. Raises InvalidInput, ValueError, IndexError, struct.error."""
    if words and words[0] == "\\#":
        content = bytes.fromhex("".join(words[2:]))
        if len(content) != int(words[1]):
            raise InvalidInput(f"content of {len(content)} octets, {words[1]} told")
        return content
    reader = _CONTENTS.get(rtype)
    if reader is None:
        raise InvalidInput(f"type {rtype}: write its content in the general form, \\# LENGTH HEX")
    return reader(words, origin)


def split_words(text: str) -> list[str]:
    """Return the words of a line; quoted ones keep their blanks, parentheses and comments are left out."""
    found: list[str] = []
    word, quoted, started = "", False, False
    at = 0
    while at < len(text):
        char = text[at]
        if char == "\\" and at + 1 < len(text) and quoted:
            word += text[at + 1]
            at += 1
        elif char == '"':
            quoted, started = not quoted, True
        elif not quoted and (char.isspace() or char in "()"):
            if word or started:
                found.append(word)
            word, started = "", False
        elif char == ";" and not quoted:
            break
        else:
            word += char
        at += 1
    if word or started:
        found.append(word)
    return found


def absolute(text: str, origin: WireName) -> WireName:
    """Return the name that ``text`` means below ``origin``. Raises InvalidInput."""
    if text == "@":
        return origin
    name = names.from_text(text)
    if _ends_in_dot(text) or origin == names.ROOT:
        return name
    return names.from_labels((*names.to_labels(name), *names.to_labels(origin)))


def _ends_in_dot(text: str) -> bool:
    slashes = len(text) - 1 - len(text[:-1].rstrip("\\"))
    return text.endswith(".") and not slashes % 2


def _ipv4(words: Sequence[str], _origin: WireName) -> bytes:
    (text,) = words
    return IPv4Address(text).packed


def _ipv6(words: Sequence[str], _origin: WireName) -> bytes:
    (text,) = words
    return IPv6Address(text).packed


def _name(words: Sequence[str], origin: WireName) -> bytes:
    (text,) = words
    return absolute(text, origin)


def _mx(words: Sequence[str], origin: WireName) -> bytes:
    preference, exchange = words
    return struct.pack("!H", int(preference)) + absolute(exchange, origin)


def _srv(words: Sequence[str], origin: WireName) -> bytes:
    priority, weight, port, target = words
    return srv_content(int(weight), int(port), absolute(target, origin), int(priority))


def _soa(words: Sequence[str], origin: WireName) -> bytes:
    primary, mailbox, serial, *spans = words
    fields = struct.pack("!5I", int(serial), *(seconds(span) for span in spans))
    return absolute(primary, origin) + absolute(mailbox, origin) + fields


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_SPAN = re.compile(r"(\d+)([smhdw]?)", re.IGNORECASE | re.ASCII)


def seconds(text: str) -> int:
    """Return a time such as ``3600``, ``1h`` or ``1h30m`` in seconds. Raises ValueError."""
    parts = list(_SPAN.finditer(text))
    if not parts or "".join(part[0] for part in parts) != text:
        raise ValueError(f"{text!r} is no time")
    total = sum(int(part[1]) * _UNITS[part[2].lower() or "s"] for part in parts)
    if total >= 1 << 31:
        raise ValueError(f"{text!r} is too long")
    return total


def _strings(words: Sequence[str], _origin: WireName) -> bytes:
    if not words:
        raise ValueError
    octets = [word.encode() for word in words]
    if any(len(each) > 255 for each in octets):
        raise InvalidInput("a string of more than 255 octets")
    return b"".join(map(text_content, octets))


def _caa(words: Sequence[str], _origin: WireName) -> bytes:
    flags, tag, value = words
    return bytes((int(flags),)) + text_content(tag.encode()) + value.encode()


_CONTENTS: Mapping[int, Callable[[Sequence[str], WireName], bytes]] = {
    RType.A: _ipv4,
    RType.AAAA: _ipv6,
    RType.CNAME: _name,
    RType.DNAME: _name,
    RType.NS: _name,
    RType.PTR: _name,
    RType.MX: _mx,
    RType.SRV: _srv,
    RType.SOA: _soa,
    RType.TXT: _strings,
    RType.HINFO: _strings,
    RType.CAA: _caa,
}
