"""Rules for many addresses, spread over chains so that a packet passes few of them. *Pure.*

A list of rules costs a packet one comparison each: with 30,000 services the first packet of a connection
walks 30,000. Here a chain of more than ``MANY`` rules is cut by the next four bits in which its addresses
differ, and each part again, so a packet passes at most 16 jumps a level. Parts are named by their network: a
service that comes or goes changes the chain that it is in, and no other.

    -A KUBE-SERVICES -d 10.96.16.0/20 -j KUBE-IP-10.96.16.0-20
    -A KUBE-IP-10.96.16.0-20 -d 10.96.17.0/24 -j KUBE-IP-10.96.17.0-24
"""

import base64
import hashlib
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from itertools import groupby

from kubenet.model.iptables import CHAIN_NAME_LENGTH, Destination, Jump, Rule, Rules
from proxy.ports import IPNetwork
from proxy.service_rules import AddressRule

SUB_CHAINS = ("KUBE-IP-", "KUBE-XIP-", "KUBE-FIP-")  # what the names begin with: services, external, firewall
MANY = 32
_BITS = 4

_Placed = tuple[int, Rule]


def fan_out(rules: Iterable[AddressRule], prefix: str) -> tuple[Rules, dict[str, Rules]]:
    """Return the rules to begin with, and the chains they jump to, whose names begin with ``prefix``.

    All addresses are of one family. A packet that no rule takes comes back to where it began.
    """
    entries = list(rules)
    if len(entries) <= MANY:
        return tuple(rule for _, rule in entries), {}
    version = entries[0][0].version
    # Equal addresses keep their order; so the result is the same whenever what comes in is.
    placed = sorted(((int(ip), rule) for ip, rule in entries), key=lambda entry: entry[0])
    chains: dict[str, Rules] = {}
    return _spread(placed, 4 if version == 4 else 6, prefix, chains), chains


def _spread(placed: Sequence[_Placed], version: int, prefix: str, chains: dict[str, Rules]) -> Rules:
    differing = placed[0][0] ^ placed[-1][0]
    if len(placed) <= MANY or not differing:
        return tuple(rule for _, rule in placed)
    low = (differing.bit_length() - 1) // _BITS * _BITS  # bits that all parts are left with
    begin: list[Rule] = []
    for high, group in groupby(placed, key=lambda entry: entry[0] >> low):
        part = list(group)
        if len(part) == 1:
            begin.append(part[0][1])
            continue
        network = _network(high << low, low, version)
        name = _name(prefix, network)
        chains[name] = _spread(part, version, prefix, chains)
        begin.append(Rule((Destination(network),), Jump(name)))
    return tuple(begin)


def _network(first: int, low: int, version: int) -> IPNetwork:
    if version == 4:
        return IPv4Network((IPv4Address(first), 32 - low))
    return IPv6Network((IPv6Address(first), 128 - low))


def _name(prefix: str, network: IPNetwork) -> str:
    words = f"{network.network_address}-{network.prefixlen}"
    if network.version == 4:
        return prefix + words
    # An IPv6 network can be longer than a name.
    digest = base64.b32encode(hashlib.sha256(words.encode()).digest()).decode()
    return (prefix + digest)[:CHAIN_NAME_LENGTH]
