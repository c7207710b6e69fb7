"""Routing rules beside the usual, and routes that end packets: what a simple routing table does not show.

Source: ip-rule(8), linux/fib_rules.h, linux/rtnetlink.h.
"""

from collections.abc import Iterator
from ipaddress import IPv4Address

from kubenet.kernel import codec, uapi
from kubenet.kernel.codec import RTMSG
from kubenet.kernel.netlink import Attributes, Request, attributes, fixed_part, number_in, text_in
from kubenet.kernel.rtnl import Rtnl

_RTM_GETRULE = 34
_FRA_DST, _FRA_SRC, _FRA_IIFNAME, _FRA_PRIORITY, _FRA_FWMARK, _FRA_TABLE = 1, 2, 3, 6, 10, 15
_FR_ACT_TO_TBL = 1
_ACTIONS = {6: "blackhole", 7: "unreachable", 8: "prohibit"}
_USUAL = (0, 32766, 32767)  # local, main, default
_STOPPING = {6: "blackhole", 8: "prohibit", 9: "throw"}  # RTN_*


def rules_beside_the_usual(rtnl: Rtnl) -> list[tuple[int, str]]:
    """Return priority and words of the IPv4 rules that are not the kernel's own three."""
    request = Request(_RTM_GETRULE, uapi.NLM_F_DUMP, bytes([uapi.AF_INET]) + bytes(11), "read routing rules")
    return [told for body in rtnl.dump(request) if (told := _rule(body))]


def _rule(body: bytes) -> tuple[int, str] | None:
    _, to_bits, from_bits, _, table, _, _, action, _ = fixed_part(RTMSG, body)
    found = attributes(body, RTMSG.size)
    priority = number_in(found, _FRA_PRIORITY)
    if priority in _USUAL:
        return None
    return priority, " ".join(
        _words(found, from_bits, to_bits, action, number_in(found, _FRA_TABLE) or table)
    )


def _words(found: Attributes, from_bits: int, to_bits: int, action: int, table: int) -> Iterator[str]:
    yield f"from {_prefix(found.get(_FRA_SRC), from_bits)}"
    if _FRA_DST in found:
        yield f"to {_prefix(found[_FRA_DST], to_bits)}"
    if _FRA_IIFNAME in found:
        yield f"iif {text_in(found, _FRA_IIFNAME)}"
    if _FRA_FWMARK in found:
        yield f"fwmark {number_in(found, _FRA_FWMARK):#x}"
    yield f"lookup {table}" if action == _FR_ACT_TO_TBL else _ACTIONS.get(action, f"action {action}")


def _prefix(packed: bytes | None, bits: int) -> str:
    if packed is None or len(packed) != 4:
        return "all"
    return f"{IPv4Address(packed)}" + (f"/{bits}" if bits != 32 else "")


def routes_that_stop(rtnl: Rtnl) -> list[str]:
    """Return the IPv4 routes of all tables that end packets on purpose, in ip(8)'s words."""
    stops: list[str] = []
    for body in rtnl.dump(codec.get_routes()):
        family, bits, _, _, table, _, _, kind, _ = fixed_part(RTMSG, body)
        if family != uapi.AF_INET or kind not in _STOPPING:
            continue
        found = attributes(body, RTMSG.size)
        table = number_in(found, uapi.RTA_TABLE) or table
        to = _prefix(found.get(uapi.RTA_DST), bits).replace("all", "default")
        stops.append(f"{_STOPPING[kind]} {to}" + (f" table {table}" if table != uapi.RT_TABLE_MAIN else ""))
    return stops
