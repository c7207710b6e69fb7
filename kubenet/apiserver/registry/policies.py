"""Kinds that describe a cluster: networking, policy, storage, quotas, classes. *Pure.*

Source: Kubernetes API reference: networking/v1, policy/v1, autoscaling/v2, storage/v1, scheduling/v1 and
node/v1.
"""

from collections.abc import Iterator, Mapping
from ipaddress import ip_network

from kubenet.apiserver.names import dns_subdomain
from kubenet.apiserver.registry.declared import Declared, declared, fill
from kubenet.apiserver.registry.podspec import PROTOCOLS
from kubenet.apiserver.status import Cause, invalid, required, unsupported
from kubenet.apiserver.strategy import Kind, Strategy
from kubenet.apiserver.tree import ensure_table, int_at, list_at, table_at, tables_at, text_at
from kubenet.model.objects import Json, JsonValue
from kubenet.model.resources import BY_PLURAL_KEPT

PATH_TYPES = ("Exact", "ImplementationSpecific", "Prefix")
POLICY_TYPES = ("Egress", "Ingress")
SYSTEM_PRIORITY_LEAST = 2_000_000_000


class NetworkPolicyStrategy(Declared):
    """Which packets may reach pods and leave them."""

    generation_of = ("spec",)

    def fill_defaults(self, new: Json) -> None:
        spec = ensure_table(new, "spec")
        ensure_table(spec, "podSelector")
        if not list_at(spec, "policyTypes"):
            spec["policyTypes"] = ["Ingress", "Egress"] if list_at(spec, "egress") else ["Ingress"]
        for direction in ("ingress", "egress"):
            for rule in tables_at(spec, direction):
                for port in tables_at(rule, "ports"):
                    fill(port, {"protocol": "TCP"})

    def causes(self, new: Json) -> Iterator[Cause]:
        spec = table_at(new, "spec")
        for index, policy_type in enumerate(list_at(spec, "policyTypes")):
            if policy_type not in POLICY_TYPES:
                yield unsupported(f"spec.policyTypes[{index}]", policy_type, POLICY_TYPES)
        for direction, peers in (("ingress", "from"), ("egress", "to")):
            for index, rule in enumerate(tables_at(spec, direction)):
                yield from _rule_causes(rule, peers, f"spec.{direction}[{index}]")


def _rule_causes(rule: Json, peers: str, field: str) -> Iterator[Cause]:
    for index, port in enumerate(tables_at(rule, "ports")):
        if text_at(port, "protocol") not in PROTOCOLS:
            yield unsupported(f"{field}.ports[{index}].protocol", text_at(port, "protocol"), PROTOCOLS)
        last = port.get("endPort")
        if last is not None and int_at(port, "endPort") < int_at(port, "port"):
            yield invalid(f"{field}.ports[{index}].endPort", last, "must be greater than or equal to `port`")
    for index, peer in enumerate(tables_at(rule, peers)):
        yield from _peer_causes(peer, f"{field}.{peers}[{index}]")


def _peer_causes(peer: Json, field: str) -> Iterator[Cause]:
    if not peer.keys() & {"podSelector", "namespaceSelector", "ipBlock"}:
        yield required(field, "must specify a peer")
    if "ipBlock" not in peer:
        return
    block = table_at(peer, "ipBlock")
    try:
        whole = ip_network(text_at(block, "cidr"), strict=False)
    except ValueError:
        yield invalid(f"{field}.ipBlock.cidr", text_at(block, "cidr"), "must be a valid CIDR value")
        return
    for index, text in enumerate(list_at(block, "except")):
        if not _inside(whole, text):
            detail = f"must be a strict subset of `cidr`: {whole}"
            yield invalid(f"{field}.ipBlock.except[{index}]", text, detail)


def _inside(whole: object, text: object) -> bool:
    try:
        part = ip_network(str(text), strict=False)
        return part != whole and part.subnet_of(whole)  # type: ignore[arg-type]  # TypeError: families differ
    except (ValueError, TypeError):
        return False


class IngressStrategy(Declared):
    """Which requests reach which Services."""

    generation_of = ("spec",)
    status: Mapping[str, JsonValue] | None = {"loadBalancer": {}}

    def causes(self, new: Json) -> Iterator[Cause]:
        spec = table_at(new, "spec")
        if not list_at(spec, "rules") and "defaultBackend" not in spec:
            yield invalid("spec", {}, "either `defaultBackend` or `rules` must be specified")
        for index, rule in enumerate(tables_at(spec, "rules")):
            for number, path in enumerate(tables_at(rule, "http", "paths")):
                yield from _path_causes(path, f"spec.rules[{index}].http.paths[{number}]")


def _path_causes(path: Json, field: str) -> Iterator[Cause]:
    if not text_at(path, "pathType"):
        yield required(f"{field}.pathType", "pathType must be specified")
    elif text_at(path, "pathType") not in PATH_TYPES:
        yield unsupported(f"{field}.pathType", text_at(path, "pathType"), PATH_TYPES)
    elif path["pathType"] != "ImplementationSpecific" and not text_at(path, "path").startswith("/"):
        yield invalid(f"{field}.path", text_at(path, "path"), "must be an absolute path")
    if not path.keys() & {"backend"}:
        yield required(f"{field}.backend")


class BudgetStrategy(Declared):
    """How many pods must be left when somebody takes pods away on purpose."""

    generation_of = ("spec",)
    status: Mapping[str, JsonValue] | None = dict.fromkeys(
        ("currentHealthy", "desiredHealthy", "disruptionsAllowed", "expectedPods"), 0
    )

    def causes(self, new: Json) -> Iterator[Cause]:
        spec = table_at(new, "spec")
        if {"minAvailable", "maxUnavailable"} <= spec.keys():
            yield invalid("spec", {}, "minAvailable and maxUnavailable cannot be both set")


class PriorityClassStrategy(Declared):
    """A name for a number that decides who is scheduled first."""

    defaults: Mapping[str, JsonValue] = {"preemptionPolicy": "PreemptLowerPriority", "value": 0}
    fixed = ("value", "preemptionPolicy")
    generation_of = ("value", "globalDefault", "description", "preemptionPolicy")

    def causes(self, new: Json) -> Iterator[Cause]:
        system = text_at(new, "metadata", "name").startswith("system-")
        if int_at(new, "value") > SYSTEM_PRIORITY_LEAST // 2 and not system:
            yield invalid(
                "value", new["value"], "maximum allowed value of a user defined priority is 1000000000"
            )


class AutoscalerStrategy(Declared):
    """A number of replicas that follows what pods use."""

    defaults: Mapping[str, JsonValue] = {"spec": {"minReplicas": 1}}
    status: Mapping[str, JsonValue] | None = {
        "currentReplicas": 0,
        "desiredReplicas": 0,
        "currentMetrics": None,
    }
    generation_of = ()

    def causes(self, new: Json) -> Iterator[Cause]:
        spec = table_at(new, "spec")
        if int_at(spec, "maxReplicas") < 1:
            yield invalid("spec.maxReplicas", spec.get("maxReplicas", 0), "must be greater than 0")
        elif int_at(spec, "maxReplicas") < int_at(spec, "minReplicas"):
            detail = "must be greater than or equal to `minReplicas`"
            yield invalid("spec.maxReplicas", spec["maxReplicas"], detail)
        if not text_at(spec, "scaleTargetRef", "name"):
            yield required("spec.scaleTargetRef.name")


def _kind(
    plural: str, strategy: Strategy, *short_names: str, status: bool = False, in_all: bool = False
) -> Kind:
    return Kind(
        BY_PLURAL_KEPT[plural],
        strategy,
        short_names=short_names,
        categories=("all",) if in_all else (),
        subresources=("status",) if status else (),
        name_rule=any_path_segment if plural == "ipaddresses" else dns_subdomain,
    )


def any_path_segment(text: str) -> str:
    """Judge the name of an object that is named after something else: an address, a role."""
    return (
        "may not be '.', '..' or contain '/' or '%'" if text in (".", "..") or set(text) & {"/", "%"} else ""
    )


_VOLUME: Json = {"spec": {"persistentVolumeReclaimPolicy": "Retain", "volumeMode": "Filesystem"}}
_CLAIM: Json = {"spec": {"volumeMode": "Filesystem", "resources": {}}}
_CLASS: Json = {"reclaimPolicy": "Delete", "volumeBindingMode": "Immediate"}
_CLASS_FIXED = ("provisioner", "parameters", "reclaimPolicy", "volumeBindingMode")

KINDS = (
    _kind("networkpolicies", NetworkPolicyStrategy(), "netpol"),
    _kind("ingresses", IngressStrategy(), "ing", status=True),
    _kind("ingressclasses", declared(fixed=("spec.controller",))),
    _kind("ipaddresses", declared(fixed=("spec",)), "ip"),
    _kind("servicecidrs", declared(status={}, fixed=("spec",)), status=True),
    _kind("poddisruptionbudgets", BudgetStrategy(), "pdb", status=True),
    _kind("horizontalpodautoscalers", AutoscalerStrategy(), "hpa", status=True, in_all=True),
    _kind("priorityclasses", PriorityClassStrategy(), "pc"),
    _kind("runtimeclasses", declared(fixed=("handler",), generation_of=())),
    _kind("resourcequotas", declared(status={}, generation_of=()), "quota", status=True),
    _kind("limitranges", declared(generation_of=()), "limits"),
    _kind("podtemplates", declared(generation_of=())),
    _kind("persistentvolumes", declared(_VOLUME, {"phase": "Pending"}, generation_of=()), "pv", status=True),
    _kind(
        "persistentvolumeclaims", declared(_CLAIM, {"phase": "Pending"}, generation_of=()), "pvc", status=True
    ),
    _kind("storageclasses", declared(_CLASS, fixed=_CLASS_FIXED, generation_of=()), "sc"),
)
