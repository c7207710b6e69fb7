"""Whether packets that a node sends into its tunnel arrive with right checksums.

Some devices compute wrong checksums for packets inside of packets, or none: pings pass, and all TCP and UDP
is dropped by the receiver (flannel#1279, calico#3145). The cure, to compute them before the tunnel, halves
the speed of TCP. So nothing is done before the fault is seen, and nothing stays that does not help:

- a peer's tunnel end answers a ping, whose checksum no device computes;
- a datagram to a port of it where nobody listens is answered by ICMP if its checksum was right, else not;
- then the same without offload. If that is answered the offload stays off, else it is on again.

Source: RFC 792, RFC 1122 section 4.1.3.4, RFC 4443.
"""

import logging
import os
import socket
import struct
from collections.abc import Callable, Iterable
from enum import Enum

from kubenet.kernel import offload
from kubenet.kernel.netns import NetNs
from kubenet.model.links import IPAddress

log = logging.getLogger(__name__)

ANSWER_WITHIN_S = 0.5
TRIES = 3
NOBODYS_PORT = 9  # "discard": a node serves it nowhere, and if it does, it says nothing
_ECHO = {4: (8, 0), 6: (128, 129)}  # request and reply


class Proof(Enum):
    """What is known of the checksums of a tunnel."""

    UNKNOWN = "unknown"  # no peer answers
    RIGHT = "right"
    REPAIRED = "repaired"  # without offload they are


def prove(netns: NetNs, ifname: str, peers: Iterable[IPAddress]) -> Proof:
    """Find out by the tunnel ends ``peers``, and turn the offload of ``ifname`` off if that helps.

    Blocks for as long as peers do not answer. Raises KubenetError.
    """
    for peer in peers:
        if not _tried(answers_ping, netns, peer):
            continue
        if _tried(refuses, netns, peer):
            return Proof.RIGHT if offload.leaves_checksums(netns, ifname) else Proof.REPAIRED
        offload.leave_checksums(netns, ifname, on=False)
        if _tried(refuses, netns, peer):
            log.warning(
                "cni: checksums of %s are computed wrongly below it: they are computed before", ifname
            )
            return Proof.REPAIRED
        offload.leave_checksums(netns, ifname, on=True)
    return Proof.UNKNOWN


def answers_ping(netns: NetNs, peer: IPAddress) -> bool:
    """Whether the peer answers one ping."""
    family, protocol = (
        (socket.AF_INET, socket.IPPROTO_ICMP)
        if peer.version == 4
        else (socket.AF_INET6, socket.IPPROTO_ICMPV6)
    )
    request, reply = _ECHO[peer.version]
    token = os.urandom(8)
    try:
        with netns.socket(family, socket.SOCK_RAW, protocol) as asking:
            asking.settimeout(ANSWER_WITHIN_S)
            asking.sendto(_echo(request, token, checked=peer.version == 4), (str(peer), 0))
            for _ in range(64):  # it also hears what others are answered
                heard = asking.recv(2048)
                message = heard[(heard[0] & 15) * 4 :] if peer.version == 4 else heard
                if message[:1] == bytes([reply]) and token in message:
                    return True
    except OSError:
        pass  # nobody answers, or this process may not ask (CAP_NET_RAW): then nothing is proved
    return False


def refuses(netns: NetNs, peer: IPAddress) -> bool:
    """Whether the peer says that nobody listens: one datagram arrived as it should."""
    family = socket.AF_INET if peer.version == 4 else socket.AF_INET6
    try:
        with netns.socket(family, socket.SOCK_DGRAM) as calling:
            calling.settimeout(ANSWER_WITHIN_S)
            calling.connect((str(peer), NOBODYS_PORT))
            calling.send(b"kubenet: is this checksum right?")
            calling.recv(1)
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return True  # somebody does listen, and answered


def _tried(act: Callable[[NetNs, IPAddress], bool], netns: NetNs, peer: IPAddress) -> bool:
    return any(act(netns, peer) for _ in range(TRIES))


def _echo(kind: int, token: bytes, *, checked: bool) -> bytes:
    message = struct.pack("!BBHHH", kind, 0, 0, 0, 1) + token
    if not checked:  # the kernel does it for ICMPv6
        return message
    total = sum(struct.unpack(f"!{len(message) // 2}H", message))
    total = (total & 0xFFFF) + (total >> 16)
    checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    return message[:2] + struct.pack("!H", checksum) + message[4:]
