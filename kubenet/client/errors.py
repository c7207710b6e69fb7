"""What an API server answers when it does not do what was asked. *Pure.*

The server says why in a ``Status`` object; its English is shown as it came, because people search for it.

Source: Kubernetes API conventions, "Response Status Kind".
"""

from typing import ClassVar

import msgspec

from kubenet.errors import AlreadyExists, KubenetError, NotFound, NotPermitted


class ApiError(KubenetError):
    """The server answered, with a status of 400 or more."""

    exit_code: ClassVar[int] = 1

    def __init__(
        self, status: int, reason: str, message: str, retry_after_s: float | None = None, next_step: str = ""
    ) -> None:
        super().__init__(message, next_step)
        self.status = status
        self.reason = reason
        self.retry_after_s = retry_after_s
        self.version_too_new = False  # the server has never been at the resourceVersion of the request


class ObjectNotFound(ApiError, NotFound):
    """404."""

    exit_code = NotFound.exit_code


class ObjectExists(ApiError, AlreadyExists):
    """409 AlreadyExists: a create met an object of that name."""

    exit_code = AlreadyExists.exit_code


class Conflict(ApiError):
    """409 Conflict: the object has changed since it was read."""


class Gone(ApiError):
    """410: the resourceVersion or continue token is older than what the server keeps."""


class NotAllowed(ApiError, NotPermitted):
    """401 and 403: who we are is not known, or may not do this."""

    exit_code = NotPermitted.exit_code


class _Cause(msgspec.Struct, frozen=True):
    reason: str = ""


class _Details(msgspec.Struct, frozen=True, rename="camel"):
    retry_after_seconds: int | None = None
    causes: tuple[_Cause, ...] = ()


class Status(msgspec.Struct, frozen=True):
    """metav1.Status as far as we read it."""

    kind: str = ""
    code: int = 0
    reason: str = ""
    message: str = ""
    details: _Details | None = None

    @property
    def names_a_future_version(self) -> bool:
        """Whether the server says that it has never been at the resourceVersion of the request."""
        causes = self.details.causes if self.details else ()
        return any(cause.reason == "ResourceVersionTooLarge" for cause in causes)


_status = msgspec.json.Decoder(Status)


def decode_status(body: bytes) -> Status:
    """Return the Status in ``body``; an empty one when it holds something else."""
    try:
        return _status.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Status()


def api_error(code: int, body: bytes, subject: str, retry_after: str = "") -> ApiError:
    """Return the error for a reply; ``subject`` is the request, for servers that say nothing themselves."""
    status = decode_status(body)
    error = _classified(code, status, body, subject, _retry_after_s(status, retry_after))
    error.version_too_new = status.names_a_future_version
    return error


def _classified(code: int, status: Status, body: bytes, subject: str, wait_s: float | None) -> ApiError:
    said = status.message or body[:200].decode(errors="replace").strip() or "no reason given"
    message = said if status.message else f"{subject}: HTTP {code}: {said}"
    if code == 409 and status.reason == "AlreadyExists":
        return ObjectExists(code, status.reason, message, wait_s)
    if code in (401, 403):
        return NotAllowed(code, status.reason, message, wait_s, "check the user and token of the kubeconfig")
    kinds = {404: ObjectNotFound, 409: Conflict, 410: Gone}
    return kinds.get(code, ApiError)(code, status.reason, message, wait_s)


def _retry_after_s(status: Status, header: str) -> float | None:
    """Return the wait asked for; API servers send seconds, never the date that RFC 9110 would allow."""
    if header.strip().isdecimal():
        return float(header)
    seconds = status.details.retry_after_seconds if status.details else None
    return float(seconds) if seconds else None
