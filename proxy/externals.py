"""The addresses that a Service may be reached at from outside, and whom to trust with them. *Pure.*

Whoever may write a Service's ``externalIPs`` could catch the traffic of any address (CVE-2020-8554), so those
are left out unless the operator names the networks they may lie in. A load balancer's addresses stand in the
status, which users cannot write; they too can be confined. Neither may be an address that the cluster uses
for itself.

Source: Kubernetes API reference v1.36 (ServiceSpec, ServiceStatus); KEP-1860 (ipMode); CVE-2020-8554.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_network

from kubenet.model.objects import Service
from proxy.ports import Family, IPAddress, IPNetwork, parse_ip, why_not_unicast

Complain = Callable[[str], None]  # takes the reason


@dataclass(frozen=True, slots=True)
class ExternalRules:
    """What the operator allows. An empty ``external_ips`` allows none, an empty ``load_balancer_ips`` all."""

    external_ips: tuple[IPNetwork, ...] = ()
    load_balancer_ips: tuple[IPNetwork, ...] = ()
    reserved: tuple[IPNetwork, ...] = ()  # the cluster's own: services, pods


@dataclass(frozen=True, slots=True)
class Externals:
    """What one Service has of this, in one family."""

    external_ips: tuple[IPAddress, ...] = ()
    load_balancer_ips: tuple[IPAddress, ...] = ()
    source_ranges: tuple[IPNetwork, ...] = ()
    health_check_node_port: int = 0


_NONE = Externals()


def externals(service: Service, family: Family, rules: ExternalRules, complain: Complain) -> Externals:
    """Return the external addresses of ``service``; ``complain`` is told what is left out."""
    spec = service.spec
    if spec.type != "LoadBalancer" and not spec.external_ips:
        return _NONE
    external_ips = tuple(_external_ips(spec.external_ips, family, rules, complain))
    if spec.type != "LoadBalancer":
        return Externals(external_ips)
    ranges = _source_ranges(spec.load_balancer_source_ranges, family, complain)
    return Externals(
        external_ips,
        # Who may use them cannot be told: better nobody than everybody.
        () if ranges is None else tuple(_load_balancer_ips(service, family, rules, complain)),
        ranges or (),
        spec.health_check_node_port if spec.external_traffic_policy == "Local" else 0,
    )


def _external_ips(
    texts: Iterable[str], family: Family, rules: ExternalRules, complain: Complain
) -> list[IPAddress]:
    wanted = _addresses(texts, family, complain)
    good = []
    for ip in wanted:
        if not _inside(ip, rules.external_ips):
            complain(f"external address {ip}: not in a network that the proxy was told to allow")
        elif reason := _why_not(ip, rules):
            complain(f"external address {ip}: {reason}")
        else:
            good.append(ip)
    return good


def _load_balancer_ips(
    service: Service, family: Family, rules: ExternalRules, complain: Complain
) -> list[IPAddress]:
    caught = [entry.ip for entry in service.status.load_balancer.ingress if entry.ip_mode != "Proxy"]
    good = []
    for ip in _addresses(filter(None, caught), family, complain):
        if rules.load_balancer_ips and not _inside(ip, rules.load_balancer_ips):
            complain(f"load balancer address {ip}: not in a network that the proxy was told to allow")
        elif reason := _why_not(ip, rules):
            complain(f"load balancer address {ip}: {reason}")
        else:
            good.append(ip)
    return good


def _addresses(texts: Iterable[str], family: Family, complain: Complain) -> list[IPAddress]:
    """Return the addresses of this family, each once, sorted."""
    found = set()
    for text in texts:
        ip = parse_ip(text)
        if ip is None:
            complain(f"{text!r} is not an address")
        elif ip.version == family:
            found.add(ip)
    return sorted(found)


def _why_not(ip: IPAddress, rules: ExternalRules) -> str:
    if reason := why_not_unicast(ip):
        return reason
    return "an address that the cluster uses for itself" if _inside(ip, rules.reserved) else ""


def _inside(ip: IPAddress, networks: Iterable[IPNetwork]) -> bool:
    return any(ip.version == network.version and ip in network for network in networks)


def _source_ranges(texts: Sequence[str], family: Family, complain: Complain) -> tuple[IPNetwork, ...] | None:
    """Return who may come in; none if everybody may; None if that cannot be read."""
    ranges = []
    for text in texts:
        try:
            ranges.append(ip_network(text.strip(), strict=False))
        except ValueError:
            complain(f"load balancer source range {text!r} is not a network: its addresses are not served")
            return None
    ours = {network for network in ranges if network.version == family}
    if any(network.prefixlen == 0 for network in ours):
        return ()
    return tuple(sorted(ours, key=lambda network: (network.network_address.packed, network.prefixlen)))
