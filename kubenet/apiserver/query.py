"""The query parameters of a request, parsed and judged. *Pure.*

Source: Kubernetes API concepts, "Resource versions", "Retrieving large results sets in chunks", "Streaming
lists".
"""

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import msgspec

from kubenet.apiserver.apply import NAME_MOST, PATCH_OPTIONS, Manager
from kubenet.apiserver.selectors import (
    FieldTerm,
    Requirement,
    fields_match,
    matches,
    parse_field_selector,
    parse_label_selector,
)
from kubenet.apiserver.status import (
    StatusError,
    bad_request,
    forbidden_field,
    invalid,
    unprocessable,
    unsupported,
)
from kubenet.apiserver.strategy import Kind
from kubenet.model.objects import Json
from kubenet.model.resources import Resource

LIST_OPTIONS = Resource("meta.k8s.io", "v1", "listoptions", "ListOptions", False)
TRUE = ("true", "1", "True", "TRUE", "t", "T")
FALSE = ("false", "0", "False", "FALSE", "f", "F", "")

Params = Mapping[str, str]


class Selectable(Protocol):
    """What a selection looks at."""

    @property
    def key(self) -> str: ...

    @property
    def labels(self) -> Mapping[str, str]: ...

    @property
    def fields(self) -> Mapping[str, str]: ...


@dataclass(frozen=True, slots=True)
class Selection:
    """Which objects of a kind are meant: under a prefix of keys, by labels, by fields."""

    prefix: str
    labels: tuple[Requirement, ...] = ()
    fields: tuple[FieldTerm, ...] = ()

    @property
    def partial(self) -> bool:
        """Whether a selector takes part, so that counting keys does not count objects."""
        return bool(self.labels or self.fields)

    def takes(self, candidate: Selectable) -> bool:
        """Return whether an object belongs to the selection."""
        if not candidate.key.startswith(self.prefix):
            return False
        if self.labels and not matches(self.labels, candidate.labels):
            return False
        return not self.fields or fields_match(self.fields, candidate.fields)


@dataclass(frozen=True, slots=True)
class ListQuery:
    """A list: what, how much of it, and how fresh."""

    selection: Selection
    limit: int = 0
    token: "Continue | None" = None
    revision: int | None = None  # None: the most recent
    exact: bool = False


@dataclass(frozen=True, slots=True)
class WatchQuery:
    """A watch: what, from when, and what else is sent."""

    selection: Selection
    revision: int | None = None  # None: begin with the present objects
    bookmarks: bool = False
    initial_events_end: bool = False
    timeout_s: int = 0  # 0: the server chooses


class Continue(msgspec.Struct, frozen=True):
    """Where a list goes on: at which revision (-1: whatever is most recent) and which key."""

    rv: int
    start: str

    def text(self) -> str:
        return urlsafe_b64encode(msgspec.json.encode(self)).decode().rstrip("=")


def parse_continue(text: str) -> Continue:
    """Return the token that ``text`` holds. Raises StatusError (400)."""
    try:
        return msgspec.json.decode(urlsafe_b64decode(text + "=" * (-len(text) % 4)), type=Continue)
    except (binascii.Error, ValueError) as error:
        raise bad_request(f"continue key is not valid: {error}") from None


def flag(params: Params, name: str) -> bool:
    """Return a boolean parameter. Raises StatusError (400)."""
    text = params.get(name, "")
    if text not in TRUE and text not in FALSE:
        raise bad_request(f'strconv.ParseBool: parsing "{text}": invalid syntax in parameter {name}')
    return text in TRUE


def number(params: Params, name: str) -> int:
    """Return an integer parameter that may not be negative; 0 if it is absent. Raises StatusError (400)."""
    text = params.get(name, "")
    if not text:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax in parameter {name}')
    return int(text)


def revision_of(params: Params) -> int | None:
    """Return the resourceVersion asked for; None if there is none. Raises StatusError (400)."""
    text = params.get("resourceVersion", "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise bad_request(f"Invalid value: {text!r}: resourceVersion must be an unsigned integer")
    return int(text)


def selection_of(kind: Kind, namespace: str, params: Params) -> Selection:
    """Return what a list, watch or deletecollection is about. Raises StatusError (400)."""
    return Selection(
        prefix=f"{kind.prefix}{namespace}/" if namespace else kind.prefix,
        labels=parse_label_selector(params.get("labelSelector", "")),
        fields=parse_field_selector(params.get("fieldSelector", ""), kind.field_labels),
    )


def list_query(kind: Kind, namespace: str, params: Params) -> ListQuery:
    """Return the list that is asked for. Raises StatusError (400, 422)."""
    token_text, match = params.get("continue", ""), params.get("resourceVersionMatch", "")
    revision = revision_of(params)
    _check_match(match, revision, bool(token_text))
    if flag(params, "sendInitialEvents") or "sendInitialEvents" in params:
        raise _option_error("sendInitialEvents", "sendInitialEvents is forbidden for list")
    if token_text and revision not in (None, 0):
        raise bad_request("specifying resource version is not allowed when using continue")
    return ListQuery(
        selection=selection_of(kind, namespace, params),
        limit=number(params, "limit"),
        token=parse_continue(token_text) if token_text else None,
        revision=revision,
        exact=match == "Exact",
    )


def _check_match(match: str, revision: int | None, continued: bool) -> None:
    if not match:
        return
    field = "resourceVersionMatch"
    if match not in ("Exact", "NotOlderThan"):
        cause = invalid(field, match, "must be one of: Exact, NotOlderThan")
        raise unprocessable(LIST_OPTIONS, "", [cause])
    if continued:
        raise _option_error(field, "resourceVersionMatch is forbidden when continue is provided")
    if revision is None:
        raise _option_error(field, "resourceVersionMatch is forbidden unless resourceVersion is provided")
    if match == "Exact" and revision == 0:
        raise _option_error(field, 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"')


def watch_query(kind: Kind, namespace: str, params: Params) -> WatchQuery:
    """Return the watch that is asked for. Raises StatusError (400, 422)."""
    revision, match = revision_of(params), params.get("resourceVersionMatch", "")
    initial = flag(params, "sendInitialEvents")
    bookmarks = flag(params, "allowWatchBookmarks")
    if "sendInitialEvents" in params and match != "NotOlderThan":
        raise _option_error(
            "resourceVersionMatch",
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        )
    if match and "sendInitialEvents" not in params:
        raise _option_error("resourceVersionMatch", "resourceVersionMatch is forbidden for watch")
    if initial and not bookmarks:
        raise _option_error(
            "allowWatchBookmarks", "sendInitialEvents requires setting allowWatchBookmarks to true"
        )
    from_now = "sendInitialEvents" in params and not initial and revision in (None, 0)
    return WatchQuery(
        selection=selection_of(kind, namespace, params),
        revision=-1 if from_now else (None if initial or not revision else revision),
        bookmarks=bookmarks,
        initial_events_end=initial,
        timeout_s=number(params, "timeoutSeconds"),
    )


def _option_error(field: str, why: str) -> StatusError:
    return unprocessable(LIST_OPTIONS, "", [forbidden_field(field, why)])


OURSELVES = Manager("kube-apiserver")


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """How a write is done."""

    dry_run: bool = False
    subresource: bool = False  # a subresource decides: what an update may not touch does not bind it
    manager: Manager = OURSELVES
    tracked: bool = False  # the new object says already who manages what


def write_options(params: Params) -> WriteOptions:
    """Return the options of a create, update or patch. Raises StatusError (400)."""
    dry_run = params.get("dryRun", "")
    if dry_run not in ("", "All"):
        raise bad_request(f'Invalid value: "{dry_run}": dryRun must be All')
    manager = params.get("fieldManager", "")
    if len(manager) > NAME_MOST or not manager.isprintable():
        cause = invalid("fieldManager", manager[:NAME_MOST], "may not be more than 128 printable characters")
        raise unprocessable(PATCH_OPTIONS, "", [cause])
    return WriteOptions(dry_run=bool(dry_run), manager=Manager(manager))


def manager_of(params: Params, user_agent: str) -> str:
    """Return who writes: as the client calls itself, or the program that it is."""
    return params.get("fieldManager", "") or user_agent.partition("/")[0].strip()[:NAME_MOST] or "unknown"


class FieldValidation(Enum):
    """What happens to a body with fields that its kind does not have."""

    IGNORE = "Ignore"
    WARN = "Warn"
    STRICT = "Strict"


_OPTIONS = {"POST": "CreateOptions", "PUT": "UpdateOptions", "PATCH": "PatchOptions"}


def field_validation(method: str, params: Params) -> FieldValidation:
    """Return how strictly fields are checked; Warn unless said otherwise. Raises StatusError (422)."""
    asked = params.get("fieldValidation", "") or FieldValidation.WARN.value
    try:
        return FieldValidation(asked)
    except ValueError:
        kind = _OPTIONS[method]
        cause = unsupported("fieldValidation", asked, ("", *(one.value for one in FieldValidation)))
        raise unprocessable(Resource("meta.k8s.io", "v1", kind.lower(), kind, False), "", [cause]) from None


@dataclass(frozen=True, slots=True)
class DeleteOptions:
    """How something is deleted."""

    grace_s: int | None = None
    propagation: str = "Background"
    uid: str = ""
    revision: str = ""
    dry_run: bool = False


class _Preconditions(msgspec.Struct, rename="camel"):
    uid: str | None = None
    resource_version: str | None = None


class _DeleteBody(msgspec.Struct, rename="camel"):
    grace_period_seconds: int | None = None
    propagation_policy: str | None = None
    orphan_dependents: bool | None = None
    preconditions: _Preconditions | None = None
    dry_run: list[str] | None = None


PROPAGATIONS = ("Background", "Foreground", "Orphan")


def delete_options(params: Params, body: Json) -> DeleteOptions:
    """Return the options of a delete, from its body or its query. Raises StatusError (400)."""
    try:
        sent = msgspec.convert(body, _DeleteBody)
    except msgspec.ValidationError as error:
        raise bad_request(f"DeleteOptions: {error}") from None
    grace_s = sent.grace_period_seconds
    if grace_s is None and "gracePeriodSeconds" in params:
        grace_s = number(params, "gracePeriodSeconds")
    propagation = sent.propagation_policy or params.get("propagationPolicy", "")
    if sent.orphan_dependents and not propagation:
        propagation = "Orphan"
    if propagation and propagation not in PROPAGATIONS:
        raise bad_request(f'Invalid value: "{propagation}": propagationPolicy')
    preconditions = sent.preconditions or _Preconditions()
    return DeleteOptions(
        grace_s=None if grace_s is None else max(0, grace_s),
        propagation=propagation or "Background",
        uid=preconditions.uid or "",
        revision=preconditions.resource_version or "",
        dry_run=bool(sent.dry_run) or write_options(params).dry_run,
    )
