"""Reads ``rewrite``. *Pure.*

Source: manual page of the plugin rewrite of CoreDNS.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace

from dns import names
from dns.corefile import Directive
from dns.plugins.values import (
    Edns0Rewrite,
    Match,
    NamePattern,
    NameRewrite,
    NumberRewrite,
    RcodeRewrite,
    Rewrite,
    RewriteRule,
    TtlRewrite,
)
from dns.settings import Block
from dns.words import CLASSES, did_you_mean, pattern_of, rcode_of, record_type, whole_number
from kubenet.errors import InvalidInput

MOST_TTL_S = (1 << 31) - 1
_MATCHES = frozenset(match.value for match in Match)


def read_rewrite(block: Block, directive: Directive) -> Block:
    """Return the block with one more rule. Raises InvalidInput."""
    args = directive.args
    stop = True
    if args and args[0] in ("continue", "stop"):
        stop, args = args[0] == "stop", args[1:]
    if directive.options:
        if args:
            raise directive.wrong(f"unexpected {args[0]!r} before the braces")
        first, *answers = directive.options
        args = (first.name, *first.args)
        for option in answers:
            args += (option.name, *option.args)
    if not args:
        raise directive.wrong(f"needs one of {', '.join(_READERS)}")
    reader = _READERS.get(args[0])
    if reader is None:
        if args[0] == "cname":
            raise directive.wrong("cname is not done yet")
        advice = did_you_mean(args[0], _READERS)
        raise InvalidInput(f"{directive.where}: rewrite: unknown field {args[0]!r}", advice)
    rule = RewriteRule(reader(directive, args[1:]), stop)
    return replace(block, rewrites=(*block.rewrites, rule))


def _pattern(directive: Directive, args: tuple[str, ...], more: int) -> tuple[NamePattern, tuple[str, ...]]:
    """Return the pattern that ``args`` begin with, and the rest; ``more`` are at least to follow."""
    match = Match.EXACT
    if args and args[0] in _MATCHES and len(args) >= 2 + more:
        match, args = Match(args[0]), args[1:]
    if len(args) < 1 + more:
        raise directive.wrong("needs a name or pattern, and what it becomes")
    text = args[0]
    match match:
        case Match.EXACT:
            text = names.to_text(names.from_text(text.lower()))
        case Match.SUFFIX:
            text = text.lower().removesuffix(".") + "."
        case Match.PREFIX | Match.SUBSTRING:
            text = text.lower()
        case Match.REGEX:
            text = pattern_of(text)
    return NamePattern(match, text), args[1:]


def _name(directive: Directive, args: tuple[str, ...]) -> Rewrite:
    pattern, (target, *rest) = _pattern(directive, args, more=1)
    if pattern.match is Match.EXACT:
        target = names.to_text(names.from_text(target.lower()))
    elif pattern.match is Match.SUFFIX:
        target = target.lower().removesuffix(".") + "."
    change = NameRewrite(pattern, target)
    while rest:
        change, rest = _answer(directive, change, rest)
    return change


def _answer(directive: Directive, change: NameRewrite, rest: list[str]) -> tuple[NameRewrite, list[str]]:
    match rest:
        case ["answer", "auto", *after]:
            if change.pattern.match is Match.REGEX:
                raise directive.wrong("answer auto cannot invert a regular expression; say answer name")
            return replace(change, auto=True), after
        case ["answer", "name", source, target, *after]:
            return replace(change, answer_names=(*change.answer_names, (pattern_of(source), target))), after
        case ["answer", "value", source, target, *after]:
            return replace(change, answer_values=(*change.answer_values, (pattern_of(source), target))), after
        case _:
            raise directive.wrong(
                f"unexpected {rest[0]!r}; there are answer auto, answer name FROM TO, answer value FROM TO"
            )


def _ttl(directive: Directive, args: tuple[str, ...]) -> Rewrite:
    pattern, rest = _pattern(directive, args, more=1)
    if len(rest) != 1:
        raise directive.wrong("needs seconds, or a range such as 30-300")
    least, dash, most = rest[0].partition("-")
    least_s = whole_number(least, 0, MOST_TTL_S) if least or not dash else 0
    most_s = least_s if not dash else whole_number(most, 0, MOST_TTL_S) if most else MOST_TTL_S
    if most_s < least_s:
        raise directive.wrong(f"{rest[0]!r}: the range is empty")
    return TtlRewrite(pattern, least_s, most_s)


def _rcode(directive: Directive, args: tuple[str, ...]) -> Rewrite:
    pattern, rest = _pattern(directive, args, more=2)
    if len(rest) != 2:
        raise directive.wrong("needs a name and two codes")
    return RcodeRewrite(pattern, rcode_of(rest[0]), rcode_of(rest[1]))


def _two(directive: Directive, args: tuple[str, ...]) -> tuple[str, str]:
    if len(args) != 2:
        raise directive.wrong(f"needs two values, {len(args)} given")
    return args[0], args[1]


def _type(directive: Directive, args: tuple[str, ...]) -> Rewrite:
    source, target = _two(directive, args)
    return NumberRewrite("type", record_type(source), record_type(target))


def _class(directive: Directive, args: tuple[str, ...]) -> Rewrite:
    source, target = (text.upper() for text in _two(directive, args))
    for text in (source, target):
        if text not in CLASSES:
            raise directive.wrong(f"{text!r} is not one of {', '.join(CLASSES)}")
    return NumberRewrite("class", CLASSES[source], CLASSES[target])


def _edns0(directive: Directive, args: tuple[str, ...]) -> Rewrite:
    if args[-1:] == ("revert",):
        args = args[:-1]  # an option of ours never goes back to the client
    match args:
        case ("nsid", ("set" | "append" | "replace") as action):
            return Edns0Rewrite("nsid", action)
        case ("subnet", ("set" | "append" | "replace") as action, four, six):
            bits = whole_number(four, 0, 32), whole_number(six, 0, 128)
            return Edns0Rewrite("subnet", action, prefixes=bits)
        case ("local", ("set" | "append" | "replace") as action, code, content):
            return Edns0Rewrite("local", action, _option_code(code), _content(content))
        case _:
            raise directive.wrong(
                "edns0: there are local ACTION CODE VALUE, nsid ACTION and subnet ACTION BITS4 BITS6, with"
                " ACTION one of set, append, replace"
            )


def _option_code(text: str) -> int:
    try:
        code = int(text, 0)
    except ValueError:
        code = -1
    if not 0 <= code < 65536:
        raise InvalidInput(f"{text!r} is not the code of an option")
    return code


_VARIABLES = ("{qname}", "{qtype}", "{client_ip}", "{protocol}")


def _content(text: str) -> str:
    if text.startswith("0x") and not re.fullmatch(r"0x([0-9a-fA-F]{2})*", text):
        raise InvalidInput(f"{text!r} is not hexadecimal")
    if text.startswith("{") and text not in _VARIABLES:
        raise InvalidInput(f"{text!r} is not one of {', '.join(_VARIABLES)}")
    return text


_READERS: Mapping[str, Callable[[Directive, tuple[str, ...]], Rewrite]] = {
    "name": _name,
    "type": _type,
    "class": _class,
    "ttl": _ttl,
    "rcode": _rcode,
    "edns0": _edns0,
}
