"""A bad wire: loss and partitions between nodes, a smaller MTU and a lower rate at one. *Pure.*

Made without netem, which many kernels lack: loss and partitions by a table of packet filters of the wire's
own bridge, rates by a token bucket at the node's port, MTU at that port. The whole state is one value, so an
impairment that is added leaves the others as they are.
"""

import re
from collections.abc import Iterable, Sequence

import msgspec

from kubenet.errors import InvalidInput

TABLE = "impairments"
ANY = "*"
_RATE = re.compile(r"[1-9]\d{0,5}(kbit|mbit|gbit)")


class Impairment(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"source": "from"}):
    """What happens to frames from one node (or ``*``) to another (or ``*``). Loss is one way only."""

    source: str = ANY
    to: str = ANY
    loss_percent: float = msgspec.field(name="lossPercent", default=0.0)
    partition: bool = False  # nothing passes, in either direction
    mtu: int = 0  # of the port of the node ``to``; 0: as it is
    rate: str = ""  # what the node ``to`` receives at most: 10mbit

    def __str__(self) -> str:
        said = [f"loss {self.loss_percent:g} %"] if self.loss_percent else []
        said += ["partition"] if self.partition else []
        said += [f"mtu {self.mtu}"] if self.mtu else []
        said += [f"rate {self.rate}"] if self.rate else []
        arrow = "<->" if self.partition else "->"
        return f"{self.source} {arrow} {self.to}: {', '.join(said)}"


def checked(impairments: Iterable[Impairment], nodes: Sequence[str]) -> tuple[Impairment, ...]:
    """Return the impairments if a wire with these nodes can have them. Raises InvalidInput."""
    found = tuple(impairments)
    for each in found:
        for name in (each.source, each.to):
            if name not in (ANY, *nodes):
                raise InvalidInput(f"{each}: no node {name!r}", f"use one of: {', '.join(nodes)}, or {ANY}")
        _check_values(each)
    return found


def _check_values(each: Impairment) -> None:
    if not 0 <= each.loss_percent <= 100:
        raise InvalidInput(f"{each}: a loss is 0 to 100 percent")
    if each.mtu and not 68 <= each.mtu <= 9000:
        raise InvalidInput(f"{each}: an MTU is 68 to 9000 bytes")
    if each.rate and not _RATE.fullmatch(each.rate):
        raise InvalidInput(f"{each}: a rate is a number and kbit, mbit or gbit", "for example 10mbit")
    if (each.mtu or each.rate) and each.to == ANY:
        raise InvalidInput(f"{each}: an MTU or a rate is one node's", "name the node with 'to'")
    if not (each.loss_percent or each.partition or each.mtu or each.rate):
        raise InvalidInput(
            f"from {each.source} to {each.to}: nothing is impaired", "say loss, partition, mtu or rate"
        )


def filter_text(impairments: Iterable[Impairment]) -> str:
    """Return the table of packet filters for the wire, in nft's language; it replaces the last one."""
    rules = [rule for each in impairments for rule in _rules(each)]
    removal = f"table bridge {TABLE} {{}}\ndelete table bridge {TABLE}\n"
    if not rules:
        return removal
    body = "\n".join(f"    {rule}" for rule in rules)
    head = "type filter hook forward priority 0; policy accept;"
    return f"{removal}table bridge {TABLE} {{\n  chain forward {{\n    {head}\n{body}\n  }}\n}}\n"


def mtus(impairments: Iterable[Impairment], nodes: Iterable[str], whole: int) -> dict[str, int]:
    """Return the MTU of each node's port: the smallest that is asked for, else ``whole``."""
    asked = [each for each in impairments if each.mtu]
    return {node: min((each.mtu for each in asked if each.to == node), default=whole) for node in nodes}


def rates(impairments: Iterable[Impairment], nodes: Iterable[str]) -> dict[str, str]:
    """Return the rate of each node's port; empty: without limit."""
    asked = {each.to: each.rate for each in impairments if each.rate}
    return {node: asked.get(node, "") for node in nodes}


def _rules(each: Impairment) -> list[str]:
    if each.partition:
        return [f"{_between(each.source, each.to)}drop", f"{_between(each.to, each.source)}drop"]
    if each.loss_percent:
        # numgen counts in whole steps; a ten-thousandth is fine enough.
        return [
            f"{_between(each.source, each.to)}numgen random mod 10000 < {round(each.loss_percent * 100)} drop"
        ]
    return []


def _between(source: str, to: str) -> str:
    """Names of nodes are names of ports; they were checked to be some that we gave."""
    words = [f'iifname "{source}" '] if source != ANY else []
    words += [f'oifname "{to}" '] if to != ANY else []
    return "".join(words)
