"""What a lab's starter and its keeper tell each other. *Pure.*

Apart from the keeper, because importing that costs every daemon.
"""

from collections.abc import Mapping
from typing import Literal

import msgspec

from labs.topology import LabSpec

# What the starter sends when the ledger names the keeper; without it the keeper makes nothing.
GO = b"g"


class Report(msgspec.Struct, frozen=True):
    """The one line on the pipe: the lab is ready, or why it is not."""

    server: str = ""
    error: str = ""
    next_step: str = ""
    exit_code: int = 0


def encode_spec(spec: LabSpec) -> str:
    """Return ``spec`` as JSON, addresses as text."""
    return msgspec.json.encode(spec, enc_hook=str).decode()


def decode_spec(text: str) -> LabSpec:
    """Return what ``encode_spec`` was given."""
    return msgspec.json.decode(text, type=LabSpec, dec_hook=lambda kind, value: kind(value))


class Order(msgspec.Struct, frozen=True):
    """What a command asks of a running keeper."""

    verb: Literal["list", "start", "stop"]
    daemon: str = ""


class Answer(msgspec.Struct, frozen=True):
    """How every daemon of the lab is after an order, or why the order was not carried out."""

    daemons: Mapping[str, str] = {}
    error: str = ""
    next_step: str = ""
    exit_code: int = 0
