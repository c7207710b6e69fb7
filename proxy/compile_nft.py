"""The nftables table for what a node serves: flat maps, and a chain for each kind of service. *Pure.*

    nat-prerouting, nat-output -> dispatch      looks the address up: services -> way -> chain
                                 -> at-node-ports
    a way:   vip-cluster-3                      to the cluster address; who is no pod is masqueraded
             address-cluster-3, port-cluster-3  from outside, to an external address or a node port
             address-local-2-of-3 ...           the same with the external policy Local
             guarded-address-cluster-3 ...      first, is the source one that may
             rejecting, dropping                nobody is there
    then:    pick-vip-cluster-3, ...            one of three endpoints, by chance
             turns-HASH-demo/web/...            in turn, which needs a counter and so a chain of its own
    nat-postrouting                             masquerade
    filter-forward                              what belongs to no connection is dropped

Chains are named after what they do, and shared: two services with three endpoints each lead to the same ones.
So what a service port adds to the table are elements, ``Part.elements``, and the names of the chains it
leads through. A nat chain sees the first packet of a connection only, and a refused one never becomes a
connection; so refusals need no table of their own, and unlike in kube-proxy one look-up does.

Endpoints sit on numbered seats. Whoever stays keeps the seat, the last moves up where one leaves: a change
is a few elements however many endpoints there are. Which seats were taken is therefore an argument.

Source: Kubernetes "Virtual IPs and Service Proxies"; nft(8).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network

from kubenet.model.nft import (
    Chain,
    ClearMark,
    Count,
    Dispatch,
    Goto,
    Hook,
    InSet,
    Invalid,
    Jump,
    Load,
    Marked,
    Masquerade,
    Reject,
    Rule,
    Rules,
    Ruleset,
    To,
    ToThisNode,
    Translated,
    Verdict,
)
from proxy import nft_names as n
from proxy.nft_part import NO_SEATS, Part, part_of, service_key
from proxy.nft_seats import seats_in
from proxy.policy import ServingPort
from proxy.ports import Family, IPNetwork, NodeNetwork

DSTNAT_PRIORITY, FILTER_PRIORITY, SRCNAT_PRIORITY = -100, 0, 100  # linux/netfilter_ipv4.h

_LOOPBACK: Mapping[Family, IPNetwork] = {4: IPv4Network("127.0.0.0/8"), 6: IPv6Network("::1/128")}


def compile_nft(
    serving: Sequence[ServingPort], network: NodeNetwork, before: Ruleset | None = None
) -> Ruleset:
    """Return the table that makes one family's packets go where ``serving`` says.

    Endpoints keep the seats that they have in ``before``.
    """
    taken = seats_in(before) if before else {}
    return assembled(
        (part_of(each, network, taken.get(service_key(each.port), NO_SEATS)) for each in serving), network
    )


def assembled(parts: Iterable[Part], network: NodeNetwork) -> Ruleset:
    """Return the table of all ``parts``."""
    sets, chains = n.sets_of(network.family, network.count_connections), base_chains(network)
    elements: dict[str, dict[bytes, bytes]] = {name: {} for name in sets}
    for part in parts:
        chains |= part.chains
        for name in part.shards:
            sets.setdefault(name, n.seats_shape(network.family, name, network.count_connections))
            elements.setdefault(name, {})
        for name, key, value in part.elements:
            elements[name][key] = value
    return Ruleset(network.family, sets, chains, elements)


def base_chains(network: NodeNetwork) -> dict[str, Chain]:
    """Return the chains that are there without any service."""
    to_dispatch: Rules = ((Jump(n.DISPATCH),),)
    mark = network.masquerade_mark
    return {
        n.PREROUTING: Chain(to_dispatch, Hook.PREROUTING, DSTNAT_PRIORITY),
        n.OUTPUT: Chain(to_dispatch, Hook.OUTPUT, DSTNAT_PRIORITY),
        n.POSTROUTING: Chain(
            (
                # Off again, so that a packet that comes by twice is not masqueraded twice.
                (Marked(mark), ClearMark(mark), Masquerade()),
                # The endpoint's own answers would never come back through here, and be dropped as unknown.
                (Translated(), InSet((Load.SOURCE, Load.DESTINATION), n.HAIRPIN), Masquerade()),
            ),
            Hook.POSTROUTING,
            SRCNAT_PRIORITY,
        ),
        n.FORWARD: Chain(
            # What conntrack finds out of window would pass untranslated, and break the connection. It stays
            # empty and in place where conntrack is liberal: making a chain is the costly part.
            () if network.tcp_liberal else ((Invalid(), Count(), Verdict.DROP),),
            Hook.FORWARD,
            FILTER_PRIORITY,
            "filter",
        ),
        n.DISPATCH: Chain(tuple(_dispatch(network))),
        n.AT_NODE_PORTS: Chain(tuple(_at_node_ports(network))),
    }


def _dispatch(network: NodeNetwork) -> Iterator[Rule]:
    yield (Dispatch(n.AT_ADDRESS, n.SERVICES, n.WAYS),)
    yield ToThisNode(), Goto(n.AT_NODE_PORTS)
    yield InSet((Load.DESTINATION,), n.CLUSTER_IPS), Reject()  # another port than the service's
    for cidr in network.service_cidrs:
        if cidr.version == network.family:
            yield To(cidr), Verdict.DROP


def _at_node_ports(network: NodeNetwork) -> Iterator[Rule]:
    yield To(_LOOPBACK[network.family]), Verdict.RETURN
    dispatch = Dispatch(n.AT_PORT, n.NODE_PORTS, n.WAYS)
    networks = network.node_port_networks
    if not networks and network.node_ip:
        networks = (ip_network(network.node_ip),)  # as kube-proxy's nftables mode does
    if not networks or any(cidr.prefixlen == 0 for cidr in networks):
        yield (dispatch,)
        return
    yield from ((To(cidr), dispatch) for cidr in networks)
