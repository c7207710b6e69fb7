"""``template``: answers made of the question, by the part of Go's templates that Corefiles use. *Pure.*

``{{ .Name }}``, ``.Zone``, ``.Class``, ``.Type``, ``.Remote``, ``.Group.NAME``, ``index .Match N`` and
``parseInt VALUE BASE BITS``. Anything else is an error when the Corefile is read.

Source: manual page of the plugin template of CoreDNS; Go's text/template; RFC 8914 (extended errors).
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from dns import names
from dns.answer import Answer
from dns.chain import Decision, Next, Plugin, Request, failing, resolved
from dns.corefile import Directive
from dns.names import is_in
from dns.plugins.values import TemplateConfig
from dns.rdata import read_record
from dns.settings import Block
from dns.wire import Rcode, RType, extended_error
from dns.words import (
    CLASSES,
    one_value,
    pattern_of,
    rcode_of,
    record_type,
    unknown_option,
    whole_number,
    zones_of_all,
)
from kubenet.errors import InvalidInput

_ACTION = re.compile(r"\{\{-?\s*(.*?)\s*-?\}\}")
_OPTIONS = ("match", "answer", "additional", "authority", "rcode", "ederror", "fallthrough", "upstream")


@dataclass(frozen=True, slots=True)
class _Found:
    """What a template may speak of."""

    fields: Mapping[str, str]
    match: Sequence[str]
    groups: Mapping[str, str]


_Piece: TypeAlias = Callable[[_Found], str]


def read_template(block: Block, directive: Directive) -> Block:
    """Return the block with one more template. Raises InvalidInput."""
    if len(directive.args) < 2 or directive.args[0].upper() not in CLASSES:
        raise directive.wrong("needs a class (IN or ANY), a type and perhaps zones")
    qclass = CLASSES[directive.args[0].upper()]
    zones = zones_of_all(directive.args[2:]) or block.zones
    config = TemplateConfig(
        None if qclass == CLASSES["ANY"] else qclass, record_type(directive.args[1]), zones
    )
    for option in directive.options:
        config = _read_option(config, option)
    return replace(block, templates=(*block.templates, config))


def _read_option(config: TemplateConfig, option: Directive) -> TemplateConfig:
    match option.name:
        case "rcode":
            return replace(config, rcode=rcode_of(one_value(option)))
        case "match":
            return replace(config, matches=(*config.matches, *map(pattern_of, option.args)))
        case "fallthrough":
            return replace(config, fallthrough=zones_of_all(option.args))
        case "ederror" if option.args:
            code = whole_number(option.args[0], 0, 65535)
            return replace(config, extended_error=(code, " ".join(option.args[1:])))
        case "answer" | "additional" | "authority":
            text = " ".join(option.args)
            compiled(text)
            field = "answers" if option.name == "answer" else option.name
            before: tuple[str, ...] = getattr(config, field)
            return replace(config, **{field: (*before, text)})  # type: ignore[arg-type]  # texts
        case "upstream":
            return config  # aliases are always followed
        case _:
            raise unknown_option(option, "template", _OPTIONS)


def compiled(text: str) -> _Piece:
    """Return what fills in a template. Raises InvalidInput."""
    pieces: list[_Piece] = []
    at = 0
    for action in _ACTION.finditer(text):
        pieces += [_literal(text[at : action.start()]), _expression(action[1].split())]
        at = action.end()
    pieces.append(_literal(text[at:]))
    return lambda found: "".join(piece(found) for piece in pieces)


def _literal(text: str) -> _Piece:
    return lambda _found: text


_FIELDS = ("Name", "Zone", "Class", "Type", "Remote")


def _expression(words: Sequence[str]) -> _Piece:
    match words:
        case [field] if field.startswith(".Group."):
            name = field.removeprefix(".Group.")
            return lambda found: found.groups.get(name, "")
        case [field] if field[:1] == "." and field[1:] in _FIELDS:
            return lambda found: found.fields[field[1:]]
        case ["index", ".Match", number] if number.isdecimal():
            return lambda found: found.match[int(number)] if int(number) < len(found.match) else ""
        case ["index", ".Group", name]:
            return lambda found: found.groups.get(name.strip('"'), "")
        case ["parseInt", field, base, _bits] if base.isdecimal():
            inner = _expression([field])
            return lambda found: str(int(inner(found), int(base)))
        case _:
            known = ", ".join(f".{field}" for field in _FIELDS)
            raise InvalidInput(
                f"template action {' '.join(words)!r}: there are {known}, .Group.NAME, index .Match N and"
                " parseInt VALUE BASE BITS"
            )


def template_plugin(configs: Sequence[TemplateConfig], start: Next) -> Plugin:
    """Return the plugin that asks each template in turn; ``start`` answers for the targets of aliases."""
    makers = [_Maker(config) for config in configs]

    def template(request: Request, serve: Next) -> Decision:
        for maker in makers:
            answer = maker.answer(request)
            if answer is not None:
                return _followed(request, answer, start)
        return serve(request)

    return template


def _followed(request: Request, answer: Answer, start: Next) -> Decision:
    """Return the answer with what its alias points to, if it is one."""
    last = answer.answers[-1] if answer.answers else None
    if answer.rcode or last is None or last.rtype != RType.CNAME:
        return answer
    return resolved(request, start, answer.answers, last.contents[0].lower())


class _Maker:
    """One template, ready to be filled in."""

    def __init__(self, config: TemplateConfig) -> None:
        self._config = config
        self._patterns = [re.compile(pattern) for pattern in config.matches]
        self._sections = [
            [compiled(text) for text in texts]
            for texts in (config.answers, config.authority, config.additional)
        ]

    def answer(self, request: Request) -> Answer | None:
        """Return the answer, None if the next template or plugin is to be asked."""
        config, question = self._config, request.question
        if config.qclass not in (None, question.qclass) or config.rtype not in (RType.ANY, question.qtype):
            return None
        zone = max((zone for zone in config.zones if is_in(request.name, zone)), key=len, default=None)
        if zone is None:
            return None
        found = self._match(request, names.to_text(zone))
        if found is None:
            return None if self._falls_through(request) else failing(Rcode.SERVFAIL)
        try:
            answers, authority, additional = (
                tuple(read_record(piece(found)) for piece in pieces) for pieces in self._sections
            )
        except (InvalidInput, ValueError):
            return failing(Rcode.SERVFAIL)  # what the question fills in makes no record
        why = extended_error(*config.extended_error) if config.extended_error else b""
        return Answer(Rcode(config.rcode), answers, authority, additional, options=why)

    def _falls_through(self, request: Request) -> bool:
        zones = self._config.fallthrough
        return zones is not None and (not zones or any(is_in(request.name, zone) for zone in zones))

    def _match(self, request: Request, zone: str) -> _Found | None:
        name = names.to_text(request.name)
        match: Sequence[str] = (name,)
        groups: Mapping[str, str] = {}
        if self._patterns:
            found = next(filter(None, (pattern.search(name) for pattern in self._patterns)), None)
            if found is None:
                return None
            match = [found[0], *found.groups(default="")]
            groups = {key: value or "" for key, value in found.groupdict().items()}
            groups |= {str(index): text for index, text in enumerate(match)}
        fields = {
            "Name": name,
            "Zone": zone,
            "Class": _class_name(request.question.qclass),
            "Type": type_name(request.question.qtype),
            "Remote": request.client,
        }
        return _Found(fields, match, groups)


def _class_name(qclass: int) -> str:
    return next((name for name, number in CLASSES.items() if number == qclass), f"CLASS{qclass}")


def type_name(rtype: int) -> str:
    """Return how a type is written."""
    return RType(rtype).name if rtype in RType._value2member_map_ else f"TYPE{rtype}"
