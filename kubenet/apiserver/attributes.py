"""What a request asks to do, in the words that rules are written in. *Pure.*

Source: Kubernetes documentation, "Authorization", "Determine the request verb".
"""

from collections.abc import Mapping
from dataclasses import dataclass

from kubenet.apiserver.query import TRUE
from kubenet.apiserver.route import Target
from kubenet.apiserver.status import StatusError
from kubenet.apiserver.users import User
from kubenet.model.objects import Json

_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch"}
_NAME_SELECTOR = "metadata.name="


@dataclass(frozen=True, slots=True)
class Attributes:
    """A verb, and what it is done to: a resource, or (with ``path``) something that is none."""

    verb: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""

    @property
    def full_resource(self) -> str:
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource


def of_target(method: str, target: Target, params: Mapping[str, str]) -> Attributes:
    """Return what a request for objects asks to do."""
    resource, name = target.kind.resource, target.name
    verb = _VERBS.get(method, "")
    if method == "DELETE":
        verb = "delete" if name else "deletecollection"
    elif method in ("GET", "HEAD"):
        verb = "get" if name else "list"
        if not name and params.get("watch") in TRUE:
            verb = "watch"
        if not name:
            name = _selected_name(params.get("fieldSelector", ""))
    return Attributes(verb, resource.group, resource.plural, target.subresource, target.namespace, name)


def _selected_name(selector: str) -> str:
    """Return the one object that a field selector leaves: rules may name it."""
    terms = [term for term in selector.split(",") if term.startswith(_NAME_SELECTOR)]
    return terms[0].removeprefix(_NAME_SELECTOR).removeprefix("=") if len(terms) == 1 else ""


def of_path(method: str, path: str) -> Attributes:
    """Return what a request for anything else asks to do."""
    return Attributes(method.lower(), path=path or "/")


def refusal(user: User, asked: Attributes) -> StatusError:
    """Return the 403 that says who may not do what."""
    if asked.path:
        message = f'forbidden: User "{user.name}" cannot {asked.verb} path "{asked.path}"'
        return StatusError(403, "Forbidden", message)
    where = f'in the namespace "{asked.namespace}"' if asked.namespace else "at the cluster scope"
    subject = f"{asked.resource}{'.' + asked.group if asked.group else ''}"
    named = f' "{asked.name}"' if asked.name else ""
    message = (
        f'{subject}{named} is forbidden: User "{user.name}" cannot {asked.verb} resource'
        f' "{asked.full_resource}" in API group "{asked.group}" {where}'
    )
    details: Json = {"kind": asked.resource}
    if asked.name:
        details["name"] = asked.name
    if asked.group:
        details["group"] = asked.group
    return StatusError(403, "Forbidden", message, details)
