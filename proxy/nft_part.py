"""What one service port adds to our nftables table. *Pure.*

Its elements, and the chains that it leads through; those are named after what they do, and shared with every
service port that wants the same.
"""

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network

from kubenet.model.nft import (
    NAME_LENGTH,
    Always,
    By,
    ByDestination,
    ByMap,
    Chain,
    Choose,
    Forget,
    From,
    FromThisNode,
    Goto,
    InInterface,
    InSet,
    Load,
    Reject,
    Resume,
    Rule,
    Rules,
    Sentence,
    SetMark,
    Stay,
    Verdict,
)
from proxy import nft_names as n
from proxy.maglev import size_for, table
from proxy.nft_seats import TakenSeats, seat_key, seated
from proxy.policy import Refusal, ServingPort
from proxy.ports import Balance, Endpoint, IPAddress, IPNetwork, NodeNetwork, ServicePort, TrafficPolicy

_CLUSTER, _LOCAL = TrafficPolicy.CLUSTER, TrafficPolicy.LOCAL
_REFUSALS: Mapping[Refusal, tuple[str, Chain]] = {
    Refusal.REJECT: ("rejecting", Chain(((Reject(),),))),
    Refusal.DROP: ("dropping", Chain(((Verdict.DROP,),))),
}
_OWN = re.compile(r"(?:vip-|(?:guarded-)?outside-)?turns-")
_NOT_NAME = re.compile(r"[^A-Za-z0-9_./-]")

# How a packet came: to the cluster address, to another address of the service, to a port of this node; and
# how the service is found from that where an endpoint is chosen.
_BY: Mapping[str, By] = {
    "vip": ByDestination(),
    "address": ByMap(n.EXTERNAL, n.AT_ADDRESS),
    "port": ByMap(n.NODE_PORT_SERVICES, n.AT_PORT),
}

NO_SEATS = TakenSeats()

Element = tuple[str, bytes, bytes]
"""A set's name, a key, a value."""


@dataclass(slots=True)
class Part:
    """What one service port adds; of what others add too, the table holds one."""

    seats: TakenSeats = NO_SEATS
    reseated: bool = False  # whether somebody sits where nobody would without a past
    chains: dict[str, Chain] = field(default_factory=dict)
    shards: set[str] = field(default_factory=set)  # maps that it needs beside those that are always there
    elements: list[Element] = field(default_factory=list)

    def lead(self, ip: IPAddress, name: str, chain: Chain) -> bytes:
        """Add a chain that a map leads to; return what the map holds."""
        way = n.way(name)
        self.chains[name] = chain
        self.elements.append((n.WAYS, way, name.encode()))
        return n.answer(way, ip)


def is_own_chain(name: str) -> bool:
    """Return whether a chain belongs to one service port and goes with it."""
    return bool(_OWN.match(name))


def service_key(port: ServicePort) -> bytes:
    """Return a service's address, protocol and port as the maps hold them."""
    return _key_at(port.cluster_ip, port)


def part_of(serving: ServingPort, network: NodeNetwork, taken: TakenSeats = NO_SEATS) -> Part:
    """Return what ``serving`` adds, with endpoints on the seats that they have ``taken``."""
    port = serving.port
    key = service_key(port)
    cluster, local = tuple(map(_packed, serving.cluster)), tuple(map(_packed, serving.local))
    if port.balance is Balance.CONSISTENT_HASH:  # the number of a seat is what a client's hash leads to
        seats = TakenSeats(table(cluster), table(local))
    else:
        seats = TakenSeats(seated(cluster, taken.cluster), seated(local, taken.local))
    part = Part(seats, seats.cluster != cluster or seats.local != local)
    _seats(part, port, key)
    part.elements.append((n.SERVICES, key, _internal_way(part, serving, network)))
    part.elements.append((n.CLUSTER_IPS, port.cluster_ip.packed, b""))
    for ip in {endpoint.ip for pool in (serving.cluster, serving.local) for endpoint in pool}:
        part.elements.append((n.HAIRPIN, ip.packed * 2, b""))
    if port.external:
        _external(part, serving, network)
    return part


def _packed(endpoint: Endpoint) -> bytes:
    return n.socket_bytes(endpoint.ip, endpoint.port)


def _key_at(ip: IPAddress, port: ServicePort) -> bytes:
    return ip.packed + n.PROTOCOL_BYTES[port.protocol] + n.port_bytes(port.port)


def _in_turn(port: ServicePort) -> bool:
    return port.balance is Balance.ROUND_ROBIN


def _seats(part: Part, port: ServicePort, key: bytes) -> None:
    name = seats_of(port)
    if _in_turn(port):
        part.shards.add(name)
    again = n.answer(key, port.cluster_ip) if n.is_told_again(name) else b""
    for first, seats in ((0, part.seats.cluster), (n.LOCAL_SEATS, part.seats.local)):
        for number, each in enumerate(seats, first):
            part.elements.append((name, seat_key(key, number), again + each))
    if port.affinity_s:
        part.elements += [(n.MEMBERS, key + each, b"") for each in part.seats.cluster]
        part.elements += [(n.LOCAL_MEMBERS, key + each, b"") for each in part.seats.local]


def seats_of(port: ServicePort) -> str:
    """Return which map holds the endpoints of a service port.

    A map has a list of all rules that look into it, and those in turn have a rule each: 30,000 of them need
    many maps (256 of each kind; the list of one is then short).
    """
    if not _in_turn(port):
        return n.STAY_ENDPOINTS if port.affinity_s else n.ENDPOINTS
    shard = hashlib.blake2b(service_key(port), digest_size=1).hexdigest()
    return f"{n.STAY_TURN_SHARD if port.affinity_s else n.TURN_SHARD}{shard}"


def turn_chain(port: ServicePort, pool: TrafficPolicy) -> str:
    """Return the chain of a service port in turn: a hash to tell it from others, a name to read (row 75)."""
    words = f"{port.name.namespace}/{port.name.service}/{port.protocol.lower}/{port.name.port}"
    digest = base64.b32encode(hashlib.sha256(words.encode()).digest()).decode()[:16]
    where = "local-" if pool is _LOCAL else ""
    # Room for the longest of the beginnings that lead here, and for how many are local.
    return f"turns-{where}{digest}-{_NOT_NAME.sub('_', words)}"[: NAME_LENGTH - 40]


def _internal_way(part: Part, serving: ServingPort, network: NodeNetwork) -> bytes:
    way = serving.internal
    if isinstance(way, Refusal):
        return part.lead(serving.port.cluster_ip, *_REFUSALS[way])
    pick = _pick(part, serving, "vip", way)
    name = "vip-" + pick.removeprefix("pick-vip-")
    return part.lead(
        serving.port.cluster_ip, name, _masquerading(_strangers(network), network.masquerade_mark, pick)
    )


def _strangers(network: NodeNetwork) -> tuple[Sentence, ...] | None:
    """Return what tells the sources to masquerade at a cluster address; None if nobody is (row 44)."""
    if network.masquerade_all:
        return ()
    return _from_pods(network, negated=True) or None


def _from_pods(network: NodeNetwork, *, negated: bool = False) -> tuple[Sentence, ...]:
    if network.pod_ifname:
        return (InInterface(network.pod_ifname, negated),)
    return (From(network.pod_cidr, negated),) if network.pod_cidr else ()


@lru_cache(maxsize=4096)
def _masquerading(strangers: tuple[Sentence, ...] | None, mark: int, chain: str) -> Chain:
    masquerade: Rules = () if strangers is None else ((*strangers, SetMark(mark)),)
    return Chain((*masquerade, (Goto(chain),)))


def _pick(part: Part, serving: ServingPort, entry: str, pool: TrafficPolicy) -> str:
    """Add the chain that chooses an endpoint of ``pool``; return its name."""
    port = serving.port
    count = len(serving.pool(pool))
    if _in_turn(port):
        name = turn_chain(port, pool)
        seats = seats_of(port)
        first = n.LOCAL_SEATS if pool is _LOCAL else 0
        by = Always(service_key(port))
        choose = Choose(by, seats, count, first, in_turn=True, told_again=bool(port.affinity_s))
        part.chains[name] = _choosing(choose, pool, port.affinity_s)
        return name
    stay = f"-stay-{port.affinity_s}s" if port.affinity_s else ""
    hashed = port.balance is Balance.CONSISTENT_HASH
    if hashed:
        count = size_for(len(set(serving.pool(pool))))
    name = f"pick-{entry}-{pool.value.lower()}-{'hash-' if hashed else ''}{count}{stay}"
    part.chains[name] = _shared_choosing(entry, pool, count, port.affinity_s, hashed)
    return name


@lru_cache(maxsize=4096)
def _shared_choosing(entry: str, pool: TrafficPolicy, count: int, affinity_s: int, hashed: bool) -> Chain:
    seats = n.STAY_ENDPOINTS if affinity_s else n.ENDPOINTS
    first = n.LOCAL_SEATS if pool is _LOCAL else 0
    choose = Choose(_BY[entry], seats, count, first, hashed=hashed, told_again=bool(affinity_s))
    return _choosing(choose, pool, affinity_s)


def _choosing(sentence: Choose, pool: TrafficPolicy, affinity_s: int) -> Chain:
    choose: Rule = (sentence,)
    if not affinity_s:
        return Chain((choose,))
    by = sentence.by
    stay = Stay(n.AFFINITY, affinity_s)
    members = n.LOCAL_MEMBERS if pool is _LOCAL else n.MEMBERS
    return Chain(
        (
            (Resume(by, members, stay),),
            (Forget(by, stay),),
            (replace(sentence, stay=stay),),
            choose,  # when there is no room to remember one more client
        )
    )


def _external(part: Part, serving: ServingPort, network: NodeNetwork) -> None:
    port = serving.port
    key = service_key(port)
    if port.external_addresses:
        name, chain = _external_chain(part, serving, network, "address")
        way = open_way = part.lead(port.cluster_ip, name, chain)
        if port.source_ranges and serving.external is not Refusal.REJECT:
            way = part.lead(port.cluster_ip, f"guarded-{name}", _guarding(name))
            part.elements += _admissions(port, network)
        for ip in port.external_addresses:
            door = open_way if ip in port.open_addresses else way
            part.elements.append((n.SERVICES, _key_at(ip, port), door))
            part.elements.append((n.EXTERNAL, _key_at(ip, port), n.answer(key, port.cluster_ip)))
    if port.node_port:
        at_port = n.PROTOCOL_BYTES[port.protocol] + n.port_bytes(port.node_port)
        way = part.lead(port.cluster_ip, *_external_chain(part, serving, network, "port"))
        part.elements.append((n.NODE_PORTS, at_port, way))
        part.elements.append((n.NODE_PORT_SERVICES, at_port, n.answer(key, port.cluster_ip)))


@lru_cache(maxsize=4096)
def _guarding(name: str) -> Chain:
    """Return what lets only those through to the chain ``name`` who may (row 22)."""
    stranger = InSet((*n.AT_ADDRESS, Load.SOURCE), n.ADMITTED, negated=True)
    return Chain(((stranger, Verdict.DROP), (Goto(name),)))


def _external_chain(part: Part, serving: ServingPort, network: NodeNetwork, entry: str) -> tuple[str, Chain]:
    """Return the chain for what comes from outside, and its name."""
    if serving.external is Refusal.REJECT:
        return _REFUSALS[Refusal.REJECT]
    near = _pick(part, serving, entry, _CLUSTER)
    name = near.removeprefix("pick-") if near.startswith("pick-") else f"outside-{near}"
    mark = network.masquerade_mark
    if serving.external is _CLUSTER:
        return name, _masquerading((), mark, near)
    end: Rule = (Verdict.DROP,)
    count = 0
    if serving.external is _LOCAL:
        end = (Goto(_pick(part, serving, entry, _LOCAL)),)
        count = len(serving.local)
    return f"{name}-local-{count}", _short_circuit(_from_pods(network), mark, near, end)


@lru_cache(maxsize=4096)
def _short_circuit(pods: tuple[Sentence, ...], mark: int, near: str, end: Rule) -> Chain:
    """Return what lets pods and the node itself through to the whole cluster, and strangers to ``end``."""
    inside: Rules = ((*pods, Goto(near)),) if pods else ()
    return Chain((*inside, (FromThisNode(), SetMark(mark)), (FromThisNode(), Goto(near)), end))


def _apart(networks: Sequence[IPNetwork]) -> list[IPNetwork]:
    """Return networks that hold the same addresses and do not overlap: intervals of a set must not."""
    return [
        *collapse_addresses(each for each in networks if isinstance(each, IPv4Network)),
        *collapse_addresses(each for each in networks if isinstance(each, IPv6Network)),
    ]


def _admissions(port: ServicePort, network: NodeNetwork) -> Iterator[Element]:
    """Yield who may use the load balancer's addresses (row 22)."""
    admitted = list(port.source_ranges)
    if network.node_ip and any(network.node_ip in allowed for allowed in admitted):
        # The node's own packets may carry the balancer's address as source, where it is assigned here.
        admitted += [ip_network(ip) for ip in port.load_balancer_ips]
    apart = _apart(admitted)
    for ip in port.load_balancer_ips:
        key = _key_at(ip, port)
        for cidr in apart:
            yield n.ADMITTED, key + cidr[0].packed + key + cidr[-1].packed, b""
