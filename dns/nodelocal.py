"""A DNS server on each node: at link-local addresses of the node alone, past connection tracking.

Two queries of one socket at the same moment can race in connection tracking, and one of them is lost; the
client waits five seconds. So packets to and from these addresses are not tracked at all. And because all pods
of the node share the server's socket, what one of them sends in a second has a limit, in the kernel, before
the socket: a flood is the flooder's loss alone.

The addresses are put on ``lo``, the rules into a table of our own; both go when the server ends, unless a
successor has taken over.

Source: Kubernetes issue 56903 (the race); NodeLocal DNSCache; nft(8), "notrack" and "dynamic" sets.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_interface

from kubenet.errors import InvalidInput
from kubenet.kernel.netns import NetNs
from kubenet.kernel.rtnl import Rtnl
from kubenet.kernel.run import run
from kubenet.model.links import Address, IPAddress, LinkState, diff_state, state_of

TABLE = "kubenet-nodelocal"
HOLDER = "lo"
FAMILIES = {4: "ip", 6: "ip6"}


@dataclass(frozen=True, slots=True)
class NodeLocal:
    """Where the node's pods ask, and how much each of them may."""

    addresses: tuple[IPAddress, ...]
    port: int = 53
    per_client_s: int = 10_000  # queries over UDP


def rules(config: NodeLocal) -> str:
    """Return the table as ``nft -f`` reads it; what was there before goes in the same transaction."""
    untracked, answered, limited, sets = [], [], [], []
    for version, family in FAMILIES.items():
        held = sorted(str(each) for each in config.addresses if each.version == version)
        if not held:
            continue
        own = f"{{ {', '.join(held)} }}"
        for protocol in ("udp", "tcp"):
            untracked.append(f"{family} daddr {own} {protocol} dport {config.port} notrack")
            answered.append(f"{family} saddr {own} {protocol} sport {config.port} notrack")
        sets.append(
            f"set clients{version} {{ type ipv{version}_addr; flags dynamic, timeout;"
            f" timeout 1m; size 65535; }}"
        )
        rate = f"limit rate over {config.per_client_s}/second burst {2 * config.per_client_s} packets"
        limited.append(
            f"{family} daddr {own} udp dport {config.port}"
            f" add @clients{version} {{ {family} saddr {rate} }} counter drop"
        )
    return (
        f"table inet {TABLE} {{}}\ndelete table inet {TABLE}\ntable inet {TABLE} {{\n"
        + _lines(sets)
        + _chain("prerouting", "raw", untracked)
        + _chain("output", "raw", [*answered, *untracked])
        + _chain("input", "filter", limited)
        + "}\n"
    )


def _chain(hook: str, priority: str, sentences: Iterable[str]) -> str:
    head = f"type filter hook {hook} priority {priority}; policy accept;"
    return f"chain {hook} {{\n{_lines([head, *sentences])}}}\n"


def _lines(sentences: Iterable[str]) -> str:
    return "".join(f"  {each}\n" for each in sentences)


def arrange(config: NodeLocal, netns: NetNs | None) -> None:
    """Put the addresses and the rules in place; those that are there stay. Raises KubenetError."""
    if any(each.is_loopback or each.is_unspecified or each.is_multicast for each in config.addresses):
        raise InvalidInput("node-local: needs addresses such as 169.254.20.10")
    with Rtnl(netns) as rtnl:
        rtnl.apply(diff_state(_held(rtnl, config), state_of(*map(_address, config.addresses))))
    run(["nft", "-f", "-"], netns=netns, stdin=rules(config).encode())


def undo(config: NodeLocal, netns: NetNs | None) -> None:
    """Take both away again."""
    try:
        run(["nft", "delete", "table", "inet", TABLE], netns=netns, check=False)
    finally:
        with Rtnl(netns) as rtnl:
            rtnl.apply(diff_state(_held(rtnl, config), LinkState()))


def _held(rtnl: Rtnl, config: NodeLocal) -> LinkState:
    """Return which of the addresses are there, and nothing else."""
    there = rtnl.observe().addresses
    return state_of(*(each for each in map(_address, config.addresses) if each in there))


def _address(address: IPAddress) -> Address:
    return Address(HOLDER, ip_interface(f"{address}/{address.max_prefixlen}"))
