"""What the server says it serves. *Pure.*

Source: Kubernetes API concepts, "API Discovery" (plain and aggregated); kubectl asks for the aggregated form
first.
"""

from collections.abc import Iterable

from kubenet.apiserver.kinds import Catalogue
from kubenet.apiserver.strategy import Kind
from kubenet.apiserver.subresources import BINDING, EVICTION, SCALE, TOKEN
from kubenet.apiserver.view import media_ranges
from kubenet.model.objects import Json, JsonValue
from kubenet.model.resources import Resource

SUBRESOURCE_VERBS = {
    "status": ("get", "patch", "update"),
    "scale": ("get", "patch", "update"),
    "binding": ("create",),
    "eviction": ("create",),
    "finalize": ("update",),
    "token": ("create",),
}
SUBRESOURCE_KINDS = {"scale": SCALE, "binding": BINDING, "eviction": EVICTION, "token": TOKEN}
AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


def api_versions() -> Json:
    """Return what /api holds."""
    address: Json = {"clientCIDR": "0.0.0.0/0", "serverAddress": ""}
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [address]}


def api_groups(catalogue: Catalogue) -> Json:
    """Return what /apis holds."""
    groups = [_group(group, versions) for group, versions in _named_groups(catalogue).items()]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [*groups]}


def api_group(catalogue: Catalogue, group: str) -> Json | None:
    """Return what /apis/GROUP holds, or None."""
    versions = _named_groups(catalogue).get(group)
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(group, versions)} if versions else None


def paths(catalogue: Catalogue) -> list[str]:
    """Return the paths of all groups and versions."""
    named = _named_groups(catalogue).items()
    versions = [f"/apis/{group}/{version}" for group, versions in named for version in versions]
    return ["/api", "/api/v1", "/apis", *(f"/apis/{group}" for group, _ in named), *versions]


def _named_groups(catalogue: Catalogue) -> dict[str, list[str]]:
    """Return the versions of each group but the core one, the preferred version first."""
    groups: dict[str, list[str]] = {}
    for group, version in catalogue.group_versions:
        if group:
            groups.setdefault(group, []).append(version)
    return groups


def _group(group: str, versions: list[str]) -> Json:
    served: list[Json] = [{"groupVersion": f"{group}/{version}", "version": version} for version in versions]
    return {"name": group, "versions": [*served], "preferredVersion": served[0]}


def resource_list(catalogue: Catalogue, group: str, version: str) -> Json:
    """Return what /api/v1 or /apis/GROUP/VERSION holds."""
    resources: list[JsonValue] = []
    for kind in _kinds(catalogue, group, version):
        resources.append(_resource(kind))
        resources.extend(_subresource(kind, name) for name in kind.subresources)
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{group}/{version}" if group else version,
        "resources": resources,
    }


def _kinds(catalogue: Catalogue, group: str, version: str) -> Iterable[Kind]:
    return (
        kind for kind in catalogue.served if (kind.resource.group, kind.resource.version) == (group, version)
    )


def _resource(kind: Kind) -> Json:
    entry: Json = {
        "name": kind.plural,
        "singularName": kind.resource.kind.lower(),
        "namespaced": kind.resource.namespaced,
        "kind": kind.resource.kind,
        "verbs": [*kind.verbs],
    }
    if kind.short_names:
        entry["shortNames"] = [*kind.short_names]
    if kind.categories:
        entry["categories"] = [*kind.categories]
    return entry


def _subresource(kind: Kind, name: str) -> Json:
    entry: Json = {
        "name": f"{kind.plural}/{name}",
        "singularName": "",
        "namespaced": kind.resource.namespaced,
        "kind": kind.resource.kind,
        "verbs": [*SUBRESOURCE_VERBS[name]],
    }
    if foreign := SUBRESOURCE_KINDS.get(name):
        entry["kind"] = foreign.kind
        if foreign.group:
            entry |= {"group": foreign.group, "version": foreign.version}
    return entry


def wants_aggregated(accept: str) -> bool:
    """Return whether the client prefers all groups in one document."""
    first = media_ranges(accept)[0].parameters
    return (first.get("as"), first.get("v")) == ("APIGroupDiscoveryList", "v2")


def aggregated(catalogue: Catalogue, core: bool) -> Json:
    """Return the aggregated form of /api (``core``) or /apis."""
    groups = {"": ["v1"]} if core else _named_groups(catalogue)
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": [_aggregated_group(catalogue, group, versions) for group, versions in groups.items()],
    }


def _aggregated_group(catalogue: Catalogue, group: str, versions: list[str]) -> Json:
    metadata: Json = {"name": group} if group else {}
    served = [_aggregated_version(catalogue, group, version) for version in versions]
    return {"metadata": metadata | {"creationTimestamp": None}, "versions": [*served]}


def _aggregated_version(catalogue: Catalogue, group: str, version: str) -> Json:
    resources: list[JsonValue] = [_aggregated_resource(kind) for kind in _kinds(catalogue, group, version)]
    return {"version": version, "freshness": "Current", "resources": resources}


def _aggregated_resource(kind: Kind) -> Json:
    resource = kind.resource
    entry: Json = {
        "resource": kind.plural,
        "responseKind": _response_kind(resource),
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": resource.kind.lower(),
        "verbs": [*kind.verbs],
        "subresources": [
            {
                "subresource": name,
                "responseKind": _response_kind(SUBRESOURCE_KINDS.get(name, resource)),
                "verbs": [*SUBRESOURCE_VERBS[name]],
            }
            for name in kind.subresources
        ],
    }
    if kind.short_names:
        entry["shortNames"] = [*kind.short_names]
    if kind.categories:
        entry["categories"] = [*kind.categories]
    return entry


def _response_kind(resource: Resource) -> Json:
    return {"group": resource.group, "version": resource.version, "kind": resource.kind}


def version() -> Json:
    """Return what /version holds: the level of the API that we follow, not a release of Kubernetes."""
    return {
        "major": "1",
        "minor": "33",
        "gitVersion": "v1.33.0+kubenet",
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "",
        "platform": "linux/amd64",
    }
