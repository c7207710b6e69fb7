"""Which questions go upstream as they are: decided once for all names below one. *Pure* but for its tables.

A name is passed on if the block that it belongs to lets all names pass, and if the cluster's zones, files and
the like end above it. That is the same for all names below one parent, except for those that are the top of
something; these take the long way. The parent of a name that was looked at once is known to be sound, so one
length is all that is left to be looked at.
"""

from collections.abc import Callable, Iterable, Sequence

from dns import names
from dns.names import WireName
from dns.part import Part
from dns.passed import Form, Passed, form_of_query
from dns.tally import Meter
from dns.wire import CLASS_IN, HEADER_BYTES, Query, RType, read_query

_IN = CLASS_IN.to_bytes(2, "big")
# The first is asked by our own look for loops, the others are never answered.
_NOT_PASSED = frozenset(
    rtype.to_bytes(2, "big") for rtype in (RType.HINFO, RType.OPT, RType.AXFR, RType.IXFR)
)
_OPT_BYTES = 11  # without options
_MOST_FORMS = 256
_MOST_PARENTS = 4096


class Passing:
    """The table, for the blocks of one port."""

    def __init__(self, parts: Sequence[Part], meter: Meter) -> None:
        self._parts = parts
        self._meter = meter
        self._forms: dict[bytes, Form] = {}
        self._routes: dict[WireName, tuple[Part, int] | None] = {}  # by parent
        self._tops = frozenset(top for part in parts for top in _tops(part))
        self._any = any(part.passes for part in parts)

    def take(self, message: bytes, way: int, send: Callable[[bytes], None]) -> bool:
        """Return whether the query has been passed on; ``send`` gets the reply, now or later."""
        end = message.find(0, HEADER_BYTES) + 5
        if not self._any or end <= HEADER_BYTES + 5 or message[end - 2 : end] != _IN:
            return False
        form = self._forms.get(message[2:HEADER_BYTES] + message[end:]) or self._learn_form(message, end)
        if form is None or message[end - 4 : end - 2] in _NOT_PASSED:
            return False
        name = message[HEADER_BYTES : end - 4].lower()
        parent = name[1 + name[0] :]
        found = self._routes[parent] if parent in self._routes else self._learn(message, parent)
        if found is None or name[0] > names.MAX_LABEL or len(name) > names.MAX_NAME or name in self._tops:
            return False
        part, route = found
        if part.pass_on is None or part.looping:
            return False
        passed = Passed(message, end, form, way, self._meter, send)
        return part.pass_on(route, name + message[end - 4 : end], passed)

    def _learn_form(self, message: bytes, end: int) -> Form | None:
        """Return the form of a query, None if it is not an ordinary one."""
        query = read_query(message) if len(message) in (end, end + _OPT_BYTES) else None
        if not isinstance(query, Query) or (len(message) > end) != (query.edns is not None):
            return None
        form = form_of_query(query)
        if len(self._forms) < _MOST_FORMS:
            self._forms[message[2:HEADER_BYTES] + message[end:]] = form
        return form

    def _learn(self, message: bytes, parent: WireName) -> tuple[Part, int] | None:
        if not isinstance(read_query(message), Query) or not parent:
            return None
        if len(self._routes) >= _MOST_PARENTS:
            self._routes.clear()
        found = self._routes[parent] = self._decide(parent)
        return found

    def _decide(self, parent: WireName) -> tuple[Part, int] | None:
        """Return who asks for names below ``parent``, and at which of its forwards; None: the long way."""
        zones = {zone: part for part in reversed(self._parts) for zone in part.block.zones}
        zone = next((ending for _, ending in names.suffixes(parent) if ending in zones), None)
        zone = names.ROOT if zone is None and names.ROOT in zones else zone
        part = zones[zone] if zone else None
        if part is None or not part.passes:
            return None
        config = part.responder.zone.config
        if part.has_zone and config.apex_of(names.to_labels(parent)) is not None:
            return None
        route = part.route(parent)
        return None if route is None else (part, route)


def _tops(part: Part) -> Iterable[WireName]:
    """Give the names where something begins that is not decided by the name above."""
    config = part.responder.zone.config
    yield from (config.naming.domain, *config.reverse)
    yield from part.block.zones
    for to in part.block.forwards:
        yield from (to.zone, *to.excepted)
