"""The one error tree. *Pure.*

A class exists only if someone catches it by name or if it has an exit code of its own. The message holds the
subject and the values; ``next_step`` is the command or act that gets the reader further. Nothing else of the
project derives from ``Exception`` directly, so that ``except KubenetError`` means "an expected failure" and a
bug always surfaces.
"""

from typing import ClassVar


class KubenetError(Exception):
    """An expected failure: what, where, why, and the next step."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, next_step: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step

    def __str__(self) -> str:
        return self.message


class InvalidInput(KubenetError):
    """What the user gave cannot be meant: an option, a name, a value."""

    exit_code = 2


class NotFound(KubenetError):
    """The thing named does not exist (a lab, a pod, a namespace)."""

    exit_code = 3


class KernelLacks(KubenetError):
    """The running kernel cannot do what is needed."""

    exit_code = 4


class Malformed(KubenetError):
    """Bytes that came over a wire break the rules of their format."""


class InvalidManifest(KubenetError):
    """A manifest that is not YAML, or not a Kubernetes object."""

    exit_code = 65


class UnknownKind(KubenetError):
    """A manifest names a kind or version that the server does not serve."""

    exit_code = 66


class Unreachable(KubenetError):
    """A daemon or server does not answer."""

    exit_code = 69


class AlreadyExists(KubenetError):
    """The name is taken."""

    exit_code = 73


class NotPermitted(KubenetError):
    """Not root, or a capability is missing."""

    exit_code = 77


class TimedOut(KubenetError):
    """The time allowed ran out."""

    exit_code = 124


class ProgramFailed(KubenetError):
    """A program we ran exited with a status other than 0."""

    exit_code = 1


class ProgramMissing(KubenetError):
    """A program that we need is not installed."""

    exit_code = 127
