"""Plugins that shape questions and answers, each through a whole server block."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dns import names
from dns.chain import Origin
from dns.part import Part
from dns.plugins.querylog import Told, line_of
from dns.plugins.registry import DONE
from dns.relay import read_reply
from dns.respond import Forwarding
from dns.site import Site
from dns.wire import QR, RA, Query, RType, option, read_query
from dns.zone import PodsMode
from kubenet.errors import InvalidInput
from tests.unit.dns.test_corefile import blocks
from tests.unit.dns.test_site import KUBERNETES, WEB, ask, rdata, site, status
from tests.unit.dns.world import (
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


def block(*lines: str) -> str:
    return ". {\n" + "\n".join(lines) + "\n}"


def answered(asked: Site, name: str, qtype: int = RType.A, *, client: str = "192.0.2.9") -> Seen:
    reply = ask(asked, name, qtype, client=client)
    assert isinstance(reply, Seen)
    return reply


def upstream(waiting: Forwarding, *records: tuple[int, bytes], rcode: int = 0) -> bytes:
    """Return an upstream server's reply to what is asked."""
    question = waiting.ask.question
    header = struct.pack("!6H", 1, QR | RA | rcode, 1, len(records), 0, 0)
    body = b"".join(
        b"\xc0\x0c" + struct.pack("!HHIH", rtype, 1, 300, len(content)) + content
        for rtype, content in records
    )
    return header + question.wire + body


def completed(
    asked: Site, waiting: Forwarding, *records: tuple[int, bytes], rcode: int = 0
) -> "Seen | Forwarding":
    part, _ = asked.part_of_route(waiting.route)
    reply = part.complete(waiting, read_reply(upstream(waiting, *records, rcode=rcode)))
    assert isinstance(reply, bytes | Forwarding)
    return seen(reply) if isinstance(reply, bytes) else reply


def forwarded(asked: Site, name: str, qtype: int = RType.A, client: str = "192.0.2.9") -> Forwarding:
    reply = asked.respond(query(name, qtype), stream=False, client=client)
    assert isinstance(reply, Forwarding)
    return reply


# rewrite


@pytest.mark.parametrize(
    ("rule", "asked_for", "becomes"),
    [
        pytest.param("name a.org b.org", "A.org", "b.org.", id="exact"),
        pytest.param("name exact a.org b.org", "x.a.org", "x.a.org.", id="exact, not below"),
        pytest.param("name prefix old- new-", "old-www.a.org", "new-www.a.org.", id="prefix"),
        pytest.param("name suffix .a.org .b.net", "www.a.org", "www.b.net.", id="suffix"),
        pytest.param("name substring us-west eu", "x.us-west.a.org", "x.eu.a.org.", id="substring"),
        pytest.param(
            r"name regex (.*)-(us)\.a\.org {1}.service.{2}.b", "ftp-us.a.org", "ftp.service.us.b.", id="regex"
        ),
        pytest.param(
            "continue name a.org b.org\n rewrite name b.org c.org", "a.org", "c.org.", id="continue"
        ),
        pytest.param("stop name a.org b.org\n rewrite name b.org c.org", "a.org", "b.org.", id="stop"),
        pytest.param(
            "name a.org b.org\n rewrite name b.org c.org", "a.org", "b.org.", id="stop is the default"
        ),
        pytest.param("name z.org b.org\n rewrite name a.org c.org", "a.org", "c.org.", id="the next rule"),
    ],
)
def test_rewrite_asks_for_another_name(rule: str, asked_for: str, becomes: str) -> None:
    asked = site(block(f"rewrite {rule}", "forward . 192.0.2.1"))
    assert names.to_text(forwarded(asked, asked_for).ask.question.name) == becomes


def test_rewrite_of_an_exact_name_answers_under_the_name_that_was_asked() -> None:
    asked = site(block(f"rewrite name shop.example.com {WEB}", KUBERNETES))
    assert answered(asked, "shop.example.com").answers == ["shop.example.com. 5 A 10.96.1.1"]


def test_rewrite_to_a_name_of_many_addresses_is_right_each_time() -> None:
    turns = iter(range(100))
    cluster = Cluster(
        service("demo/db", "None"),
        endpoint_slice("demo/db-1", "db", endpoint("10.0.0.1"), endpoint("10.0.0.2"), endpoint("10.0.0.3")),
    )
    (parsed,) = blocks(block(f"rewrite name suffix .corp .svc.{ZONE}", KUBERNETES))
    asked = Site(53, [Part(parsed, cluster.feed.zone, lambda count: next(turns) % count)])
    for name in ("db.demo.corp", f"db.demo.svc.{ZONE}") * 3:
        reply = asked.respond(query(name), stream=False, client="192.0.2.9")
        assert isinstance(reply, bytes)
        assert {line.split()[0] for line in seen(reply).answers} == {f"db.demo.svc.{ZONE}."}
        assert sorted(seen(reply).rdata) == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]


def test_rewrite_of_a_suffix_answers_as_it_is_told() -> None:
    kept = site(block(f"rewrite name suffix .corp .svc.{ZONE}", KUBERNETES))
    assert answered(kept, "web.demo.corp").answers == [f"{WEB}. 5 A 10.96.1.1"]
    auto = site(block(f"rewrite name suffix .corp .svc.{ZONE} answer auto", KUBERNETES))
    assert answered(auto, "web.demo.corp").answers == ["web.demo.corp. 5 A 10.96.1.1"]
    assert answered(auto, "_http._tcp.web.demo.corp", RType.SRV).rdata == ["0 100 80 web.demo.corp."]


def test_rewrite_by_regex_with_its_answer_in_a_block() -> None:
    asked = site(
        block(
            "rewrite stop {",
            r"  name regex (.*)-(us)\.example\.org {1}.service.{2}.consul",
            r"  answer name (.*)\.service\.(us)\.consul {1}-{2}.example.org",
            "}",
            "forward . 192.0.2.1",
        )
    )
    reply = completed(asked, forwarded(asked, "ftp-us.example.org"), (RType.A, bytes((10, 1, 2, 3))))
    assert isinstance(reply, Seen)
    assert reply.answers == ["ftp-us.example.org. 300 A 10.1.2.3"]


def test_rewrite_of_type_class_ttl_and_code() -> None:
    asked = site(
        block(
            "rewrite continue type ANY A",
            "rewrite class CH IN",
            f"rewrite continue ttl suffix {ZONE} 30-60",
            f"rewrite rcode exact none.demo.svc.{ZONE} NXDOMAIN NOERROR",
            KUBERNETES,
        )
    )
    assert answered(asked, WEB, RType.ANY).answers == [f"{WEB}. 30 A 10.96.1.1"]
    assert status(asked, f"none.demo.svc.{ZONE}") == "NOERROR"
    message = query(WEB)[:-1] + b"\x03"
    reply = asked.respond(message, stream=False, client="192.0.2.9")
    assert isinstance(reply, bytes)
    assert reply[12 : 12 + len(message) - 12].endswith(b"\0\x01\0\x03")
    assert seen(reply).rdata == ["10.96.1.1"]


@pytest.mark.parametrize(
    ("rule", "code", "want"),
    [
        pytest.param("local set 0xffee 0x61626364", 0xFFEE, b"abcd", id="hexadecimal"),
        pytest.param("local set 0xffee abcd", 0xFFEE, b"abcd", id="text"),
        pytest.param("local append 0xffee {client_ip}", 0xFFEE, bytes((192, 0, 2, 9)), id="variable"),
        pytest.param("nsid set", 3, b"", id="nsid"),
        pytest.param("subnet set 24 56", 8, b"\0\x01\x18\0\xc0\0\x02", id="subnet"),
    ],
)
def test_rewrite_asks_with_options_of_edns(rule: str, code: int, want: bytes) -> None:
    asked = site(block(f"rewrite edns0 {rule}", "forward . 192.0.2.1"))
    assert option(forwarded(asked, "example.org").ask.options, code) == want


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        pytest.param(r"^[[:alpha:]]+[.]org[.]\z", True, id="class and end"),
        pytest.param(r"^[^[:digit:]]+$", True, id="class, negated"),
        pytest.param(r"^(?<label>abc)[.]", True, id="group"),
        pytest.param(r"(?<=abc)[.]org", True, id="what stands before stays what it is"),
        pytest.param(r"^\\zabc", False, id="an escaped backslash"),
    ],
)
def test_patterns_are_read_as_go_reads_them(pattern: str, matches: bool) -> None:
    asked = site(
        block(f"template IN A {{\n match {pattern}\n rcode NXDOMAIN\n fallthrough\n}}", "forward . 192.0.2.1")
    )
    assert status(asked, "abc.org") == ("NXDOMAIN" if matches else "forwarded")


def test_rewrite_to_what_is_no_name_fails_and_does_not_crash() -> None:
    asked = site(block("rewrite name regex (.*) {1}{1}{1}{1}", "forward . 192.0.2.1"))
    assert status(asked, "a" * 63 + ".example.org") == "SERVFAIL"


# template


def test_template_makes_records_of_the_name() -> None:
    asked = site(
        block(
            "template IN A example {",
            r"  match (^|[.])ip-(?P<a>[0-9]*)-(?P<b>[0-9]*)-(?P<c>[0-9]*)-(?P<d>[0-9]*)[.]example[.]$",
            '  answer "{{ .Name }} 60 IN A {{ .Group.a }}.{{ .Group.b }}.{{ .Group.c }}.{{ .Group.d }}"',
            '  authority "{{ .Zone }} 60 IN NS ns.example."',
            '  additional "ns.example. 60 IN A 192.0.2.53"',
            "  fallthrough",
            "}",
            "forward . 192.0.2.1",
        )
    )
    reply = answered(asked, "x.ip-10-1-2-3.example")
    assert reply.answers == ["x.ip-10-1-2-3.example. 60 A 10.1.2.3"]
    assert (reply.authority, reply.additional) == (
        ["example. 60 NS ns.example."],
        ["ns.example. 60 A 192.0.2.53"],
    )
    assert status(asked, "ip-10-1-2-300.example") == "SERVFAIL"
    assert status(asked, "other.example") == "forwarded"


def test_template_denies_with_a_soa_record_and_a_reason() -> None:
    asked = site(
        block(
            "template ANY ANY invalid {",
            "  rcode NXDOMAIN",
            '  authority "invalid. 60 {{ .Class }} SOA ns.invalid. hostmaster.invalid. (1 60 60 60 60)"',
            '  ederror 21 "Blocked"',
            "}",
        )
    )
    reply = answered(asked, "x.invalid")
    assert (reply.status, len(reply.authority)) == ("NXDOMAIN", 1)
    message = query("x.invalid", opt=b"\0" + struct.pack("!HHIH", 41, 1232, 0, 0))
    told = asked.respond(message, stream=False, client="192.0.2.9")
    assert isinstance(told, bytes)
    assert told.endswith(b"\0\x0f\0\x09\0\x15Blocked")


def test_template_reads_hexadecimal_and_follows_its_alias() -> None:
    asked = site(
        block(
            "template IN A example {",
            '  match "^ip0a(?P<b>[a-f0-9]{2})(?P<c>[a-f0-9]{2})(?P<d>[a-f0-9]{2})[.]example[.]$"',
            '  answer "{{ .Name }} 60 IN A 10.{{ parseInt .Group.b 16 8 }}.{{ parseInt .Group.c 16 8 }}'
            '.{{ parseInt .Group.d 16 8 }}"',
            "  fallthrough",
            "}",
            "template IN ANY foogle.com {",
            f'  answer "foogle.com 60 IN CNAME {WEB}"',
            "}",
            KUBERNETES,
        )
    )
    assert rdata(asked, "ip0a7b7b7b.example") == ["10.123.123.123"]
    assert rdata(asked, "foogle.com") == [f"{WEB}.", "10.96.1.1"]


# header, any, chaos, nsid, acl


def test_header_sets_and_clears_flags() -> None:
    asked = site(block("header {\n  set ra\n  clear aa rd\n}", KUBERNETES))
    assert answered(asked, WEB).flags == {"qr", "ra"}


def test_B10_any_says_that_it_says_nothing() -> None:
    reply = site(block("any", KUBERNETES)).respond(query(WEB, RType.ANY), stream=False, client="192.0.2.9")
    assert isinstance(reply, bytes)
    assert reply.endswith(b"\0\x0d\0\x01\0\0\x21\x22\0\x1b\x0dANY obsoleted\x0cSee RFC 8482")


@pytest.mark.parametrize(
    ("name", "want"),
    [
        ("version.bind", b"v1"),
        ("version.server", b"v1"),
        ("hostname.bind", b"kubenet"),
        ("authors.bind", b"me"),
    ],
)
def test_B4_chaos_tells_of_the_server(name: str, want: bytes) -> None:
    asked = site(block("chaos v1 me", KUBERNETES))
    reply = asked.respond(query(name, RType.TXT)[:-1] + b"\x03", stream=False, client="192.0.2.9")
    assert isinstance(reply, bytes)
    assert reply.endswith(b"\0\x10\0\x03\0\0\0\0" + struct.pack("!HB", len(want) + 1, len(want)) + want)


def test_nsid_is_told_to_those_who_ask() -> None:
    asked = site(block("nsid here", KUBERNETES))
    wants = b"\0" + struct.pack("!HHIH", 41, 1232, 0, 4) + b"\0\x03\0\0"
    reply = asked.respond(query(WEB, opt=wants), stream=False, client="192.0.2.9")
    assert isinstance(reply, bytes)
    assert reply.endswith(b"\0\x03\0\x04here")
    silent = asked.respond(query(WEB), stream=False, client="192.0.2.9")
    assert isinstance(silent, bytes)
    assert b"here" not in silent


def test_C16_an_acl_sees_the_rewritten_name_and_those_of_a_search_path() -> None:
    cluster = Cluster(
        service("demo/web", "10.96.1.1"),
        service("other/db", "10.96.1.2"),
        pod("demo/client", "10.244.0.9"),
        namespaces=("demo", "other"),
        pods=PodsMode.VERIFIED,
    )
    asked = site(
        block(
            f"rewrite name alias.org db.other.svc.{ZONE}",
            f"acl other.svc.{ZONE} {{\n block\n}}",
            "autopath @kubernetes",
            f"{KUBERNETES} {{\n pods verified\n}}",
        ),
        cluster,
    )
    assert status(asked, "alias.org") == "REFUSED"
    assert rdata_for(asked, f"db.other.demo.svc.{ZONE}", "10.244.0.9") == ("NXDOMAIN", [])


def test_whoami_tells_who_asks() -> None:
    asked = site(block("whoami", "forward example.org 192.0.2.1"))
    reply = asked.respond(query("x.test"), stream=False, client="192.0.2.9", port=4242)
    assert isinstance(reply, bytes)
    assert seen(reply).additional == ["x.test. 0 A 192.0.2.9", "_udp.x.test. 0 SRV 0 0 4242 ."]
    assert status(asked, "www.example.org") == "forwarded"


# autopath, dns64


def rdata_for(asked: Site, name: str, client: str, qtype: int = RType.A) -> tuple[str, list[str]]:
    reply = ask(asked, name, qtype, client=client)
    assert isinstance(reply, Seen)
    return reply.status, reply.rdata


def test_C2_autopath_answers_the_first_question_of_a_search() -> None:
    cluster = Cluster(
        service("demo/web", "10.96.1.1"),
        service("other/db", "10.96.1.2"),
        pod("demo/client", "10.244.0.9"),
        pod("demo/finished", "10.244.0.10", phase="Succeeded"),
        namespaces=("demo", "other"),
        pods=PodsMode.VERIFIED,
    )
    asked = site(
        block("autopath @kubernetes", f"{KUBERNETES} {{\n pods verified\n}}", "forward . 192.0.2.1"), cluster
    )
    found = rdata_for(asked, f"db.other.demo.svc.{ZONE}", "10.244.0.9")
    assert found == ("NOERROR", [f"db.other.svc.{ZONE}.", "10.96.1.2"])
    for stranger in ("10.244.0.10", "192.0.2.9"):
        assert rdata_for(asked, f"db.other.demo.svc.{ZONE}", stranger)[0] == "NXDOMAIN"
    outside = forwarded(asked, f"example.com.demo.svc.{ZONE}", client="10.244.0.9")
    assert names.to_text(outside.ask.question.name) == "example.com."
    reply = completed(asked, outside, (RType.A, bytes((192, 0, 2, 80))))
    assert isinstance(reply, Seen)
    assert reply.rdata == ["example.com.", "192.0.2.80"]
    missing = completed(asked, outside, rcode=3)
    assert isinstance(missing, Seen)
    assert (missing.status, missing.authority[0].split()[0]) == ("NXDOMAIN", f"{ZONE}.")


def test_C2_autopath_knows_nobody_while_an_address_changes_hands() -> None:
    cluster = Cluster(
        service("other/db", "10.96.1.2"),
        pod("demo/old", "10.244.0.9"),
        pod("other/new", "10.244.0.9"),
        namespaces=("demo", "other"),
        pods=PodsMode.VERIFIED,
    )
    assert cluster.feed.zone.search_path(bytes((10, 244, 0, 9))) == ()
    cluster.feed.pod("demo/old", None)
    path = [names.to_text(name) for name in cluster.feed.zone.search_path(bytes((10, 244, 0, 9)))]
    assert path == [f"other.svc.{ZONE}.", f"svc.{ZONE}.", f"{ZONE}.", "."]


def test_dns64_makes_addresses_of_others() -> None:
    asked = site(block("dns64", KUBERNETES, "forward . 192.0.2.1"))
    assert rdata_for(asked, WEB, "fd00::1", RType.AAAA) == ("NOERROR", ["64:ff9b::a60:101"])
    assert rdata_for(asked, WEB, "192.0.2.9", RType.AAAA) == ("NOERROR", [])
    assert status(asked, f"none.demo.svc.{ZONE}", RType.AAAA, "fd00::1") == "NXDOMAIN"
    again = completed(asked, forwarded(asked, "example.com", RType.AAAA, "fd00::1"))
    assert isinstance(again, Forwarding)
    assert again.ask.question.qtype == RType.A
    reply = completed(asked, again, (RType.A, bytes((192, 0, 2, 1))))
    assert isinstance(reply, Seen)
    assert reply.answers == ["example.com. 300 AAAA 64:ff9b::c000:201"]
    six = completed(
        asked, forwarded(asked, "example.com", RType.AAAA, "fd00::1"), (RType.AAAA, bytes(15) + b"\x09")
    )
    assert isinstance(six, Seen)
    assert six.rdata == ["::9"]


def test_dns64_takes_other_prefixes_and_clients() -> None:
    asked = site(block("dns64 2001:db8::/32 {\n  allow_ipv4\n  translate_all\n}", KUBERNETES))
    assert rdata(asked, WEB, RType.AAAA) == ["2001:db8:a60:101::"]


# view


def test_view_sends_each_client_to_its_block() -> None:
    asked = site(
        """. {
            view one {
                expr incidr(client_ip(), '127.0.0.0/24')
            }
            hosts {
                1.1.1.1 test
            }
        }
        . {
            view two {
                expr type() in ['A', 'MX'] && name() matches '^te(st|xt)\\\\.$'
                expr !(client_ip() startsWith '10.' or proto() == 'tcp')
            }
            hosts {
                2.2.2.2 test
            }
        }
        . {
            hosts {
                3.3.3.3 test
            }
        }"""
    )
    found = {
        client: rdata_for(asked, "test", client)[1] for client in ("127.0.0.9", "192.168.0.1", "10.0.0.1")
    }
    assert found == {"127.0.0.9": ["1.1.1.1"], "192.168.0.1": ["2.2.2.2"], "10.0.0.1": ["3.3.3.3"]}


def test_C15_a_namespace_can_have_a_view_of_its_own() -> None:
    cluster = Cluster(
        service("demo/web", "10.96.1.1"),
        pod("demo/client", "10.244.0.9"),
        pod("other/client", "10.244.0.10"),
        namespaces=("demo", "other"),
        pods=PodsMode.VERIFIED,
    )
    verified = f"{KUBERNETES} {{\n pods verified\n }}"
    own = "view own {\n expr metadata('kubernetes/client-namespace') == 'demo'\n }"
    others = f"acl demo.svc.{ZONE} {{\n block\n }}"
    asked = site(block(own, verified) + "\n" + block(others, verified), cluster)
    assert rdata_for(asked, WEB, "10.244.0.9") == ("NOERROR", ["10.96.1.1"])
    for stranger in ("10.244.0.10", "192.0.2.9"):
        assert rdata_for(asked, WEB, stranger) == ("REFUSED", [])


def test_view_never_answers_from_what_is_kept_for_others() -> None:
    cluster = Cluster(service("demo/web", "10.96.1.1"))
    asked = site(
        f". {{\n view v {{\n expr client_ip() == '192.0.2.66'\n }}\n acl {{\n block\n }}\n {KUBERNETES}\n}}\n"
        f". {{\n {KUBERNETES}\n}}",
        cluster,
    )
    assert rdata(asked, WEB) == ["10.96.1.1"]
    assert status(asked, WEB, client="192.0.2.66") == "REFUSED"


@pytest.mark.parametrize(
    "text",
    [
        "name(",
        "name() ==",
        "nothing()",
        "name() matches '('",
        "name() name()",
        "§",
        "'a",
        "(true",
        "[1",
        "incidr(name())",
    ],
)
def test_D7_a_wrong_expression_is_an_error_of_its_line(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"^Corefile:3: expr: expression"):
        blocks(f". {{\n view v {{\n expr {text}\n }}\n}}")


# log


def told(name: str = WEB, *, reply: bytes | None = None) -> Told:
    read = read_query(query(name))
    assert isinstance(read, Query)
    answer = asked_plainly().respond(query(name), stream=False, client="::1")
    assert isinstance(answer, bytes)
    return Told(read, Origin("fd00::9", 4242, False, 45), reply or answer, 0.0125, {"k8s/ns": "demo"})


def asked_plainly() -> Site:
    return site(block(KUBERNETES))


def logged(text: str, which: Told) -> str | None:
    (parsed,) = blocks(block(text))
    return line_of(parsed.logs, which)


def test_log_writes_the_common_format() -> None:
    want = f'[fd00::9]:4242 - 4711 "A IN {WEB}. udp 45 false 512" NOERROR qr,aa,rd 59 0.012500000s'
    line = logged("log", told())
    assert line is not None
    assert line.replace(line.split()[-2], "59") == want
    combined = logged("log . {combined}", told())
    assert combined is not None
    assert '4711 0 "A IN' in combined


def test_log_writes_what_a_format_says() -> None:
    assert (
        logged('log . "{proto} Request: {name} {type} {>id} {/k8s/ns} {/k8s/none}"', told())
        == f"udp Request: {WEB}. A 4711 demo -"
    )


@pytest.mark.parametrize(
    ("options", "name", "want"),
    [
        ("class denial", WEB, False),
        ("class denial", f"none.demo.svc.{ZONE}", True),
        ("class success", WEB, True),
        ("class denial\n class success", WEB, True),
        ("class error", f"none.demo.svc.{ZONE}", False),
        ("class error\n minDuration 10ms", WEB, True),
        ("class error\n minDuration 20ms", WEB, False),
        ("class all error", WEB, True),
    ],
)
def test_log_tells_some_classes_and_what_is_slow(options: str, name: str, want: bool) -> None:
    assert (logged(f"log . {{\n {options}\n}}", told(name)) is not None) == want


def test_log_tells_some_zones() -> None:
    assert logged("log example.org", told()) is None


# names outside the cluster behind an ExternalName


def test_A10_an_external_name_finds_what_other_plugins_know() -> None:
    cluster = Cluster(external("demo/out", "db.corp"), endpoint_slice("demo/x", "x", endpoint("10.0.0.1")))
    asked = site(block("hosts {\n 192.0.2.5 db.corp\n fallthrough\n}", KUBERNETES), cluster)
    assert rdata(asked, f"out.demo.svc.{ZONE}") == ["db.corp.", "192.0.2.5"]


# loadbalance, and the order of plugins


def test_P10_addresses_and_mail_exchangers_are_turned_and_aliases_stay_first() -> None:
    turns = iter(range(100))
    cluster = Cluster(
        service("demo/db", "None"),
        endpoint_slice("demo/db-1", "db", endpoint("10.0.0.1"), endpoint("10.0.0.2"), endpoint("10.0.0.3")),
        external("demo/out", f"db.demo.svc.{ZONE}"),
    )
    (parsed,) = blocks(block("loadbalance round_robin", KUBERNETES))
    part = Part(parsed, cluster.feed.zone, lambda count: next(turns) % count)
    asked = Site(53, [part])
    firsts = set()
    for _ in range(6):
        reply = asked.respond(query(f"out.demo.svc.{ZONE}"), stream=False, client="192.0.2.9")
        assert isinstance(reply, bytes)
        alias, *addresses = seen(reply).rdata
        assert alias == f"db.demo.svc.{ZONE}."
        assert sorted(addresses) == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
        firsts.add(addresses[0])
    assert len(firsts) == 3


def test_P_the_order_of_plugins_is_fixed_whatever_the_order_in_the_file() -> None:
    lines = [
        KUBERNETES,
        "forward . 192.0.2.1",
        f"hosts {{\n 192.0.2.1 {WEB}\n fallthrough\n}}",
        f'template IN A {ZONE} {{\n match ^web\n answer "{{{{ .Name }}}} A 192.0.2.2"\n fallthrough\n}}',
        f"rewrite name alias.org {WEB}",
    ]
    for order in (lines, lines[::-1]):
        assert rdata(site(block(*order)), "alias.org") == ["192.0.2.2"]
        rest = site(block(*(line for line in order if "template" not in line)))
        assert rdata(rest, "alias.org") == ["192.0.2.1"]


# kept replies behind plugins


_BESIDE = {
    "acl": "acl {\n block net 203.0.113.0/24\n}",
    "template": "template ANY AAAA {\n rcode NOERROR\n}",
    "rewrite": "rewrite name regex ^x(.*) y{1}",
    "ttl": f"rewrite ttl suffix none.{ZONE} 60",
    "hosts": f"hosts {{\n 192.0.2.1 static.demo.svc.{ZONE}\n fallthrough\n}}",
    "log": "log",
    "nsid": "nsid here",
    "bufsize": "bufsize 512",
    "header": "header {\n set ra\n}",
    "minimal": "minimal",
    "dns64": "dns64 {\n allow_ipv4\n}",
    "any": "any",
}


@pytest.mark.parametrize("plugin", _BESIDE)
def test_what_is_kept_behind_a_plugin_is_what_would_be_decided(plugin: str) -> None:
    endpoints = [endpoint(f"10.0.0.{number}") for number in range(1, 60)]
    cluster = Cluster(
        service("demo/web", "10.96.1.1"),
        service("demo/db", "None"),
        endpoint_slice("demo/db-1", "db", *endpoints),
    )
    asked = site(block(_BESIDE[plugin], KUBERNETES), cluster)
    part = asked.parts[0]
    cluster.responder.move = part.responder.move  # type: ignore[method-assign]  # the part follows the cluster
    opt = b"\0" + struct.pack("!HHIH", 41, 1232, 0, 4) + b"\0\x03\0\0"
    questions = [
        query(f"{label}.demo.svc.{ZONE}", qtype, opt=each)
        for label in ("web", "db", "none", "static", "xweb")
        for qtype in (RType.A, RType.AAAA, RType.SRV, RType.ANY)
        for each in (b"", opt)
    ]
    for change in ("10.96.1.1", "10.96.1.9"):
        cluster.put(service("demo/web", change))
        for message in questions:
            fresh = site(block(_BESIDE[plugin], KUBERNETES), cluster)
            want = fresh.respond(message, stream=False, client="192.0.2.9")
            for _ in range(3):
                assert asked.respond(message, stream=False, client="192.0.2.9") == want


def test_what_is_kept_behind_a_plugin_is_counted_once() -> None:
    asked = site(block(_BESIDE["acl"], KUBERNETES))
    for _ in range(5):
        asked.respond(query(WEB), stream=False, client="192.0.2.9")
    counts = {key: list(numbers) for key, numbers in asked.parts[0].tallies.items() if sum(numbers)}
    assert counts == {(RType.A, 0, "kubernetes"): [5, 0, 0, 0]}


# whatever stands in a Corefile


_WORDS = st.sampled_from(
    (
        *(
            "name",
            "regex",
            "suffix",
            "ttl",
            "edns0",
            "local",
            "set",
            "0xffee",
            "continue",
            "answer",
            "auto",
            "A",
        ),
        *(
            "(.*)",
            "{1}",
            "example.org",
            "IN",
            "ANY",
            "match",
            "rcode",
            "NXDOMAIN",
            "{{ .Name }}",
            "60",
            "to",
            "*",
        ),
        *(
            "net",
            "type",
            "block",
            "expr",
            "name()",
            "==",
            "'a'",
            "&&",
            "class",
            "denial",
            "{common}",
            "5s",
            "-",
        ),
    )
)


@given(
    st.sampled_from(sorted(DONE)),
    st.lists(_WORDS, max_size=5),
    st.lists(st.lists(_WORDS, min_size=1, max_size=5), max_size=3),
)
def test_any_words_are_settings_or_an_error_with_its_line(
    plugin: str, args: list[str], options: list[list[str]]
) -> None:
    inner = "".join(f"  {' '.join(words)}\n" for words in options)
    text = f". {{\n {plugin} {' '.join(args)}" + (f" {{\n{inner} }}" if options else "") + "\n}"
    try:
        parsed, where = blocks(text), "Corefile:"
    except InvalidInput as error:
        parsed, where = (), str(error)
    assert where.startswith("Corefile:")
    if not parsed:
        return
    asked = Site(53, [Part(each, None, lambda count: 0) for each in parsed])
    for name in ("www.example.org", "a" * 63 + ".example.org", "."):
        for qtype in (RType.A, RType.ANY, RType.TXT):
            asked.respond(query(name, qtype), stream=False, client="192.0.2.9")
