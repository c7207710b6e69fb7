"""Rules, tokens, evictions, counters: the decisions about who may do what."""

from typing import Any

import pytest

from kubenet.apiserver.attributes import Attributes, of_target
from kubenet.apiserver.eviction import refusal
from kubenet.apiserver.metrics import Metrics
from kubenet.apiserver.pki import TokenKey
from kubenet.apiserver.policy import cluster_role_bindings, cluster_roles
from kubenet.apiserver.rbac import is_subject, not_covered, rules_of
from kubenet.apiserver.route import Target, route
from kubenet.apiserver.status import StatusError
from kubenet.apiserver.tokens import ISSUER, Binding, Claims, Named, verified, written
from kubenet.apiserver.users import User, impersonated, service_account


def _role(verbs: str, groups: str, resources: str, names: str = "") -> Any:
    rule: Any = {"verbs": verbs.split(), "apiGroups": groups.split(",")}
    rule |= {"resources": resources.split(), "resourceNames": names.split()}
    return {"rules": [rule]}


@pytest.mark.parametrize(
    ("role", "asked", "allowed"),
    [
        pytest.param(_role("get", "", "pods"), Attributes("get", "", "pods"), True, id="as written"),
        pytest.param(_role("get", "", "pods"), Attributes("list", "", "pods"), False, id="another verb"),
        pytest.param(_role("*", "*", "*"), Attributes("x", "y", "z", "s"), True, id="everything"),
        pytest.param(_role("get", "", "pods"), Attributes("get", "", "pods", "log"), False, id="a part"),
        pytest.param(
            _role("get", "", "pods/log"), Attributes("get", "", "pods", "log"), True, id="that part"
        ),
        pytest.param(_role("get", "", "pods/log"), Attributes("get", "", "pods"), False, id="only the part"),
        pytest.param(
            _role("get", "", "*/scale"), Attributes("get", "", "rcs", "scale"), True, id="any scale"
        ),
        pytest.param(_role("get", "apps", "pods"), Attributes("get", "", "pods"), False, id="another group"),
        pytest.param(
            _role("get", "", "pods", "a"), Attributes("get", "", "pods", name="a"), True, id="named"
        ),
        pytest.param(
            _role("get", "", "pods", "a"), Attributes("get", "", "pods", name="b"), False, id="other"
        ),
        pytest.param(
            _role("list", "", "pods", "a"), Attributes("list", "", "pods"), False, id="no name at all"
        ),
        pytest.param(
            {"rules": [{"verbs": ["get"], "nonResourceURLs": ["/api/*", "/version"]}]},
            Attributes("get", path="/api/v1"),
            True,
            id="a path below",
        ),
        pytest.param(
            {"rules": [{"verbs": ["get"], "nonResourceURLs": ["/version"]}]},
            Attributes("get", path="/version/x"),
            False,
            id="a path that only begins so",
        ),
    ],
)
def test_B7_2_a_rule_allows(role: Any, asked: Attributes, allowed: bool) -> None:
    assert any(rule.allows(asked) for rule in rules_of(role)) is allowed


@pytest.mark.parametrize(
    ("subject", "user", "yes"),
    [
        ({"kind": "User", "name": "ann"}, User("ann"), True),
        ({"kind": "User", "name": "ops"}, User("ann", ("ops",)), False),
        ({"kind": "Group", "name": "ops"}, User("ann", ("ops",)), True),
        ({"kind": "ServiceAccount", "namespace": "ns", "name": "a"}, service_account("ns", "a"), True),
        ({"kind": "ServiceAccount", "namespace": "ns", "name": "a"}, service_account("other", "a"), False),
    ],
)
def test_B7_2_a_binding_is_about(subject: Any, user: User, yes: bool) -> None:
    assert is_subject({"subjects": [subject]}, user) is yes


@pytest.mark.parametrize(
    ("held", "wanted", "covered"),
    [
        (_role("get list", "", "pods services"), _role("get", "", "pods"), True),
        (_role("get", "", "pods"), _role("get list", "", "pods"), False),
        (_role("get", "", "pods", "a"), _role("get", "", "pods"), False),
        (_role("*", "*", "*"), _role("*", "*", "*"), True),
        (_role("get", "", "pods"), _role("*", "", "pods"), False),
        (_role("get", "", "*"), _role("get", "", "pods/log"), True),
    ],
)
def test_B7_2_nobody_grants_what_they_do_not_hold(held: Any, wanted: Any, covered: bool) -> None:
    assert (not not_covered(rules_of(held), rules_of(wanted))) is covered


def test_the_built_in_roles_are_what_bindings_name() -> None:
    roles = {str(role["metadata"]["name"]): role for role in cluster_roles()}  # type: ignore[index,call-overload]
    bound = [binding["roleRef"]["name"] for binding in cluster_role_bindings()]  # type: ignore[index,call-overload]
    assert set(bound) <= set(roles)
    view = rules_of(roles["view"])
    assert any(rule.allows(Attributes("list", "", "pods", "", "ns")) for rule in view)
    assert not any(rule.allows(Attributes("get", "", "secrets", "", "ns")) for rule in view)
    proxier = rules_of(roles["system:node-proxier"])
    watches = Attributes("watch", "discovery.k8s.io", "endpointslices")
    assert any(rule.allows(watches) for rule in proxier)
    edit = rules_of(roles["edit"])
    assert not any(rule.allows(Attributes("create", "rbac.authorization.k8s.io", "roles")) for rule in edit)


@pytest.mark.parametrize(
    ("method", "path", "query", "asked"),
    [
        ("GET", "/api/v1/pods", {}, Attributes("list", "", "pods")),
        ("GET", "/api/v1/pods", {"watch": "1"}, Attributes("watch", "", "pods")),
        (
            "GET",
            "/api/v1/namespaces/n/secrets",
            {"fieldSelector": "metadata.name=s"},
            Attributes("list", "", "secrets", "", "n", "s"),
        ),
        (
            "POST",
            "/apis/apps/v1/namespaces/n/deployments",
            {},
            Attributes("create", "apps", "deployments", "", "n"),
        ),
        ("DELETE", "/api/v1/namespaces/n/pods", {}, Attributes("deletecollection", "", "pods", "", "n")),
        (
            "POST",
            "/api/v1/namespaces/n/pods/p/binding",
            {},
            Attributes("create", "", "pods", "binding", "n", "p"),
        ),
        ("PATCH", "/api/v1/nodes/a/status", {}, Attributes("patch", "", "nodes", "status", "", "a")),
    ],
)
def test_what_a_request_asks(method: str, path: str, query: dict[str, str], asked: Attributes) -> None:
    target = route(path)
    assert isinstance(target, Target)
    assert of_target(method, target, query) == asked


def _claims(**changed: Any) -> Claims:
    fields: dict[str, Any] = {
        "iss": ISSUER,
        "sub": "system:serviceaccount:ns:robot",
        "aud": [ISSUER],
        "exp": 2000,
        "iat": 1000,
        "nbf": 1000,
        "jti": "1",
        "kubernetes": Binding("ns", Named("robot", "u")),
    }
    return Claims(**(fields | changed))


def test_B7_1_a_token_holds_while_its_key_and_its_time_do() -> None:
    key, other = TokenKey(TokenKey.new_pem()), TokenKey(TokenKey.new_pem())
    token = written(_claims(), key)
    assert verified(token, key, 1500) == _claims()
    assert verified(token, other, 1500) == "its signature does not hold"
    assert "expired" in str(verified(token, key, 2000))
    assert "not valid yet" in str(verified(token, key, 999))
    assert "issued by" in str(verified(written(_claims(iss="x"), key), key, 1500))


def test_B7_1_what_is_no_token_is_refused_in_words() -> None:
    key = TokenKey(TokenKey.new_pem())
    token = written(_claims(), key)
    head, body, signature = token.split(".")
    for bad in (
        "",
        "a",
        "a.b.c",
        "é.é.é",
        f"{head}.{body}.",
        f"{head}.{body}.{signature}x",
        "." * 2,
        "x" * 99999,
    ):
        assert isinstance(verified(bad, key, 1500), str)
    none_head = "eyJhbGciOiJub25lIn0"  # {"alg":"none"}
    assert verified(f"{none_head}.{body}.", key, 1500) == "its signature does not hold"


def test_impersonation_headers() -> None:
    assert impersonated({}, ()) is None
    robot = impersonated({"Impersonate-User": "system:serviceaccount:ns:robot"}, ())
    assert robot is not None
    assert "system:serviceaccounts:ns" in robot.groups
    ann = impersonated({"Impersonate-User": "ann"}, ("ops",))
    assert ann is not None
    assert ann.groups == ("ops", "system:authenticated")
    with pytest.raises(StatusError):
        impersonated({}, ("ops",))


def _pod(name: str, ready: bool = True) -> Any:
    status = {"conditions": [{"type": "Ready", "status": "True" if ready else "False"}]}
    return {"metadata": {"name": name, "labels": {"app": "web"}}, "status": status}


@pytest.mark.parametrize(
    ("spec", "ready", "refused"),
    [
        pytest.param({"minAvailable": 2}, (True, True, True), False, id="one to spare"),
        pytest.param({"minAvailable": 3}, (True, True, True), True, id="none to spare"),
        pytest.param({"maxUnavailable": 1}, (True, True, True), False, id="one may be away"),
        pytest.param({"maxUnavailable": 1}, (True, True, False), True, id="one is away"),
        pytest.param({"minAvailable": "50%"}, (True, True, True), False, id="half, rounded up"),
        pytest.param({"maxUnavailable": "0%"}, (True, True, True), True, id="nothing may be away"),
        pytest.param({"minAvailable": 9}, (False, True, True), False, id="not ready: it counts for nothing"),
    ],
)
def test_G_drain_keeps_a_disruption_budget(spec: Any, ready: tuple[bool, ...], refused: bool) -> None:
    budget = {"metadata": {"name": "b"}, "spec": {"selector": {"matchLabels": {"app": "web"}}} | spec}
    pods = [_pod(f"p{index}", up) for index, up in enumerate(ready)]
    found = refusal(pods[0], [budget], pods)
    assert (found is not None) is refused
    if found:
        assert (found.code, found.details["causes"][0]["reason"]) == (429, "DisruptionBudget")  # type: ignore[index,call-overload]


def test_B7_6_metrics_are_text_that_adds_up() -> None:
    metrics = Metrics()
    metrics.request("get", 'po"ds', 200, 0.01)
    metrics.request("get", 'po"ds', 200, 99)
    metrics.request("watch", "pods", 200, None)
    metrics.stored("create", 0.001)
    text = metrics.text([("pods", 3)], watches=2)
    assert 'apiserver_request_total{code="200",resource="po\\"ds",verb="get"} 2' in text
    assert 'apiserver_request_duration_seconds_bucket{resource="po\\"ds",verb="get",le="0.025"} 1' in text
    assert 'apiserver_request_duration_seconds_bucket{resource="po\\"ds",verb="get",le="+Inf"} 2' in text
    assert 'apiserver_request_duration_seconds_count{resource="pods"' not in text
    assert 'apiserver_storage_objects{resource="pods"} 3' in text
    assert "apiserver_registered_watchers 2" in text
