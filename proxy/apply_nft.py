"""Make the kernel's nftables hold what we want, writing no more than differs.

Per service port what was applied is remembered as the service port itself and the seats of its endpoints:
what it had added to the table follows from those. So a change costs the service ports that changed, whatever
else there is: their elements before and after are compared, and the difference is one transaction, or none.

When the table is not known (at the start, after a refusal, after somebody else wrote to it) it is read first,
and again only what differs is written. Seats are taken over as they are found, so that a restart finds
everything in place. Chains that are shared stay when nobody leads there any more; they will be wanted again,
and making one is the costly part. A restart clears them away.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from kubenet.kernel.netlink import NetlinkError
from kubenet.kernel.nlsocket import Resync
from kubenet.model.nft import Chain, Family, Ruleset
from kubenet.model.nft_change import RulesetChange, change_between
from kubenet.model.nft_fields import Set
from proxy import nft_names as n
from proxy.backend import Applied, StateUnknown
from proxy.compile_nft import assembled, base_chains
from proxy.nft_part import NO_SEATS, Part, is_own_chain, part_of, service_key
from proxy.nft_seats import TakenSeats, seats_in
from proxy.policy import ServingPort
from proxy.ports import NodeNetwork, ServicePortName

log = logging.getLogger(__name__)

# Sets in which one element serves several service ports, and goes with the last.
_SHARED = frozenset({n.CLUSTER_IPS, n.HAIRPIN})

_LARGE = 500  # elements

Keyed = dict[tuple[str, bytes], bytes]
"""Elements by set and key."""


class Nft(Protocol):
    """Our table in one namespace and family (``kubenet.kernel.nft.Nftables``)."""

    def read(
        self, wanted: Callable[[], Mapping[str, Chain]], shape_of: Callable[[str], Set | None]
    ) -> Ruleset | None:
        """Return what is there, None without a table; rules that are as ``wanted`` are those.

        Raises KubenetError.
        """
        ...

    def commit(self, change: RulesetChange) -> None:
        """Carry out all of it or nothing. Raises KubenetError."""
        ...

    def counted(self, name: str) -> Mapping[bytes, tuple[bytes, int]]:
        """Return value and packets of each element of a map, by key. Raises KubenetError."""
        ...

    def packets_counted(self, chain: str) -> int:
        """Return how many packets the rules of ``chain`` have counted. Raises KubenetError."""
        ...

    def heard(self) -> bool:
        """Return whether somebody else may have changed the table since it was last asked."""
        ...

    @property
    def disturbed(self) -> bool:
        """Whether ``heard`` is known to be true already."""
        ...

    def fileno(self) -> int:
        """Return what is readable when there may be something to hear."""
        ...

    def close(self) -> None:
        """Let go of the table; it stays."""
        ...


@dataclass(slots=True)
class _Holdings:
    """What the table holds, as far as it is not in the service ports themselves."""

    # Whose endpoints sit in the order in which they stand needs no note of it.
    ports: dict[ServicePortName, tuple[ServingPort, TakenSeats]] = field(default_factory=dict)
    users: dict[str, dict[bytes, int]] = field(  # how many use an element of a shared set
        default_factory=lambda: {name: {} for name in _SHARED}
    )
    chains: dict[str, Chain] = field(default_factory=dict)
    sets: dict[str, Set] = field(default_factory=dict)
    large: dict[ServicePortName, Part] = field(default_factory=dict)  # what is costly to work out again

    def add(self, serving: ServingPort, part: Part) -> None:
        """Remember that ``serving`` is in the table, by ``part``."""
        self.ports[serving.port.name] = serving, part.seats if part.reseated else NO_SEATS
        if len(part.elements) > _LARGE:
            self.large[serving.port.name] = part
        for name, key, _ in part.elements:
            if name in _SHARED:
                self.users[name][key] = self.users[name].get(key, 0) + 1

    def take(self, name: ServicePortName, part: Part) -> None:
        """Forget a service port that was in the table by ``part``."""
        del self.ports[name]
        self.large.pop(name, None)
        for shared, key, _ in part.elements:
            if shared in _SHARED:
                self.users[shared][key] -= 1
                if not self.users[shared][key]:
                    del self.users[shared][key]


class NftBackend:
    """The nftables way of ``proxy.backend.Backend``."""

    def __init__(self, kernel: Nft, network: NodeNetwork) -> None:
        self._kernel = kernel
        self._network = network
        self._have: _Holdings | None = None  # None: unknown

    def fileno(self) -> int:
        """Return what is readable when somebody wrote to a table; ``apply`` looks whether to ours."""
        return self._kernel.fileno()

    @property
    def disturbed(self) -> bool:
        """Whether somebody else wrote to the table while we did; the next ``apply`` compares all of it."""
        return self._kernel.disturbed

    def close(self) -> None:
        """Let go of the kernel; the table stays as it is."""
        self._kernel.close()

    def apply(self, serving: Sequence[ServingPort]) -> Applied:
        """See ``proxy.backend.Backend``."""
        if self._kernel.heard() and self._have:
            log.warning("proxy: nftables: somebody else wrote to the table: comparing all of it")
            self._have = None
        have = self._have
        if have is None:
            return self._apply_all(serving)
        names = {each.port.name for each in serving}
        changed: dict[ServicePortName, ServingPort | None] = {
            each.port.name: each for each in serving if not _is_same(have, each)
        }
        changed |= dict.fromkeys(have.ports.keys() - names)
        try:
            return self._apply_changed(have, changed)
        except (Resync, NetlinkError) as error:
            log.warning("proxy: nftables: %s: comparing all of the table", error)
            return self._apply_all(serving)

    def apply_changed(self, changed: Mapping[ServicePortName, ServingPort | None]) -> Applied:
        """See ``proxy.backend.Backend``."""
        if self._kernel.heard():
            self._have = None
            raise StateUnknown("nftables: somebody else wrote to the table")
        if self._have is None:
            raise StateUnknown("nftables: the table has not been read")
        try:
            return self._apply_changed(self._have, changed)
        except (Resync, NetlinkError) as error:
            raise StateUnknown(f"nftables: {error}") from error

    def move(self, network: NodeNetwork) -> None:
        """See ``proxy.backend.Backend``."""
        if network != self._network:
            self._network, self._have = network, None

    def connections(self) -> Mapping[tuple[ServicePortName, str], int]:
        """See ``proxy.backend.Backend``."""
        have = self._have
        if have is None or not self._network.count_connections:
            return {}
        names = {service_key(each.port): name for name, (each, _) in have.ports.items()}
        found: Counter[tuple[ServicePortName, str]] = Counter()
        for seats in filter(n.is_seats, have.sets):
            for key, (value, packets) in self._kernel.counted(seats).items():
                if (name := names.get(key[:-4])) is not None:
                    found[name, n.socket_text(self._network.family, value)] += packets
        return found

    def invalid_dropped(self) -> int:
        """See ``proxy.backend.Backend``."""
        return self._kernel.packets_counted(n.FORWARD)

    def drifted(self) -> Sequence[str]:
        """See ``proxy.backend.Backend``. Costs nothing as long as nobody else writes to the table."""
        if self._have is None or not self._kernel.heard():
            return ()
        known = list(self._have.ports.values())
        self._have = None
        want = assembled((part_of(each, self._network, taken) for each, taken in known), self._network)
        change = change_between(self._kernel.read(lambda: want.chains, self._shape_of), want)
        names = {*change.sets, *change.chains, *change.sets_gone}
        names |= {*change.chains_gone, *change.elements_in, *change.elements_out}
        return sorted(f"nftables {name}" for name in names)

    def _apply_all(self, serving: Sequence[ServingPort]) -> Applied:
        self._have = None
        found = self._kernel.read(lambda: self._chains_wanted(serving), self._shape_of)
        taken = seats_in(found) if found else {}
        holdings = _Holdings()

        def parts() -> Iterable[Part]:
            for each in serving:
                part = part_of(each, self._network, taken.get(service_key(each.port), NO_SEATS))
                holdings.add(each, part)
                yield part

        want = assembled(parts(), self._network)
        change = change_between(found, want)
        if change:
            self._kernel.commit(change)
        holdings.chains, holdings.sets = dict(want.chains), dict(want.sets)
        self._have = holdings
        return Applied(change.written, change.removed, observed=True)

    def _chains_wanted(self, serving: Sequence[ServingPort]) -> dict[str, Chain]:
        chains = base_chains(self._network)
        for each in serving:
            chains |= part_of(each, self._network).chains
        return chains

    def _shape_of(self, name: str) -> Set | None:
        return n.shape_of(self._network.family, name, self._network.count_connections)

    def _apply_changed(
        self, have: _Holdings, changed: Mapping[ServicePortName, ServingPort | None]
    ) -> Applied:
        if not changed:
            return Applied()
        before = {name: self._known_part(have, name) for name in changed if name in have.ports}
        after = [
            (each, part_of(each, self._network, before[name].seats if name in before else NO_SEATS))
            for name, each in changed.items()
            if each is not None
        ]
        parts = [part for _, part in after]
        change = _change(have, list(before.values()), parts, self._network.family)
        if change:
            self._have = None  # unknown until the kernel has answered
            self._kernel.commit(change)
        for name, part in before.items():
            have.take(name, part)
        for each, part in after:
            have.add(each, part)
        have.sets |= change.sets
        for chain in change.chains_gone:
            del have.chains[chain]
        have.chains |= change.chains
        self._have = have
        return Applied(change.written, change.removed)

    def _known_part(self, have: _Holdings, name: ServicePortName) -> Part:
        if name in have.large:
            return have.large[name]
        serving, taken = have.ports[name]
        return part_of(serving, self._network, taken)


def _is_same(have: _Holdings, serving: ServingPort) -> bool:
    known = have.ports.get(serving.port.name)
    # Of the same objects comes the same; equal ones are compared only when they are others.
    return known is not None and (known[0] is serving or known[0] == serving)


def _change(have: _Holdings, before: Sequence[Part], after: Sequence[Part], family: Family) -> RulesetChange:
    """Return what turns the elements and chains of ``before`` into those of ``after``."""
    wanted = {name: chain for part in after for name, chain in part.chains.items()}
    left = {name for part in before for name in part.chains if is_own_chain(name)} - wanted.keys()
    out, new = _keyed(before), _keyed(after)
    _keep_shared(have, before, after, out, new)
    for way in [at for at in out if at[0] == n.WAYS and out[at].decode() not in left]:
        del out[way]  # shared chains stay, and what leads there
    for way in [at for at in new if at[0] == n.WAYS and new[at].decode() in have.chains]:
        del new[way]
    for at in [at for at, value in new.items() if out.get(at) == value]:
        del out[at], new[at]
    shards = sorted({name for part in after for name in part.shards} - have.sets.keys())
    counted = n.ENDPOINTS in have.sets and have.sets[n.ENDPOINTS].counted
    sets = {name: n.seats_shape(family, name, counted) for name in shards}
    return RulesetChange(
        sets=sets,
        chains={name: chain for name, chain in wanted.items() if have.chains.get(name) != chain},
        elements_out=_by_set(out),
        elements_in=_by_set(new),
        chains_gone=tuple(sorted(left)),
        shapes={**have.sets, **sets},
    )


def _keep_shared(
    have: _Holdings, before: Sequence[Part], after: Sequence[Part], out: Keyed, new: Keyed
) -> None:
    """Leave in ``out`` only what has lost its last user, and in ``new`` what had none."""
    users: Counter[tuple[str, bytes]] = Counter()
    for parts, step in ((before, -1), (after, 1)):
        for part in parts:
            for name, key, _ in part.elements:
                if name in _SHARED:
                    users[name, key] += step
    for (name, key), more in users.items():
        there = have.users[name].get(key, 0)
        if there + more:
            out.pop((name, key), None)
        if there:
            new.pop((name, key), None)


def _keyed(parts: Sequence[Part]) -> Keyed:
    return {(name, key): value for part in parts for name, key, value in part.elements}


def _by_set(elements: Keyed) -> dict[str, dict[bytes, bytes]]:
    sorted_out: dict[str, dict[bytes, bytes]] = {}
    for (name, key), value in elements.items():
        sorted_out.setdefault(name, {})[key] = value
    return sorted_out
