"""Defaults and checks of a pod specification, alone in a Pod or inside a template. *Pure.*

Source: Kubernetes API reference, PodSpec and Container.
"""

from collections.abc import Iterator

from kubenet.apiserver.names import dns_label, port_name
from kubenet.apiserver.status import Cause, duplicate, invalid, required, unsupported
from kubenet.apiserver.tree import ensure_table, int_at, set_default, table_at, tables_at, text_at
from kubenet.model.objects import Json, JsonValue

RESTART_POLICIES = ("Always", "OnFailure", "Never")
DNS_POLICIES = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
PROTOCOLS = ("SCTP", "TCP", "UDP")
PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
MODE_0644 = 0o644

_SPEC_DEFAULTS: dict[str, JsonValue] = {
    "restartPolicy": "Always",
    "terminationGracePeriodSeconds": 30,
    "dnsPolicy": "ClusterFirst",
    "schedulerName": "default-scheduler",
}
_PROBE_DEFAULTS: dict[str, JsonValue] = {
    "timeoutSeconds": 1,
    "periodSeconds": 10,
    "successThreshold": 1,
    "failureThreshold": 3,
}
_VOLUME_MODES = ("configMap", "secret", "downwardAPI", "projected")


def fill_pod_spec(spec: Json) -> None:
    """Give a pod specification the values it left out."""
    for key, value in _SPEC_DEFAULTS.items():
        set_default(spec, key, value)
    ensure_table(spec, "securityContext")
    for volume in tables_at(spec, "volumes"):
        _fill_volume(volume)
    for container in tables_at(spec, "initContainers") + tables_at(spec, "containers"):
        _fill_container(container)


def _fill_volume(volume: Json) -> None:
    if not set(volume) - {"name"}:
        volume["emptyDir"] = {}
    for source in _VOLUME_MODES:
        if source in volume:
            set_default(ensure_table(volume, source), "defaultMode", MODE_0644)


def _fill_container(container: Json) -> None:
    set_default(container, "terminationMessagePath", "/dev/termination-log")
    set_default(container, "terminationMessagePolicy", "File")
    set_default(container, "imagePullPolicy", pull_policy(text_at(container, "image")))
    ensure_table(container, "resources")
    for port in tables_at(container, "ports"):
        set_default(port, "protocol", "TCP")
    for probe in (table_at(container, name) for name in PROBES if name in container):
        _fill_probe(probe)
    for variable in tables_at(container, "env"):
        if reference := table_at(variable, "valueFrom", "fieldRef"):
            set_default(reference, "apiVersion", "v1")


def _fill_probe(probe: Json) -> None:
    for key, value in _PROBE_DEFAULTS.items():
        set_default(probe, key, value)
    if "httpGet" in probe:
        request = ensure_table(probe, "httpGet")
        set_default(request, "path", "/")
        set_default(request, "scheme", "HTTP")


def pull_policy(image: str) -> str:
    """Return when an image is pulled by default: always for ``latest``, said or not, else if absent."""
    name = image.rpartition("/")[2]
    if "@" in name:
        return "IfNotPresent"
    return "Always" if name.partition(":")[2] in ("", "latest") else "IfNotPresent"


def pod_spec_causes(spec: Json, field: str) -> Iterator[Cause]:
    """Yield what is wrong with a pod specification that stands at ``field``."""
    containers = tables_at(spec, "containers")
    if not containers:
        yield required(f"{field}.containers")
    seen: set[str] = set()
    for part in ("initContainers", "containers"):
        for index, container in enumerate(tables_at(spec, part)):
            yield from _container_causes(container, f"{field}.{part}[{index}]", seen)
    for key, supported in (("restartPolicy", RESTART_POLICIES), ("dnsPolicy", DNS_POLICIES)):
        if text_at(spec, key) not in supported:
            yield unsupported(f"{field}.{key}", text_at(spec, key), supported)
    grace_s = int_at(spec, "terminationGracePeriodSeconds")
    if grace_s < 0:
        yield invalid(f"{field}.terminationGracePeriodSeconds", grace_s, "must be greater than or equal to 0")


def _container_causes(container: Json, field: str, seen: set[str]) -> Iterator[Cause]:
    name = text_at(container, "name")
    if not name:
        yield required(f"{field}.name")
    elif trouble := dns_label(name):
        yield invalid(f"{field}.name", name, trouble)
    elif name in seen:
        yield duplicate(f"{field}.name", name)
    seen.add(name)
    if not text_at(container, "image"):
        yield required(f"{field}.image")
    for index, port in enumerate(tables_at(container, "ports")):
        yield from _port_causes(port, f"{field}.ports[{index}]")


def _port_causes(port: Json, field: str) -> Iterator[Cause]:
    if (name := text_at(port, "name")) and (trouble := port_name(name)):
        yield invalid(f"{field}.name", name, trouble)
    yield from port_number_causes(port.get("containerPort"), f"{field}.containerPort")
    if "hostPort" in port:
        yield from port_number_causes(port["hostPort"], f"{field}.hostPort")
    if text_at(port, "protocol") not in PROTOCOLS:
        yield unsupported(f"{field}.protocol", text_at(port, "protocol"), PROTOCOLS)


def port_number_causes(port: JsonValue, field: str) -> Iterator[Cause]:
    """Yield what is wrong with a port number."""
    if port is None:
        yield required(field)
    elif not isinstance(port, int) or not 1 <= port <= 65535:
        yield invalid(field, port, "must be between 1 and 65535, inclusive")
