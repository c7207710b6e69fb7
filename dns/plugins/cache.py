"""Reads ``cache``: how long and how many answers of upstream servers are kept. *Pure.*

Source: manual page of the plugin cache of CoreDNS.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

from dns import names
from dns.corefile import Directive
from dns.settings import Block, CacheConfig
from dns.words import duration_s, one_value, unknown_option, whole_number, zones_of_all


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
            raise unknown_option(option, "cache", _CACHE_OPTIONS)
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
    if option.args[1:] not in ((), ("immediate",), ("verify",)):
        raise option.wrong(f"unexpected {option.args[1]!r}; there are immediate and verify")
    stale_s = duration_s(option.args[0]) if option.args else 3600.0
    return replace(config, stale_s=stale_s, stale_verify="verify" in option.args)


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
    "keepttl": lambda config, _: replace(config, keep_ttl=True),
    "servfail": lambda config, option: replace(config, servfail_s=min(duration_s(one_value(option)), 5.0)),
}
