"""The iptables rules for what a node serves, in kube-proxy's layout and with its chain names. *Pure.*

    PREROUTING, OUTPUT -> KUBE-SERVICES         one rule a cluster address
                            -> KUBE-SVC-x       the cluster's pool: one rule an endpoint, by chance or in turn
                            -> KUBE-SVL-x       the pool of this node
                            -> KUBE-NODEPORTS   whatever else is addressed to this node
                                 -> KUBE-EXT-x  from outside, to KUBE-SVC-x or KUBE-SVL-x by the policy
    KUBE-SVC-x, KUBE-SVL-x  -> KUBE-SEP-y       one endpoint: DNAT

The filter table holds what no endpoint is there for. Names are a hash of what a chain is for, so that a
service keeps its chains whatever else changes, and a changed endpoint touches the chains of its own service
only.

In turn: of n rules the i-th (from 0) takes every (n-i)-th packet that gets as far. The counters stay in step,
since each rule sees exactly the packets that the ones before it let through; every n-th on each would not.

Source: Kubernetes "Virtual IPs and Service Proxies"; iptables-extensions(8), statistic and recent.
"""

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network

from kubenet.model.iptables import (
    CHAIN_NAME_LENGTH,
    AddressKind,
    Comment,
    CtState,
    Destination,
    DestinationKind,
    DestinationPort,
    Dnat,
    EveryNth,
    FlipMark,
    InState,
    Jump,
    Marked,
    Masquerade,
    Match,
    OfProtocol,
    OneIn,
    PutOnList,
    Reject,
    Rule,
    Rules,
    SeenWithin,
    SetMark,
    Source,
    SourceKind,
    Table,
    Verdict,
)
from proxy.policy import Refusal, ServingPort
from proxy.ports import Balance, Endpoint, Family, IPNetwork, NodeNetwork, ServicePort, TrafficPolicy

SERVICES = "KUBE-SERVICES"
EXTERNAL_SERVICES = "KUBE-EXTERNAL-SERVICES"
NODE_PORTS = "KUBE-NODEPORTS"
POSTROUTING = "KUBE-POSTROUTING"
MARK_MASQ = "KUBE-MARK-MASQ"
FORWARD = "KUBE-FORWARD"

# Chains with these beginnings belong to one service each and go with it.
_PER_SERVICE = ("KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-FW-", "KUBE-SEP-")

_LOOPBACK: Mapping[Family, IPNetwork] = {4: IPv4Network("127.0.0.0/8"), 6: IPv6Network("::1/128")}
_NEW = InState(frozenset({CtState.NEW}))
_TO_THIS_NODE = DestinationKind(AddressKind.LOCAL)
_FROM_THIS_NODE = SourceKind(AddressKind.LOCAL)

NAT_HOOKS = {
    "PREROUTING": (Rule((Comment("kubernetes service portals"),), Jump(SERVICES)),),
    "OUTPUT": (Rule((Comment("kubernetes service portals"),), Jump(SERVICES)),),
    "POSTROUTING": (Rule((Comment("kubernetes postrouting rules"),), Jump(POSTROUTING)),),
}
_EXTERNAL_HOOK = Rule(
    (_NEW, Comment("kubernetes externally-visible service portals")), Jump(EXTERNAL_SERVICES)
)
FILTER_HOOKS = {
    "INPUT": (_EXTERNAL_HOOK,),
    "FORWARD": (
        Rule((Comment("kubernetes forwarding rules"),), Jump(FORWARD)),
        Rule((_NEW, Comment("kubernetes service portals")), Jump(SERVICES)),
        _EXTERNAL_HOOK,
    ),
    "OUTPUT": (Rule((_NEW, Comment("kubernetes service portals")), Jump(SERVICES)),),
}


def compile_iptables(serving: Sequence[ServingPort], network: NodeNetwork) -> tuple[Table, Table]:
    """Return the nat and the filter table that make one family's packets go where ``serving`` says."""
    return _nat(serving, network), _filter(serving, network)


def is_service_chain(name: str) -> bool:
    """Return whether a chain belongs to one service and goes when nothing wants it any more."""
    return name.startswith(_PER_SERVICE)


def chain_name(kind: str, port: ServicePort, endpoint: Endpoint | None = None) -> str:
    """Return a name of ``CHAIN_NAME_LENGTH`` at most: KUBE-, the kind, 16 characters of a hash (row 75)."""
    words = f"{port.name}{port.protocol.lower}" + (str(endpoint) if endpoint else "")
    digest = base64.b32encode(hashlib.sha256(words.encode()).digest()).decode()
    return f"KUBE-{kind}-{digest[:16]}"[:CHAIN_NAME_LENGTH]


def _nat(serving: Sequence[ServingPort], network: NodeNetwork) -> Table:
    chains: dict[str, Rules] = {
        SERVICES: (*_each(_cluster_ip_rule, serving), _node_ports_rule(network)),
        NODE_PORTS: _each(_node_port_rule, serving),
        POSTROUTING: _postrouting(network.masquerade_mark),
        MARK_MASQ: (Rule((), SetMark(network.masquerade_mark)),),
    }
    for port in serving:
        chains |= service_chains(port, network)
    return Table("nat", chains, NAT_HOOKS)


def _filter(serving: Sequence[ServingPort], network: NodeNetwork) -> Table:
    chains: dict[str, Rules] = {
        SERVICES: _each(_cluster_ip_refusal, serving),
        EXTERNAL_SERVICES: _each(_node_port_refusal, serving),
        FORWARD: (
            # What conntrack finds out of window would pass without translation and break the connection.
            Rule((InState(frozenset({CtState.INVALID})),), Verdict.DROP),
            Rule((Comment("kubernetes forwarding rules"), Marked(network.masquerade_mark)), Verdict.ACCEPT),
            Rule(
                (
                    Comment("kubernetes forwarding conntrack rule"),
                    InState(frozenset({CtState.RELATED, CtState.ESTABLISHED})),
                ),
                Verdict.ACCEPT,
            ),
        ),
    }
    return Table("filter", chains, FILTER_HOOKS)


def _each(rule_for: Callable[[ServingPort], Rule | None], serving: Sequence[ServingPort]) -> Rules:
    return tuple(rule for rule in map(rule_for, serving) if rule)


def _postrouting(mark: int) -> Rules:
    return (
        Rule((Marked(mark, negated=True),), Verdict.RETURN),
        # Off again, so that a packet that comes by twice is not masqueraded twice.
        Rule((), FlipMark(mark)),
        Rule((Comment("kubernetes service traffic requiring SNAT"),), Masquerade()),
    )


def _to_cluster_ip(port: ServicePort) -> tuple[Match, ...]:
    return Destination(ip_network(port.cluster_ip)), DestinationPort(port.protocol, port.port)


def _pool_chain(port: ServicePort, pool: TrafficPolicy) -> str:
    return chain_name("SVC" if pool is TrafficPolicy.CLUSTER else "SVL", port)


def _cluster_ip_rule(serving: ServingPort) -> Rule | None:
    port = serving.port
    if isinstance(serving.internal, Refusal):
        return None
    words = Comment.of(f"{port.name} cluster IP")
    return Rule((*_to_cluster_ip(port), words), Jump(_pool_chain(port, serving.internal)))


def _node_ports_rule(network: NodeNetwork) -> Rule:
    words = Comment("kubernetes service nodeports; NOTE: this must be the last rule in this chain")
    elsewhere = Destination(_LOOPBACK[network.family], negated=True)
    return Rule((elsewhere, _TO_THIS_NODE, words), Jump(NODE_PORTS))


def _node_port_rule(serving: ServingPort) -> Rule | None:
    port = serving.port
    if not _has_external_chain(serving):
        return None
    words = Comment.of(str(port.name))
    return Rule((DestinationPort(port.protocol, port.node_port), words), Jump(chain_name("EXT", port)))


def _has_external_chain(serving: ServingPort) -> bool:
    """Return whether anything external gets through: also where only the short circuit does (row 33)."""
    return serving.port.external and serving.external is not Refusal.REJECT


def _cluster_ip_refusal(serving: ServingPort) -> Rule | None:
    return _refusal(serving, serving.internal, _to_cluster_ip(serving.port))


def _node_port_refusal(serving: ServingPort) -> Rule | None:
    port = serving.port
    if not port.node_port:
        return None
    to_node_port = (_TO_THIS_NODE, DestinationPort(port.protocol, port.node_port))
    return _refusal(serving, serving.external, to_node_port)


def _refusal(serving: ServingPort, way: TrafficPolicy | Refusal, matches: tuple[Match, ...]) -> Rule | None:
    match way:
        case Refusal.REJECT:
            return Rule((*matches, Comment.of(f"{serving.port.name} has no endpoints")), Reject())
        case Refusal.DROP:
            return Rule((*matches, Comment.of(f"{serving.port.name} has no local endpoints")), Verdict.DROP)
    return None


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
    for endpoint in serving.reachable:
        chains[chain_name("SEP", port, endpoint)] = _endpoint(port, endpoint)
    return chains


def _masquerade_internal(port: ServicePort, network: NodeNetwork) -> Rules:
    """Mark what must not keep its source: the answer to one that is no pod might go another way back."""
    if network.masquerade_all:
        pods: tuple[Match, ...] = ()
    elif network.cluster_cidr is not None and network.cluster_cidr.prefixlen:
        pods = (Source(network.cluster_cidr, negated=True),)
    else:
        return ()
    words = Comment.of(f"{port.name} cluster IP")
    return (Rule((*pods, *_to_cluster_ip(port), words), Jump(MARK_MASQ)),)


def _choose(port: ServicePort, endpoints: Sequence[Endpoint]) -> Rules:
    """Return the rules of a pool: the endpoint a client had before, if it shall stay, else one for each."""
    rules = []
    for endpoint in endpoints if port.affinity_s else ():
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
    if network.cluster_cidr is not None and network.cluster_cidr.prefixlen:
        words = Comment.of(f"pod traffic for {port.name} external destinations")
        rules.append(Rule((Source(network.cluster_cidr), words), to_cluster))
    masquerade = Comment.of(f"masquerade LOCAL traffic for {port.name} external destinations")
    route = Comment.of(f"route LOCAL traffic for {port.name} external destinations")
    rules.append(Rule((_FROM_THIS_NODE, masquerade), Jump(MARK_MASQ)))
    rules.append(Rule((_FROM_THIS_NODE, route), to_cluster))
    if serving.external is TrafficPolicy.LOCAL:
        rules.append(Rule((), Jump(_pool_chain(port, TrafficPolicy.LOCAL))))
    return tuple(rules)


def _endpoint(port: ServicePort, endpoint: Endpoint) -> Rules:
    words = Comment.of(str(port.name))
    remember = (PutOnList(chain_name("SEP", port, endpoint)),) if port.affinity_s else ()
    return (
        # The endpoint's own answers would never come back through here, and be dropped as unknown.
        Rule((Source(ip_network(endpoint.ip)), words), Jump(MARK_MASQ)),
        Rule((OfProtocol(port.protocol), words, *remember), Dnat(endpoint.ip, endpoint.port)),
    )
