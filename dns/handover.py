"""Passes the listening sockets of a running server to its successor, so that a restart loses no query.

The old server offers its sockets on a unix socket. The new one takes them, gets everything ready while the
old one still answers, begins to answer from the same sockets, and says so; only then the old one stops
reading and ends. What waits in a socket's queue belongs to whoever reads next, so nothing is dropped. If the
new one fails on its way, the old one has lost nothing and goes on.

    old: bind PATH, accept -> sockets with their names -> "taken" -> stops reading, finishes, ends
    new: connect           <- sockets ... is ready ...   "taken" -> binds PATH itself

Source: unix(7) (SCM_RIGHTS, SO_PEERCRED).
"""

import asyncio
import json
import logging
import os
import socket
import struct
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

from kubenet.errors import InvalidInput, KubenetError, NotPermitted

log = logging.getLogger(__name__)

SocketName: TypeAlias = tuple[str, int, int]  # address, port, socket kind
Sockets: TypeAlias = Mapping[SocketName, socket.socket]

MOST_SOCKETS = 250  # the kernel passes 253 at once
MANIFEST_BYTES = 65536
TAKEN = b"taken"
_UCRED = struct.Struct("=iII")


class Successor:
    """What the old server gave us, and the way to tell it that we answer now."""

    def __init__(self, connection: socket.socket, sockets: dict[SocketName, socket.socket]) -> None:
        self.sockets = sockets
        self._connection = connection

    def taken(self) -> None:
        """We answer: the old server may end. Sockets that nobody wanted are closed."""
        with suppress(OSError):  # it has ended already
            self._connection.send(TAKEN)
        self.close()

    def close(self) -> None:
        """Let go of what was not used; without ``taken`` before, the old server goes on."""
        self._connection.close()
        for left in self.sockets.values():
            left.close()
        self.sockets.clear()


async def succeed(path: Path) -> Successor | None:
    """Return what a running server offers at ``path``, None if none runs.

    Raises NotPermitted, InvalidInput.
    """
    if not os.access(path.parent, os.W_OK | os.X_OK):  # before anything is taken over
        raise InvalidInput(
            f"{path}: no directory that may be written to",
            "name a socket in one, such as /run/kubenet/dns.sock",
        )
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(connection, str(path))
        return Successor(connection, await _receive(connection))
    except (FileNotFoundError, ConnectionError):
        connection.close()
        return None
    except PermissionError as error:
        connection.close()
        raise NotPermitted(f"{path}: {error.strerror}", "run as the user of the running server") from error
    except BaseException:
        connection.close()
        raise


async def _receive(connection: socket.socket) -> dict[SocketName, socket.socket]:
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(connection.fileno(), readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(connection.fileno())
    manifest, descriptors, _, _ = socket.recv_fds(connection, MANIFEST_BYTES, MOST_SOCKETS)
    if not manifest:
        raise ConnectionResetError("the running server offers nothing")
    opened = [socket.socket(fileno=descriptor) for descriptor in descriptors]
    names = [(str(address), int(port), int(kind)) for address, port, kind in json.loads(manifest)]
    return dict(zip(names, opened, strict=True))


class Offer:
    """Offers our sockets at a path until somebody has taken them."""

    def __init__(self, path: Path, sockets: Callable[[], Sockets]) -> None:
        self.taken = asyncio.Event()
        self._path = path
        self._sockets = sockets
        self._listening, self._identity = _listening(path)
        self._task = asyncio.get_running_loop().create_task(self._run())

    def close(self) -> None:
        """Offer nothing any more."""
        self._task.cancel()
        self._listening.close()
        if self.taken.is_set():
            return  # the path is our successor's, or will be at any moment
        with suppress(OSError):
            if self._path.stat().st_ino == self._identity:  # not our successor's
                self._path.unlink()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while not self.taken.is_set():
            connection, _ = await loop.sock_accept(self._listening)
            with connection:
                try:
                    await self._give(connection)
                except (OSError, KubenetError) as error:
                    log.warning("dns: hand-over: %s", error)

    async def _give(self, connection: socket.socket) -> None:
        _, uid, _ = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
        if uid not in (0, os.getuid()):
            raise NotPermitted(f"user {uid} asked for the sockets")
        sockets = self._sockets()
        if len(sockets) > MOST_SOCKETS:
            raise InvalidInput(f"{len(sockets)} sockets, at most {MOST_SOCKETS} can be passed")
        descriptors = [each.fileno() for each in sockets.values()]
        socket.send_fds(connection, [json.dumps(list(sockets)).encode()], descriptors)
        log.info("dns: hand-over: a successor took %d sockets", len(sockets))
        if await asyncio.get_running_loop().sock_recv(connection, len(TAKEN)) == TAKEN:
            self.taken.set()
        else:
            log.warning("dns: hand-over: the successor went away; this server goes on")


def _listening(path: Path) -> tuple[socket.socket, int]:
    """Return a socket bound at ``path`` in the place of what was there, for our user alone; and its inode."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        listening.setblocking(False)
        fresh.unlink(missing_ok=True)
        listening.bind(str(fresh))
        fresh.chmod(0o600)
        listening.listen(1)
        identity = fresh.stat().st_ino  # the path may be another's a moment later
        fresh.rename(path)
    except OSError as error:
        listening.close()
        raise InvalidInput(
            f"{path}: {error.strerror or error}", "name a socket in a directory that may be written to"
        ) from error
    return listening, identity
