"""Service ports by the thousand, and kube-proxy's layouts of the same for its own tools to load."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, ip_network

from bench.proxying.addresses import pod, vip
from proxy.policy import Locality, ServingPort, serve
from proxy.ports import Endpoint, NodeNetwork, ServicePort, ServicePortName

NETWORK = NodeNetwork(4, ip_network("10.128.0.0/9"), service_cidrs=(ip_network("10.96.0.0/12"),))
HERE = Locality("here")


def service_port(number: int, *ips: IPv4Address) -> ServicePort:
    """Return a service port, with two endpoints unless ``ips`` says which."""
    sockets = ips or (pod(2 * number), pod(2 * number + 1))
    endpoints = tuple(Endpoint(ip, 8080, node_name="n1") for ip in sockets)
    name = ServicePortName(f"ns{number % 50}", f"svc-{number}", "http")
    return ServicePort(name, vip(number), 80, endpoints=endpoints)


def serving(count: int) -> Sequence[ServingPort]:
    """Return what a node serves of ``count`` Services."""
    return serve([service_port(number) for number in range(count)], HERE)


def moved(port: ServicePort, turn: int) -> ServicePort:
    """Return ``port`` with its second endpoint replaced by another."""
    return replace(port, endpoints=(port.endpoints[0], replace(port.endpoints[1], ip=pod(200_000 + turn))))


def kube_proxy_nft(count: int) -> Iterator[str]:
    """Yield lines for ``nft -f`` that lay a table out as kube-proxy does."""
    yield """table ip kube-proxy {
  map service-ips { type ipv4_addr . inet_proto . inet_service : verdict; }
  set cluster-ips { type ipv4_addr; }
  chain services {
    ip daddr @cluster-ips ip saddr != 10.128.0.0/9 meta mark set meta mark or 0x4000
    ip daddr . meta l4proto . th dport vmap @service-ips
  }
  chain nat-prerouting { type nat hook prerouting priority dstnat; jump services; }
  chain nat-output { type nat hook output priority -100; jump services; }
  chain nat-postrouting {
    type nat hook postrouting priority srcnat;
    meta mark and 0x4000 != 0 meta mark set meta mark xor 0x4000 masquerade fully-random
  }
}"""
    chains = [f"service-{number:08x}-ns{number % 50}/svc-{number}/tcp/http" for number in range(count)]
    yield from (f"add chain ip kube-proxy {chain}" for chain in chains)
    for number, chain in enumerate(chains):
        pods = ", ".join(f"{one} : {pod(2 * number + one)} . 8080" for one in (0, 1))
        choose = f"numgen random mod 2 map {{ {pods} }}"
        yield f"add rule ip kube-proxy {chain} meta l4proto tcp dnat ip to {choose}"
    for number, chain in enumerate(chains):
        yield f"add element ip kube-proxy cluster-ips {{ {vip(number)} }}"
        yield f"add element ip kube-proxy service-ips {{ {vip(number)} . tcp . 80 : goto {chain} }}"


def kube_proxy_iptables(count: int, last: Sequence[IPv4Address]) -> str:
    """Return input for iptables-restore: kube-proxy's one rule a service, of which the last leads somewhere.

    The chains of the others are left out: what a packet passes is the same without them.
    """
    lines = ["*nat", ":KUBE-SERVICES - [0:0]", ":KUBE-SVC-LAST - [0:0]", ":KUBE-SVC-OTHER - [0:0]"]
    lines += [f":KUBE-SEP-{number} - [0:0]" for number in range(len(last))]
    lines += ["-A PREROUTING -j KUBE-SERVICES", "-A OUTPUT -j KUBE-SERVICES"]
    for number in range(count):
        chain = "KUBE-SVC-LAST" if number == count - 1 else "KUBE-SVC-OTHER"
        comment = f'-m comment --comment "ns{number % 50}/svc-{number}:http cluster IP"'
        lines.append(f"-A KUBE-SERVICES -d {vip(number)}/32 -p tcp {comment} -m tcp --dport 80 -j {chain}")
    for number, ip in enumerate(last):
        left = len(last) - number
        share = f"-m statistic --mode random --probability {1 / left:.10f} " if left > 1 else ""
        lines.append(f"-A KUBE-SVC-LAST {share}-j KUBE-SEP-{number}")
        lines.append(f"-A KUBE-SEP-{number} -p tcp -m tcp -j DNAT --to-destination {ip}:8080")
    return "\n".join([*lines, "COMMIT", ""])
