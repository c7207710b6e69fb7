"""Server blocks and plugins: who answers which name, and in which order they are asked."""

from pathlib import Path

import pytest

from dns import names
from dns.corefile import no_files, read_corefile
from dns.part import Part
from dns.plugins.registry import read_blocks
from dns.respond import Forwarding, Messages
from dns.site import Site
from dns.tally import MOST_KINDS
from dns.wire import RType
from tests.unit.dns.world import PLAIN_OPT, ZONE, Cluster, Seen, query, seen, service

KUBEADM = Path(__file__).parents[2] / "golden" / "kubeadm.Corefile"
WEB = f"web.demo.svc.{ZONE}"
KUBERNETES = "kubernetes cluster.local in-addr.arpa ip6.arpa"


def site(text: str, cluster: Cluster | None = None, hosts: tuple[str, ...] = ()) -> Site:
    blocks = read_blocks(read_corefile(text, "Corefile", env={}, read_files=no_files))
    cluster = cluster or Cluster(service("demo/web", "10.96.1.1"))
    zone = cluster.feed.zone
    return Site(53, [Part(each, zone if each.kubernetes else None, lambda n: 0, hosts) for each in blocks])


def ask(
    asked: Site, name: str, qtype: int = RType.A, *, opt: bytes = b"", client: str = "192.0.2.9"
) -> Seen | Forwarding | None:
    """Ask twice: the second time may come from what is kept, and must be the same."""
    first, second = (
        asked.respond(query(name, qtype, opt=opt), stream=False, client=client) for _ in range(2)
    )
    assert first == second
    assert not isinstance(first, Messages)
    return seen(first) if isinstance(first, bytes) else first


def status(asked: Site, name: str, qtype: int = RType.A, client: str = "192.0.2.9") -> str:
    reply = ask(asked, name, qtype, client=client)
    return "dropped" if reply is None else "forwarded" if isinstance(reply, Forwarding) else reply.status


def rdata(asked: Site, name: str, qtype: int = RType.A) -> list[str]:
    reply = ask(asked, name, qtype)
    assert isinstance(reply, Seen)
    return reply.rdata


def test_a_name_belongs_to_the_block_with_the_longest_zone() -> None:
    asked = site(f""". {{
        {KUBERNETES}
        forward . 192.0.2.1
    }}
    svc.{ZONE} {{
        template ANY ANY {{
            rcode REFUSED
        }}
    }}
    example.org {{
        forward . 192.0.2.2 192.0.2.3
    }}""")
    assert status(asked, WEB) == "REFUSED"
    assert status(asked, f"nothing.{ZONE}") == "NXDOMAIN"
    routes = {}
    for name in ("example.com", "www.example.org", "notexample.org"):
        reply = ask(asked, name)
        assert isinstance(reply, Forwarding)
        routes[name] = reply.route
    assert routes == {"example.com": 0, "www.example.org": 1, "notexample.org": 0}
    assert asked.part_of_route(1)[0] is asked.parts[2]


def test_a_name_of_no_block_is_refused() -> None:
    asked = site(f"{ZONE} {{\n {KUBERNETES}\n}}")
    assert status(asked, "example.com") == "REFUSED"
    assert rdata(asked, WEB) == ["10.96.1.1"]


def test_P_with_kubeadms_corefile_kept_replies_come_first() -> None:
    asked = site(KUBEADM.read_text(), Cluster(service("demo/web", "10.96.1.1"), upstream=True))
    assert asked.quick is not None
    assert rdata(asked, WEB) == ["10.96.1.1"]


def test_what_is_kept_is_used_only_where_nothing_stands_before_it() -> None:
    plain = site(f". {{\n {KUBERNETES}\n}}")
    assert plain.parts[0].plain
    for plugin in (
        "acl {\n  block\n }",
        "template ANY AAAA",
        "hosts {\n  192.0.2.1 x\n }",
        f"hosts {{\n  192.0.2.1 x.{ZONE}\n  fallthrough\n }}",
        f"rewrite name web.{ZONE} x.org",
        "rewrite name regex (.*) {1}",
        "rewrite type ANY HINFO",
        "rewrite name suffix .local .org",
        "minimal",
        "local",
    ):
        assert not site(f". {{\n {plugin}\n {KUBERNETES}\n}}").parts[0].plain
    for plugin in (
        "hosts {\n  192.0.2.1 x\n  fallthrough\n }",
        "rewrite name x.org web.demo.svc.cluster.local",
        "rewrite name suffix .corp .svc.cluster.local answer auto",
        "template IN A example.org",
        "chaos",
        "transfer {\n to *\n }",
    ):
        of_others = site(f". {{\n {plugin}\n {KUBERNETES}\n}}", Cluster(upstream=True))
        assert of_others.parts[0].plain, plugin


@pytest.mark.parametrize(
    ("rules", "client", "want"),
    [
        pytest.param("block net 192.0.2.0/24", "192.0.2.9", "REFUSED", id="blocked network"),
        pytest.param("block net 192.0.2.0/24", "198.51.100.1", "NOERROR", id="another network"),
        pytest.param("drop", "192.0.2.9", "dropped", id="dropped"),
        pytest.param("filter type A", "192.0.2.9", "NOERROR", id="filtered type"),
        pytest.param("allow net 192.0.2.9\n block", "192.0.2.9", "NOERROR", id="the first rule counts"),
        pytest.param("allow net 192.0.2.9\n block", "192.0.2.8", "REFUSED", id="then the second"),
        pytest.param("block net fd00::/8", "fd00::1", "REFUSED", id="IPv6"),
        pytest.param("block type AAAA", "192.0.2.9", "NOERROR", id="another type"),
    ],
)
def test_C16_an_acl_is_asked_before_anything_that_is_kept(rules: str, client: str, want: str) -> None:
    asked = site(f". {{\n {KUBERNETES}\n acl {{\n {rules}\n }}\n}}")
    asked.respond(query(WEB), stream=False, client="203.0.113.1")
    assert status(asked, WEB, client=client) == want


def test_C3_a_template_denies_a_type_without_denying_the_name() -> None:
    asked = site(f". {{\n template ANY AAAA\n {KUBERNETES}\n forward . 192.0.2.1\n}}")
    assert status(asked, "example.com", RType.AAAA) == "NOERROR"
    assert status(asked, "example.com") == "forwarded"
    assert rdata(asked, WEB) == ["10.96.1.1"]


def test_a_template_takes_names_that_match() -> None:
    template = 'template IN A example.org {\n  match "^a[0-9]"\n  rcode NXDOMAIN\n  fallthrough\n }'
    text = f". {{\n {template}\n forward . 192.0.2.1\n}}"
    asked = site(text)
    assert status(asked, "a1.example.org") == "NXDOMAIN"
    assert status(asked, "b1.example.org") == "forwarded"
    assert status(asked, "a1.example.com") == "forwarded"


def test_hosts_answer_before_the_cluster_and_fall_through() -> None:
    asked = site(
        f". {{\n hosts /some/file {{\n 192.0.2.7 {WEB} other\n fallthrough\n }}\n {KUBERNETES}\n}}",
        hosts=("# a comment", "2001:db8::1 other # rest", "nonsense x"),
    )
    assert rdata(asked, WEB) == ["192.0.2.7"]
    assert rdata(asked, "other", RType.AAAA) == ["2001:db8::1"]
    assert rdata(asked, "7.2.0.192.in-addr.arpa", RType.PTR) == [f"{WEB}.", "other."]
    assert status(asked, f"missing.demo.svc.{ZONE}") == "NXDOMAIN"


def test_hosts_without_fallthrough_deny_nothing() -> None:
    asked = site(". {\n hosts {\n 192.0.2.7 a.org\n }\n forward . 192.0.2.1\n}")
    assert status(asked, "b.org") == "SERVFAIL"


def test_local_answers_localhost() -> None:
    asked = site(". {\n local\n forward . 192.0.2.1\n}")
    assert rdata(asked, "localhost") == ["127.0.0.1"]
    assert rdata(asked, "localhost", RType.AAAA) == ["::1"]
    assert rdata(asked, "1.0.0.127.in-addr.arpa", RType.PTR) == ["localhost."]
    assert status(asked, "localhost", RType.MX) == "NOERROR"


def test_bufsize_and_minimal_make_replies_smaller() -> None:
    many = service("demo/many", *[f"10.96.2.{n}" for n in range(1, 60)])
    asked = site(f". {{\n bufsize 512\n {KUBERNETES}\n}}", Cluster(many))
    reply = ask(asked, f"many.demo.svc.{ZONE}", opt=PLAIN_OPT)
    assert isinstance(reply, Seen)
    assert reply.size <= 512
    assert "tc" in reply.flags
    minimal = ask(site(f". {{\n minimal\n {KUBERNETES}\n}}"), f"_http._tcp.{WEB}", RType.SRV)
    assert isinstance(minimal, Seen)
    assert (len(minimal.answers), minimal.additional) == (1, [])


def test_P6_the_first_forward_that_takes_a_name_is_asked_and_not_for_what_is_excepted() -> None:
    asked = site(""". {
        forward . 192.0.2.1 {
            except secret.org
        }
        forward example.org 192.0.2.2
    }""")
    reply = ask(asked, "www.example.org")
    assert isinstance(reply, Forwarding)
    assert reply.route == 0
    assert status(asked, "www.secret.org") == "REFUSED"


def test_P8_our_own_probe_that_comes_back_ends_forwarding() -> None:
    asked = site(f". {{\n {KUBERNETES}\n loop\n forward . 192.0.2.1\n}}")
    asked.parts[0].probe = names.from_text("probe.example")
    for _ in range(3):
        asked.respond(query("probe.example", RType.HINFO), stream=False, client="192.0.2.9")
    assert status(asked, "example.com") == "SERVFAIL"
    assert rdata(asked, WEB) == ["10.96.1.1"]


def test_P5_queries_are_counted_by_kind_and_invented_types_do_not_fill_memory() -> None:
    asked = site(f". {{\n {KUBERNETES}\n}}")
    for qtype in range(1, 2000):
        asked.respond(query(WEB, qtype), stream=False, client="192.0.2.9")
    counts = list(asked.tallies["."].items())
    assert sum(sum(ways) for _, ways in counts) == 1999
    assert len(counts) <= MOST_KINDS + 2


def test_P9_other_blocks_take_over_between_two_queries() -> None:
    asked = site(". {\n forward . 192.0.2.1\n}")
    assert status(asked, WEB) == "forwarded"
    asked.use(site(f". {{\n {KUBERNETES}\n}}").parts)
    assert rdata(asked, WEB) == ["10.96.1.1"]
