"""What the plugins that shape questions and answers are told, as values. *Pure.*

Source: the plugins' manual pages of CoreDNS.
"""

from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Network, IPv6Network
from typing import TypeAlias

from dns.names import WireName

Network: TypeAlias = IPv4Network | IPv6Network


class Match(Enum):
    """How a pattern of ``rewrite`` is held against a name."""

    EXACT = "exact"
    PREFIX = "prefix"
    SUFFIX = "suffix"
    SUBSTRING = "substring"
    REGEX = "regex"


@dataclass(frozen=True, slots=True)
class NamePattern:
    """Names that a rule of ``rewrite`` is for."""

    match: Match
    text: str


@dataclass(frozen=True, slots=True)
class NameRewrite:
    """Ask for another name; the answer speaks of the one that was asked, as far as it is told to."""

    pattern: NamePattern
    target: str
    auto: bool = False  # names in the answer are changed back
    answer_names: tuple[tuple[str, str], ...] = ()  # patterns and what owners that match become
    answer_values: tuple[tuple[str, str], ...] = ()  # the same for names inside records


@dataclass(frozen=True, slots=True)
class NumberRewrite:
    """Ask for another type, or in another class."""

    what: str  # type or class
    source: int
    target: int


@dataclass(frozen=True, slots=True)
class TtlRewrite:
    """Keep the TTLs of answers for a name between two bounds."""

    pattern: NamePattern
    least_s: int
    most_s: int


@dataclass(frozen=True, slots=True)
class RcodeRewrite:
    """Give another code for a name."""

    pattern: NamePattern
    source: int | None  # None: any
    target: int


@dataclass(frozen=True, slots=True)
class Edns0Rewrite:
    """Ask upstream servers with one more option of EDNS."""

    kind: str  # local, nsid or subnet
    action: str  # set, append or replace
    code: int = 0
    content: str = ""  # hexadecimal after 0x; {client_ip} and such are put in
    prefixes: tuple[int, int] = (24, 56)  # bits of a client's subnet, by family


Rewrite: TypeAlias = NameRewrite | NumberRewrite | TtlRewrite | RcodeRewrite | Edns0Rewrite


@dataclass(frozen=True, slots=True)
class RewriteRule:
    """One line of ``rewrite``."""

    change: Rewrite
    stop: bool = True  # no later rule is looked at when this one fits


@dataclass(frozen=True, slots=True)
class QueryLogConfig:
    """``log``: which queries are told, and how."""

    zones: tuple[WireName, ...]
    format: str = "{common}"
    classes: frozenset[str] = frozenset(("all",))
    least_s: float | None = None  # slower ones are told whatever their class


@dataclass(frozen=True, slots=True)
class HeaderConfig:
    """``header``: flags of replies."""

    set_flags: int = 0
    clear_flags: int = 0


@dataclass(frozen=True, slots=True)
class TemplateConfig:
    """``template``: answers made of the question."""

    qclass: int | None  # None: any
    rtype: int  # ANY: all
    zones: tuple[WireName, ...]
    matches: tuple[str, ...] = ()
    rcode: int = 0
    answers: tuple[str, ...] = ()
    additional: tuple[str, ...] = ()
    authority: tuple[str, ...] = ()
    extended_error: tuple[int, str] | None = None
    fallthrough: tuple[WireName, ...] | None = None  # None: never; empty: all zones


@dataclass(frozen=True, slots=True)
class AclRule:
    """One rule of ``acl``."""

    action: str  # allow, block, filter or drop
    rtypes: frozenset[int]  # none: all
    networks: tuple[Network, ...]  # none: all


@dataclass(frozen=True, slots=True)
class Acl:
    """``acl``: who may ask what."""

    zones: tuple[WireName, ...]
    rules: tuple[AclRule, ...]


@dataclass(frozen=True, slots=True)
class ChaosConfig:
    """``chaos``: what the server says of itself in class CH."""

    version: str
    authors: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Dns64Config:
    """``dns64``: IPv6 addresses made of IPv4 ones."""

    prefix: IPv6Network
    translate_all: bool = False
    allow_ipv4: bool = False


@dataclass(frozen=True, slots=True)
class AutopathConfig:
    """``autopath``: the search path is walked here, not by the client."""

    zones: tuple[WireName, ...]
    resolv_conf: str = ""  # empty: the path of the pod that asks


@dataclass(frozen=True, slots=True)
class ViewConfig:
    """``view``: which queries a block is for."""

    name: str
    expressions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ZoneFile:
    """``file``: zones as a file has them."""

    path: str
    zones: tuple[WireName, ...]
    reload_s: float = 60.0  # 0: never
    fallthrough: tuple[WireName, ...] | None = None


@dataclass(frozen=True, slots=True)
class ZoneDirectory:
    """``auto``: zones as the files of a directory have them."""

    directory: str
    zones: tuple[WireName, ...]
    pattern: str = r"db\.(.*)"
    origin: str = "{1}"
    reload_s: float = 60.0


@dataclass(frozen=True, slots=True)
class TransferConfig:
    """``transfer``: who may have whole zones."""

    zones: tuple[WireName, ...]
    networks: tuple[Network, ...] = ()
    everybody: bool = False


@dataclass(frozen=True, slots=True)
class Consolidation:
    """``errors``: errors that are told together."""

    every_s: float
    pattern: str
    level: str = "error"


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """``tls``: the certificate that a server shows."""

    cert: str
    key: str
    ca: str = ""  # empty: clients need no certificate
    client_auth: str = "nocert"
