"""What the cluster's names give: the rows of the Kubernetes DNS specification, and what CoreDNS adds."""

import msgspec
import pytest

from dns import names
from dns.feed import ClusterFeed
from dns.read import Naming
from dns.wire import AD, CD, RD, RType
from dns.zone import PodsMode, ZoneConfig
from kubenet.model.objects import Namespace, ObjectMeta, PodSpec
from tests.unit.dns.world import (
    PLAIN_OPT,
    ZONE,
    Cluster,
    Seen,
    endpoint,
    endpoint_slice,
    external,
    pod,
    query,
    seen,
    service,
)

SOA = "cluster.local. 5 SOA ns.dns.cluster.local. hostmaster.cluster.local. {} 7200 1800 86400 5"


def assert_denied(reply: Seen, status: str) -> None:
    """NXDOMAIN, or NODATA: no answer, and the SOA record that says how long to believe it."""
    assert reply.status == status
    assert reply.answers == []
    assert len(reply.authority) == 1
    assert reply.authority[0].startswith(
        "cluster.local. 5 SOA ns.dns.cluster.local. hostmaster.cluster.local. "
    )
    assert "aa" in reply.flags


def web() -> Cluster:
    return Cluster(service("demo/web", "10.96.1.1", "fd00:96::1", ports=("http/TCP/80", "dns/UDP/53")))


HEADLESS = (
    service("demo/db", "None", ports=("pg/TCP/5432",)),
    endpoint_slice(
        "demo/db-1",
        "db",
        endpoint("10.244.1.2", hostname="db-0"),
        endpoint("10.244.2.2", hostname="db-1"),
        endpoint("10.244.3.3"),
        endpoint("10.244.9.9", ready=False),
        ports=("pg/TCP/5432",),
    ),
    endpoint_slice("demo/db-6", "db", endpoint("fd00:244::2", hostname="db-0"), ports=("pg/TCP/5432",)),
)


def test_A1_the_schema_version_is_a_text() -> None:
    reply = web().ask(f"dns-version.{ZONE}", RType.TXT)
    assert reply.answers == ['dns-version.cluster.local. 28800 TXT "1.1.0"']


def test_A2_a_service_has_the_addresses_of_both_families() -> None:
    cluster = web()
    assert cluster.ask(f"web.demo.svc.{ZONE}").answers == ["web.demo.svc.cluster.local. 5 A 10.96.1.1"]
    assert cluster.ask(f"web.demo.svc.{ZONE}", RType.AAAA).rdata == ["fd00:96::1"]


def test_A2_another_type_of_an_existing_name_is_nodata() -> None:
    cluster = Cluster(service("demo/web", "10.96.1.1"))
    for qtype in (RType.AAAA, RType.MX, RType.TXT, RType.HTTPS, RType.PTR, RType.CNAME, 0, 65280):
        assert_denied(cluster.ask(f"web.demo.svc.{ZONE}", qtype), "NOERROR")


@pytest.mark.parametrize("ttl_s", [0, 5, 3600])
def test_A2_the_ttl_is_the_configured_one(ttl_s: int) -> None:
    cluster = Cluster(service("demo/web", "10.96.1.1"), naming=Naming(names.from_text(ZONE), ttl_s))
    assert cluster.ask(f"web.demo.svc.{ZONE}").answers == [f"web.demo.svc.cluster.local. {ttl_s} A 10.96.1.1"]


def test_A3_srv_tells_a_named_port_and_where_its_service_is() -> None:
    reply = web().ask(f"_http._tcp.web.demo.svc.{ZONE}", RType.SRV)
    assert reply.answers == [
        "_http._tcp.web.demo.svc.cluster.local. 5 SRV 0 100 80 web.demo.svc.cluster.local."
    ]
    assert reply.additional == [
        "web.demo.svc.cluster.local. 5 A 10.96.1.1",
        "web.demo.svc.cluster.local. 5 AAAA fd00:96::1",
    ]


def test_A3_name_and_protocol_must_both_match() -> None:
    assert_denied(web().ask(f"_http._udp.web.demo.svc.{ZONE}", RType.SRV), "NXDOMAIN")
    assert_denied(web().ask(f"_dns._tcp.web.demo.svc.{ZONE}", RType.SRV), "NXDOMAIN")
    assert_denied(web().ask(f"_other._tcp.web.demo.svc.{ZONE}", RType.SRV), "NXDOMAIN")


def test_A3_one_name_for_two_protocols_is_two_ports() -> None:
    cluster = Cluster(service("demo/dns", "10.96.1.9", ports=("dns/UDP/53", "dns/TCP/5353")))
    assert cluster.ask(f"_dns._udp.dns.demo.svc.{ZONE}", RType.SRV).rdata == [
        "0 100 53 dns.demo.svc.cluster.local."
    ]
    assert cluster.ask(f"_dns._tcp.dns.demo.svc.{ZONE}", RType.SRV).rdata == [
        "0 100 5353 dns.demo.svc.cluster.local."
    ]


def test_A3_an_unnamed_port_has_no_srv_name() -> None:
    cluster = Cluster(service("demo/web", "10.96.1.1", ports=("/TCP/80",)))
    assert_denied(cluster.ask(f"_tcp.web.demo.svc.{ZONE}", RType.SRV), "NXDOMAIN")


def test_A3_weights_share_a_hundred_and_are_never_zero() -> None:
    hosts = [endpoint(f"10.244.{number // 250}.{number % 250 + 1}") for number in range(150)]
    cluster = Cluster(service("demo/db", "None"), endpoint_slice("demo/db-1", "db", *hosts[:3]))
    three = cluster.ask(f"_http._tcp.db.demo.svc.{ZONE}", RType.SRV)
    assert {line.split()[1] for line in three.rdata} == {"33"}
    cluster.put(endpoint_slice("demo/db-1", "db", *hosts))
    many = cluster.ask(f"_http._tcp.db.demo.svc.{ZONE}", RType.SRV, stream=True)
    assert {line.split()[1] for line in many.rdata} == {"1"}


def test_A4_srv_at_the_service_itself_tells_all_ports() -> None:
    reply = web().ask(f"web.demo.svc.{ZONE}", RType.SRV)
    assert reply.rdata == ["0 50 80 web.demo.svc.cluster.local.", "0 50 53 web.demo.svc.cluster.local."]


@pytest.mark.parametrize("prefix", ["_http._tcp", "http.tcp", "_http.tcp", "http._tcp", "_HTTP._Tcp"])
def test_A4_underscores_may_be_left_out(prefix: str) -> None:
    reply = web().ask(f"{prefix}.web.demo.svc.{ZONE}", RType.SRV)
    assert reply.rdata == ["0 100 80 web.demo.svc.cluster.local."]


def test_A4_a_port_name_gives_the_addresses_too() -> None:
    assert web().ask(f"_http._tcp.web.demo.svc.{ZONE}").rdata == ["10.96.1.1"]
    assert Cluster(*HEADLESS).ask(f"_pg._tcp.db.demo.svc.{ZONE}", RType.AAAA).rdata == ["fd00:244::2"]


def test_A5_a_cluster_ip_points_to_its_service() -> None:
    cluster = web()
    reply = cluster.ask("1.1.96.10.in-addr.arpa", RType.PTR)
    assert reply.answers == ["1.1.96.10.in-addr.arpa. 5 PTR web.demo.svc.cluster.local."]
    v6 = names.reverse_name(bytes.fromhex("fd000096" + "0" * 23 + "1"))
    assert cluster.ask(v6, RType.PTR).rdata == ["web.demo.svc.cluster.local."]


def test_A5_an_endpoint_points_to_its_own_name() -> None:
    cluster = Cluster(*HEADLESS)
    assert cluster.ask("2.1.244.10.in-addr.arpa", RType.PTR).rdata == ["db-0.db.demo.svc.cluster.local."]
    assert cluster.ask("3.3.244.10.in-addr.arpa", RType.PTR).rdata == [
        "10-244-3-3.db.demo.svc.cluster.local."
    ]


def test_A5_a_pod_of_two_services_has_two_pointers() -> None:
    cluster = Cluster(
        service("demo/a", "None"),
        service("demo/b", "10.96.1.2"),
        endpoint_slice("demo/a-1", "a", endpoint("10.244.1.2", hostname="one")),
        endpoint_slice("demo/b-1", "b", endpoint("10.244.1.2")),
    )
    assert cluster.ask("2.1.244.10.in-addr.arpa", RType.PTR).rdata == [
        "one.a.demo.svc.cluster.local.",
        "10-244-1-2.b.demo.svc.cluster.local.",
    ]


def test_A5_a_cluster_ip_wins_over_an_endpoint() -> None:
    cluster = Cluster(
        service("demo/a", "None"),
        endpoint_slice("demo/a-1", "a", endpoint("10.96.1.2")),
        service("demo/b", "10.96.1.2"),
    )
    assert cluster.ask("2.1.96.10.in-addr.arpa", RType.PTR).rdata == ["b.demo.svc.cluster.local."]


def test_A5_a_pointer_goes_with_its_owner() -> None:
    cluster = Cluster(*HEADLESS)
    cluster.feed.endpoint_slice("demo/db-1", None)
    cluster.flush()
    assert cluster.ask("2.1.244.10.in-addr.arpa", RType.PTR).status == "NXDOMAIN"


def test_A5_an_unknown_address_is_denied_by_its_own_tree() -> None:
    reply = web().ask("9.9.9.10.in-addr.arpa", RType.PTR)
    assert reply.status == "NXDOMAIN"
    assert reply.authority == [
        "in-addr.arpa. 5 SOA ns.dns.in-addr.arpa. hostmaster.in-addr.arpa. 4 7200 1800 86400 5"
    ]


def test_A5_or_it_is_asked_upstream() -> None:
    waiting = Cluster(*HEADLESS, upstream=True).forwarding("9.9.9.10.in-addr.arpa", RType.PTR)
    assert names.to_text(waiting.ask.question.name) == "9.9.9.10.in-addr.arpa."


def test_A6_a_headless_service_has_the_addresses_of_its_ready_endpoints() -> None:
    cluster = Cluster(*HEADLESS)
    assert cluster.ask(f"db.demo.svc.{ZONE}").rdata == ["10.244.1.2", "10.244.2.2", "10.244.3.3"]
    assert cluster.ask(f"db.demo.svc.{ZONE}", RType.AAAA).rdata == ["fd00:244::2"]


def test_A6_with_no_ready_endpoint_it_does_not_exist() -> None:
    cluster = Cluster(
        service("demo/db", "None"), endpoint_slice("demo/db-1", "db", endpoint("10.244.1.2", ready=False))
    )
    assert_denied(cluster.ask(f"db.demo.svc.{ZONE}"), "NXDOMAIN")


def test_A6_when_the_last_ready_endpoint_goes_the_cluster_ip_stays() -> None:
    ready = [endpoint_slice(f"demo/{name}-1", name, endpoint("10.244.1.2")) for name in ("db", "web")]
    cluster = Cluster(service("demo/db", "None"), service("demo/web", "10.96.1.1"), *ready)
    assert cluster.ask(f"db.demo.svc.{ZONE}").status == "NOERROR"
    cluster.put(*(endpoint_slice(f"demo/{name}-1", name) for name in ("db", "web")))
    assert_denied(cluster.ask(f"db.demo.svc.{ZONE}"), "NXDOMAIN")
    assert cluster.ask(f"web.demo.svc.{ZONE}").rdata == ["10.96.1.1"]


def test_A6_with_endpoints_of_one_family_the_other_is_nodata() -> None:
    cluster = Cluster(service("demo/db", "None"), endpoint_slice("demo/db-6", "db", endpoint("fd00::2")))
    assert_denied(cluster.ask(f"db.demo.svc.{ZONE}"), "NOERROR")
    assert cluster.ask(f"db.demo.svc.{ZONE}", RType.AAAA).rdata == ["fd00::2"]


def test_A6_srv_has_a_record_for_each_port_of_each_endpoint() -> None:
    reply = Cluster(
        service("demo/db", "None"),
        endpoint_slice(
            "demo/db-1",
            "db",
            endpoint("10.244.1.2", hostname="db-0"),
            endpoint("10.244.2.2", hostname="db-1"),
            ports=("pg/TCP/5432", "web/TCP/80"),
        ),
    ).ask(f"db.demo.svc.{ZONE}", RType.SRV)
    assert reply.rdata == [
        "0 25 5432 db-0.db.demo.svc.cluster.local.",
        "0 25 5432 db-1.db.demo.svc.cluster.local.",
        "0 25 80 db-0.db.demo.svc.cluster.local.",
        "0 25 80 db-1.db.demo.svc.cluster.local.",
    ]
    assert reply.additional == [
        "db-0.db.demo.svc.cluster.local. 5 A 10.244.1.2",
        "db-1.db.demo.svc.cluster.local. 5 A 10.244.2.2",
    ]


@pytest.mark.parametrize(
    ("host", "pod_names", "label"),
    [
        pytest.param(endpoint("10.1.2.3", hostname="Db-0", pod="p"), True, "db-0", id="the hostname first"),
        pytest.param(endpoint("10.1.2.3", pod="p-1"), True, "p-1", id="then the pod, if wanted"),
        pytest.param(endpoint("10.1.2.3", pod="p-1"), False, "10-1-2-3", id="the pod is not wanted"),
        pytest.param(endpoint("10.1.2.3", pod="p" * 64), True, "10-1-2-3", id="a pod name too long"),
        pytest.param(endpoint("10.1.2.3", pod="p.q"), True, "10-1-2-3", id="a pod name of two labels"),
        pytest.param(endpoint("fd00::1:2"), False, "fd00--1-2", id="colons become dashes"),
        pytest.param(endpoint("fd00::"), False, "fd00--0", id="no dash at the end"),
    ],
)
def test_A6_an_endpoint_is_called(host: object, pod_names: bool, label: str) -> None:
    naming = Naming(names.from_text(ZONE), pod_names=pod_names)
    cluster = Cluster(service("demo/db", "None"), endpoint_slice("demo/db-1", "db", host), naming=naming)  # type: ignore[arg-type]
    reply = cluster.ask(f"_http._tcp.db.demo.svc.{ZONE}", RType.SRV)
    assert reply.rdata == [f"0 100 8080 {label}.db.demo.svc.cluster.local."]


def test_A7_an_endpoint_has_its_own_name_with_all_its_addresses() -> None:
    cluster = Cluster(*HEADLESS)
    assert cluster.ask(f"db-0.db.demo.svc.{ZONE}").rdata == ["10.244.1.2"]
    assert cluster.ask(f"db-0.db.demo.svc.{ZONE}", RType.AAAA).rdata == ["fd00:244::2"]
    assert_denied(cluster.ask(f"db-1.db.demo.svc.{ZONE}", RType.AAAA), "NOERROR")


def test_A7_two_endpoints_of_one_hostname_are_two_records() -> None:
    cluster = Cluster(
        service("demo/db", "None"),
        endpoint_slice(
            "demo/db-1", "db", endpoint("10.1.1.2", hostname="a"), endpoint("10.1.1.1", hostname="a")
        ),
    )
    assert cluster.ask(f"a.db.demo.svc.{ZONE}").rdata == ["10.1.1.1", "10.1.1.2"]


def test_A7_endpoints_of_a_service_with_a_cluster_ip_have_names_too() -> None:
    cluster = Cluster(
        service("demo/web", "10.96.1.1"), endpoint_slice("demo/web-1", "web", endpoint("10.244.1.2"))
    )
    assert cluster.ask(f"10-244-1-2.web.demo.svc.{ZONE}").rdata == ["10.244.1.2"]
    assert cluster.ask(f"10-244-1-2.web.demo.svc.{ZONE}", RType.SRV).rdata == [
        "0 100 8080 10-244-1-2.web.demo.svc.cluster.local."
    ]


@pytest.mark.parametrize(("ready", "there"), [(None, True), (True, True), (False, False)])
def test_A8_unset_means_ready(ready: bool | None, there: bool) -> None:
    cluster = Cluster(
        service("demo/db", "None"), endpoint_slice("demo/db-1", "db", endpoint("10.1.1.1", ready=ready))
    )
    assert (cluster.ask(f"db.demo.svc.{ZONE}").status == "NOERROR") == there


def test_A8_an_address_in_two_slices_is_told_once_and_stays_while_it_moves() -> None:
    cluster = Cluster(service("demo/db", "None"))
    host = endpoint("10.244.1.2", hostname="a")
    for step in (
        [endpoint_slice("demo/db-1", "db", host)],
        [endpoint_slice("demo/db-2", "db", host)],
        [endpoint_slice("demo/db-1", "db")],
    ):
        cluster.put(*step)
        assert cluster.ask(f"db.demo.svc.{ZONE}").rdata == ["10.244.1.2"]
        assert len(cluster.ask(f"db.demo.svc.{ZONE}", RType.SRV).rdata) == 1


def test_A8_more_than_a_hundred_endpoints_come_from_several_slices() -> None:
    slices = [
        endpoint_slice(f"demo/db-{n}", "db", *(endpoint(f"10.244.{n}.{last}") for last in range(1, 101)))
        for n in range(3)
    ]
    cluster = Cluster(service("demo/db", "None"), *slices)
    assert len(cluster.ask(f"db.demo.svc.{ZONE}", stream=True).rdata) == 300


def test_A9_without_ports_there_are_addresses_and_no_srv() -> None:
    cluster = Cluster(
        service("demo/db", "None", ports=()),
        endpoint_slice("demo/db-1", "db", endpoint("10.1.1.1"), ports=()),
        service("demo/web", "10.96.1.1", ports=()),
    )
    for name, address in (("db", "10.1.1.1"), ("web", "10.96.1.1")):
        assert cluster.ask(f"{name}.demo.svc.{ZONE}").rdata == [address]
        assert_denied(cluster.ask(f"{name}.demo.svc.{ZONE}", RType.SRV), "NOERROR")


def test_A10_an_external_name_inside_the_cluster_is_followed() -> None:
    cluster = Cluster(external("demo/alias", f"web.demo.svc.{ZONE}"), service("demo/web", "10.96.1.1"))
    reply = cluster.ask(f"alias.demo.svc.{ZONE}")
    assert reply.answers == [
        "alias.demo.svc.cluster.local. 5 CNAME web.demo.svc.cluster.local.",
        "web.demo.svc.cluster.local. 5 A 10.96.1.1",
    ]


def test_A10_what_an_alias_leads_to_is_never_stale() -> None:
    cluster = Cluster(external("demo/alias", f"web.demo.svc.{ZONE}"), service("demo/web", "10.96.1.1"))
    cluster.ask(f"alias.demo.svc.{ZONE}")
    cluster.put(service("demo/web", "10.96.1.2"), service("demo/new", "10.96.1.3"))
    assert cluster.ask(f"alias.demo.svc.{ZONE}").rdata[-1] == "10.96.1.2"
    cluster.put(external("demo/alias", f"new.demo.svc.{ZONE}"))
    assert cluster.ask(f"alias.demo.svc.{ZONE}").rdata[-1] == "10.96.1.3"


def test_A10_an_external_name_outside_is_asked_upstream_after_the_alias() -> None:
    cluster = Cluster(external("demo/alias", "www.Example.com"), upstream=True)
    waiting = cluster.forwarding(f"alias.demo.svc.{ZONE}")
    assert waiting.ask.question.name == names.from_text("www.example.com")
    assert [names.to_text(rrset.contents[0]) for rrset in waiting.aliases] == ["www.Example.com."]


def test_A10_without_upstream_servers_the_alias_stands_alone() -> None:
    reply = Cluster(external("demo/alias", "www.example.com")).ask(f"alias.demo.svc.{ZONE}")
    assert (reply.status, reply.answers) == (
        "NOERROR",
        ["alias.demo.svc.cluster.local. 5 CNAME www.example.com."],
    )


def test_A10_a_loop_of_aliases_ends() -> None:
    cluster = Cluster(external("demo/a", f"b.demo.svc.{ZONE}"), external("demo/b", f"a.demo.svc.{ZONE}"))
    assert len(cluster.ask(f"a.demo.svc.{ZONE}").answers) == 2


def test_A10_a_chain_of_more_than_ten_aliases_is_cut() -> None:
    links = [external(f"demo/a{n}", f"a{n + 1}.demo.svc.{ZONE}") for n in range(20)]
    assert len(Cluster(*links).ask(f"a0.demo.svc.{ZONE}").answers) == 10


@pytest.mark.parametrize("target", ["10.1.2.3", "fd00::1", "", "a..b"])
def test_A10_an_external_name_that_is_no_name_yields_nothing(target: str) -> None:
    cluster = Cluster(external("demo/alias", target))
    assert_denied(cluster.ask(f"alias.demo.svc.{ZONE}"), "NXDOMAIN")
    assert len(cluster.ignored) == 1


def test_A10_an_alias_has_no_srv_and_no_names_below() -> None:
    cluster = Cluster(external("demo/alias", "www.example.com"))
    assert_denied(cluster.ask(f"alias.demo.svc.{ZONE}", RType.SRV), "NOERROR")
    assert_denied(cluster.ask(f"_http._tcp.alias.demo.svc.{ZONE}", RType.SRV), "NXDOMAIN")


@pytest.mark.parametrize(
    "name",
    [
        ZONE,
        f"svc.{ZONE}",
        f"pod.{ZONE}",
        f"demo.svc.{ZONE}",
        f"demo.pod.{ZONE}",
        f"dns.{ZONE}",
        f"_tcp.web.demo.svc.{ZONE}",
    ],
)
def test_A11_a_name_above_others_is_nodata(name: str) -> None:
    assert_denied(web().ask(name, RType.MX), "NOERROR")


@pytest.mark.parametrize("name", ["in-addr.arpa", "10.in-addr.arpa", "1.96.10.in-addr.arpa", "d.f.ip6.arpa"])
def test_A11_a_reverse_name_above_addresses_is_nodata(name: str) -> None:
    reply = web().ask(name, RType.PTR)
    assert (reply.status, reply.answers) == ("NOERROR", [])
    assert len(reply.authority) == 1


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(f"nowhere.svc.{ZONE}", id="an unknown namespace"),
        pytest.param(f"web.nowhere.svc.{ZONE}", id="a service of an unknown namespace"),
        pytest.param(f"nothing.demo.svc.{ZONE}", id="an unknown service"),
        pytest.param(f"nobody.web.demo.svc.{ZONE}", id="an unknown endpoint"),
        pytest.param(f"x._http._tcp.web.demo.svc.{ZONE}", id="one label too many"),
        pytest.param(f"*.demo.svc.{ZONE}", id="a star for the service"),
        pytest.param(f"web.*.svc.{ZONE}", id="a star for the namespace"),
        pytest.param(f"_any._tcp.web.demo.svc.{ZONE}", id="an unknown port"),
        pytest.param(f"_sctp.web.demo.svc.{ZONE}", id="a protocol without ports"),
        pytest.param(f"web.demo.{ZONE}", id="svc left out"),
        pytest.param(f"web.demo.svc.{ZONE}.demo.svc.{ZONE}", id="a search path too many"),
        pytest.param(f"x.dns-version.{ZONE}", id="below a leaf"),
    ],
)
def test_A11_what_is_not_there_is_nxdomain(name: str) -> None:
    for qtype in (RType.A, RType.AAAA, RType.SRV, RType.ANY, RType.SOA):
        assert_denied(web().ask(name, qtype), "NXDOMAIN")


def test_A11_a_namespace_exists_as_long_as_a_service_is_in_it() -> None:
    cluster = Cluster(service("late/web", "10.96.1.1"))
    cluster.put(Namespace(metadata=ObjectMeta(name="late")))
    cluster.feed.namespace("late", None)
    cluster.flush()
    assert cluster.ask(f"web.late.svc.{ZONE}").status == "NOERROR"
    assert_denied(cluster.ask(f"late.svc.{ZONE}"), "NOERROR")
    cluster.feed.service("late/web", None)
    cluster.flush()
    assert_denied(cluster.ask(f"late.svc.{ZONE}"), "NXDOMAIN")


def test_A12_the_apex_has_soa_and_ns() -> None:
    cluster = web()
    assert cluster.ask(ZONE, RType.SOA).answers == [SOA.format(4)]
    reply = cluster.ask(ZONE, RType.NS)
    assert reply.answers == ["cluster.local. 5 NS ns.dns.cluster.local."]
    assert reply.additional == ["ns.dns.cluster.local. 5 A 10.96.0.10"]
    assert cluster.ask(f"ns.dns.{ZONE}").rdata == ["10.96.0.10"]


def test_A12_the_name_servers_are_the_services_found_by_our_address() -> None:
    cluster = Cluster(service("kube-system/kube-dns", "10.96.0.10", ports=("dns/UDP/53",)))
    reply = cluster.ask(ZONE, RType.NS)
    assert reply.rdata == ["kube-dns.kube-system.svc.cluster.local."]
    assert reply.additional == ["kube-dns.kube-system.svc.cluster.local. 5 A 10.96.0.10"]


def test_A12_or_by_an_endpoint_that_we_are() -> None:
    cluster = Cluster(
        service("kube-system/kube-dns", "10.96.0.10"),
        endpoint_slice("kube-system/kube-dns-1", "kube-dns", endpoint("10.244.0.2"), endpoint("10.244.1.2")),
        service("kube-system/dns-pods", "None"),
        endpoint_slice("kube-system/dns-pods-1", "dns-pods", endpoint("10.244.0.2", hostname="me")),
        own_addresses=["10.244.0.2"],
    )
    assert set(cluster.ask(ZONE, RType.NS).rdata) == {
        "kube-dns.kube-system.svc.cluster.local.",
        "me.dns-pods.kube-system.svc.cluster.local.",
    }


def test_A12_the_serial_moves_with_every_visible_change_and_no_other() -> None:
    def serial() -> int:
        return int(cluster.ask(ZONE, RType.SOA).rdata[0].split()[2])

    cluster = web()
    before = serial()
    cluster.put(service("demo/web", "10.96.1.1", "fd00:96::1", ports=("http/TCP/80", "dns/UDP/53")))
    assert serial() == before
    cluster.put(endpoint_slice("demo/nobodys", "nobody", endpoint("10.1.1.1")))
    assert serial() == before
    cluster.put(service("demo/web", "10.96.1.2"))
    assert serial() == before + 1


def test_A12_a_kept_denial_carries_the_serial_of_the_moment() -> None:
    cluster = web()
    for _ in range(3):
        cluster.ask(f"web.demo.svc.{ZONE}", RType.HTTPS)
        cluster.ask(f"nothing.demo.svc.{ZONE}")
        cluster.put(service("demo/other", f"10.96.2.{cluster.feed.zone.serial % 200 + 1}"))
        now = SOA.format(cluster.feed.zone.serial)
        assert cluster.ask(f"web.demo.svc.{ZONE}", RType.HTTPS).authority == [now]
        assert cluster.ask(f"nothing.demo.svc.{ZONE}").authority == [now]


def test_A12_the_soa_ttl_is_at_most_300() -> None:
    cluster = Cluster(naming=Naming(names.from_text(ZONE), ttl_s=3600))
    assert cluster.ask(ZONE, RType.SOA).answers[0].split()[1] == "300"


def test_A13_case_does_not_matter_and_is_echoed() -> None:
    cluster = web()
    message = query("WeB.dEmO.sVc.ClUsTeR.lOcAl")
    for _ in range(2):
        reply = cluster.send(message)
        assert reply is not None
        assert reply[12 : 12 + 28] == message[12 : 12 + 28]
        assert seen(reply).answers == ["WeB.dEmO.sVc.ClUsTeR.lOcAl. 5 A 10.96.1.1"]


PODS = (pod("demo/live", "10.244.1.2", "fd00::2"), pod("demo/done", "10.244.1.3", phase="Succeeded"))


@pytest.mark.parametrize(
    ("mode", "name", "qtype", "status", "rdata"),
    [
        pytest.param(PodsMode.DISABLED, "10-1-2-3.demo", RType.A, "NXDOMAIN", [], id="disabled"),
        pytest.param(PodsMode.DISABLED, "demo", RType.A, "NXDOMAIN", [], id="disabled, the namespace"),
        pytest.param(PodsMode.INSECURE, "10-1-2-3.demo", RType.A, "NOERROR", ["10.1.2.3"], id="any address"),
        pytest.param(PodsMode.INSECURE, "10-1-2-3.demo", RType.AAAA, "NOERROR", [], id="of one family"),
        pytest.param(PodsMode.INSECURE, "fd00--2.demo", RType.AAAA, "NOERROR", ["fd00::2"], id="IPv6"),
        pytest.param(PodsMode.INSECURE, "10-1-2-3.none", RType.A, "NXDOMAIN", [], id="no such namespace"),
        pytest.param(PodsMode.INSECURE, "10-1-2-333.demo", RType.A, "NXDOMAIN", [], id="no address"),
        pytest.param(PodsMode.INSECURE, "x.10-1-2-3.demo", RType.A, "NXDOMAIN", [], id="a label too many"),
        pytest.param(PodsMode.VERIFIED, "10-244-1-2.demo", RType.A, "NOERROR", ["10.244.1.2"], id="live"),
        pytest.param(PodsMode.VERIFIED, "fd00--2.demo", RType.AAAA, "NOERROR", ["fd00::2"], id="live, IPv6"),
        pytest.param(PodsMode.VERIFIED, "10-244-1-3.demo", RType.A, "NXDOMAIN", [], id="finished"),
        pytest.param(
            PodsMode.VERIFIED, "10-244-1-2.default", RType.A, "NXDOMAIN", [], id="of another namespace"
        ),
    ],
)
def test_A14_pods(mode: PodsMode, name: str, qtype: int, status: str, rdata: list[str]) -> None:
    reply = Cluster(*PODS, pods=mode).ask(f"{name}.pod.{ZONE}", qtype)
    assert (reply.status, reply.rdata) == (status, rdata)


def test_A14_a_pod_that_goes_is_not_verified_any_more() -> None:
    cluster = Cluster(*PODS, pods=PodsMode.VERIFIED)
    cluster.put(pod("demo/heir", "10.244.1.2"))
    cluster.feed.pod("demo/live", None)
    cluster.flush()
    assert cluster.ask(f"10-244-1-2.demo.pod.{ZONE}").status == "NOERROR"
    cluster.feed.pod("demo/heir", None)
    cluster.flush()
    assert cluster.ask(f"10-244-1-2.demo.pod.{ZONE}").status == "NXDOMAIN"


def test_A15_before_all_is_known_nothing_is_denied() -> None:
    cluster = Cluster(service("demo/web", "10.96.1.1"), complete=False)
    assert cluster.ask(f"web.demo.svc.{ZONE}").rdata == ["10.96.1.1"]
    for name, qtype in ((f"other.demo.svc.{ZONE}", RType.A), (f"web.demo.svc.{ZONE}", RType.AAAA)):
        reply = cluster.ask(name, qtype)
        assert (reply.status, reply.authority) == ("SERVFAIL", [])
        assert "aa" not in reply.flags
    cluster.feed.complete()
    cluster.flush()
    assert_denied(cluster.ask(f"other.demo.svc.{ZONE}"), "NXDOMAIN")


@pytest.mark.parametrize("qtype", [RType.A, RType.AAAA])
def test_B11_an_alias_to_nowhere_in_the_zone_is_nxdomain_with_the_alias(qtype: int) -> None:
    reply = Cluster(external("demo/alias", f"gone.demo.svc.{ZONE}")).ask(f"alias.demo.svc.{ZONE}", qtype)
    assert reply.status == "NXDOMAIN"
    assert reply.answers == ["alias.demo.svc.cluster.local. 5 CNAME gone.demo.svc.cluster.local."]
    assert len(reply.authority) == 1


@pytest.mark.parametrize("opt", [b"", PLAIN_OPT], ids=["without EDNS", "with EDNS"])
def test_B14_flags_of_our_own_answers(opt: bytes) -> None:
    reply = web().ask(f"web.demo.svc.{ZONE}", flags=RD | AD | CD, opt=opt)
    assert reply.flags == {"qr", "aa", "rd", "cd"}
    assert web().ask(f"web.demo.svc.{ZONE}", flags=0, opt=opt).flags == {"qr", "aa"}
    assert Cluster(upstream=True).ask(ZONE, RType.SOA, opt=opt).flags == {"qr", "aa", "rd", "ra"}


def test_a_service_that_becomes_another_kind_is_answered_as_what_it_is() -> None:
    cluster = Cluster(*HEADLESS)
    name = f"db.demo.svc.{ZONE}"
    assert len(cluster.ask(name).rdata) == 3
    cluster.put(external("demo/db", "www.example.com"))
    assert cluster.ask(name).rdata == ["www.example.com."]
    cluster.put(service("demo/db", "10.96.1.1"))
    assert cluster.ask(name).rdata == ["10.96.1.1"]


def test_what_cannot_be_read_is_told_once_and_spoils_nothing() -> None:
    broken = endpoint_slice("demo/db-1", "db", endpoint("10.1.1.1"), endpoint("not an address"))
    cluster = Cluster(service("demo/db", "None"), broken, service("demo/bad", "10.96.1.300"))
    assert cluster.ask(f"db.demo.svc.{ZONE}").rdata == ["10.1.1.1"]
    assert cluster.ignored == [
        "demo/db-1: address 'not an address' is no IPv4",
        "demo/bad: clusterIP '10.96.1.300' is not an address",
    ]
    cluster.put(service("demo/db", "None", ports=("other/TCP/1",)))
    assert len(cluster.ignored) == 2


def test_an_endpoint_whose_name_would_be_too_long_is_left_out() -> None:
    domain = names.from_labels([b"d" * 63, b"e" * 62])
    long, short = (endpoint(f"10.1.1.{last}", hostname="h" * last) for last in (63, 62))
    cluster = Cluster(
        service(f"demo/{'s' * 54}", "None"),
        endpoint_slice("demo/s-1", "s" * 54, long, short),
        naming=Naming(domain),
    )
    name = names.from_labels([b"s" * 54, b"demo", b"svc"])[:-1] + domain
    assert len(name) == 255 - 63
    assert cluster.ask(name).rdata == ["10.1.1.62"]
    pointer = cluster.ask("62.1.1.10.in-addr.arpa", RType.PTR)
    assert len(pointer.rdata[0]) == 254  # 255 octets on the wire
    assert cluster.ask("63.1.1.10.in-addr.arpa", RType.PTR).status == "NXDOMAIN"


def test_A16_a_service_without_ready_endpoints_can_be_hidden() -> None:
    naming = Naming(names.from_text(ZONE), hide_empty=True)
    cluster = Cluster(service("demo/web", "10.96.1.1"), naming=naming)
    assert cluster.ask(f"web.demo.svc.{ZONE}").status == "NXDOMAIN"
    cluster.put(endpoint_slice("demo/web-1", "web", endpoint("10.244.0.1")))
    assert cluster.ask(f"web.demo.svc.{ZONE}").rdata == ["10.96.1.1"]
    cluster.put(endpoint_slice("demo/web-1", "web", endpoint("10.244.0.1", ready=False)))
    assert cluster.ask(f"web.demo.svc.{ZONE}").status == "NXDOMAIN"


def test_A16_namespace_labels_show_what_is_in_a_namespace_that_matches() -> None:
    feed = ClusterFeed(
        ZoneConfig(Naming(names.from_text(ZONE)), PodsMode.INSECURE), serial=1, some_namespaces=True
    )
    feed.service("demo/web", service("demo/web", "10.96.1.1"))
    feed.complete()
    web = (b"web", b"demo")
    assert web not in feed.flush().zone.services
    feed.namespace("demo", Namespace(metadata=ObjectMeta(name="demo")))
    assert web in feed.flush().zone.services
    feed.namespace("demo", None)
    zone = feed.flush().zone
    assert web not in zone.services
    assert b"demo" not in zone.namespaces


def test_A14_a_pod_on_its_nodes_network_has_no_search_path_of_its_own() -> None:
    on_host = pod("demo/host", "10.0.0.1")
    on_host = msgspec.structs.replace(on_host, spec=PodSpec(host_network=True))
    cluster = Cluster(on_host, pods=PodsMode.VERIFIED)
    assert cluster.ask(f"10-0-0-1.demo.pod.{ZONE}").rdata == ["10.0.0.1"]
    assert cluster.feed.zone.search_path(bytes((10, 0, 0, 1))) == ()
