"""What this process may do."""

import os

from kubenet.errors import NotPermitted


def require_root(why: str) -> None:
    """Raises NotPermitted unless we are root; ``why`` completes "needs root: ..."."""
    if os.geteuid() != 0:
        raise NotPermitted(f"needs root: {why}", "run the command with sudo")
