"""Why a pod gets its answer."""

import pytest

from dns.explain import Asker, Attempt, Objects, candidates, site_of, usual_blocks
from dns.explain import explain as explain_by
from dns.settings import Block
from dns.wire import RType
from kubenet.model.objects import EndpointSlice, Namespace, ObjectMeta, Service
from tests.unit.dns.test_corefile import blocks
from tests.unit.dns.world import ZONE, endpoint, endpoint_slice, external, service

NAMESPACES = tuple(Namespace(metadata=ObjectMeta(name=name)) for name in ("demo", "default"))


def objects(*held: Service | EndpointSlice) -> Objects:
    services = tuple(each for each in held if isinstance(each, Service))
    return Objects(services, tuple(each for each in held if isinstance(each, EndpointSlice)), NAMESPACES)


def explain(
    name: str, rtype: RType, namespace: str, held: Objects, domain: str, blocks: tuple[Block, ...] = ()
) -> list[Attempt]:
    site = site_of(blocks or usual_blocks(domain), held)
    return explain_by(name, rtype, Asker(namespace, "10.244.0.9"), site, held)


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


def test_C14_the_corefile_s_plugins_are_named() -> None:
    held = objects(service("demo/web", "10.96.1.1"))
    parsed = blocks(
        f"""{ZONE} example.org {{
            rewrite name shop.example.org web.demo.svc.{ZONE}
            hosts {{
                192.0.2.1 static.example.org
                fallthrough
            }}
            acl {{
                drop type TXT
            }}
            kubernetes {ZONE}
        }}"""
    )

    def only(name: str, rtype: RType = RType.A) -> Attempt:
        return explain(name, rtype, "demo", held, ZONE, parsed)[0]

    shop = only("shop.example.org.")
    assert (shop.plugin, shop.records) == ("kubernetes", ("shop.example.org. 5 A 10.96.1.1",))
    static = only("static.example.org.")
    assert (static.plugin, static.status) == ("hosts", "NOERROR")
    assert only("none.example.org.").status == "REFUSED"
    assert only("example.net.").because == ("no server block is for this name",)
    assert only("web.", RType.TXT).status == "REFUSED"
    assert only(f"web.demo.svc.{ZONE}.", RType.TXT).status == "no answer"


def test_C14_the_servers_that_are_asked_are_named() -> None:
    (last,) = explain("example.com.", RType.A, "demo", objects(), ZONE)
    assert last.because == ("example.com. is no name of the cluster; /etc/resolv.conf is asked",)
