"""The CNI plugin in Python, for machines without a C compiler: the same as shim.c, forty times slower.

Installed as an executable of its own (cni/install.py writes the first line and the socket's path), so it
imports nothing of kubenet, and of the standard library only what starts fast.
"""

import _socket
import os
import sys

LATEST = "1.1.0"
SUPPORTED = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
SOCKET_PATH = "@KUBENET-CNI-SOCKET-PATH@"

ANSWER_WITHIN_S = 90  # longer than the agent gives to anything
STDIN_WITHIN_S = 5
STDIN_BYTES = 65536
ANSWER_BYTES = 131072  # as in cni/server.py
NO_AGENT = "the kubenet agent of this node does not answer"


def main() -> int:
    """Do what the environment says and return the exit code."""
    command = os.environ.get("CNI_COMMAND", "")
    for fd in range(3):  # a stream that the caller has closed must not become our socket
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if not command:
        os.write(2, f"kubenet CNI plugin, CNI protocol versions supported: {', '.join(SUPPORTED)}\n".encode())
        return 0
    if command == "VERSION":
        quoted = ",".join(f'"{version}"' for version in SUPPORTED)
        _say(f'{{"cniVersion":"{_version()}","supportedVersions":[{quoted}]}}\n'.encode())
        return 0
    variables = [entry + b"\0" for entry in _environment() if entry.startswith(b"CNI_")]
    code = _ask_agent(variables, os.environ.get("CNI_NETNS", ""))
    if code is not None:
        return code
    if command == "DEL" and _put_off(variables):
        return 0
    return _fail(50 if command == "STATUS" else 11, NO_AGENT)


def _environment() -> list[bytes]:
    return [key + b"=" + value for key, value in os.environb.items()]


def _ask_agent(variables: list[bytes], netns: str) -> int | None:
    """Print what the agent says and return its exit code; None if it is not there, or ended before that."""
    try:
        agent = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
        agent.settimeout(ANSWER_WITHIN_S)
        agent.connect(SOCKET_PATH)
        rights = [0, 1, 2]
        try:
            rights.append(os.open(netns, os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            pass  # the agent says what it is that it lacks
        packed = b"".join(fd.to_bytes(4, sys.byteorder) for fd in rights)
        agent.sendmsg(variables, [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, packed)])
        answer = agent.recv(ANSWER_BYTES)
    except OSError:
        return None
    if answer[1:]:
        _say(answer[1:])
    return answer[0] if answer else None


def _put_off(variables: list[bytes]) -> bool:
    """Write the request where the agent will look when it starts; return whether that was possible."""
    import time

    seconds, nanoseconds = divmod(time.time_ns(), 10**9)
    directory = SOCKET_PATH.rpartition("/")[0]
    name = f"{directory}/del.d/{seconds}.{nanoseconds}.{os.getpid()}"
    try:
        fd = os.open(f"{name}.tmp", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        os.write(fd, b"".join(variables))
        os.rename(f"{name}.tmp", name)  # noqa: PTH104 - pathlib takes longer to import than all the rest
    except OSError:
        return False
    return True


def _fail(code: int, why: str) -> int:
    _say(f'{{"cniVersion":"{_version()}","code":{code},"msg":"{why}","details":"{SOCKET_PATH}"}}\n'.encode())
    return 1


def _say(text: bytes) -> None:
    while text:
        text = text[os.write(1, text) :]


def _version() -> str:
    """Return the cniVersion of the configuration on stdin; else the latest that we know."""
    import json

    try:
        config = json.loads(_stdin())
    except (ValueError, RecursionError):
        return LATEST
    version = config.get("cniVersion") if isinstance(config, dict) else None
    if isinstance(version, str) and 0 < len(version) <= 16 and set(version) <= set("0123456789."):
        return version
    return LATEST


def _stdin() -> bytes:
    """Return what comes on stdin; nobody has to send an end of file in time."""
    import select

    text = b""
    poller = select.poll()
    poller.register(0, select.POLLIN)
    while len(text) < STDIN_BYTES and poller.poll(STDIN_WITHIN_S * 1000):
        try:
            more = os.read(0, STDIN_BYTES - len(text))
        except OSError:
            break
        if not more:
            break
        text += more
    return text


if __name__ == "__main__":
    sys.exit(main())
