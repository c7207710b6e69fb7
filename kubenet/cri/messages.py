"""The Container Runtime Interface: the messages that a kubelet sends for pods, and what it is told. *Pure.*

Only fields that somebody here writes or reads; the numbers are those of runtime.v1.

Source: k8s.io/cri-api, pkg/apis/runtime/v1/api.proto.
"""

from dataclasses import dataclass
from enum import IntEnum

from kubenet.model.messages import numbered


class Protocol(IntEnum):
    """Of a port mapping."""

    TCP = 0
    UDP = 1
    SCTP = 2


class SandboxState(IntEnum):
    """Whether a sandbox has a network."""

    READY = 0
    NOT_READY = 1


@dataclass(frozen=True, slots=True)
class PodSandboxMetadata:
    """Who the pod is."""

    name: str = numbered(1, "")
    uid: str = numbered(2, "")
    namespace: str = numbered(3, "")
    attempt: int = numbered(4, 0)


@dataclass(frozen=True, slots=True)
class PortMapping:
    """A port of the node that leads to the pod."""

    protocol: int = numbered(1, 0)
    container_port: int = numbered(2, 0)
    host_port: int = numbered(3, 0)
    host_ip: str = numbered(4, "")


@dataclass(frozen=True, slots=True)
class PodSandboxConfig:
    """What a pod's sandbox shall be."""

    metadata: PodSandboxMetadata = numbered(1, PodSandboxMetadata())
    hostname: str = numbered(2, "")
    log_directory: str = numbered(3, "")
    port_mappings: tuple[PortMapping, ...] = numbered(5, ())
    labels: dict[str, str] = numbered(6, {})
    annotations: dict[str, str] = numbered(7, {})


@dataclass(frozen=True, slots=True)
class RunPodSandboxRequest:
    config: PodSandboxConfig = numbered(1)
    runtime_handler: str = numbered(2, "")


@dataclass(frozen=True, slots=True)
class SandboxId:
    """Asks for, or names, a sandbox: the request of Stop and Remove, and the answer of Run."""

    pod_sandbox_id: str = numbered(1, "")


@dataclass(frozen=True, slots=True)
class PodSandboxStatusRequest:
    pod_sandbox_id: str = numbered(1, "")
    verbose: bool = numbered(2, False)


@dataclass(frozen=True, slots=True)
class PodIP:
    ip: str = numbered(1, "")


@dataclass(frozen=True, slots=True)
class PodSandboxNetworkStatus:
    """The pod's addresses, the first by itself."""

    ip: str = numbered(1, "")
    additional_ips: tuple[PodIP, ...] = numbered(2, ())


@dataclass(frozen=True, slots=True)
class PodSandboxStatus:
    """What a sandbox is."""

    id: str = numbered(1, "")
    metadata: PodSandboxMetadata = numbered(2, PodSandboxMetadata())
    state: int = numbered(3, 0)
    created_at_ns: int = numbered(4, 0)
    network: PodSandboxNetworkStatus = numbered(5, PodSandboxNetworkStatus())


@dataclass(frozen=True, slots=True)
class PodSandboxStatusResponse:
    """``info`` is the runtime's own, as JSON by topic."""

    status: PodSandboxStatus = numbered(1)
    info: dict[str, str] = numbered(2, {})


@dataclass(frozen=True, slots=True)
class PodSandbox:
    """An entry of the list of sandboxes."""

    id: str = numbered(1, "")
    metadata: PodSandboxMetadata = numbered(2, PodSandboxMetadata())
    state: int = numbered(3, 0)


@dataclass(frozen=True, slots=True)
class ListPodSandboxResponse:
    items: tuple[PodSandbox, ...] = numbered(1, ())


@dataclass(frozen=True, slots=True)
class ContainerMetadata:
    name: str = numbered(1, "")
    attempt: int = numbered(2, 0)


@dataclass(frozen=True, slots=True)
class ImageSpec:
    image: str = numbered(1, "")


@dataclass(frozen=True, slots=True)
class ContainerConfig:
    """What a container shall be."""

    metadata: ContainerMetadata = numbered(1, ContainerMetadata())
    image: ImageSpec = numbered(2, ImageSpec())
    command: tuple[str, ...] = numbered(3, ())
    args: tuple[str, ...] = numbered(4, ())
    log_path: str = numbered(11, "")


@dataclass(frozen=True, slots=True)
class CreateContainerRequest:
    pod_sandbox_id: str = numbered(1)
    config: ContainerConfig = numbered(2)
    sandbox_config: PodSandboxConfig = numbered(3)


@dataclass(frozen=True, slots=True)
class ContainerId:
    """Asks for, or names, a container: the request of Start and Remove, and the answer of Create."""

    container_id: str = numbered(1, "")


@dataclass(frozen=True, slots=True)
class RuntimeCondition:
    """One of ``RuntimeReady`` and ``NetworkReady``, and why not."""

    type: str = numbered(1, "")
    status: bool = numbered(2, False)
    reason: str = numbered(3, "")
    message: str = numbered(4, "")


@dataclass(frozen=True, slots=True)
class RuntimeStatus:
    conditions: tuple[RuntimeCondition, ...] = numbered(1, ())


@dataclass(frozen=True, slots=True)
class StatusResponse:
    status: RuntimeStatus = numbered(1)


@dataclass(frozen=True, slots=True)
class Version:
    """Asks with a version of the interface; the answer names the runtime."""

    version: str = numbered(1, "")
    runtime_name: str = numbered(2, "")
    runtime_version: str = numbered(3, "")
    runtime_api_version: str = numbered(4, "")


@dataclass(frozen=True, slots=True)
class Nothing:
    """A message without a field that we read or write."""
