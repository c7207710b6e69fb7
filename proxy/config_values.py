"""How each thing that an operator says is read: text from a flag, or what stands in a file. *Pure.*

All readers raise ValueError with the reason.
"""

import re
from collections.abc import Callable, Mapping
from ipaddress import ip_network

from proxy.ports import Balance, IPAddress, IPNetwork, parse_ip

PRIMARY = "primary"

Address = tuple[IPAddress, int]
Value = object  # text from a flag; text, number, boolean, list or mapping from a file


def read_text(value: Value) -> str:
    """Return text."""
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not text")  # noqa: TRY004 - the reader's one error
    return value


def read_bool(value: Value) -> bool:
    if isinstance(value, bool):
        return value
    known = {"true": True, "false": False, "1": True, "0": False}
    if isinstance(value, str) and value.lower() in known:
        return known[value.lower()]
    raise ValueError(f"{value!r} is neither true nor false")


def read_number(value: Value) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(f"{value!r} is not a whole number")  # noqa: TRY004 - as above
    try:
        return int(value)
    except ValueError:
        raise ValueError(f"{value!r} is not a whole number") from None


_UNIT_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PIECE = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")


def read_duration_s(value: Value) -> float:
    """Return seconds from what Go writes: 1h0m30s, 100ms, 0."""
    text = read_text(value) if value != 0 else "0s"
    pieces = _PIECE.findall(text)
    if "".join(number + unit for number, unit in pieces) != text or not text:
        if text == "0":
            return 0.0
        raise ValueError(f"{text!r} is not a duration such as 30s or 1m30s")
    return float(sum(float(number) * _UNIT_S[unit] for number, unit in pieces))


def read_networks(value: Value) -> tuple[IPNetwork, ...]:
    """Return networks from a list, or from text with commas."""
    try:
        return tuple(ip_network(text, strict=False) for text in _texts(value))
    except ValueError as error:
        raise ValueError(str(error)) from None


_EVERYWHERE = ("0.0.0.0/0", "::/0")
_AT_HOME = ("127.0.0.0/8", "::1/128")


def read_node_port_addresses(value: Value) -> tuple[str, ...]:
    """Return networks, and ``PRIMARY`` as it stands; the other words mean networks."""
    texts: list[str] = []
    for text in _texts(value):
        texts += {"all": _EVERYWHERE, "localhost": _AT_HOME}.get(text, (text,))
    read_networks([text for text in texts if text != PRIMARY])
    return tuple(dict.fromkeys(texts))


def read_gates(value: Value) -> Mapping[str, bool]:
    """Return feature gates from a mapping, or from text such as A=true,B=false."""
    if isinstance(value, Mapping):
        return {str(name): read_bool(each) for name, each in value.items()}
    pairs = [text.partition("=") for text in _texts(value)]
    return {name: read_bool(each or "true") for name, _, each in pairs}


def read_node_name(value: Value) -> str:
    """Return a Node's name: kubelet makes it lower case."""
    return read_text(value).strip().lower()


def is_nothing(value: Value) -> bool:
    """Return whether ``value`` is what Go writes for a field that was never set."""
    if isinstance(value, Mapping):
        return all(map(is_nothing, value.values()))
    return value in (None, "", 0, False, "0s", "0") or value == []


_DURATION_PARTS = ((3600.0, "h"), (60.0, "m"), (1.0, "s"))


def duration_text(seconds: float) -> str:
    """Return seconds as Go writes them; ``read_duration_s`` reads it back."""
    text, left = "", seconds
    for size, unit in _DURATION_PARTS:
        count = int(left // size) if unit != "s" else left
        if count or (unit == "s" and not text):
            text += f"{count:g}{unit}"
        left -= count * size
    return text


def _texts(value: Value) -> list[str]:
    if value is None:
        return []
    if isinstance(value, list | tuple):
        return [read_text(each) for each in value]
    return [each.strip() for each in read_text(value).split(",") if each.strip()]


def read_address(default_port: int) -> Callable[[Value], Address | None]:
    """Return what reads IP:PORT or IP; empty text turns the server off."""

    def read(value: Value) -> Address | None:
        text = read_text(value)
        if not text:
            return None
        ip = parse_ip(text.strip("[]"))
        if ip is not None:
            return ip, default_port
        host, _, port = text.rpartition(":")
        ip = parse_ip(host.strip("[]"))
        if ip is None or not port.isdecimal() or not 1 <= int(port) <= 65535:
            raise ValueError(f"{text!r} is not IP:PORT")
        return ip, int(port)

    return read


def one_of(*words: str) -> Callable[[Value], str]:
    """Return what reads one of ``words``."""

    def read(value: Value) -> str:
        if value not in words:
            raise ValueError(f"{value!r} is not {' or '.join(repr(word) for word in words)}")
        return str(value)

    return read


def read_mode(value: Value) -> str:
    if value in ("ipvs", "kernelspace", "userspace"):
        raise ValueError(f"mode {value!r} is not offered: use iptables or nftables")
    return one_of("", "iptables", "nftables")(value)


def read_balance(value: Value) -> Balance:
    return Balance(one_of(*(balance.value for balance in Balance))(value))


def read_bit(value: Value) -> int:
    bit = read_number(value)
    if not 0 <= bit <= 31:
        raise ValueError(f"{bit} is not a bit of a mark: 0 to 31")
    return bit


def read_anything(value: Value) -> Value:
    """Return ``value``: what has no effect need not mean anything."""
    return value
