"""Zones as files have them: how they are read, and what they say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dns import names
from dns.answer import Answer
from dns.wire import Rcode, RType
from dns.zonefile import Alias, FileZone, read_zone
from kubenet.errors import InvalidInput

ORIGIN = names.from_text("example.org")
TEXT = r"""
$TTL 1h
@        IN  SOA ns1 hostmaster ( 2024010101 ; serial
                2h 1h 2w 5m )
         IN  NS  ns1
         86400 IN NS ns2.example.org.
ns1      A   192.0.2.1
ns2  300 IN  A   192.0.2.2
www      in  a   192.0.2.3
             AAAA 2001:db8::1
*.wild   TXT "a \"b\"; c" d
*.wild   MX  10 www
deep.under.here A 192.0.2.4
alias    CNAME www
sub      NS  ns.sub
         NS  ns.elsewhere.net.
ns.sub   A   192.0.2.9
d        DNAME example.net.
_http._tcp SRV 0 5 80 www
@        CAA 0 issue "letsencrypt.org"
gen      TYPE65280 \# 4 0A00 0001
ssh      SSHFP 1 1 123456789abcdef67890123456789abcdef67890
$ORIGIN other.example.org.
@        A   192.0.2.10
dot\.in  A   192.0.2.11
"""


@pytest.fixture(scope="module")
def zone() -> FileZone:
    return read_zone(TEXT, ORIGIN, "db")


def find(zone: FileZone, name: str, rtype: int) -> Answer | Alias:
    return zone.find(names.from_text(f"{name}.example.org" if name else "example.org"), rtype)


def told(zone: FileZone, name: str, rtype: int = RType.A) -> tuple[str, list[bytes]]:
    found = find(zone, name, rtype)
    assert isinstance(found, Answer)
    return found.rcode.name, [content for rrset in found.answers for content in rrset.contents]


def test_records_are_read_in_all_their_forms(zone: FileZone) -> None:
    assert told(zone, "www") == ("NOERROR", [bytes((192, 0, 2, 3))])
    assert told(zone, "www", RType.AAAA)[1] == [bytes.fromhex("20010db8000000000000000000000001")]
    assert told(zone, "x.wild", RType.TXT)[1] == [b'\x08a "b"; c\x01d']
    assert told(zone, "gen", 65280)[1] == [bytes((10, 0, 0, 1))]
    assert told(zone, "", RType.CAA)[1] == [b"\0\x05issueletsencrypt.org"]
    assert told(zone, "_http._tcp", RType.SRV)[1] == [
        b"\0\0\0\x05\0\x50" + names.from_text("www.example.org")
    ]
    assert told(zone, "ssh", RType.SSHFP)[1][0].startswith(b"\x01\x01\x12\x34")
    assert told(zone, "other")[1] == [bytes((192, 0, 2, 10))]
    assert told(zone, r"dot\.in.other")[1] == [bytes((192, 0, 2, 11))]


def test_ttls_and_the_soa_record(zone: FileZone) -> None:
    assert zone.serial == 2024010101
    ns2, ns = find(zone, "ns2", RType.A), find(zone, "", RType.NS)
    assert isinstance(ns2, Answer)
    assert isinstance(ns, Answer)
    assert (ns2.answers[0].ttl_s, ns.answers[0].ttl_s) == (300, 3600)  # a set has one TTL: the least
    denied = find(zone, "none", RType.A)
    assert isinstance(denied, Answer)
    assert (denied.rcode, denied.authority[0].ttl_s) == (Rcode.NXDOMAIN, 300)


@pytest.mark.parametrize(
    ("name", "rtype", "status"),
    [
        ("none", RType.A, "NXDOMAIN"),
        ("www", RType.MX, "NOERROR"),
        ("under.here", RType.A, "NOERROR"),
        ("x.under.here", RType.A, "NXDOMAIN"),
        ("wild", RType.TXT, "NOERROR"),
        ("x.wild", RType.A, "NOERROR"),
        ("a.b.wild", RType.MX, "NOERROR"),
        ("x.www", RType.A, "NXDOMAIN"),
    ],
)
def test_what_is_not_there_is_denied_and_what_stands_above_others_is_not(
    zone: FileZone, name: str, rtype: int, status: str
) -> None:
    assert told(zone, name, rtype)[0] == status


def test_a_wildcard_takes_the_name_that_is_asked(zone: FileZone) -> None:
    found = find(zone, "a.b.wild", RType.MX)
    assert isinstance(found, Answer)
    assert found.answers[0].owner == names.from_text("a.b.wild.example.org")
    assert {rrset.owner for rrset in found.additional} == {names.from_text("www.example.org")}


def test_below_a_cut_the_way_is_shown(zone: FileZone) -> None:
    for name in ("sub", "a.b.sub"):
        found = find(zone, name, RType.A)
        assert isinstance(found, Answer)
        assert (found.answers, found.authoritative) == ((), False)
        assert found.authority[0].rtype == RType.NS
        assert [rrset.contents for rrset in found.additional] == [(bytes((192, 0, 2, 9)),)]
    assert told(zone, "sub", RType.DS)[0] == "NOERROR"


def test_aliases_lead_on(zone: FileZone) -> None:
    alias, through = find(zone, "alias", RType.A), find(zone, "x.d", RType.A)
    assert isinstance(alias, Alias)
    assert alias.target == names.from_text("www.example.org")
    assert isinstance(through, Alias)
    assert through.target == names.from_text("x.example.net")
    assert [rrset.rtype for rrset in through.records] == [RType.DNAME, RType.CNAME]
    itself = find(zone, "alias", RType.CNAME)
    assert isinstance(itself, Answer)
    assert itself.answers[0].contents == (names.from_text("www.example.org"),)


def test_a_name_that_a_dname_makes_too_long_says_so() -> None:
    long = ".".join(["x" * 62] * 3)
    zone = read_zone(f"@ SOA n h 1 2 3 4 5\nd DNAME {long}.net.\n", ORIGIN, "db")
    found = zone.find(names.from_text("y" * 63 + ".d.example.org"), RType.A)
    assert isinstance(found, Answer)
    assert found.rcode == Rcode.YXDOMAIN


@pytest.mark.parametrize(
    ("text", "want"),
    [
        pytest.param("www A 192.0.2.1", "db: the zone example.org. needs one SOA record", id="no SOA"),
        pytest.param("@ SOA n h 1 2 3 4 5\nwww A 192.0.2.300", "db:2: cannot read", id="address"),
        pytest.param("@ SOA n h 1 2 3 4 5\n\nwww A", "db:3: cannot read", id="no content"),
        pytest.param("@ SOA n h 1 2 3 4 5\nwww", "db:2: a record needs", id="no type"),
        pytest.param("@ SOA n h 1 2 3 4 5\nwww QQ x", "db:2: type 'QQ': unknown", id="type"),
        pytest.param("@ SOA n h 1 2 3 4 5\nx.net. A 192.0.2.1", "db:2: x.net. is not in", id="foreign"),
        pytest.param("@ SOA n h 1 2 3 4 5\nw A 192.0.2.1\nw CNAME x", "db:3: w.example.org. has", id="alias"),
        pytest.param("$INCLUDE x", "db:1: $INCLUDE is not done yet", id="include"),
        pytest.param("@ CH SOA n h 1 2 3 4 5", "db:1: class CH", id="class"),
    ],
)
def test_D7_what_is_wrong_is_said_with_its_line(text: str, want: str) -> None:
    with pytest.raises(InvalidInput) as error:
        read_zone(text, ORIGIN, "db")
    assert str(error.value).startswith(want)


def test_all_records_are_given_with_the_soa_at_both_ends(zone: FileZone) -> None:
    records = list(zone.records())
    assert records[0] == records[-1] == zone.soa
    assert sum(rrset.rtype == RType.SOA for rrset in records) == 2
    assert len({(rrset.owner, rrset.rtype) for rrset in records[1:-1]}) == len(records) - 2


@given(st.text(alphabet='@.$\\"();#ab1 \t\nASOTXMCN-*', max_size=120))
def test_any_text_is_a_zone_or_an_error_with_its_file(text: str) -> None:
    try:
        where = str(read_zone("@ SOA n h 1 2 3 4 5\n" + text, ORIGIN, "db").find(ORIGIN, RType.SOA))
    except InvalidInput as error:
        where = str(error)
    assert where.startswith(("db", "Answer"))
