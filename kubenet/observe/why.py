"""Why a packet was lost: the kernel's reason, read with the state of the place, becomes a finding. *Pure.*

The kernel says what stopped a packet (IP_INADDRERRORS); the state says why that came to be (ip_forward is 0).
One function for each reason that has a story to tell; every other is passed on in the kernel's own words.

Source: linux/net/dropreason-core.h, drivers/net/vxlan.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

from kubenet.model.links import LinkKind
from kubenet.model.packet import PROTOCOL_NAMES, UDP, Packet
from kubenet.observe.events import Drop, PlaceKind, RuleHit
from kubenet.observe.findings import Finding
from kubenet.observe.names import Names
from kubenet.observe.rule_text import Listing, RuleText
from kubenet.observe.state import PlaceState, route_to, route_words

SIZE_FUNCTIONS = ("__dev_forward_skb", "dev_forward_skb", "is_skb_forwardable", "veth_xmit")
ROUTE_FUNCTIONS = ("ip_error", "ip_route_input", "ip_rcv_finish", "ip_forward")


@dataclass(frozen=True, slots=True)
class Loss:
    """A loss with all that is known around it."""

    drop: Drop
    state: PlaceState
    states: Mapping[str, PlaceState]
    names: Names
    rules: Sequence[RuleHit] = ()  # that the packet met in this place
    listing: Listing | None = None
    in_lab: bool = True

    @property
    def packet(self) -> Packet:
        return self.drop.packet

    @property
    def to(self) -> IPv4Address:
        """Where this node was to send it: of an encapsulated packet on the wire, the other node."""
        return self.drop.packet.flow.destination

    def command(self, words: str) -> str:
        """Return a command to be typed for this place."""
        return command_in(self.state.place.name, words, self.in_lab)

    def finding(self, code: str, evidence: str, next_step: str = "") -> Finding:
        return Finding(code, self.state.place.name, evidence, next_step, self.drop.ifname)


def command_in(place: str, words: str, in_lab: bool) -> str:
    """Return a command to be typed for a place of a lab, or on the node itself."""
    return f"kubenet lab exec {place} -- {words}" if in_lab else words


def why(loss: Loss) -> Finding:
    """Return what is wrong, as far as it can be told."""
    reader = _READERS.get(loss.drop.reason)
    found = reader(loss) if reader else None
    return found or _own_words(loss)


def _own_words(loss: Loss) -> Finding:
    where = f" in {loss.drop.function}" if loss.drop.function else ""
    return loss.finding("E_DROPPED", f"the kernel says {loss.drop.reason}{where}", loss.command("nstat -z"))


def _not_forwarded(loss: Loss) -> Finding | None:
    if loss.state.place.kind is PlaceKind.WIRE:
        return _leads_nowhere(loss)
    if loss.state.forwards:
        return _no_route(loss)
    return loss.finding(
        "E_NODE_FORWARD_OFF",
        f"{loss.state.place} does not forward packets: net.ipv4.ip_forward = 0",
        loss.command("sysctl -w net.ipv4.ip_forward=1"),
    )


def _leads_nowhere(loss: Loss) -> Finding:
    """Say why a packet left the nodes of a lab at all: nobody translated it, or it is for somewhere else."""
    flow = loss.packet.flow
    home = loss.names.homes.get(flow.destination, "")
    for state in sorted(loss.states.values(), key=lambda state: state.place.name != home):
        route = route_to(state.links, flow.destination)
        lost = state.place.kind is PlaceKind.NODE and (route is None or route.destination.prefixlen == 0)
        if lost and flow.destination in loss.names.hosts:
            words = f"{state.place} has no route to {loss.names.whose(flow.destination)} ({flow.destination})"
            step = command_in(state.place.name, "ip route", loss.in_lab)
            own = home == state.place.name
            return Finding("E_POD_HOST_ROUTE" if own else "E_ROUTE_MISSING", state.place.name, words, step)
    if service := loss.names.cluster_ips.get(flow.destination):
        if not loss.names.service_at(flow.destination, flow.protocol, flow.destination_port):
            return _no_such_port(loss)
        words = f"no rule of the sending node translated packets to service {service}"
        return loss.finding("E_SERVICE_MISSING", words, "kubenet check proxy")
    return loss.finding(
        "W_OUTSIDE", f"{flow.destination} is not in this lab, and its wire leads nowhere else"
    )


def _no_route(loss: Loss) -> Finding | None:
    place = loss.state.place
    if place.kind is PlaceKind.NODE and not loss.state.forwards:
        return _not_forwarded(loss)
    if place.kind is PlaceKind.POD:
        return loss.finding(
            "E_POD_NO_ROUTE",
            f"{place} has no route to {loss.to}",
            loss.command("ip route"),
        )
    if loss.state.policy:
        return _policy(loss)
    route = route_to(loss.state.links, loss.to)
    if route is not None and route.unreachable:
        return _gone(loss)
    found = f"; its best is: {route_words(route)}" if route else ""
    return loss.finding(
        "E_ROUTE_MISSING",
        f"{place} has no route to {loss.names.whose(loss.to)} ({loss.to}){found}",
        loss.command("ip route"),
    )


def _gone(loss: Loss) -> Finding:
    if loss.to in loss.names.hosts:
        return loss.finding(
            "E_POD_HOST_ROUTE",
            f"{loss.state.place} has no route to its own pod {loss.names.whose(loss.to)} ({loss.to})",
            loss.command("ip route"),
        )
    return loss.finding(
        "E_POD_GONE", f"no pod of {loss.state.place} has {loss.to}", "kubectl get pods -A -o wide"
    )


def _policy(loss: Loss) -> Finding:
    rules = "; ".join(rule.text for rule in loss.state.policy)
    source = loss.packet.flow.source
    return loss.finding(
        "E_POLICY_ROUTING",
        f"{loss.state.place} has rules beside the usual: {rules}",
        loss.command(f"ip route get {loss.to} from {source} iif {loss.drop.ifname or 'lo'}"),
    )


def _reverse_path(loss: Loss) -> Finding:
    back = route_to(loss.state.links, loss.packet.flow.source)
    way = f"the way back is: {route_words(back)}" if back else "there is no way back"
    return loss.finding(
        "E_RP_FILTER",
        f"{loss.packet.flow.source} came by {loss.drop.ifname}, and {way}",
        loss.command(f"ip route get {loss.packet.flow.source}"),
    )


def _no_tunnel_end(loss: Loss) -> Finding:
    route = route_to(loss.state.links, loss.to)
    gateway = route.gateway if route else None
    mac = next((n.mac for n in loss.state.links.neighbors.values() if n.ip == gateway), "")
    known = f" ({mac})" if mac else ""
    return loss.finding(
        "E_VXLAN_FDB",
        f"{loss.state.place} has no forwarding entry for the tunnel end {gateway}{known} of {loss.to}",
        loss.command(f"bridge fdb show dev {loss.drop.ifname}"),
    )


def _nobody_answers(loss: Loss) -> Finding:
    place, ifname = loss.state.place, loss.drop.ifname
    link = loss.state.links.links.get(ifname)
    route = route_to(loss.state.links, loss.to)
    asked = (route.gateway if route else None) or loss.to
    code = "E_POD_HOST_ROUTE"
    if place.kind is PlaceKind.POD:
        wide = asked == loss.to
        code = "E_POD_ADDRESS" if wide else "E_POD_GATEWAY"
    elif link is not None and link.kind is LinkKind.VXLAN:
        code = "E_VXLAN_NEIGH"
    elif link is not None and not _is_pod_link(loss, ifname):
        code = "E_UNDERLAY_LINK"
    return loss.finding(
        code,
        f"{place} looked for the MAC address of {asked} on {ifname}, and nobody answered",
        loss.command(f"ip neigh show dev {ifname}"),
    )


def _is_pod_link(loss: Loss, ifname: str) -> bool:
    return any(
        route.ifname == ifname and route.destination.prefixlen == 32
        for route in loss.state.links.routes.values()
    )


def _other_mac(loss: Loss) -> Finding:
    place = loss.state.place
    if place.kind is PlaceKind.POD and loss.to not in loss.state.addresses:
        whose = loss.names.whose(loss.to)
        words = (
            f"the bridge of {place.node} does not know {whose} ({loss.to}) and asks everybody, here {place}"
        )
        step = command_in(place.node, "bridge link", loss.in_lab)
        return Finding("E_POD_BRIDGE_PORT", place.node, words, step, "")
    link = loss.state.links.links.get(loss.drop.ifname)
    mac = link.mac if link else "another"
    code = "E_VXLAN_MAC" if link and link.kind is LinkKind.VXLAN else "E_POD_HOST_ROUTE"
    return loss.finding(
        code,
        f"the frame is not for {loss.drop.ifname} of {loss.state.place}, whose MAC address is {mac}",
        loss.command(f"ip link show {loss.drop.ifname}"),
    )


def _unknown_vni(loss: Loss) -> Finding:
    around = loss.packet.vxlan
    vni = f"VNI {around.vni}" if around else "that VNI"
    has = [link.vxlan.vni for link in loss.state.links.links.values() if link.vxlan]
    return loss.finding(
        "E_VXLAN_VNI",
        f"{loss.state.place} has no VXLAN device with {vni}; it has {', '.join(map(str, has)) or 'none'}",
        loss.command("ip -d link show type vxlan"),
    )


def _no_socket(loss: Loss) -> Finding:
    around = loss.packet.vxlan
    if around is not None:
        return loss.finding(
            "E_VXLAN_PORT",
            f"nobody listens on udp/{around.port} of {loss.state.place}, where the tunnel's packets come",
            loss.command("ip -d link show type vxlan"),
        )
    flow = loss.packet.flow
    name = PROTOCOL_NAMES.get(flow.protocol, str(flow.protocol))
    return loss.finding(
        "E_NO_LISTENER",
        f"nobody listens on {name}/{flow.destination_port} of {loss.names.whose(flow.destination)}",
        loss.command("ss -lnu" if flow.protocol == UDP else "ss -lnt"),
    )


def _too_big(loss: Loss) -> Finding:
    links = {name: link.mtu for name, link in loss.state.links.links.items() if name != "lo"}
    least = min(links, key=lambda name: links[name], default="")
    return loss.finding(
        "E_MTU",
        f"{loss.packet.length} bytes are too many for a link of {loss.state.place}"
        + (f"; {least} has an MTU of {links[least]}" if least else ""),
        loss.command("ip link"),
    )


def _filtered(loss: Loss) -> Finding:
    if loss.state.place.kind is PlaceKind.WIRE or loss.packet.vxlan is not None:
        return loss.finding(
            "E_UNDERLAY_DROP",
            f"a filter of {loss.state.place} drops what goes between the nodes at {loss.drop.ifname}",
            loss.command("nft list ruleset"),
        )
    hit = next((each for each in reversed(loss.rules) if each.event.verdict == "drop"), None)
    if hit is None and _table_full(loss.state):
        return loss.finding(
            "E_CONNTRACK_FULL",
            f"{loss.state.place} tracks as many connections as it may",
            loss.command("conntrack -S"),
        )
    last = hit or (loss.rules[-1] if loss.rules else None)
    if served := _nobody_serves(loss, last):
        return served
    if last is None:
        return loss.finding(
            "E_FILTER_DROP", f"a rule of {loss.state.place} drops it", loss.command("nft list ruleset")
        )
    if last.event.kind == "policy":
        code = "E_FORWARD_POLICY" if last.event.chain.upper() == "FORWARD" else "E_FILTER_DROP"
        return loss.finding(
            code,
            f"chain {last.event.chain} of table {last.event.table} on {loss.state.place} drops by policy "
            "what no rule accepts",
            loss.command(
                f"iptables -S {last.event.chain}" if code == "E_FORWARD_POLICY" else "nft list ruleset"
            ),
        )
    return loss.finding(
        "E_FILTER_DROP",
        f"{last.event.table} {last.event.chain}: {_text(loss, last)}",
        loss.command("nft -a list ruleset"),
    )


def _nobody_serves(loss: Loss, hit: RuleHit | None) -> Finding | None:
    """Return what is the matter with the Service, if that is why its packets are refused."""
    flow = loss.packet.flow
    service = loss.names.service_at(flow.destination, flow.protocol, flow.destination_port)
    if service is not None and service.endpoints:
        return loss.finding("E_LOCAL_ONLY", f"service {service} has no endpoint on {loss.state.place}")
    if service is not None:
        words = f"service {service} has no endpoints"
        return loss.finding("E_SERVICE_NO_ENDPOINTS", words, "kubectl get endpointslices -A")
    if flow.destination in loss.names.cluster_ips:
        return _no_such_port(loss)
    comment = _rule(loss, hit).comment if hit else ""
    if "no endpoints" in comment or "no local endpoints" in comment:
        return loss.finding("E_SERVICE_NO_ENDPOINTS", comment, "kubectl get endpointslices -A")
    return None


def _no_such_port(loss: Loss) -> Finding:
    flow = loss.packet.flow
    key = loss.names.cluster_ips[flow.destination]
    name = PROTOCOL_NAMES.get(flow.protocol, str(flow.protocol))
    namespace, _, short = key.partition("/")
    words = f"service {key} has no port {name}/{flow.destination_port}"
    return loss.finding("E_SERVICE_PORT", words, f"kubectl describe service -n {namespace} {short}")


def _text(loss: Loss, hit: RuleHit) -> str:
    return _rule(loss, hit).text or f"rule {hit.event.handle}"


def _rule(loss: Loss, hit: RuleHit) -> RuleText:
    key = (hit.event.table, hit.event.chain, hit.event.handle)
    return loss.listing.rules.get(key, RuleText("")) if loss.listing else RuleText("")


def _table_full(state: PlaceState) -> bool:
    count = state.sysctls.get("net.netfilter.nf_conntrack_count", "0")
    most = state.sysctls.get("net.netfilter.nf_conntrack_max", "0")
    return count.isdecimal() and most.isdecimal() and 0 < int(most) <= int(count)


def _own_source(loss: Loss) -> Finding:
    return loss.finding(
        "E_HAIRPIN",
        f"{loss.state.place} got a packet with its own address {loss.packet.flow.source} as the source",
        "kubenet check proxy",
    )


def _lifetime(loss: Loss) -> Finding | None:
    if loss.packet.ttl > 1:
        return None
    return loss.finding(
        "E_ROUTE_WRONG", f"{loss.state.place}: its time to live is over: routes make a circle"
    )


def _not_specified(loss: Loss) -> Finding | None:
    function = loss.drop.function
    if function.startswith(SIZE_FUNCTIONS):
        link = loss.state.links.links.get(loss.drop.ifname)
        if function.startswith("veth_xmit") or (link is not None and not link.up):
            return _link_down(loss)
        return _too_big(loss)
    if loss.state.unroutable:
        return loss.finding(
            "E_BLACKHOLE",
            f"{loss.state.place} has: {'; '.join(loss.state.unroutable)}",
            loss.command("ip route"),
        )
    if function.startswith(ROUTE_FUNCTIONS) and loss.state.policy:
        return _policy(loss)
    return None


def _link_down(loss: Loss) -> Finding:
    code = "E_UNDERLAY_LINK" if loss.state.place.kind is PlaceKind.WIRE else "E_POD_LINK_DOWN"
    return loss.finding(
        code,
        f"{loss.drop.ifname} of {loss.state.place}: it or its other end is down",
        loss.command(f"ip link show {loss.drop.ifname}"),
    )


_READERS: Mapping[str, Callable[[Loss], Finding | None]] = {
    "IP_INADDRERRORS": _not_forwarded,
    "IP_INNOROUTES": _no_route,
    "IP_OUTNOROUTES": _no_route,
    "IP_RPFILTER": _reverse_path,
    "NO_TX_TARGET": _no_tunnel_end,
    "TUNNEL_TXINFO": _no_tunnel_end,
    "NEIGH_FAILED": _nobody_answers,
    "NEIGH_QUEUEFULL": _nobody_answers,
    "OTHERHOST": _other_mac,
    "VXLAN_VNI_NOT_FOUND": _unknown_vni,
    "VXLAN_INVALID_HDR": _unknown_vni,
    "NO_SOCKET": _no_socket,
    "PKT_TOO_BIG": _too_big,
    "NETFILTER_DROP": _filtered,
    "IP_LOCAL_SOURCE": _own_source,
    "IP_LOCALNET": _own_source,
    "IP_INHDR": _lifetime,
    "DEV_READY": _link_down,
    "QDISC_DROP": _link_down,
    "NOT_SPECIFIED": _not_specified,
}
