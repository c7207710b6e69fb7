"""Ask the kernel which iptables interface this host uses."""

from kubenet.kernel import iptables
from kubenet.kernel.netns import NetNs
from kubenet.model.flavour import Flavour
from proxy.flavours import Held, held_in, settled
from proxy.ports import Family

_FAMILIES: tuple[Family, ...] = (4, 6)


def host_flavour(netns: NetNs | None) -> Flavour:
    """Return which interface to write to. Raises SplitBrain, ProgramFailed."""
    return settled(held(netns, Flavour.NFT), held(netns, Flavour.LEGACY))


def held(netns: NetNs | None, flavour: Flavour) -> Held:
    """Return what one interface holds, in both families."""
    return held_in("".join(iptables.save_all(netns, family, flavour) for family in _FAMILIES))


def flavours_with_rules_of_ours(netns: NetNs | None) -> tuple[Flavour, ...]:
    """Return the interfaces in which a service proxy has left something."""
    return tuple(flavour for flavour in Flavour if held(netns, flavour).ours)
