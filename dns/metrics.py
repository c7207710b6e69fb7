"""What is counted, in the text form that Prometheus reads, under CoreDNS's names. *Pure.*

Source: Prometheus exposition formats, text 0.0.4; manual pages of the plugins of CoreDNS.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from dns import names
from dns.cache import ReplyCache
from dns.forward import Upstream
from dns.site import OTHER_TYPE, Site
from dns.wire import Rcode, RType


@dataclass(frozen=True, slots=True)
class UpstreamFigures:
    """What is known of one upstream server."""

    upstream: Upstream
    down: bool


@dataclass(frozen=True, slots=True)
class Figures:
    """All that is shown at one moment."""

    sites: tuple[Site, ...]
    caches: tuple[tuple[str, ReplyCache], ...] = ()  # by server
    upstreams: tuple[UpstreamFigures, ...] = ()
    reload_failed: int = 0
    config_digest: str = ""
    services: int = 0
    synced_age_s: float | None = None  # since anything was heard of the API server


def render(figures: Figures) -> str:
    """Return the page."""
    lines: list[str] = []
    for name, kind, text, samples in _families(figures):
        lines += (f"# HELP {name} {text}", f"# TYPE {name} {kind}")
        lines += (f"{name}{_labels(labels)} {value}" for labels, value in samples)
    return "\n".join(lines) + "\n"


Samples = list[tuple[Mapping[str, str], float]]


def _families(figures: Figures) -> Iterator[tuple[str, str, str, Samples]]:
    requests, responses = _queries(figures.sites)
    yield "coredns_dns_requests_total", "counter", "DNS requests by kind.", requests
    yield "coredns_dns_responses_total", "counter", "DNS responses by code.", responses
    yield from _cache_families(figures.caches)
    health: Samples = [({"to": _address(each.upstream)}, float(each.down)) for each in figures.upstreams]
    yield "kubenet_forward_down", "gauge", "1 for an upstream server that is down.", health
    yield "coredns_panics_total", "counter", "Bugs that were met.", [({}, 0)]
    yield "coredns_reload_failed_total", "counter", "Failed reloads.", [({}, figures.reload_failed)]
    digest = {"hash": "sha512", "value": figures.config_digest}
    yield "coredns_reload_version_info", "gauge", "The configuration in use.", [(digest, 1)]
    yield "kubenet_dns_services", "gauge", "Services in the zone.", [({}, figures.services)]


def _queries(sites: Iterable[Site]) -> tuple[Samples, Samples]:
    requests: dict[tuple[tuple[str, str], ...], int] = {}
    responses: dict[tuple[tuple[str, str], ...], int] = {}
    for site in sites:
        zone = names.to_text(site.parts[0].block.zones[0])
        common = (("server", f"dns://:{site.port}"), ("zone", zone), ("view", ""))
        for (tcp, v6), counts in site.counts.by_transport.items():
            kind = (("proto", "tcp" if tcp else "udp"), ("family", "2" if v6 else "1"))
            for key, count in tuple(counts.items()):
                rtype, rcode = _rtype(key[:2]), _rcode(key[2] & 0xF)
                _add(requests, (*common, *kind, ("type", rtype)), count)
                _add(responses, (*common, ("rcode", rcode), ("plugin", "")), count)
    return _samples(requests), _samples(responses)


def _add(table: dict[tuple[tuple[str, str], ...], int], key: tuple[tuple[str, str], ...], count: int) -> None:
    table[key] = table.get(key, 0) + count


def _samples(table: Mapping[tuple[tuple[str, str], ...], int]) -> Samples:
    return [(dict(key), count) for key, count in sorted(table.items())]


def _cache_families(caches: Iterable[tuple[str, ReplyCache]]) -> Iterator[tuple[str, str, str, Samples]]:
    hits: Samples = []
    others: dict[str, Samples] = {"misses": [], "served_stale": [], "prefetch": [], "evictions": []}
    entries: Samples = []
    for server, cache in caches:
        label = {"server": server, "zones": ".", "view": ""}
        counters = cache.counters
        hits.append(({**label, "type": "success"}, counters.hits_success))
        hits.append(({**label, "type": "denial"}, counters.hits_denial))
        others["misses"].append((label, counters.misses))
        others["served_stale"].append((label, counters.served_stale))
        others["prefetch"].append((label, counters.prefetches))
        others["evictions"].append((label, counters.evictions))
        for kind, count in zip(("success", "denial"), cache.entries, strict=True):
            entries.append(({**label, "type": kind}, count))
    yield "coredns_cache_hits_total", "counter", "Answers from the cache.", hits
    for name, samples in others.items():
        yield f"coredns_cache_{name}_total", "counter", f"Cache: {name.replace('_', ' ')}.", samples
    yield "coredns_cache_entries", "gauge", "Answers in the cache.", entries


def _rtype(octets: bytes) -> str:
    number = int.from_bytes(octets, "big")
    known = number in RType._value2member_map_ and octets != OTHER_TYPE
    return RType(number).name if known else "other"


def _rcode(number: int) -> str:
    return Rcode(number).name if number in Rcode._value2member_map_ else str(number)


def _address(upstream: Upstream) -> str:
    ip = f"[{upstream.address}]" if upstream.address.version == 6 else str(upstream.address)
    return f"{ip}:{upstream.port}"


def _labels(labels: Mapping[str, str]) -> str:
    inner = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f"{{{inner}}}" if inner else ""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
