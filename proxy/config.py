"""What the operator says, in kube-proxy's flags and in its KubeProxyConfiguration. *Pure.*

One table names every option: where it stands in the file, its flag, how it is read, and what it sets. A field
that is not in the table is an error that names it with its line. Options that kube-proxy has and that cannot
matter here (how fast to ask the API, what to profile) are taken and named in a warning; a value that we
cannot honour (mode ipvs) is an error.

Source: Kubernetes kubeproxy.config.k8s.io/v1alpha1; kube-proxy's command line reference.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, ip_network
from typing import TypeVar

import yaml

from kubenet.errors import InvalidInput
from proxy.ports import Balance, IPAddress, IPNetwork, parse_ip

API_VERSION = "kubeproxy.config.k8s.io/v1alpha1"
KIND = "KubeProxyConfiguration"
PRIMARY = "primary"
_MAX_DEPTH = 20

Address = tuple[IPAddress, int]
Value = object  # text from a flag; text, number, boolean, list or mapping from a file


@dataclass(frozen=True, slots=True)
class BackendSettings:
    """What each of the backends has a section for."""

    masquerade_bit: int = 14
    masquerade_all: bool = False
    sync_period_s: float = 30.0
    min_sync_period_s: float = 0.1


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be said."""

    kubeconfig: str = ""
    hostname_override: str = ""
    mode: str = ""  # empty: whatever is best here
    cluster_cidrs: tuple[IPNetwork, ...] = ()
    detect_local_mode: str = "ClusterCIDR"
    bridge_interface: str = ""
    interface_prefix: str = ""
    node_port_addresses: tuple[str, ...] = ()
    healthz: Address | None = (IPv4Address("0.0.0.0"), 10256)
    metrics: Address | None = (IPv4Address("127.0.0.1"), 10249)
    localhost_node_ports: bool = False
    tcp_liberal: bool = False
    conntrack_max_per_core: int | None = None
    conntrack_min: int | None = None
    tcp_established_s: float | None = None
    tcp_close_wait_s: float | None = None
    udp_timeout_s: float | None = None
    udp_stream_timeout_s: float | None = None
    iptables: BackendSettings = BackendSettings()
    nftables: BackendSettings = BackendSettings()
    # What kube-proxy does not have.
    service_cidrs: tuple[IPNetwork, ...] = ()
    external_ips: tuple[IPNetwork, ...] = ()
    load_balancer_ips: tuple[IPNetwork, ...] = ()
    balance: Balance = Balance.RANDOM
    ignored: tuple[str, ...] = field(default=(), compare=False)  # what was said and has no effect here

    @property
    def backend(self) -> BackendSettings:
        """The section of the mode that is asked for."""
        return self.nftables if self.mode == "nftables" else self.iptables


@dataclass(frozen=True, slots=True)
class Option:
    """One thing that can be said. ``attribute`` is empty for what has no effect here."""

    path: str  # in the file; empty: only a flag
    flag: str  # empty: only in the file
    read: Callable[[Value], object]
    attribute: str = ""
    help: str = ""


T = TypeVar("T")


def read_text(value: Value) -> str:
    """Return text. All readers raise ValueError with the reason."""
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not text")  # noqa: TRY004 - the reader's one error
    return value


def read_bool(value: Value) -> bool:
    if isinstance(value, bool):
        return value
    known = {"true": True, "false": False, "1": True, "0": False}
    if isinstance(value, str) and value.lower() in known:
        return known[value.lower()]
    raise ValueError(f"{value!r} is neither true nor false")


def read_number(value: Value) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(f"{value!r} is not a whole number")  # noqa: TRY004 - as above
    try:
        return int(value)
    except ValueError:
        raise ValueError(f"{value!r} is not a whole number") from None


_UNIT_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PIECE = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")


def read_duration_s(value: Value) -> float:
    """Return seconds from what Go writes: 1h0m30s, 100ms, 0."""
    text = read_text(value) if value != 0 else "0s"
    pieces = _PIECE.findall(text)
    if "".join(number + unit for number, unit in pieces) != text or not text:
        if text == "0":
            return 0.0
        raise ValueError(f"{text!r} is not a duration such as 30s or 1m30s")
    return float(sum(float(number) * _UNIT_S[unit] for number, unit in pieces))


def read_networks(value: Value) -> tuple[IPNetwork, ...]:
    """Return networks from a list, or from text with commas."""
    try:
        return tuple(ip_network(text) for text in _texts(value))
    except ValueError as error:
        raise ValueError(str(error)) from None


def read_node_port_addresses(value: Value) -> tuple[str, ...]:
    texts = _texts(value)
    if PRIMARY in texts and len(texts) > 1:
        raise ValueError(f"{PRIMARY!r} goes with nothing else")
    if PRIMARY not in texts:
        read_networks(texts)
    return tuple(texts)


def _texts(value: Value) -> list[str]:
    if value is None:
        return []
    if isinstance(value, list | tuple):
        return [read_text(each) for each in value]
    return [each.strip() for each in read_text(value).split(",") if each.strip()]


def read_address(default_port: int) -> Callable[[Value], Address | None]:
    """Return what reads IP:PORT or IP; empty text turns the server off."""

    def read(value: Value) -> Address | None:
        text = read_text(value)
        if not text:
            return None
        ip = parse_ip(text.strip("[]"))
        if ip is not None:
            return ip, default_port
        host, _, port = text.rpartition(":")
        ip = parse_ip(host.strip("[]"))
        if ip is None or not port.isdecimal() or not 1 <= int(port) <= 65535:
            raise ValueError(f"{text!r} is not IP:PORT")
        return ip, int(port)

    return read


def one_of(*words: str) -> Callable[[Value], str]:
    """Return what reads one of ``words``."""

    def read(value: Value) -> str:
        if value not in words:
            raise ValueError(f"{value!r} is not {' or '.join(repr(word) for word in words)}")
        return str(value)

    return read


def read_mode(value: Value) -> str:
    if value in ("ipvs", "kernelspace", "userspace"):
        raise ValueError(f"mode {value!r} is not offered: use iptables or nftables")
    return one_of("", "iptables", "nftables")(value)


def read_balance(value: Value) -> Balance:
    return Balance(one_of(*(balance.value for balance in Balance))(value))


def _anything(value: Value) -> Value:
    return value


def _backend(section: str) -> tuple[Option, ...]:
    flag = "iptables-" if section == "iptables" else ""
    return (
        Option(
            f"{section}.masqueradeBit", f"{flag}masquerade-bit" if flag else "", _read_bit, "masquerade_bit"
        ),
        Option(f"{section}.masqueradeAll", "masquerade-all" if flag else "", read_bool, "masquerade_all"),
        Option(
            f"{section}.syncPeriod", f"{flag}sync-period" if flag else "", read_duration_s, "sync_period_s"
        ),
        Option(
            f"{section}.minSyncPeriod",
            f"{flag}min-sync-period" if flag else "",
            read_duration_s,
            "min_sync_period_s",
        ),
    )


def _read_bit(value: Value) -> int:
    bit = read_number(value)
    if not 0 <= bit <= 31:
        raise ValueError(f"{bit} is not a bit of a mark: 0 to 31")
    return bit


def _idle(path: str, flag: str = "") -> Option:
    return Option(path, flag, _anything)


OPTIONS: tuple[Option, ...] = (
    Option("clientConnection.kubeconfig", "kubeconfig", read_text, "kubeconfig", "Where the API server is."),
    Option("hostnameOverride", "hostname-override", read_text, "hostname_override", "The name of our Node."),
    Option("mode", "proxy-mode", read_mode, "mode", "iptables or nftables."),
    Option("clusterCIDR", "cluster-cidr", read_networks, "cluster_cidrs", "The networks of pods: v4, v6."),
    Option(
        "detectLocalMode",
        "detect-local-mode",
        one_of("", "ClusterCIDR", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix"),
        "detect_local_mode",
        "How to tell pods from others.",
    ),
    Option("detectLocal.bridgeInterface", "pod-bridge-interface", read_text, "bridge_interface"),
    Option("detectLocal.interfaceNamePrefix", "pod-interface-name-prefix", read_text, "interface_prefix"),
    Option(
        "nodePortAddresses",
        "nodeport-addresses",
        read_node_port_addresses,
        "node_port_addresses",
        "Networks whose addresses node ports listen on, or 'primary'.",
    ),
    Option(
        "healthzBindAddress", "healthz-bind-address", read_address(10256), "healthz", "IP:PORT; empty: off."
    ),
    Option(
        "metricsBindAddress", "metrics-bind-address", read_address(10249), "metrics", "IP:PORT; empty: off."
    ),
    *_backend("iptables"),
    *_backend("nftables"),
    Option(
        "iptables.localhostNodePorts",
        "iptables-localhost-nodeports",
        read_bool,
        "localhost_node_ports",
        "Node ports on 127.0.0.1 too; off, as it needs route_localnet.",
    ),
    Option("conntrack.tcpBeLiberal", "conntrack-tcp-be-liberal", read_bool, "tcp_liberal"),
    Option("conntrack.maxPerCore", "conntrack-max-per-core", read_number, "conntrack_max_per_core"),
    Option("conntrack.min", "conntrack-min", read_number, "conntrack_min"),
    Option(
        "conntrack.tcpEstablishedTimeout",
        "conntrack-tcp-timeout-established",
        read_duration_s,
        "tcp_established_s",
    ),
    Option(
        "conntrack.tcpCloseWaitTimeout",
        "conntrack-tcp-timeout-close-wait",
        read_duration_s,
        "tcp_close_wait_s",
    ),
    Option("conntrack.udpTimeout", "conntrack-udp-timeout", read_duration_s, "udp_timeout_s"),
    Option(
        "conntrack.udpStreamTimeout", "conntrack-udp-timeout-stream", read_duration_s, "udp_stream_timeout_s"
    ),
    Option("", "service-cidrs", read_networks, "service_cidrs", "The networks of cluster addresses."),
    Option(
        "",
        "allow-external-ips",
        read_networks,
        "external_ips",
        "Networks that Services' externalIPs may lie in; none by default.",
    ),
    Option(
        "", "allow-load-balancer-ips", read_networks, "load_balancer_ips", "The same for load balancers; all."
    ),
    Option("", "balance", read_balance, "balance", "random or round-robin, for Services that do not say."),
    # Known, and without an effect here.
    *map(_idle, ("apiVersion", "kind", "featureGates", "logging", "ipvs", "winkernel", "portRange")),
    *map(_idle, ("showHiddenMetricsForVersion", "enableProfiling", "bindAddressHardFail")),
    *map(_idle, ("windowsRunAsService", "clientConnection.acceptContentTypes")),
    *map(_idle, ("clientConnection.contentType", "clientConnection.qps", "clientConnection.burst")),
    _idle("bindAddress", "bind-address"),
    _idle("configSyncPeriod", "config-sync-period"),
    _idle("oomScoreAdj", "oom-score-adj"),
)

_SILENT = ("apiVersion", "kind")  # what has no effect and need not be told of
_SECTIONS = ("clientConnection", "iptables", "nftables", "conntrack", "detectLocal")


def with_flags(settings: Settings, said: Mapping[str, str]) -> Settings:
    """Return ``settings`` with what was said on the command line, by flag. Raises InvalidInput."""
    by_flag = {option.flag: option for option in OPTIONS if option.flag}
    for flag, text in said.items():
        settings = _with(settings, by_flag[flag], text, f"--{flag}", f"--{flag}")
    return settings


def with_file(settings: Settings, text: str, source: str) -> Settings:
    """Return ``settings`` with what a KubeProxyConfiguration says, which wins. Raises InvalidInput."""
    by_path = {option.path: option for option in OPTIONS if option.path}
    for path, (value, line) in _fields(text, source).items():
        where = f"{source}:{line}"
        if path not in by_path:
            raise InvalidInput(f"{where}: unknown field {path!r}", f"look at {where}")
        if value is not None:
            settings = _with(settings, by_path[path], value, f"{where}: {path}", path)
    return settings


def _with(settings: Settings, option: Option, value: Value, subject: str, name: str) -> Settings:
    try:
        read = option.read(value)
    except ValueError as error:
        raise InvalidInput(f"{subject}: {error}") from None
    if not option.attribute:
        ignored = () if option.path in _SILENT else (name,)
        return replace(settings, ignored=(*settings.ignored, *ignored))
    section = option.path.partition(".")[0]
    if section in ("iptables", "nftables") and option.attribute in BackendSettings.__slots__:
        part = settings.iptables if section == "iptables" else settings.nftables
        changed = replace(part, **{option.attribute: read})  # type: ignore[arg-type]  # as the table says
        return replace(settings, **{section: changed})  # type: ignore[arg-type]
    return replace(settings, **{option.attribute: read})  # type: ignore[arg-type]


def _fields(text: str, source: str) -> dict[str, tuple[Value, int]]:
    """Return the values by path, each with its line."""
    try:
        node = yaml.compose(text, Loader=yaml.CSafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{source}:{mark.line + 1}" if mark else source
        raise InvalidInput(f"{where}: not YAML: {getattr(error, 'problem', error)}") from None
    if not isinstance(node, yaml.MappingNode):
        raise InvalidInput(f"{source}: not a {KIND}")
    found = dict(_walk(node, source))
    for name, expected in (("apiVersion", API_VERSION), ("kind", KIND)):
        value, line = found.get(name, ("", 1))
        if value != expected:
            raise InvalidInput(f"{source}:{line}: {name} is {value!r}, not {expected!r}")
    return found


def _walk(node: yaml.MappingNode, source: str, prefix: str = "") -> list[tuple[str, tuple[Value, int]]]:
    found: list[tuple[str, tuple[Value, int]]] = []
    seen = set()
    for key, value in node.value:
        path = f"{prefix}{key.value}"
        line = key.start_mark.line + 1
        if path in seen:
            raise InvalidInput(f"{source}:{line}: field {path!r} stands twice")
        seen.add(path)
        if isinstance(value, yaml.MappingNode) and path in _SECTIONS:
            found += _walk(value, source, f"{path}.")
        else:
            found.append((path, (_plain(value), line)))
    return found


def _plain(node: yaml.Node, depth: int = 0) -> Value:
    if depth > _MAX_DEPTH:
        raise InvalidInput(f"nested more than {_MAX_DEPTH} deep")
    if isinstance(node, yaml.MappingNode):
        return {key.value: _plain(value, depth + 1) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [_plain(each, depth + 1) for each in node.value]
    return _scalar(node)


def _scalar(node: yaml.Node) -> Value:
    text = str(node.value)
    kind = node.tag.rpartition(":")[2]
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() in ("true", "yes", "on")
    if kind == "int" and re.fullmatch(r"[-+]?\d+", text):
        return int(text)
    return text
