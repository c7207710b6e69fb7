"""What single words of a Corefile mean: durations, numbers, types, zones. *Pure.*

Every function raises InvalidInput for a word that means nothing.
"""

import re
from collections.abc import Iterable
from difflib import get_close_matches
from ipaddress import ip_address, ip_network

from dns import names
from dns.corefile import Directive
from dns.names import WireName
from dns.settings import Listen
from dns.wire import RType
from kubenet.errors import InvalidInput

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|s|us|ns)?")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9, None: 1.0}

RCODES = {
    "NOERROR": 0,
    "FORMERR": 1,
    "SERVFAIL": 2,
    "NXDOMAIN": 3,
    "NOTIMP": 4,
    "REFUSED": 5,
    "YXDOMAIN": 6,
    "YXRRSET": 7,
    "NXRRSET": 8,
    "NOTAUTH": 9,
    "NOTZONE": 10,
}


CLASSES = {"IN": 1, "CH": 3, "HS": 4, "ANY": 255}


# What Go writes otherwise than Python: classes of characters, the end of the text, names of groups.
_GO_CLASSES = {
    "[:alnum:]": "0-9A-Za-z",
    "[:alpha:]": "A-Za-z",
    "[:digit:]": "0-9",
    "[:lower:]": "a-z",
    "[:space:]": r"\s",
    "[:upper:]": "A-Z",
    "[:word:]": r"\w",
    "[:xdigit:]": "0-9A-Fa-f",
}
_GO_OTHERWISE = re.compile(r"\[:[a-z]+:\]|\\.|\(\?<(?=[A-Za-z_])", re.DOTALL)


def pattern_of(text: str) -> str:
    """Return a regular expression as Go's library reads it, for Python's. Raises InvalidInput."""
    pattern = _GO_OTHERWISE.sub(_pythons, text)
    try:
        re.compile(pattern)
    except re.error as error:
        raise InvalidInput(f"pattern {text!r}: {error}") from error
    return pattern


def _pythons(found: re.Match[str]) -> str:
    piece = found[0]
    if piece == "(?<":
        return "(?P<"
    return r"\Z" if piece == r"\z" else _GO_CLASSES.get(piece, piece)


def duration_s(text: str) -> float:
    parts = list(_DURATION.finditer(text))
    if not parts or "".join(part[0] for part in parts) != text:
        raise InvalidInput(f"{text!r} is not a duration such as 5s")
    return sum(float(part[1]) * _SECONDS[part[2]] for part in parts)


def whole_number(text: str, least: int, most: int) -> int:
    if not text.isdecimal() or not least <= int(text) <= most:
        raise InvalidInput(f"{text!r} is not a number from {least} to {most}")
    return int(text)


def record_type(text: str) -> int:
    if text.upper() in RType.__members__:
        return RType[text.upper()]
    number = text.upper().removeprefix("TYPE")
    if number.isdecimal() and int(number) < 65536:
        return int(number)
    raise InvalidInput(f"{text!r} is not a type that is known here; write TYPE and its number")


def zones_of_all(args: tuple[str, ...]) -> tuple[WireName, ...]:
    return tuple(zone for text in args for zone in zones_of(text))


def one_value(directive: Directive) -> str:
    if len(directive.args) != 1:
        raise directive.wrong(f"needs one value, {len(directive.args)} given")
    return directive.args[0]


def nothing_more(directive: Directive, *, args: int = 0) -> None:
    if len(directive.args) > args:
        raise directive.wrong(f"unexpected {directive.args[args]!r}")
    if directive.options:
        raise directive.options[0].wrong(f"unknown option of {directive.name}")


def listen_at(directive: Directive, default_port: int, *, everywhere: bool) -> Listen:
    if len(directive.args) > 1:
        raise directive.wrong(f"unexpected {directive.args[1]!r}")
    if not directive.args:
        return Listen(None if everywhere else ip_address("127.0.0.1"), default_port)
    host, _, port = directive.args[0].rpartition(":")
    try:
        address = ip_address(host.strip("[]")) if host not in ("", "localhost") else None
    except ValueError as error:
        raise directive.wrong(f"{directive.args[0]!r} is not ADDRESS:PORT") from error
    if host == "localhost":
        address = ip_address("127.0.0.1")
    return Listen(address, whole_number(port, 0, 65535))


def unknown_option(option: Directive, plugin: str, known: Iterable[str] = ()) -> InvalidInput:
    text = f"{option.where}: {plugin}: unknown option {option.name!r}"
    return InvalidInput(text, did_you_mean(option.name, known))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return the advice for a word that is nearly one of the ``known``; empty if it is none."""
    near = get_close_matches(word, sorted(known), 1, 0.6)
    return f"did you mean {near[0]}?" if near else ""


def rcode_of(text: str) -> int:
    if text.upper() in RCODES:
        return RCODES[text.upper()]
    raise InvalidInput(f"{text!r} is not one of {', '.join(RCODES)}", did_you_mean(text.upper(), RCODES))


def option_not_yet(option: Directive, plugin: str) -> InvalidInput:
    return InvalidInput(f"{option.where}: {plugin}: option {option.name} is not done yet")


def zones_of(text: str) -> list[WireName]:
    """Return the zone that ``text`` names; a network in CIDR form names its reverse zones."""
    if "/" not in text:
        return [names.from_text(text.lower())]
    try:
        network = ip_network(text, strict=False)
    except ValueError as error:
        raise InvalidInput(str(error)) from error
    step = 8 if network.version == 4 else 4  # bits of one label
    whole = -(-network.prefixlen // step) * step
    tops = network.subnets(new_prefix=whole)
    kept = whole // step
    labels = 4 if network.version == 4 else 32
    return [_above(names.reverse_name(top.network_address.packed), labels - kept) for top in tops]


def _above(name: WireName, count: int) -> WireName:
    for _ in range(count):
        name = name[1 + name[0] :]
    return name
