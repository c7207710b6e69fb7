"""Which endpoints serve which traffic: rows 28 to 38 of the proxy's table."""

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address

import msgspec
import pytest

from kubenet.model.objects import Service
from proxy.policy import Locality, Refusal, Way, serve, serve_port
from proxy.ports import Endpoint, ServicePort, ServicePortName, TrafficPolicy
from proxy.track import track
from tests.unit.proxy.objects import backend, endpoint_slice

CLUSTER, LOCAL = TrafficPolicy.CLUSTER, TrafficPolicy.LOCAL
REJECT, DROP = Refusal.REJECT, Refusal.DROP
HERE = Locality("here", zone="z1")


def ep(last: int, conditions: str = "ready", node: str = "far", hints: str = "") -> Endpoint:
    """Return an endpoint 10.244.1.``last``; ``hints`` such as ``z1 node:here``."""
    words = hints.split()
    return Endpoint(
        ip_address(f"10.244.1.{last}"),
        8080,
        ready=conditions == "ready",
        serving=conditions in ("ready", "going"),
        terminating=conditions in ("going", "gone"),
        node_name=node,
        zone_hints=frozenset(word for word in words if not word.startswith("node:")),
        node_hints=frozenset(word[5:] for word in words if word.startswith("node:")),
    )


def port(
    endpoints: Sequence[Endpoint],
    internal: TrafficPolicy = CLUSTER,
    external: TrafficPolicy = CLUSTER,
    node_port: int = 0,
) -> ServicePort:
    return ServicePort(
        ServicePortName("demo", "web", "http"),
        ip_address("10.96.0.1"),
        80,
        node_port=node_port,
        internal_policy=internal,
        external_policy=external,
        endpoints=tuple(endpoints),
    )


def lasts(endpoints: Sequence[Endpoint]) -> list[int]:
    return [int(str(endpoint.ip).rsplit(".", 1)[1]) for endpoint in endpoints]


@pytest.mark.parametrize(
    ("endpoints", "way", "expected"),
    [
        pytest.param([], REJECT, [], id="row 28: no endpoints at all"),
        pytest.param([ep(2, "unready")], REJECT, [], id="row 28: none that is ready"),
        pytest.param([ep(2, "gone")], REJECT, [], id="row 28: terminating and no longer serving"),
        pytest.param([ep(2), ep(3, "unready"), ep(4)], CLUSTER, [2, 4], id="ready ones only"),
        pytest.param([ep(2), ep(3, "going")], CLUSTER, [2], id="row 34: ready before terminating"),
        pytest.param(
            [ep(2, "unready"), ep(3, "going")], CLUSTER, [3], id="row 34: serving while terminating"
        ),
    ],
)
def test_A3_row28_row34_internal_policy_cluster(
    endpoints: Sequence[Endpoint], way: Way, expected: list[int]
) -> None:
    serving = serve_port(port(endpoints), HERE)
    assert serving.internal is way
    assert lasts(serving.pool(serving.internal)) == expected
    assert serving.local == ()


@pytest.mark.parametrize(
    ("endpoints", "way", "expected"),
    [
        pytest.param([], REJECT, [], id="row 28: nobody anywhere"),
        pytest.param([ep(2)], DROP, [], id="row 29: only elsewhere"),
        pytest.param([ep(2, "going")], DROP, [], id="row 29: only elsewhere, and terminating"),
        pytest.param([ep(2), ep(3, node="here")], LOCAL, [3], id="here and elsewhere"),
        pytest.param([ep(2), ep(3, "going", "here")], LOCAL, [3], id="row 34: the local one serves on"),
        pytest.param([ep(2), ep(3, "unready", "here")], DROP, [], id="row 29: the local one is not ready"),
        pytest.param([ep(2), ep(3, "gone", "here")], DROP, [], id="row 29: the local one has stopped"),
    ],
)
def test_A3_row29_internal_policy_local(endpoints: Sequence[Endpoint], way: Way, expected: list[int]) -> None:
    serving = serve_port(port(endpoints, internal=LOCAL), HERE)
    assert serving.internal is way
    assert lasts(serving.pool(serving.internal)) == expected
    assert serving.cluster == ()


@pytest.mark.parametrize(
    ("endpoints", "outside", "inside", "expected"),
    [
        pytest.param([], REJECT, REJECT, [], id="row 28: nobody anywhere"),
        pytest.param([ep(2)], DROP, CLUSTER, [], id="row 30: only elsewhere, pods and the node get there"),
        pytest.param([ep(2), ep(3, node="here")], LOCAL, CLUSTER, [3], id="row 32: here and elsewhere"),
        pytest.param(
            [ep(2), ep(3, "going", "here")], LOCAL, CLUSTER, [3], id="row 34: local one terminating"
        ),
    ],
)
def test_A3_row30_row32_external_policy_local(
    endpoints: Sequence[Endpoint], outside: Way, inside: Way, expected: list[int]
) -> None:
    serving = serve_port(port(endpoints, external=LOCAL, node_port=30080), HERE)
    assert serving.external is outside
    assert serving.short_circuit is inside
    assert lasts(serving.pool(serving.external)) == expected
    assert serving.internal is (CLUSTER if endpoints else REJECT)


def test_A3_row31_external_policy_cluster_takes_every_ready_endpoint() -> None:
    serving = serve_port(port([ep(2), ep(3, node="here")], node_port=30080), HERE)
    assert serving.external is CLUSTER
    assert lasts(serving.pool(serving.external)) == [2, 3]


def test_the_external_policy_means_nothing_without_an_external_address() -> None:
    assert serve_port(port([ep(2, node="here")], external=LOCAL), HERE).local == ()


@pytest.mark.parametrize(
    ("endpoints", "expected"),
    [
        pytest.param([ep(2, hints="z1"), ep(3, hints="z2")], [2], id="row 35: our zone"),
        pytest.param([ep(2, hints="z1 z2"), ep(3, hints="z2")], [2], id="row 35: one of several zones"),
        pytest.param([ep(2, hints="z2"), ep(3, hints="z3")], [2, 3], id="row 35: none for our zone"),
        pytest.param([ep(2, hints="z1"), ep(3)], [2, 3], id="row 36: one without a hint"),
        pytest.param(
            [ep(2, hints="z1"), ep(3, "unready")], [2], id="row 35: one without a hint that is not ready"
        ),
        pytest.param(
            [ep(2, hints="z1 node:here"), ep(3, hints="z1 node:far")],
            [2],
            id="row 35: the node beats the zone",
        ),
        pytest.param(
            [ep(2, hints="z1 node:far"), ep(3, hints="z2 node:far")],
            [2],
            id="row 35: no hint for us: the zone",
        ),
        pytest.param(
            [ep(2, hints="z1 node:here"), ep(3, hints="z1")], [2, 3], id="row 36: one without a node hint"
        ),
        pytest.param(
            [ep(2, "going", hints="z1"), ep(3, "unready")], [2], id="row 34: hints of one that goes"
        ),
    ],
)
def test_A3_row35_row36_hints(endpoints: Sequence[Endpoint], expected: list[int]) -> None:
    assert lasts(serve_port(port(endpoints), HERE).cluster) == expected


@pytest.mark.parametrize("words", ["PreferClose", "PreferSameZone", "PreferSameNode"])
def test_A3_row37_traffic_distribution_without_hints_changes_nothing(words: str) -> None:
    """The endpoint controller makes hints of it; the proxy follows those alone."""
    body = {
        "metadata": {"name": "web", "namespace": "demo"},
        "spec": {
            "clusterIP": "10.96.0.1",
            "ports": [{"name": "http", "port": 80}],
            "trafficDistribution": words,
        },
    }
    near, far = backend("10.244.1.2", node="here"), backend("10.244.1.3", node="far")
    tracked = track([msgspec.convert(body, Service)], [endpoint_slice(near, far)])
    (served,) = serve(tracked.service_ports, Locality("here", "z1"))
    assert [str(endpoint.ip) for endpoint in served.cluster] == ["10.244.1.2", "10.244.1.3"]
    hinted = endpoint_slice(backend("10.244.1.2", zones=["z1"]), backend("10.244.1.3", zones=["z2"]))
    tracked = track([msgspec.convert(body, Service)], [hinted])
    (served,) = serve(tracked.service_ports, Locality("here", "z1"))
    assert [str(endpoint.ip) for endpoint in served.cluster] == ["10.244.1.2"]


def test_A3_row36_without_a_zone_label_zone_hints_are_ignored() -> None:
    endpoints = [ep(2, hints="z1"), ep(3, hints="z2")]
    assert lasts(serve_port(port(endpoints), Locality("here")).cluster) == [2, 3]


def test_A3_row36_a_hint_without_a_name_is_for_nobody() -> None:
    nameless = replace(ep(2), zone_hints=frozenset({""}))
    endpoints = [nameless, ep(3, hints="z2")]
    assert lasts(serve_port(port(endpoints), Locality("here")).cluster) == [2, 3]


def test_A3_row35_hints_do_not_apply_to_the_local_policy() -> None:
    endpoints = [ep(2, node="here", hints="z2"), ep(3, hints="z1")]
    assert lasts(serve_port(port(endpoints, internal=LOCAL), HERE).local) == [2]


def test_A3_row38_reachable_is_the_union_of_both_pools() -> None:
    endpoints = [ep(2, hints="z1"), ep(3, node="here", hints="z2"), ep(4, hints="z3")]
    serving = serve_port(port(endpoints, external=LOCAL, node_port=30080), HERE)
    assert lasts(serving.cluster) == [2]
    assert lasts(serving.local) == [3]
    assert lasts(serving.reachable) == [2, 3]
