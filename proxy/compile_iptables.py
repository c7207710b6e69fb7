"""The iptables rules for what a node serves, in kube-proxy's layout and with its chain names. *Pure.*

    PREROUTING, OUTPUT -> KUBE-SERVICES         one rule an address and port (spread over chains when many)
                            -> KUBE-SVC-x, ...  what one service has (see ``service_rules``)
                            -> KUBE-NODEPORTS   whatever else is addressed to this node

The filter table holds what no endpoint is there for. Names are a hash of what a chain is for, so that a
service keeps its chains whatever else changes, and a changed endpoint touches the chains of its own service
only; what has been worked out for a service port is kept until the service port changes.

Source: Kubernetes "Virtual IPs and Service Proxies".
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from itertools import chain

from kubenet.model.iptables import (
    Comment,
    CtState,
    Destination,
    FlipMark,
    InState,
    Jump,
    Marked,
    Masquerade,
    Rule,
    Rules,
    SetMark,
    Source,
    Table,
    Verdict,
)
from proxy.dispatch import SUB_CHAINS, fan_out
from proxy.policy import ServingPort
from proxy.ports import Family, IPNetwork, NodeNetwork, ServicePortName
from proxy.service_rules import MARK_MASQ, NO_RULES, TO_THIS_NODE, AddressRule, ServiceRules, service_rules

SERVICES = "KUBE-SERVICES"
EXTERNAL_SERVICES = "KUBE-EXTERNAL-SERVICES"
NODE_PORTS = "KUBE-NODEPORTS"
POSTROUTING = "KUBE-POSTROUTING"
FORWARD = "KUBE-FORWARD"
FIREWALL = "KUBE-PROXY-FIREWALL"
# Not KUBE-FIREWALL, where kube-proxy has it: that chain is kubelet's, and what is ours we write whole.
LOCALNET = "KUBE-PROXY-LOCALNET"

# Chains with these beginnings belong to one service each, or to a group of them, and go with it.
_PER_SERVICE = ("KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-FW-", "KUBE-SEP-", LOCALNET, *SUB_CHAINS)

_OWN = (
    SERVICES,
    EXTERNAL_SERVICES,
    NODE_PORTS,
    POSTROUTING,
    FORWARD,
    FIREWALL,
    MARK_MASQ,
    "KUBE-PROXY-CANARY",
)

_LOOPBACK: Mapping[Family, IPNetwork] = {4: IPv4Network("127.0.0.0/8"), 6: IPv6Network("::1/128")}
_NEW = InState(frozenset({CtState.NEW}))

NAT_HOOKS = {
    "PREROUTING": (Rule((Comment("kubernetes service portals"),), Jump(SERVICES)),),
    "OUTPUT": (Rule((Comment("kubernetes service portals"),), Jump(SERVICES)),),
    "POSTROUTING": (Rule((Comment("kubernetes postrouting rules"),), Jump(POSTROUTING)),),
}
_EXTERNAL_HOOK = Rule(
    (_NEW, Comment("kubernetes externally-visible service portals")), Jump(EXTERNAL_SERVICES)
)
_SERVICES_HOOK = Rule((_NEW, Comment("kubernetes service portals")), Jump(SERVICES))
_FIREWALL_HOOK = Rule((_NEW, Comment("kubernetes load balancer firewall")), Jump(FIREWALL))
_LOCALNET_HOOK = Rule((), Jump(LOCALNET))
FILTER_HOOKS = {
    "INPUT": (_FIREWALL_HOOK, _EXTERNAL_HOOK),
    "FORWARD": (
        _FIREWALL_HOOK,
        Rule((Comment("kubernetes forwarding rules"),), Jump(FORWARD)),
        _SERVICES_HOOK,
        _EXTERNAL_HOOK,
    ),
    # kube-proxy has no external one here, and the node's own connections wait instead of being refused.
    "OUTPUT": (_FIREWALL_HOOK, _SERVICES_HOOK, _EXTERNAL_HOOK),
}


@dataclass(frozen=True, slots=True)
class ChainChange:
    """Chains to make or fill anew, and chains to take away."""

    put: Mapping[str, Rules]
    gone: tuple[str, ...]


class Compiler:
    """Makes tables again and again, and works out only the service ports that have changed."""

    def __init__(self, network: NodeNetwork) -> None:
        self.network = network
        self._known: dict[ServicePortName, tuple[ServingPort, ServiceRules]] = {}

    def tables(self, serving: Iterable[ServingPort]) -> tuple[Table, Table]:
        """Return the nat and the filter table that make one family's packets go where ``serving`` says."""
        before, self._known = self._known, {}
        for each in serving:
            known = before.get(each.port.name)
            self._known[each.port.name] = known if known and known[0] == each else self._worked_out(each)
        return self._tables()

    def change(
        self, changed: Mapping[ServicePortName, ServingPort | None]
    ) -> tuple[Table, Table] | ChainChange:
        """Take in what became of some service ports (None: gone) since ``tables``.

        Returns what becomes of chains of the nat table that belong to one service each; or, when chains that
        services share are touched, both tables.
        """
        put: dict[str, Rules] = {}
        gone: set[str] = set()
        shared = False
        for name, each in changed.items():
            before = self._known.pop(name, None)
            after = self._worked_out(each) if each else None
            if after:
                self._known[name] = after
            old, new = before[1] if before else NO_RULES, after[1] if after else NO_RULES
            shared = shared or old.shared != new.shared
            put |= {chain: rules for chain, rules in new.chains.items() if old.chains.get(chain) != rules}
            gone |= old.chains.keys() - new.chains.keys()
        return self._tables() if shared else ChainChange(put, tuple(sorted(gone - put.keys())))

    def _worked_out(self, each: ServingPort) -> tuple[ServingPort, ServiceRules]:
        return each, service_rules(each, self.network)

    def _tables(self) -> tuple[Table, Table]:
        in_order = sorted(self._known.items(), key=lambda item: item[0].sort_key)
        rules = [known[1] for _, known in in_order]
        return _nat(rules, self.network), _filter(rules, self.network)


def compile_iptables(serving: Sequence[ServingPort], network: NodeNetwork) -> tuple[Table, Table]:
    """Return the nat and the filter table that make one family's packets go where ``serving`` says."""
    return Compiler(network).tables(serving)


def is_service_chain(name: str) -> bool:
    """Return whether a chain belongs to one service and goes when nothing wants it any more."""
    return name.startswith(_PER_SERVICE)


def is_own_chain(name: str) -> bool:
    """Return whether a chain is the proxy's, this one's or kube-proxy's."""
    return name in _OWN or is_service_chain(name)


def _nat(rules: Sequence[ServiceRules], network: NodeNetwork) -> Table:
    chains: dict[str, Rules] = {
        NODE_PORTS: tuple(chain.from_iterable(each.node_ports for each in rules)),
        POSTROUTING: _postrouting(network.masquerade_mark),
        MARK_MASQ: (Rule((), SetMark(network.masquerade_mark)),),
    }
    dispatch, groups = _fan(rules, lambda each: each.services, "KUBE-IP-")
    chains[SERVICES] = (*dispatch, *_node_ports_rules(network))
    chains |= groups
    for each in rules:
        chains.update(each.chains)
    return Table("nat", chains, NAT_HOOKS)


def _filter(rules: Sequence[ServiceRules], network: NodeNetwork) -> Table:
    refused, groups = _fan(rules, lambda each: each.refused_services, "KUBE-IP-")
    refused_externals, more_groups = _fan(rules, lambda each: each.refused_externals, "KUBE-XIP-")
    firewall, firewall_groups = _fan(rules, lambda each: each.firewall, "KUBE-FIP-")
    node_ports = chain.from_iterable(each.refused_node_ports for each in rules)
    chains: dict[str, Rules] = {
        SERVICES: refused,
        EXTERNAL_SERVICES: (*refused_externals, *node_ports),
        FIREWALL: firewall,
        FORWARD: _forward(network),
    }
    hooks: Mapping[str, Rules] = FILTER_HOOKS
    if network.localhost_node_ports and network.family == 4:
        chains[LOCALNET] = (_MARTIANS,)
        hooks = {**hooks} | {hook: (_LOCALNET_HOOK, *hooks[hook]) for hook in ("INPUT", "OUTPUT")}
    return Table("filter", chains | groups | more_groups | firewall_groups, hooks)


def _fan(
    rules: Sequence[ServiceRules], part: Callable[[ServiceRules], Sequence[AddressRule]], prefix: str
) -> tuple[Rules, dict[str, Rules]]:
    return fan_out(chain.from_iterable(map(part, rules)), prefix)


# With route_localnet the kernel takes packets to 127.0.0.1 from the wire, too (CVE-2020-8558).
_MARTIANS = Rule(
    (
        Source(_LOOPBACK[4], negated=True),
        Destination(_LOOPBACK[4]),
        Comment("block incoming localnet connections"),
        InState(frozenset({CtState.RELATED, CtState.ESTABLISHED, CtState.DNAT}), negated=True),
    ),
    Verdict.DROP,
)


def _forward(network: NodeNetwork) -> Rules:
    known = frozenset({CtState.RELATED, CtState.ESTABLISHED})
    invalid = Rule((InState(frozenset({CtState.INVALID})),), Verdict.DROP)
    return (
        # What conntrack finds out of window would pass without translation and break the connection.
        *(() if network.tcp_liberal else (invalid,)),
        Rule((Comment("kubernetes forwarding rules"), Marked(network.masquerade_mark)), Verdict.ACCEPT),
        Rule((Comment("kubernetes forwarding conntrack rule"), InState(known)), Verdict.ACCEPT),
    )


def _postrouting(mark: int) -> Rules:
    return (
        Rule((Marked(mark, negated=True),), Verdict.RETURN),
        # Off again, so that a packet that comes by twice is not masqueraded twice.
        Rule((), FlipMark(mark)),
        Rule((Comment("kubernetes service traffic requiring SNAT"),), Masquerade()),
    )


def _node_ports_rules(network: NodeNetwork) -> Rules:
    """Return what leads to the node ports.

    Which addresses are the node's is asked of the kernel, so a new one counts at once.
    """
    words = Comment("kubernetes service nodeports; NOTE: this must be the last rule in this chain")
    loopback = _LOOPBACK[network.family]
    on_loopback = network.localhost_node_ports and network.family == 4
    asked = [each for each in network.node_port_networks if each.version == network.family]
    if asked and all(each.prefixlen for each in asked):
        shut = Rule((Destination(loopback),), Verdict.RETURN)
        open_ = [Rule((Destination(each), TO_THIS_NODE, words), Jump(NODE_PORTS)) for each in asked]
        crosses = any(each.overlaps(loopback) for each in asked)
        return (*((shut,) if crosses and not on_loopback else ()), *open_)
    elsewhere = () if on_loopback else (Destination(loopback, negated=True),)
    return (Rule((*elsewhere, TO_THIS_NODE, words), Jump(NODE_PORTS)),)
