"""Which addresses this machine has: for ``bind`` with names of interfaces, and to know our own names."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from dns.settings import Block
from kubenet.errors import InvalidInput, KubenetError
from kubenet.kernel.netns import NetNs
from kubenet.kernel.rtnl import Rtnl
from kubenet.model.links import IPAddress


def addresses_of(netns: NetNs | None) -> Mapping[str, tuple[IPAddress, ...]]:
    """Return the addresses of each interface; nothing where the kernel does not tell."""
    try:
        with Rtnl(netns) as rtnl:
            held = sorted(rtnl.observe().addresses, key=lambda each: (each.ifname, each.interface.version))
    except (KubenetError, OSError):
        return {}
    found: dict[str, tuple[IPAddress, ...]] = {}
    for each in held:
        found[each.ifname] = (*found.get(each.ifname, ()), each.interface.ip)
    return found


def reachable(addresses: Mapping[str, Sequence[IPAddress]]) -> tuple[IPAddress, ...]:
    """Return the addresses that others can ask us at."""
    every = (each for held in addresses.values() for each in held)
    return tuple(each for each in every if not (each.is_loopback or each.is_link_local))


def with_addresses(
    blocks: Sequence[Block], addresses: Mapping[str, Sequence[IPAddress]]
) -> tuple[Block, ...]:
    """Return the blocks with the addresses of the interfaces that they name. Raises InvalidInput."""
    return tuple(_with_addresses(block, addresses) if block.interfaces else block for block in blocks)


def _with_addresses(block: Block, addresses: Mapping[str, Sequence[IPAddress]]) -> Block:
    bound = list(block.bind)
    for ifname in block.interfaces:
        held = [each for each in addresses.get(ifname, ()) if not each.is_link_local]
        if not held:
            known = ", ".join(sorted(addresses))
            raise InvalidInput(
                f"{block.file}: bind: {ifname} is neither an address nor an interface with one",
                f"there are {known}" if known else "",
            )
        bound += held
    excepted = set(block.bind_except)
    return replace(block, bind=tuple(each for each in bound if str(each) not in excepted))
