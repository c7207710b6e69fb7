"""What one service port needs of iptables, in kube-proxy's layout and with its chain names. *Pure.*

    KUBE-SVC-x      the cluster's pool: one rule an endpoint, by chance or in turn
    KUBE-SVL-x      the pool of this node
    KUBE-EXT-x      from outside, to KUBE-SVC-x or KUBE-SVL-x by the policy
    KUBE-FW-x       to a load balancer's address: to KUBE-EXT-x if the source may
    KUBE-SEP-y      one endpoint: DNAT

Beside these chains of its own it needs rules that lead there, in chains that all services share. They are
kept apart by address, so that whoever puts them together can spread them.

In turn: of n rules the i-th (from 0) takes every (n-i)-th packet that gets as far. The counters stay in step,
since each rule sees exactly the packets that the ones before it let through; every n-th on each would not.

Source: Kubernetes "Virtual IPs and Service Proxies"; iptables-extensions(8), statistic and recent.
"""

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_network

from kubenet.model.iptables import (
    CHAIN_NAME_LENGTH,
    AddressKind,
    Comment,
    Destination,
    DestinationKind,
    DestinationPort,
    Dnat,
    EveryNth,
    InInterface,
    Jump,
    Match,
    OfProtocol,
    OneIn,
    PutOnList,
    Reject,
    Rule,
    Rules,
    SeenWithin,
    Source,
    SourceKind,
    Verdict,
)
from proxy.policy import Refusal, ServingPort
from proxy.ports import Balance, Endpoint, IPAddress, NodeNetwork, ServicePort, TrafficPolicy

MARK_MASQ = "KUBE-MARK-MASQ"

TO_THIS_NODE = DestinationKind(AddressKind.LOCAL)
_FROM_THIS_NODE = SourceKind(AddressKind.LOCAL)

AddressRule = tuple[IPAddress, Rule]
"""A rule for packets to one address."""


@dataclass(frozen=True, slots=True)
class ServiceRules:
    """Everything for one service port."""

    chains: Mapping[str, Rules] = field(default_factory=dict)  # in the nat table, its own
    services: tuple[AddressRule, ...] = ()  # nat: to its chains
    node_ports: Rules = ()  # nat: to its chains, for packets to this node
    refused_services: tuple[AddressRule, ...] = ()  # filter: nobody serves the cluster address
    refused_externals: tuple[AddressRule, ...] = ()  # filter: nobody serves from outside
    refused_node_ports: Rules = ()  # filter: the same by node port
    firewall: tuple[AddressRule, ...] = ()  # filter: what KUBE-FW-x did not let through

    @property
    def shared(self) -> tuple[object, ...]:
        """What stands in chains that all services share."""
        return (
            self.services,
            self.node_ports,
            self.refused_services,
            self.refused_externals,
            self.refused_node_ports,
            self.firewall,
        )


NO_RULES = ServiceRules()


def service_rules(serving: ServingPort, network: NodeNetwork) -> ServiceRules:
    """Return what ``serving`` needs."""
    return ServiceRules(
        service_chains(serving, network),
        tuple(_services(serving)),
        tuple(_node_ports(serving)),
        tuple(_refusals(serving, serving.internal, [serving.port.cluster_ip])),
        tuple(_refusals(serving, serving.external, serving.port.external_addresses)),
        tuple(_refused_node_ports(serving)),
        tuple(_firewall(serving)),
    )


def chain_name(kind: str, port: ServicePort, endpoint: Endpoint | None = None) -> str:
    """Return a name of ``CHAIN_NAME_LENGTH`` at most: KUBE-, the kind, 16 characters of a hash (row 75)."""
    words = f"{port.name}{port.protocol.lower}" + (str(endpoint) if endpoint else "")
    digest = base64.b32encode(hashlib.sha256(words.encode()).digest()).decode()
    return f"KUBE-{kind}-{digest[:16]}"[:CHAIN_NAME_LENGTH]


def _to(port: ServicePort, ip: IPAddress) -> tuple[Match, ...]:
    return Destination(ip_network(ip)), DestinationPort(port.protocol, port.port)


def _pool_chain(port: ServicePort, pool: TrafficPolicy) -> str:
    return chain_name("SVC" if pool is TrafficPolicy.CLUSTER else "SVL", port)


def _has_external_chain(serving: ServingPort) -> bool:
    """Return whether anything external gets through: also where only the short circuit does (row 33)."""
    return serving.port.external and serving.external is not Refusal.REJECT


def _services(serving: ServingPort) -> Iterator[AddressRule]:
    port = serving.port
    if not isinstance(serving.internal, Refusal):
        words = Comment.of(f"{port.name} cluster IP")
        jump = Jump(_pool_chain(port, serving.internal))
        yield port.cluster_ip, Rule((*_to(port, port.cluster_ip), words), jump)
    if not _has_external_chain(serving):
        return
    words = Comment.of(f"{port.name} external IP")
    for ip in port.external_ips:
        yield ip, Rule((*_to(port, ip), words), Jump(chain_name("EXT", port)))
    words = Comment.of(f"{port.name} loadbalancer IP")
    door = chain_name("FW" if port.source_ranges else "EXT", port)
    for ip in port.load_balancer_ips:
        yield ip, Rule((*_to(port, ip), words), Jump(door))


def _node_ports(serving: ServingPort) -> Iterator[Rule]:
    port = serving.port
    if port.node_port and _has_external_chain(serving):
        words = Comment.of(str(port.name))
        yield Rule((DestinationPort(port.protocol, port.node_port), words), Jump(chain_name("EXT", port)))


def _refusals(
    serving: ServingPort, way: TrafficPolicy | Refusal, addresses: Sequence[IPAddress]
) -> Iterator[AddressRule]:
    if isinstance(way, Refusal):
        yield from ((ip, _refusal(serving, way, _to(serving.port, ip))) for ip in addresses)


def _refused_node_ports(serving: ServingPort) -> Iterator[Rule]:
    port = serving.port
    if port.node_port and isinstance(serving.external, Refusal):
        to_node_port = (TO_THIS_NODE, DestinationPort(port.protocol, port.node_port))
        yield _refusal(serving, serving.external, to_node_port)


def _refusal(serving: ServingPort, why: Refusal, matches: tuple[Match, ...]) -> Rule:
    if why is Refusal.REJECT:
        return Rule((*matches, Comment.of(f"{serving.port.name} has no endpoints")), Reject())
    return Rule((*matches, Comment.of(f"{serving.port.name} has no local endpoints")), Verdict.DROP)


def _firewall(serving: ServingPort) -> Iterator[AddressRule]:
    port = serving.port
    if port.source_ranges and _has_external_chain(serving):
        words = Comment.of(f"{port.name} traffic not accepted by {chain_name('FW', port)}")
        yield from ((ip, Rule((*_to(port, ip), words), Verdict.DROP)) for ip in port.load_balancer_ips)


def service_chains(serving: ServingPort, network: NodeNetwork) -> dict[str, Rules]:
    """Return the nat chains that belong to one service port alone."""
    port = serving.port
    chains: dict[str, Rules] = {}
    for pool in TrafficPolicy:
        endpoints = serving.pool(pool)
        if endpoints:
            masquerade = _masquerade_internal(port, network) if serving.internal is pool else ()
            chains[_pool_chain(port, pool)] = (*masquerade, *_choose(port, endpoints))
    if _has_external_chain(serving):
        chains[chain_name("EXT", port)] = _external(serving, network)
        if port.source_ranges and port.load_balancer_ips:
            chains[chain_name("FW", port)] = tuple(_let_through(port, network))
    for endpoint in serving.reachable:
        chains[chain_name("SEP", port, endpoint)] = _endpoint(port, endpoint)
    return chains


def _from_pods(network: NodeNetwork, *, negated: bool = False) -> tuple[Match, ...]:
    """Return what tells pods from others (row 44); nothing when nothing does."""
    if network.pod_ifname:
        return (InInterface(network.pod_ifname, negated),)
    return (Source(network.pod_cidr, negated),) if network.pod_cidr else ()


def _masquerade_internal(port: ServicePort, network: NodeNetwork) -> Rules:
    """Mark what must not keep its source: the answer to one that is no pod might go another way back."""
    strangers = _from_pods(network, negated=True)
    if not (strangers or network.masquerade_all):
        return ()
    words = Comment.of(f"{port.name} cluster IP")
    matches = () if network.masquerade_all else strangers
    return (Rule((*matches, *_to(port, port.cluster_ip), words), Jump(MARK_MASQ)),)


def _choose(port: ServicePort, endpoints: Sequence[Endpoint]) -> Rules:
    """Return the rules of a pool: the endpoint a client had before, if it shall stay, else one for each."""
    rules = []
    for endpoint in dict.fromkeys(endpoints) if port.affinity_s else ():
        chain = chain_name("SEP", port, endpoint)
        words = Comment.of(f"{port.name} -> {endpoint}")
        rules.append(Rule((words, SeenWithin(chain, port.affinity_s)), Jump(chain)))
    for number, endpoint in enumerate(endpoints):
        words = Comment.of(f"{port.name} -> {endpoint}")
        share = _share(port.balance, len(endpoints) - number)
        rules.append(Rule((words, *share), Jump(chain_name("SEP", port, endpoint))))
    return tuple(rules)


def _share(balance: Balance, left: int) -> tuple[Match, ...]:
    """Return what takes one in ``left``: of what the rules before did not take, each takes an equal part."""
    if left == 1:
        return ()
    return (EveryNth(left),) if balance is Balance.ROUND_ROBIN else (OneIn(left),)


def _external(serving: ServingPort, network: NodeNetwork) -> Rules:
    port = serving.port
    to_cluster = Jump(_pool_chain(port, TrafficPolicy.CLUSTER))
    if serving.external is TrafficPolicy.CLUSTER:
        words = Comment.of(f"masquerade traffic for {port.name} external destinations")
        return Rule((words,), Jump(MARK_MASQ)), Rule((), to_cluster)
    rules = []
    if pods := _from_pods(network):
        words = Comment.of(f"pod traffic for {port.name} external destinations")
        rules.append(Rule((*pods, words), to_cluster))
    masquerade = Comment.of(f"masquerade LOCAL traffic for {port.name} external destinations")
    route = Comment.of(f"route LOCAL traffic for {port.name} external destinations")
    rules.append(Rule((_FROM_THIS_NODE, masquerade), Jump(MARK_MASQ)))
    rules.append(Rule((_FROM_THIS_NODE, route), to_cluster))
    if serving.external is TrafficPolicy.LOCAL:
        rules.append(Rule((), Jump(_pool_chain(port, TrafficPolicy.LOCAL))))
    return tuple(rules)


def _let_through(port: ServicePort, network: NodeNetwork) -> Iterator[Rule]:
    """Yield the rules for who may use the load balancer's addresses (row 22)."""
    words = Comment.of(f"{port.name} loadbalancer IP")
    door = Jump(chain_name("EXT", port))
    for allowed in port.source_ranges:
        yield Rule((Source(allowed), words), door)
    if network.node_ip and any(network.node_ip in allowed for allowed in port.source_ranges):
        # The node's own packets may carry the balancer's address as their source, where it is assigned here.
        for ip in port.load_balancer_ips:
            yield Rule((Source(ip_network(ip)), words), door)


def _endpoint(port: ServicePort, endpoint: Endpoint) -> Rules:
    words = Comment.of(str(port.name))
    remember = (PutOnList(chain_name("SEP", port, endpoint)),) if port.affinity_s else ()
    return (
        # The endpoint's own answers would never come back through here, and be dropped as unknown.
        Rule((Source(ip_network(endpoint.ip)), words), Jump(MARK_MASQ)),
        Rule((OfProtocol(port.protocol), words, *remember), Dnat(endpoint.ip, endpoint.port)),
    )
