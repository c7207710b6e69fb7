"""What carries the tunnel: the wire's ports, and packet filters that are nobody's of ours. *Pure.*"""

import re
from collections.abc import Iterator

from kubenet.observe.checks.base import Verdict, command, nodes_seen
from kubenet.observe.events import PlaceKind
from kubenet.observe.findings import Finding
from kubenet.observe.snapshot import Snapshot
from kubenet.observe.state import PlaceState

UNDERLAY_IFNAME = "eth0"
_TABLE = re.compile(r"^table (\w+) (\S+) \{.*?$(.*?)^\}", re.MULTILINE | re.DOTALL)
_ACTS = re.compile(r"policy drop|\b(?:drop|reject|masquerade|snat|dnat|redirect)\b")
# Those of iptables and of kubenet are judged by others.
_OURS = re.compile(r"kubenet.*|kube-proxy|filter|nat|mangle|raw|security")


def check_underlay(snapshot: Snapshot) -> Verdict:
    """Look at the ports of a lab's wire, and for packet filters of others on every node."""
    wire = next((s for s in snapshot.states.values() if s.place.kind is PlaceKind.WIRE), None)
    states = [state for _, state in nodes_seen(snapshot)]
    findings = [*(_ports(snapshot, wire) if wire else ())]
    for state in (*states, *((wire,) if wire else ())):
        findings += _strangers(snapshot, state)
    return Verdict("underlay", f"{len(states)} nodes: ports, packet filters", tuple(findings), len(states))


def _ports(snapshot: Snapshot, wire: PlaceState) -> Iterator[Finding]:
    name = wire.place.name
    for node, state in nodes_seen(snapshot):
        port, own = wire.links.links.get(node.metadata.name), state.links.links.get(UNDERLAY_IFNAME)
        if port is None or own is None:
            continue
        step = command(snapshot, name, f"ip link show {port.ifname}")
        if not port.up or not own.up:
            where, end = (name, port.ifname) if not port.up else (node.metadata.name, own.ifname)
            yield Finding("E_UNDERLAY_DOWN", where, f"{end} of {where} is down", step, end)
        elif port.mtu < own.mtu:
            words = f"port {port.ifname} of the {name} takes {port.mtu} bytes; the node sends up to {own.mtu}"
            yield Finding("E_UNDERLAY_MTU", name, words, step, port.ifname)


def _strangers(snapshot: Snapshot, state: PlaceState) -> Iterator[Finding]:
    """A packet filter of somebody else may be meant so: it is a warning."""
    place = state.place.name
    for family, table, body in _TABLE.findall(state.nft):
        act = _ACTS.search(body)
        if act is None or _OURS.fullmatch(table):
            continue
        step = command(snapshot, place, f"nft list table {family} {table}")
        yield Finding(
            "W_FOREIGN_FILTER", place, f"{place} has a table '{family} {table}' that says {act[0]}", step
        )
