"""Readiness: does a container answer? Connections are opened in the node's namespace, as a kubelet's are.

Source: Kubernetes documentation, "Configure Liveness, Readiness and Startup Probes".
"""

import asyncio
import socket
from collections.abc import Callable

from kubenet.kernel.netns import NetNs
from kubenet.model.objects import Container, Probe

STATUS_LINE_BYTES = 1024


def port_number(port: int | str, container: Container) -> int | None:
    """Return the number of a port that may be named; None if the container has no port of that name."""
    if isinstance(port, int):
        return port
    if port.isdecimal():
        return int(port)
    return next((each.container_port for each in container.ports if each.name == port), None)


class Verdict:
    """Counts answers: readiness changes after enough of one kind in a row."""

    def __init__(self, probe: Probe) -> None:
        self._probe = probe
        self._in_a_row = 0
        self._last = False
        self.ready = False

    def add(self, success: bool) -> bool:
        """Take in one answer; return whether readiness has changed."""
        self._in_a_row = self._in_a_row + 1 if success == self._last else 1
        self._last = success
        needed = self._probe.success_threshold if success else self._probe.failure_threshold
        if success == self.ready or self._in_a_row < needed:
            return False
        self.ready = success
        return True


async def probe_for_ever(
    netns: NetNs, address: str, container: Container, changed: Callable[[bool], None]
) -> None:
    """Probe until cancelled; ``changed`` hears of every change of readiness."""
    probe = container.readiness_probe
    assert probe is not None
    verdict = Verdict(probe)
    await asyncio.sleep(probe.initial_delay_seconds)
    while True:
        if verdict.add(await answers(netns, address, container, probe)):
            changed(verdict.ready)
        # A container that is not ready yet is asked more often: its start is what people wait for.
        await asyncio.sleep(probe.period_seconds if verdict.ready else min(0.1, probe.period_seconds))


async def answers(netns: NetNs, address: str, container: Container, probe: Probe) -> bool:
    """Return whether the container answers one probe."""
    action = probe.http_get or probe.tcp_socket
    port = port_number(action.port, container) if action else None
    if action is None or port is None:
        return action is None  # nothing asked is nothing wrong; a port that does not exist never answers
    path = probe.http_get.path if probe.http_get else None
    try:
        async with asyncio.timeout(probe.timeout_seconds):
            return await _ask(netns, address, port, path)
    except (OSError, TimeoutError, ValueError):
        return False


async def _ask(netns: NetNs, address: str, port: int, path: str | None) -> bool:
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with netns.socket(family, socket.SOCK_STREAM) as connection:
        connection.setblocking(False)
        await loop.sock_connect(connection, (address, port))
        if path is None:
            return True
        host = f"[{address}]" if ":" in address else address
        head = f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\n"
        request = f"{head}User-Agent: kube-probe/kubenet\r\nConnection: close\r\n\r\n"
        await loop.sock_sendall(connection, request.encode())
        reply = await loop.sock_recv(connection, STATUS_LINE_BYTES)
        return 200 <= int(reply.split(b" ", 2)[1][:3]) < 400 if reply.startswith(b"HTTP/1.") else False
