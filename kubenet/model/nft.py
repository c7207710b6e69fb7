"""All that our nftables table holds, as values: sets, chains, rules and elements. *Pure.*

Two equal ``Ruleset`` values mean that there is nothing to do. Only the sentences below can be said, so only
they reach the kernel, and the simulator can walk all of them. Rules are few and nearly never change; what
belongs to a service is elements of maps. An element is a pair of byte strings, packed as the kernel holds
them: every field in network order, filled up to four bytes. That is small (a cluster has 100,000 of them), it
can be compared with a dump as it stands, and ``Field`` says what it means.

Source: nft(8), linux/netfilter/nf_tables.h.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv4Network, IPv6Network
from typing import Literal, TypeAlias

from kubenet.model.nft_fields import Field, Set, fields_text

IPNetwork: TypeAlias = IPv4Network | IPv6Network
Family: TypeAlias = Literal[4, 6, 7]  # 7: frames that pass a bridge, whatever is in them
Elements: TypeAlias = Mapping[bytes, bytes]  # key to value; of a plain set the value is empty

NAME_LENGTH = 255  # NFT_NAME_MAXLEN is 256 with the closing NUL
COMMENT_LENGTH = 128  # what nft itself allows; a longer one would make nft's users stumble
_IFNAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,14}\+?")


class Load(Enum):
    """What a rule can take from a packet to look it up."""

    SOURCE = "ip saddr"
    DESTINATION = "ip daddr"
    PROTOCOL = "meta l4proto"
    PORT = "th dport"
    # Of the packet inside a VXLAN packet (RFC 7348 section 5); nft itself has no words for it before 1.0.8.
    INNER_KIND = "vxlan ether type"
    INNER_SOURCE_V4 = "vxlan ip saddr"
    INNER_SOURCE_V6 = "vxlan ip6 saddr"
    # Of a frame that passes a bridge.
    IN_IFNAME = "iifname"
    MAC_SOURCE = "ether saddr"
    ETHERTYPE = "ether type"
    BRIDGED_SOURCE_V4 = "bridged ip saddr"
    BRIDGED_SOURCE_V6 = "bridged ip6 saddr"
    ARP_MAC = "arp saddr ether"
    ARP_SOURCE = "arp saddr ip"
    SOURCE_PORT = "th sport"
    ICMP_TYPE = "icmpv6 type"
    ND_TARGET = "icmpv6 taddr"


Loads: TypeAlias = tuple[Load, ...]


def _loads_text(loads: Loads) -> str:
    return " . ".join(load.value for load in loads)


# How a rule finds the service that it chooses an endpoint of: its address, protocol and port.


@dataclass(frozen=True, slots=True)
class ByDestination:
    """The packet is addressed to it."""

    def text(self) -> str:
        return _loads_text((Load.DESTINATION, Load.PROTOCOL, Load.PORT))


@dataclass(frozen=True, slots=True)
class ByMap:
    """The map ``name`` has it, under what is loaded from the packet."""

    name: str
    loads: Loads

    def text(self) -> str:
        return f"{_loads_text(self.loads)} map @{self.name}"


@dataclass(frozen=True, slots=True)
class Always:
    """It is this one: address, protocol and port, packed."""

    packed: bytes

    def text(self) -> str:
        address = Field.ADDRESS_V4 if len(self.packed) == 12 else Field.ADDRESS_V6
        return fields_text((address, Field.PROTOCOL, Field.PORT), self.packed)


By: TypeAlias = ByDestination | ByMap | Always


@dataclass(frozen=True, slots=True)
class Stay:
    """A client keeps its endpoint: rules learn it into the map ``name`` for ``timeout_s`` seconds."""

    name: str
    timeout_s: int


# Sentences. A rule is one or more of them; all but the last are conditions or go on.


@dataclass(frozen=True, slots=True)
class From:
    """Packets from ``network``."""

    network: IPNetwork
    negated: bool = False

    def text(self) -> str:
        return f"ip saddr {'!= ' if self.negated else ''}{self.network}"


@dataclass(frozen=True, slots=True)
class To:
    """Packets to ``network``."""

    network: IPNetwork
    negated: bool = False

    def text(self) -> str:
        return f"ip daddr {'!= ' if self.negated else ''}{self.network}"


@dataclass(frozen=True, slots=True)
class InInterface:
    """Packets that came in by ``ifname``; a closing + stands for any ending."""

    ifname: str
    negated: bool = False

    def __post_init__(self) -> None:
        if not _IFNAME.fullmatch(self.ifname):
            raise ValueError(f"{self.ifname!r} cannot be an interface name")

    def text(self) -> str:
        return f'iifname {"!= " if self.negated else ""}"{self.ifname.replace("+", "*")}"'


@dataclass(frozen=True, slots=True)
class FromThisNode:
    """Packets whose source is an address of this node."""

    def text(self) -> str:
        return "fib saddr type local"


@dataclass(frozen=True, slots=True)
class ToThisNode:
    """Packets whose destination is an address of this node."""

    def text(self) -> str:
        return "fib daddr type local"


@dataclass(frozen=True, slots=True)
class FromElsewhere:
    """Packets that came in by another link than the one that leads to their source."""

    def text(self) -> str:
        return "fib saddr . iif oif missing"


@dataclass(frozen=True, slots=True)
class Marked:
    """Packets that carry the one bit ``bit``."""

    bit: int

    def text(self) -> str:
        return f"meta mark & {self.bit:#x} != 0"


@dataclass(frozen=True, slots=True)
class Translated:
    """Packets of a connection that was sent elsewhere."""

    def text(self) -> str:
        return "ct status dnat"


@dataclass(frozen=True, slots=True)
class Invalid:
    """Packets that conntrack cannot place in any connection."""

    def text(self) -> str:
        return "ct state invalid"


@dataclass(frozen=True, slots=True)
class Count:
    """Count the packet and go on."""

    def text(self) -> str:
        return "counter"


@dataclass(frozen=True, slots=True)
class InSet:
    """Packets of which what is loaded is an element of the set ``name``."""

    loads: Loads
    name: str
    negated: bool = False

    def text(self) -> str:
        return f"{_loads_text(self.loads)} {'!= ' if self.negated else ''}@{self.name}"


@dataclass(frozen=True, slots=True)
class SetMark:
    """Put ``bit`` on the packet and go on."""

    bit: int

    def text(self) -> str:
        return f"meta mark set meta mark | {self.bit:#x}"


@dataclass(frozen=True, slots=True)
class ClearMark:
    """Take ``bit`` off the packet and go on."""

    bit: int

    def text(self) -> str:
        return f"meta mark set meta mark & ~{self.bit:#x}"


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Look the packet up in a map, and what is there in a map to chains; go there, or go on if it is not."""

    loads: Loads
    name: str
    ways: str

    def text(self) -> str:
        return f"{_loads_text(self.loads)} map @{self.name} vmap @{self.ways}"


@dataclass(frozen=True, slots=True)
class Choose:
    """Send the connection to one of ``count`` endpoints; the map ``seats`` numbers them from ``first`` on."""

    by: By
    seats: str
    count: int
    first: int = 0
    in_turn: bool = False  # else by chance
    hashed: bool = False  # by the client's address: the same one is always sent to the same seat
    told_again: bool = False  # ``seats`` tells the service again before the endpoint
    stay: Stay | None = None  # remember the choice; only with ``told_again``

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError("there is nothing to choose from")

    def text(self) -> str:
        number = f"numgen {'inc' if self.in_turn else 'random'} mod {self.count}"
        if self.hashed:
            number = f"jhash ip saddr mod {self.count}"
        number += f" offset {self.first}" if self.first else ""
        learn = f"remember {self.stay.timeout_s}s @{self.stay.name} " if self.stay else ""
        return f"{learn}dnat to ({self.by.text()}) . {number} map @{self.seats}"


@dataclass(frozen=True, slots=True)
class Resume:
    """Send the connection where its client went before, if that is still one of ``members``; else go on."""

    by: By
    members: str
    stay: Stay

    def text(self) -> str:
        known = f"saddr . ({self.by.text()}) map @{self.stay.name} & @{self.members}"
        return f"refresh {self.stay.timeout_s}s dnat to {known}"


@dataclass(frozen=True, slots=True)
class Forget:
    """Forget where the client went before, and go on."""

    by: By
    stay: Stay

    def text(self) -> str:
        return f"delete @{self.stay.name} {{ saddr . ({self.by.text()}) }}"


@dataclass(frozen=True, slots=True)
class SendTo:
    """Send the connection to the address and port that the map ``name`` has for it; go on if it has none."""

    loads: Loads
    name: str

    def text(self) -> str:
        return f"dnat to {_loads_text(self.loads)} map @{self.name}"


@dataclass(frozen=True, slots=True)
class Jump:
    """Go on in another chain, and come back when it ends."""

    chain: str

    def text(self) -> str:
        return f"jump {self.chain}"


@dataclass(frozen=True, slots=True)
class Goto:
    """Go on in another chain, and do not come back."""

    chain: str

    def text(self) -> str:
        return f"goto {self.chain}"


class Verdict(Enum):
    """Ends without arguments."""

    DROP = "drop"
    RETURN = "return"

    def text(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class Reject:
    """Answer "port unreachable", which a TCP client sees as "connection refused"."""

    def text(self) -> str:
        return "reject"


@dataclass(frozen=True, slots=True)
class Masquerade:
    """Give the connection the address of the interface it leaves by, and a port nobody else has."""

    def text(self) -> str:
        return "masquerade fully-random"


@dataclass(frozen=True, slots=True)
class Foreign:
    """Something that we would not say: another program wrote it."""

    words: str

    def text(self) -> str:
        return f"# {self.words}"


Sentence: TypeAlias = (
    From
    | To
    | InInterface
    | FromThisNode
    | ToThisNode
    | FromElsewhere
    | Marked
    | Translated
    | Invalid
    | Count
    | InSet
    | SetMark
    | ClearMark
    | Dispatch
    | Choose
    | Resume
    | Forget
    | SendTo
    | Jump
    | Goto
    | Verdict
    | Reject
    | Masquerade
    | Foreign
)
Rule: TypeAlias = tuple[Sentence, ...]
Rules: TypeAlias = tuple[Rule, ...]


def rule_text(rule: Rule) -> str:
    """Return a rule as we would say it; nft has no words for some of it."""
    return " ".join(sentence.text() for sentence in rule)


class Hook(Enum):
    """Where a base chain hangs: the kernel's number of the hook (linux/netfilter.h)."""

    PREROUTING = 0
    INPUT = 1
    FORWARD = 2
    OUTPUT = 3
    POSTROUTING = 4


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain; a base chain of ``kind`` if it has a hook."""

    rules: Rules
    hook: Hook | None = None
    priority: int = 0
    kind: str = "nat"  # or "filter"

    def header(self) -> str:
        """Return what nft prints before the rules of a base chain."""
        if self.hook is None:
            return ""
        return f"type {self.kind} hook {self.hook.name.lower()} priority {self.priority}; policy accept;"


@dataclass(frozen=True, slots=True)
class Ruleset:
    """Everything in our table of one family."""

    family: Family = 4
    sets: Mapping[str, Set] = field(default_factory=dict)
    chains: Mapping[str, Chain] = field(default_factory=dict)
    elements: Mapping[str, Elements] = field(default_factory=dict)  # by set; one without any may be absent

    def contents(self, name: str) -> Elements:
        """Return the elements of a set."""
        return self.elements.get(name, {})
