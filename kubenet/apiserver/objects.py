"""What the API does to every object on its way into the store, whatever its kind. *Pure.*

A client's dict becomes the object to store: metadata that only the server sets, defaults, generation, and the
list of all that is wrong with it.

Source: API conventions, "Metadata", "Concurrency Control", "Spec and Status".
"""

import re
from dataclasses import dataclass

import msgspec

from kubenet.apiserver import codec
from kubenet.apiserver.names import metadata_causes
from kubenet.apiserver.schema.shape import misfit
from kubenet.apiserver.status import (
    Cause,
    StatusError,
    bad_request,
    conflict,
    invalid,
    required,
    unprocessable,
)
from kubenet.apiserver.strategy import Kind
from kubenet.apiserver.tree import (
    copied,
    copied_table,
    ensure_table,
    int_at,
    table_at,
    tables_at,
    text_at,
    texts_at,
)
from kubenet.model.objects import Json, KubeObject

SERVER_OWNED = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation")


@dataclass(frozen=True, slots=True)
class Birth:
    """What chance and time give a new object."""

    uid: str
    created: str  # RFC 3339
    suffix: str  # five characters, for generateName


def fit_address(kind: Kind, new: Json, namespace: str, name: str) -> None:
    """Make a body name the object that the path names; refuse one that names another.

    Raises StatusError (400).
    """
    resource = kind.resource
    for key, meant in (("kind", resource.kind), ("apiVersion", resource.api_version)):
        if text_at(new, key) not in ("", meant):
            given = f"{text_at(new, 'apiVersion')}, Kind={text_at(new, 'kind')}"
            raise bad_request(
                f"the API version in the data ({given}) does not match the expected API version"
                f" ({resource.api_version}, Kind={resource.kind})"
            )
    new |= {"kind": resource.kind, "apiVersion": resource.api_version}
    metadata = ensure_table(new, "metadata")
    if text_at(metadata, "namespace") not in ("", namespace):
        raise bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )
    if resource.namespaced:
        metadata["namespace"] = namespace
    else:
        metadata.pop("namespace", None)
    if name and text_at(metadata, "name") not in ("", name):
        given = text_at(metadata, "name")
        raise bad_request(f"the name of the object ({given}) does not match the name on the URL ({name})")
    if name:
        metadata["name"] = name


def created(kind: Kind, sent: Json, birth: Birth) -> Json:
    """Return the object to store for a create; addresses are not allocated yet. Raises StatusError."""
    new = _normalised(kind, sent)
    metadata = ensure_table(new, "metadata")
    if text_at(metadata, "resourceVersion"):
        raise bad_request("resourceVersion should not be set on objects to be created")
    for key in SERVER_OWNED:
        metadata.pop(key, None)
    if not text_at(metadata, "name") and text_at(metadata, "generateName"):
        metadata["name"] = text_at(metadata, "generateName")[:58] + birth.suffix
    metadata |= {"uid": birth.uid, "creationTimestamp": birth.created}
    if kind.strategy.generation_of:
        metadata["generation"] = 1
    if kind.strategy.has_status and not kind.strategy.status_on_create:
        new.pop("status", None)
    kind.strategy.fill_defaults(new)
    if "status" not in new:
        kind.strategy.fill_create(new)
    return new


def updated(kind: Kind, sent: Json, old: Json) -> Json:
    """Return the object to store for an update of everything but the status. Raises StatusError (409)."""
    new = _normalised(kind, sent)
    _check_preconditions(kind, new, old)
    metadata, before = ensure_table(new, "metadata"), table_at(old, "metadata")
    for key in SERVER_OWNED:
        metadata.pop(key, None)
        if key in before:
            metadata[key] = before[key]
    if "generateName" in before:
        metadata.setdefault("generateName", before["generateName"])
    if kind.strategy.has_status:
        new.pop("status", None)
        if "status" in old:
            new["status"] = copied(old["status"])
    kind.strategy.fill_update(new, old)
    kind.strategy.fill_defaults(new)
    return new


def count_generation(kind: Kind, new: Json, old: Json) -> None:
    """Count a change of what the object asks for as a new generation, however it was changed."""
    metadata, before = ensure_table(new, "metadata"), int_at(old, "metadata", "generation")
    if before:
        changed = _generation_parts(kind, new) != _generation_parts(kind, old)
        metadata["generation"] = before + 1 if changed else before


def updated_status(kind: Kind, sent: Json, old: Json) -> Json:
    """Return the object to store for an update of the status alone. Raises StatusError (409)."""
    sent = _normalised(kind, sent)
    _check_preconditions(kind, sent, old)
    new = copied_table(old)
    metadata, sent_metadata = ensure_table(new, "metadata"), table_at(sent, "metadata")
    for key in kind.strategy.status_keeps:
        if key in sent_metadata:
            metadata[key] = sent_metadata[key]
    new["status"] = table_at(sent, "status")
    return new


def updated_finalizers(sent: Json, old: Json) -> Json:
    """Return a namespace with the finalizers of its specification replaced: the finalize subresource."""
    new = copied_table(old)
    ensure_table(new, "spec")["finalizers"] = [*texts_at(sent, "spec", "finalizers")]
    return new


def _normalised(kind: Kind, sent: Json) -> Json:
    """Return what was sent without nulls; refuse (400) fields of a wrong type before anything reads them."""
    new = codec.without_null_members(sent)
    _shape_trouble(kind, codec.encoded(new))
    return new


def _check_preconditions(kind: Kind, new: Json, old: Json) -> None:
    name = text_at(old, "metadata", "name")
    revision, uid = text_at(new, "metadata", "resourceVersion"), text_at(new, "metadata", "uid")
    if uid and uid != text_at(old, "metadata", "uid"):
        have = text_at(old, "metadata", "uid")
        why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {have}"
        raise conflict(kind.resource, name, why)
    if revision and not revision.isdigit():
        raise unprocessable(
            kind.resource,
            name,
            [invalid("metadata.resourceVersion", revision, "must be an unsigned integer")],
        )
    if revision and revision != text_at(old, "metadata", "resourceVersion"):
        raise conflict(kind.resource, name)


def _generation_parts(kind: Kind, value: Json) -> list[object]:
    return [value.get(key) for key in kind.strategy.generation_of]


def unchanged(new: Json, old: Json) -> bool:
    """Return whether a write would change nothing: the object keeps its revision, no event is sent."""
    return _comparable(new) == _comparable(old)


def _comparable(value: Json) -> bytes:
    metadata = {
        key: member
        for key, member in table_at(value, "metadata").items()
        if key not in ("resourceVersion", "selfLink") and member not in ({}, [])
    }
    if entries := tables_at(metadata, "managedFields"):
        metadata["managedFields"] = [{**entry, "time": None} for entry in entries]
    # Bytes and not dicts are compared, because Python finds 1 and True equal.
    return msgspec.json.encode({**value, "metadata": metadata}, order="sorted")


def to_store(kind: Kind, new: Json, old: Json | None) -> bytes:
    """Return the stored form of an object, checked. Raises StatusError (400, 422)."""
    resource, metadata = kind.resource, table_at(new, "metadata")
    name = text_at(metadata, "name")
    body = codec.stored(resource, new)
    missing = _shape_trouble(kind, body)
    causes = [] if name else [required("metadata.name", "name or generateName is required")]
    causes += metadata_causes(metadata, kind.name_rule)
    causes += kind.strategy.causes(new)
    causes += kind.strategy.update_causes(new, old) if old is not None else ()
    if causes or missing:
        raise unprocessable(
            resource, name or text_at(metadata, "generateName"), causes or [missing or causes[0]]
        )
    return body


_SHAPE = re.compile(r"(.*?)(?: - at `\$\.?(.*)`)?")
_MISSING = re.compile(r"Object missing required field `(.*)`")


def _shape_trouble(kind: Kind, body: bytes) -> Cause | None:
    """Refuse (400) a field of the wrong type; return the cause if a field is missing that readers need."""
    if kind.strategy.shape is KubeObject and (trouble := misfit(kind.message, msgspec.json.decode(body))):
        name = kind.resource.kind
        version = kind.resource.version
        raise bad_request(f'{name} in version "{version}" cannot be handled as a {name}: json: {trouble}')
    try:
        msgspec.json.decode(body, type=kind.strategy.shape)
    except msgspec.ValidationError as error:
        found = _SHAPE.fullmatch(str(error))
        what, where = (found[1], found[2] or "") if found else (str(error), "")
        if missing := _MISSING.fullmatch(what):
            return required(f"{where}.{missing[1]}" if where else missing[1])
        raise _not_this_kind(kind, what, where) from None
    return None


def _not_this_kind(kind: Kind, what: str, where: str) -> StatusError:
    name, what = kind.resource.kind, what.replace("`", "")
    return bad_request(
        f'{name} in version "{kind.resource.version}" cannot be handled as a {name}: json:'
        f" {what[:1].lower()}{what[1:]} in field {where or 'of the object itself'}"
    )


def deleting(value: Json) -> bool:
    """Return whether the object waits for its end."""
    return bool(text_at(value, "metadata", "deletionTimestamp"))


def goes_now(value: Json) -> bool:
    """Return whether nothing holds a deleted object any more: no grace period, no finalizer, no contents."""
    metadata = table_at(value, "metadata")
    contents = text_at(value, "kind") == "Namespace" and texts_at(value, "spec", "finalizers")
    over = metadata.get("deletionGracePeriodSeconds") == 0
    return deleting(value) and over and not finalizers(value) and not contents


def finalizers(value: Json) -> list[str]:
    """Return who must agree before the object goes."""
    return texts_at(value, "metadata", "finalizers")
