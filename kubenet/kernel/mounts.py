"""What is mounted below a directory. Source: proc_pid_mountinfo(5)."""

import re
from pathlib import Path

_OCTAL = re.compile(r"\\([0-7]{3})")


def pinned_namespaces(directory: Path) -> list[Path]:
    """Return the namespaces that are pinned below ``directory``, the youngest mount first."""
    inside = f"{directory}/"
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [_mount_point(line) for line in lines if " - nsfs " in line]
    return [Path(point) for point in reversed(points) if point.startswith(inside)]


def _mount_point(line: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), line.split(" ")[4])
