"""Writes to the API as values: what a decider returns and a shell carries out. *Pure.*

A write that depends on what was read says so: an update carries the resourceVersion it was decided on (inside
its body), a delete the uid. The server refuses what has been overtaken, and the decider runs again.

Source: Kubernetes API conventions, "Concurrency Control and Consistency".
"""

from dataclasses import dataclass
from typing import TypeAlias

from kubenet.model.objects import Json, KubeObject
from kubenet.model.resources import Resource


@dataclass(frozen=True, slots=True)
class Create:
    """Make a new object, or, with a subresource such as ``binding``, act on the object ``name``."""

    resource: Resource
    namespace: str
    body: Json
    name: str = ""
    subresource: str = ""


@dataclass(frozen=True, slots=True)
class Replace:
    """Put ``body`` in the place of an object."""

    resource: Resource
    namespace: str
    name: str
    body: Json
    subresource: str = ""


@dataclass(frozen=True, slots=True)
class Patch:
    """Merge ``body`` into an object (RFC 7396: lists are replaced whole, null removes)."""

    resource: Resource
    namespace: str
    name: str
    body: Json
    subresource: str = ""


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete the object that has ``uid``; ``grace_s`` None leaves the grace period to the object."""

    resource: Resource
    namespace: str
    name: str
    uid: str
    resource_version: str = ""  # the version it was decided on; not sent
    grace_s: int | None = None


Write: TypeAlias = Create | Replace | Patch | Delete


def patch_of(resource: Resource, target: KubeObject, body: Json, subresource: str = "") -> Patch:
    """Return a patch that the server refuses (409) if ``target`` is no longer its latest version."""
    meta = target.metadata
    own = body.get("metadata")
    guarded: Json = {**own} if isinstance(own, dict) else {}
    guarded |= {"uid": meta.uid, "resourceVersion": meta.resource_version}
    return Patch(resource, meta.namespace, meta.name, {**body, "metadata": guarded}, subresource)


def delete_of(resource: Resource, target: KubeObject, grace_s: int | None = None) -> Delete:
    """Return the deletion of exactly ``target``, whatever is called so by then."""
    meta = target.metadata
    return Delete(resource, meta.namespace, meta.name, meta.uid, meta.resource_version, grace_s)
