"""The CNI protocol: what a runtime asks, and what it is answered. *Pure.*

``parse`` turns the environment and the configuration on stdin into a ``Request`` that cannot be wrong, or
into a ``CniError`` with the number that the specification gives to the mistake. What goes back is in
``result``.

Source: CNI specification 1.1.0, sections 2 and 5.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum, IntEnum
from ipaddress import ip_address, ip_interface
from typing import NamedTuple, TypeVar

import msgspec

from ipam.record import HostPort
from kubenet.errors import KubenetError
from kubenet.model.links import IPAddress, MacAddress
from kubenet.model.protocol import Protocol

VERSIONS = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
LATEST = VERSIONS[-1]
ABOUT = f"kubenet CNI plugin, CNI protocol versions supported: {', '.join(VERSIONS)}\n"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
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
_IFNAME_BYTES = 15  # IFNAMSIZ of linux/if.h without the closing NUL
_SMALLEST_MTU = 68  # RFC 791: every IPv4 link carries a datagram of 68 bytes
_LARGEST_MTU = 65535
_LARGEST_PORT = 65535


class Code(IntEnum):
    """Error numbers; those from 100 on are ours."""

    INCOMPATIBLE_VERSION = 1
    UNSUPPORTED_FIELD = 2
    UNKNOWN_CONTAINER = 3
    INVALID_ENVIRONMENT = 4
    IO_FAILURE = 5
    DECODING_FAILURE = 6
    INVALID_CONFIG = 7
    INVALID_NETNS = 8  # not in the specification; libcni's ErrInvalidNetNS
    TRY_AGAIN = 11
    NOT_AVAILABLE = 50
    LIMITED_CONNECTIVITY = 51
    CHECK_FAILED = 100
    ALREADY_ATTACHED = 101
    KERNEL_REFUSED = 102
    GC_INCOMPLETE = 103
    TIMED_OUT = 104
    HOST_PORT_TAKEN = 105


class CniError(KubenetError):
    """A request that cannot be fulfilled, with its number in the protocol."""

    def __init__(self, code: Code, message: str, details: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.details = details


class Command(Enum):
    """The verbs, each with the version of the protocol that brought it."""

    ADD = "ADD"
    DEL = "DEL"
    CHECK = "CHECK"
    STATUS = "STATUS"
    GC = "GC"
    VERSION = "VERSION"


_SINCE = {Command.CHECK: "0.4.0", Command.STATUS: "1.1.0", Command.GC: "1.1.0"}
_REQUIRED = {
    Command.ADD: ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    Command.CHECK: ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    Command.DEL: ("CNI_CONTAINERID", "CNI_IFNAME"),
}


class Attachment(NamedTuple):
    """One interface of one container."""

    container_id: str
    ifname: str


@dataclass(frozen=True, slots=True)
class Request:
    """What a runtime asks for; fields that the verb does not use are empty."""

    command: Command
    cni_version: str
    network: str = ""
    container_id: str = ""
    ifname: str = ""
    netns: str = ""  # the path as the runtime gave it
    own_netns_allowed: bool = False
    pod: str = ""  # namespace/name, where Kubernetes told it
    mtu: int = 0  # bytes; 0 leaves it to the node
    addresses: tuple[IPAddress, ...] = ()  # asked for; empty leaves them to the pool
    mac: MacAddress | None = None
    host_ports: tuple[HostPort, ...] = ()
    prev_result: Mapping[str, object] | None = None
    valid: frozenset[Attachment] = frozenset()  # GC: all but these go

    @property
    def attachment(self) -> Attachment:
        return Attachment(self.container_id, self.ifname)


# The configuration, as far as we read it.


class _Version(msgspec.Struct, frozen=True):
    cni_version: str = msgspec.field(name="cniVersion", default="0.1.0")  # a file without one is that old


class _Ipam(msgspec.Struct, frozen=True):
    type: str = ""


class _PortMapping(msgspec.Struct, frozen=True):
    host_port: int = msgspec.field(name="hostPort", default=0)
    container_port: int = msgspec.field(name="containerPort", default=0)
    protocol: str = "tcp"
    host_ip: str = msgspec.field(name="hostIP", default="")


class _Wishes(msgspec.Struct, frozen=True):
    """What a runtime may ask for one attachment: ``runtimeConfig`` and ``args.cni`` have the same keys."""

    ips: tuple[str, ...] = ()
    mac: str = ""
    port_mappings: tuple[_PortMapping, ...] = msgspec.field(name="portMappings", default=())
    bandwidth: dict[str, msgspec.Raw] = {}


class _Args(msgspec.Struct, frozen=True):
    cni: _Wishes = _Wishes()


class _AttachmentReference(msgspec.Struct, frozen=True):
    container_id: str = msgspec.field(name="containerID")
    ifname: str


class _Name(msgspec.Struct, frozen=True):
    name: str = ""


class _Config(msgspec.Struct, frozen=True):
    mtu: int = 0
    ipam: _Ipam = _Ipam()
    args: _Args = _Args()
    runtime_config: _Wishes = msgspec.field(name="runtimeConfig", default=_Wishes())
    prev_result: dict[str, object] | None = msgspec.field(name="prevResult", default=None)


class _Collection(msgspec.Struct, frozen=True):
    valid: tuple[_AttachmentReference, ...] | None = msgspec.field(
        name="cni.dev/valid-attachments", default=None
    )
    attachments: tuple[_AttachmentReference, ...] | None = msgspec.field(
        name="cni.dev/attachments", default=None
    )


PartT = TypeVar("PartT", _Version, _Name, _Config, _Collection)


def parse(environment: Mapping[str, str], stdin: bytes) -> Request:
    """Return what the runtime asks for. Raises CniError."""
    command = _command(environment)
    _check_environment(command, environment)
    if command is Command.DEL and not stdin.strip():
        # Whoever lost the configuration can still clean up: nothing of it is needed.
        return _attachment_request(command, LATEST, "", environment)
    version = _version(command, stdin)
    if command in (Command.STATUS, Command.VERSION):
        return Request(command, version)
    network = _network_name(stdin)
    if command is Command.GC:
        return Request(command, version, network, valid=_valid_attachments(stdin))
    request = _attachment_request(command, version, network, environment)
    return request if command is Command.DEL else _with_config(request, _part(stdin, _Config), environment)


def version_for_errors(stdin: bytes) -> str:
    """Return the version to answer a broken request in: the one it was asked in, if we speak it."""
    try:
        version = msgspec.json.decode(stdin, type=_Version).cni_version
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return LATEST
    return version if version in VERSIONS else LATEST


def _command(environment: Mapping[str, str]) -> Command:
    word = environment.get("CNI_COMMAND", "")
    try:
        return Command(word)
    except ValueError as error:
        raise CniError(
            Code.INVALID_ENVIRONMENT,
            f"CNI_COMMAND {word!r} is unknown",
            f"known are {', '.join(command.value for command in Command)}",
        ) from error


def _check_environment(command: Command, environment: Mapping[str, str]) -> None:
    missing = [key for key in _REQUIRED.get(command, ()) if not environment.get(key)]
    if missing:
        raise CniError(
            Code.INVALID_ENVIRONMENT,
            f"{command.value} needs {', '.join(missing)}",
            "required environment variables are missing or empty",
        )
    if command in _REQUIRED:
        _check_container_id(environment["CNI_CONTAINERID"])
        _check_ifname(environment["CNI_IFNAME"])


def _check_container_id(container_id: str) -> None:
    if not _NAME.fullmatch(container_id):
        raise CniError(
            Code.INVALID_ENVIRONMENT,
            f"CNI_CONTAINERID {container_id!r} is no container id",
            "it starts with a letter or digit, and letters, digits, '_', '.' and '-' follow",
        )


def _check_ifname(ifname: str) -> None:
    length = len(ifname.encode(errors="replace"))
    bad = next((c for c in ifname if c in "/:\0" or c.isspace()), None)
    reason = ""
    if ifname in (".", ".."):
        reason = "that is a directory"
    elif length > _IFNAME_BYTES:
        reason = f"it has {length} bytes, and {_IFNAME_BYTES} are allowed"
    elif bad is not None:
        reason = f"{bad!r} is not allowed"
    if reason:
        raise CniError(
            Code.INVALID_ENVIRONMENT, f"CNI_IFNAME {ifname!r} cannot be an interface's name", reason
        )


def _version(command: Command, stdin: bytes) -> str:
    version = _part(stdin, _Version).cni_version
    if command is Command.VERSION:
        return version
    known = VERSIONS[VERSIONS.index(_SINCE.get(command, VERSIONS[0])) :]
    if version not in known:
        raise CniError(
            Code.INCOMPATIBLE_VERSION,
            f"cniVersion {version!r} is not supported"
            + (f" by {command.value}" if command in _SINCE else ""),
            f"supported are {', '.join(known)}",
        )
    return version


def _network_name(stdin: bytes) -> str:
    name = _part(stdin, _Name).name
    if not _NAME.fullmatch(name):
        raise CniError(
            Code.INVALID_CONFIG,
            f"the network's name {name!r} is invalid" if name else "the network has no name",
            "it starts with a letter or digit, and letters, digits, '_', '.' and '-' follow",
        )
    return name


def _valid_attachments(stdin: bytes) -> frozenset[Attachment]:
    """Runtimes send the list under two keys; what either of them names stays."""
    part = _part(stdin, _Collection)
    if part.valid is None and part.attachments is None:
        raise CniError(
            Code.INVALID_CONFIG,
            "GC without cni.dev/valid-attachments",
            "an absent list frees nothing; an empty one frees everything of the network",
        )
    listed = (*(part.valid or ()), *(part.attachments or ()))
    return frozenset(Attachment(entry.container_id, entry.ifname) for entry in listed)


def _part(stdin: bytes, kind: type[PartT]) -> PartT:
    """Return the fields of the configuration that ``kind`` has."""
    try:
        return msgspec.json.decode(stdin, type=kind)
    except msgspec.ValidationError as error:
        raise CniError(
            Code.INVALID_CONFIG, f"the network configuration is invalid: {error}", "stdin"
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        reason = "it is empty" if not stdin.strip() else str(error)
        raise CniError(
            Code.DECODING_FAILURE, f"the network configuration is not JSON: {reason}", "stdin"
        ) from error


def _attachment_request(
    command: Command, version: str, network: str, environment: Mapping[str, str]
) -> Request:
    return Request(
        command,
        version,
        network,
        environment["CNI_CONTAINERID"],
        environment["CNI_IFNAME"],
        environment.get("CNI_NETNS", ""),
        _is_true(environment.get("CNI_NETNS_OVERRIDE", "")),
    )


def _with_config(request: Request, config: _Config, environment: Mapping[str, str]) -> Request:
    """Return the request with everything that the configuration and CNI_ARGS ask for."""
    _refuse_unsupported(config)
    if config.mtu and not _SMALLEST_MTU <= config.mtu <= _LARGEST_MTU:
        raise CniError(
            Code.INVALID_CONFIG,
            f"mtu {config.mtu} is not possible",
            f"{_SMALLEST_MTU} to {_LARGEST_MTU} bytes, or 0 for the node's choice",
        )
    if request.command is Command.CHECK and config.prev_result is None:
        raise CniError(Code.INVALID_CONFIG, "CHECK needs prevResult", "the result of the ADD is missing")
    extra = _cni_args(environment.get("CNI_ARGS", ""))
    wished, argued = config.runtime_config, config.args.cni
    name = extra.get("K8S_POD_NAME", "")
    return replace(
        request,
        mtu=config.mtu,
        addresses=_addresses(wished.ips or argued.ips or tuple(filter(None, [extra.get("IP", "")]))),
        mac=_mac(wished.mac or argued.mac or extra.get("MAC", "")),
        host_ports=_host_ports(wished.port_mappings or argued.port_mappings),
        pod=f"{extra.get('K8S_POD_NAMESPACE', '')}/{name}" if name else "",
        prev_result=config.prev_result,
    )


def _refuse_unsupported(config: _Config) -> None:
    """What would be required of us and is not done must not be passed over in silence."""
    unsupported = ""
    if config.ipam.type not in ("", "kubenet"):
        unsupported = f"ipam.type: {config.ipam.type!r}"
    elif config.runtime_config.bandwidth:
        unsupported = f"runtimeConfig.bandwidth: {', '.join(sorted(config.runtime_config.bandwidth))}"
    if unsupported:
        raise CniError(
            Code.UNSUPPORTED_FIELD,
            f"the network configuration asks for what kubenet does not do: {unsupported}",
            "remove the field",
        )


def _cni_args(text: str) -> dict[str, str]:
    """Return CNI_ARGS as a mapping; a key that we do not know must be allowed by IgnoreUnknown."""
    pairs = [pair.partition("=") for pair in text.split(";") if pair]
    if broken := [key for key, equals, _ in pairs if not equals]:
        raise CniError(Code.INVALID_ENVIRONMENT, f"CNI_ARGS {broken[0]!r} is not KEY=VALUE", "CNI_ARGS")
    args = {key: value for key, _, value in pairs}
    unknown = sorted(set(args) - _KNOWN_ARGS)
    if unknown and not _is_true(args.get("IgnoreUnknown", "")):
        raise CniError(
            Code.INVALID_ENVIRONMENT,
            f"CNI_ARGS {', '.join(unknown)} is unknown",
            "IgnoreUnknown=1 allows keys that the plugin does not know",
        )
    return args


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


def _mac(text: str) -> MacAddress | None:
    if text and not _MAC.fullmatch(text.lower()):
        raise CniError(Code.INVALID_CONFIG, f"the mac asked for is invalid: {text!r}", "mac")
    return text.lower() or None


def _is_true(text: str) -> bool:
    return text.lower() in ("1", "true")
