"""Namespaces and Nodes: the kinds that belong to no namespace. *Pure.*"""

from collections.abc import Iterator
from ipaddress import ip_network

from kubenet.apiserver.names import dns_label
from kubenet.apiserver.status import Cause, forbidden_field, invalid
from kubenet.apiserver.strategy import METADATA_FIELDS, FieldLabel, Kind, Strategy
from kubenet.apiserver.tree import ensure_table, list_at, set_default, text_at, texts_at
from kubenet.model.objects import Json, Namespace, Node
from kubenet.model.resources import NAMESPACES, NODES

NAME_LABEL = "kubernetes.io/metadata.name"
CONTENTS_FINALIZER = "kubernetes"


class NamespaceStrategy(Strategy):
    """A namespace stays, terminating, until its contents are gone."""

    shape = Namespace
    has_status = True

    def fill_defaults(self, new: Json) -> None:
        if name := text_at(new, "metadata", "name"):
            ensure_table(new, "metadata", "labels")[NAME_LABEL] = name

    def fill_create(self, new: Json) -> None:
        new["spec"] = {"finalizers": [CONTENTS_FINALIZER]}
        new["status"] = {"phase": "Active"}

    def fill_update(self, new: Json, old: Json) -> None:
        new["spec"] = old.get("spec", {})  # only the finalize subresource changes the finalizers


class NodeStrategy(Strategy):
    """A node registers itself, status included; its pod CIDR is given once."""

    shape = Node
    has_status = True
    status_on_create = True
    status_keeps = ("labels", "annotations")

    def fill_defaults(self, new: Json) -> None:
        spec = ensure_table(new, "spec")
        cidrs = texts_at(spec, "podCIDRs")
        if cidrs:
            set_default(spec, "podCIDR", cidrs[0])
        elif text_at(spec, "podCIDR"):
            spec["podCIDRs"] = [spec["podCIDR"]]

    def causes(self, new: Json) -> Iterator[Cause]:
        for index, text in enumerate(list_at(new, "spec", "podCIDRs")):
            try:
                ip_network(str(text))
            except ValueError:
                detail = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
                yield invalid(f"spec.podCIDRs[{index}]", text, detail)

    def update_causes(self, new: Json, old: Json) -> Iterator[Cause]:
        before = texts_at(old, "spec", "podCIDRs")
        if before and before != texts_at(new, "spec", "podCIDRs"):
            yield forbidden_field(
                "spec.podCIDRs", 'node updates may not change podCIDR except from "" to valid'
            )


NAMESPACE = Kind(
    NAMESPACES,
    NamespaceStrategy(),
    short_names=("ns",),
    subresources=("status", "finalize"),
    name_rule=dns_label,
    field_labels=METADATA_FIELDS | {"status.phase": FieldLabel(("status", "phase"))},
)
NODE = Kind(
    NODES,
    NodeStrategy(),
    short_names=("no",),
    subresources=("status",),
    field_labels=METADATA_FIELDS
    | {"spec.unschedulable": FieldLabel(("spec", "unschedulable"), absent="false")},
)
