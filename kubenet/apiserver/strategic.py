"""Strategic merge patch: lists of objects are merged by a key that the schema names. *Pure.*

A merge patch replaces a list whole; kubectl sends this form instead for the kinds that are built in, so that
a changed image does not have to repeat every container. Members that begin with ``$`` are directives.

Source: Kubernetes documentation, "Update API Objects in Place Using kubectl patch"; the merge keys are those
of the API reference ("patch merge key").
"""

from kubenet.apiserver.status import bad_request
from kubenet.apiserver.tree import copied
from kubenet.model.objects import Json, JsonValue

PATCH = "$patch"
ORDER = "$setElementOrder/"
DELETE_PRIMITIVE = "$deleteFromPrimitiveList/"
RETAIN = "$retainKeys"

# By the name of the list; where one name means different lists, by its parent's name and its own.
MERGE_KEYS = {
    "conditions": "type",
    "containers": "name",
    "initContainers": "name",
    "ephemeralContainers": "name",
    "env": "name",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "volumes": "name",
    "imagePullSecrets": "name",
    "hostAliases": "ip",
    "ownerReferences": "uid",
    "topologySpreadConstraints": "topologyKey",
    "podIPs": "ip",
    "hostIPs": "ip",
    "addresses": "type",
    "secrets": "name",
    "resourceClaims": "name",
    "containers.ports": "containerPort",
    "initContainers.ports": "containerPort",
    "spec.ports": "port",
    "loadBalancer.ingress": "ip",
}
PRIMITIVE_SETS = frozenset(("finalizers", "podCIDRs"))
# Lists of the same name that are not merged: an EndpointSlice's and an Endpoints' are atomic.
REPLACED = frozenset(("endpoints.addresses", "subsets.addresses", "subsets.ports"))


def merge_key(parent: str, name: str) -> str:
    """Return the key by which the elements of a list are told apart; empty if the list is replaced whole."""
    if f"{parent}.{name}" in REPLACED:
        return ""
    return MERGE_KEYS.get(f"{parent}.{name}") or MERGE_KEYS.get(name, "")


def strategic_merge(target: Json, patch: Json, name: str = "") -> Json:
    """Return ``target`` with a strategic merge patch applied. Raises StatusError (400)."""
    match patch.get(PATCH):
        case "replace":
            return _without_directives(patch)
        case "delete":
            return {}
        case None | "merge":
            merged = _retained(target, patch)
        case directive:
            raise bad_request(f"Unknown patch type: {directive!r}")
    _merge_members(merged, patch, name)
    for key, value in patch.items():
        if key.startswith(ORDER):
            _set_order(merged, key.removeprefix(ORDER), value, name)
    return merged


def _merge_members(merged: Json, patch: Json, name: str) -> None:
    for key, value in patch.items():
        if not key.startswith("$"):
            _merge_member(merged, key, value, name)
    for key, value in patch.items():
        if key.startswith(DELETE_PRIMITIVE):
            _drop_primitives(merged, key.removeprefix(DELETE_PRIMITIVE), value)


def _merge_member(merged: Json, key: str, value: JsonValue, name: str) -> None:
    if value is None:
        merged.pop(key, None)
    else:
        merged[key] = _merged_member(merged.get(key), value, name, key)


def _retained(target: Json, patch: Json) -> Json:
    kept = patch.get(RETAIN)
    if not isinstance(kept, list):
        return dict(target)
    return {key: value for key, value in target.items() if key in kept}


def _merged_member(have: JsonValue, value: JsonValue, parent: str, key: str) -> JsonValue:
    if isinstance(value, dict):
        return strategic_merge(have if isinstance(have, dict) else {}, value, key)
    if not isinstance(value, list):
        return value
    by = merge_key(parent, key)
    if by:
        return _merged_list(have if isinstance(have, list) else [], value, by, key)
    if key in PRIMITIVE_SETS and isinstance(have, list):
        return have + [copied(element) for element in value if element not in have]
    return copied(value)


def _merged_list(have: list[JsonValue], patch: list[JsonValue], by: str, name: str) -> list[JsonValue]:
    """Merge two lists of objects by the member ``by``; new elements go to the end."""
    elements = [element for element in patch if isinstance(element, dict)]
    if len(elements) != len(patch):
        raise bad_request(f"{name} is a list of objects")
    if any(element.get(PATCH) == "replace" and by not in element for element in elements):
        return [_without_directives(element) for element in elements if set(element) != {PATCH}]
    merged = list(have)
    for element in elements:
        if by not in element:
            raise bad_request(f"map: {sorted(element)} does not contain declared merge key: {by}")
        at = _position(merged, by, element[by])
        if element.get(PATCH) == "delete":
            merged = [other for other in merged if not _has(other, by, element[by])]
        elif at is None:
            merged.append(strategic_merge({}, element, name))
        else:
            before = merged[at]
            merged[at] = strategic_merge(before if isinstance(before, dict) else {}, element, name)
    return merged


def _has(element: JsonValue, by: str, value: JsonValue) -> bool:
    return isinstance(element, dict) and element.get(by) == value


def _position(elements: list[JsonValue], by: str, value: JsonValue) -> int | None:
    return next((index for index, element in enumerate(elements) if _has(element, by, value)), None)


def _drop_primitives(merged: Json, key: str, values: JsonValue) -> None:
    have = merged.get(key)
    if isinstance(have, list) and isinstance(values, list):
        merged[key] = [element for element in have if element not in values]


def _set_order(merged: Json, key: str, order: JsonValue, parent: str) -> None:
    """Sort a list as the client has it; elements that the client does not know keep their place before it."""
    have, by = merged.get(key), merge_key(parent, key)
    if not isinstance(have, list) or not isinstance(order, list):
        return
    wanted = [element.get(by) if isinstance(element, dict) else element for element in order]

    def rank(element: JsonValue) -> JsonValue:
        return element.get(by) if isinstance(element, dict) else element

    known = sorted(
        (element for element in have if rank(element) in wanted),
        key=lambda element: wanted.index(rank(element)),
    )
    merged[key] = _woven(have, known, [rank(element) in wanted for element in have])


def _woven(have: list[JsonValue], known: list[JsonValue], is_known: list[bool]) -> list[JsonValue]:
    """Return ``have`` with its known elements, in their places, replaced by ``known`` in order."""
    replacements = iter(known)
    return [
        next(replacements) if known_here else element
        for element, known_here in zip(have, is_known, strict=True)
    ]


def _without_directives(value: Json) -> Json:
    return {key: copied(member) for key, member in value.items() if not key.startswith("$")}
