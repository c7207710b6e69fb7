"""Nodes, Namespaces, Events and the plain kinds as rows. *Pure.*"""

from datetime import datetime

from kubenet.apiserver.printers.base import (
    NONE,
    UNKNOWN,
    Printer,
    age,
    columns,
    joined,
    name_of,
    since,
)
from kubenet.apiserver.tree import int_at, list_at, strings_at, table_at, tables_at, text_at
from kubenet.model.objects import Json, JsonValue

ROLE_PREFIX = "node-role.kubernetes.io/"


def _node(value: Json, now: datetime) -> list[JsonValue]:
    details = table_at(value, "status", "nodeInfo")
    return [
        name_of(value),
        _node_status(value),
        _roles(value),
        age(value, now),
        text_at(details, "kubeletVersion"),
        _address(value, "InternalIP"),
        _address(value, "ExternalIP"),
        text_at(details, "osImage") or UNKNOWN,
        text_at(details, "kernelVersion") or UNKNOWN,
        text_at(details, "containerRuntimeVersion") or UNKNOWN,
    ]


def _node_status(value: Json) -> str:
    conditions = tables_at(value, "status", "conditions")
    ready = next((text_at(one, "status") for one in conditions if text_at(one, "type") == "Ready"), "")
    words = [{"True": "Ready", "": "Unknown"}.get(ready, "NotReady")]
    if table_at(value, "spec").get("unschedulable") is True:
        words.append("SchedulingDisabled")
    return ",".join(words)


def _roles(value: Json) -> str:
    labels = strings_at(value, "metadata", "labels")
    roles = {label.removeprefix(ROLE_PREFIX) for label in labels if label.startswith(ROLE_PREFIX)}
    roles.add(labels.get("kubernetes.io/role", ""))
    return joined(sorted(filter(None, roles)))


def _address(value: Json, kind: str) -> str:
    addresses = tables_at(value, "status", "addresses")
    return next((text_at(one, "address") for one in addresses if text_at(one, "type") == kind), NONE)


def _namespace(value: Json, now: datetime) -> list[JsonValue]:
    return [name_of(value), text_at(value, "status", "phase"), age(value, now)]


def _configmap(value: Json, now: datetime) -> list[JsonValue]:
    return [
        name_of(value),
        len(table_at(value, "data")) + len(table_at(value, "binaryData")),
        age(value, now),
    ]


def _secret(value: Json, now: datetime) -> list[JsonValue]:
    return [name_of(value), text_at(value, "type"), len(table_at(value, "data")), age(value, now)]


def _service_account(value: Json, now: datetime) -> list[JsonValue]:
    return [name_of(value), len(list_at(value, "secrets")), age(value, now)]


def _lease(value: Json, now: datetime) -> list[JsonValue]:
    return [name_of(value), text_at(value, "spec", "holderIdentity"), age(value, now)]


def _event(value: Json, now: datetime) -> list[JsonValue]:
    involved, first, last = table_at(value, "involvedObject"), "firstTimestamp", "lastTimestamp"
    happened = text_at(value, "eventTime")
    component, host = text_at(value, "source", "component"), text_at(value, "source", "host")
    return [
        since(text_at(value, last) or text_at(value, first) or happened, now),
        text_at(value, "type"),
        text_at(value, "reason"),
        f"{text_at(involved, 'kind').lower()}/{text_at(involved, 'name')}",
        text_at(involved, "fieldPath"),
        ", ".join(filter(None, (component or text_at(value, "reportingComponent"), host))),
        text_at(value, "message").strip(),
        since(text_at(value, first) or happened, now),
        int_at(value, "count", default=1),
        name_of(value),
    ]


def _plain(value: Json, now: datetime) -> list[JsonValue]:
    return [name_of(value), age(value, now)]


_NODE_WIDE = ("Internal-IP", "External-IP", "OS-Image", "Kernel-Version", "Container-Runtime")
_EVENT_WIDE = ("Subobject", "Source", "First Seen", "Count", "Name")

NODES = Printer(columns("Name", "Status", "Roles", "Age", "Version", *_NODE_WIDE, wide=_NODE_WIDE), _node)
NAMESPACES = Printer(columns("Name", "Status", "Age"), _namespace)
CONFIGMAPS = Printer(columns("Name", "Data", "Age", numbers=("Data",)), _configmap)
SECRETS = Printer(columns("Name", "Type", "Data", "Age", numbers=("Data",)), _secret)
SERVICE_ACCOUNTS = Printer(columns("Name", "Secrets", "Age", numbers=("Secrets",)), _service_account)
LEASES = Printer(columns("Name", "Holder", "Age"), _lease)
EVENTS = Printer(
    columns(
        *("Last Seen", "Type", "Reason", "Object", "Subobject", "Source", "Message"),
        *("First Seen", "Count", "Name"),
        wide=_EVENT_WIDE,
        numbers=("Count",),
    ),
    _event,
)
PLAIN = Printer(columns("Name", "Age"), _plain)
