"""Reads ``kubernetes``: which of the cluster's objects have names, and how. *Pure.*

Source: manual page of the plugin kubernetes of CoreDNS.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

from dns import names
from dns.corefile import Directive
from dns.names import is_in
from dns.settings import Block, Kubernetes
from dns.words import duration_s, one_value, unknown_option, whole_number, zones_of_all
from dns.zone import PodsMode


def read_kubernetes(block: Block, directive: Directive) -> Block:
    """Return the block that knows a cluster. Raises InvalidInput."""
    if block.kubernetes:
        raise directive.wrong("stands twice in this server block")
    zones = zones_of_all(directive.args) or block.zones
    reverse = tuple(zone for zone in zones if is_in(zone, names.IN_ADDR_ARPA) or is_in(zone, names.IP6_ARPA))
    forward = [zone for zone in zones if zone not in reverse]
    if len(forward) != 1 or forward[0] == names.ROOT:
        raise directive.wrong(f"needs one zone such as cluster.local, {len(forward)} given")
    config = Kubernetes(forward[0], reverse)
    for option in directive.options:
        config = _option(config, option)
    if config.namespaces and config.namespace_labels:
        raise directive.wrong("namespaces and namespace_labels exclude each other")
    return replace(block, kubernetes=config)


def _option(config: Kubernetes, option: Directive) -> Kubernetes:
    if option.name not in _OPTIONS:
        raise unknown_option(option, "kubernetes", _OPTIONS)
    return _OPTIONS[option.name](config, option)


def _unchanged(config: Kubernetes, option: Directive) -> Kubernetes:
    """Take flow control of a client that lists again and again; ours lists once and watches."""
    one_value(option)
    return config


def _pods(config: Kubernetes, option: Directive) -> Kubernetes:
    try:
        return replace(config, pods=PodsMode(one_value(option)))
    except ValueError:
        raise option.wrong(f"{option.args[0]!r} is not disabled, insecure or verified") from None


def _ignore(config: Kubernetes, option: Directive) -> Kubernetes:
    if one_value(option) not in ("empty_service", "emptyservice"):
        raise option.wrong(f"unknown {option.args[0]!r}; there is empty_service")
    return replace(config, hide_empty=True)


def _kubeconfig(config: Kubernetes, option: Directive) -> Kubernetes:
    if not 1 <= len(option.args) <= 2:
        raise option.wrong("needs a file and perhaps a context")
    return replace(config, kubeconfig=option.args[0], context="".join(option.args[1:]))


def _tls(config: Kubernetes, option: Directive) -> Kubernetes:
    if len(option.args) != 3:
        raise option.wrong("needs the files of a certificate, of its key and of the authority")
    return replace(config, tls=option.args)


def _namespaces(config: Kubernetes, option: Directive) -> Kubernetes:
    if not option.args:
        raise option.wrong("needs at least one namespace")
    return replace(config, namespaces=config.namespaces | frozenset(option.args))


def _selector(field: str) -> Callable[[Kubernetes, Directive], Kubernetes]:
    def read(config: Kubernetes, option: Directive) -> Kubernetes:
        if not option.args:
            raise option.wrong("needs a selector such as app=web")
        return replace(config, **{field: " ".join(option.args)})  # type: ignore[arg-type]  # a text

    return read


def _flag(field: str, *, to: bool) -> Callable[[Kubernetes, Directive], Kubernetes]:
    def read(config: Kubernetes, option: Directive) -> Kubernetes:
        if option.args:
            raise option.wrong(f"unexpected {option.args[0]!r}")
        return replace(config, **{field: to})  # type: ignore[arg-type]  # a flag

    return read


def _refused(why: str) -> Callable[[Kubernetes, Directive], Kubernetes]:
    def read(_config: Kubernetes, option: Directive) -> Kubernetes:
        raise option.wrong(why)

    return read


_OPTIONS: Mapping[str, Callable[[Kubernetes, Directive], Kubernetes]] = {
    "endpoint": lambda config, option: replace(config, endpoint=one_value(option)),
    "tls": _tls,
    "kubeconfig": _kubeconfig,
    "namespaces": _namespaces,
    "namespace_labels": _selector("namespace_labels"),
    "labels": _selector("labels"),
    "pods": _pods,
    "endpoint_pod_names": _flag("pod_names", to=True),
    "ttl": lambda config, option: replace(config, ttl_s=whole_number(one_value(option), 0, 3600)),
    "noendpoints": _flag("endpoints", to=False),
    "ignore": _ignore,
    "fallthrough": lambda config, option: replace(config, fallthrough=zones_of_all(option.args)),
    "startup_timeout": lambda config, option: replace(
        config, startup_timeout_s=duration_s(one_value(option))
    ),
    "apiserver_qps": _unchanged,
    "apiserver_burst": _unchanged,
    "apiserver_max_inflight": _unchanged,
    "resyncperiod": _unchanged,
    "upstream": lambda config, _: config,  # gone from CoreDNS too: aliases ask this server
    "transfer": _refused("went to a plugin of its own; write 'transfer { to ADDRESS }' beside kubernetes"),
    "multicluster": _refused("names of other clusters (ServiceImport) are not done yet"),
    "zonal": _refused("names of zones are not done yet"),
}
