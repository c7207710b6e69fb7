"""The kinds that describe a cluster as rows: networking, policy, storage, quotas, classes, rights. *Pure.*"""

from datetime import datetime

from kubenet.apiserver.printers.base import (
    NONE,
    UNSET,
    Cells,
    Printer,
    age,
    columns,
    few,
    joined,
    labels_text,
    name_of,
)
from kubenet.apiserver.selectors import selector_text
from kubenet.apiserver.tree import int_at, strings_at, table_at, tables_at, text_at, texts_at
from kubenet.model.objects import Json, JsonValue

DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
MODES = {
    "ReadWriteOnce": "RWO",
    "ReadOnlyMany": "ROX",
    "ReadWriteMany": "RWX",
    "ReadWriteOncePod": "RWOP",
}


def _created(value: Json, now: datetime) -> list[JsonValue]:
    del now
    return [name_of(value), text_at(value, "metadata", "creationTimestamp")]


def _binding(value: Json, now: datetime) -> list[JsonValue]:
    subjects: dict[str, list[str]] = {"User": [], "Group": [], "ServiceAccount": []}
    for subject in tables_at(value, "subjects"):
        kind, name = text_at(subject, "kind"), text_at(subject, "name")
        shown = f"{text_at(subject, 'namespace')}/{name}" if kind == "ServiceAccount" else name
        subjects.setdefault(kind, []).append(shown)
    role = f"{text_at(value, 'roleRef', 'kind')}/{text_at(value, 'roleRef', 'name')}"
    found = (", ".join(subjects[kind]) for kind in ("User", "Group", "ServiceAccount"))
    return [name_of(value), role, age(value, now), *found]


def _network_policy(value: Json, now: datetime) -> list[JsonValue]:
    selector = selector_text(table_at(value, "spec", "podSelector"))
    return [name_of(value), selector or NONE, age(value, now)]


def _ingress(value: Json, now: datetime) -> list[JsonValue]:
    hosts = [host for rule in tables_at(value, "spec", "rules") if (host := text_at(rule, "host"))]
    found = tables_at(value, "status", "loadBalancer", "ingress")
    addresses = [text_at(one, "ip") or text_at(one, "hostname") for one in found]
    return [
        name_of(value),
        text_at(value, "spec", "ingressClassName") or NONE,
        few(hosts) if hosts else "*",
        ",".join(addresses),
        "80, 443" if tables_at(value, "spec", "tls") else "80",
        age(value, now),
    ]


def _ingress_class(value: Json, now: datetime) -> list[JsonValue]:
    parameters = table_at(value, "spec", "parameters")
    group = text_at(parameters, "apiGroup")
    kind = f"{text_at(parameters, 'kind')}{'.' + group if group else ''}"
    shown = f"{kind}/{text_at(parameters, 'name')}" if parameters else NONE
    return [name_of(value), text_at(value, "spec", "controller"), shown, age(value, now)]


def _ip_address(value: Json, now: datetime) -> list[JsonValue]:
    parent = table_at(value, "spec", "parentRef")
    group, space = text_at(parent, "group"), text_at(parent, "namespace")
    kind = f"{text_at(parent, 'resource')}{'.' + group if group else ''}"
    return [name_of(value), "/".join(filter(None, (kind, space, text_at(parent, "name")))), age(value, now)]


def _budget(value: Json, now: datetime) -> list[JsonValue]:
    spec = table_at(value, "spec")
    limits = (str(spec.get(name, "N/A")) for name in ("minAvailable", "maxUnavailable"))
    return [name_of(value), *limits, int_at(value, "status", "disruptionsAllowed"), age(value, now)]


def _autoscaler(value: Json, now: datetime) -> list[JsonValue]:
    spec, target = table_at(value, "spec"), table_at(value, "spec", "scaleTargetRef")
    return [
        name_of(value),
        f"{text_at(target, 'kind')}/{text_at(target, 'name')}",
        _targets(spec),
        str(spec.get("minReplicas", UNSET)),
        int_at(spec, "maxReplicas"),
        int_at(value, "status", "currentReplicas"),
        age(value, now),
    ]


def _targets(spec: Json) -> str:
    """Return what is aimed at; no metrics server of ours says what is the case."""
    shown = []
    for metric in tables_at(spec, "metrics"):
        resource = table_at(metric, "resource")
        share = int_at(resource, "target", "averageUtilization")
        wanted = f"{share}%" if share else text_at(resource, "target", "averageValue")
        shown.append(f"{text_at(resource, 'name') or text_at(metric, 'type')}: <unknown>/{wanted}")
    return few(shown, 2) if shown else NONE


def _priority(value: Json, now: datetime) -> list[JsonValue]:
    is_default = value.get("globalDefault") is True
    policy = text_at(value, "preemptionPolicy")
    return [name_of(value), int_at(value, "value"), is_default, age(value, now), policy]


def _runtime_class(value: Json, now: datetime) -> list[JsonValue]:
    return [name_of(value), text_at(value, "handler"), age(value, now)]


def _quota(value: Json, now: datetime) -> list[JsonValue]:
    hard = strings_at(value, "status", "hard") or strings_at(value, "spec", "hard")
    used = strings_at(value, "status", "used")
    shown = {name: f"{name}: {used.get(name, '0')}/{hard[name]}" for name in sorted(hard)}
    requests = ", ".join(text for name, text in shown.items() if not name.startswith("limits."))
    limits = ", ".join(text for name, text in shown.items() if name.startswith("limits."))
    return [name_of(value), requests, limits, age(value, now)]


def _volume(value: Json, now: datetime) -> list[JsonValue]:
    spec, claim = table_at(value, "spec"), table_at(value, "spec", "claimRef")
    ending = bool(text_at(value, "metadata", "deletionTimestamp"))
    return [
        name_of(value),
        strings_at(spec, "capacity").get("storage", ""),
        _modes(spec),
        text_at(spec, "persistentVolumeReclaimPolicy"),
        "Terminating" if ending else text_at(value, "status", "phase"),
        f"{text_at(claim, 'namespace')}/{text_at(claim, 'name')}" if claim else "",
        text_at(spec, "storageClassName"),
        text_at(spec, "volumeAttributesClassName") or UNSET,
        text_at(value, "status", "reason"),
        age(value, now),
        text_at(spec, "volumeMode"),
    ]


def _claim(value: Json, now: datetime) -> list[JsonValue]:
    spec, status = table_at(value, "spec"), table_at(value, "status")
    ending, bound = bool(text_at(value, "metadata", "deletionTimestamp")), text_at(spec, "volumeName")
    return [
        name_of(value),
        "Terminating" if ending else text_at(status, "phase"),
        bound,
        strings_at(status, "capacity").get("storage", "") if bound else "",
        _modes(status) if bound else "",
        text_at(spec, "storageClassName"),
        text_at(spec, "volumeAttributesClassName") or UNSET,
        age(value, now),
        text_at(spec, "volumeMode"),
    ]


def _modes(value: Json) -> str:
    return ",".join(MODES.get(mode, mode) for mode in texts_at(value, "accessModes"))


def _storage_class(value: Json, now: datetime) -> list[JsonValue]:
    annotations = strings_at(value, "metadata", "annotations")
    is_default = annotations.get(DEFAULT_CLASS) == "true"
    return [
        f"{name_of(value)} (default)" if is_default else name_of(value),
        text_at(value, "provisioner"),
        text_at(value, "reclaimPolicy"),
        text_at(value, "volumeBindingMode"),
        value.get("allowVolumeExpansion") is True,
        age(value, now),
    ]


def _pod_template(value: Json, now: datetime) -> list[JsonValue]:
    del now
    containers = tables_at(value, "template", "spec", "containers")
    names = [joined(text_at(one, key) for one in containers) for key in ("name", "image")]
    return [name_of(value), *names, labels_text(value, "template", "metadata", "labels")]


def _service_cidr(value: Json, now: datetime) -> list[JsonValue]:
    return [name_of(value), ",".join(texts_at(value, "spec", "cidrs")), age(value, now)]


def _printer(names: str, cells: Cells, wide: str = "", numbers: str = "") -> Printer:
    """Return a printer; column names are divided by ``|``."""
    more = tuple(filter(None, wide.split("|")))
    shown = columns(*names.split("|"), *more, wide=more, numbers=tuple(numbers.split("|")))
    return Printer(shown, cells)


_BINDINGS = _printer("Name|Role|Age", _binding, "Users|Groups|ServiceAccounts")
CREATED = _printer("Name|Created At", _created)
_VOLUMES = (
    "Name|Capacity|Access Modes|Reclaim Policy|Status|Claim|StorageClass|VolumeAttributesClass|Reason|Age"
)
_CLAIMS = "Name|Status|Volume|Capacity|Access Modes|StorageClass|VolumeAttributesClass|Age"
PRINTERS = {
    "clusterroles": CREATED,
    "roles": CREATED,
    "clusterrolebindings": _BINDINGS,
    "rolebindings": _BINDINGS,
    "limitranges": _printer("Name|Created At", _created),
    "networkpolicies": _printer("Name|Pod-Selector|Age", _network_policy),
    "ingresses": _printer("Name|Class|Hosts|Address|Ports|Age", _ingress),
    "ingressclasses": _printer("Name|Controller|Parameters|Age", _ingress_class),
    "ipaddresses": _printer("Name|ParentRef|Age", _ip_address),
    "servicecidrs": _printer("Name|CIDRs|Age", _service_cidr),
    "poddisruptionbudgets": _printer(
        "Name|Min Available|Max Unavailable|Allowed Disruptions|Age", _budget, numbers="Allowed Disruptions"
    ),
    "horizontalpodautoscalers": _printer(
        "Name|Reference|Targets|MinPods|MaxPods|Replicas|Age", _autoscaler, numbers="MaxPods|Replicas"
    ),
    "priorityclasses": _printer("Name|Value|Global-Default|Age|PreemptionPolicy", _priority, numbers="Value"),
    "runtimeclasses": _printer("Name|Handler|Age", _runtime_class),
    "resourcequotas": _printer("Name|Request|Limit|Age", _quota),
    "podtemplates": _printer("Name|Containers|Images|Pod Labels", _pod_template),
    "persistentvolumes": _printer(_VOLUMES, _volume, "VolumeMode"),
    "persistentvolumeclaims": _printer(_CLAIMS, _claim, "VolumeMode"),
    "storageclasses": _printer(
        "Name|Provisioner|ReclaimPolicy|VolumeBindingMode|AllowVolumeExpansion|Age", _storage_class
    ),
}
