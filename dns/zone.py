"""All names we answer for: the cluster domain and the reverse trees, as one immutable value. *Pure.*

``Zone.find`` tells what stands at a name: a place (perhaps with no records of its own: an empty non-terminal,
which must never be denied, RFC 8020) or nothing. Services, namespaces, pods and the owners of addresses lie
in maps whose successors share nearly everything with them, so that a change costs the same at any size of
cluster and a query sees one state from its first look-up to its last.

Source: Kubernetes DNS-Based Service Discovery 1.1.0; RFC 4592 section 2.2.2 (empty non-terminals).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from ipaddress import ip_address
from typing import Protocol, TypeAlias

from dns import names
from dns.names import Labels, WireName
from dns.read import Naming
from dns.records import RRset, both_families, soa_content, text_content
from dns.service import ServiceKey, ServiceRecords
from dns.sharded import ShardedMap
from dns.wire import RType
from kubenet.model.links import IPAddress

SCHEMA_VERSION = b"1.1.0"
SCHEMA_VERSION_LABEL = b"\x0bdns-version"
SCHEMA_TTL_S = 28800  # as CoreDNS
SOA_TTL_MOST_S = 300

Owner: TypeAlias = tuple[ServiceKey, bytes]  # who holds an address: a Service, or its endpoint of that label


class PodsMode(Enum):
    """What a name such as ``10-1-2-3.ns.pod.cluster.local`` gives (CoreDNS: ``pods``)."""

    DISABLED = "disabled"
    INSECURE = "insecure"  # the address in it, if the namespace exists
    VERIFIED = "verified"  # the same, if a live pod of that namespace has it


class Place(Protocol):
    """What stands at an existing name."""

    @property
    def alias(self) -> WireName | None: ...

    @property
    def service(self) -> ServiceRecords | None: ...

    def rrset(self, owner: WireName, rtype: int) -> RRset | None: ...

    def additional(self, rtype: int) -> tuple[RRset, ...]: ...


@dataclass(frozen=True, slots=True)
class FixedPlace:
    """A name of no Service: the apex, a pointer, a pod; with no records it is an empty non-terminal."""

    rrsets: tuple[RRset, ...] = ()
    glue: tuple[RRset, ...] = ()  # the addresses of its name servers
    alias: None = None
    service: None = None

    def rrset(self, owner: WireName, rtype: int) -> RRset | None:
        found = next((rrset for rrset in self.rrsets if rrset.rtype == rtype), None)
        return found and replace(found, owner=owner)

    def additional(self, rtype: int) -> tuple[RRset, ...]:
        return self.glue if rtype == RType.NS else ()


EMPTY_PLACE = FixedPlace()


@dataclass(frozen=True, slots=True)
class Apex:
    """The top of a zone of ours."""

    name: WireName
    depth: int  # labels


@dataclass(frozen=True, slots=True)
class ZoneConfig:
    """What of a zone no event changes."""

    naming: Naming
    pods: PodsMode = PodsMode.INSECURE
    own_addresses: tuple[IPAddress, ...] = ()  # where we are asked; they tell which names are ours
    reverse: tuple[WireName, ...] = (names.IN_ADDR_ARPA, names.IP6_ARPA)
    fallthrough: frozenset[WireName] = frozenset()  # zones of which unknown names are asked upstream
    _apexes: Mapping[Labels, Apex] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        endings = {names.to_labels(apex): apex for apex in (self.naming.domain, *self.reverse)}
        deepest_first = sorted(endings.items(), key=lambda item: -len(item[0]))
        apexes = {ending: Apex(apex, len(ending)) for ending, apex in deepest_first}
        object.__setattr__(self, "_apexes", apexes)

    def apex_of(self, labels: Labels) -> Apex | None:
        """Return the top of the zone of ours that a lower-cased name is in."""
        for ending, apex in self._apexes.items():
            if labels[-apex.depth :] == ending:
                return apex
        return None


def _nothing() -> ShardedMap[bytes, int]:
    return ShardedMap()


@dataclass(frozen=True, slots=True)
class Zone:
    """One state of all our names."""

    config: ZoneConfig
    serial: int = 1
    synced: bool = False  # whether what is not here is known not to exist
    services: ShardedMap[ServiceKey, ServiceRecords] = field(default_factory=ShardedMap)
    namespaces: ShardedMap[bytes, int] = field(default_factory=_nothing)  # 1 for it, 1 for each Service in it
    # By address, the labels of each owner one behind the other: most have one, and there are many.
    owners: ShardedMap[bytes, tuple[bytes, ...]] = field(default_factory=ShardedMap)
    pods: ShardedMap[tuple[bytes, bytes], int] = field(default_factory=ShardedMap)  # namespace, address
    tenants: ShardedMap[bytes, frozenset[bytes]] = field(default_factory=ShardedMap)  # address -> namespaces

    def find(self, name: WireName, labels: Labels, apex: Apex) -> Place | None:
        """Return what stands at a lower-cased name of the zone ``apex``; None: the name does not exist."""
        rest = labels[: -apex.depth]
        if not rest:
            return self.apex(apex.name)
        if rest == (b"dns",):
            return EMPTY_PLACE
        if rest == (b"ns", b"dns"):
            return FixedPlace(both_families(name, self._ttl_s, self._own_packed))
        if apex.name != self.config.naming.domain:
            return self._find_reverse(name, labels)
        if rest[-1] == b"svc":
            return self._find_service(rest[:-1])
        if rest[-1] == b"pod":
            return self._find_pod(name, rest[:-1])
        if rest == (b"dns-version",):
            return FixedPlace((self.schema_version(name),))
        return None

    def schema_version(self, name: WireName) -> RRset:
        """Return the record that says which version of the names' specification holds."""
        return RRset(name, RType.TXT, SCHEMA_TTL_S, (text_content(SCHEMA_VERSION),))

    def soa(self, apex: WireName) -> RRset:
        """Return the SOA set of one of our zones."""
        ttl_s = min(self._ttl_s, SOA_TTL_MOST_S)
        return RRset(apex, RType.SOA, ttl_s, (soa_content(apex, self.serial, self._ttl_s),))

    @property
    def _ttl_s(self) -> int:
        return self.config.naming.ttl_s

    @property
    def _own_packed(self) -> tuple[bytes, ...]:
        return tuple(address.packed for address in self.config.own_addresses)

    def apex(self, apex: WireName) -> FixedPlace:
        """Return what stands at the top of one of our zones."""
        servers = self._name_servers(apex)
        contents = tuple(dict.fromkeys(name for name, _ in servers))
        glue = (both_families(name, self._ttl_s, held) for name, held in servers)
        name_servers = RRset(apex, RType.NS, self._ttl_s, contents)
        return FixedPlace((self.soa(apex), name_servers), tuple(rrset for pair in glue for rrset in pair))

    def _name_servers(self, apex: WireName) -> list[tuple[WireName, tuple[bytes, ...]]]:
        """Return our names with their addresses: Services that hold an address of ours, or a made-up name."""
        found: dict[WireName, tuple[bytes, ...]] = {}
        for packed in self._own_packed:
            for key, host in self._owners_of(packed):
                if service := self.services.get(key):
                    label = host if service.headless else b""
                    found[service.host_name(label)] = service.hosts[label] if label else service.cluster_ips
        return sorted(found.items()) or [(b"\x02ns\x03dns" + apex, self._own_packed)]

    def _find_service(self, rest: Labels) -> Place | None:
        if len(rest) < 2:
            return EMPTY_PLACE if not rest or rest[0] in self.namespaces else None
        service = self.services.get((rest[-2], rest[-1]))
        return service.at(rest[:-2]) if service else None

    def _find_pod(self, name: WireName, rest: Labels) -> Place | None:
        mode = self.config.pods
        if not rest:
            return EMPTY_PLACE
        if mode is PodsMode.DISABLED or len(rest) > 2 or rest[-1] not in self.namespaces:
            return None
        if len(rest) == 1:
            return EMPTY_PLACE
        packed = _dashed_address(rest[0])
        if packed is None or (mode is PodsMode.VERIFIED and (rest[1], packed) not in self.pods):
            return None
        return FixedPlace(both_families(name, self._ttl_s, (packed,)))

    def _find_reverse(self, name: WireName, labels: Labels) -> Place | None:
        packed = names.reverse_address(labels)
        if packed is None:
            return None
        if not packed:
            return EMPTY_PLACE  # above addresses: denying it would deny them all
        targets = self._pointers(packed)
        return FixedPlace((RRset(name, RType.PTR, self._ttl_s, targets),)) if targets else None

    def _owners_of(self, packed: bytes) -> list[Owner]:
        return _unpacked(self.owners.get(packed))

    def _pointers(self, packed: bytes) -> tuple[WireName, ...]:
        owners = self._owners_of(packed)
        own = [owner for owner in owners if not owner[1]]  # a cluster IP is a Service's alone
        found = ((self.services.get(key), label) for key, label in own or owners)
        return tuple(service.host_name(label) for service, label in found if service)

    def tenant(self, packed: bytes) -> bytes | None:
        """Return the namespace of the pod that has an address, None where that is unsure.

        Only a zone with verified pods knows any.
        """
        tenants = self.tenants.get(packed) or frozenset()
        return next(iter(tenants)) if len(tenants) == 1 else None

    def search_path(self, packed: bytes) -> tuple[WireName, ...]:
        """Return the names below which a pod's resolver looks, the root last; empty where that is unsure.

        An address that two namespaces hold is being handed over: neither may get the other's names.
        """
        namespace = self.tenant(packed)
        if namespace is None:
            return ()
        services = b"\x03svc" + self.config.naming.domain
        return (names.prefixed(namespace) + services, services, self.config.naming.domain, names.ROOT)

    def with_services(self, changes: Mapping[ServiceKey, ServiceRecords | None]) -> "Zone":
        """Return the zone after ``changes`` (None: the Service is gone); itself if nobody could tell."""
        real = {key: new for key, new in changes.items() if self.services.get(key) != new}
        if not real:
            return self
        owners: dict[bytes, tuple[bytes, ...] | None] = {}
        namespaces: dict[bytes, int | None] = {}
        for key, new in real.items():
            old = self.services.get(key)
            self._move_owners(owners, old, new)
            step = (new is not None) - (old is not None)
            known = namespaces.get(key[1], self.namespaces.get(key[1])) or 0
            namespaces[key[1]] = known + step or None
        return replace(
            self,
            serial=self.serial + 1,
            services=self.services.patched(real),
            namespaces=self.namespaces.patched(namespaces),
            owners=self.owners.patched(owners),
        )

    def _move_owners(
        self,
        owners: dict[bytes, tuple[bytes, ...] | None],
        old: ServiceRecords | None,
        new: ServiceRecords | None,
    ) -> None:
        had = old.owned_addresses() if old else set()
        has = new.owned_addresses() if new else set()
        service = new or old
        assert service is not None
        for packed, label in had ^ has:
            owner: Owner = (service.key, label)
            holders = _unpacked(owners.get(packed, self.owners.get(packed)))
            owners[packed] = _packed({*holders} ^ {owner}) or None

    def with_namespace(self, label: bytes, *, exists: bool) -> "Zone":
        """Return the zone after a Namespace came or went. Call it once for each coming and each going."""
        known = (self.namespaces.get(label) or 0) + (1 if exists else -1)
        return replace(
            self, serial=self.serial + 1, namespaces=self.namespaces.patched({label: known or None})
        )

    def with_pods(self, held: Iterable[tuple[bytes, bytes]], step: int, *, own: bool = True) -> "Zone":
        """Return the zone after a pod took (+1) or left (-1) addresses of its namespace.

        ``own`` False: they are its node's, and say nothing of who asks from them.
        """
        changes: dict[tuple[bytes, bytes], int | None] = {}
        for key in held:
            changes[key] = ((changes.get(key, self.pods.get(key)) or 0) + step) or None
        tenants: dict[bytes, frozenset[bytes] | None] = {}
        for (namespace, packed), count in changes.items() if own else ():
            known = tenants.get(packed, self.tenants.get(packed)) or frozenset()
            now = known | {namespace} if count else known - {namespace}
            tenants[packed] = now or None
        return replace(
            self,
            serial=self.serial + 1,
            pods=self.pods.patched(changes),
            tenants=self.tenants.patched(tenants),
        )


def _dashed_address(label: bytes) -> bytes | None:
    """Return the address that a pod's label spells: three single dashes make IPv4, all else IPv6."""
    text = label.decode("ascii", "replace")
    dotted = text.count("-") == 3 and "--" not in text
    try:
        return ip_address(text.replace("-", "." if dotted else ":")).packed
    except ValueError:
        return None


def _packed(owners: Iterable[Owner]) -> tuple[bytes, ...]:
    return tuple(label for key, host in sorted(owners) for label in (*key, host))


def _unpacked(labels: tuple[bytes, ...] | None) -> list[Owner]:
    found = labels or ()
    return [((found[at], found[at + 1]), found[at + 2]) for at in range(0, len(found), 3)]
