"""What a node's nftables hold for its pods: the ports that lead to them, and who may send as whom. *Pure.*

    any      protocol . port            -> pod . port   ports at every address of the node
    ports    address . protocol . port  -> pod . port   those at one address
    targets  pod . protocol . port                      where they lead
    loops    pod . pod                                  of each pod with a port

A port is three elements, whatever else is there. The chains never change. They come right behind
those of Services, so a port of a pod never takes traffic from a Service (CVE-2019-9946). A pod that reaches
itself through its own port, and with a bridge any pod of the same node, must see the node as the other side,
or it would answer past it; and so must the pod that a process of the node reaches through 127.0.0.1. (IPv6
lets nothing leave ``lo`` from ::1; from another of its addresses the node reaches a port at ::1.)

The way back from such a pod to 127.0.0.1 needs ``route_localnet`` on its link, and on no other. What comes by
any link but ``lo`` for 127.0.0.0/8 is dropped before all else, so nothing that listens there, and no port at
127.0.0.1, can be reached from outside (CVE-2020-8558).

With routed wiring a pod is a link of its own, so one rule for all of them says that a packet's source is the
pod's: the way back to it must be the link it came by. Nothing else of a pod's lies can arrive anywhere: both
neighbours are permanent, frames and broadcasts end at the node, and a router believes no advertisements.

Source: CNI conventions, ``portMappings``; nft(8) "NAT statements".
"""

from collections.abc import Iterable, Mapping
from ipaddress import ip_network

from ipam.record import AllocationRecord, HostPort
from kubenet.model.links import IPAddress, IPNetwork
from kubenet.model.nft import (
    Chain,
    Family,
    From,
    FromElsewhere,
    Hook,
    InInterface,
    InSet,
    Load,
    Masquerade,
    Rule,
    Ruleset,
    SendTo,
    To,
    ToThisNode,
    Translated,
    Verdict,
)
from kubenet.model.nft_fields import Field, Set
from kubenet.model.protocol import Protocol

TABLE = "kubenet-cni"
ANY, PORTS, TARGETS, LOOPS = "any", "ports", "targets", "loops"
BRIDGE_IFNAMES = "cni0"

_FIRST_OF_ALL = -300  # NF_IP_PRI_RAW: before connection tracking
# NF_IP_PRI_NAT_DST is -100; what others send elsewhere there is not ours any more.
_BEHIND_SERVICES = -99
_MASQUERADE = 99  # NF_IP_PRI_NAT_SRC is 100: before others give the connection a source
_LOOPBACK: Mapping[Family, IPNetwork] = {4: ip_network("127.0.0.0/8"), 6: ip_network("::1/128")}
_PROTOCOL_BYTES: Mapping[Protocol, bytes] = {
    Protocol.TCP: b"\x06\0\0\0",
    Protocol.UDP: b"\x11\0\0\0",
    Protocol.SCTP: b"\x84\0\0\0",
}  # IANA protocol numbers, filled up to four bytes

Contents = dict[str, dict[bytes, bytes]]
"""Elements by set."""


def sets_of(family: Family) -> dict[str, Set]:
    """Return the sets and maps of the table."""
    ip = Field.ADDRESS_V4 if family == 4 else Field.ADDRESS_V6
    port = (Field.PROTOCOL, Field.PORT)
    return {
        ANY: Set(port, (ip, Field.PORT)),
        PORTS: Set((ip, *port), (ip, Field.PORT)),
        TARGETS: Set((ip, *port)),
        LOOPS: Set((ip, ip)),
    }


def chains_of(family: Family) -> dict[str, Chain]:
    """Return the chains of the table."""
    send: tuple[Rule, ...] = (
        (SendTo((Load.DESTINATION, Load.PROTOCOL, Load.PORT), PORTS),),
        (ToThisNode(), SendTo((Load.PROTOCOL, Load.PORT), ANY)),
    )
    to_target = InSet((Load.DESTINATION, Load.PROTOCOL, Load.PORT), TARGETS)
    back: tuple[Rule, ...] = (
        (Translated(), InSet((Load.SOURCE, Load.DESTINATION), LOOPS), Masquerade()),
        (Translated(), InInterface(BRIDGE_IFNAMES), to_target, Masquerade()),
        (Translated(), From(_LOOPBACK[family]), to_target, Masquerade()),
    )
    # Links that begin like those of pods and are none: the tunnel's.
    guard: tuple[Rule, ...] = (
        (InInterface("lo", negated=True), To(_LOOPBACK[family]), Verdict.DROP),
        (InInterface("kubenet.+"), Verdict.RETURN),
        (InInterface("k+"), FromElsewhere(), Verdict.DROP),
    )
    return {
        "guard": Chain(guard, Hook.PREROUTING, _FIRST_OF_ALL, "filter"),
        "prerouting": Chain(send, Hook.PREROUTING, _BEHIND_SERVICES),
        "output": Chain(send, Hook.OUTPUT, _BEHIND_SERVICES),
        "postrouting": Chain(back, Hook.POSTROUTING, _MASQUERADE),
    }


def ruleset_of(family: Family, published: Iterable[Contents]) -> Ruleset:
    """Return the whole table."""
    return Ruleset(family, sets_of(family), chains_of(family), merged(published))


def merged(parts: Iterable[Contents]) -> Contents:
    """Return the elements of all parts."""
    elements: Contents = {}
    for contents in parts:
        for name, each in contents.items():
            elements.setdefault(name, {}).update(each)
    return elements


def contents_of(record: AllocationRecord, family: Family) -> Contents:
    """Return the elements of one pod; nothing if it has no port of that family."""
    contents: Contents = {}
    for pod_ip in record.addresses:
        for host_port in record.host_ports:
            if pod_ip.version == family and (host_port.ip is None or host_port.ip.version == family):
                _add(contents, host_port, pod_ip)
    return contents


def _add(contents: Contents, host_port: HostPort, pod_ip: IPAddress) -> None:
    protocol, port = _PROTOCOL_BYTES[host_port.protocol], _port_bytes(host_port.port)
    target_port = _port_bytes(host_port.container_port)
    target = pod_ip.packed + target_port
    if host_port.ip is None or host_port.ip.is_unspecified:  # runtimes write "every address" either way
        contents.setdefault(ANY, {})[protocol + port] = target
    else:
        contents.setdefault(PORTS, {})[host_port.ip.packed + protocol + port] = target
    contents.setdefault(TARGETS, {})[pod_ip.packed + protocol + target_port] = b""
    contents.setdefault(LOOPS, {})[pod_ip.packed + pod_ip.packed] = b""


def clash(contents: Contents, others: Mapping[str, Contents]) -> str:
    """Return the holder of a port that ``contents`` also wants; an empty string if all are free."""
    for holder, held in others.items():
        if any(held.get(name, {}).keys() & contents.get(name, {}).keys() for name in (ANY, PORTS)):
            return holder
    return ""


def _port_bytes(port: int) -> bytes:
    return port.to_bytes(2, "big") + b"\0\0"
