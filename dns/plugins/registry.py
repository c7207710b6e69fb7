"""What the plugins of a Corefile are told, as values. *Pure.*

A reader a plugin turns a directive into a value; what it does not know is an error that names file, line and
word. A plugin that exists in CoreDNS but not here is refused by name, never silently left out: a server that
ignores half of its configuration answers wrongly.

Source: the plugins' manual pages of CoreDNS.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from dns import names
from dns.corefile import Directive, ServerBlock
from dns.names import WireName, is_in
from dns.plugins.cache import read_cache
from dns.plugins.forward import read_forward
from dns.settings import (
    Acl,
    AclRule,
    Block,
    Hosts,
    Kubernetes,
    Template,
)
from dns.wire import UDP_BYTES
from dns.words import (
    did_you_mean,
    duration_s,
    listen_at,
    nothing_more,
    one_value,
    option_not_yet,
    record_type,
    unknown_option,
    whole_number,
    zones_of,
    zones_of_all,
)
from dns.zone import PodsMode
from kubenet.errors import InvalidInput
from kubenet.model.links import IPAddress

DNS_PORT = 53


def read_blocks(parsed: tuple[ServerBlock, ...], port: int = DNS_PORT) -> tuple[Block, ...]:
    """Return what a Corefile says. ``port`` is for keys without one. Raises InvalidInput."""
    found: list[Block] = []
    taken: dict[tuple[WireName, int, tuple[IPAddress, ...]], ServerBlock] = {}
    for each in parsed:
        for block in _of_server_block(each, port):
            for zone in block.zones:
                key = (zone, block.port, block.bind)
                if key in taken:
                    raise InvalidInput(
                        f"{each.where}: {names.to_text(zone)} port {block.port} is served already, by"
                        f" {taken[key].where}"
                    )
                taken[key] = each
            found.append(block)
    return tuple(found)


def _of_server_block(parsed: ServerBlock, port: int) -> Iterator[Block]:
    by_port: dict[int, list[WireName]] = {}
    for key in parsed.keys:
        try:
            zones, key_port = _key(key, port)
        except ValueError as error:
            raise InvalidInput(f"{parsed.where}: key {key!r}: {error}") from error
        except InvalidInput as error:
            raise InvalidInput(f"{parsed.where}: key {key!r}: {error}") from error
        by_port.setdefault(key_port, []).extend(zones)
    for key_port, zones in by_port.items():
        block = Block(tuple(dict.fromkeys(zones)), key_port, parsed.where.file)
        for directive in parsed.directives:
            block = _with(block, directive)
        yield replace(block, seen=frozenset(directive.name for directive in parsed.directives))


def _key(text: str, port: int) -> tuple[list[WireName], int]:
    scheme, found, rest = text.partition("://")
    if not found:
        rest = text
    elif scheme != "dns":
        raise InvalidInput(f"transport {scheme} is not done yet")
    host, colon, digits = rest.rpartition(":")
    if colon and digits.isdecimal():
        if not 0 < int(digits) < 65536:
            raise InvalidInput(f"port {digits}: must be 1 to 65535")
        return zones_of(host or "."), int(digits)
    return zones_of(rest), port


def _with(block: Block, directive: Directive) -> Block:
    reader = _READERS.get(directive.name)
    if reader is None:
        if directive.name in NOT_YET:
            raise InvalidInput(f"{directive.where}: plugin {directive.name} is not done yet")
        text = f"{directive.where}: unknown plugin {directive.name!r}"
        raise InvalidInput(text, did_you_mean(directive.name, DONE | NOT_YET))
    try:
        return reader(block, directive)
    except InvalidInput as error:
        if str(error).startswith(str(directive.where.file)):
            raise
        raise directive.wrong(str(error)) from error


def _plain(flag: str) -> Callable[[Block, Directive], Block]:
    def read(block: Block, directive: Directive) -> Block:
        nothing_more(directive)
        return replace(block, **{flag: True}) if flag else block  # type: ignore[arg-type]  # a bool field

    return read


def _read_errors(block: Block, directive: Directive) -> Block:
    for option in directive.options:
        if option.name not in ("consolidate", "stacktrace"):
            raise unknown_option(option, "errors")
    return replace(block, errors=True)


def _read_health(block: Block, directive: Directive) -> Block:
    lameduck_s = 0.0
    for option in directive.options:
        if option.name != "lameduck":
            raise unknown_option(option, "health")
        lameduck_s = duration_s(one_value(option))
    return replace(block, health=listen_at(directive, 8080, everywhere=True), lameduck_s=lameduck_s)


def _read_ready(block: Block, directive: Directive) -> Block:
    for option in directive.options:
        if option.name != "monitor" or option.args not in (("continuously",), ("until-ready",)):
            raise unknown_option(option, "ready")
    return replace(block, ready=listen_at(directive, 8181, everywhere=True))


def _read_prometheus(block: Block, directive: Directive) -> Block:
    listen = listen_at(directive, 9153, everywhere=False)
    nothing_more(directive, args=1)
    return replace(block, prometheus=listen)


def _read_reload(block: Block, directive: Directive) -> Block:
    nothing_more(directive, args=2)
    every_s = duration_s(directive.args[0]) if directive.args else 30.0
    jitter_s = duration_s(directive.args[1]) if len(directive.args) > 1 else every_s / 2
    if every_s < 2 or jitter_s > every_s / 2:
        raise directive.wrong("at least 2s, and a jitter of at most half of it")
    return replace(block, reload_s=every_s, reload_jitter_s=jitter_s)


def _read_loadbalance(block: Block, directive: Directive) -> Block:
    if directive.args not in ((), ("round_robin",)):
        raise directive.wrong(f"policy {directive.args[0]} is not done yet")
    nothing_more(directive, args=1)
    return block  # addresses are turned in every answer anyway


def _read_bind(block: Block, directive: Directive) -> Block:
    nothing_more(directive, args=len(directive.args))
    try:
        return replace(block, bind=block.bind + tuple(ip_address(text) for text in directive.args))
    except ValueError as error:
        raise directive.wrong(f"{error}; interface names are not done yet") from error


def _read_bufsize(block: Block, directive: Directive) -> Block:
    nothing_more(directive, args=1)
    size = whole_number(directive.args[0], 512, 4096) if directive.args else UDP_BYTES
    return replace(block, bufsize=min(size, UDP_BYTES))


def _read_kubernetes(block: Block, directive: Directive) -> Block:
    zones = zones_of_all(directive.args) or block.zones
    reverse = tuple(zone for zone in zones if is_in(zone, names.IN_ADDR_ARPA) or is_in(zone, names.IP6_ARPA))
    forward = [zone for zone in zones if zone not in reverse]
    if len(forward) != 1 or forward[0] == names.ROOT:
        raise directive.wrong(f"needs one zone such as cluster.local, {len(forward)} given")
    config = Kubernetes(forward[0], reverse)
    for option in directive.options:
        config = _kubernetes_option(config, option)
    return replace(block, kubernetes=config)


# Flow control of one client; ours lists once and watches, so there is nothing to slow down.
_OF_THE_CLIENT = ("apiserver_qps", "apiserver_burst", "apiserver_max_inflight", "resyncperiod")


def _kubernetes_option(config: Kubernetes, option: Directive) -> Kubernetes:
    read = _KUBERNETES_OPTIONS.get(option.name)
    if read is not None:
        return read(config, option)
    if option.name in _OF_THE_CLIENT:
        one_value(option)
        return config
    if option.name in ("namespace_labels", "multicluster", "tls", "zonal", "upstream"):
        raise option_not_yet(option, "kubernetes")
    raise unknown_option(option, "kubernetes")


def _kubernetes_pods(config: Kubernetes, option: Directive) -> Kubernetes:
    try:
        return replace(config, pods=PodsMode(one_value(option)))
    except ValueError:
        raise option.wrong(f"{option.args[0]!r} is not disabled, insecure or verified") from None


def _kubernetes_ignore(config: Kubernetes, option: Directive) -> Kubernetes:
    if one_value(option) != "empty_service":
        raise option.wrong(f"unknown {option.args[0]!r}; there is empty_service")
    return replace(config, hide_empty=True)


def _kubernetes_kubeconfig(config: Kubernetes, option: Directive) -> Kubernetes:
    if not 1 <= len(option.args) <= 2:
        raise option.wrong("needs a file and perhaps a context")
    return replace(config, kubeconfig=option.args[0], context="".join(option.args[1:]))


_KUBERNETES_OPTIONS: Mapping[str, Callable[[Kubernetes, Directive], Kubernetes]] = {
    "endpoint": lambda config, option: replace(config, endpoint=one_value(option)),
    "kubeconfig": _kubernetes_kubeconfig,
    "namespaces": lambda config, option: replace(config, namespaces=frozenset(option.args)),
    "labels": lambda config, option: replace(config, labels=" ".join(option.args)),
    "pods": _kubernetes_pods,
    "endpoint_pod_names": lambda config, _: replace(config, pod_names=True),
    "ttl": lambda config, option: replace(config, ttl_s=whole_number(one_value(option), 0, 3600)),
    "noendpoints": lambda config, _: replace(config, endpoints=False),
    "ignore": _kubernetes_ignore,
    "fallthrough": lambda config, option: replace(config, fallthrough=zones_of_all(option.args)),
    "startup_timeout": lambda config, option: replace(
        config, startup_timeout_s=duration_s(one_value(option))
    ),
}


def _read_hosts(block: Block, directive: Directive) -> Block:
    is_file = bool(directive.args) and "/" in directive.args[0]
    config = Hosts(
        zones_of_all(directive.args[is_file:]) or block.zones,
        directive.args[0] if is_file else "" if directive.options else "/etc/hosts",
    )
    for option in directive.options:
        match option.name:
            case "ttl":
                config = replace(config, ttl_s=whole_number(one_value(option), 1, 1 << 30))
            case "no_reverse":
                config = replace(config, reverse=False)
            case "fallthrough":
                config = replace(config, fallthrough=zones_of_all(option.args))
            case "reload":
                one_value(option)  # the file is read again whenever the configuration is
            case _:
                _check_host_line(option)
                config = replace(config, lines=(*config.lines, " ".join((option.name, *option.args))))
    return replace(block, hosts=config)


def _check_host_line(option: Directive) -> None:
    try:
        ip_address(option.name)
    except ValueError:
        raise unknown_option(option, "hosts") from None


def _read_template(block: Block, directive: Directive) -> Block:
    if len(directive.args) < 2 or directive.args[0].upper() not in ("IN", "ANY"):
        raise directive.wrong("needs a class (IN or ANY), a type and perhaps zones")
    rtype = record_type(directive.args[1])
    config = Template(rtype, zones_of_all(directive.args[2:]) or block.zones)
    for option in directive.options:
        config = _template_option(config, option)
    return replace(block, templates=(*block.templates, config))


_RCODES = {"NOERROR": 0, "FORMERR": 1, "SERVFAIL": 2, "NXDOMAIN": 3, "NOTIMP": 4, "REFUSED": 5}


def _template_option(config: Template, option: Directive) -> Template:
    match option.name:
        case "rcode":
            if one_value(option).upper() not in _RCODES:
                raise option.wrong(f"{option.args[0]!r} is not one of {', '.join(_RCODES)}")
            return replace(config, rcode=_RCODES[option.args[0].upper()])
        case "match":
            for pattern in option.args:
                _check_pattern(option, pattern)
            return replace(config, matches=config.matches + option.args)
        case "fallthrough":
            return replace(config, fallthrough=zones_of_all(option.args))
        case "answer" | "additional" | "authority" | "upstream" | "ederror":
            raise option_not_yet(option, "template")
        case _:
            raise unknown_option(option, "template")


def _check_pattern(option: Directive, pattern: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise option.wrong(f"{pattern!r}: {error}") from error


def _read_acl(block: Block, directive: Directive) -> Block:
    rules = tuple(_acl_rule(option) for option in directive.options)
    return replace(block, acls=(*block.acls, Acl(zones_of_all(directive.args) or block.zones, rules)))


def _acl_rule(option: Directive) -> AclRule:
    if option.name not in ("allow", "block", "filter", "drop"):
        raise unknown_option(option, "acl")
    rtypes: set[int] = set()
    networks: list[IPv4Network | IPv6Network] = []
    what = ""
    for word in option.args:
        if word in ("type", "net"):
            what = word
        elif what == "type" and word != "*":
            rtypes.add(record_type(word))
        elif what == "net" and word != "*":
            try:
                networks.append(ip_network(word, strict=False))
            except ValueError as error:
                raise option.wrong(str(error)) from error
        elif not what:
            raise option.wrong(f"unexpected {word!r}; there are type and net")
    return AclRule(option.name, frozenset(rtypes), tuple(networks))


_READERS: Mapping[str, Callable[[Block, Directive], Block]] = {
    "acl": _read_acl,
    "any": _plain(""),  # ANY gets one record set (RFC 8482) always
    "bind": _read_bind,
    "bufsize": _read_bufsize,
    "cache": read_cache,
    "debug": _plain(""),  # --verbose decides what is said
    "errors": _read_errors,
    "forward": read_forward,
    "health": _read_health,
    "hosts": _read_hosts,
    "kubernetes": _read_kubernetes,
    "loadbalance": _read_loadbalance,
    "local": _plain("local"),
    "loop": _plain("loop"),
    "minimal": _plain("minimal"),
    "prometheus": _read_prometheus,
    "ready": _read_ready,
    "reload": _read_reload,
    "template": _read_template,
}

DONE = frozenset(_READERS)
NOT_YET = frozenset(
    (
        "auto",
        "autopath",
        "azure",
        "cancel",
        "chaos",
        "clouddns",
        "dns64",
        "dnssec",
        "dnstap",
        "erratic",
        "etcd",
        "file",
        "geoip",
        "grpc",
        "grpc_server",
        "header",
        "https",
        "https3",
        "import",
        "k8s_external",
        "log",
        "metadata",
        "multisocket",
        "nomad",
        "nsid",
        "pprof",
        "quic",
        "rewrite",
        "root",
        "route53",
        "secondary",
        "sign",
        "timeouts",
        "tls",
        "trace",
        "transfer",
        "tsig",
        "view",
        "whoami",
    )
)
