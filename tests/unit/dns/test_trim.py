"""What is left of an object says the same to DNS as all of it, also after packing."""

import pytest

from dns import trim
from dns.feed import TRIGGER_TIME
from dns.read import service_key
from kubenet.client.packing import Packing
from kubenet.model.objects import EndpointSlice, ObjectMeta, Pod, PodSpec, Service, ServiceSpec
from tests.unit.dns.world import Cluster, endpoint, endpoint_slice, external, pod, service

SERVICES = [
    pytest.param(service("demo/web", "10.96.1.1", ports=("http/TCP/80", "dns/UDP/53")), id="ordinary"),
    pytest.param(service("demo/two", "10.96.1.2", "fd00::2"), id="both families"),
    pytest.param(service("demo/six", "fd00::3"), id="one address of IPv6"),
    pytest.param(service("demo/headless", "None"), id="headless"),
    pytest.param(external("demo/alias", "www.example.com"), id="ExternalName"),
    pytest.param(
        Service(metadata=ObjectMeta(name="old", namespace="demo"), spec=ServiceSpec(cluster_ip="10.96.1.4")),
        id="without clusterIPs",
    ),
]
SLICE = endpoint_slice(
    "demo/headless-1",
    "headless",
    endpoint("10.1.0.1", hostname="a"),
    endpoint("10.1.0.2", ready=False),
    endpoint("10.1.0.3", "10.1.0.4", ready=True, pod="p-0"),
)


def packed_service(whole: Service) -> Service:
    packing = Packing(Service, trim.service)
    return packing.unpack(packing.pack(whole))


def packed_slice(whole: EndpointSlice) -> EndpointSlice:
    packing = Packing(EndpointSlice, trim.endpoint_slice)
    return packing.unpack(packing.pack(whole))


@pytest.mark.parametrize("whole", SERVICES)
def test_a_trimmed_service_gives_the_same_zone(whole: Service) -> None:
    key = service_key(whole.metadata.key)
    assert key is not None
    want = Cluster(whole).feed.zone.services.get(key)
    assert want is not None
    assert Cluster(packed_service(whole)).feed.zone.services.get(key) == want


def test_a_trimmed_slice_gives_the_same_zone() -> None:
    headless = service("demo/headless", "None")
    whole, trimmed = Cluster(headless, SLICE).feed.zone, Cluster(headless, packed_slice(SLICE)).feed.zone
    key = (b"headless", b"demo")
    assert whole.services.get(key) == trimmed.services.get(key)
    hosts = whole.services.get(key)
    assert hosts is not None
    assert len(hosts.hosts) == 3


def test_a_trimmed_slice_says_what_changed_when_and_which_pod() -> None:
    whole = EndpointSlice(
        metadata=ObjectMeta(name="s", namespace="demo", annotations={TRIGGER_TIME: "t", "other": "x"}),
        endpoints=SLICE.endpoints,
    )
    trimmed = packed_slice(whole)
    assert trimmed.metadata.annotations == {TRIGGER_TIME: "t"}
    assert trimmed.endpoints is not None
    assert trimmed.endpoints[2].target_ref is not None
    assert trimmed.endpoints[2].target_ref.name == "p-0"
    assert packed_slice(EndpointSlice(endpoints=None, ports=None)).service_key == ""


@pytest.mark.parametrize("phase", ["Running", "Failed"])
@pytest.mark.parametrize("host_network", [False, True])
def test_a_trimmed_pod_is_held_alike(phase: str, host_network: bool) -> None:
    made = pod("demo/p", "10.1.0.1", "fd00::1", phase=phase)
    whole = Pod(metadata=made.metadata, spec=PodSpec(host_network=host_network), status=made.status)
    trimmed = trim.pod(whole)
    assert trimmed.status == whole.status
    assert trimmed.spec == whole.spec
    assert trimmed.metadata.key == "demo/p"
