"""Label and field selectors: parsing the query language, and matching. *Pure.*

Source: Kubernetes documentation, "Labels and Selectors" (set-based and equality-based), "Field Selectors".
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from kubenet.apiserver.names import label_value, qualified_name
from kubenet.apiserver.status import Cause, StatusError, bad_request, invalid, required, unsupported
from kubenet.apiserver.tree import strings_at, tables_at, text_at, texts_at
from kubenet.model.objects import Json


class Operator(Enum):
    """What a requirement asks of one label."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    ABSENT = "DoesNotExist"


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition on one label; a label that is missing satisfies NOT_IN."""

    key: str
    operator: Operator
    values: frozenset[str] = frozenset()

    def matches(self, labels: Mapping[str, str]) -> bool:
        match self.operator:
            case Operator.IN:
                return self.key in labels and labels[self.key] in self.values
            case Operator.NOT_IN:
                return self.key not in labels or labels[self.key] not in self.values
            case Operator.EXISTS:
                return self.key in labels
            case Operator.ABSENT:
                return self.key not in labels


_TOKEN = re.compile(r"\s*(?:(==|!=|=|!|,|\(|\))|([^\s=!,()]+))")
_SYMBOLS = frozenset(("==", "!=", "=", "!", ",", "(", ")"))
_COMPARISONS = {"=": Operator.IN, "==": Operator.IN, "!=": Operator.NOT_IN}
_LISTS = {"in": Operator.IN, "notin": Operator.NOT_IN}


def parse_label_selector(text: str) -> tuple[Requirement, ...]:
    """Return the requirements of ``a=b,c!=d,e in (f,g),h notin (i),j,!k``; an empty text has none.

    Raises StatusError (400).
    """
    return tuple(_Parser(text).requirements())


class _Parser:
    """One pass over the words of a selector."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._words = [found[1] or found[2] for found in _TOKEN.finditer(text)]
        self._at = 0

    def requirements(self) -> Iterator[Requirement]:
        if not self._words:
            return
        yield self._requirement()
        while self._at < len(self._words):
            self._expect(",")
            yield self._requirement()

    def _next(self) -> str:
        """Return the word at hand, empty at the end, without passing it."""
        return self._words[self._at] if self._at < len(self._words) else ""

    def _expect(self, word: str) -> None:
        if self._next() != word:
            raise self._refusal(f"found '{self._next()}', expected: '{word}'")
        self._at += 1

    def _word(self) -> str:
        """Pass a word that is no symbol."""
        word = self._next()
        if not word or word in _SYMBOLS:
            raise self._refusal(f"found '{word}', expected: identifier")
        self._at += 1
        return word

    def _key(self) -> str:
        key = self._word()
        if trouble := qualified_name(key):
            raise self._refusal(trouble)
        return key

    def _requirement(self) -> Requirement:
        if self._next() == "!":
            self._at += 1
            return Requirement(self._key(), Operator.ABSENT)
        key, word = self._key(), self._next()
        if word in ("", ","):
            return Requirement(key, Operator.EXISTS)
        self._at += 1
        if word in _COMPARISONS:
            value = "" if self._next() in ("", ",") else self._word()
            return self._checked(Requirement(key, _COMPARISONS[word], frozenset((value,))))
        if word in _LISTS:
            return self._checked(Requirement(key, _LISTS[word], self._values()))
        raise self._refusal(f"found '{word}', expected: in, notin, =, ==, !=")

    def _values(self) -> frozenset[str]:
        """Pass ``(a,b)``; a value may be empty."""
        values: set[str] = set()
        self._expect("(")
        while True:
            values.add("" if self._next() in (",", ")") else self._word())
            if self._next() == ")":
                self._at += 1
                return frozenset(values)
            self._expect(",")

    def _checked(self, requirement: Requirement) -> Requirement:
        for trouble in filter(None, map(label_value, sorted(requirement.values))):
            raise self._refusal(trouble)
        return requirement

    def _refusal(self, why: str) -> StatusError:
        return bad_request(f'unable to parse requirement: {why} in selector "{self._text}"')


def matches(requirements: Collection[Requirement], labels: Mapping[str, str]) -> bool:
    """Return whether the labels satisfy every requirement."""
    return all(requirement.matches(labels) for requirement in requirements)


def requirements_of(selector: Json) -> tuple[Requirement, ...]:
    """Return the requirements of a metav1.LabelSelector."""
    exact = [
        Requirement(key, Operator.IN, frozenset((value,)))
        for key, value in strings_at(selector, "matchLabels").items()
    ]
    operators = {operator.value for operator in Operator}
    expressions = [
        Requirement(
            text_at(part, "key"), Operator(text_at(part, "operator")), frozenset(texts_at(part, "values"))
        )
        for part in tables_at(selector, "matchExpressions")
        if text_at(part, "operator") in operators
    ]
    return (*exact, *expressions)


def selects(selector: Json, labels: Mapping[str, str]) -> bool:
    """Return whether a metav1.LabelSelector selects an object with these labels."""
    return matches(requirements_of(selector), labels)


def selector_causes(selector: Json, field: str) -> Iterator[Cause]:
    """Yield what is wrong with a metav1.LabelSelector that stands at ``field``."""
    for key, value in strings_at(selector, "matchLabels").items():
        if trouble := qualified_name(key):
            yield invalid(f"{field}.matchLabels", key, trouble)
        if trouble := label_value(value):
            yield invalid(f"{field}.matchLabels", value, trouble)
    for index, part in enumerate(tables_at(selector, "matchExpressions")):
        yield from _expression_causes(part, f"{field}.matchExpressions[{index}]")


def _expression_causes(expression: Json, field: str) -> Iterator[Cause]:
    operator, values = text_at(expression, "operator"), texts_at(expression, "values")
    if operator not in {operator.value for operator in Operator}:
        yield unsupported(f"{field}.operator", operator, [operator.value for operator in Operator])
    elif operator in ("In", "NotIn") and not values:
        yield required(f"{field}.values", "must be specified when `operator` is 'In' or 'NotIn'")
    elif operator in ("Exists", "DoesNotExist") and values:
        detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
        yield Cause(f"{field}.values", "FieldValueForbidden", f"Forbidden: {detail}")
    if trouble := qualified_name(text_at(expression, "key")):
        yield invalid(f"{field}.key", text_at(expression, "key"), trouble)


def selector_text(selector: Json) -> str:
    """Return a metav1.LabelSelector in the query language, sorted: what a Scale's status carries."""
    return ",".join(
        _requirement_text(part) for part in sorted(requirements_of(selector), key=lambda r: r.key)
    )


def _requirement_text(requirement: Requirement) -> str:
    values = ",".join(sorted(requirement.values))
    match requirement.operator:
        case Operator.EXISTS:
            return requirement.key
        case Operator.ABSENT:
            return f"!{requirement.key}"
        case Operator.NOT_IN:
            return f"{requirement.key} notin ({values})"
        case Operator.IN if len(requirement.values) == 1:
            return f"{requirement.key}={values}"
        case Operator.IN:
            return f"{requirement.key} in ({values})"


@dataclass(frozen=True, slots=True)
class FieldTerm:
    """One condition on one field."""

    field: str
    value: str
    equal: bool


_FIELD_TERM = re.compile(r"([^=!]+?)\s*(==|!=|=)\s*(.*)")


def parse_field_selector(text: str, known: Collection[str]) -> tuple[FieldTerm, ...]:
    """Return the terms of ``a=b,c!=d``. Raises StatusError (400) also for a field not in ``known``."""
    terms: list[FieldTerm] = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        found = _FIELD_TERM.fullmatch(part)
        if found is None:
            raise bad_request(f"invalid selector: '{text}'; can't understand '{part}'")
        if found[1] not in known:
            raise bad_request(f'field label not supported: "{found[1]}"')
        terms.append(FieldTerm(found[1], found[3], equal=found[2] != "!="))
    return tuple(terms)


def fields_match(terms: Collection[FieldTerm], fields: Mapping[str, str]) -> bool:
    """Return whether the fields satisfy every term."""
    return all((fields.get(term.field, "") == term.value) == term.equal for term in terms)
