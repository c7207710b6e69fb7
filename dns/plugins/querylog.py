"""``log``: a line for a query, in the form that a Corefile asks for. *Pure*: the time comes in.

Source: manual page of the plugin log of CoreDNS.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from dns import names
from dns.chain import Origin
from dns.corefile import Directive
from dns.names import is_in
from dns.plugins.template import type_name
from dns.plugins.values import QueryLogConfig
from dns.settings import Block
from dns.wire import AA, AD, CD, CLASS_IN, HEADER, QR, RA, RD, TC, Query, Rcode
from dns.words import duration_s, one_value, unknown_option, zones_of_all
from kubenet.errors import InvalidInput

COMMON = (
    '{remote}:{port} - {>id} "{type} {class} {name} {proto} {size} {>do} {>bufsize}" {rcode} {>rflags}'
    " {rsize} {duration}"
)
COMBINED = COMMON.replace("{>id} ", "{>id} {>opcode} ")
CLASSES = ("success", "denial", "error", "all")
_PLACE = re.compile(r"\{([>/]?[\w/-]+)\}")
_KNOWN = frozenset(
    (
        *("type", "class", "name", "proto", "remote", "port", "local", "size", "rcode", "rsize", "duration"),
        *(">rflags", ">bufsize", ">do", ">id", ">opcode"),
    )
)
_FLAGS: Mapping[str, int] = {"qr": QR, "aa": AA, "tc": TC, "rd": RD, "ra": RA, "ad": AD, "cd": CD}


@dataclass(frozen=True, slots=True)
class Told:
    """One query and its reply."""

    query: Query
    origin: Origin
    reply: bytes
    duration_s: float
    metadata: Mapping[str, str] = field(default_factory=dict)


def read_log(block: Block, directive: Directive) -> Block:
    """Return the block with one more way to tell. Raises InvalidInput."""
    args = list(directive.args)
    form = "{common}"
    if args and "{" in args[-1]:
        form = args.pop()
    config = QueryLogConfig(zones_of_all(tuple(args)) or block.zones, _format(directive, form), frozenset())
    for option in directive.options:
        match option.name:
            case "class":
                config = replace(config, classes=config.classes | _classes(option))
            case "minDuration":
                config = replace(config, least_s=duration_s(one_value(option)))
            case _:
                raise unknown_option(option, "log", ("class", "minDuration"))
    if not config.classes and config.least_s is None:
        config = replace(config, classes=frozenset(("all",)))
    return replace(block, logs=(*block.logs, config))


def _classes(option: Directive) -> frozenset[str]:
    for word in option.args:
        if word not in CLASSES:
            raise option.wrong(f"{word!r} is not one of {', '.join(CLASSES)}")
    if not option.args:
        raise option.wrong(f"needs one of {', '.join(CLASSES)}")
    return frozenset(option.args)


def _format(directive: Directive, form: str) -> str:
    text = form.replace("{common}", COMMON).replace("{combined}", COMBINED)
    for place in _PLACE.findall(text):
        if place not in _KNOWN and not place.startswith("/"):
            known = ", ".join(sorted(_KNOWN))
            raise InvalidInput(
                f"{directive.where}: log: unknown placeholder {{{place}}}", f"there are {known}"
            )
    return text


def line_of(configs: Sequence[QueryLogConfig], told: Told) -> str | None:
    """Return the line for a query, None if none of ``configs`` wants it."""
    name = told.query.question.name.lower()
    kind = reply_class(told.reply)
    for config in configs:
        if not any(is_in(name, zone) for zone in config.zones):
            continue
        slow = config.least_s is not None and told.duration_s >= config.least_s
        if slow or "all" in config.classes or kind in config.classes:
            return _filled(config.format, _fields(told))
        return None
    return None


def _filled(form: str, fields: Mapping[str, str]) -> str:
    return _PLACE.sub(lambda place: fields.get(place[1], "-"), form)


def reply_class(reply: bytes) -> str:
    """Return whether a reply is a success, a denial or an error."""
    _, flags, _, answers, _, _ = HEADER.unpack_from(reply)
    rcode = flags & 0xF
    if rcode == Rcode.NXDOMAIN or (rcode == Rcode.NOERROR and not answers):
        return "denial"
    return "success" if rcode == Rcode.NOERROR else "error"


def _fields(told: Told) -> Mapping[str, str]:
    query, question = told.query, told.query.question
    _, flags, *_ = HEADER.unpack_from(told.reply)
    origin, address = told.origin, told.origin.client
    return {
        **{f"/{label}": value for label, value in told.metadata.items()},
        "type": type_name(question.qtype),
        "class": "IN" if question.qclass == CLASS_IN else f"CLASS{question.qclass}",
        "name": names.to_text(question.name.lower()),
        "proto": "tcp" if origin.stream else "udp",
        "remote": f"[{address}]" if ":" in address else address,
        "port": str(origin.port) if origin.port else "-",
        "size": str(origin.size_bytes),
        "rcode": _rcode_name(flags & 0xF),
        "rsize": str(len(told.reply)),
        "duration": f"{told.duration_s:.9f}s",
        ">rflags": ",".join(name for name, bit in _FLAGS.items() if flags & bit),
        ">bufsize": str(query.edns.udp_bytes if query.edns else 512),
        ">do": "true" if query.edns and query.edns.dnssec_ok else "false",
        ">id": str(query.id),
        ">opcode": "0",
    }


def _rcode_name(number: int) -> str:
    return Rcode(number).name if number in Rcode._value2member_map_ else f"RCODE{number}"
