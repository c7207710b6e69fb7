"""Who manages which field, and server-side apply. *Pure.*

Every write leaves its mark: the fields that it changed belong to its writer from then on, and to no other
writer of the "Update" kind. An apply says what its manager wants: fields of others are not taken without
force, and what it wanted before and wants no more goes, unless somebody else has it.

Source: Kubernetes documentation, "Server-Side Apply"; metav1.ManagedFieldsEntry.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kubenet.apiserver import fields
from kubenet.apiserver.fields import Fields, Path
from kubenet.apiserver.status import StatusError, bad_request, invalid, required, unprocessable
from kubenet.apiserver.strategy import Kind
from kubenet.apiserver.tree import list_at, table_at, text_at
from kubenet.model.objects import Json, JsonValue
from kubenet.model.resources import Resource

PATCH_OPTIONS = Resource("meta.k8s.io", "v1", "patchoptions", "PatchOptions", False)
BEFORE_FIRST_APPLY = "before-first-apply"
APPLY, UPDATE = "Apply", "Update"
NAME_MOST = 128
# What belongs to the server or names the object: nobody manages it.
_UNMANAGED_METADATA = frozenset(
    f"f:{name}"
    for name in (
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "selfLink",
        "managedFields",
    )
)


@dataclass(frozen=True, slots=True)
class Manager:
    """Who writes: a name, how, and through which part of the object."""

    name: str
    operation: str = UPDATE
    subresource: str = ""


@dataclass(frozen=True, slots=True)
class Managed:
    """One entry of managedFields."""

    manager: Manager
    api_version: str
    time: str
    fields: Fields

    def described(self) -> Json:
        entry: Json = {"manager": self.manager.name, "operation": self.manager.operation}
        entry |= {"apiVersion": self.api_version, "time": self.time, "fieldsType": "FieldsV1"}
        entry["fieldsV1"] = fields.to_json(self.fields)
        if self.manager.subresource:
            entry["subresource"] = self.manager.subresource
        return entry

    def shown(self) -> str:
        """Return who this is, as a conflict names them."""
        name = f'"{self.manager.name}"'
        if self.manager.subresource:
            name += f' with subresource "{self.manager.subresource}"'
        if self.manager.operation == APPLY:
            return name
        return f"{name} using {self.api_version}" + (f" at {self.time}" if self.time else "")


Managers = Mapping[Manager, Managed]


def managers_of(value: Json) -> dict[Manager, Managed]:
    """Return the managers of an object; an entry that cannot be read is left out."""
    found = {}
    for entry in list_at(value, "metadata", "managedFields"):
        if isinstance(entry, dict) and text_at(entry, "operation") in (APPLY, UPDATE):
            manager = Manager(
                text_at(entry, "manager"), text_at(entry, "operation"), text_at(entry, "subresource")
            )
            paths = frozenset(fields.from_json(table_at(entry, "fieldsV1")))
            found[manager] = Managed(manager, text_at(entry, "apiVersion"), text_at(entry, "time"), paths)
    return found


def written(managers: Managers) -> list[JsonValue]:
    """Return managedFields: appliers first, then by time."""
    ordered = sorted(
        (entry for entry in managers.values() if entry.fields),
        key=lambda entry: (
            entry.manager.operation,
            entry.time,
            entry.manager.name,
            entry.manager.subresource,
        ),
    )
    return [entry.described() for entry in ordered]


def managed(kind: Kind, manager: Manager, found: Iterable[Path]) -> Fields:
    """Return those of the fields that a manager can have."""
    return frozenset(path for path in found if _counts(kind, manager, path))


def _counts(kind: Kind, manager: Manager, path: Path) -> bool:
    if path[0] in ("f:apiVersion", "f:kind") or path == ("f:metadata",):
        return False
    if path[0] == "f:metadata":
        return path[1] not in _UNMANAGED_METADATA
    if path in (("f:spec",), ("f:status",)):
        return False
    if not kind.strategy.has_status:
        return True
    return (path[0] == "f:status") == (manager.subresource == "status")


def tracked(kind: Kind, manager: Manager, states: tuple[Json, Json], now: str) -> list[JsonValue]:
    """Return the managedFields after a write that is no apply; ``states`` are the old and the new one."""
    old, new = states
    entries = _base(old, new)
    node = fields.root(kind.message)
    found = fields.difference(node, _comparable(old), _comparable(new))
    changed, removed = managed(kind, manager, found.changed), found.removed
    if not changed and not removed:
        return written(entries)
    lost = changed | removed
    mine = entries.pop(manager, None)
    rest = {key: _with(entry, entry.fields - lost) for key, entry in entries.items()}
    own = ((mine.fields if mine else fields.NONE) - removed) | changed
    time = now if changed or mine is None else mine.time
    rest[manager] = Managed(manager, kind.resource.api_version, time, own)
    return written(rest)


def _base(old: Json, new: Json) -> dict[Manager, Managed]:
    """Return the managers before a write: a client may edit the list, or clear it with one empty entry."""
    sent = list_at(new, "metadata", "managedFields")
    if sent == [{}]:
        return {}
    return managers_of(new) or managers_of(old)


def _comparable(value: Json) -> Json:
    """Return what is compared: nothing that no one manages, and no list of managers."""
    metadata = {key: member for key, member in table_at(value, "metadata").items() if key != "managedFields"}
    return {**value, "metadata": metadata} if value else {}


def _with(entry: Managed, left: Fields) -> Managed:
    return Managed(entry.manager, entry.api_version, entry.time, left)


@dataclass(frozen=True, slots=True)
class Intent:
    """An apply: whose, what they want, and whether they take it from others."""

    manager: Manager
    config: Json
    force: bool = False


def check_intent(manager: str, config: Json) -> None:
    """Refuse an apply that names no manager, or brings a list of managers. Raises StatusError (400, 422)."""
    if not manager:
        cause = required("fieldManager", "is required for apply patch")
        raise unprocessable(PATCH_OPTIONS, "", [cause])
    if len(manager) > NAME_MOST or not manager.isprintable():
        cause = invalid("fieldManager", manager[:NAME_MOST], "may not be more than 128 printable characters")
        raise unprocessable(PATCH_OPTIONS, "", [cause])
    if "managedFields" in table_at(config, "metadata"):
        raise bad_request("metadata.managedFields must be nil")


def applied(kind: Kind, live: Json, intent: Intent, now: str) -> Json:
    """Return ``live`` as an apply wants it, its managedFields included. Raises StatusError (409).

    ``live`` is empty if the object does not exist.
    """
    node, manager = fields.root(kind.message), intent.manager
    entries = managers_of(live)
    if live and not entries:
        before = Manager(BEFORE_FIRST_APPLY)
        all_of_it = managed(kind, before, fields.leaves(node, _comparable(live)))
        entries[before] = Managed(before, kind.resource.api_version, now, all_of_it)
    fields.check_keys(node, intent.config)
    mine = entries.pop(manager, None)
    own = managed(kind, manager, fields.leaves(node, intent.config))
    others = frozenset(path for entry in entries.values() for path in entry.fields)
    wanted = fields.merged(node, live, intent.config)
    dropped = (mine.fields if mine else fields.NONE) - own - others
    wanted = fields.without(node, wanted, dropped, own | others)
    assert isinstance(wanted, dict)
    entries = _taken(kind, intent, entries, (live, wanted))
    same = mine is not None and mine.fields == own and mine.api_version == kind.resource.api_version
    time = mine.time if mine and same and _comparable(live) == _comparable(wanted) else now
    entries[manager] = Managed(manager, kind.resource.api_version, time, own)
    metadata = {**table_at(wanted, "metadata"), "managedFields": written(entries)}
    return {**wanted, "metadata": metadata}


def _taken(
    kind: Kind, intent: Intent, entries: Managers, states: tuple[Json, Json]
) -> dict[Manager, Managed]:
    """Return the other managers without the fields that an apply changes. Raises StatusError (409)."""
    live, wanted = states
    node = fields.root(kind.message)
    found = fields.difference(node, _comparable(live), _comparable(wanted))
    changed = managed(kind, intent.manager, found.changed)
    conflicts = {key: entry.fields & changed for key, entry in entries.items()}
    if any(conflicts.values()) and not intent.force:
        raise _conflict([(entries[key], paths) for key, paths in conflicts.items() if paths])
    return {
        key: _with(entry, entry.fields - conflicts[key] - found.removed) for key, entry in entries.items()
    }


def _conflict(found: list[tuple[Managed, Fields]]) -> StatusError:
    pairs = [(entry.shown(), fields.shown(path)) for entry, paths in found for path in sorted(paths)]
    causes: list[JsonValue] = [
        {"reason": "FieldManagerConflict", "message": f"conflict with {who}", "field": field}
        for who, field in pairs
    ]
    lines = []
    for who in dict.fromkeys(who for who, _ in pairs):
        names = [field for owner, field in pairs if owner == who]
        if len(names) == 1:
            lines.append(f"conflict with {who}: {names[0]}")
        else:
            lines.append("\n- ".join((f"conflicts with {who}:", *names)))
    count = f"{len(pairs)} conflict{'' if len(pairs) == 1 else 's'}"
    message = f"Apply failed with {count}: " + "\n".join(lines)
    return StatusError(409, "Conflict", message, {"causes": causes})
