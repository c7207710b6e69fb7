"""What a node serves, kept up to date: a change costs the Services that it is about. *Pure.*

Objects of changed Services come in, changed service ports come out. What became of the others is not looked
at, with one exception: Services that want the same address or node port (see ``proxy.clashes``) are settled
together, since who has it depends on who else asks.

Law: whatever the order in which objects came, ``ports`` and ``refused`` are what ``track`` and ``serve`` make
of the objects as they are now.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import NamedTuple, TypeVar

from proxy.clashes import Claims, without_clashes
from proxy.policy import Locality, ServingPort, serve_port
from proxy.ports import Refused, ServicePort, ServicePortName
from proxy.slices import SliceReader
from proxy.track import ServiceObjects, TrackRules, track_objects


class PortChange(NamedTuple):
    """One service port before and after; None where there is none."""

    before: ServingPort | None
    after: ServingPort | None


Changes = Mapping[ServicePortName, PortChange]


class View:
    """One family's service ports, as one node serves them."""

    def __init__(self, rules: TrackRules, here: Locality) -> None:
        self._rules = rules
        self._here = here
        self._serving: dict[str, tuple[ServingPort, ...]] = {}  # by Service; none without service ports
        self._unsettled: dict[str, tuple[ServicePort, ...]] = {}  # what those asked for who lost something
        self._claims = Claims()
        self._readers: dict[str, SliceReader] = {}
        self._refused: dict[str, tuple[Refused, ...]] = {}
        self._lost: dict[str, tuple[Refused, ...]] = {}
        self._all_refused: frozenset[Refused] | None = None

    @property
    def here(self) -> Locality:
        return self._here

    @property
    def services(self) -> int:
        """How many Services have service ports."""
        return len(self._serving)

    @property
    def refused(self) -> frozenset[Refused]:
        """What is not proxied, and why. The same object as long as that is the same."""
        if self._all_refused is None:
            self._all_refused = frozenset(chain(*self._refused.values(), *self._lost.values()))
        return self._all_refused

    def ports(self) -> Iterator[ServingPort]:
        """Yield all that is served, sorted."""
        for key in sorted(self._serving, key=lambda key: key.partition("/")):
            yield from self._serving[key]

    def update(self, objects: Iterable[ServiceObjects]) -> Changes:
        """Take in Services as they are now, each with all of its slices; return what became of it."""
        changed: set[str] = set()
        for each in objects:
            found = track_objects(each, self._rules, self._reader(each))
            self._refuse(self._refused, each.key, found.refused)
            before = self._asked(each.key)
            if found.service_ports == before:
                continue
            changed |= {each.key, *self._claims.move(each.key, before, found.service_ports)}
            self._unsettled[each.key] = found.service_ports
        return self._settle(self._claims.rivals(changed, self._asked)) if changed else {}

    def replace(self, objects: Iterable[ServiceObjects]) -> Changes:
        """Take in everything there is: what is not among ``objects`` has gone."""
        return self.update(self._and_gone(objects))

    def _and_gone(self, objects: Iterable[ServiceObjects]) -> Iterator[ServiceObjects]:
        """Yield ``objects``, and then whatever else we know of, as gone."""
        there: set[str] = set()
        for each in objects:
            there.add(each.key)
            yield each
        gone = {*self._serving, *self._unsettled, *self._refused} - there
        yield from (ServiceObjects(key, None) for key in gone)

    def move(self, here: Locality) -> Changes:
        """Be elsewhere from now on; return what this changed."""
        self._here = here
        served, self._serving = self._serving, {}
        changes: dict[ServicePortName, PortChange] = {}
        for key, before in served.items():
            after = tuple(serve_port(each.port, here) for each in before)
            _put(self._serving, key, after)
            changes |= _between(before, after)
        return changes

    def _reader(self, objects: ServiceObjects) -> SliceReader | None:
        """Return what remembers the slices of a Service that has several: of one, nothing stays the same."""
        if len(objects.slices) < 2:
            self._readers.pop(objects.key, None)
            return None
        return self._readers.setdefault(objects.key, SliceReader(self._rules.slices))

    def _asked(self, key: str) -> tuple[ServicePort, ...]:
        if key in self._unsettled:
            return self._unsettled[key]
        return tuple(each.port for each in self._serving.get(key, ()))

    def _settle(self, keys: Iterable[str]) -> Changes:
        """Share out the places among the Services ``keys``, and serve what they get."""
        asked = {key: self._asked(key) for key in keys}
        ports = sorted(
            (port for each in asked.values() for port in each), key=lambda port: port.name.sort_key
        )
        kept, lost = without_clashes(ports)
        settled: dict[str, list[ServicePort]] = defaultdict(list)
        for port in kept:
            settled[_key(port.name)].append(port)
        reasons: dict[str, list[Refused]] = defaultdict(list)
        for name, reason in lost:
            reasons[_key(name)].append(reason)
        changes: dict[ServicePortName, PortChange] = {}
        for key, wanted in asked.items():
            got = tuple(settled.get(key, ()))
            _put(self._unsettled, key, wanted if got != wanted else ())
            self._refuse(self._lost, key, tuple(reasons.get(key, ())))
            changes |= self._serve(key, got)
        return changes

    def _refuse(self, kept: dict[str, tuple[Refused, ...]], key: str, reasons: tuple[Refused, ...]) -> None:
        if kept.get(key, ()) != reasons:
            _put(kept, key, reasons)
            self._all_refused = None

    def _serve(self, key: str, ports: Iterable[ServicePort]) -> Changes:
        before = self._serving.get(key, ())
        known = {each.port.name: each for each in before}
        after = []
        for port in ports:
            served = known.get(port.name)
            after.append(served if served and served.port == port else serve_port(port, self._here))
        _put(self._serving, key, tuple(after))
        return _between(before, after)


T = TypeVar("T")


def _put(kept: dict[str, tuple[T, ...]], key: str, value: tuple[T, ...]) -> None:
    if value:
        kept[key] = value
    else:
        kept.pop(key, None)


def _key(name: ServicePortName) -> str:
    return f"{name.namespace}/{name.service}"


def _between(
    before: Iterable[ServingPort], after: Iterable[ServingPort]
) -> dict[ServicePortName, PortChange]:
    old = {each.port.name: each for each in before}
    new = {each.port.name: each for each in after}
    return {
        name: PortChange(old.get(name), new.get(name))
        for name in old | new
        if old.get(name) is not new.get(name) and old.get(name) != new.get(name)
    }
