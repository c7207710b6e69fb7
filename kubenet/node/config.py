"""What a node agent is told."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kubenet.kernel.netns import NetNs
from kubenet.model.links import IPAddress


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """One node."""

    name: str
    netns: NetNs
    node_ip: IPAddress
    state_dir: Path  # on tmpfs: what is known of pods ends with them, at the latest at a reboot
    cni_bin_dir: Path
    cni_conf_dir: Path
    cluster_dns: IPAddress
    cluster_domain: str = "cluster.local"
    images: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # image name without tag -> command
    ready: asyncio.Event | None = None  # set when the Node is Ready for the first time

    def netns_path(self, uid: str) -> Path:
        """Return where the namespace of a pod is pinned."""
        return self.state_dir / "netns" / uid

    def pod_dir(self, uid: str) -> Path:
        """Return where the record and the files of a pod are."""
        return self.state_dir / "pods" / uid

    def log_path(self, uid: str, container: str) -> Path:
        """Return where a container's output goes."""
        return self.state_dir / "logs" / uid / f"{container}.log"
