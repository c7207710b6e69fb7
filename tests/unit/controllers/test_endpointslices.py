"""What stands behind a Service, in slices that change as little as possible."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubenet.controllers import endpoints, endpointslices
from kubenet.controllers.backends import backends
from kubenet.controllers.endpointslices import SLICE_MOST, TRIGGER_TIME
from kubenet.model.objects import (
    Endpoints,
    EndpointSlice,
    Json,
    ObjectMeta,
    Pod,
    Service,
    ServicePortSpec,
    ServiceSpec,
)
from kubenet.model.resources import ENDPOINTS, ENDPOINTSLICES
from kubenet.model.writes import Create, Delete, Replace, Write
from tests.unit.controllers.things import ago, pod


def service(
    *ports: ServicePortSpec,
    cluster_ip: str = "10.96.0.5",
    families: tuple[str, ...] = ("IPv4",),
    publish: bool = False,
    labels: dict[str, str] | None = None,
) -> Service:
    return Service(
        metadata=ObjectMeta(
            name="web", namespace="ns", uid="uid-web", labels=labels or {}, creation_timestamp=ago(500)
        ),
        spec=ServiceSpec(
            cluster_ip=cluster_ip,
            cluster_ips=(cluster_ip,),
            ip_families=families,
            selector={"app": "web"},
            ports=ports or (ServicePortSpec(port=80, name="http", target_port=8080),),
            publish_not_ready_addresses=publish,
        ),
    )


@dataclass
class World:
    """The slices of one Service as a server would keep them."""

    slices: dict[str, EndpointSlice] = field(default_factory=dict)
    made: int = 0

    def sync(self, of: Service, pods: Sequence[Pod]) -> list[Write]:
        found = backends(of, pods, {})
        writes = endpointslices.decide(of, found, list(self.slices.values()))
        for write in writes:
            self._apply(write)
        return writes

    def _apply(self, write: Write) -> None:
        self.made += 1
        match write:
            case Create(body=body):
                self._store(body, f"web-{self.made}")
            case Replace(name=name, body=body):
                assert _meta(body)["resourceVersion"] == self.slices[name].metadata.resource_version
                self._store(body, name)
            case Delete(name=name):
                del self.slices[name]

    def _store(self, body: Json, name: str) -> None:
        stored = body | {"metadata": _meta(body) | {"name": name, "resourceVersion": str(self.made)}}
        self.slices[name] = msgspec.convert(stored, EndpointSlice)

    def addresses(self) -> list[str]:
        return sorted(e.addresses[0] for each in self.slices.values() for e in each.endpoints or ())


def _meta(body: Json) -> Json:
    found = body["metadata"]
    assert isinstance(found, dict)
    return found


def numbered(count: int, first: int = 0) -> list[Pod]:
    return [pod(f"p{n}", ips=(f"10.244.{n // 200}.{n % 200 + 1}",)) for n in range(first, first + count)]


def verbs(writes: Sequence[Write]) -> list[str]:
    return sorted(type(write).__name__ for write in writes)


def only_endpoint(of: Service, one: Pod, zones: dict[str, str] | None = None) -> dict[str, object]:
    (create,) = endpointslices.decide(of, backends(of, [one], zones or {}), [])
    assert isinstance(create, Create)
    (endpoint,) = msgspec.convert(create.body["endpoints"], list[dict[str, object]])
    return endpoint


def test_a_new_slice_is_whole() -> None:
    (create,) = endpointslices.decide(
        service(labels={"team": "a"}), backends(service(), [pod()], {"n1": "z"}), []
    )
    assert isinstance(create, Create)
    assert (create.resource, create.namespace) == (ENDPOINTSLICES, "ns")
    assert as_sent(create.body) == (
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "namespace": "ns",
                "generateName": "web-",
                "labels": {
                    "team": "a",
                    "kubernetes.io/service-name": "web",
                    "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
                },
                "annotations": {TRIGGER_TIME: ago(100)},
                "ownerReferences": [
                    {
                        "apiVersion": "v1",
                        "kind": "Service",
                        "name": "web",
                        "uid": "uid-web",
                        "controller": True,
                        "blockOwnerDeletion": True,
                    }
                ],
            },
            "addressType": "IPv4",
            "endpoints": [
                {
                    "addresses": ["10.244.1.1"],
                    "conditions": {"ready": True, "serving": True, "terminating": False},
                    "nodeName": "n1",
                    "zone": "z",
                    "targetRef": {"kind": "Pod", "namespace": "ns", "name": "p", "uid": "uid-p"},
                }
            ],
            "ports": [{"name": "http", "protocol": "TCP", "port": 8080}],
        }
    )


def as_sent(body: Json) -> object:
    return msgspec.json.decode(msgspec.json.encode(body))


@pytest.mark.parametrize(
    ("one", "publish", "conditions"),
    [
        pytest.param(pod(), False, (True, True, False), id="ready"),
        pytest.param(pod(ready=False), False, (False, False, False), id="not ready"),
        pytest.param(
            pod(ready=False), True, (True, False, False), id="not ready, but published all the same"
        ),
        pytest.param(pod(dying=True), False, (False, True, True), id="ending and still serving"),
        pytest.param(pod(dying=True, ready=False), False, (False, False, True), id="ending and done"),
        pytest.param(pod(dying=True), True, (True, True, True), id="ending and published"),
    ],
)
def test_conditions(one: Pod, publish: bool, conditions: tuple[bool, bool, bool]) -> None:
    ready, serving, terminating = conditions
    assert only_endpoint(service(publish=publish), one)["conditions"] == {
        "ready": ready,
        "serving": serving,
        "terminating": terminating,
    }


@pytest.mark.parametrize(
    "absent",
    [
        pytest.param(pod(ips=()), id="no address yet"),
        pytest.param(pod(phase="Succeeded"), id="finished"),
        pytest.param(pod(phase="Failed"), id="failed"),
        pytest.param(pod(labels={"app": "db"}), id="not selected"),
    ],
)
def test_who_is_no_backend(absent: Pod) -> None:
    assert backends(service(), [absent], {}) == []


@pytest.mark.parametrize(
    ("hostname", "subdomain", "expected"),
    [
        pytest.param("one", "web", "one", id="host name in the Service's subdomain"),
        pytest.param("one", "other", None, id="host name in another subdomain"),
        pytest.param("one", "", None, id="host name alone"),
        pytest.param("", "web", None, id="subdomain alone"),
    ],
)
def test_host_names(hostname: str, subdomain: str, expected: str | None) -> None:
    assert only_endpoint(service(), pod(hostname=hostname, subdomain=subdomain)).get("hostname") == expected


def test_named_target_ports_are_looked_up_in_each_pod() -> None:
    of = service(ServicePortSpec(port=80, name="http", target_port="web"))
    pods = [
        pod("a", ips=("10.244.1.1",), ports=(("web", 8080),)),
        pod("b", ips=("10.244.1.2",), ports=(("web", 9090),)),
        pod("c", ips=("10.244.1.3",), ports=(("other", 1),)),
    ]
    world = World()
    world.sync(of, pods)
    found = {
        tuple(p.port for p in each.ports or ()): [e.addresses[0] for e in each.endpoints or ()]
        for each in world.slices.values()
    }
    assert found == {(8080,): ["10.244.1.1"], (9090,): ["10.244.1.2"], (): ["10.244.1.3"]}


def test_a_port_without_a_target_is_its_own_target() -> None:
    of = service(ServicePortSpec(port=53, name="dns", protocol="UDP"))
    (backend,) = backends(of, [pod()], {})
    assert [(port.name, port.protocol, port.port) for port in backend.ports] == [("dns", "UDP", 53)]


def test_two_families_make_two_slices() -> None:
    world = World()
    world.sync(
        service(families=("IPv4", "IPv6")), [pod(ips=("10.244.1.1", "fd00::1")), pod("q", ips=("10.0.0.2",))]
    )
    found = {each.address_type: len(each.endpoints or ()) for each in world.slices.values()}
    assert found == {"IPv4": 2, "IPv6": 1}


def test_a_service_of_one_family_that_a_pod_lacks_has_an_empty_slice() -> None:
    world = World()
    world.sync(service(families=("IPv6",), cluster_ip="fd00:96::5"), [pod()])
    assert [(each.address_type, each.endpoints) for each in world.slices.values()] == [("IPv6", ())]


def test_a_second_look_writes_nothing() -> None:
    world = World()
    pods = numbered(250)
    world.sync(service(), pods)
    assert world.sync(service(), pods[::-1]) == []


def test_nobody_is_said_by_one_empty_slice() -> None:
    world = World()
    assert verbs(world.sync(service(), [])) == ["Create"]
    assert world.sync(service(), []) == []
    assert verbs(world.sync(service(), numbered(1))) == ["Replace"], "the empty slice is filled, not replaced"
    assert verbs(world.sync(service(), [])) == ["Replace"], "and emptied again"
    assert len(world.slices) == 1


def test_one_pod_that_changes_is_one_write() -> None:
    world = World()
    pods = numbered(300)
    world.sync(service(), pods)
    pods[150] = pod("p150", ips=(pods[150].status.pod_ip,), ready=False)
    assert verbs(world.sync(service(), pods)) == ["Replace"]


def test_a_pod_replaced_by_another_is_one_write() -> None:
    world = World()
    pods = numbered(300)
    world.sync(service(), pods)
    assert verbs(world.sync(service(), [*pods[:150], *pods[151:], *numbered(1, 900)])) == ["Replace"]


def test_new_pods_fill_the_fullest_slice_with_room() -> None:
    world = World()
    pods = numbered(230)
    world.sync(service(), pods)
    assert verbs(world.sync(service(), pods[:-10])) == ["Replace"]
    assert verbs(world.sync(service(), [*pods[:-10], *numbered(5, 900)])) == ["Replace"]
    assert sorted(len(each.endpoints or ()) for each in world.slices.values()) == [30, 95, 100]


def test_a_changed_port_writes_each_slice_once_and_makes_none() -> None:
    world = World()
    pods = numbered(150)
    world.sync(service(), pods)
    names = set(world.slices)
    moved = service(ServicePortSpec(port=80, name="http", target_port=9090))
    assert verbs(world.sync(moved, pods)) == ["Replace", "Replace"]
    assert set(world.slices) == names


def test_slices_of_others_are_left_alone() -> None:
    foreign = EndpointSlice(
        metadata=ObjectMeta(name="hand-made", namespace="ns", labels={"kubernetes.io/service-name": "web"})
    )
    assert verbs(endpointslices.decide(service(), [], [foreign])) == ["Create"]


def test_headless_services_are_marked() -> None:
    world = World()
    world.sync(service(cluster_ip="None"), [pod()])
    (made,) = world.slices.values()
    assert made.metadata.labels["service.kubernetes.io/headless"] == ""


def test_the_time_of_a_change_is_when_the_pod_changed() -> None:
    world = World()
    world.sync(service(), [pod()])
    (before,) = world.slices.values()
    world.sync(service(), [pod(ready=False, ready_ago_s=7)])
    (after,) = world.slices.values()
    assert before.metadata.annotations[TRIGGER_TIME] == ago(100)
    assert after.metadata.annotations[TRIGGER_TIME] == ago(7)


def test_the_time_of_a_deletion_is_its_beginning() -> None:
    world = World()
    world.sync(service(), [pod()])
    world.sync(service(), [pod(dying=True)])  # ends 30 s from now, and was told 30 s before that
    (after,) = world.slices.values()
    assert after.metadata.annotations[TRIGGER_TIME] == ago(0)


def test_a_change_with_another_cause_claims_no_time() -> None:
    world = World()
    world.sync(service(), [pod()])
    world.sync(service(ServicePortSpec(port=80, name="http", target_port=9090)), [pod()])
    (after,) = world.slices.values()
    assert TRIGGER_TIME not in after.metadata.annotations


histories = st.lists(
    st.tuples(
        st.sets(st.integers(0, 260)),
        st.booleans(),
        st.sampled_from([8080, 9090]),
    ),
    min_size=1,
    max_size=5,
)


@given(histories)
def test_slices_always_hold_exactly_the_pods(history: list[tuple[set[int], bool, int]]) -> None:
    world = World()
    for numbers, ready, port in history:
        of = service(ServicePortSpec(port=80, name="http", target_port=port))
        pods = [pod(f"p{n}", ready=ready, ips=(f"10.244.{n // 200}.{n % 200 + 1}",)) for n in sorted(numbers)]
        writes = world.sync(of, pods)
        assert world.addresses() == sorted(each.status.pod_ip for each in pods)
        assert all(len(each.endpoints or ()) <= SLICE_MOST for each in world.slices.values())
        assert len(world.slices) >= 1
        assert len(writes) == len({w.name if isinstance(w, Replace | Delete) else id(w) for w in writes})
        assert world.sync(of, pods) == []


def endpoints_body(of: Service, pods: Sequence[Pod]) -> Json:
    (create,) = endpoints.decide(of, backends(of, pods, {}), None)
    assert isinstance(create, Create)
    return create.body


def test_F_endpoints_registry_the_seed_example_mysql_on_two_addresses_and_ports() -> None:
    of = service(ServicePortSpec(port=3306, name="mysql", target_port="db"))
    pods = [
        pod("a", ips=("10.10.1.1",), ports=(("db", 1909),)),
        pod("b", ips=("10.10.2.2",), ports=(("db", 8834),)),
    ]
    subsets = endpoints_body(of, pods)["subsets"]
    assert isinstance(subsets, list)
    assert [_pairs(subset) for subset in subsets] == [["10.10.1.1:1909"], ["10.10.2.2:8834"]]


def _pairs(subset: object) -> list[str]:
    found = msgspec.convert(subset, dict[str, list[dict[str, object]]])
    return [f"{address['ip']}:{port['port']}" for address in found["addresses"] for port in found["ports"]]


def test_endpoints_tell_ready_from_not_ready_and_forget_ending_pods() -> None:
    pods = [
        pod("a", ips=("10.0.0.2",)),
        pod("b", ips=("10.0.0.1",), ready=False),
        pod("c", ips=("10.0.0.3",), dying=True),
    ]
    body = endpoints_body(service(), pods)
    stored = msgspec.convert(body, Endpoints)
    (subset,) = stored.subsets or ()
    assert [each.ip for each in subset.addresses] == ["10.0.0.2"]
    assert [each.ip for each in subset.not_ready_addresses] == ["10.0.0.1"]


def test_endpoints_that_are_right_are_not_written() -> None:
    found = backends(service(), [pod("b", ips=("10.0.0.2",)), pod("a", ips=("10.0.0.1",))], {})
    (create,) = endpoints.decide(service(), found, None)
    assert isinstance(create, Create)
    assert create.resource is ENDPOINTS
    stored = msgspec.convert(create.body, Endpoints)
    assert endpoints.decide(service(), found[::-1], stored) == []
    assert verbs(endpoints.decide(service(), found[:1], stored)) == ["Replace"]


def test_endpoints_of_nobody_are_an_empty_object() -> None:
    assert endpoints_body(service(), [])["subsets"] == []
