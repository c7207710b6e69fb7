"""Reads ``forward``: who is asked for what is not ours, and how. *Pure.*

Source: manual page of the plugin forward of CoreDNS.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from ipaddress import ip_address

from dns import names
from dns.corefile import Directive
from dns.forward import Transport, Upstream
from dns.health import Policy
from dns.settings import Block, ClientTls, ForwardTo
from dns.words import (
    duration_s,
    one_value,
    rcode_of,
    unknown_option,
    whole_number,
    zones_of,
    zones_of_all,
)
from kubenet.errors import InvalidInput

MOST_SERVERS = 15
_PORTS = {Transport.PLAIN: 53, Transport.TLS: 853, Transport.HTTPS: 443}


def read_forward(block: Block, directive: Directive) -> Block:
    """Return the block with one more ``forward``. Raises InvalidInput."""
    if len(directive.args) < 2:
        raise directive.wrong("needs a zone and at least one server")
    servers = tuple(_server(text) for text in directive.args[1:])
    if len(servers) > MOST_SERVERS:
        raise directive.wrong(f"{len(servers)} servers, at most {MOST_SERVERS}")
    for zone in zones_of(directive.args[0]):
        config = ForwardTo(zone, servers)
        for option in directive.options:
            config = _option(config, option)
        _check(directive, config)
        block = replace(block, forwards=(*block.forwards, config))
    return block


def _check(directive: Directive, config: ForwardTo) -> None:
    secure = [
        each
        for each in config.servers
        if isinstance(each, Upstream) and each.transport is not Transport.PLAIN
    ]
    if config.tls and not secure:
        raise directive.wrong("tls is told, but no server is asked over it; write tls://ADDRESS")
    if config.tls and config.tls.servername and any(each.servername for each in secure):
        raise directive.wrong(
            "tls_servername and a name of a server's own (tls://ADDRESS%NAME) exclude each other"
        )


def _server(text: str) -> Upstream | str:
    scheme, found, rest = text.partition("://")
    if found and scheme not in Transport._value2member_map_:
        raise InvalidInput(f"{text}: transport {scheme}: there are dns, tls and https")
    transport = Transport(scheme) if found else Transport.PLAIN
    if transport is Transport.HTTPS:
        raise InvalidInput(f"{text}: transport https is not done yet")
    rest = (rest if found else text).removesuffix("/dns-query")
    if rest.startswith(("/", ".")):
        return rest
    try:
        return _upstream(rest, transport)
    except ValueError:
        raise InvalidInput(f"{text!r} is neither an address nor a file") from None


def _upstream(text: str, transport: Transport) -> Upstream:
    """Return the server of ``ADDRESS[%NAME][:PORT]``. Raises ValueError."""
    host, digits = text, ""
    if text.startswith("[") or text.count(":") == 1 or "%" in text:
        before, colon, after = text.rpartition(":")
        if colon and after.isdecimal():
            host, digits = before, after
    host, _, servername = host.partition("%")
    if servername and transport is Transport.PLAIN:
        raise ValueError(f"{text}: a link-local address needs an interface")
    port = whole_number(digits, 1, 65535) if digits else _PORTS[transport]
    return Upstream(ip_address(host.strip("[]")), port, transport, servername)


def _policy(config: ForwardTo, option: Directive) -> ForwardTo:
    try:
        return replace(config, policy=Policy(one_value(option)))
    except ValueError:
        raise option.wrong(f"{option.args[0]!r} is not random, round_robin or sequential") from None


def _health_check(config: ForwardTo, option: Directive) -> ForwardTo:
    if not option.args:
        raise option.wrong("needs an interval")
    config = replace(config, health_check_s=duration_s(option.args[0]))
    rest = list(option.args[1:])
    while rest:
        word = rest.pop(0)
        if word == "no_rec":
            config = replace(config, health_check_recurse=False)
        elif word == "domain" and rest:
            config = replace(config, health_check_domain=names.from_text(rest.pop(0).lower()))
        else:
            raise option.wrong(f"unexpected {word!r}; there are no_rec and domain NAME")
    return config


def _tls(config: ForwardTo, option: Directive) -> ForwardTo:
    if len(option.args) > 3:
        raise option.wrong("at most a certificate, a key and an authority")
    before = config.tls or ClientTls()
    match option.args:
        case (ca,):
            return replace(config, tls=replace(before, ca=ca))
        case (cert, key, *ca):
            return replace(config, tls=replace(before, cert=cert, key=key, ca="".join(ca)))
        case _:
            return replace(config, tls=before)


def _tls_servername(config: ForwardTo, option: Directive) -> ForwardTo:
    return replace(config, tls=replace(config.tls or ClientTls(), servername=one_value(option)))


def _failover(config: ForwardTo, option: Directive) -> ForwardTo:
    codes = frozenset(map(rcode_of, option.args))
    if not codes or 0 in codes:
        raise option.wrong("needs codes of failure such as SERVFAIL; NOERROR is none")
    return replace(config, failover=config.failover | codes)


def _next(config: ForwardTo, option: Directive) -> ForwardTo:
    if not option.args:
        raise option.wrong("needs codes such as NXDOMAIN")
    return replace(config, next_on=config.next_on | frozenset(map(rcode_of, option.args)))


def _number(field: str) -> Callable[[ForwardTo, Directive], ForwardTo]:
    def read(config: ForwardTo, option: Directive) -> ForwardTo:
        return replace(config, **{field: whole_number(one_value(option), 0, 1 << 30)})  # type: ignore[arg-type]  # a number

    return read


def _duration(field: str) -> Callable[[ForwardTo, Directive], ForwardTo]:
    def read(config: ForwardTo, option: Directive) -> ForwardTo:
        return replace(config, **{field: duration_s(one_value(option))})  # type: ignore[arg-type]  # seconds

    return read


def _flag(field: str) -> Callable[[ForwardTo, Directive], ForwardTo]:
    def read(config: ForwardTo, option: Directive) -> ForwardTo:
        if option.args:
            raise option.wrong(f"unexpected {option.args[0]!r}")
        return replace(config, **{field: True})  # type: ignore[arg-type]  # a flag

    return read


_OPTIONS: Mapping[str, Callable[[ForwardTo, Directive], ForwardTo]] = {
    "except": lambda config, option: replace(config, excepted=config.excepted + zones_of_all(option.args)),
    "policy": _policy,
    "force_tcp": _flag("force_tcp"),
    "prefer_udp": _flag("prefer_udp"),
    "max_fails": _number("max_fails"),
    "max_concurrent": _number("max_concurrent"),
    "max_connect_attempts": _number("max_tries"),
    "max_idle_conns": _number("max_idle"),
    "health_check": _health_check,
    "failfast_all_unhealthy_upstreams": _flag("fail_fast"),
    "expire": _duration("expire_s"),
    "read_timeout": _duration("read_timeout_s"),
    "tls": _tls,
    "tls_servername": _tls_servername,
    "failover": _failover,
    "next": _next,
    "next_on_nodata": _flag("next_on_nodata"),
}


def _option(config: ForwardTo, option: Directive) -> ForwardTo:
    if option.name not in _OPTIONS:
        raise unknown_option(option, "forward", _OPTIONS)
    return _OPTIONS[option.name](config, option)
