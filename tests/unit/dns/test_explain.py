"""Why a pod gets its answer."""

import pytest

from dns.explain import Objects, candidates, explain
from dns.wire import RType
from kubenet.model.objects import EndpointSlice, Namespace, ObjectMeta, Service
from tests.unit.dns.world import ZONE, endpoint, endpoint_slice, external, service

NAMESPACES = tuple(Namespace(metadata=ObjectMeta(name=name)) for name in ("demo", "default"))


def objects(*held: Service | EndpointSlice) -> Objects:
    services = tuple(each for each in held if isinstance(each, Service))
    return Objects(services, tuple(each for each in held if isinstance(each, EndpointSlice)), NAMESPACES)


@pytest.mark.parametrize(
    ("name", "want"),
    [
        pytest.param("web.", ["web."], id="absolute"),
        pytest.param(
            "web", [f"web.demo.svc.{ZONE}.", f"web.svc.{ZONE}.", f"web.{ZONE}.", "web."], id="few dots"
        ),
        pytest.param(
            "a.b.c.d.e.f",
            ["a.b.c.d.e.f."] + [f"a.b.c.d.e.f.{end}." for end in (f"demo.svc.{ZONE}", f"svc.{ZONE}", ZONE)],
            id="five dots",
        ),
    ],
)
def test_C2_a_resolver_tries_the_search_path_in_order(name: str, want: list[str]) -> None:
    assert candidates(name, "demo", ZONE) == want


def test_C14_the_answer_comes_with_its_objects_and_versions() -> None:
    metadata = ObjectMeta(name="web", namespace="demo", resource_version="41")
    web = Service(metadata=metadata, spec=service("demo/web", "10.96.1.1").spec)
    (only,) = explain("web", RType.A, "demo", objects(web), ZONE)
    assert (only.name, only.status, only.plugin) == (f"web.demo.svc.{ZONE}.", "NOERROR", "kubernetes")
    assert only.records == (f"web.demo.svc.{ZONE}. 5 A 10.96.1.1",)
    assert only.because == ("Service demo/web (resourceVersion 41)",)


def test_C14_a_name_of_another_namespace_is_found_by_the_second_search_name() -> None:
    slices = endpoint_slice("demo/db-1", "db", endpoint("10.244.0.7"))
    first, second = explain("db.demo", RType.A, "default", objects(service("demo/db", "None"), slices), ZONE)
    assert (first.status, first.because) == ("NXDOMAIN", ("no Service default/demo",))
    assert second.name == f"db.demo.svc.{ZONE}."
    assert [reason.split(" (")[0] for reason in second.because] == [
        "Service demo/db",
        "EndpointSlice demo/db-1",
    ]


def test_C14_what_is_missing_is_named() -> None:
    attempts = explain(f"web.nowhere.svc.{ZONE}.", RType.A, "demo", objects(), ZONE)
    assert [(each.status, each.because) for each in attempts] == [("NXDOMAIN", ("no Namespace nowhere",))]


def test_C14_what_is_not_ours_is_asked_upstream_after_three_denials() -> None:
    attempts = explain("example.com", RType.A, "demo", objects(), ZONE)
    assert [each.plugin for each in attempts] == ["kubernetes"] * 3 + ["forward"]
    (alias,) = explain("x", RType.A, "demo", objects(external("demo/x", "example.com")), ZONE)
    assert alias.plugin == "forward"
    assert alias.records == (f"x.demo.svc.{ZONE}. 5 CNAME example.com.",)
