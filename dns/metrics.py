"""What is counted, in the text form that Prometheus reads, under CoreDNS's names. *Pure.*

Source: Prometheus exposition formats, text 0.0.4; manual pages of the plugins of CoreDNS.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from dns import names
from dns.cache import ReplyCache
from dns.forward import Upstream
from dns.site import Site
from dns.tally import WAYS, Histogram, Tallies
from dns.wire import Rcode, RType


@dataclass(frozen=True, slots=True)
class ForwardFigures:
    """What one ``forward`` has counted."""

    upstreams: Sequence[Upstream]
    down: Sequence[bool]  # by server
    took: Mapping[tuple[int, int], Histogram]  # until an answer, by server and code
    rejected: int
    failed_probes: Sequence[int]  # by server
    all_down: int  # questions that met no server that is up
    reused: int  # connections over TCP and TLS
    made: int


@dataclass(frozen=True, slots=True)
class Figures:
    """All that is shown at one moment."""

    sites: tuple[Site, ...]
    caches: tuple[tuple[str, ReplyCache], ...] = ()  # by server
    forwards: tuple[ForwardFigures, ...] = ()
    reload_failed: int = 0
    config_digest: str = ""
    services: int = 0
    silent_s: float | None = None  # since anything was heard of the API server
    missed: int = 0  # changes that the watches did not tell
    panics: int = 0
    programming: Histogram | None = None  # from a change of endpoints to the answer that tells it
    process: Mapping[str, float] = field(default_factory=dict)  # samples of this process
    version: str = ""
    runtime: str = ""


def render(figures: Figures) -> str:
    """Return the page."""
    lines: list[str] = []
    for name, kind, text, samples in _families(figures):
        lines += (f"# HELP {name} {text}", f"# TYPE {name} {kind}")
        lines += (f"{name}{labels.get('', '')}{_labels(labels)} {value:.15g}" for labels, value in samples)
    return "\n".join(lines) + "\n"


def added_up(pages: Sequence[str]) -> str:
    """Return one page for several processes: counters are added, of gauges the greatest is shown."""
    values: dict[str, float] = {}
    kinds: dict[str, str] = {}
    for page in pages:
        for line in page.splitlines():
            name, _, value = line.rpartition(" ")
            if line.startswith("#"):
                values.setdefault(line, 0)
                if line.startswith("# TYPE "):
                    kinds[line.split()[2]] = value
            else:
                gauge = kinds.get(name.partition("{")[0]) == "gauge"
                before = values.get(name, 0.0)
                values[name] = max(before, float(value)) if gauge else before + float(value)
    lines = (each if each.startswith("#") else f"{each} {value:.15g}" for each, value in values.items())
    return _grouped(lines)


def _grouped(lines: Iterable[str]) -> str:
    """Return the lines with those of one family together, as the format wants them."""
    families: dict[str, list[str]] = {}
    for line in lines:
        name = line.split()[2] if line.startswith("#") else line.partition("{")[0].partition(" ")[0]
        for ending in ("_bucket", "_sum", "_count"):
            if (whole := name.removesuffix(ending)) in families:
                name = whole
        families.setdefault(name, []).append(line)
    return "\n".join(line for found in families.values() for line in found) + "\n"


Samples: TypeAlias = list[tuple[Mapping[str, str], float]]
Family: TypeAlias = tuple[str, str, str, Samples]  # name, kind, help


def _families(figures: Figures) -> Iterator[Family]:
    requests, responses, dnssec = _queries(figures.sites)
    yield "coredns_dns_requests_total", "counter", "DNS requests by kind.", requests
    yield "coredns_dns_responses_total", "counter", "DNS responses by code.", responses
    yield "coredns_dns_do_requests_total", "counter", "DNS requests with DO.", dnssec
    yield from _meters(figures.sites)
    yield from _cache_families(figures.caches)
    yield from _forward_families(figures.forwards)
    if figures.programming:
        name, text = "coredns_kubernetes_dns_programming_duration_seconds", "From a change to its answer."
        kind = {"service_kind": "headless_with_selector"}
        yield name, "histogram", text, _histogram(kind, figures.programming)
    yield "coredns_panics_total", "counter", "Bugs that were met.", [({}, figures.panics)]
    build = {"version": figures.version, "revision": "", "goversion": figures.runtime}
    yield "coredns_build_info", "gauge", "What runs.", [(build, 1)]
    yield "coredns_plugin_enabled", "gauge", "Plugins in use.", _plugins(figures.sites)
    for name, value in figures.process.items():
        yield name, "counter" if name.endswith("_total") else "gauge", "Of the process.", [({}, value)]
    yield "coredns_reload_failed_total", "counter", "Failed reloads.", [({}, figures.reload_failed)]
    digest = {"hash": "sha512", "value": figures.config_digest}
    yield "coredns_reload_version_info", "gauge", "The configuration in use.", [(digest, 1)]
    yield "kubenet_dns_services", "gauge", "Services in the zone.", [({}, figures.services)]
    if figures.silent_s is not None:
        text = "Since anything was heard of the API server."
        yield "kubenet_dns_staleness_seconds", "gauge", text, [({}, figures.silent_s)]
    text = "Changes that the watches did not tell, found by comparing."
    yield "kubenet_dns_missed_changes_total", "counter", text, [({}, figures.missed)]


def _queries(sites: Iterable[Site]) -> tuple[Samples, Samples, Samples]:
    requests: Samples = []
    responses: Samples = []
    dnssec: Samples = []
    for site, zone, tallies in _tallied(sites):
        common = {"server": f"dns://:{site.port}", "zone": zone, "view": ""}
        by_type: Counter[tuple[str, str, str]] = Counter()
        by_code: Counter[tuple[str, str]] = Counter()
        for (rtype, rcode, plugin), counts in tallies.items():
            by_code[_rcode(rcode), plugin] += sum(counts)
            for (proto, family), count in zip(WAYS, counts, strict=True):
                by_type[proto, family, _rtype(rtype)] += count
        for (proto, family, name), count in sorted(by_type.items()):
            if count:
                requests.append(({**common, "proto": proto, "family": family, "type": name}, count))
        for (code, plugin), count in sorted(by_code.items()):
            responses.append(({**common, "rcode": code, "plugin": plugin}, count))
        dnssec.append((common, tallies.dnssec_ok))
    return requests, responses, dnssec


def _tallied(sites: Iterable[Site]) -> Iterator[tuple[Site, str, Tallies]]:
    for site in sites:
        for zone, tallies in site.tallies.items():
            yield site, zone, tallies


def _meters(sites: Iterable[Site]) -> Iterator[Family]:
    durations: Samples = []
    sizes: dict[str, Samples] = {"request": [], "response": []}
    for site in sites:
        zone = names.to_text(site.parts[0].block.zones[0])
        common = {"server": f"dns://:{site.port}", "zone": zone, "view": ""}
        durations += _histogram(common, site.meter.durations)
        for what, samples in sizes.items():
            for proto in ("udp", "tcp"):
                samples.extend(_histogram({**common, "proto": proto}, site.meter.sizes(what, proto)))
    yield "coredns_dns_request_duration_seconds", "histogram", "Time until an answer was sent.", durations
    for what, samples in sizes.items():
        yield f"coredns_dns_{what}_size_bytes", "histogram", f"Size of the {what}.", samples


def _histogram(labels: Mapping[str, str], found: Histogram) -> Samples:
    """Return the samples of a histogram; the ending of each name stands under the label ""."""
    *cumulative, count = found.cumulative()
    samples: Samples = [
        ({"": "_bucket", **labels, "le": f"{bound:g}"}, times)
        for bound, times in zip(found.buckets, cumulative, strict=True)
    ]
    samples.append(({"": "_bucket", **labels, "le": "+Inf"}, count))
    return [*samples, ({"": "_sum", **labels}, found.total), ({"": "_count", **labels}, count)]


def _plugins(sites: Iterable[Site]) -> Samples:
    found: Samples = []
    for site in sites:
        for part in site.parts:
            zone = names.to_text(part.block.zones[0])
            common = {"server": f"dns://:{site.port}", "zone": zone, "view": ""}
            found += (({**common, "name": name}, 1) for name in sorted(part.block.seen))
    return found


def _forward_families(forwards: Iterable[ForwardFigures]) -> Iterator[Family]:
    down: Samples = []
    took: Samples = []
    probes: Samples = []
    rejects = all_down = 0
    pooled: dict[str, int] = {"hits": 0, "misses": 0}
    for each in forwards:
        rejects += each.rejected
        all_down += each.all_down
        pooled["hits"] += each.reused
        pooled["misses"] += each.made
        to = [{"proxy_name": "forward", "to": _address(upstream)} for upstream in each.upstreams]
        down += (({"to": label["to"]}, float(is_down)) for label, is_down in zip(to, each.down, strict=True))
        probes += zip(to, each.failed_probes, strict=True)
        for (server, rcode), histogram in sorted(each.took.items()):
            took += _histogram({**to[server], "rcode": _rcode(rcode)}, histogram)
    yield "coredns_proxy_request_duration_seconds", "histogram", "Until an upstream server answered.", took
    yield "coredns_proxy_healthcheck_failures_total", "counter", "Probes without an answer.", probes
    text = "Questions that were one too many."
    yield "coredns_forward_max_concurrent_rejects_total", "counter", text, [({}, rejects)]
    text = "Questions that met no server that is up."
    yield "coredns_forward_healthcheck_broken_total", "counter", text, [({}, all_down)]
    for kind, count in pooled.items():
        text = f"Connections to upstream servers: {kind}."
        label = {"proxy_name": "forward", "proto": "tcp"}
        yield f"coredns_proxy_conn_cache_{kind}_total", "counter", text, [(label, count)]
    yield "kubenet_forward_down", "gauge", "1 for an upstream server that is down.", down


def _cache_families(caches: Iterable[tuple[str, ReplyCache]]) -> Iterator[Family]:
    hits: Samples = []
    others: dict[str, Samples] = {
        "requests": [],
        "misses": [],
        "served_stale": [],
        "prefetch": [],
        "evictions": [],
    }
    entries: Samples = []
    for server, cache in caches:
        label = {"server": server, "zones": ".", "view": ""}
        counters = cache.counters
        hits.append(({**label, "type": "success"}, counters.hits_success))
        hits.append(({**label, "type": "denial"}, counters.hits_denial))
        asked = counters.hits_success + counters.hits_denial + counters.misses
        others["requests"].append((label, asked))
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


def _rtype(number: int) -> str:
    return RType(number).name if number in RType._value2member_map_ else "other"


def _rcode(number: int) -> str:
    return Rcode(number).name if number in Rcode._value2member_map_ else str(number)


def _address(upstream: Upstream) -> str:
    ip = f"[{upstream.address}]" if upstream.address.version == 6 else str(upstream.address)
    return f"{ip}:{upstream.port}"


def _labels(labels: Mapping[str, str]) -> str:
    inner = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items() if name)
    return f"{{{inner}}}" if inner else ""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
