"""The EndpointSlices of a Service, changed as little as possible. *Pure.*

Every write of a slice is sent to every node, so the aim is few writes of few slices: an endpoint stays in the
slice it is in; a new one goes into a slice that is written anyway, else into the fullest one with room, else
into a new slice; a slice that lost its last endpoint is filled anew rather than deleted. A Service without
endpoints keeps one empty slice, which tells its readers "nobody" instead of "not known yet".

Source: Kubernetes documentation, "EndpointSlices"; endpointslice package of kubernetes (reconciler).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from kubenet.controllers.backends import Backend, families
from kubenet.controllers.templates import owned_by
from kubenet.model.objects import (
    SERVICE_NAME_LABEL,
    EndpointPort,
    EndpointSlice,
    Json,
    Service,
    SliceEndpoint,
)
from kubenet.model.resources import ENDPOINTSLICES, SERVICES
from kubenet.model.writes import Create, Replace, Write, delete_of

MANAGED_BY_LABEL = "endpointslice.kubernetes.io/managed-by"
MANAGER = "endpointslice-controller.k8s.io"
HEADLESS_LABEL = "service.kubernetes.io/headless"
TRIGGER_TIME = "endpoints.kubernetes.io/last-change-trigger-time"
SLICE_MOST = 100  # endpoints; kube-controller-manager's --max-endpoints-per-slice
NAME_PREFIX_MOST = 58

Ports = tuple[EndpointPort, ...]


@dataclass(slots=True)
class _Draft:
    """A slice as it shall be."""

    address_type: str
    ports: Ports
    endpoints: list[SliceEndpoint] = field(default_factory=list)
    have: EndpointSlice | None = None
    touched: list[str] = field(default_factory=list)  # since when its new endpoints are so

    @property
    def changed(self) -> bool:
        have = self.have
        return (
            have is None
            or list(have.endpoints or ()) != self.endpoints
            or tuple(have.ports or ()) != self.ports
        )

    @property
    def room(self) -> int:
        return SLICE_MOST - len(self.endpoints)


def is_ours(each: EndpointSlice) -> bool:
    """Whether this controller manages a slice; others (mirrored, hand-made) are left alone."""
    return each.metadata.labels.get(MANAGED_BY_LABEL) == MANAGER and each.metadata.deletion_timestamp is None


def decide(service: Service, found: Iterable[Backend], slices: Iterable[EndpointSlice]) -> list[Write]:
    """Return the writes that make the Service's slices hold exactly ``found``."""
    mine = sorted((each for each in slices if is_ours(each)), key=lambda each: each.metadata.name)
    wanted: dict[str, dict[Ports, list[Backend]]] = {family: {} for family in families(service)}
    for backend in found:
        wanted[backend.address_type].setdefault(backend.ports, []).append(backend)
    writes: list[Write] = []
    for family, groups in wanted.items():
        have = [each for each in mine if each.address_type == family]
        writes += _family_writes(service, family, groups, have)
    writes += [delete_of(ENDPOINTSLICES, each) for each in mine if each.address_type not in wanted]
    return writes


def _family_writes(
    service: Service,
    family: str,
    groups: Mapping[Ports, Sequence[Backend]],
    have: Sequence[EndpointSlice],
) -> list[Write]:
    drafts: list[_Draft] = []
    for ports in sorted(groups, key=repr):
        same_ports = [each for each in have if tuple(each.ports or ()) == ports]
        drafts += _packed(family, ports, groups[ports], same_ports)
    drafts = [draft for draft in drafts if draft.endpoints] or [_Draft(family, ())]
    kept = {draft.have.metadata.name for draft in drafts if draft.have}
    spare = [each for each in have if each.metadata.name not in kept]
    _recycle(drafts, spare)
    writes = [
        _write(service, draft) for draft in drafts if draft.changed or _labels_differ(service, draft.have)
    ]
    return writes + [delete_of(ENDPOINTSLICES, each) for each in spare]


def _packed(
    family: str, ports: Ports, wanted: Sequence[Backend], have: Sequence[EndpointSlice]
) -> list[_Draft]:
    """Return slices for endpoints that share their ports."""
    left = {_identity(backend.endpoint): backend for backend in wanted}
    drafts = []
    for each in have:
        draft = _Draft(family, ports, [], each)
        for endpoint in each.endpoints or ():
            backend = left.pop(_identity(endpoint), None)
            if backend is not None:
                _put(draft, backend, is_new=backend.endpoint != endpoint)
        drafts.append(draft)
    rest = [left[key] for key in sorted(left)]
    for draft in drafts:
        if draft.changed:
            _fill(draft, rest)
    drafts += _placed(family, ports, rest, drafts)
    return drafts


def _placed(family: str, ports: Ports, rest: list[Backend], drafts: Sequence[_Draft]) -> list[_Draft]:
    """Put what is left into new full slices, then into the fullest unchanged slice that holds it all."""
    fresh = []
    while len(rest) >= SLICE_MOST:
        fresh.append(_fill(_Draft(family, ports), rest))
    if rest:
        roomy = [draft for draft in drafts if draft.room >= len(rest)]
        target = min(roomy, key=lambda draft: draft.room, default=None)
        if target is None:
            fresh.append(_fill(_Draft(family, ports), rest))
        else:
            _fill(target, rest)
    return fresh


def _fill(draft: _Draft, rest: list[Backend]) -> _Draft:
    """Move backends from the head of ``rest`` into a slice, as many as fit."""
    moved, rest[:] = rest[: draft.room], rest[draft.room :]
    for backend in moved:
        _put(draft, backend, is_new=True)
    return draft


def _put(draft: _Draft, backend: Backend, *, is_new: bool) -> None:
    draft.endpoints.append(backend.endpoint)
    if is_new:
        draft.touched.append(backend.since)


def _identity(endpoint: SliceEndpoint) -> tuple[str, str]:
    """An endpoint is the same as long as pod and address are; its conditions may change."""
    reference = endpoint.target_ref
    return (reference.uid if reference else "", endpoint.addresses[0] if endpoint.addresses else "")


def _recycle(drafts: Iterable[_Draft], spare: list[EndpointSlice]) -> None:
    """Give new slices the place of slices that would be deleted: one write instead of two."""
    for draft in drafts:
        if draft.have is None and spare:
            draft.have = min(spare, key=lambda each: tuple(each.ports or ()) != draft.ports)
            spare.remove(draft.have)


def _write(service: Service, draft: _Draft) -> Write:
    meta, have = service.metadata, draft.have
    metadata: Json = {
        "namespace": meta.namespace,
        "labels": {**_labels(service)},
        "annotations": {**_annotations(service, draft)},
        "ownerReferences": [*owned_by(SERVICES, service)],
    }
    endpoints: list[Json] = [msgspec.to_builtins(endpoint) for endpoint in draft.endpoints]
    ports: list[Json] = [_port_json(port) for port in draft.ports]
    body: Json = {
        "apiVersion": ENDPOINTSLICES.api_version,
        "kind": ENDPOINTSLICES.kind,
        "metadata": metadata,
        "addressType": draft.address_type,
        "endpoints": [*endpoints],
        "ports": [*ports],
    }
    if have is None:
        metadata["generateName"] = meta.name[:NAME_PREFIX_MOST].rstrip("-.") + "-"
        return Create(ENDPOINTSLICES, meta.namespace, body)
    own = have.metadata
    metadata |= {"name": own.name, "uid": own.uid, "resourceVersion": own.resource_version}
    return Replace(ENDPOINTSLICES, meta.namespace, own.name, body)


def _port_json(port: EndpointPort) -> Json:
    return {"name": port.name or "", "protocol": port.protocol, "port": port.port}


def _labels(service: Service) -> dict[str, str]:
    labels = {**service.metadata.labels, SERVICE_NAME_LABEL: service.metadata.name, MANAGED_BY_LABEL: MANAGER}
    if service.spec.cluster_ip == "None":
        labels[HEADLESS_LABEL] = ""
    return labels


def _labels_differ(service: Service, have: EndpointSlice | None) -> bool:
    return have is not None and have.metadata.labels != _labels(service)


def _annotations(service: Service, draft: _Draft) -> dict[str, str]:
    """Return the annotations, with the time of the change that this write brings to the nodes.

    It is when the first of the new endpoints changed, but not before there was a Service; a change that is
    older than the last one reported has another cause (a port, a label), whose time nobody knows.
    """
    have = draft.have.metadata.annotations if draft.have else {}
    kept = {key: value for key, value in have.items() if key != TRIGGER_TIME}
    born = service.metadata.creation_timestamp or ""
    moments = [max(since, born) for since in draft.touched] or ([] if draft.have else [born])
    moment = min(moments, default="")  # RFC 3339 in UTC: the order of the texts is the order in time
    return kept | ({TRIGGER_TIME: moment} if moment > have.get(TRIGGER_TIME, "") else {})
