"""The network configuration of a plugin, as far as we read it, and what it asks for. *Pure.*

Source: CNI specification 1.1.0, sections 1 and 2; the CNI conventions for ``runtimeConfig`` and ``args``.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from typing import TypeVar

import msgspec

from cni.spec import NO_DNS, AssignedRoute, CniError, Code, Command, Dns, Request, Role
from ipam.record import Bandwidth, HostPort
from kubenet.model.links import IPAddress, MacAddress
from kubenet.model.protocol import Protocol

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_KNOWN_ARGS = frozenset(
    {
        "IgnoreUnknown",
        "IP",
        "MAC",
        "K8S_POD_NAMESPACE",
        "K8S_POD_NAME",
        "K8S_POD_UID",
        "K8S_POD_INFRA_CONTAINER_ID",
    }
)
ANNOTATIONS = "io.kubernetes.cri.pod-annotations"  # the capability by which runtimes tell them
ADDRESSES = "kubenet.dev/addresses"  # to have these: one of a family, with commas between
STICKY = "kubenet.dev/sticky-address"  # "true": whoever has the pod's name next has its addresses
_SMALLEST_MTU = 68  # RFC 791: every IPv4 link carries a datagram of 68 bytes
_LARGEST_MTU = 65535
_LARGEST_PORT = 65535


class Version(msgspec.Struct, frozen=True):
    """The version that the configuration is written in."""

    cni_version: str = msgspec.field(name="cniVersion", default="0.1.0")  # a file without one is that old


class _Route(msgspec.Struct, frozen=True):
    dst: str
    gw: str = ""
    mtu: int = 0


class _Ipam(msgspec.Struct, frozen=True):
    type: str = ""
    routes: tuple[_Route, ...] | None = None
    subnet: str = ""
    ranges: tuple[object, ...] | None = None


class _PortMapping(msgspec.Struct, frozen=True):
    host_port: int = msgspec.field(name="hostPort", default=0)
    container_port: int = msgspec.field(name="containerPort", default=0)
    protocol: str = "tcp"
    host_ip: str = msgspec.field(name="hostIP", default="")


class _Bandwidth(msgspec.Struct, frozen=True, rename="camel"):
    """Bits a second, and bits."""

    ingress_rate: int = 0
    ingress_burst: int = 0
    egress_rate: int = 0
    egress_burst: int = 0


class _Dns(msgspec.Struct, frozen=True):
    """The runtime's capability says ``servers`` and ``searches``, a network's own field as results do."""

    servers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    nameservers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()

    @property
    def said(self) -> Dns:
        return Dns(self.servers or self.nameservers, self.searches or self.search, self.options)


class _Wishes(msgspec.Struct, frozen=True):
    """What a runtime may ask for one attachment: ``runtimeConfig`` and ``args.cni`` have the same keys."""

    ips: tuple[str, ...] = ()
    mac: str = ""
    port_mappings: tuple[_PortMapping, ...] = msgspec.field(name="portMappings", default=())
    bandwidth: _Bandwidth = _Bandwidth()
    dns: _Dns = _Dns()
    annotations: dict[str, str] = msgspec.field(name=ANNOTATIONS, default={})
    ip_ranges: tuple[object, ...] = msgspec.field(name="ipRanges", default=())


_IN_ANY_CASE = ("portMappings", "bandwidth", "dns")
_SPELLINGS = {
    each.encode_name.lower(): each.encode_name
    for kind in (_PortMapping, _Bandwidth, _Dns)
    for each in msgspec.structs.fields(kind)
}


class _Args(msgspec.Struct, frozen=True):
    cni: _Wishes | None = None


class _AttachmentReference(msgspec.Struct, frozen=True):
    container_id: str = msgspec.field(name="containerID")
    ifname: str


class Name(msgspec.Struct, frozen=True):
    """The network's name."""

    name: str = ""


class Config(msgspec.Struct, frozen=True):
    """What ADD and CHECK need."""

    type: str = Role.PLUGIN.value
    mtu: int = 0
    dns: _Dns | None = None
    ipam: _Ipam | None = None
    args: _Args | None = None
    runtime_config: dict[str, object] | None = msgspec.field(name="runtimeConfig", default=None)
    prev_result: dict[str, object] | None = msgspec.field(name="prevResult", default=None)


class Collection(msgspec.Struct, frozen=True):
    """What GC needs."""

    valid: tuple[_AttachmentReference, ...] | None = msgspec.field(
        name="cni.dev/valid-attachments", default=None
    )
    attachments: tuple[_AttachmentReference, ...] | None = msgspec.field(
        name="cni.dev/attachments", default=None
    )


PartT = TypeVar("PartT", Version, Name, Config, Collection)


def part(stdin: bytes, kind: type[PartT]) -> PartT:
    """Return the fields of the configuration that ``kind`` has. Raises CniError."""
    try:
        return _decoded(stdin, kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        reason = "it is empty" if not stdin.strip() else str(error)
        raise CniError(
            Code.DECODING_FAILURE, f"the network configuration is not JSON: {reason}", "stdin"
        ) from error


def _decoded(stdin: bytes, kind: type[PartT]) -> PartT:
    """Return the fields as a program in Go reads them, for which null is as good as nothing.

    Raises CniError for JSON that is no configuration, and what the decoder raises for what is no JSON: of a
    text that is neither, the first mistake need not be the one that counts.
    """
    try:
        return msgspec.json.decode(stdin, type=kind)
    except msgspec.ValidationError:
        content = msgspec.json.decode(stdin)
    told = {k: v for k, v in content.items() if v is not None} if isinstance(content, dict) else content
    try:
        return msgspec.convert(told, type=kind)
    except msgspec.ValidationError as error:
        raise CniError(
            Code.INVALID_CONFIG, f"the network configuration is invalid: {error}", "stdin"
        ) from error


def with_config(request: Request, config: Config, environment: Mapping[str, str]) -> Request:
    """Return the request with all that the configuration and CNI_ARGS ask for. Raises CniError."""
    wished = _wishes(config.runtime_config or {})
    argued = (config.args.cni if config.args else None) or _Wishes()
    ipam = config.ipam or _Ipam()
    role = _role(config.type, ipam, wished)
    if config.mtu and not _SMALLEST_MTU <= config.mtu <= _LARGEST_MTU:
        raise CniError(
            Code.INVALID_CONFIG,
            f"mtu {config.mtu} is not possible",
            f"{_SMALLEST_MTU} to {_LARGEST_MTU} bytes, or 0 for the node's choice",
        )
    if request.command is Command.CHECK and config.prev_result is None:
        raise CniError(Code.INVALID_CONFIG, "CHECK needs prevResult", "the result of the ADD is missing")
    extra = _cni_args(environment.get("CNI_ARGS", ""))
    name = extra.get("K8S_POD_NAME", "")
    return replace(
        request,
        role=role,
        routes=_routes(ipam.routes or ()) if role is Role.IPAM else (),
        mtu=config.mtu,
        addresses=_addresses(
            wished.ips
            or argued.ips
            or _words(extra.get("IP", ""))
            or _words(wished.annotations.get(ADDRESSES, ""))
        ),
        sticky=is_true(wished.annotations.get(STICKY, "")),
        mac=_mac(wished.mac or argued.mac or extra.get("MAC", "")),
        host_ports=_host_ports(wished.port_mappings or argued.port_mappings),
        bandwidth=_bandwidth(wished.bandwidth),
        dns=(config.dns or _Dns()).said if wished.dns.said == NO_DNS else wished.dns.said,
        pod=f"{extra.get('K8S_POD_NAMESPACE', '')}/{name}" if name else "",
        prev_result=config.prev_result,
    )


def _wishes(runtime_config: Mapping[str, object]) -> _Wishes:
    """Return what the runtime wishes; keys below a capability count in any case, as they do in Go.

    containerd writes its own structures: ``HostPort``, ``IngressRate``, ``Servers``.
    """
    told = {
        key: _spelt(value) if key in _IN_ANY_CASE else value
        for key, value in runtime_config.items()
        if value is not None  # an empty list or map of Go's: a pod without annotations has them as null
    }
    try:
        return msgspec.convert(told, type=_Wishes)
    except msgspec.ValidationError as error:
        raise CniError(Code.INVALID_CONFIG, f"runtimeConfig is invalid: {error}", "stdin") from error


def _spelt(value: object) -> object:
    if isinstance(value, dict):
        return {_SPELLINGS.get(key.lower(), key): each for key, each in value.items() if each is not None}
    return [_spelt(each) for each in value] if isinstance(value, list) else value


def _role(plugin: str, ipam: _Ipam, wished: _Wishes) -> Role:
    """What would be required of us and is not done must not be passed over in silence."""
    if plugin == Role.LOOPBACK.value:
        return Role.LOOPBACK
    unsupported = ""
    if ipam.type not in ("", "kubenet", Role.IPAM.value):
        unsupported = f"ipam.type: {ipam.type!r}"
    elif ipam.ranges or ipam.subnet:
        unsupported = "ipam.ranges and ipam.subnet: addresses are those of the node's own ranges"
    elif wished.ip_ranges:
        unsupported = "runtimeConfig.ipRanges: addresses are those of the node's own ranges"
    if unsupported:
        raise CniError(
            Code.UNSUPPORTED_FIELD,
            f"the network configuration asks for what kubenet does not do: {unsupported}",
            "remove the field",
        )
    delegated = ipam.type == Role.IPAM.value and plugin != Role.PLUGIN.value
    return Role.IPAM if delegated else Role.PLUGIN


def _routes(routes: tuple[_Route, ...]) -> tuple[AssignedRoute, ...]:
    try:
        return tuple(
            AssignedRoute(ip_network(route.dst), ip_address(route.gw) if route.gw else None, route.mtu)
            for route in routes
        )
    except ValueError as error:
        raise CniError(Code.INVALID_CONFIG, f"a route is invalid: {error}", "ipam.routes") from error


def _cni_args(text: str) -> dict[str, str]:
    """Return CNI_ARGS as a mapping; a key that we do not know must be allowed by IgnoreUnknown."""
    pairs = [pair.partition("=") for pair in text.split(";") if pair]
    if broken := [key for key, equals, _ in pairs if not equals]:
        raise CniError(Code.INVALID_ENVIRONMENT, f"CNI_ARGS {broken[0]!r} is not KEY=VALUE", "CNI_ARGS")
    args = {key: value for key, _, value in pairs}
    unknown = sorted(set(args) - _KNOWN_ARGS)
    if unknown and not is_true(args.get("IgnoreUnknown", "")):
        raise CniError(
            Code.INVALID_ENVIRONMENT,
            f"CNI_ARGS {', '.join(unknown)} is unknown",
            "IgnoreUnknown=1 allows keys that the plugin does not know",
        )
    return args


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.replace(",", " ").split())


def _addresses(texts: tuple[str, ...]) -> tuple[IPAddress, ...]:
    """Runtimes write an address with or without a prefix length; the length is the node's business."""
    try:
        return tuple(ip_interface(text).ip for text in texts)
    except ValueError as error:
        raise CniError(Code.INVALID_CONFIG, f"an address asked for is invalid: {error}", "ips") from error


def _host_ports(mappings: tuple[_PortMapping, ...]) -> tuple[HostPort, ...]:
    """Return the ports of the node that are wanted; a runtime also lists those that are not, as port 0."""
    return tuple(dict.fromkeys(_host_port(mapping) for mapping in mappings if mapping.host_port))


def _host_port(mapping: _PortMapping) -> HostPort:
    try:
        protocol = Protocol(mapping.protocol.upper() or "TCP")
        ip = ip_address(mapping.host_ip) if mapping.host_ip else None
    except ValueError as error:
        raise CniError(Code.INVALID_CONFIG, f"a port mapping is invalid: {error}", "portMappings") from error
    for port in (mapping.host_port, mapping.container_port):
        if not 1 <= port <= _LARGEST_PORT:
            raise CniError(Code.INVALID_CONFIG, f"a port mapping is invalid: port {port}", "portMappings")
    return HostPort(protocol, mapping.host_port, mapping.container_port, ip)


def _bandwidth(wished: _Bandwidth) -> Bandwidth:
    """Return the limits; one of less than nothing is a mistake."""
    for key, value in msgspec.structs.asdict(wished).items():
        if value < 0:
            raise CniError(Code.INVALID_CONFIG, f"bandwidth {key} {value} is not possible", "bandwidth")
    return Bandwidth(wished.ingress_rate, wished.ingress_burst, wished.egress_rate, wished.egress_burst)


def _mac(text: str) -> MacAddress | None:
    if text and not _MAC.fullmatch(text.lower()):
        raise CniError(Code.INVALID_CONFIG, f"the mac asked for is invalid: {text!r}", "mac")
    return text.lower() or None


def is_true(text: str) -> bool:
    """Whether a switch of the environment is on."""
    return text.lower() in ("1", "true")
