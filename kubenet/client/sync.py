"""The API for commands: one request, one answer, no event loop.

``http.client`` starts in a twentieth of the time of an asynchronous client, which is what a command line
feels like. Daemons use ``transport``.

Source: Kubernetes API concepts.
"""

import http.client
from collections.abc import Mapping
from typing import Generic
from urllib.parse import urlencode, urlsplit

import msgspec

from kubenet.client.errors import ObjectNotFound, api_error
from kubenet.errors import InvalidInput, Unreachable
from kubenet.model.objects import Json, KubeObject, ObjectT
from kubenet.model.resources import Resource

MERGE_PATCH = "application/merge-patch+json"
TIMEOUT_S = 30.0


class _ListOf(msgspec.Struct, Generic[ObjectT], frozen=True):
    items: tuple[ObjectT, ...]


class SyncClient:
    """Requests to one API server over plain HTTP, as a lab serves it on loopback."""

    def __init__(self, server: str) -> None:
        parts = urlsplit(server)
        if parts.scheme != "http" or not parts.hostname:
            raise InvalidInput(f"{server!r}: not the URL of a lab's API server")
        self.server = server
        self._host, self._port = parts.hostname, parts.port or 80

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content_type: str = "application/json",
    ) -> bytes:
        """Return the body of the answer. Raises ApiError and Unreachable."""
        url = f"{path}?{urlencode(params)}" if params else path
        connection = http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT_S)
        try:
            connection.request(
                method, url, body, {"Content-Type": content_type, "Accept": "application/json"}
            )
            response = connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(f"{self.server}: {error}", "kubenet lab status") from error
        finally:
            connection.close()
        if response.status >= 400:
            raise api_error(
                response.status, answer, f"{method} {path}", response.headers.get("Retry-After", "")
            )
        return answer

    def get(self, resource: Resource, namespace: str, name: str, kind: type[ObjectT]) -> ObjectT:
        """Return one object. Raises ObjectNotFound."""
        return msgspec.json.decode(self.request("GET", resource.path(namespace, name)), type=kind)

    def list(
        self, resource: Resource, kind: type[ObjectT], namespace: str = "", **params: str
    ) -> tuple[ObjectT, ...]:
        """Return the objects of a namespace, or of all."""
        answer = self.request("GET", resource.path(namespace), params=params)
        return msgspec.json.decode(answer, type=_ListOf[kind]).items  # type: ignore[valid-type]  # a generic struct, made at run time

    def create(self, resource: Resource, namespace: str, body: Json) -> bytes:
        """Create an object and return it as it was stored."""
        return self.request("POST", resource.path(namespace), body=msgspec.json.encode(body))

    def merge(self, resource: Resource, namespace: str, name: str, patch: Json) -> bytes:
        """Change an object by a JSON merge patch (RFC 7396)."""
        return self.request(
            "PATCH", resource.path(namespace, name), body=msgspec.json.encode(patch), content_type=MERGE_PATCH
        )

    def delete(self, resource: Resource, namespace: str, name: str) -> None:
        """Delete an object, with whatever grace it has."""
        self.request("DELETE", resource.path(namespace, name))

    def exists(self, resource: Resource, namespace: str, name: str) -> bool:
        """Whether the object is there."""
        try:
            self.get(resource, namespace, name, KubeObject)
        except ObjectNotFound:
            return False
        return True
