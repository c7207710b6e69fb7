"""What each node's rules do with each Service, beside what the API server says. *Pure.*

The rules are read from what iptables-save and nft print, by kube-proxy's chain names or by the maps of our
nftables table, so this is a second opinion on whatever wrote them.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from kubenet.model.objects import Pod, Service
from kubenet.observe.checks.base import Verdict, cidr_of, command, nodes_seen
from kubenet.observe.findings import Finding
from kubenet.observe.names import names_of
from kubenet.observe.snapshot import Snapshot
from kubenet.observe.state import PlaceState

ServiceSocket = tuple[IPv4Address, str, int]  # address, tcp or udp, port
Endpoints = frozenset[tuple[IPv4Address, int]]

_RULE = re.compile(r"^-A (\S+) (.*)$", re.MULTILINE)
_DISPATCH = re.compile(r"-d ([\d.]+)(?:/32)? .*-p (\w+) .*--dport (\d+) .*-j (\S+)")
_GOES_TO = re.compile(r"-j (KUBE-\S+)")
_DNAT = re.compile(r"--to-destination ([\d.]+):(\d+)")
_TABLE = re.compile(r"table ip kubenet-proxy \{(.*?)\n\}", re.DOTALL)
_MAP = re.compile(r"\tmap ([\w-]+) \{[^\n]*\n(.*?)\n\t\}", re.DOTALL)
_SERVICE = re.compile(r"([\d.]+) \. (\w+) \. (\d+) : ")
_SEAT = re.compile(
    r"([\d.]+) \. (\w+) \. (\d+) \. 0x([0-9a-f]+) : (?:[\d.]+ \. [\d.]+ \. \w+ \. \d+ \. )?([\d.]+) \. (\d+)"
)
_LOCAL_SEATS = 1 << 24


@dataclass(frozen=True, slots=True)
class NodeRules:
    """What a node's rules do, however they are written."""

    backend: str
    services: Mapping[ServiceSocket, Endpoints]
    masquerades: bool = True
    hairpin: Mapping[IPv4Address, bool] = field(
        default_factory=dict
    )  # by endpoint: whether it is masqueraded


def node_rules(state: PlaceState) -> NodeRules | None:
    """Return what the proxy's rules on a node do; None if there are none."""
    if "table ip kubenet-proxy {" in _unnumbered(state.nft):
        return _from_nft(_unnumbered(state.nft))
    for saved in (state.legacy, state.iptables):
        if "KUBE-SERVICES" in saved:
            return _from_iptables(saved)
    return None


def _unnumbered(nft: str) -> str:
    return re.sub(r" # .*$", "", nft, flags=re.MULTILINE)


def _from_nft(text: str) -> NodeRules:
    table = _TABLE.search(text)
    maps = dict(_MAP.findall(table[1])) if table else {}
    services: dict[ServiceSocket, set[tuple[IPv4Address, int]]] = {
        (IPv4Address(ip), protocol, int(port)): set()
        for ip, protocol, port in _SERVICE.findall(_plain(maps.get("services", "")))
    }
    for name, text_of in maps.items():
        if "endpoints" not in name:
            continue
        for ip, protocol, port, seat, to, to_port in _SEAT.findall(_plain(text_of)):
            if int(seat, 16) < _LOCAL_SEATS:
                key = (IPv4Address(ip), protocol, int(port))
                services.setdefault(key, set()).add((IPv4Address(to), int(to_port)))
    return NodeRules("nftables", {key: frozenset(ends) for key, ends in services.items()})


def _plain(elements: str) -> str:
    """Put the elements of a map on one line, with the numbers that nft calls by name."""
    named = {"domain": "53", "http": "80", "https": "443"}
    flat = " ".join(elements.split())
    return re.sub(r"\b(domain|https?)\b", lambda found: named[found[1]], flat)


def _from_iptables(saved: str) -> NodeRules:
    nat = saved.partition("*nat")[2].partition("COMMIT")[0]
    chains: dict[str, list[str]] = {}
    for chain, rule in _RULE.findall(nat):
        chains.setdefault(chain, []).append(rule)
    services: dict[ServiceSocket, Endpoints] = {}
    marked: dict[IPv4Address, bool] = {}
    for rule in _dispatching(chains, "KUBE-SERVICES"):
        if (found := _DISPATCH.search(rule)) and found[4].startswith(("KUBE-SVC", "KUBE-SVL")):
            ends = frozenset(_reached(chains, found[4], set()))
            services[IPv4Address(found[1]), found[2], int(found[3])] = ends
    for chain, rules in chains.items():
        ends = frozenset(_ends(rules)) if chain.startswith("KUBE-SEP") else frozenset()
        for ip, _ in ends:
            marked[ip] = any(f"-s {ip}" in rule and "KUBE-MARK-MASQ" in rule for rule in rules)
    masquerades = any("-j MASQUERADE" in rule for rule in chains.get("KUBE-POSTROUTING", []))
    backend = "iptables"
    return NodeRules(backend, services, masquerades, marked)


def _dispatching(chains: Mapping[str, list[str]], start: str) -> Iterator[str]:
    """Yield the rules of the dispatch, which may be spread over several chains."""
    seen, waiting = set(), [start]
    while waiting:
        chain = waiting.pop()
        if chain in seen:
            continue
        seen.add(chain)
        for rule in chains.get(chain, []):
            yield rule
            target = _GOES_TO.search(rule)
            if target and not target[1].startswith(
                ("KUBE-SVC", "KUBE-SVL", "KUBE-EXT", "KUBE-FW", "KUBE-SEP")
            ):
                waiting.append(target[1])


def _reached(
    chains: Mapping[str, list[str]], chain: str, seen: set[str]
) -> Iterator[tuple[IPv4Address, int]]:
    seen.add(chain)
    for rule in chains.get(chain, []):
        yield from _ends([rule])
        target = _GOES_TO.search(rule)
        if target and target[1] not in seen and target[1].startswith(("KUBE-SEP", "KUBE-SVC", "KUBE-SVL")):
            yield from _reached(chains, target[1], seen)


def _ends(rules: list[str]) -> Iterator[tuple[IPv4Address, int]]:
    for rule in rules:
        if found := _DNAT.search(rule):
            yield IPv4Address(found[1]), int(found[2])


def check_proxy(snapshot: Snapshot) -> Verdict:
    """Compare each node's rules with Services and EndpointSlices."""
    wanted = _wanted(snapshot)
    findings = [*_empty(snapshot), *_ghosts(snapshot)]
    rules = {node.metadata.name: node_rules(state) for node, state in nodes_seen(snapshot)}
    for name, have in rules.items():
        findings += _missing(snapshot, name, wanted) if have is None else _node(snapshot, name, have, wanted)
    findings += _stale_flows(snapshot, wanted)
    findings += _masquerade(snapshot)
    return Verdict(
        "proxy", f"{len(rules)} nodes, {len(wanted)} service ports", tuple(findings), len(wanted) * len(rules)
    )


def _wanted(snapshot: Snapshot) -> dict[ServiceSocket, tuple[Service, Endpoints]]:
    names = names_of(snapshot.cluster)
    services = {service.metadata.key: service for service in snapshot.cluster.services}
    protocols = {6: "tcp", 17: "udp"}
    return {
        (ip, protocols[number], port): (services[at.key], frozenset(at.endpoints))
        for (ip, number, port), at in names.services.items()
        if number in protocols and str(ip) == services[at.key].spec.cluster_ip
    }


def _empty(snapshot: Snapshot) -> Iterator[Finding]:
    for service in snapshot.cluster.services:
        key = service.metadata.key
        ready = [
            endpoint
            for each in snapshot.cluster.slices
            if each.service_key == key
            for endpoint in each.endpoints or ()
            if endpoint.conditions.ready is not False
        ]
        if not service.spec.selector or ready:
            continue
        selector = ",".join(f"{name}={value}" for name, value in service.spec.selector.items())
        step = f"kubectl get pods -n {service.metadata.namespace} -l {selector}"
        matching = [pod for pod in snapshot.cluster.pods if pod.ready and _selects(service, pod)]
        if matching:
            words = f"{len(matching)} ready pods match {selector}, and no EndpointSlice of {key} names one"
            log = "kubenet lab logs controllers" if snapshot.in_lab else step
            yield Finding("E_ENDPOINTS_BEHIND", "controllers", words, log)
        else:
            yield Finding("E_SERVICE_NO_ENDPOINTS", key, f"no ready pod matches {selector}", step)


def _selects(service: Service, pod: Pod) -> bool:
    same = service.metadata.namespace == pod.metadata.namespace
    return same and service.spec.selector.items() <= pod.metadata.labels.items()


def _ghosts(snapshot: Snapshot) -> Iterator[Finding]:
    """Endpoints in the range of a node that no pod has."""
    taken = {ip.ip for pod in snapshot.cluster.pods for ip in pod.status.pod_ips}
    taken |= {pod.status.pod_ip for pod in snapshot.cluster.pods}
    ranges = [cidr for node in snapshot.cluster.nodes if (cidr := cidr_of(node)) is not None]
    for each in snapshot.cluster.slices:
        for endpoint in each.endpoints or ():
            for text in endpoint.addresses:
                if text in taken or ":" in text or not any(IPv4Address(text) in cidr for cidr in ranges):
                    continue
                namespace, name = each.metadata.namespace, each.metadata.name
                words = f"endpointslice/{name} of {each.service_key} names {text}, which no pod has"
                step = f"kubectl get endpointslice -n {namespace} {name} -o yaml"
                yield Finding("E_POD_GONE", each.service_key, words, step)


def _missing(snapshot: Snapshot, name: str, wanted: Mapping[ServiceSocket, object]) -> Iterator[Finding]:
    if wanted:
        words = f"{name} has no rules for Services at all"
        yield Finding("E_SERVICE_MISSING", name, words, command(snapshot, name, "nft list ruleset"))


def _node(
    snapshot: Snapshot, name: str, have: NodeRules, wanted: Mapping[ServiceSocket, tuple[Service, Endpoints]]
) -> Iterator[Finding]:
    step = command(
        snapshot, name, "nft list ruleset" if have.backend == "nftables" else "iptables-save -t nat"
    )
    for (ip, protocol, port), (service, ends) in wanted.items():
        key = f"{service.metadata.key} {ip}:{port}/{protocol}"
        got = have.services.get((ip, protocol, port))
        if got is None and ends:
            yield Finding("E_SERVICE_MISSING", name, f"{name} has no rules for {key}", step)
        elif got is not None and service.spec.internal_traffic_policy != "Local" and got != ends:
            yield Finding("E_SERVICE_STALE", name, f"{name}, {key}: {_difference(got, ends)}", step)
    if not have.masquerades:
        yield Finding("E_HAIRPIN", name, f"{name} masquerades none of the packets marked for it", step)
    for ip, marked in have.hairpin.items():
        if not marked:
            yield Finding(
                "E_HAIRPIN", name, f"{name} does not masquerade what endpoint {ip} sends to itself", step
            )


def _difference(got: Endpoints, wanted: Endpoints) -> str:
    more = ", ".join(sorted(f"{ip}:{port}" for ip, port in got - wanted))
    less = ", ".join(sorted(f"{ip}:{port}" for ip, port in wanted - got))
    words = [f"rules lead to {more}, no endpoint"] * bool(more) + [f"no rule leads to {less}"] * bool(less)
    return "; ".join(words)


def _stale_flows(
    snapshot: Snapshot, wanted: Mapping[ServiceSocket, tuple[Service, Endpoints]]
) -> Iterator[Finding]:
    for flow in snapshot.flows:
        entry = wanted.get((flow.destination, "udp", flow.port))
        if entry is None or (flow.answering, flow.answering_port) in entry[1]:
            continue
        if flow.answering == flow.destination:
            continue  # not translated: it was refused, or sent before there were rules
        to = f"{flow.answering}:{flow.answering_port}"
        words = f"{flow.node} still sends a flow to {entry[0].metadata.key} to {to}, no endpoint"
        step = command(snapshot, flow.node, f"conntrack -D -p udp --orig-dst {flow.destination}")
        yield Finding("E_CONNTRACK_STALE", flow.node, words, step)


def _masquerade(snapshot: Snapshot) -> Iterator[Finding]:
    """Where kubenet's agent keeps the rule for packets that leave the cluster, it must be there whole."""
    for node, state in nodes_seen(snapshot):
        for saved in (state.iptables, state.legacy):
            nat = saved.partition("*nat")[2].partition("COMMIT")[0]
            if "KUBENET-POSTROUTING" not in nat:
                continue
            if (
                "-j KUBENET-POSTROUTING" not in nat
                or "-A KUBENET-POSTROUTING" not in nat
                or not re.search(r"-A KUBENET-POSTROUTING .*-j MASQUERADE", nat)
            ):
                name = node.metadata.name
                words = f"{name} does not give pods' packets to outside its own address"
                yield Finding("E_MASQUERADE", name, words, command(snapshot, name, "iptables-save -t nat"))
