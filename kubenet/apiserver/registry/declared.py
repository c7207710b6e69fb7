"""Kinds whose rules can be written down as values: defaults, a first status, what never changes. *Pure.*"""

from collections.abc import Iterator, Mapping

from kubenet.apiserver.status import Cause, forbidden_field
from kubenet.apiserver.strategy import Strategy
from kubenet.apiserver.tree import copied, copied_table, table_at
from kubenet.model.objects import Json, JsonValue


class Declared(Strategy):
    """A kind without code of its own."""

    defaults: Mapping[str, JsonValue] = {}
    """What is filled in where it is missing; tables are filled member by member."""
    status: Mapping[str, JsonValue] | None = None
    """The status at creation; None: the kind has none."""
    fixed: tuple[str, ...] = ()
    """Members, given as ``spec.name``, that an update may not change."""

    @property
    def has_status(self) -> bool:  # type: ignore[override]  # a value of the class elsewhere
        return self.status is not None

    def fill_defaults(self, new: Json) -> None:
        fill(new, self.defaults)

    def fill_create(self, new: Json) -> None:
        if self.status is not None:
            new["status"] = copied_table(self.status)

    def update_causes(self, new: Json, old: Json) -> Iterator[Cause]:
        for path in self.fixed:
            *parents, last = path.split(".")
            if table_at(new, *parents).get(last) != table_at(old, *parents).get(last):
                yield forbidden_field(path, "updates to this field are forbidden: it is immutable")


def fill(new: Json, defaults: Mapping[str, JsonValue]) -> None:
    """Give ``new`` the members of ``defaults`` that it lacks."""
    for key, value in defaults.items():
        have = new.get(key)
        if isinstance(value, dict) and isinstance(have, dict):
            fill(have, value)
        elif have in (None, ""):
            new[key] = copied(value)


def declared(
    defaults: Json | None = None,
    status: Mapping[str, JsonValue] | None = None,
    fixed: tuple[str, ...] = (),
    generation_of: tuple[str, ...] = ("spec",),
) -> Strategy:
    """Return the strategy of a kind that is written down as values."""
    strategy = Declared()
    strategy.defaults = defaults or {}
    strategy.status = status
    strategy.fixed = fixed
    strategy.generation_of = generation_of
    return strategy


def default(parent: Json, key: str, value: JsonValue) -> None:
    """Give ``key`` a value if it has none."""
    fill(parent, {key: value})
