"""An exercise as data: what is broken, what a user sees, what counts as repaired. *Pure.*

An exercise is a directory with ``exercise.toml`` (below), ``story.md`` (the symptom, nothing else) and
``solution.md``. Its texts name the actors by role, ``<client>`` or ``<b_ip>``; who plays them is drawn by
seed (``labs.cast``), so the same exercise differs from run to run.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import msgspec

from kubenet.errors import InvalidInput
from labs.faults import AnyFault
from labs.faults.steps import Tree

TRACKS: Mapping[int, str] = {
    1: "one pod, one node",
    2: "between nodes",
    3: "services",
    4: "DNS",
    5: "it only happens sometimes",
}
_ROLE = re.compile(r"<([a-z_]+)>")


class _Data(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What may not hold fields that nobody reads: a typing mistake must not pass in silence."""


class Http(_Data, tag_field="kind", tag="http", frozen=True):
    """Requests from a pod to ``HOST:PORT``, a name or an address. All of them must be answered.

    With ``client`` the server must see the request come from that address; ``port`` fixes the source port.
    """

    source: str
    to: str
    path: str = "/"
    times: int = 3
    client: str = ""


class Dns(_Data, tag_field="kind", tag="dns", frozen=True):
    """Questions for the address of a name, to the server and with the search path of the pod."""

    source: str
    name: str
    tcp: bool = False
    times: int = 3
    port: int = 0  # the source port; 0: any


class Ready(_Data, tag_field="kind", tag="ready", frozen=True):
    """A pod that must become ready."""

    pod: str


Probe: TypeAlias = Http | Dns | Ready


class Command(_Data, tag_field="kind", tag="run", frozen=True):
    """A repair: a program in a place."""

    at: str
    run: str

    def shown(self) -> str:
        """Return what a user would type."""
        target = self.at.replace("pod/", "shop/")
        return f"kubenet lab exec {target} -- {self.run}"


class Restart(_Data, tag_field="kind", tag="restart", frozen=True):
    """A repair: a daemon is started again."""

    daemon: str

    def shown(self) -> str:
        """Return what a user would type."""
        return f"kubenet lab daemon restart {self.daemon}"


class Change(_Data, tag_field="kind", tag="change", frozen=True):
    """A repair: an object is changed (or, without a patch, deleted)."""

    what: str  # as kubectl names it: service/web
    path: str
    patch: Tree | None = None

    def shown(self) -> str:
        """Return what a user would type."""
        if self.patch is None:
            return f"kubectl -n shop delete {self.what}"
        return (
            f"kubectl -n shop patch {self.what} --type merge -p '{msgspec.json.encode(self.patch).decode()}'"
        )


class Edit(_Data, tag_field="kind", tag="edit", frozen=True):
    """A repair: a file gets another content, or (without one) goes away."""

    file: str
    text: str | None = None

    def shown(self) -> str:
        """Return what a user would do."""
        return f"edit {self.file}" if self.text is not None else f"remove {self.file}"


Repair: TypeAlias = Command | Restart | Change | Edit


class Exercise(_Data, frozen=True):
    """What ``exercise.toml`` says."""

    title: str
    track: int
    minutes: int
    component: str  # who is responsible: cni, agent, proxy, dns, kernel, app, control plane
    fault: tuple[AnyFault, ...]
    symptom: tuple[Probe, ...]
    repair: tuple[Repair, ...]
    hints: tuple[str, ...]
    where: str = ""  # where the cause sits, in roles: what check or trace must name


@dataclass(frozen=True, slots=True)
class Sheet:
    """One exercise of the catalogue, its roles not yet given away."""

    id: str
    text: str  # exercise.toml
    story: str
    solution: str

    @property
    def title(self) -> str:
        return str(self._raw()["title"])

    @property
    def track(self) -> int:
        return int(str(self._raw()["track"]))

    @property
    def minutes(self) -> int:
        return int(str(self._raw()["minutes"]))

    def played_by(self, roles: Mapping[str, str]) -> Exercise:
        """Return the exercise with its roles given away. Raises InvalidInput."""
        try:
            return msgspec.convert(_filled(self._raw(), roles, self.id), type=Exercise)
        except msgspec.ValidationError as error:
            raise InvalidInput(f"exercise {self.id}: {error}") from error

    def told(self, text: str, roles: Mapping[str, str]) -> str:
        """Return the story or the solution with names in place of roles."""
        return str(_filled(text, roles, self.id))

    def _raw(self) -> dict[str, object]:
        try:
            return tomllib.loads(self.text)
        except tomllib.TOMLDecodeError as error:
            raise InvalidInput(f"exercise {self.id}: {error}") from error


def _filled(value: object, roles: Mapping[str, str], where: str) -> object:
    """Return ``value`` with every ``<role>`` in its texts replaced."""

    def name(match: re.Match[str]) -> str:
        if match[1] not in roles:
            raise InvalidInput(f"exercise {where}: nobody plays <{match[1]}>", f"roles: {', '.join(roles)}")
        return roles[match[1]]

    match value:
        case str():
            return _ROLE.sub(name, value)
        case list():
            return [_filled(each, roles, where) for each in value]
        case dict():
            return {key: _filled(each, roles, where) for key, each in value.items()}
    return value
