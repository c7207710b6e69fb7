"""From EndpointSlices to the endpoints of each port. *Pure.*

A Service of thousands of endpoints has dozens of slices, of which one changes at a time; so what was read
from a slice is kept for as long as the slice is the same object.

Source: Kubernetes API reference v1.36 (EndpointSlice); KEP-1672 (terminating endpoints), KEP-4444.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from sys import intern

from kubenet.model.objects import EndpointSlice, SliceEndpoint
from kubenet.model.protocol import Protocol
from proxy.ports import (
    NO_HINTS,
    Endpoint,
    Family,
    IPAddress,
    IPNetwork,
    ObjectKind,
    Refused,
    parse_ip,
    why_not_endpoint,
)
from proxy.weights import MOST_WEIGHT

WEIGHT_ANNOTATION = "kubenet.dev/weight"  # of an EndpointSlice, for all of its endpoints

PortKey = tuple[str, Protocol]
Entry = tuple[PortKey, str, Endpoint]
"""Which port it is for, what it is called, and the endpoint."""


@dataclass(frozen=True, slots=True)
class SliceRules:
    """What holds for all slices."""

    family: Family = 4
    service_cidrs: tuple[IPNetwork, ...] = ()


@dataclass(frozen=True, slots=True)
class SliceRead:
    """What was found in one slice."""

    piece: EndpointSlice
    entries: Sequence[Entry] = ()
    refused: Sequence[Refused] = ()


class SliceReader:
    """Reads the slices of one Service again and again. They must not be changed afterwards."""

    def __init__(self, rules: SliceRules) -> None:
        self._rules = rules
        self._known: dict[str, SliceRead] = {}

    def read(self, slices: Iterable[EndpointSlice]) -> Sequence[SliceRead]:
        """Return what is in each of ``slices``; those that are left out are forgotten."""
        before, self._known = self._known, {}
        for piece in slices:
            known = before.get(piece.metadata.key)
            same = known is not None and (known.piece is piece or known.piece == piece)
            self._known[piece.metadata.key] = known if known and same else read_slice(piece, self._rules)
        return tuple(self._known.values())


def read_slice(piece: EndpointSlice, rules: SliceRules) -> SliceRead:
    """Return what is in ``piece``, as far as it is of the family of ``rules``."""
    if piece.address_type != f"IPv{rules.family}":
        return SliceRead(piece)
    refused: list[Refused] = []
    entries = [(key, str(endpoint), endpoint) for key, endpoint in _endpoints(piece, rules, refused)]
    return SliceRead(piece, entries, refused)


def endpoints_by_port(reads: Iterable[SliceRead]) -> Mapping[PortKey, tuple[Endpoint, ...]]:
    """Return the endpoints for each (port name, protocol), merged over the slices, sorted as text."""
    best: dict[PortKey, dict[str, Endpoint]] = defaultdict(dict)
    for key, text, endpoint in (entry for read in reads for entry in read.entries):
        rival = best[key].get(text)
        best[key][text] = max(endpoint, rival, key=_merit) if rival else endpoint
    return {key: tuple(by_text[text] for text in sorted(by_text)) for key, by_text in best.items()}


def _endpoints(
    piece: EndpointSlice, rules: SliceRules, refused: list[Refused]
) -> Iterator[tuple[PortKey, Endpoint]]:
    name = piece.metadata.key
    about = partial(Refused, kind=ObjectKind.ENDPOINTSLICE, key=name)
    ports: list[tuple[PortKey, int]] = []
    for port in piece.ports or ():
        protocol = Protocol.__members__.get(port.protocol or "TCP")
        if port.name is not None and protocol and port.port and port.port <= 65535:
            ports.append(((intern(port.name), protocol), port.port))
    weight, complaint = _weight(piece)
    if complaint:
        refused.append(about(f"EndpointSlice {name}", complaint))
    for number, entry in enumerate(piece.endpoints or ()):
        ip = parse_ip(entry.addresses[0]) if entry.addresses else None
        reason = _why_not_address(entry, ip, rules)
        if ip is None or reason:
            refused.append(about(f"EndpointSlice {name} endpoint {number}", reason))
            continue
        yield from ((key, _endpoint(entry, ip, target, weight)) for key, target in ports)


def _weight(piece: EndpointSlice) -> tuple[int, str]:
    """Return the weight of the endpoints, and what is wrong with what the slice says of it."""
    text = piece.metadata.annotations.get(WEIGHT_ANNOTATION)
    if text is None:
        return 1, ""
    if text.isascii() and text.isdecimal() and len(text) <= 3 and int(text) <= MOST_WEIGHT:
        return int(text), ""
    return 1, f"annotation {WEIGHT_ANNOTATION}={text!r} is not a number from 0 to {MOST_WEIGHT}; 1 holds"


def _why_not_address(entry: SliceEndpoint, ip: IPAddress | None, rules: SliceRules) -> str:
    if not entry.addresses:
        return "has no address"
    if ip is None:
        return f"{entry.addresses[0]!r} is not an address"
    if ip.version != rules.family:
        return f"{ip} is not an IPv{rules.family} address"
    reason = why_not_endpoint(ip, rules.service_cidrs)
    return f"{ip}: {reason}" if reason else ""


def _endpoint(entry: SliceEndpoint, ip: IPAddress, port: int, weight: int) -> Endpoint:
    conditions, hints = entry.conditions, entry.hints
    return Endpoint(
        ip,
        port,
        ready=conditions.ready is not False,
        serving=conditions.serving is not False,
        terminating=conditions.terminating is True,
        node_name=intern(entry.node_name),
        zone_hints=frozenset(hint.name for hint in hints.for_zones) if hints else NO_HINTS,
        node_hints=frozenset(hint.name for hint in hints.for_nodes) if hints else NO_HINTS,
        weight=weight,
    )


def _merit(endpoint: Endpoint) -> tuple[bool, bool, bool, str, list[str], list[str], int]:
    """Return what makes one of two entries for the same address win, whichever came first."""
    return (
        not endpoint.terminating,
        endpoint.ready,
        endpoint.serving,
        endpoint.node_name,
        sorted(endpoint.zone_hints),
        sorted(endpoint.node_hints),
        endpoint.weight,
    )
