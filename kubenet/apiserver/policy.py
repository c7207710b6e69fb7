"""The roles and bindings that every cluster begins with. *Pure.*

One rule a line: ``verbs | groups | resources``, ``core`` for the core group, or ``verbs | /path ...``.

Source: Kubernetes documentation, "Using RBAC Authorization", "Default roles and role bindings". The role of
the controller manager is wider here: all controllers of ours share its identity.
"""

from collections.abc import Iterator

from kubenet.apiserver.users import AUTHENTICATED, MASTERS, UNAUTHENTICATED
from kubenet.model.objects import Json, JsonValue

RBAC = "rbac.authorization.k8s.io"
_READ, _WRITE = "get,list,watch", "create,delete,deletecollection,patch,update"
_WORKLOADS = (
    "daemonsets deployments deployments/scale replicasets replicasets/scale statefulsets statefulsets/scale"
)

_VIEW = f"""
{_READ} | core | configmaps endpoints events limitranges namespaces persistentvolumeclaims pods
{_READ} | core | pods/log pods/status
{_READ} | core | replicationcontrollers replicationcontrollers/scale resourcequotas serviceaccounts services
{_READ} | apps | controllerrevisions {_WORKLOADS}
{_READ} | batch | cronjobs jobs
{_READ} | autoscaling | horizontalpodautoscalers
{_READ} | policy | poddisruptionbudgets
{_READ} | networking.k8s.io | ingresses networkpolicies
{_READ} | discovery.k8s.io | endpointslices
"""
_EDIT = f"""{_VIEW}
{_READ} | core | pods/attach pods/exec pods/portforward pods/proxy secrets services/proxy
{_WRITE} | core | configmaps events persistentvolumeclaims pods secrets serviceaccounts services
{_WRITE} | core | services/proxy
{_WRITE} | core | pods/attach pods/exec pods/portforward pods/proxy
{_WRITE} | core | replicationcontrollers replicationcontrollers/scale
create | core | pods/eviction serviceaccounts/token
impersonate | core | serviceaccounts
{_WRITE} | apps | {_WORKLOADS}
{_WRITE} | batch | cronjobs jobs
{_WRITE} | autoscaling | horizontalpodautoscalers
{_WRITE} | policy | poddisruptionbudgets
{_WRITE} | networking.k8s.io | ingresses networkpolicies
{_READ},{_WRITE} | coordination.k8s.io | leases
"""
_EVENTS = "create,patch,update | core events.k8s.io | events"
_CLUSTER_ROLES = {
    "cluster-admin": "* | * | *\n* | /*",
    "admin": f"""{_EDIT}
{_READ},{_WRITE} | {RBAC} | rolebindings roles
create | authorization.k8s.io | localsubjectaccessreviews
""",
    "edit": _EDIT,
    "view": _VIEW,
    "system:basic-user": """
create | authorization.k8s.io | selfsubjectaccessreviews selfsubjectrulesreviews
create | authentication.k8s.io | selfsubjectreviews
""",
    "system:discovery": "get | /api /api/* /apis /apis/*"
    " /healthz /livez /openapi /openapi/* /readyz /version",
    "system:public-info-viewer": "get | /healthz /livez /readyz /version",
    "system:monitoring": "get | /healthz /healthz/* /livez /livez/* /metrics /readyz /readyz/*",
    "system:service-account-issuer-discovery": "get | /.well-known/openid-configuration /openid/v1/jwks",
    "system:auth-delegator": """
create | authentication.k8s.io | tokenreviews
create | authorization.k8s.io | subjectaccessreviews
""",
    "system:node": f"""
create | authentication.k8s.io | tokenreviews
create | authorization.k8s.io | localsubjectaccessreviews subjectaccessreviews
{_READ} | core | configmaps nodes persistentvolumeclaims persistentvolumes pods secrets
{_READ} | core | serviceaccounts services
create,delete,patch,update | core | nodes
patch,update | core | nodes/status pods/status
create,delete | core | pods
create | core | pods/eviction serviceaccounts/token
{_EVENTS}
create,delete,get,patch,update | coordination.k8s.io | leases
{_READ} | node.k8s.io | runtimeclasses
{_READ} | storage.k8s.io | storageclasses
""",
    "system:node-proxier": f"""
{_READ} | core | endpoints nodes services
{_READ} | discovery.k8s.io | endpointslices
{_READ} | networking.k8s.io | servicecidrs
{_EVENTS}
""",
    "system:kube-dns": f"""
{_READ} | core | endpoints namespaces pods services
{_READ} | discovery.k8s.io | endpointslices
""",
    "system:kube-scheduler": f"""
{_READ} | core apps policy storage.k8s.io scheduling.k8s.io | *
{_EVENTS}
create | core | bindings pods/binding
delete | core | pods
patch,update | core | pods/status
create,get,list,update,watch | coordination.k8s.io | leases
create | authentication.k8s.io authorization.k8s.io | tokenreviews subjectaccessreviews
""",
    "system:kube-controller-manager": "* | * | *\n* | /*",
}
_CLUSTER_BINDINGS = (
    ("cluster-admin", "Group", MASTERS),
    ("system:basic-user", "Group", AUTHENTICATED),
    ("system:discovery", "Group", AUTHENTICATED),
    ("system:public-info-viewer", "Group", AUTHENTICATED),
    ("system:public-info-viewer", "Group", UNAUTHENTICATED),
    ("system:monitoring", "Group", "system:monitoring"),
    ("system:service-account-issuer-discovery", "Group", "system:serviceaccounts"),
    ("system:node", "Group", "system:nodes"),
    ("system:node-proxier", "User", "system:kube-proxy"),
    ("system:kube-dns", "ServiceAccount", "kube-system/kube-dns"),
    ("system:kube-scheduler", "User", "system:kube-scheduler"),
    ("system:kube-controller-manager", "User", "system:kube-controller-manager"),
)
_LABELS: Json = {"kubernetes.io/bootstrapping": "rbac-defaults"}


def cluster_roles() -> Iterator[Json]:
    """Yield the built-in ClusterRoles."""
    for name, text in _CLUSTER_ROLES.items():
        rules: list[JsonValue] = [_rule(line) for line in text.splitlines() if line]
        yield {"metadata": {"name": name, "labels": dict(_LABELS)}, "rules": rules}


def _rule(line: str) -> Json:
    verbs, *rest = (part.split() for part in line.replace(",", " ").split("|"))
    if len(rest) == 1:
        return {"verbs": [*verbs], "nonResourceURLs": [*rest[0]]}
    groups, resources = rest
    named = ["" if group == "core" else group for group in groups]
    return {"verbs": [*verbs], "apiGroups": [*named], "resources": [*resources]}


def cluster_role_bindings() -> Iterator[Json]:
    """Yield the built-in ClusterRoleBindings: one a role, with all its subjects."""
    for role in dict.fromkeys(role for role, _, _ in _CLUSTER_BINDINGS):
        subjects: list[JsonValue] = [
            _subject(kind, name) for bound, kind, name in _CLUSTER_BINDINGS if bound == role
        ]
        yield {
            "metadata": {"name": role, "labels": dict(_LABELS)},
            "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": role},
            "subjects": subjects,
        }


def _subject(kind: str, name: str) -> Json:
    if kind != "ServiceAccount":
        return {"kind": kind, "name": name, "apiGroup": RBAC}
    namespace, _, account = name.partition("/")
    return {"kind": kind, "namespace": namespace, "name": account}
