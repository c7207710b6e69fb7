"""Roles, bindings, and whether they allow something. *Pure.*

Source: Kubernetes documentation, "Using RBAC Authorization".
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product

from kubenet.apiserver.attributes import Attributes
from kubenet.apiserver.tree import tables_at, text_at, texts_at
from kubenet.apiserver.users import SERVICE_ACCOUNT_PREFIX, User
from kubenet.model.objects import Json, JsonValue

ANY = "*"


@dataclass(frozen=True, slots=True)
class Rule:
    """What one rule of a role allows."""

    verbs: frozenset[str]
    groups: frozenset[str] = frozenset()
    resources: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()
    paths: frozenset[str] = frozenset()

    def allows(self, asked: Attributes) -> bool:
        """Return whether this rule alone allows what is asked."""
        if not _holds(self.verbs, asked.verb):
            return False
        if asked.path:
            return any(_path_matches(path, asked.path) for path in self.paths)
        return (
            _holds(self.groups, asked.group)
            and self._names_resource(asked)
            and (not self.names or asked.name in self.names)
        )

    def _names_resource(self, asked: Attributes) -> bool:
        if _holds(self.resources, asked.full_resource):
            return True
        return bool(asked.subresource) and f"{ANY}/{asked.subresource}" in self.resources

    def described(self) -> Json:
        """Return the rule as the API writes it."""
        parts = (
            ("verbs", self.verbs),
            ("apiGroups", self.groups),
            ("resources", self.resources),
            ("resourceNames", self.names),
            ("nonResourceURLs", self.paths),
        )
        shown: dict[str, JsonValue] = {key: [*sorted(values)] for key, values in parts if values}
        return shown


def _holds(values: frozenset[str], wanted: str) -> bool:
    return ANY in values or wanted in values


def _path_matches(pattern: str, path: str) -> bool:
    return pattern == path or (pattern.endswith(ANY) and path.startswith(pattern[:-1]))


def rules_of(role: Json) -> tuple[Rule, ...]:
    """Return the rules of a Role or ClusterRole."""
    return tuple(_rule(rule) for rule in tables_at(role, "rules"))


def _rule(rule: Json) -> Rule:
    parts = ("verbs", "apiGroups", "resources", "resourceNames", "nonResourceURLs")
    return Rule(*(frozenset(texts_at(rule, part)) for part in parts))


def is_subject(binding: Json, user: User) -> bool:
    """Return whether a binding is about this user."""
    return any(_is(subject, user) for subject in tables_at(binding, "subjects"))


def _is(subject: Json, user: User) -> bool:
    kind, name = text_at(subject, "kind"), text_at(subject, "name")
    if kind == "Group":
        return name in user.groups
    if kind == "ServiceAccount":
        return user.name == f"{SERVICE_ACCOUNT_PREFIX}{text_at(subject, 'namespace')}:{name}"
    return kind == "User" and name == user.name


def not_covered(held: Iterable[Rule], wanted: Iterable[Rule]) -> list[Rule]:
    """Return those of ``wanted`` that allow something which ``held`` does not: nobody may grant these."""
    held = list(held)
    return [
        rule for rule in wanted if not all(any(have.allows(atom) for have in held) for atom in _atoms(rule))
    ]


def _atoms(rule: Rule) -> Iterator[Attributes]:
    """Yield each single thing that a rule allows; a wildcard is covered by a wildcard only."""
    for verb, path in product(rule.verbs, rule.paths):
        yield Attributes(verb, path=path)
    names = rule.names or frozenset(("",))
    for verb, group, resource, name in product(rule.verbs, rule.groups, rule.resources, names):
        base, _, subresource = resource.partition("/")
        yield Attributes(verb, group, base, subresource, name=name)
