"""Ask the agent of this node for what is no verb of CNI, over the socket of the shims."""

import os
import socket
from collections.abc import Mapping
from pathlib import Path

import msgspec

from cni.server import ANSWER_BYTES
from kubenet.errors import KubenetError, NotFound

_ANSWER_WITHIN_S = 60.0


def order(socket_path: Path, variables: Mapping[str, str]) -> str:
    """Return what the agent answers. Raises NotFound without an agent, KubenetError with its refusal."""
    message = b"".join(f"{key}={value}\0".encode() for key, value in variables.items())
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as calling,
        Path(os.devnull).open("r+b") as none,
    ):
        calling.settimeout(_ANSWER_WITHIN_S)
        try:
            calling.connect(str(socket_path))
            socket.send_fds(calling, [message], [none.fileno()] * 3)
            answer = calling.recv(ANSWER_BYTES)
        except OSError as error:
            raise NotFound(f"{socket_path}: no agent answers: {error.strerror}", "start it first") from error
    code, text = answer[:1], answer[1:]
    if code == b"\0":
        return text.decode()
    try:
        told = msgspec.json.decode(text, type=dict[str, object])
    except msgspec.MsgspecError:
        told = {}
    raise KubenetError(
        str(told.get("msg", "the agent ended before it answered")), str(told.get("details", ""))
    )
