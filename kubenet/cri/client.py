"""Ask a container runtime over CRI, as a kubelet does: gRPC on a unix socket. Needs the extra ``grpc``.

Source: k8s.io/cri-api, pkg/apis/runtime/v1/api.proto.
"""

from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import grpc

from kubenet.cri.messages import (
    ContainerConfig,
    ContainerId,
    CreateContainerRequest,
    ListPodSandboxResponse,
    Nothing,
    PodSandbox,
    PodSandboxConfig,
    PodSandboxStatusRequest,
    PodSandboxStatusResponse,
    RunPodSandboxRequest,
    RuntimeCondition,
    SandboxId,
    StatusResponse,
    Version,
)
from kubenet.errors import KubenetError
from kubenet.model.messages import decode, encode

SERVICE = "/runtime.v1.RuntimeService/"
WITHIN_S = 60.0  # a sandbox waits for its network
A = TypeVar("A")


class RuntimeRefused(KubenetError):
    """The container runtime did not do what it was asked, or did not answer."""


class CriClient:
    """A connection to one runtime. Blocking; may be used by several threads."""

    def __init__(self, socket_path: Path, timeout_s: float = WITHIN_S) -> None:
        self._channel = grpc.insecure_channel(f"unix://{socket_path}")
        self._timeout_s = timeout_s

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._channel.close()

    def version(self) -> Version:
        """Return who the runtime is. Raises RuntimeRefused, as every call here."""
        return self._call("Version", Version("v1"), Version)

    def conditions(self) -> dict[str, RuntimeCondition]:
        """Return whether runtime and network are ready, by type."""
        answer = self._call("Status", Nothing(), StatusResponse)
        return {condition.type: condition for condition in answer.status.conditions}

    def run_sandbox(self, config: PodSandboxConfig) -> str:
        """Make a pod's sandbox with its network, and return its id."""
        return self._call("RunPodSandbox", RunPodSandboxRequest(config), SandboxId).pod_sandbox_id

    def sandbox_status(self, sandbox_id: str, *, verbose: bool = False) -> PodSandboxStatusResponse:
        request = PodSandboxStatusRequest(sandbox_id, verbose)
        return self._call("PodSandboxStatus", request, PodSandboxStatusResponse)

    def sandboxes(self) -> tuple[PodSandbox, ...]:
        return self._call("ListPodSandbox", Nothing(), ListPodSandboxResponse).items

    def stop_sandbox(self, sandbox_id: str) -> None:
        """Stop all in the sandbox and take its network away; done again, it succeeds."""
        self._call("StopPodSandbox", SandboxId(sandbox_id), Nothing)

    def remove_sandbox(self, sandbox_id: str) -> None:
        self._call("RemovePodSandbox", SandboxId(sandbox_id), Nothing)

    def create_container(
        self, sandbox_id: str, config: ContainerConfig, sandbox_config: PodSandboxConfig
    ) -> str:
        """Make a container in a sandbox, and return its id."""
        request = CreateContainerRequest(sandbox_id, config, sandbox_config)
        return self._call("CreateContainer", request, ContainerId).container_id

    def start_container(self, container_id: str) -> None:
        self._call("StartContainer", ContainerId(container_id), Nothing)

    def _call(self, method: str, request: object, answer: type[A]) -> A:
        ask = self._channel.unary_unary(SERVICE + method)
        try:
            told: bytes = ask(encode(request), timeout=self._timeout_s, wait_for_ready=True)
        except grpc.RpcError as error:
            raise RuntimeRefused(f"CRI {method}: {error.code().name}: {error.details()}") from error
        return decode(answer, told)
