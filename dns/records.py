"""Resource records as values, their content already in wire form. *Pure.*

Names inside contents are uncompressed; only the writer of a reply (``dns.reply``) knows what can be pointed
to.

Source: RFC 1035 section 3.3, RFC 2782 (SRV), RFC 3596 (AAAA), RFC 8482 (HINFO for ANY).
"""

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from dns import names
from dns.names import WireName
from dns.wire import RType

# Types with names inside: octets before the first name, and how many there are.
NAMES_IN: dict[int, tuple[int, int]] = {
    RType.NS: (0, 1),
    RType.CNAME: (0, 1),
    RType.PTR: (0, 1),
    RType.DNAME: (0, 1),
    RType.SOA: (0, 2),
    RType.MX: (2, 1),
    RType.SRV: (6, 1),
}


@dataclass(frozen=True, slots=True)
class RRset:
    """All records of one type at one name, class IN."""

    owner: WireName  # lower case; the reply points at the client's own spelling where it can
    rtype: int
    ttl_s: int
    contents: tuple[bytes, ...]


def addresses(owner: WireName, rtype: int, ttl_s: int, packed: Iterable[bytes]) -> RRset:
    """Return the A or AAAA set of those of ``packed`` (4 or 16 octets) that fit ``rtype``; maybe empty."""
    size = 4 if rtype == RType.A else 16
    return RRset(owner, rtype, ttl_s, tuple(each for each in packed if len(each) == size))


def both_families(owner: WireName, ttl_s: int, packed: Iterable[bytes]) -> tuple[RRset, ...]:
    """Return the A and AAAA sets of ``packed``, without empty ones."""
    packed = tuple(packed)
    found = (addresses(owner, rtype, ttl_s, packed) for rtype in (RType.A, RType.AAAA))
    return tuple(rrset for rrset in found if rrset.contents)


def srv_content(weight: int, port: int, target: WireName, priority: int = 0) -> bytes:
    """Return the content of an SRV record."""
    return struct.pack("!HHH", priority, weight, port) + target


def soa_content(zone: WireName, serial: int, minimum_s: int) -> bytes:
    """Return the content of the SOA record of ``zone``; refresh, retry and expiry are those of CoreDNS."""
    servers = b"\x02ns\x03dns" + zone + b"\x0ahostmaster" + zone
    return servers + struct.pack("!5I", serial & 0xFFFFFFFF, 7200, 1800, 86400, minimum_s)


def text_content(text: bytes) -> bytes:
    """Return the content of a TXT record of one string of at most 255 octets."""
    return bytes((len(text),)) + text


def with_names(rtype: int, content: bytes, change: Callable[[WireName], WireName]) -> bytes:
    """Return the content of a record of a type of ``NAMES_IN`` with the names in it changed."""
    at, count = NAMES_IN[rtype]
    parts = [content[:at]]
    for _ in range(count):
        end = names.end_of(content, at)
        parts.append(change(content[at:end]))
        at = end
    return b"".join((*parts, content[at:]))
