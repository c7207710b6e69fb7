"""Objects that are JSON, but no objects of their kind: refused, whatever is wrong with them."""

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.netns.apiserver.server import (
    CONFIGMAPS,
    DEPLOYMENTS,
    JSON_PATCH,
    MERGE,
    NS,
    PODS,
    SERVICES,
    STRATEGIC,
    Api,
    Value,
    configmap,
    deployment,
    on_server,
    pod,
    service,
    serving,
)

SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
NAMED = {"metadata": {"name": "a"}}


def pod_of(containers: Value) -> Value:
    return NAMED | {"spec": {"containers": containers}}


def slice_of(address: str, family: str = "IPv4") -> Value:
    return NAMED | {"addressType": family, "endpoints": [{"addresses": [address]}]}


@pytest.mark.parametrize(
    ("path", "body", "code", "words"),
    [
        pytest.param(
            DEPLOYMENTS,
            deployment("a", replicas="three"),
            400,
            "expected int, got str in field spec.replicas",
            id="a number as text",
        ),
        pytest.param(DEPLOYMENTS, deployment("a", replicas=-1), 422, "spec.replicas", id="less than none"),
        pytest.param(
            DEPLOYMENTS, deployment("a", selector={}), 422, "spec.selector: Required value", id="no selector"
        ),
        pytest.param(
            DEPLOYMENTS,
            deployment("a", selector={"matchLabels": {"app": "b"}}),
            422,
            "`selector` does not match template `labels`",
            id="a selector for other pods",
        ),
        pytest.param(
            DEPLOYMENTS,
            deployment("a", strategy={"type": "Magic"}),
            422,
            'supported values: "Recreate", "RollingUpdate"',
            id="unknown strategy",
        ),
        pytest.param(
            DEPLOYMENTS,
            deployment("a", strategy={"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}),
            422,
            "may not be 0 when `maxSurge` is 0",
            id="a strategy that cannot move",
        ),
        pytest.param(PODS, NAMED, 422, "spec.containers: Required value", id="no containers"),
        pytest.param(PODS, pod_of([{}]), 422, "[spec.containers[0].name", id="an empty container"),
        pytest.param(PODS, pod_of("c"), 400, "expected array, got str", id="containers as text"),
        pytest.param(PODS, {"metadata": "a"}, 422, "", id="metadata as text"),
        pytest.param(
            PODS,
            {
                "metadata": {"name": "a"},
                "spec": {"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 0}]}]},
            },
            422,
            "must be between 1 and 65535",
            id="container port 0",
        ),
        pytest.param(
            PODS,
            pod_of([{"name": "c", "image": "i"}] * 2),
            422,
            'spec.containers[1].name: Duplicate value: "c"',
            id="two containers of one name",
        ),
        pytest.param(
            CONFIGMAPS,
            configmap("a") | {"data": {"a": 1}},
            400,
            "in field data[...]",
            id="content that is no text",
        ),
        pytest.param(
            CONFIGMAPS,
            {"metadata": {"name": "a", "labels": {"a": 1}}},
            400,
            "metadata.labels",
            id="a label that is a number",
        ),
        pytest.param(
            f"{NS}/default/secrets",
            configmap("a") | {"data": {"a": "?"}},
            422,
            "must be base64",
            id="no base64",
        ),
        pytest.param(
            SLICES,
            slice_of("127.0.0.1"),
            422,
            "may not be in the loopback range",
            id="an endpoint on loopback",
        ),
        pytest.param(
            SLICES,
            slice_of("::ffff:10.0.0.1", "IPv6"),
            422,
            "IPv4-mapped",
            id="an IPv4-mapped endpoint",
        ),
        pytest.param(
            SLICES,
            slice_of("10.0.0.01"),
            422,
            "must be a valid IP address",
            id="a leading zero",
        ),
        pytest.param(
            f"{NS}/default/endpoints",
            {
                "metadata": {"name": "a"},
                "subsets": [{"addresses": [{"ip": "169.254.169.254"}], "ports": [{"port": 80}]}],
            },
            422,
            "link-local",
            id="a link-local endpoint",
        ),
        pytest.param(
            "/api/v1/nodes",
            {"metadata": {"name": "a"}, "spec": {"podCIDRs": ["10.0.0.1/24"]}},
            422,
            "must be a valid CIDR",
            id="a pod CIDR with host bits",
        ),
    ],
)
def test_A6_objects_that_no_daemon_could_read_are_refused(
    path: str, body: Value, code: int, words: str
) -> None:
    async def case(api: Api) -> None:
        reply = await api.post(path, body)
        assert reply.status == code, reply.body
        assert words in reply.json["message"]

    on_server(case)


SEEDS: list[tuple[str, Value]] = [
    (DEPLOYMENTS, deployment("a", replicas=1, strategy={"type": "Recreate"})),
    (PODS, pod("a", nodeName="n1", volumes=[{"name": "v"}])),
    (SERVICES, service("a", type="NodePort", selector={"a": "b"}, externalIPs=["1.2.3.4"])),
    (SLICES, slice_of("10.0.0.1") | {"ports": [{"port": 80}]}),
    (f"{NS}/default/endpoints", NAMED | {"subsets": [{"addresses": [{"ip": "10.0.0.1"}], "ports": []}]}),
    (f"{NS}/default/secrets", NAMED | {"data": {"a": "YQ=="}, "stringData": {"b": "c"}}),
    ("/api/v1/nodes", NAMED | {"spec": {"podCIDRs": ["10.0.0.0/24"]}, "status": {"addresses": []}}),
    (NS, NAMED | {"spec": {"finalizers": []}}),
    (f"{NS}/default/events", NAMED | {"involvedObject": {"namespace": "default"}}),
    ("/apis/coordination.k8s.io/v1/namespaces/default/leases", NAMED | {"spec": {"holderIdentity": "x"}}),
]
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from((0, -1, 65536, 2**63, 1.5, "", "None", "a", "\0", "\ud7ff", "9" * 400, "$patch", "*")),
    st.sampled_from(([], {}, [None], [[]], [{}], {"": {}}, {"$patch": "delete"}, [{"$patch": "replace"}])),
    st.text(max_size=5),
)


def places(value: Value, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return every path inside a value."""
    members = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    return [path, *(found for key, member in members for found in places(member, (*path, key)))]


def changed(value: Value, path: tuple[Any, ...], odd: Value) -> Value:
    """Return ``value`` with what is at ``path`` replaced."""
    if not path:
        return odd
    first, *rest = path
    if isinstance(value, dict):
        return value | {first: changed(value[first], tuple(rest), odd)}
    return [changed(one, tuple(rest), odd) if at == first else one for at, one in enumerate(value)]


@st.composite
def attacks(draw: st.DrawFn) -> tuple[str, str, Value]:
    """A request that is almost right: a method, a path, a body with one odd place."""
    path, seed = draw(st.sampled_from(SEEDS))
    place = draw(st.sampled_from(places(seed)))
    body = changed(seed, place, draw(ODD))
    kind = draw(st.sampled_from(("POST", "PUT", MERGE, STRATEGIC, JSON_PATCH, "DELETE")))
    if kind == JSON_PATCH:
        pointer = "".join(f"/{part}" for part in place)
        operation = draw(st.sampled_from(("add", "remove", "replace", "test", "move", "copy", "?")))
        body = [{"op": operation, "path": pointer, "from": "/spec", "value": draw(ODD)}]
    return kind, path, body


async def attack(api: Api, kind: str, path: str, body: Value) -> int:
    if kind == "POST":
        return (await api.post(path, body)).status
    if kind in ("PUT", "DELETE"):
        return (await api.call(kind, f"{path}/a", body)).status
    subresource = "/status" if len(str(body)) % 3 == 0 else ""
    return (await api.patch(f"{path}/a{subresource}", body, kind)).status


@settings(max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(st.lists(attacks(), min_size=20, max_size=40))
def test_no_body_breaks_the_server_and_whatever_it_keeps_it_can_serve(
    requests: list[tuple[str, str, Value]],
) -> None:
    async def run() -> None:
        async with serving() as api:
            for path, seed in SEEDS:
                assert (await api.post(path, seed)).status == 201
            for kind, path, body in requests:
                status = await attack(api, kind, path, body)
                assert status < 500, (kind, path, body)
            for path, _ in SEEDS:
                listed = await api.get(path, accept="application/json;as=Table;v=v1;g=meta.k8s.io")
                assert listed.status == 200, path

    asyncio.run(run())
