"""The addresses of one range, and which of them are free. *Pure.*

Every step costs the same in an empty and in a full pool. Addresses that nobody had yet go first, in order;
after them those that were given back, the one that has rested longest before the others. So an address
comes back into use as late as it can, and a pod that crashes in a loop does not get the address of a dead
one while old flows to it are still in somebody's connection table. One that was given back a moment ago is
handed out only when every other is in use: a pod that cannot start at all is worse; unless the administrator
says how long an address must rest.

Law: no address is handed out again before it was given back, and none outside the usable part of the range.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface
from itertools import chain

from kubenet.errors import InvalidInput, KubenetError
from kubenet.model.links import IPAddress, IPInterface, IPNetwork


class PoolExhausted(KubenetError):
    """Every address of a range is in use."""

    def __init__(self, network: IPNetwork, usable: int, resting: int = 0) -> None:
        rest = f" or rest ({resting})" if resting else ""
        super().__init__(
            f"{network}: all {usable} addresses are in use{rest}",
            "delete pods of this node, or give the nodes larger ranges",
        )


class AddressTaken(KubenetError):
    """The address asked for is in use, or is not one that a pod may have."""


@dataclass(frozen=True, slots=True)
class PoolRules:
    """What the administrator says of all ranges."""

    excluded: tuple[IPNetwork, ...] = ()  # nobody gets these
    cooldown_s: float = 0.0  # so long an address must rest; 0: as long as others are free


NO_RULES = PoolRules()


class Pool:
    """Hands out the addresses of ``network``, each to one holder at a time.

    The first address (the network's), the second (the gateway's) and, with IPv4, the last (broadcast) are
    never handed out, nor what ``rules`` exclude. ``taken`` are in use from the start. ``after`` is the last
    address that an earlier pool of the same range gave away; this one goes on behind it. Times are of any one
    clock that does not go back, in seconds.

    Raises InvalidInput when the range has no address left for a pod.
    """

    def __init__(
        self,
        network: IPNetwork,
        taken: Iterable[IPAddress] = (),
        after: IPAddress | None = None,
        rules: PoolRules = NO_RULES,
    ) -> None:
        self.network = network
        self._family = type(network.network_address)
        base = int(network.network_address)
        self._first = base + 2
        last = base + network.num_addresses - (2 if network.version == 4 else 1)
        self._spans = tuple(_spans(self._first, last, network, rules.excluded))
        if not self._spans:
            raise InvalidInput(
                f"{network}: too small for pods: beside the network's, the gateway's and what is excluded"
                " no address is left",
                "use a range of at least four addresses, or exclude less",
            )
        self._cooldown_s = rules.cooldown_s
        self._taken: set[int] = {int(address) for address in taken if self.offers(address)}
        self._kept: set[int] = set()  # for somebody: not to be had without asking for it
        self._rested: OrderedDict[int, float] = OrderedDict()  # given back, longest ago first, and when
        start = int(after) + 1 if after is not None and self.offers(after) else self._first
        # Once round the range; what is given back meanwhile waits in the other queue.
        self._fresh = chain(*(range(max(low, start), high + 1) for low, high in self._spans))
        self._fresh = chain(self._fresh, *(range(low, min(high + 1, start)) for low, high in self._spans))

    @property
    def gateway(self) -> IPInterface:
        """The address that a bridge of this range has, the second, with the range's prefix."""
        return self.interface(self._family(self._first - 1))

    def interface(self, address: IPAddress) -> IPInterface:
        """Return the address with the range's prefix."""
        kind = IPv4Interface if self.network.version == 4 else IPv6Interface
        return kind((int(address), self.network.prefixlen))

    @property
    def usable(self) -> int:
        """How many addresses pods can have at the same time."""
        return sum(high - low + 1 for low, high in self._spans)

    @property
    def used(self) -> int:
        """How many addresses are in use."""
        return len(self._taken)

    @property
    def exhausted(self) -> bool:
        """Whether nobody can have an address who asks for none; those that rest count as free."""
        return len(self._taken | self._kept) >= self.usable

    def offers(self, address: IPAddress) -> bool:
        """Whether a pod can have ``address``, now or once it is free."""
        number = int(address)
        ours = address.version == self.network.version
        return ours and any(low <= number <= high for low, high in self._spans)

    def __contains__(self, address: IPAddress) -> bool:
        """Whether ``address`` is in use."""
        return self.offers(address) and int(address) in self._taken

    def __iter__(self) -> Iterator[IPAddress]:
        """The addresses in use, in order."""
        return (self._family(number) for number in sorted(self._taken))

    def allocate(self, now_s: float = 0.0) -> IPAddress:
        """Return an address that nobody has and that is kept for nobody. Raises PoolExhausted."""
        busy = (self._taken, self._rested, self._kept)
        number = next((n for n in self._fresh if not any(n in some for some in busy)), None)
        if number is None:
            number = next(iter(self._rested), None)
            if number is None or now_s - self._rested[number] < self._cooldown_s:
                raise PoolExhausted(self.network, self.usable, len(self._rested))
            del self._rested[number]
        self._taken.add(number)
        return self._family(number)

    def take(self, address: IPAddress) -> None:
        """Mark one address as in use. Raises AddressTaken, also when no pod can have it."""
        if not self.offers(address):
            raise AddressTaken(f"{address}: not an address that pods of {self.network} can have")
        if address in self:
            raise AddressTaken(f"{address}: in use already")
        self._rested.pop(int(address), None)
        self._taken.add(int(address))

    def release(self, address: IPAddress, now_s: float = 0.0) -> None:
        """Give ``address`` back; one that is not in use stays as it is."""
        if address in self:
            self._taken.discard(int(address))
            if int(address) not in self._kept:
                self._rested[int(address)] = now_s

    def keep(self, address: IPAddress) -> None:
        """Have ``address`` for somebody who asks for it, and for nobody else."""
        if self.offers(address):
            self._kept.add(int(address))
            self._rested.pop(int(address), None)

    def let_go(self, address: IPAddress, now_s: float = 0.0) -> None:
        """Keep ``address`` no longer."""
        if int(address) in self._kept and address.version == self.network.version:
            self._kept.discard(int(address))
            if address not in self:
                self._rested[int(address)] = now_s


def _spans(
    first: int, last: int, network: IPNetwork, excluded: Iterable[IPNetwork]
) -> Iterator[tuple[int, int]]:
    """Yield what is left from ``first`` to ``last``: first and last number of each piece, in order."""
    cuts = (each for each in excluded if each.version == network.version and each.overlaps(network))
    for low, high in sorted((int(cut.network_address), int(cut.broadcast_address)) for cut in cuts):
        if first < low:
            yield first, min(low - 1, last)
        first = max(first, high + 1)
    if first <= last:
        yield first, last
