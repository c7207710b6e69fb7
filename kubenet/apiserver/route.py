"""What a URL path means. *Pure.*

Source: Kubernetes API concepts, "Resource URIs".
"""

from dataclasses import dataclass
from urllib.parse import unquote

from kubenet.apiserver.kinds import BUILT_IN, NAMESPACE, POD, Catalogue
from kubenet.apiserver.status import bad_request, method_not_allowed, no_such_path
from kubenet.apiserver.strategy import Kind

METHODS = {
    "": ("GET", "PUT", "PATCH", "DELETE"),
    "status": ("GET", "PUT", "PATCH"),
    "scale": ("GET", "PUT", "PATCH"),
    "finalize": ("PUT",),
    "binding": ("POST",),
    "eviction": ("POST",),
    "token": ("POST",),
}
_BODY_KINDS = {"scale": "Scale", "binding": "Binding", "eviction": "Eviction", "token": "TokenRequest"}
COLLECTION_METHODS = ("GET", "POST", "DELETE")


@dataclass(frozen=True, slots=True)
class Target:
    """What a request is about: a collection (no name), an object, or a part of one."""

    kind: Kind
    namespace: str = ""
    name: str = ""
    subresource: str = ""

    @property
    def body_kind(self) -> str:
        """What the table of messages calls the object that a request's body is."""
        return _BODY_KINDS.get(self.subresource, self.kind.message)

    def check_method(self, method: str) -> None:
        """Refuse a method that this target does not know. Raises StatusError (405)."""
        collection = not self.name and not self.subresource
        allowed = COLLECTION_METHODS if collection else METHODS[self.subresource]
        if not self.kind.kept:
            allowed = ("POST",) if collection else ()
        if method not in allowed or (method == "POST" and collection and self._everywhere):
            raise method_not_allowed()

    @property
    def _everywhere(self) -> bool:
        """Whether the objects of all namespaces are meant: nothing can be created there."""
        return self.kind.resource.namespaced and not self.namespace


@dataclass(frozen=True, slots=True)
class GroupVersion:
    """A request for the list of a group's resources."""

    group: str
    version: str


def route(raw_path: str, catalogue: Catalogue = BUILT_IN) -> Target | GroupVersion:
    """Return the meaning of a percent-encoded path below /api or /apis. Raises StatusError (400, 404)."""
    parts = [unquote(part) for part in raw_path.strip("/").split("/")]
    if parts[0] == "api" and len(parts) >= 2:
        group, version, rest = "", parts[1], parts[2:]
    elif parts[0] == "apis" and len(parts) >= 3:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        raise no_such_path()
    if (group, version) not in catalogue.group_versions:
        raise no_such_path()
    if not rest:
        return GroupVersion(group, version)
    for part in rest:
        _check_segment(part)
    return _target(catalogue, (group, version), rest)


def _check_segment(part: str) -> None:
    if part in ("", ".", "..") or "/" in part or "%" in part:
        raise bad_request(
            f"invalid resource name \"{part}\": may not be empty, '.', '..' or contain '/' or '%'"
        )


def _target(catalogue: Catalogue, place: tuple[str, str], rest: list[str]) -> Target:
    (group, version), namespace = place, ""
    if rest[0] == "namespaces" and len(rest) >= 3 and rest[2] not in NAMESPACE.subresources:
        namespace, rest = rest[1], rest[2:]
    if (group, rest) == ("", ["bindings"]) and namespace:
        return Target(POD, namespace, subresource="binding")  # the pod's name is in the body
    kind = catalogue.at(group, version, rest[0])
    if kind is None or len(rest) > 3 or (namespace and not kind.resource.namespaced):
        raise no_such_path()
    name, subresource = (*rest[1:], "", "")[:2]
    if kind.resource.namespaced and name and not namespace:
        raise no_such_path()
    if subresource and subresource not in kind.subresources:
        raise no_such_path()
    return Target(kind, namespace, name, subresource)
