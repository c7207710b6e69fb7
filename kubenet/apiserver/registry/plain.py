"""The kinds with little or no behaviour: ConfigMap, Secret, Event, Lease, ServiceAccount. *Pure.*"""

from base64 import b64decode, b64encode
from collections.abc import Iterator

import msgspec

from kubenet.apiserver.status import Cause, forbidden_field, invalid
from kubenet.apiserver.strategy import METADATA_FIELDS, FieldLabel, Kind, Strategy
from kubenet.apiserver.tree import ensure_table, set_default, strings_at, table_at
from kubenet.model.objects import Json, KubeObject, Lease, ObjectReference
from kubenet.model.resources import BY_PLURAL_KEPT, CONFIGMAPS, EVENTS, LEASES, SECRETS

SERVICEACCOUNTS = BY_PLURAL_KEPT["serviceaccounts"]

CONTENT_MOST_BYTES = 1 << 20


class ConfigMapShape(KubeObject, frozen=True):
    data: dict[str, str] = msgspec.field(default_factory=dict)
    binary_data: dict[str, str] = msgspec.field(default_factory=dict)
    immutable: bool = False


class ConfigMapStrategy(Strategy):
    """Texts by name."""

    shape: type[msgspec.Struct] = ConfigMapShape
    contents: tuple[str, ...] = ("data", "binaryData")

    def causes(self, new: Json) -> Iterator[Cause]:
        size_bytes = sum(
            len(key.encode()) + len(text.encode())
            for part in self.contents
            for key, text in strings_at(new, part).items()
        )
        if size_bytes > CONTENT_MOST_BYTES:
            yield Cause("", "FieldValueTooLong", f"Too long: may not be more than {CONTENT_MOST_BYTES} bytes")

    def update_causes(self, new: Json, old: Json) -> Iterator[Cause]:
        if old.get("immutable") is not True:
            return
        for part in ("immutable", *self.contents):
            if new.get(part) != old.get(part):
                yield forbidden_field(part, "field is immutable when `immutable` is set")


class SecretShape(KubeObject, frozen=True):
    data: dict[str, str] = msgspec.field(default_factory=dict)
    string_data: dict[str, str] = msgspec.field(default_factory=dict)
    type: str = "Opaque"
    immutable: bool = False


class SecretStrategy(ConfigMapStrategy):
    """Bytes by name; ``stringData`` is a convenience that only writes."""

    shape = SecretShape
    contents = ("data",)

    def fill_defaults(self, new: Json) -> None:
        set_default(new, "type", "Opaque")
        for key, text in strings_at(new, "stringData").items():
            ensure_table(new, "data")[key] = b64encode(text.encode()).decode()
        new.pop("stringData", None)

    def causes(self, new: Json) -> Iterator[Cause]:
        yield from super().causes(new)
        for key, text in strings_at(new, "data").items():
            try:
                b64decode(text, validate=True)
            except ValueError:  # not base64, or not even ASCII
                yield invalid(f"data[{key}]", text, "must be base64")

    def update_causes(self, new: Json, old: Json) -> Iterator[Cause]:
        yield from super().update_causes(new, old)
        if new.get("type") != old.get("type"):
            yield invalid("type", new.get("type"), "field is immutable")


class EventShape(KubeObject, frozen=True):
    involved_object: ObjectReference = ObjectReference()
    reason: str = ""
    message: str = ""
    type: str = ""
    count: int = 0


class EventStrategy(Strategy):
    """Something that happened to an object."""

    shape = EventShape

    def causes(self, new: Json) -> Iterator[Cause]:
        space = table_at(new, "involvedObject").get("namespace") or "default"
        have = table_at(new, "metadata").get("namespace")
        if isinstance(space, str) and space != have:
            yield invalid("involvedObject.namespace", space, "does not match event.namespace")


class LeaseStrategy(Strategy):
    """Who leads, until when."""

    shape = Lease

    def causes(self, new: Json) -> Iterator[Cause]:
        duration_s = table_at(new, "spec").get("leaseDurationSeconds")
        if isinstance(duration_s, int) and duration_s <= 0:
            yield invalid("spec.leaseDurationSeconds", duration_s, "must be greater than 0")


_INVOLVED = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")

CONFIGMAP = Kind(CONFIGMAPS, ConfigMapStrategy(), short_names=("cm",))
SECRET = Kind(
    SECRETS,
    SecretStrategy(),
    field_labels=METADATA_FIELDS | {"type": FieldLabel(("type",))},
)
EVENT = Kind(
    EVENTS,
    EventStrategy(),
    short_names=("ev",),
    field_labels=METADATA_FIELDS
    | {f"involvedObject.{name}": FieldLabel(("involvedObject", name)) for name in _INVOLVED}
    | {
        "reason": FieldLabel(("reason",)),
        "type": FieldLabel(("type",)),
        "reportingComponent": FieldLabel(("reportingComponent",)),
        "source": FieldLabel(("source", "component")),
    },
)
LEASE = Kind(LEASES, LeaseStrategy())
SERVICEACCOUNT = Kind(SERVICEACCOUNTS, Strategy(), short_names=("sa",), subresources=("token",))
