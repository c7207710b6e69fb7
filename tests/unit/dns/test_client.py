"""The query tool: what it takes from the command line, and how it shows answers."""

from ipaddress import ip_address
from pathlib import Path

import pytest

from dns import names
from dns.client import Server, _result, parse_server, parse_type, system_server
from dns.relay import read_reply
from kubenet.errors import InvalidInput, NotFound
from tests.unit.dns.world import ZONE, Cluster, query, service


@pytest.mark.parametrize(
    ("text", "server"),
    [
        pytest.param("10.96.0.10", Server(ip_address("10.96.0.10"), 53), id="IPv4"),
        pytest.param("10.96.0.10:5353", Server(ip_address("10.96.0.10"), 5353), id="IPv4 and port"),
        pytest.param("fd00::a", Server(ip_address("fd00::a"), 53), id="IPv6"),
        pytest.param("[fd00::a]", Server(ip_address("fd00::a"), 53), id="IPv6 in brackets"),
        pytest.param("[fd00::a]:5353", Server(ip_address("fd00::a"), 5353), id="IPv6 and port"),
    ],
)
def test_a_server_is_spelled(text: str, server: Server) -> None:
    assert parse_server(text) == server


@pytest.mark.parametrize(
    "text", ["", "example.com", "10.0.0.1:x", "10.0.0.1:70000", "10.0.0.1:0", "1.2.3", "[::1"]
)
def test_what_is_no_server_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_server(text)


@pytest.mark.parametrize(("text", "number"), [("a", 1), ("SRV", 33), ("TYPE65", 65), ("type65535", 65535)])
def test_a_type_is_spelled(text: str, number: int) -> None:
    assert parse_type(text) == number


@pytest.mark.parametrize("text", ["", "B", "TYPE65536", "forward", "__init__"])
def test_what_is_no_type_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_type(text)


def test_the_system_has_a_server(tmp_path: Path) -> None:
    resolv_conf = tmp_path / "resolv.conf"
    resolv_conf.write_text("# x\nsearch a.b\nnameserver fe80::1%eth0\nnameserver 10.0.0.2\n")
    assert system_server(resolv_conf) == Server(ip_address("10.0.0.2"))
    resolv_conf.write_text("search a.b\n")
    with pytest.raises(NotFound):
        system_server(resolv_conf)
    with pytest.raises(NotFound):
        system_server(tmp_path / "none")


def test_an_answer_is_shown_as_dig_does() -> None:
    reply = Cluster(service("demo/web", "10.96.1.1")).send(query(f"_http._tcp.web.demo.svc.{ZONE}", 33))
    assert reply is not None
    server = Server(ip_address("10.96.0.10"))
    shown = str(_result(server, read_reply(reply), tcp=False, elapsed_ms=0.25))
    assert shown == (
        ";; status: NOERROR, id: 4711, flags: qr aa rd; ANSWER: 1, AUTHORITY: 0, ADDITIONAL: 1\n\n"
        ";; QUESTION\n;_http._tcp.web.demo.svc.cluster.local.\tIN\tSRV\n\n"
        ";; ANSWER\n"
        "_http._tcp.web.demo.svc.cluster.local.\t5\tIN\tSRV\t0 100 80 web.demo.svc.cluster.local.\n\n"
        ";; ADDITIONAL\nweb.demo.svc.cluster.local.\t5\tIN\tA\t10.96.1.1\n\n"
        ";; 0.2 ms, 117 bytes from 10.96.0.10#53 over UDP"
    )


@pytest.mark.parametrize(
    ("rtype", "content", "spelled"),
    [
        pytest.param(1, b"\x0a\0\0", "\\# 3 0a0000", id="an address of three octets"),
        pytest.param(2, b"\x02\xff\xfe\0", "\\# 4 02fffe00", id="a name that is not UTF-8"),
        pytest.param(35, b"\0\0\0\0\0\0\0" + b"\xc0\x07" * 20, "\\# 47", id="pointers to pointers"),
        pytest.param(65280, b"abc", "\\# 3 616263", id="a type without a name"),
    ],
)
def test_a_content_that_dnslib_cannot_read_is_spelled_in_the_general_form(
    rtype: int, content: bytes, spelled: str
) -> None:
    head = b"\0\x01\x80\0\0\x01\0\x01\0\0\0\0" + names.from_text("x") + b"\0\x01\0\x01"
    record = (
        b"\xc0\x0c"
        + rtype.to_bytes(2, "big")
        + b"\0\x01\0\0\0\x05"
        + len(content).to_bytes(2, "big")
        + content
    )
    result = _result(Server(ip_address("10.0.0.1")), read_reply(head + record), tcp=True, elapsed_ms=1)
    assert result.answers[0].content.startswith(spelled)
