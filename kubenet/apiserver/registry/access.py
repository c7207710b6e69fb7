"""Roles and their bindings, and the questions that are answered but not kept. *Pure.*

Source: Kubernetes API reference, rbac.authorization.k8s.io/v1, authentication.k8s.io/v1,
authorization.k8s.io/v1.
"""

from collections.abc import Iterator

from kubenet.apiserver.registry.declared import Declared, fill
from kubenet.apiserver.registry.policies import any_path_segment
from kubenet.apiserver.status import Cause, invalid, required, unsupported
from kubenet.apiserver.strategy import Kind, Strategy
from kubenet.apiserver.tree import ensure_table, list_at, table_at, tables_at, text_at
from kubenet.model.objects import Json
from kubenet.model.resources import BY_PLURAL_KEPT, Resource

RBAC = "rbac.authorization.k8s.io"
SUBJECTS = ("ServiceAccount", "User", "Group")


class RoleStrategy(Declared):
    """What may be done."""

    generation_of = ()

    def causes(self, new: Json) -> Iterator[Cause]:
        for index, rule in enumerate(tables_at(new, "rules")):
            if not list_at(rule, "verbs"):
                yield required(f"rules[{index}].verbs", "verbs must contain at least one value")
            if list_at(rule, "nonResourceURLs"):
                continue
            for part in ("apiGroups", "resources"):
                if not list_at(rule, part):
                    yield required(f"rules[{index}].{part}", "resource rules must supply at least one")


class BindingStrategy(Declared):
    """Who may do it; the role of a binding never changes."""

    generation_of = ()

    def fill_defaults(self, new: Json) -> None:
        fill(ensure_table(new, "roleRef"), {"apiGroup": RBAC})
        for subject in tables_at(new, "subjects"):
            if text_at(subject, "kind") in ("User", "Group"):
                fill(subject, {"apiGroup": RBAC})

    def causes(self, new: Json) -> Iterator[Cause]:
        cluster_wide = text_at(new, "kind") == "ClusterRoleBinding"
        role_kinds = ("ClusterRole",) if cluster_wide else ("Role", "ClusterRole")
        kind = text_at(new, "roleRef", "kind")
        if kind not in role_kinds:
            yield unsupported("roleRef.kind", kind, role_kinds)
        if not text_at(new, "roleRef", "name"):
            yield required("roleRef.name")
        for index, subject in enumerate(tables_at(new, "subjects")):
            yield from _subject_causes(subject, f"subjects[{index}]")

    def update_causes(self, new: Json, old: Json) -> Iterator[Cause]:
        if table_at(new, "roleRef") != table_at(old, "roleRef"):
            yield invalid("roleRef", table_at(new, "roleRef"), "cannot change roleRef")


def _subject_causes(subject: Json, field: str) -> Iterator[Cause]:
    kind = text_at(subject, "kind")
    if kind not in SUBJECTS:
        yield unsupported(f"{field}.kind", kind, SUBJECTS)
    if not text_at(subject, "name"):
        yield required(f"{field}.name")
    if kind == "ServiceAccount" and not text_at(subject, "namespace"):
        yield required(f"{field}.namespace")


KINDS = tuple(
    Kind(BY_PLURAL_KEPT[plural], strategy, name_rule=any_path_segment)
    for plural, strategy in (
        ("clusterroles", RoleStrategy()),
        ("clusterrolebindings", BindingStrategy()),
        ("roles", RoleStrategy()),
        ("rolebindings", BindingStrategy()),
    )
)


def _review(group: str, plural: str, kind: str, namespaced: bool = False) -> Kind:
    return Kind(Resource(group, "v1", plural, kind, namespaced), Strategy(), verbs=("create",), kept=False)


REVIEWS = (
    _review("authentication.k8s.io", "selfsubjectreviews", "SelfSubjectReview"),
    _review("authentication.k8s.io", "tokenreviews", "TokenReview"),
    _review("authorization.k8s.io", "localsubjectaccessreviews", "LocalSubjectAccessReview", True),
    _review("authorization.k8s.io", "selfsubjectaccessreviews", "SelfSubjectAccessReview"),
    _review("authorization.k8s.io", "selfsubjectrulesreviews", "SelfSubjectRulesReview"),
    _review("authorization.k8s.io", "subjectaccessreviews", "SubjectAccessReview"),
)
