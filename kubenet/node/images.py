"""Images are names for commands. *Pure.*

There is no registry and no image file: a container is a process on the machine's own file system. An image
name stands for a command; a container that says its own command runs that, whatever its image.
"""

from collections.abc import Mapping

from kubenet.errors import KubenetError
from kubenet.model.objects import Container


class ImageUnknown(KubenetError):
    """No command is known for an image, and the container gives none."""


def argv_of(container: Container, images: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Return what to execute: the container's command or its image's, and then its arguments.

    Raises ImageUnknown.
    """
    own = tuple(container.command) or images.get(repository(container.image), ())
    if not own:
        known = ", ".join(sorted(images)) or "none"
        raise ImageUnknown(
            f"image {container.image!r} is not known here, and container {container.name!r} gives no command",
            f"use one of the images {known}, or set command",
        )
    return [*own, *container.args]


def repository(image: str) -> str:
    """Return an image's name without tag and digest."""
    name = image.partition("@")[0]
    head, colon, tag = name.rpartition(":")
    return head if colon and "/" not in tag else name  # a colon before a slash is a registry's port
