"""The iptables rules that we say, as values, and the text of iptables-restore for them. *Pure.*

Only these sentences exist, so only these can reach the kernel, and the simulator can walk all of them. A rule
prints exactly as iptables-save prints it back, which makes "is the kernel still as we left it" a comparison
of lines.

Nothing from outside is pasted into the text: addresses and ports are numbers here, names are checked against
a narrow alphabet, and a comment is cleaned first (``Comment.of``). So no string can end a quotation, a line
or a table.

    Rule((Destination(ip_network("10.96.0.10/32")), DestinationPort(Protocol.UDP, 53)), Jump("KUBE-SVC-X"))

Source: iptables(8), iptables-extensions(8), linux/netfilter/x_tables.h and xt_comment.h for the lengths.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import ClassVar, Literal, TypeAlias

from kubenet.model.protocol import Protocol

IPAddress: TypeAlias = IPv4Address | IPv6Address
IPNetwork: TypeAlias = IPv4Network | IPv6Network
Family: TypeAlias = Literal[4, 6]

CHAIN_NAME_LENGTH = 28  # XT_EXTENSION_MAXNAMELEN is 29 with the closing NUL
COMMENT_LENGTH = 255  # XT_MAX_COMMENT_LEN is 256 with the closing NUL
_CHAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,27}")
_IFNAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,14}\+?")  # a closing + stands for any ending
_COMMENT = re.compile(r"(?!-)[A-Za-z0-9 ._:/,;=+@%#()<>\[\]-]{1,255}")  # a hyphen first looks like an option
_NOT_COMMENT = re.compile(r"[^A-Za-z0-9 ._:/,;=+@%#()<>\[\]-]")
_NEEDS_NO_QUOTES = re.compile(r"[A-Za-z0-9_-]+")  # the rule by which iptables-save leaves them out


def _bang(negated: bool) -> str:
    return "! " if negated else ""


def _checked(pattern: re.Pattern[str], text: str, what: str) -> None:
    if not pattern.fullmatch(text):
        raise ValueError(f"{text!r} cannot be {what}")


# Matches. Those with a rank below 9 are options of the rule itself: at most one of each, printed first and in
# this order.


@dataclass(frozen=True, slots=True)
class Source:
    """Packets from ``network``."""

    network: IPNetwork
    negated: bool = False
    rank: ClassVar[int] = 0

    def __post_init__(self) -> None:
        if self.network.prefixlen == 0:
            raise ValueError(f"a source of {self.network} says nothing: leave it out")

    def text(self, _family: Family) -> str:
        return f"{_bang(self.negated)}-s {self.network}"


@dataclass(frozen=True, slots=True)
class Destination:
    """Packets to ``network``."""

    network: IPNetwork
    negated: bool = False
    rank: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if self.network.prefixlen == 0:
            raise ValueError(f"a destination of {self.network} says nothing: leave it out")

    def text(self, _family: Family) -> str:
        return f"{_bang(self.negated)}-d {self.network}"


@dataclass(frozen=True, slots=True)
class InInterface:
    """Packets that came in by ``ifname``."""

    ifname: str
    negated: bool = False
    rank: ClassVar[int] = 2

    def __post_init__(self) -> None:
        _checked(_IFNAME, self.ifname, "an interface name")

    def text(self, _family: Family) -> str:
        return f"{_bang(self.negated)}-i {self.ifname}"


@dataclass(frozen=True, slots=True)
class OutInterface:
    """Packets that leave by ``ifname``."""

    ifname: str
    negated: bool = False
    rank: ClassVar[int] = 3

    def __post_init__(self) -> None:
        _checked(_IFNAME, self.ifname, "an interface name")

    def text(self, _family: Family) -> str:
        return f"{_bang(self.negated)}-o {self.ifname}"


@dataclass(frozen=True, slots=True)
class OfProtocol:
    """Packets of a transport protocol, to any port."""

    protocol: Protocol
    rank: ClassVar[int] = 4

    def text(self, _family: Family) -> str:
        return f"-p {self.protocol.lower}"


@dataclass(frozen=True, slots=True)
class DestinationPort:
    """Packets of a transport protocol to one port."""

    protocol: Protocol
    port: int
    rank: ClassVar[int] = 4

    def __post_init__(self) -> None:
        _check_port(self.port)

    def text(self, _family: Family) -> str:
        name = self.protocol.lower
        return f"-p {name} -m {name} --dport {self.port}"


class AddressKind(Enum):
    """What the routing table makes of an address."""

    LOCAL = "LOCAL"
    MULTICAST = "MULTICAST"


@dataclass(frozen=True, slots=True)
class DestinationKind:
    """Packets whose destination the routing table calls ``kind``."""

    kind: AddressKind
    negated: bool = False
    rank: ClassVar[int] = 9

    def text(self, _family: Family) -> str:
        return f"-m addrtype {_bang(self.negated)}--dst-type {self.kind.value}"


@dataclass(frozen=True, slots=True)
class SourceKind:
    """Packets whose source the routing table calls ``kind``."""

    kind: AddressKind
    negated: bool = False
    rank: ClassVar[int] = 9

    def text(self, _family: Family) -> str:
        return f"-m addrtype {_bang(self.negated)}--src-type {self.kind.value}"


class CtState(Enum):
    """Connection states, in the order in which iptables-save prints them."""

    INVALID = "INVALID"
    NEW = "NEW"
    RELATED = "RELATED"
    ESTABLISHED = "ESTABLISHED"
    UNTRACKED = "UNTRACKED"
    DNAT = "DNAT"


@dataclass(frozen=True, slots=True)
class InState:
    """Packets of a connection in one of ``states``; negated: in none of them."""

    states: frozenset[CtState]
    negated: bool = False
    rank: ClassVar[int] = 9

    def __post_init__(self) -> None:
        if not self.states:
            raise ValueError("a rule for no connection state matches nothing")

    def text(self, _family: Family) -> str:
        states = ",".join(state.value for state in CtState if state in self.states)
        return f"-m conntrack {_bang(self.negated)}--ctstate {states}"


@dataclass(frozen=True, slots=True)
class Marked:
    """Packets that carry all bits of ``bits``; negated: that lack one of them."""

    bits: int
    negated: bool = False
    rank: ClassVar[int] = 9

    def text(self, _family: Family) -> str:
        return f"-m mark {_bang(self.negated)}--mark {self.bits:#x}/{self.bits:#x}"


@dataclass(frozen=True, slots=True)
class OneIn:
    """One packet in ``share``, by chance."""

    share: int
    rank: ClassVar[int] = 9

    def __post_init__(self) -> None:
        if self.share < 2:
            raise ValueError("a share of all packets needs no match")

    def text(self, _family: Family) -> str:
        # The kernel compares 31 random bits with this share of 2^31, and that is what is read back.
        return f"-m statistic --mode random --probability {round(2**31 / self.share) / 2**31:.11f}"


@dataclass(frozen=True, slots=True)
class EveryNth:
    """Of each ``every`` packets that get as far as this rule, the first."""

    every: int
    rank: ClassVar[int] = 9

    def __post_init__(self) -> None:
        if self.every < 2:
            raise ValueError("every packet needs no match")

    def text(self, _family: Family) -> str:
        return f"-m statistic --mode nth --every {self.every} --packet 0"


_RECENT_MASK: Mapping[Family, str] = {4: "255.255.255.255", 6: "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"}


@dataclass(frozen=True, slots=True)
class SeenWithin:
    """Packets whose source was put on the list ``name`` in the last ``within_s`` seconds."""

    name: str
    within_s: int
    rank: ClassVar[int] = 9

    def __post_init__(self) -> None:
        _checked(_CHAIN_NAME, self.name, "the name of a list of recent sources")
        if self.within_s < 1:
            raise ValueError(f"{self.within_s} s is no time")

    def text(self, family: Family) -> str:
        mask = _RECENT_MASK[family]
        return (
            f"-m recent --rcheck --seconds {self.within_s} --reap --name {self.name} --mask {mask} --rsource"
        )


@dataclass(frozen=True, slots=True)
class PutOnList:
    """All packets; the source goes on the list ``name``, or its time there starts anew."""

    name: str
    rank: ClassVar[int] = 9

    def __post_init__(self) -> None:
        _checked(_CHAIN_NAME, self.name, "the name of a list of recent sources")

    def text(self, family: Family) -> str:
        return f"-m recent --set --name {self.name} --mask {_RECENT_MASK[family]} --rsource"


@dataclass(frozen=True, slots=True)
class Comment:
    """All packets; a word to the reader."""

    words: str
    rank: ClassVar[int] = 9

    def __post_init__(self) -> None:
        _checked(_COMMENT, self.words, "a comment")

    @classmethod
    def of(cls, words: str) -> "Comment":
        """Return a comment from any string: strange characters become ``_``, what is too long is cut."""
        return cls(_NOT_COMMENT.sub("_", words).lstrip("-")[:COMMENT_LENGTH] or "_")

    def text(self, _family: Family) -> str:
        bare = _NEEDS_NO_QUOTES.fullmatch(self.words)
        return f"-m comment --comment {self.words}" if bare else f'-m comment --comment "{self.words}"'


Match: TypeAlias = (
    Source
    | Destination
    | InInterface
    | OutInterface
    | OfProtocol
    | DestinationPort
    | DestinationKind
    | SourceKind
    | InState
    | Marked
    | OneIn
    | EveryNth
    | SeenWithin
    | PutOnList
    | Comment
)


# Targets.


@dataclass(frozen=True, slots=True)
class Jump:
    """Go on in another chain, and come back when it ends."""

    chain: str

    def __post_init__(self) -> None:
        _checked(_CHAIN_NAME, self.chain, "a chain name")

    def text(self, _family: Family) -> str:
        return f"-j {self.chain}"


class Verdict(Enum):
    """Targets without arguments."""

    ACCEPT = "ACCEPT"
    DROP = "DROP"
    RETURN = "RETURN"

    def text(self, _family: Family) -> str:
        return f"-j {self.value}"


@dataclass(frozen=True, slots=True)
class Reject:
    """Answer "port unreachable", which a TCP client sees as "connection refused"."""

    def text(self, family: Family) -> str:
        return f"-j REJECT --reject-with {'icmp' if family == 4 else 'icmp6'}-port-unreachable"


@dataclass(frozen=True, slots=True)
class Dnat:
    """Send the connection to ``ip``:``port`` instead."""

    ip: IPAddress
    port: int

    def __post_init__(self) -> None:
        _check_port(self.port)

    def text(self, _family: Family) -> str:
        host = f"[{self.ip}]" if self.ip.version == 6 else str(self.ip)
        return f"-j DNAT --to-destination {host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Masquerade:
    """Give the connection the address of the interface it leaves by."""

    random_fully: bool = True  # avoids the port clashes that make the kernel drop packets under load

    def text(self, _family: Family) -> str:
        return f"-j MASQUERADE{' --random-fully' if self.random_fully else ''}"


@dataclass(frozen=True, slots=True)
class SetMark:
    """Put ``bits`` on the packet and go on."""

    bits: int

    def text(self, _family: Family) -> str:
        return f"-j MARK --set-xmark {self.bits:#x}/{self.bits:#x}"


@dataclass(frozen=True, slots=True)
class FlipMark:
    """Turn ``bits`` of the mark over and go on."""

    bits: int

    def text(self, _family: Family) -> str:
        return f"-j MARK --set-xmark {self.bits:#x}/0x0"


Target: TypeAlias = Jump | Verdict | Reject | Dnat | Masquerade | SetMark | FlipMark


def _check_port(port: int) -> None:
    if not 1 <= port <= 65535:
        raise ValueError(f"{port} is not a port")


@dataclass(frozen=True, slots=True)
class Rule:
    """All of ``matches`` must hold; then ``target``. Equal rules are those that print the same."""

    matches: tuple[Match, ...]
    target: Target

    def __post_init__(self) -> None:
        ordered = tuple(sorted(self.matches, key=lambda match: match.rank))
        options = [match.rank for match in ordered if match.rank < 9]
        if len(set(options)) != len(options):
            raise ValueError(f"a rule says one thing twice: {self.matches}")
        object.__setattr__(self, "matches", ordered)

    def text(self, family: Family = 4) -> str:
        """Return the rule as iptables-save prints it, without ``-A CHAIN``."""
        return " ".join([*(match.text(family) for match in self.matches), self.target.text(family)])


Rules: TypeAlias = tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """All that a component wants of one table.

    ``chains`` are its own and hold nothing else; ``hooks`` are the rules it wants, once each, somewhere in
    chains that belong to everybody (the built-in ones).
    """

    name: str  # nat, filter, mangle
    chains: Mapping[str, Rules] = field(default_factory=dict)
    hooks: Mapping[str, Rules] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in (*self.chains, *self.hooks):
            _checked(_CHAIN_NAME, name, "a chain name")


@dataclass(frozen=True, slots=True)
class TableWrite:
    """What one iptables-restore does to one table, all of it or nothing."""

    table: str
    chains: Mapping[str, Rules] = field(default_factory=dict)  # made, or emptied and filled
    removed: Sequence[str] = ()  # emptied and deleted
    emptied: Sequence[str] = ()  # no longer ours, but a stranger's rule still jumps there
    inserted: Sequence[tuple[str, Rule]] = ()  # put first in a chain of everybody's
    withdrawn: Sequence[tuple[str, Rule]] = ()  # one copy taken out of a chain of everybody's

    def __bool__(self) -> bool:
        return any((self.chains, self.removed, self.emptied, self.inserted, self.withdrawn))


def first_write(table: Table) -> TableWrite:
    """Return what makes ``table`` where nothing of it is yet."""
    hooks = [(chain, rule) for chain in sorted(table.hooks) for rule in reversed(table.hooks[chain])]
    return TableWrite(table.name, table.chains, inserted=hooks)


def render_restore(writes: Sequence[TableWrite], family: Family = 4) -> str:
    """Return the input of ``iptables-restore --noflush`` that does ``writes``; empty if that is nothing."""
    return "".join("\n".join([*_restore_lines(write, family), ""]) for write in writes if write)


def _restore_lines(write: TableWrite, family: Family) -> Iterator[str]:
    yield f"*{write.table}"
    # Naming a chain makes it, or empties it; only then may rules jump there.
    for name in sorted({*write.chains, *write.removed, *write.emptied}):
        yield f":{name} - [0:0]"
    for chain, rule in write.withdrawn:
        yield f"-D {chain} {rule.text(family)}"
    for chain, rule in write.inserted:
        yield f"-I {chain} 1 {rule.text(family)}"
    for name in sorted(write.chains):
        yield from (f"-A {name} {rule.text(family)}" for rule in write.chains[name])
    for name in sorted(write.removed):
        yield f"-X {name}"
    yield "COMMIT"
