"""What a Corefile says, as values. *Pure.*

Source: the plugins' manual pages of CoreDNS.
"""

from dataclasses import dataclass, field

from dns import names
from dns.forward import Upstream
from dns.health import Policy
from dns.names import WireName, is_in
from dns.plugins import values
from dns.wire import UDP_BYTES
from dns.zone import PodsMode
from kubenet.model.links import IPAddress


@dataclass(frozen=True, slots=True)
class Listen:
    """Where an HTTP plugin listens; no address means all."""

    address: IPAddress | None
    port: int


@dataclass(frozen=True, slots=True)
class Kubernetes:
    """``kubernetes``: the cluster's names."""

    domain: WireName
    reverse: tuple[WireName, ...] = ()
    endpoint: str = ""
    kubeconfig: str = ""
    context: str = ""
    tls: tuple[str, ...] = ()  # certificate, key and authority for ``endpoint``
    namespaces: frozenset[str] = frozenset()  # none: all
    namespace_labels: str = ""  # a selector of the namespaces that are shown; empty: all
    labels: str = ""  # a selector
    pods: PodsMode = PodsMode.DISABLED
    pod_names: bool = False
    ttl_s: int = 5
    endpoints: bool = True
    hide_empty: bool = False
    fallthrough: tuple[WireName, ...] | None = None  # None: never; empty: all zones
    startup_timeout_s: float = 5.0

    @property
    def falls_through(self) -> frozenset[WireName]:
        """Which of the zones ask the next plugin for names that they do not have."""
        if self.fallthrough is None:
            return frozenset()
        every = frozenset((self.domain, *self.reverse))
        if not self.fallthrough:
            return every
        return frozenset(zone for zone in every if any(is_in(zone, each) for each in self.fallthrough))


@dataclass(frozen=True, slots=True)
class ClientTls:
    """How servers are asked over TLS."""

    servername: str = ""  # empty: the server's address must be in its certificate
    cert: str = ""  # our own, with its key
    key: str = ""
    ca: str = ""  # empty: the system's


@dataclass(frozen=True, slots=True)
class ForwardTo:
    """``forward``: who is asked for names below ``zone``."""

    zone: WireName
    servers: tuple[Upstream | str, ...]  # a text is a file such as /etc/resolv.conf
    excepted: tuple[WireName, ...] = ()
    policy: Policy = Policy.RANDOM
    force_tcp: bool = False
    prefer_udp: bool = False  # UDP first also for a client over TCP
    max_fails: int = 2
    max_concurrent: int = 0  # 0: as many as we ever remember
    max_tries: int = 0  # for one question; 0: as patience allows
    health_check_s: float = 0.5
    health_check_recurse: bool = True
    health_check_domain: WireName = names.ROOT
    fail_fast: bool = False
    read_timeout_s: float = 0.0  # for one try; 0: as patience allows
    expire_s: float = 10.0  # of idle connections
    max_idle: int = 0  # idle connections to one server; 0: no limit
    tls: ClientTls | None = None
    failover: frozenset[int] = frozenset()  # codes of replies after which the next server is asked
    next_on: frozenset[int] = frozenset()  # codes of replies after which the next forward is asked
    next_on_nodata: bool = False

    def takes(self, name: WireName) -> bool:
        """Return whether a lower-cased name is asked here."""
        return is_in(name, self.zone) and not any(is_in(name, each) for each in self.excepted)

    def leaves_to_next(self, rcode: int, empty: bool) -> bool:
        """Return whether an answer with this code is left to the next ``forward``."""
        return rcode in self.next_on or (self.next_on_nodata and not rcode and empty)


@dataclass(frozen=True, slots=True)
class CacheConfig:
    """``cache``: how long and how many answers of upstream servers are kept."""

    zones: tuple[WireName, ...] = (names.ROOT,)
    success: int = 9984
    success_ttl_s: int = 3600
    success_least_s: int = 0
    denial: int = 9984
    denial_ttl_s: int = 1800
    denial_least_s: int = 0
    prefetch: int = 0  # times asked within prefetch_within_s; 0: never
    prefetch_within_s: float = 60.0
    prefetch_share: float = 0.1  # of the TTL that is left
    stale_s: float = 0.0
    stale_verify: bool = False  # ask first; what is stale is given only if nobody answers
    keep_ttl: bool = False  # give TTLs as they came, not what is left of them
    servfail_s: float = 5.0
    no_success: tuple[WireName, ...] = ()
    no_denial: tuple[WireName, ...] = ()

    def takes(self, name: WireName) -> bool:
        """Return whether answers for a lower-cased name are kept."""
        return any(is_in(name, zone) for zone in self.zones)


@dataclass(frozen=True, slots=True)
class Hosts:
    """``hosts``: names and addresses as in /etc/hosts."""

    zones: tuple[WireName, ...]
    file: str = ""
    lines: tuple[str, ...] = ()
    ttl_s: int = 3600
    reverse: bool = True
    reload_s: float = 5.0  # 0: never
    fallthrough: tuple[WireName, ...] | None = None
    fallthrough_unsupported: bool = False  # other types of a name that is here go on too


@dataclass(frozen=True, slots=True)
class Block:
    """A server block: where it listens, for which names, and what its plugins were told."""

    zones: tuple[WireName, ...]
    port: int
    file: str = ""
    bind: tuple[IPAddress, ...] = ()
    interfaces: tuple[str, ...] = ()  # more to bind: all addresses of these
    bind_except: frozenset[str] = frozenset()
    kubernetes: Kubernetes | None = None
    forwards: tuple[ForwardTo, ...] = ()
    cache: CacheConfig | None = None
    hosts: Hosts | None = None
    health: Listen | None = None
    lameduck_s: float = 0.0
    ready: Listen | None = None
    ready_once: bool = False  # who was ready stays so
    root: str = ""  # relative paths begin here
    prometheus: Listen | None = None
    reload_s: float = 0.0  # 0: never
    reload_jitter_s: float = 0.0
    loop: bool = False
    errors: bool = False
    consolidations: tuple[values.Consolidation, ...] = ()
    tls: values.TlsFiles | None = None
    scheme: str = "dns"  # dns, tls or https: how it is asked
    views: tuple[values.ViewConfig, ...] = ()
    rewrites: tuple[values.RewriteRule, ...] = ()
    logs: tuple[values.QueryLogConfig, ...] = ()
    header: values.HeaderConfig | None = None
    templates: tuple[values.TemplateConfig, ...] = ()
    acls: tuple[values.Acl, ...] = ()
    any: bool = False
    chaos: values.ChaosConfig | None = None
    dns64: values.Dns64Config | None = None
    autopath: values.AutopathConfig | None = None
    files: tuple[values.ZoneFile, ...] = ()
    directories: tuple[values.ZoneDirectory, ...] = ()
    transfers: tuple[values.TransferConfig, ...] = ()
    nsid: bytes = b""
    whoami: bool = False
    local: bool = False
    minimal: bool = False
    bufsize: int = UDP_BYTES
    seen: frozenset[str] = field(default=frozenset(), compare=False)
