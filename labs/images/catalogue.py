"""Image names that a lab knows, and the commands they stand for. *Pure.*

A lab's containers are processes on the machine's own file system, in namespaces of their own; there is no
registry to pull from.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

_HERE = Path(__file__).parent


def _python(script: str) -> tuple[str, ...]:
    return (sys.executable, "-I", str(_HERE / script))


IMAGES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "kubenet.dev/httpd": _python("httpd.py"),
        "kubenet.dev/idle": _python("idle.py"),
    }
)

# Run inside a pod by the demo and by tests: (command, then host, port and options).
LOAD = _python("load.py")
