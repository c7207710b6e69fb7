"""What people are told of an object: rows 58 and S7."""

from kubenet.model.events import new_event_object, new_repeated
from kubenet.model.objects import KubeObject, ServiceSpec
from proxy.ports import ObjectKind
from proxy.tidings import occurrence_of, of_health_check, of_refusal
from proxy.track import track
from proxy.vitals import ServiceHealth
from tests.unit.proxy.objects import HTTP, endpoint_slice, service


def test_S7_what_is_left_out_names_the_object_that_says_it() -> None:
    spec = ServiceSpec(
        cluster_ip="10.96.0.1", cluster_ips=("10.96.0.1",), ports=(HTTP,), external_ips=("203.0.113.9",)
    )
    bad = service("a", spec=spec)
    piece = endpoint_slice("127.0.0.1", of="b")
    told = [of_refusal(each) for each in track([bad, service("b", "10.96.0.9")], [piece]).refused]
    assert [(each.kind, each.key, each.reason) for each in told] == [
        (ObjectKind.ENDPOINTSLICE, piece.metadata.key, "NotProxied"),
        (ObjectKind.SERVICE, bad.metadata.key, "NotProxied"),
    ]
    assert told[0].message.endswith("endpoint 0: 127.0.0.1: a loopback address")
    assert "203.0.113.9" in told[1].message


def test_A6_row58_a_health_check_port_that_cannot_be_opened() -> None:
    told = of_health_check(ServiceHealth("demo", "web", 1), 32000, "here", "Address already in use")
    assert (told.kind, told.key, told.reason) == (
        ObjectKind.SERVICE,
        "demo/web",
        "FailedToStartServiceHealthcheck",
    )
    assert told.message == (
        "node here failed to start healthcheck 'demo/web' on port 32000: Address already in use"
    )


def test_an_event_of_events_k8s_io_has_what_it_must_have() -> None:
    about: KubeObject = service("web")
    tiding = of_health_check(ServiceHealth("demo", "web", 1), 32000, "n" * 200, "w" * 2000)
    what = occurrence_of(tiding, about)
    event = new_event_object(what, "kubenet-proxy", "n" * 200, "2026-01-02T03:04:05.000006Z")
    assert event["apiVersion"] == "events.k8s.io/v1"
    assert event["eventTime"] == "2026-01-02T03:04:05.000006Z"
    assert event["type"] == "Warning"
    for word in ("action", "reason", "reportingController", "reportingInstance"):
        text = event[word]
        assert isinstance(text, str)
        assert 0 < len(text) <= 128
    note, regarding, metadata = event["note"], event["regarding"], event["metadata"]
    assert isinstance(note, str)
    assert len(note) == 1024
    assert isinstance(regarding, dict)
    assert isinstance(metadata, dict)
    assert regarding["kind"] == "Service"
    assert regarding["namespace"] == metadata["namespace"] == about.metadata.namespace
    assert new_repeated(3, "t") == {"series": {"count": 3, "lastObservedTime": "t"}}
