"""Row 47: a segment that conntrack cannot place does not break the connection it pretends to belong to.

The endpoint sends one that is far out of the window. Conntrack does not translate it, so without a rule of
ours it reaches the client from an address the client has never heard of; the client refuses it, and the
refusal is a valid end of the connection for the endpoint.

Source: Kubernetes issue 74839.
"""

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from kubenet.kernel.nft import Nftables
from proxy.apply_iptables import IptablesBackend, KernelIptables
from proxy.apply_nft import NftBackend
from proxy.backend import ProxyMode
from proxy.nft_names import FORWARD, TABLE
from proxy.policy import Locality, serve
from proxy.ports import NodeNetwork, ServicePort, ServicePortName
from tests.netns.proxy.world import CLIENT, PATIENCE_S, PORT, SILENCE_S, World, backend_ip, endpoints

pytestmark = pytest.mark.netns

VIP = "10.96.0.1"
BACKEND = backend_ip(2)
NETWORK = NodeNetwork(4, ip_network("10.244.0.0/16"))
WEB = ServicePort(
    ServicePortName("demo", "web", "http"),
    ip_address(VIP),
    80,
    endpoints=tuple(replace(each, port=PORT + 1) for each in endpoints(2)),
)
FAR = 1 << 28  # beyond any window


@contextmanager
def programmed(world: World, mode: ProxyMode, network: NodeNetwork) -> Iterator[Nftables | None]:
    serving = serve([WEB], Locality("here"))
    if mode is ProxyMode.IPTABLES:
        IptablesBackend(KernelIptables(world.node, 4), network).apply(serving)
        yield None
        return
    kernel = Nftables(world.node, 4, TABLE)
    backend = NftBackend(kernel, network)
    backend.apply(serving)
    yield kernel
    backend.close()


def segment(ports: tuple[int, int], sequence: int, acknowledged: int) -> bytes:
    """Return an IPv4 packet with a TCP segment from the endpoint to the client."""
    addresses = ip_address(BACKEND).packed + ip_address(CLIENT).packed
    flags = 5 << 12 | 0x18  # five words of header; PSH and ACK
    tcp = struct.pack("!HHIIHHHH", *ports, sequence % 2**32, acknowledged, flags, 1000, 0, 0) + b"boom"
    pseudo = addresses + struct.pack("!BBH", 0, socket.IPPROTO_TCP, len(tcp))
    total = sum(struct.unpack(f"!{(len(pseudo) + len(tcp)) // 2}H", pseudo + tcp))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    tcp = tcp[:16] + struct.pack("!H", ~total & 0xFFFF) + tcp[18:]
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 1, 0, 64, socket.IPPROTO_TCP, 0) + addresses
    return ip + tcp  # the kernel fills in the checksum of the header


def survives(world: World) -> bool:
    """Connect, have the endpoint send a segment out of the window, and return whether it still goes on."""
    with (
        world.pods.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800)) as wire,
        world.pods.socket(socket.AF_INET, socket.SOCK_STREAM) as listener,
        world.client.socket(socket.AF_INET, socket.SOCK_STREAM) as client,
        world.pods.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw,
    ):
        listener.bind((BACKEND, PORT + 1))
        listener.listen()
        client.settimeout(PATIENCE_S)
        client.connect((VIP, 80))
        server, _ = listener.accept()
        with server:
            client.sendall(b"ask")
            assert server.recv(64) == b"ask"
            client_port, sequence, acknowledged = _last_of_client(wire)
            raw.sendto(segment((PORT + 1, client_port), acknowledged + FAR, sequence), (CLIENT, 0))
            server.settimeout(SILENCE_S)
            try:
                server.recv(64)  # nothing, or the end
            except TimeoutError:
                server.settimeout(PATIENCE_S)
                client.sendall(b"still there?")
                return server.recv(64) == b"still there?"
            except ConnectionResetError:
                return False
    return False


def _last_of_client(wire: socket.socket) -> tuple[int, int, int]:
    """Return the client's port, and what it sends next and expects next, from what came by on the wire."""
    wire.settimeout(PATIENCE_S)
    while True:
        packet = wire.recv(2048)
        head = (packet[0] & 15) * 4
        source, destination, sequence, acknowledged, flags = struct.unpack_from("!HHIIH", packet, head)
        if packet[9] == socket.IPPROTO_TCP and destination == PORT + 1 and packet.endswith(b"ask"):
            payload = len(packet) - head - (flags >> 12) * 4
            return source, sequence + payload, acknowledged


@pytest.fixture(params=list(ProxyMode), ids=lambda mode: str(mode.value))
def mode(request: pytest.FixtureRequest) -> ProxyMode:
    found = request.param
    assert isinstance(found, ProxyMode)
    return found


def test_A4_row47_a_segment_out_of_the_window_does_not_end_the_connection(
    world: World, mode: ProxyMode
) -> None:
    with programmed(world, mode, replace(NETWORK, tcp_liberal=True)):
        assert not survives(world)  # so this is what the rule is there for
    with programmed(world, mode, NETWORK) as kernel:
        assert survives(world)
        if kernel:
            assert kernel.packets_counted(FORWARD) == 1
