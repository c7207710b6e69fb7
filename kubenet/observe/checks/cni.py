"""Every pod's wiring, in the pod and on its node; and that the nodes forward. *Pure.*"""

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network

from kubenet.model.links import IPAddress, Link, LinkKind, Route
from kubenet.model.objects import Pod
from kubenet.observe.checks.base import Verdict, cidr_of, command, ip_of, nodes_seen, running_pods, tunnel_of
from kubenet.observe.findings import Finding
from kubenet.observe.rule_text import Listing, listing
from kubenet.observe.snapshot import Snapshot
from kubenet.observe.state import PlaceState, route_to

EVERYWHERE = IPv4Network("0.0.0.0/0")


def check_cni(snapshot: Snapshot) -> Verdict:
    """Compare pods with what the API server says they have."""
    pods = running_pods(snapshot)
    findings = [found for pod in pods for found in _pod(snapshot, pod)]
    findings += _twice(snapshot, pods)
    for _, state in nodes_seen(snapshot):
        findings += [*_node(snapshot, state), *_orphans(snapshot, state)]
    for node in snapshot.cluster.nodes:
        ready = [c for c in node.status.conditions if c.type == "Ready"]
        if ready and ready[0].status != "True":
            said = ready[0].message or ready[0].reason
            step = f"kubectl describe node {node.metadata.name}"
            findings.append(Finding("E_NODE_NOT_READY", node.metadata.name, said, step))
    return Verdict("cni", f"{len(pods)} pods: address, route, both ends", tuple(findings), len(pods))


def _pod(snapshot: Snapshot, pod: Pod) -> Iterator[Finding]:
    key, ip = pod.metadata.key, ip_of(pod)
    assert ip is not None
    state = snapshot.states[key]
    own = [a for a in state.links.addresses if a.interface.ip == ip]
    if not own:
        has = ", ".join(str(a.interface) for a in state.links.addresses) or "none"
        yield Finding(
            "E_POD_ADDRESS",
            key,
            f"{key} has {has}; the API server says {ip}",
            command(snapshot, key, "ip address"),
        )
        return
    ifname = own[0].ifname
    link = state.links.links[ifname]
    if not link.up:
        yield Finding(
            "E_POD_LINK_DOWN",
            key,
            f"{ifname} of {key} is down",
            command(snapshot, key, f"ip link set {ifname} up"),
            ifname,
        )
    yield from _prefix(snapshot, pod, own[0].interface.network.prefixlen, ifname)
    default = route_to(state.links, IPv4Address("198.51.100.1"))
    if default is None:
        yield Finding(
            "E_POD_NO_ROUTE", key, f"{key} has no default route", command(snapshot, key, "ip route"), ifname
        )
    elif _is_silent(default.gateway) and (ifname, default.gateway) not in state.links.neighbors:
        words = f"{key} has no neighbour entry for its gateway {default.gateway}"
        yield Finding("E_POD_GATEWAY", key, words, command(snapshot, key, "ip neigh"), ifname)
    yield from _size(snapshot, pod, link)
    yield from _node_side(snapshot, pod, ip, link.mac or "")


def _size(snapshot: Snapshot, pod: Pod, link: Link) -> Iterator[Finding]:
    node = snapshot.states.get(pod.spec.node_name)
    tunnel = tunnel_of(node) if node else None
    if tunnel is not None and link.mtu > tunnel.mtu:
        key = pod.metadata.key
        words = f"{link.ifname} of {key} sends up to {link.mtu} bytes, its node's tunnel takes {tunnel.mtu}"
        yield Finding("E_MTU", key, words, command(snapshot, key, "ip link"), link.ifname)


def _is_silent(gateway: IPAddress | None) -> bool:
    """Whether nobody answers ARP for a gateway: routed pods have a link-local one."""
    return gateway is not None and gateway.is_link_local


def _prefix(snapshot: Snapshot, pod: Pod, length: int, ifname: str) -> Iterator[Finding]:
    node = next((n for n in snapshot.cluster.nodes if n.metadata.name == pod.spec.node_name), None)
    cidr = cidr_of(node) if node else None
    if length != 32 and cidr is not None and length < cidr.prefixlen:
        key = pod.metadata.key
        words = f"{key} has a prefix of /{length}, wider than its node's {cidr}"
        yield Finding("E_POD_ADDRESS", key, words, command(snapshot, key, "ip address"), ifname)


def _node_side(snapshot: Snapshot, pod: Pod, ip: IPv4Address, mac: str) -> Iterator[Finding]:
    """Look for the way from the node to its pod."""
    key, node = pod.metadata.key, pod.spec.node_name
    state = snapshot.states.get(node)
    if state is None:
        return
    step = command(snapshot, node, f"ip route get {ip}")
    route = route_to(state.links, ip)
    link = state.links.links.get(route.ifname) if route else None
    if route is None or route.unreachable or link is None or _is_wrong_way(route, state):
        leads = "nowhere" if route is None or route.unreachable else f"to {route.ifname}"
        yield Finding(
            "E_POD_HOST_ROUTE", node, f"the way from {node} to its pod {key} ({ip}) leads {leads}", step
        )
        return
    if not link.up:
        words = f"{link.ifname} of {node}, the other end of {key}, is down"
        step = command(snapshot, node, f"ip link set {link.ifname} up")
        yield Finding("E_POD_LINK_DOWN", node, words, step, link.ifname)
    yield from _gateway_mac(snapshot, key, link)
    neighbor = state.links.neighbors.get((route.ifname, ip))
    routed = route.destination.prefixlen == 32 and link.kind is LinkKind.VETH
    if routed and (neighbor is None or (mac and neighbor.mac != mac)):
        has = f"{neighbor.mac}" if neighbor else "none"
        words = f"{node} has the MAC address {has} for its pod {key}, which has {mac}"
        yield Finding("E_POD_HOST_ROUTE", node, words, command(snapshot, node, "ip neigh"), route.ifname)


def _gateway_mac(snapshot: Snapshot, key: str, link: Link) -> Iterator[Finding]:
    """Compare whom a routed pod takes for its gateway with the other end of its cable."""
    for (ifname, ip), neighbor in snapshot.states[key].links.neighbors.items():
        if ip.is_link_local and ip.version == 4 and link.mac and neighbor.mac != link.mac:
            words = f"{key} takes {neighbor.mac} for its gateway; the other end of its cable is {link.mac}"
            yield Finding("E_POD_GATEWAY", key, words, command(snapshot, key, "ip neigh"), ifname)


def _is_wrong_way(route: Route, state: PlaceState) -> bool:
    """Whether a route to a pod of the node itself leads away from the node."""
    return route.destination.prefixlen == 0 or state.links.links[route.ifname].kind is LinkKind.VXLAN


def _twice(snapshot: Snapshot, pods: list[Pod]) -> Iterator[Finding]:
    holders: dict[IPv4Address, list[str]] = {}
    for pod in pods:
        for entry in snapshot.states[pod.metadata.key].links.addresses:
            if isinstance(entry.interface.ip, IPv4Address) and not entry.interface.ip.is_loopback:
                holders.setdefault(entry.interface.ip, []).append(pod.metadata.key)
    for ip, keys in holders.items():
        if len(set(keys)) > 1:
            words = f"{ip} is on {', '.join(sorted(set(keys)))}"
            yield Finding("E_DUPLICATE_IP", sorted(keys)[0], words, "kubenet ipam audit")


def _orphans(snapshot: Snapshot, state: PlaceState) -> Iterator[Finding]:
    """Look for cables that should be ports: with bridge wiring, all but the one to the other nodes."""
    name, links = state.place.name, state.links.links
    own = {entry.ifname for entry in state.links.addresses}
    bridges = [link for link in links.values() if link.kind is LinkKind.BRIDGE and link.ifname in own]
    routed = {route.ifname for route in state.links.routes.values()}
    if len(bridges) != 1:
        return
    for ifname, link in links.items():
        if link.kind is LinkKind.VETH and not link.master and ifname not in own | routed:
            words = f"{ifname} of {name} is no port of {bridges[0].ifname}"
            step = command(snapshot, name, f"ip link set {ifname} master {bridges[0].ifname}")
            yield Finding("E_POD_BRIDGE_PORT", name, words, step, ifname)


def _node(snapshot: Snapshot, state: PlaceState) -> Iterator[Finding]:
    name = state.place.name
    if not state.forwards:
        yield Finding(
            "E_NODE_FORWARD_OFF",
            name,
            f"{name} does not forward packets: net.ipv4.ip_forward = 0",
            command(snapshot, name, "sysctl -w net.ipv4.ip_forward=1"),
        )
    if state.policy:
        rules = "; ".join(rule.text for rule in state.policy)
        yield Finding("E_POLICY_ROUTING", name, f"{name}: {rules}", command(snapshot, name, "ip rule"))
    if state.unroutable:
        words = f"{name}: {'; '.join(state.unroutable)}"
        yield Finding("E_BLACKHOLE", name, words, command(snapshot, name, "ip route show table all"))
    if _drops_forwarded(state):
        words = f"{name}: chain FORWARD drops by policy, and no rule accepts pods' packets"
        yield Finding("E_FORWARD_POLICY", name, words, command(snapshot, name, "iptables -S FORWARD"))
    count, most = (state.sysctls.get(f"net.netfilter.nf_conntrack_{key}", "") for key in ("count", "max"))
    if count.isdecimal() and most.isdecimal() and 0 < int(most) <= int(count):
        words = f"{name} tracks {count} connections, and may track {most}"
        yield Finding("E_CONNTRACK_FULL", name, words, command(snapshot, name, "conntrack -S"))


def _drops_forwarded(state: PlaceState) -> bool:
    """Whether a chain for forwarded packets drops by policy, and no rule could accept pods' packets."""
    for saved in (state.iptables, state.legacy):
        _, found, table = saved.partition("*filter")
        table = table.partition("COMMIT")[0]
        if found and ":FORWARD DROP" in table and "-j KUBENET-FORWARD" not in table:
            return True
    read = listing(state.nft, state.iptables)
    dropping = [
        chain
        for chain, hook in read.hooks.items()
        if hook == "forward" and read.policies[chain] == "drop" and chain[0] not in read.by_iptables
    ]
    return any(not _may_accept(read, *chain) for chain in dropping)


def _may_accept(read: Listing, table: str, chain: str) -> bool:
    texts = [rule.text for (t, c, _), rule in read.rules.items() if (t, c) == (table, chain)]
    return any(
        ("accept" in text and "ct state" not in text) or "jump" in text or "goto" in text for text in texts
    )
