"""Refusals as the API words them: one error type, and a function for each reason. *Pure.*

kubectl prints these messages as they are, and clients branch on code and reason, so both follow the API
exactly.

Source: metav1.Status; API conventions, "Response Status Kind".
"""

from collections.abc import Sequence
from dataclasses import dataclass

from kubenet.errors import KubenetError
from kubenet.model.objects import Json, JsonValue
from kubenet.model.resources import Resource


@dataclass(frozen=True, slots=True)
class Cause:
    """One thing wrong with an object: where (``spec.replicas``), what kind of wrong, and in words."""

    field: str
    reason: str
    message: str


def required(field: str, detail: str = "") -> Cause:
    return Cause(field, "FieldValueRequired", f"Required value{': ' if detail else ''}{detail}")


def invalid(field: str, value: JsonValue, detail: str) -> Cause:
    return Cause(field, "FieldValueInvalid", f"Invalid value: {shown(value)}: {detail}")


def duplicate(field: str, value: JsonValue) -> Cause:
    return Cause(field, "FieldValueDuplicate", f"Duplicate value: {shown(value)}")


def unsupported(field: str, value: JsonValue, supported: Sequence[str]) -> Cause:
    names = ", ".join(f'"{name}"' for name in supported)
    message = f"Unsupported value: {shown(value)}: supported values: {names}"
    return Cause(field, "FieldValueNotSupported", message)


def forbidden_field(field: str, detail: str) -> Cause:
    return Cause(field, "FieldValueForbidden", f"Forbidden: {detail}")


def shown(value: JsonValue) -> str:
    """Return a value as it appears inside a message."""
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


class StatusError(KubenetError):
    """A request refused; becomes a Status object with this code."""

    def __init__(self, code: int, reason: str, message: str, details: Json | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.details = details or {}
        self.list_metadata: Json = {}

    def body(self) -> Json:
        """Return the Status object."""
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": self.list_metadata,
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "details": self.details,
            "code": self.code,
        }


def success(details: Json, code: int = 200) -> Json:
    """Return the Status of a request that worked and has nothing else to return."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": details,
        "code": code,
    }


def named(resource: Resource, name: str) -> Json:
    """Return the details that name one object."""
    details: Json = {"name": name, "kind": resource.plural}
    if resource.group:
        details["group"] = resource.group
    return details


def not_found(resource: Resource, name: str) -> StatusError:
    return StatusError(
        404, "NotFound", f'{resource.group_resource} "{name}" not found', named(resource, name)
    )


def no_such_path() -> StatusError:
    return StatusError(404, "NotFound", "the server could not find the requested resource")


def already_exists(resource: Resource, name: str) -> StatusError:
    message = f'{resource.group_resource} "{name}" already exists'
    return StatusError(409, "AlreadyExists", message, named(resource, name))


def conflict(resource: Resource, name: str, why: str = "") -> StatusError:
    why = why or (
        "the object has been modified; please apply your changes to the latest version and try again"
    )
    message = f'Operation cannot be fulfilled on {resource.group_resource} "{name}": {why}'
    return StatusError(409, "Conflict", message, named(resource, name))


def forbidden(resource: Resource, name: str, why: str) -> StatusError:
    message = f'{resource.group_resource} "{name}" is forbidden: {why}'
    return StatusError(403, "Forbidden", message, named(resource, name))


def unprocessable(resource: Resource, name: str, causes: Sequence[Cause]) -> StatusError:
    """Return the refusal of an object whose values are wrong; ``causes`` must not be empty."""
    parts = [f"{cause.field}: {cause.message}" for cause in causes]
    summary = parts[0] if len(parts) == 1 else f"[{', '.join(parts)}]"
    details: Json = {
        "name": name,
        "kind": resource.kind,
        "causes": [
            {"reason": cause.reason, "message": cause.message, "field": cause.field} for cause in causes
        ],
    }
    if resource.group:
        details["group"] = resource.group
    message = (
        f'{resource.kind}{"." + resource.group if resource.group else ""} "{name}" is invalid: {summary}'
    )
    return StatusError(422, "Invalid", message, details)


def bad_request(message: str) -> StatusError:
    return StatusError(400, "BadRequest", message)


def method_not_allowed() -> StatusError:
    return StatusError(
        405, "MethodNotAllowed", "the server does not allow this method on the requested resource"
    )


def not_acceptable(accepted: Sequence[str]) -> StatusError:
    message = f"only the following media types are accepted: {', '.join(accepted)}"
    return StatusError(406, "NotAcceptable", message)


def unsupported_media_type(accepted: Sequence[str]) -> StatusError:
    message = "the body of the request was in an unknown format - accepted media types include: "
    return StatusError(415, "UnsupportedMediaType", message + ", ".join(accepted))


def too_large(limit_bytes: int) -> StatusError:
    return StatusError(413, "RequestEntityTooLarge", f"Request entity too large: limit is {limit_bytes}")


def expired(message: str) -> StatusError:
    return StatusError(410, "Expired", message)


def too_old(revision: int, oldest: int) -> StatusError:
    return expired(f"too old resource version: {revision} ({oldest})")


def revision_too_large(revision: int, current: int) -> StatusError:
    """Return the refusal of a read that asks for a revision which has not happened yet."""
    message = f"Too large resource version: {revision}, current: {current}"
    details: Json = {
        "retryAfterSeconds": 1,
        "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
    }
    return StatusError(504, "Timeout", f"Timeout: {message}", details)


def unavailable(message: str) -> StatusError:
    return StatusError(503, "ServiceUnavailable", message, {"retryAfterSeconds": 1})


def internal(message: str) -> StatusError:
    return StatusError(500, "InternalError", f"Internal error occurred: {message}")
