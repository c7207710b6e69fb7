"""A node's own Node object and lease: what it says of itself. *Pure* but for ``machine``.

Source: Kubernetes documentation, "Node Status"; KEP-589 (node leases).
"""

import os
import platform
from dataclasses import dataclass
from pathlib import Path

from kubenet import __version__
from kubenet.model.objects import Json, JsonValue, Node

LEASE_NAMESPACE = "kube-node-lease"
LEASE_DURATION_S = 40
HEARTBEAT_S = 10.0
MAX_PODS = 110


@dataclass(frozen=True, slots=True)
class Machine:
    """What the node runs on."""

    cpus: int
    memory_kib: int
    kernel: str
    architecture: str  # as Go names it
    os_image: str
    boot_id: str


def machine() -> Machine:
    """Return what this machine is."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1024
    names = {"x86_64": "amd64", "aarch64": "arm64"}
    kind = platform.machine()
    release = platform.freedesktop_os_release() if Path("/etc/os-release").exists() else {}
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return Machine(
        os.cpu_count() or 1,
        memory,
        platform.release(),
        names.get(kind, kind),
        release.get("PRETTY_NAME", "Linux"),
        boot_id,
    )


def node_object(name: str, on: Machine) -> Json:
    """Return the Node that a node agent creates when there is none of its name."""
    labels: Json = {
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": on.architecture,
    }
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}, "spec": {}}


def node_status(node: Node, node_ip: str, on: Machine, not_ready: str, now: str) -> Json:
    """Return the status of ``node``; ``not_ready`` is why it is not Ready, or empty."""
    capacity: Json = {"cpu": str(on.cpus), "memory": f"{on.memory_kib}Ki", "pods": str(MAX_PODS)}
    healthy = ("MemoryPressure", "DiskPressure", "PIDPressure")
    conditions: list[JsonValue] = [
        _condition(
            node, kind, False, f"KubeletHas{'No' if 'Disk' in kind else 'Sufficient'}{kind[:-8]}", "", now
        )
        for kind in healthy
    ]
    reason = "KubeletNotReady" if not_ready else "KubeletReady"
    message = not_ready or "the node agent is posting ready status"
    conditions.append(_condition(node, "Ready", not not_ready, reason, message, now))
    return {
        "addresses": [
            {"type": "InternalIP", "address": node_ip},
            {"type": "Hostname", "address": node.metadata.name},
        ],
        "capacity": capacity,
        "allocatable": dict(capacity),
        "conditions": conditions,
        "nodeInfo": {
            "architecture": on.architecture,
            "bootID": on.boot_id,
            "containerRuntimeVersion": f"kubenet://{__version__}",
            "kernelVersion": on.kernel,
            "kubeProxyVersion": "",
            "kubeletVersion": f"v{__version__}",
            "machineID": "",
            "operatingSystem": "linux",
            "osImage": on.os_image,
            "systemUUID": "",
        },
    }


def lease_object(name: str, now: str) -> Json:
    """Return the lease by which a node shows that it lives."""
    spec: Json = {"holderIdentity": name, "leaseDurationSeconds": LEASE_DURATION_S, "renewTime": now}
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": name, "namespace": LEASE_NAMESPACE},
        "spec": spec,
    }


def _condition(node: Node, kind: str, holds: bool, reason: str, message: str, now: str) -> Json:
    status = "True" if holds else "False"
    before = next((c for c in node.status.conditions if c.type == kind), None)
    since = before.last_transition_time if before and before.status == status else now
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastHeartbeatTime": now,
        "lastTransitionTime": since or now,
    }
