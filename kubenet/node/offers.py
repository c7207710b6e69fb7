"""What a runtime offers to the network of a pod beside the pod itself: the CNI capabilities. *Pure.*

A plugin gets of these what its configuration declares.

Source: CNI conventions, "Dynamic Plugin specific fields"; Kubernetes, "Network Plugins", support for
hostPort and for traffic shaping.
"""

import math
from collections.abc import Iterator

from kubenet.model.objects import Json, JsonValue, Pod
from kubenet.scheduler.quantity import parse_quantity

_BANDWIDTH = {"ingress": "kubernetes.io/ingress-bandwidth", "egress": "kubernetes.io/egress-bandwidth"}
_NO_BURST = 2**32 - 1  # what runtimes write that know none


def offers_of(pod: Pod) -> Json:
    """Return the capabilities and their values. Raises InvalidInput for a bandwidth that is none."""
    annotations = pod.metadata.annotations
    offers: Json = {"io.kubernetes.cri.pod-annotations": dict(annotations)}
    ports: list[JsonValue] = list(_port_mappings(pod))
    if ports:
        offers["portMappings"] = ports
    bandwidth: Json = {}
    for way, key in _BANDWIDTH.items():
        if text := annotations.get(key):
            bandwidth |= {f"{way}Rate": math.ceil(parse_quantity(text)), f"{way}Burst": _NO_BURST}
    if bandwidth:
        offers["bandwidth"] = bandwidth
    return offers


def _port_mappings(pod: Pod) -> Iterator[Json]:
    for container in pod.spec.containers:
        for port in container.ports:
            if port.host_port:
                yield {
                    "hostPort": port.host_port,
                    "containerPort": port.container_port,
                    "protocol": port.protocol.lower(),
                    "hostIP": port.host_ip,
                }
