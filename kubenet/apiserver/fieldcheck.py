"""What becomes of a body with unknown or duplicate fields: refused, warned of, or let pass. *Pure.*

Source: Kubernetes API concepts, "Validation for unrecognized or duplicate fields".
"""

from kubenet.apiserver import codec
from kubenet.apiserver.query import FieldValidation
from kubenet.apiserver.schema.strict import complaints, members_of, warning
from kubenet.apiserver.status import StatusError, bad_request
from kubenet.apiserver.strategy import Kind
from kubenet.apiserver.tree import text_at
from kubenet.model.objects import Json

WARNINGS_MOST = 20  # headers of a response are limited


class FieldCheck:
    """The check of one request; collects what the client is to be warned of."""

    def __init__(self, kind: Kind, name: str, level: FieldValidation) -> None:
        self._unknown = kind.strategy.unknown if kind.custom and name == kind.message else None
        self._kind = name
        self._shown = kind.resource.kind if name == kind.message else name
        self._level = level
        self._found: list[str] = []

    @property
    def warnings(self) -> list[str]:
        """The values of Warning headers."""
        return [warning(complaint) for complaint in self._found[:WARNINGS_MOST]]

    def check_body(self, sent: Json, body: bytes, content_type: str) -> None:
        """Check an object that was sent whole. Raises StatusError (400).

        YAML and protobuf cannot show here what they said twice.
        """
        if self._level is FieldValidation.IGNORE or text_at(sent, "kind") not in ("", self._shown):
            return
        # What says nothing twice is as long written anew, if it was written without spaces, as programs do.
        twice = content_type in ("", codec.JSON_TYPE) and len(codec.encoded(sent)) != len(body.rstrip())
        self._found = self._complaints(members_of(body) if twice else sent, sent)
        if self._found and self._level is FieldValidation.STRICT:
            version = text_at(sent, "apiVersion").rpartition("/")[2] or "v1"
            raise bad_request(
                f'{self._shown} in version "{version}" cannot be handled as a {self._shown}:'
                f" strict decoding error: {', '.join(self._found)}"
            )

    def _complaints(self, members: object, value: Json) -> list[str]:
        if self._unknown is None:
            return complaints(self._kind, members)
        return [f'unknown field "{path}"' for path in self._unknown(value)]

    def check_patched(self, patched: Json, old: Json, patch: bytes) -> None:
        """Check what a patch made of an object, where it was not so before. Raises StatusError (422)."""
        if self._level is FieldValidation.IGNORE:
            return
        found = self._complaints(patched, patched)
        if found:
            before = self._complaints(old, old)
            found = [complaint for complaint in found if complaint not in before]
        self._found = found
        if found and self._level is FieldValidation.STRICT:
            shown = patch.decode(errors="replace")
            why = f'Invalid value: "{shown}": strict decoding error: {", ".join(found)}'
            cause: Json = {"reason": "FieldValueInvalid", "message": why, "field": "patch"}
            raise StatusError(422, "Invalid", f' "" is invalid: patch: {why}', {"causes": [cause]})
