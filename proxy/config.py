"""What the operator says, in kube-proxy's flags and in its KubeProxyConfiguration. *Pure.*

One table (``config_options``) names every option. A field that is not in the table is an error that names it
with its line. Options that kube-proxy has and that cannot matter here (how fast to ask the API, what to
profile) are taken and named in a warning; a value that we cannot honour (mode ipvs) is an error.

The file wins over the flags, except for the Node's name: kubeadm gives every node one and the same file, and
the name by flag. A field that Go writes for "not set" (0, "", null) says nothing, as in kube-proxy.

Source: Kubernetes kubeproxy.config.k8s.io/v1alpha1; kube-proxy's command line reference.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, ip_network

from kubenet.errors import InvalidInput
from proxy import config_file
from proxy.config_options import OPTIONS, Option
from proxy.config_values import Address, Value, duration_text, is_nothing, read_duration_s
from proxy.ports import Balance, IPNetwork

_ALLOW_EXTERNAL_IPS = "AllowServiceExternalIPs"
_ANYWHERE = (ip_network("0.0.0.0/0"), ip_network("::/0"))


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
    master: str = ""
    hostname_override: str = ""
    mode: str = ""  # empty: whatever is best here
    cluster_cidrs: tuple[IPNetwork, ...] = ()
    detect_local_mode: str = "ClusterCIDR"
    bridge_interface: str = ""
    interface_prefix: str = ""
    node_port_addresses: tuple[str, ...] = ()
    healthz: Address | None = (IPv4Address("0.0.0.0"), 10256)
    metrics: Address | None = (IPv4Address("127.0.0.1"), 10249)
    bind_address: Address | None = None
    localhost_node_ports: bool = False
    tcp_liberal: bool = False
    conntrack_max_per_core: int | None = None
    conntrack_min: int | None = None
    tcp_established_s: float | None = None
    tcp_close_wait_s: float | None = None
    udp_timeout_s: float | None = None
    udp_stream_timeout_s: float | None = None
    iptables: BackendSettings = BackendSettings()
    nftables: BackendSettings = BackendSettings(min_sync_period_s=0.01)  # its syncs cost next to nothing
    feature_gates: Mapping[str, bool] = field(default_factory=dict)
    verbosity: int = 0
    # What kube-proxy does not have.
    service_cidrs: tuple[IPNetwork, ...] = ()
    external_ips: tuple[IPNetwork, ...] = ()
    load_balancer_ips: tuple[IPNetwork, ...] = ()
    balance: Balance = Balance.RANDOM
    count_connections: bool = False
    ignored: tuple[str, ...] = field(default=(), compare=False)  # what was said and has no effect here

    @property
    def backend(self) -> BackendSettings:
        """The section of the mode that is asked for."""
        return self.nftables if self.mode == "nftables" else self.iptables

    @property
    def allowed_external_ips(self) -> tuple[IPNetwork, ...]:
        """Where externalIPs may lie: what was said, or anywhere if the gate was opened by name."""
        return self.external_ips or (_ANYWHERE if self.feature_gates.get(_ALLOW_EXTERNAL_IPS) else ())


def with_flags(settings: Settings, said: Mapping[str, str]) -> Settings:
    """Return ``settings`` with what was said on the command line, by flag. Raises InvalidInput."""
    by_flag = {option.flag: option for option in OPTIONS if option.flag}
    for flag, text in said.items():
        settings = _with(settings, by_flag[flag], text, f"--{flag}", f"--{flag}")
    return settings


def with_file(settings: Settings, text: str, source: str) -> Settings:
    """Return ``settings`` with what a KubeProxyConfiguration says, which wins. Raises InvalidInput."""
    by_path = {option.path: option for option in OPTIONS if option.path}
    name = settings.hostname_override
    for path, (value, line) in config_file.fields(text, source).items():
        where = f"{source}:{line}"
        if path not in by_path:
            raise InvalidInput(f"{where}: unknown field {path!r}", f"look at {where}")
        option = by_path[path]
        if value is None or (is_nothing(value) and not option.zero_counts and value is not False):
            continue
        settings = _with(settings, option, value, f"{where}: {path}", path)
    return replace(settings, hostname_override=name or settings.hostname_override)


def as_file(settings: Settings) -> str:
    """Return the KubeProxyConfiguration that says ``settings``, as far as it has fields for them."""
    values: dict[str, Value] = {}
    for option in OPTIONS:
        if option.path and option.attribute:
            values[option.path] = _plain(_value(settings, option), option)
    return config_file.written(values)


def unwritable(settings: Settings) -> tuple[str, ...]:
    """Return the flags that say what ``as_file`` has no fields for."""
    default = Settings()
    return tuple(
        f"--{option.flag}"
        for option in OPTIONS
        if option.attribute and not option.path and _value(settings, option) != _value(default, option)
    )


_SILENT = ("apiVersion", "kind")  # what has no effect and need not be told of


def _with(settings: Settings, option: Option, value: Value, subject: str, name: str) -> Settings:
    try:
        read = option.read(value)
    except ValueError as error:
        raise InvalidInput(f"{subject}: {error}") from None
    if not option.attribute:
        ignored = () if option.path in _SILENT or is_nothing(value) else (name,)
        return replace(settings, ignored=(*settings.ignored, *ignored))
    section = _section(option)
    if section:
        part = settings.iptables if section == "iptables" else settings.nftables
        changed = replace(part, **{option.attribute: read})  # type: ignore[arg-type]  # as the table says
        return replace(settings, **{section: changed})  # type: ignore[arg-type]
    return replace(settings, **{option.attribute: read})  # type: ignore[arg-type]


def _section(option: Option) -> str:
    section = option.path.partition(".")[0]
    both = section in ("iptables", "nftables") and option.attribute in BackendSettings.__slots__
    return section if both else ""


def _value(settings: Settings, option: Option) -> object:
    section = _section(option)
    owner: object = getattr(settings, section) if section else settings
    return getattr(owner, option.attribute)


def _plain(value: object, option: Option) -> Value:
    """Return what stands in a file for the value of an option."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if option.read is read_duration_s and isinstance(value, float):
        return duration_text(value)
    if isinstance(value, Mapping):
        return dict(value)
    if option.attribute in ("healthz", "metrics", "bind_address") and isinstance(value, tuple):
        ip, port = value
        host = f"[{ip}]" if ip.version == 6 else str(ip)
        return f"{host}:{port}" if port else str(ip)
    if option.attribute == "cluster_cidrs" and isinstance(value, tuple):
        return ",".join(map(str, value))
    return [str(each) for each in value] if isinstance(value, tuple) else str(value)
