"""Reads the plugins ``forward`` and ``cache``: what is asked elsewhere, and what of it is kept. *Pure.*

Source: manual pages of the plugins forward and cache of CoreDNS.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from ipaddress import ip_address

from dns import names
from dns.corefile import Directive
from dns.forward import Upstream
from dns.health import Policy
from dns.settings import Block, CacheConfig, ForwardTo
from dns.words import (
    duration_s,
    one_value,
    option_not_yet,
    unknown_option,
    whole_number,
    zones_of,
    zones_of_all,
)
from kubenet.errors import InvalidInput

MOST_SERVERS = 15


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
            config = _forward_option(config, option)
        block = replace(block, forwards=(*block.forwards, config))
    return block


def _server(text: str) -> Upstream | str:
    scheme, found, rest = text.partition("://")
    if found and scheme != "dns":
        raise InvalidInput(f"{text}: transport {scheme} is not done yet")
    rest = rest if found else text
    if rest.startswith(("/", ".")):
        return rest
    host, colon, port = rest.rpartition(":")
    try:
        if rest.startswith("[") and not rest.endswith("]"):
            return Upstream(ip_address(host.strip("[]")), whole_number(port, 1, 65535))
        if colon and ":" not in host:
            return Upstream(ip_address(host), whole_number(port, 1, 65535))
        return Upstream(ip_address(rest.strip("[]")))
    except ValueError:
        raise InvalidInput(f"{text!r} is neither an address nor a file") from None


def _forward_policy(config: ForwardTo, option: Directive) -> ForwardTo:
    try:
        return replace(config, policy=Policy(one_value(option)))
    except ValueError:
        raise option.wrong(f"{option.args[0]!r} is not random, round_robin or sequential") from None


def _forward_health_check(config: ForwardTo, option: Directive) -> ForwardTo:
    if len(option.args) != 1:
        raise option.wrong("only the interval can be told; no_rec and domain are not done yet")
    return replace(config, health_check_s=duration_s(option.args[0]))


def _forward_expire(config: ForwardTo, option: Directive) -> ForwardTo:
    duration_s(one_value(option))  # of connections that are kept open, which none is here
    return config


_FORWARD_OPTIONS: Mapping[str, Callable[[ForwardTo, Directive], ForwardTo]] = {
    "except": lambda config, option: replace(config, excepted=config.excepted + zones_of_all(option.args)),
    "policy": _forward_policy,
    "force_tcp": lambda config, _: replace(config, force_tcp=True),
    "prefer_udp": lambda config, _: config,  # UDP first, TCP when cut: what we do
    "max_fails": lambda config, option: replace(
        config, max_fails=whole_number(one_value(option), 0, 1 << 30)
    ),
    "max_concurrent": lambda config, option: replace(
        config, max_concurrent=whole_number(one_value(option), 0, 1 << 30)
    ),
    "health_check": _forward_health_check,
    "failfast_all_unhealthy_upstreams": lambda config, _: replace(config, fail_fast=True),
    "expire": _forward_expire,
}


def _forward_option(config: ForwardTo, option: Directive) -> ForwardTo:
    if option.name in _FORWARD_OPTIONS:
        return _FORWARD_OPTIONS[option.name](config, option)
    if option.name in ("tls", "tls_servername", "failover", "next", "read_timeout"):
        raise option_not_yet(option, "forward")
    raise unknown_option(option, "forward")


def read_cache(block: Block, directive: Directive) -> Block:
    """Return the block with ``cache``. Raises InvalidInput."""
    args = directive.args
    config = CacheConfig()
    if args and args[0].isdecimal():
        ttl_s = whole_number(args[0], 1, 1 << 30)
        config = replace(config, success_ttl_s=ttl_s, denial_ttl_s=ttl_s)
        args = args[1:]
    config = replace(config, zones=zones_of_all(args) or block.zones)
    for option in directive.options:
        if option.name not in _CACHE_OPTIONS:
            raise (option_not_yet if option.name == "keepttl" else unknown_option)(option, "cache")
        config = _CACHE_OPTIONS[option.name](config, option)
    return replace(block, cache=config)


def _cache_part(part: str) -> Callable[[CacheConfig, Directive], CacheConfig]:
    def read(config: CacheConfig, option: Directive) -> CacheConfig:
        if not 1 <= len(option.args) <= 3:
            raise option.wrong("needs a capacity, and perhaps the most and least TTL")
        fields = (part, f"{part}_ttl_s", f"{part}_least_s")
        told = {name: whole_number(text, 0, 1 << 30) for name, text in zip(fields, option.args, strict=False)}
        return replace(config, **told)  # type: ignore[arg-type]  # all three are numbers

    return read


def _cache_prefetch(config: CacheConfig, option: Directive) -> CacheConfig:
    if not 1 <= len(option.args) <= 3:
        raise option.wrong("needs an amount, and perhaps a duration and a percentage")
    amount, within, percent = (*option.args, *("1m", "10%")[len(option.args) - 1 :])
    return replace(
        config,
        prefetch=whole_number(amount, 0, 1 << 30),
        prefetch_within_s=duration_s(within),
        prefetch_share=whole_number(percent.removesuffix("%"), 10, 90) / 100,
    )


def _cache_stale(config: CacheConfig, option: Directive) -> CacheConfig:
    if option.args[1:] not in ((), ("immediate",)):
        raise option.wrong(f"{option.args[1]} is not done yet; there is immediate")
    return replace(config, stale_s=duration_s(option.args[0]) if option.args else 3600.0)


def _cache_disable(config: CacheConfig, option: Directive) -> CacheConfig:
    if not option.args or option.args[0] not in ("success", "denial"):
        raise option.wrong("needs success or denial, and perhaps zones")
    zones = zones_of_all(option.args[1:]) or (names.ROOT,)
    if option.args[0] == "success":
        return replace(config, no_success=config.no_success + zones)
    return replace(config, no_denial=config.no_denial + zones)


_CACHE_OPTIONS: Mapping[str, Callable[[CacheConfig, Directive], CacheConfig]] = {
    "success": _cache_part("success"),
    "denial": _cache_part("denial"),
    "disable": _cache_disable,
    "prefetch": _cache_prefetch,
    "serve_stale": _cache_stale,
    "servfail": lambda config, option: replace(config, servfail_s=min(duration_s(one_value(option)), 5.0)),
}
