"""The addresses of one range, and which of them are free. *Pure.*

Every step costs the same in an empty and in a full pool. Addresses that nobody had yet go first, in order;
after them those that were given back, the one that has rested longest before the others. So an address
comes back into use as late as it can, and a pod that crashes in a loop does not get the address of a dead
one while old flows to it are still in somebody's connection table. One that was given back a moment ago is
handed out only when every other is in use: a pod that cannot start at all is worse.

Law: no address is handed out again before it was given back, and none outside the usable part of the range.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Interface, IPv6Interface
from itertools import chain

from kubenet.errors import InvalidInput, KubenetError
from kubenet.model.links import IPAddress, IPInterface, IPNetwork


class PoolExhausted(KubenetError):
    """Every address of a range is in use."""

    def __init__(self, network: IPNetwork, usable: int) -> None:
        super().__init__(
            f"{network}: all {usable} addresses are in use",
            "delete pods of this node, or give the nodes larger ranges",
        )


class AddressTaken(KubenetError):
    """The address asked for is in use, or is not one that a pod may have."""


class Pool:
    """Hands out the addresses of ``network``, each to one holder at a time.

    The first address (the network's), the second (the gateway's) and, with IPv4, the last (broadcast) are
    never handed out. ``taken`` are in use from the start. ``after`` is the last address that an earlier
    pool of the same range gave away; this one goes on behind it.

    Raises InvalidInput when the range has no address left for a pod.
    """

    def __init__(
        self, network: IPNetwork, taken: Iterable[IPAddress] = (), after: IPAddress | None = None
    ) -> None:
        self.network = network
        self._family = type(network.network_address)
        base = int(network.network_address)
        self._first = base + 2
        self._last = base + network.num_addresses - (2 if network.version == 4 else 1)
        if self._last < self._first:
            raise InvalidInput(
                f"{network}: too small for pods: beside the network's and the gateway's no address is left",
                "use a range of at least four addresses",
            )
        self._taken: set[int] = {int(address) for address in taken if self.offers(address)}
        self._rested: OrderedDict[int, None] = OrderedDict()  # given back, longest ago first
        start = int(after) + 1 if after is not None and self.offers(after) else self._first
        # Once round the range; what is given back meanwhile waits in the other queue.
        self._fresh = chain(range(start, self._last + 1), range(self._first, start))

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
        return self._last - self._first + 1

    @property
    def used(self) -> int:
        """How many addresses are in use."""
        return len(self._taken)

    @property
    def exhausted(self) -> bool:
        return self.used >= self.usable

    def offers(self, address: IPAddress) -> bool:
        """Whether a pod can have ``address``, now or once it is free."""
        return address.version == self.network.version and self._first <= int(address) <= self._last

    def __contains__(self, address: IPAddress) -> bool:
        """Whether ``address`` is in use."""
        return self.offers(address) and int(address) in self._taken

    def __iter__(self) -> Iterator[IPAddress]:
        """The addresses in use, in order."""
        return (self._family(number) for number in sorted(self._taken))

    def allocate(self) -> IPAddress:
        """Return an address that nobody has. Raises PoolExhausted."""
        number = next((n for n in self._fresh if n not in self._taken and n not in self._rested), None)
        if number is None:
            if not self._rested:
                raise PoolExhausted(self.network, self.usable)
            number, _ = self._rested.popitem(last=False)
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

    def release(self, address: IPAddress) -> None:
        """Give ``address`` back; one that is not in use stays as it is."""
        if address in self:
            self._taken.discard(int(address))
            self._rested[int(address)] = None
