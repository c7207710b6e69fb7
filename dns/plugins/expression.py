"""The expressions of ``view``: which queries a server block is for. *Pure.*

    or     = and ("||" and)*            also the words or, and, not
    and    = not ("&&" not)*
    not    = "!" not | compare
    compare= value [("==" | "!=" | "<" | "<=" | ">" | ">=" | "in" | "not in" | "matches" | "contains"
                     | "startsWith" | "endsWith") value]
    value  = 'text' | "text" | number | true | false | [value, ...] | name(value, ...) | (or)

The functions are those of CoreDNS: name(), type(), class(), client_ip(), proto(), incidr(ip, network), ...
Types are checked when an expression is read as far as they are known, so that a query cannot fail on them.

Source: manual page of the plugin view of CoreDNS; language definition of expr-lang.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import TypeAlias

from dns import names
from dns.chain import Origin
from dns.wire import Query
from dns.words import pattern_of
from kubenet.errors import InvalidInput

Value: TypeAlias = "str | int | bool | tuple[Value, ...]"


@dataclass(frozen=True, slots=True)
class Seen:
    """What an expression may speak of."""

    query: Query
    origin: Origin
    type_name: str
    metadata: Mapping[str, str]


Expression: TypeAlias = Callable[[Seen], Value]

_TOKEN = re.compile(
    r"\s*(?:(?P<text>'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")|(?P<number>\d+)|(?P<name>[A-Za-z_]\w*)"
    r"|(?P<mark>\|\||&&|==|!=|<=|>=|[<>!()\[\],]))"
)
_ESCAPE = re.compile(r"\\(.)")
_CLASS_NAMES = {1: "IN", 3: "CH", 4: "HS", 255: "ANY"}

_FUNCTIONS: Mapping[str, Callable[[Seen], Value]] = {
    "bufsize": lambda seen: seen.query.edns.udp_bytes if seen.query.edns else 512,
    "class": lambda seen: _CLASS_NAMES.get(seen.query.question.qclass, f"CLASS{seen.query.question.qclass}"),
    "client_ip": lambda seen: seen.origin.client.partition("%")[0],
    "do": lambda seen: bool(seen.query.edns and seen.query.edns.dnssec_ok),
    "id": lambda seen: seen.query.id,
    "name": lambda seen: names.to_text(seen.query.question.name.lower()),
    "opcode": lambda _seen: 0,
    "port": lambda seen: str(seen.origin.port),
    "proto": lambda seen: "tcp" if seen.origin.stream else "udp",
    "size": lambda seen: seen.origin.size_bytes,
    "type": lambda seen: seen.type_name,
}


def compile_expression(text: str) -> Callable[[Seen], bool]:
    """Return what decides by an expression. Raises InvalidInput."""
    parser = _Parser(text)
    expression = parser.either()
    parser.end()
    return lambda seen: expression(seen) is True


class _Parser:
    """Reads one expression from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = _split(text)
        self._at = 0

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _take(self, *wanted: str) -> str:
        word = self._peek()
        if word and word in wanted:
            self._at += 1
            return word
        return ""

    def _next(self) -> str:
        word = self._peek()
        if not word:
            raise InvalidInput(f"expression {self._text!r}: ends too early")
        self._at += 1
        return word

    def _expect(self, mark: str) -> None:
        if not self._take(mark):
            raise InvalidInput(f"expression {self._text!r}: {mark} expected at {self._peek() or 'its end'!r}")

    def end(self) -> None:
        if self._peek():
            raise InvalidInput(f"expression {self._text!r}: unexpected {self._peek()!r}")

    def either(self) -> Expression:
        left = self._both()
        while self._take("||", "or"):
            left = _either(left, self._both())
        return left

    def _both(self) -> Expression:
        left = self._negated()
        while self._take("&&", "and"):
            left = _both(left, self._negated())
        return left

    def _negated(self) -> Expression:
        if self._take("!", "not"):
            inner = self._negated()
            return lambda seen: inner(seen) is not True
        return self._compared()

    def _compared(self) -> Expression:
        left = self._value()
        operator = self._take(*_OPERATORS)
        if not operator and self._peek() == "not":
            self._next()
            self._expect("in")
            operator = "not in"
        if not operator:
            return left
        right = self._value()
        compare = _OPERATORS[operator]
        if operator == "matches":
            return self._matches(left, self._tokens[self._at - 1])
        return lambda seen: compare(left(seen), right(seen))

    def _matches(self, left: Expression, word: str) -> Expression:
        if word[0] not in "'\"":
            raise InvalidInput(f"expression {self._text!r}: matches needs a pattern in quotes")
        try:
            pattern = re.compile(pattern_of(_ESCAPE.sub(r"\1", word[1:-1])))
        except InvalidInput as error:
            raise InvalidInput(f"expression {self._text!r}: {error}") from error
        return lambda seen: pattern.search(str(left(seen))) is not None

    def _value(self) -> Expression:
        word = self._next()
        if word == "(":
            inner = self.either()
            self._expect(")")
            return inner
        if word == "[":
            members = self._list("]")
            return lambda seen: tuple(member(seen) for member in members)
        if word[0] in "'\"":
            text = _ESCAPE.sub(r"\1", word[1:-1])
            return lambda _seen: text
        if word.isdecimal():
            number = int(word)
            return lambda _seen: number
        if word in ("true", "false"):
            truth = word == "true"
            return lambda _seen: truth
        return self._called(word)

    def _called(self, function: str) -> Expression:
        self._expect("(")
        members = self._list(")")
        if function == "incidr" and len(members) == 2:
            return lambda seen: _in_cidr(members[0](seen), members[1](seen))
        if function == "metadata" and len(members) == 1:
            return lambda seen: seen.metadata.get(str(members[0](seen)), "")
        if function not in _FUNCTIONS or members:
            known = ", ".join(f"{name}()" for name in sorted(_FUNCTIONS))
            raise InvalidInput(
                f"expression {self._text!r}: no {function}(); there are {known}, incidr(IP, CIDR)"
            )
        return _FUNCTIONS[function]

    def _list(self, closing: str) -> Sequence[Expression]:
        found: list[Expression] = []
        while not self._take(closing):
            if found:
                self._expect(",")
            found.append(self.either())
        return found


def _split(text: str) -> list[str]:
    found: list[str] = []
    at = 0
    while at < len(text.rstrip()):
        word = _TOKEN.match(text, at)
        if word is None:
            raise InvalidInput(f"expression {text!r}: cannot read {text[at:].strip()[:20]!r}")
        found.append(word[0].strip())
        at = word.end()
    return found


def _either(left: Expression, right: Expression) -> Expression:
    return lambda seen: left(seen) is True or right(seen) is True


def _both(left: Expression, right: Expression) -> Expression:
    return lambda seen: left(seen) is True and right(seen) is True


def _in_cidr(ip: Value, network: Value) -> bool:
    try:
        return ip_address(str(ip)) in ip_network(str(network), strict=False)
    except ValueError:
        return False


def _less(left: Value, right: Value) -> bool:
    return isinstance(left, int) and isinstance(right, int) and left < right


def _texts(compare: Callable[[str, str], bool]) -> Callable[[Value, Value], bool]:
    return lambda left, right: isinstance(left, str) and isinstance(right, str) and compare(left, right)


_OPERATORS: Mapping[str, Callable[[Value, Value], bool]] = {
    "==": lambda left, right: left == right,
    "!=": lambda left, right: left != right,
    "<": _less,
    ">": lambda left, right: _less(right, left),
    "<=": lambda left, right: left == right or _less(left, right),
    ">=": lambda left, right: left == right or _less(right, left),
    "in": lambda left, right: isinstance(right, tuple) and left in right,
    "not in": lambda left, right: isinstance(right, tuple) and left not in right,
    "contains": _texts(lambda left, right: right in left),
    "startsWith": _texts(str.startswith),
    "endsWith": _texts(str.endswith),
    "matches": lambda _left, _right: False,  # see _Parser._matches: the pattern is made ready once
}
