"""No two service ports answer at one place. *Pure.*

The first by name keeps the place. A cluster address or a node port that is taken costs the second its whole
service port; an external address that is taken costs it that address only. Cluster addresses are dealt out
before external ones, so that nobody's external address covers another's cluster address, whatever its name.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from proxy.ports import IPAddress, Refused, ServicePort, ServicePortName

_Holders = dict[object, ServicePortName]


def without_clashes(ports: Sequence[ServicePort]) -> tuple[tuple[ServicePort, ...], tuple[Refused, ...]]:
    """Return sorted ``ports`` as far as nobody before them is there already, and what was lost."""
    holders: _Holders = {}
    refused: list[Refused] = []
    kept = []
    for port in ports:
        places = list(_own_places(port))
        holder = next((holders[place] for place in places if place in holders), None)
        if holder:
            refused.append(
                Refused(f"Service port {port.name}", f"its address or port belongs to {holder} already")
            )
            continue
        holders.update(dict.fromkeys(places, port.name))
        kept.append(port)
    settled = tuple(_settled(port, holders, refused) if port.external_addresses else port for port in kept)
    return settled, tuple(refused)


def _own_places(port: ServicePort) -> Iterator[object]:
    # Plain text and numbers, since this is done for every service port in every sync.
    protocol = port.protocol._value_
    name = port.name
    yield name.namespace, name.service, name.port, protocol
    yield port.cluster_ip, port.port, protocol
    if port.node_port:
        yield port.node_port, protocol


def _settled(port: ServicePort, holders: _Holders, refused: list[Refused]) -> ServicePort:
    lost: set[IPAddress] = set()
    for ip in dict.fromkeys(port.external_addresses):
        place = (ip, port.port, port.protocol._value_)
        holder = holders.setdefault(place, port.name)
        if holder != port.name or ip == port.cluster_ip:
            lost.add(ip)
            refused.append(
                Refused(f"Service port {port.name}", f"external address {ip}: {holder} answers there already")
            )
    external = tuple(ip for ip in port.external_ips if ip not in lost)
    # An address given both ways is served once, under the stricter of the two.
    balanced = tuple(ip for ip in port.load_balancer_ips if ip not in lost)
    if port.source_ranges:
        external = tuple(ip for ip in external if ip not in balanced)
    else:
        balanced = tuple(ip for ip in balanced if ip not in external)
    if (external, balanced) == (port.external_ips, port.load_balancer_ips):
        return port
    return replace(port, external_ips=external, load_balancer_ips=balanced)
