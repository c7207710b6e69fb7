"""Addresses, names, and whether packets really arrive. *Pure.*"""

from collections.abc import Iterator
from ipaddress import IPv4Address

from kubenet.observe.checks.base import Verdict, running_pods
from kubenet.observe.findings import Finding
from kubenet.observe.names import Names, names_of
from kubenet.observe.snapshot import Lookup, Ping, Snapshot

DNS_SERVICE = "kube-system/kube-dns"


def check_ipam(snapshot: Snapshot) -> Verdict:
    """Tell what the audits of the nodes' allocation records found."""
    findings = [
        Finding("E_IPAM_LEAK", node, words, "kubenet ipam audit")
        for node, said in snapshot.records.items()
        for words in said
    ]
    return Verdict(
        "ipam", f"allocation records of {len(snapshot.records)} nodes", tuple(findings), len(snapshot.records)
    )


def check_dns(snapshot: Snapshot) -> Verdict:
    """Compare what the DNS servers say with what Services have."""
    findings = [*_resolvers(snapshot), *_no_server(snapshot)]
    names = names_of(snapshot.cluster)
    services = {service.metadata.key: service for service in snapshot.cluster.services}
    for each in snapshot.lookups:
        namespace, name = each.name.split(".")[1], each.name.split(".")[0]
        service = services.get(f"{namespace}/{name}")
        if service is None:
            continue
        step = f"kubenet dns query {each.name} --server {each.server} --in {each.node}"
        if each.rcode != "NOERROR":
            words = f"{_named(names, each.server)} says {each.rcode or 'nothing'} of {each.name}"
            code = "E_DNS_RECORD" if each.rcode == "NXDOMAIN" else "E_DNS_SERVER"
            findings.append(Finding(code, _place_of(each, names), words, step))
        elif service.spec.cluster_ip not in ("", "None") and not _has(
            each.addresses, service.spec.cluster_ip
        ):
            told = ", ".join(map(str, each.addresses)) or "no address"
            server = _named(names, each.server)
            words = f"{server} says {told} of {each.name}; it has {service.spec.cluster_ip}"
            findings.append(Finding("E_DNS_RECORD", _place_of(each, names), words, step))
    return Verdict("dns", f"{len(snapshot.lookups)} look-ups", tuple(findings), len(snapshot.lookups))


def _named(names: Names, server: IPv4Address) -> str:
    whose = names.whose(server)
    return str(server) if whose == str(server) else f"{server} ({whose})"


def _place_of(each: Lookup, names: Names) -> str:
    """Return who is to blame for an answer: the server itself, or, of a cluster address, the asking node."""
    return names.hosts.get(each.server, each.node).removeprefix("node ")


def _no_server(snapshot: Snapshot) -> Iterator[Finding]:
    names = names_of(snapshot.cluster)
    if not any(s.metadata.key == DNS_SERVICE and s.spec.ports for s in snapshot.cluster.services):
        return  # another DNS, by another name
    if not any(at.key == DNS_SERVICE and at.endpoints for at in names.services.values()):
        step = "kubectl get endpointslices -n kube-system"
        yield Finding("E_DNS_SERVER", DNS_SERVICE, f"{DNS_SERVICE} has no endpoints: nobody answers", step)


def _has(addresses: tuple[IPv4Address, ...], ip: str) -> bool:
    return any(str(address) == ip for address in addresses)


def _resolvers(snapshot: Snapshot) -> Iterator[Finding]:
    service = next((s for s in snapshot.cluster.services if s.metadata.key == DNS_SERVICE), None)
    if service is None:
        return
    policies = {pod.metadata.key: pod.spec.dns_policy for pod in snapshot.cluster.pods}
    for key, servers in snapshot.resolvers.items():
        if policies.get(key) == "ClusterFirst" and service.spec.cluster_ip not in servers:
            words = (
                f"{key} asks {', '.join(servers) or 'nobody'}; the cluster's DNS is {service.spec.cluster_ip}"
            )
            yield Finding("E_DNS_RESOLV", key, words, "kubectl get service -n kube-system kube-dns")


def check_matrix(snapshot: Snapshot) -> Verdict:
    """Tell which pairs do not reach one another, by pairs of nodes where whole nodes do not."""
    small = [ping for ping in snapshot.pings if not ping.large]
    failed = [ping for ping in small if not ping.answered]
    homes = {pod.metadata.key: pod.spec.node_name for pod in running_pods(snapshot)}
    homes |= {node.metadata.name: node.metadata.name for node in snapshot.cluster.nodes}
    findings = [*_by_nodes(small, failed, homes), *_large(snapshot, failed, homes), *_services(snapshot)]
    looked = f"{len(small) - len(failed)}/{len(small)} pairs, " + (
        f"{sum(r.ok for r in snapshot.reaches)}/{len(snapshot.reaches)} services"
    )
    return Verdict("matrix", looked, tuple(findings), len(small) + len(snapshot.reaches))


def _by_nodes(small: list[Ping], failed: list[Ping], homes: dict[str, str]) -> Iterator[Finding]:
    counts: dict[tuple[str, str], int] = {}
    for ping in small:
        ends = homes.get(ping.source, ""), homes.get(ping.destination, "")
        counts[ends] = counts.get(ends, 0) + 1
    groups: dict[tuple[str, str], list[Ping]] = {}
    for ping in failed:
        groups.setdefault((homes.get(ping.source, ""), homes.get(ping.destination, "")), []).append(ping)
    for (source, to), pings in groups.items():
        first = next((ping for ping in pings if "/" in ping.source and "/" in ping.destination), pings[0])
        which = f"{first.source} -> {first.destination}"
        words = f"{len(pings)} of {counts[source, to]} pairs {source} -> {to} fail: {which}"
        yield Finding("E_UNREACHABLE", source, words, f"kubenet trace {first.source} {first.destination}")


def _large(snapshot: Snapshot, failed: list[Ping], homes: dict[str, str]) -> Iterator[Finding]:
    broken = {(ping.source, ping.destination) for ping in failed}
    for ping in snapshot.pings:
        if ping.large and not ping.answered and (ping.source, ping.destination) not in broken:
            where = homes.get(ping.source, "")
            words = f"small packets {ping.source} -> {ping.destination} pass, large ones vanish"
            yield Finding("E_MTU", where, words, f"kubenet trace {ping.source} {ping.destination}")


def _services(snapshot: Snapshot) -> Iterator[Finding]:
    names = names_of(snapshot.cluster)
    for reach in snapshot.reaches:
        if reach.ok:
            continue
        refused = "refused" in reach.words and _has_endpoints(names, reach.service)
        code = "E_NO_LISTENER" if refused else "E_SERVICE_UNREACHABLE"
        words = f"{reach.source} -> svc {reach.service}: {reach.words}"
        key, _, port = reach.service.partition(" ")
        yield Finding(code, reach.node, words, f"kubenet trace {reach.source} svc/{key}:{port}")


def _has_endpoints(names: Names, service: str) -> bool:
    return any(at.key == service.partition(" ")[0] and at.endpoints for at in names.services.values())
