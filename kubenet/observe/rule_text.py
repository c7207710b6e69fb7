"""What the rules that a kernel reports by number say, and which Kubernetes object each is for. *Pure.*

nftables lists its rules with handles. iptables over nftables reports the same handles, but nft cannot print
what its rules say: they are matched with iptables-save by their place in the chain. Legacy iptables reports
places itself.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address

from kubenet.model.packet import Packet
from kubenet.observe.names import Names

RuleKey = tuple[str, str, int]
"""Table, chain, and handle or place."""

_TABLE = re.compile(r"table (\w+) (\S+) \{")
_CHAIN = re.compile(r"\s+chain (\S+) \{")
_HOOK = re.compile(r"type (\w+) hook (\w+) .*?priority ([^;]+);(?: policy (\w+);)?")
_RULE = re.compile(r"\s+(.*) # handle (\d+)$")
_COMMENT = re.compile(r'comment "(.*)"$')
_SAVED_COMMENT = re.compile(r'-m comment --comment (?:"((?:[^"\\]|\\.)*)"|(\S+)) ?')
_MANAGED = ("nat", "filter", "raw", "mangle", "security")  # tables that iptables over nftables keeps


@dataclass(frozen=True, slots=True)
class RuleText:
    """One rule."""

    text: str
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Listing:
    """The rules of one place."""

    rules: Mapping[RuleKey, RuleText]
    hooks: Mapping[tuple[str, str], str]  # table and chain -> prerouting, forward...
    policies: Mapping[tuple[str, str], str]
    by_iptables: frozenset[str] = frozenset()  # tables whose rules are iptables' own


def listing(nft: str, iptables: str = "", legacy: str = "") -> Listing:
    """Return what the three programs print as one value; what is not used is empty."""
    rules: dict[RuleKey, RuleText] = {}
    hooks: dict[tuple[str, str], str] = {}
    policies: dict[tuple[str, str], str] = {}
    handles: dict[tuple[str, str], list[int]] = {}
    for table, chain, line in _nft_lines(nft):
        if found := _HOOK.search(line):
            hooks[table, chain] = found[2]
            policies[table, chain] = found[4] or "accept"
        elif found := _RULE.match(line):
            handle = int(found[2])
            rules[table, chain, handle] = _nft_text(found[1])
            handles.setdefault((table, chain), []).append(handle)
    saved = dict(_saved_rules(iptables))
    for (table, chain, place), text in saved.items():
        order = handles.get((table, chain), [])
        if place <= len(order):
            rules[table, chain, order[place - 1]] = text
    rules |= dict(_saved_rules(legacy))
    managed = frozenset(table for table, _, _ in saved)
    return Listing(rules, hooks, policies, managed)


def _nft_lines(nft: str) -> Iterator[tuple[str, str, str]]:
    """Yield each line of the chains of IPv4 tables."""
    table = chain = ""
    for line in nft.splitlines():
        if found := _TABLE.match(line):
            table, chain = (found[2] if found[1] in ("ip", "inet", "bridge", "netdev") else ""), ""
        elif found := _CHAIN.match(line):
            chain = found[1]
        elif table and chain:
            yield table, chain, line


def _nft_text(text: str) -> RuleText:
    comment = _COMMENT.search(text)
    plain = text[: comment.start()].strip() if comment else text
    return RuleText(plain, comment[1] if comment else "")


def _saved_rules(saved: str) -> Iterator[tuple[RuleKey, RuleText]]:
    """Yield the rules of an iptables-save by their places from 1 on."""
    table = ""
    places: dict[str, int] = {}
    for line in saved.splitlines():
        if line.startswith("*"):
            table, places = line[1:].strip(), {}
        elif line.startswith("-A "):
            _, chain, text = (*line.split(" ", 2), "")[:3]
            places[chain] = places.get(chain, 0) + 1
            comment = _SAVED_COMMENT.search(text)
            said = (comment[1] or comment[2] or "") if comment else ""
            plain = (text[: comment.start()] + text[comment.end() :]) if comment else text
            yield (table, chain, places[chain]), RuleText(plain.strip(), said)


_KUBE_PROXY_NFT = re.compile(
    r"(service|endpoint|external|firewall)-[A-Z0-9]+-([^/]+)/([^/]+)/\w+/(\w*)(?:__([\d.]+)/(\d+))?$"
)
_NAMED = re.compile(r"([a-z0-9][a-z0-9.-]*/[a-z0-9][a-z0-9.-]*(?::[\w.-]+)?)")
_TO = re.compile(r"--to-destination ([\d.]+):(\d+)")


def object_of(rule: RuleText, chain: str, packet: Packet | None, names: Names) -> str:
    """Return the Kubernetes object that a rule is there for; empty when it is for none in particular."""
    if found := _TO.search(rule.text):
        return f"endpoint {names.whose(IPv4Address(found[1]))} {found[1]}:{found[2]}"
    if found := _KUBE_PROXY_NFT.match(chain):
        if found[5]:
            return f"endpoint {names.whose(IPv4Address(found[5]))} {found[5]}:{found[6]}"
        return f"service {found[2]}/{found[3]}" + (f":{found[4]}" if found[4] else "")
    known = set(names.cluster_ips.values())
    for candidate in _NAMED.findall(rule.comment):
        if candidate.partition(":")[0] in known:
            return f"service {candidate}"
    if packet is not None and _serves(chain):
        flow = packet.flow
        service = names.service_at(flow.destination, flow.protocol, flow.destination_port)
        if service:
            return f"service {service}"
    return ""


def _serves(chain: str) -> bool:
    """Whether a rule of our nftables backend is there for the Service that the packet is sent to."""
    return chain in ("dispatch", "at-node-ports") or chain.startswith(
        ("vip-", "pick-", "turns-", "outside-", "address-", "port-", "rejecting", "dropping")
    )
