"""No two service ports answer at one place. *Pure.*

The first by name keeps the place. A cluster address or a node port that is taken costs the second its whole
service port; an external address that is taken costs it that address only. Cluster addresses are dealt out
before external ones, so that nobody's external address covers another's cluster address, whatever its name.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from kubenet.model.protocol import Protocol
from proxy.ports import IPAddress, ObjectKind, Refused, ServicePort, ServicePortName

Place = int
"""An address with port and protocol, or a node port with its protocol, as one number: a cluster has many."""

_Holders = dict[Place, ServicePortName]

_PROTOCOL_NUMBERS = {Protocol.TCP: 6, Protocol.UDP: 17, Protocol.SCTP: 132}  # IANA


class Claims:
    """Which Services lay claim to which places: hardly ever more than one to a place.

    What becomes of a Service depends on its rivals, on their rivals, and on nobody else.
    """

    def __init__(self) -> None:
        self._claimants: dict[Place, str | frozenset[str]] = {}

    def move(self, key: str, before: Iterable[ServicePort], after: Iterable[ServicePort]) -> set[str]:
        """Let the Service ``key`` claim what ``after`` needs; return whoever else claims what it left."""
        old = {place for port in before for place in places_of(port)}
        new = {place for port in after for place in places_of(port)}
        left: set[str] = set()
        for place in old - new:
            rest = self._at(place) - {key}
            left |= rest
            self._set(place, rest)
        for place in new - old:
            self._set(place, self._at(place) | {key})
        return left

    def rivals(self, keys: Iterable[str], asked: Callable[[str], Iterable[ServicePort]]) -> set[str]:
        """Return ``keys`` and everybody whom they have to do with; ``asked`` tells what a Service wants."""
        found = set(keys)
        waiting = list(found)
        while waiting:
            for port in asked(waiting.pop()):
                for place in places_of(port):
                    claimants = self._claimants.get(place, "")
                    if isinstance(claimants, str):
                        continue
                    waiting += claimants - found
                    found |= claimants
        return found

    def _at(self, place: Place) -> frozenset[str]:
        claimants = self._claimants.get(place)
        if claimants is None:
            return frozenset()
        return frozenset({claimants}) if isinstance(claimants, str) else claimants

    def _set(self, place: Place, claimants: frozenset[str]) -> None:
        if not claimants:
            del self._claimants[place]
        else:
            self._claimants[place] = next(iter(claimants)) if len(claimants) == 1 else claimants


def places_of(port: ServicePort) -> Iterator[Place]:
    """Yield every place that ``port`` wants to answer at."""
    yield from _own_places(port)
    yield from (_place(ip, port) for ip in port.external_addresses)


def _place(ip: IPAddress, port: ServicePort) -> Place:
    return int(ip) << 24 | port.port << 8 | _PROTOCOL_NUMBERS[port.protocol]


def _own_places(port: ServicePort) -> Iterator[Place]:
    yield _place(port.cluster_ip, port)
    if port.node_port:
        # Where the address 0.0.0.0 would be, which is nobody's.
        yield port.node_port << 8 | _PROTOCOL_NUMBERS[port.protocol]


Lost = tuple[ServicePortName, Refused]
"""Who did not get something, and why."""


def without_clashes(ports: Sequence[ServicePort]) -> tuple[tuple[ServicePort, ...], tuple[Lost, ...]]:
    """Return sorted ``ports`` as far as nobody before them is there already, and what was lost."""
    holders: _Holders = {}
    names: set[ServicePortName] = set()
    lost: list[Lost] = []
    kept = []
    for port in ports:
        places = list(_own_places(port))
        holder = port.name if port.name in names else None
        holder = holder or next((holders[place] for place in places if place in holders), None)
        if holder:
            why = f"its address or port belongs to {holder} already"
            lost.append((port.name, _refused(port, why)))
            continue
        holders.update(dict.fromkeys(places, port.name))
        names.add(port.name)
        kept.append(port)
    settled = tuple(_settled(port, holders, lost) if port.external_addresses else port for port in kept)
    return settled, tuple(lost)


def _refused(port: ServicePort, why: str) -> Refused:
    name = port.name
    return Refused(f"Service port {name}", why, ObjectKind.SERVICE, f"{name.namespace}/{name.service}")


def _settled(port: ServicePort, holders: _Holders, lost: list[Lost]) -> ServicePort:
    taken: set[IPAddress] = set()
    for ip in dict.fromkeys(port.external_addresses):
        place = _place(ip, port)
        holder = holders.setdefault(place, port.name)
        if holder != port.name or ip == port.cluster_ip:
            taken.add(ip)
            why = f"external address {ip}: {holder} answers there already"
            lost.append((port.name, _refused(port, why)))
    external = tuple(ip for ip in port.external_ips if ip not in taken)
    # An address given both ways is served once, under the stricter of the two.
    balanced = tuple(ip for ip in port.load_balancer_ips if ip not in taken)
    if port.source_ranges:
        external = tuple(ip for ip in external if ip not in balanced)
    else:
        balanced = tuple(ip for ip in balanced if ip not in external)
    if (external, balanced) == (port.external_ips, port.load_balancer_ips):
        return port
    return replace(port, external_ips=external, load_balancer_ips=balanced)
