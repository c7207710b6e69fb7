"""What this process may do."""

import os
from pathlib import Path

from kubenet.errors import NotPermitted

_NET_ADMIN = 12  # linux/capability.h


def require_root(why: str) -> None:
    """Raises NotPermitted unless we are root; ``why`` completes "needs root: ..."."""
    if os.geteuid() != 0:
        raise NotPermitted(f"needs root: {why}", "run the command with sudo")


def require_net_admin(why: str) -> None:
    """Raises NotPermitted unless we may change the network; root in a container may not have that."""
    status = Path("/proc/self/status").read_text().splitlines()
    capabilities = next((int(line.split()[1], 16) for line in status if line.startswith("CapEff:")), 0)
    if not capabilities >> _NET_ADMIN & 1:
        raise NotPermitted(
            f"needs CAP_NET_ADMIN: {why}",
            "run the command with sudo; in a pod, with securityContext.privileged",
        )
