"""The fast path says what the slow path says, and keeps nothing that is not true any more."""

import struct
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dns import names
from dns.feed import ClusterFeed
from dns.read import Naming
from dns.respond import Responder
from dns.tally import UDP
from dns.wire import AD, CD, RD, RType
from dns.zone import ZoneConfig
from kubenet.model.objects import EndpointSlice, Service
from tests.unit.dns.world import (
    PLAIN_OPT,
    ZONE,
    Cluster,
    endpoint,
    endpoint_slice,
    external,
    query,
    service,
)

NAMESPACES = ("demo", "prod")
SERVICES = ("web", "db", "a")
LABELS = ("_http", "http", "_tcp", "tcp", "host", "10-1-1-1", "x", "*")

clients = st.lists(
    st.builds(
        lambda last, hostname, ready: endpoint(f"10.1.1.{last}", hostname=hostname, ready=ready),
        st.integers(1, 60),
        st.sampled_from(["", "host"]),
        st.sampled_from([None, False]),
    ),
    max_size=60,
)


@st.composite
def objects(draw: st.DrawFn) -> list[Service | EndpointSlice]:
    """Some Services of every kind, some of them with endpoints."""
    made: list[Service | EndpointSlice] = []
    for namespace in NAMESPACES:
        for name in SERVICES:
            key = f"{namespace}/{name}"
            kind = draw(st.sampled_from(["none", "ip", "both", "headless", "alias"]))
            ports = draw(st.sampled_from([(), ("http/TCP/80",), ("http/TCP/80", "/UDP/53")]))
            last = draw(st.integers(1, 250))
            if kind == "alias":
                made.append(external(key, draw(st.sampled_from([f"web.demo.svc.{ZONE}", "example.com"]))))
            elif kind != "none":
                ips = {"ip": (f"10.96.0.{last}",), "both": (f"10.96.0.{last}", f"fd00::{last:x}")}
                made.append(service(key, *ips.get(kind, ("None",)), ports=ports))
                made.append(endpoint_slice(f"{key}-1", name, *draw(clients), ports=ports))
    return made


@st.composite
def asked_names(draw: st.DrawFn) -> str:
    labels = draw(st.lists(st.sampled_from(LABELS), max_size=3))
    below = [draw(st.sampled_from((*SERVICES, "none"))), draw(st.sampled_from((*NAMESPACES, "none")))]
    tree = draw(st.sampled_from(["svc", "pod", "dns"]))
    whole = [*labels, *below, tree][draw(st.integers(0, 3)) :]
    return ".".join([*whole, draw(st.sampled_from([ZONE, ZONE, ZONE, "example.com", "1.1.10.in-addr.arpa"]))])


def opts() -> st.SearchStrategy[bytes]:
    def record(size: int, version: int, flags: int, options: bytes) -> bytes:
        return b"\0" + struct.pack("!HHBBHH", 41, size, 0, version, flags, len(options)) + options

    cookie = st.integers(0, 41).map(lambda length: struct.pack("!HH", 10, length) + b"c" * length)
    options = st.sampled_from([b"", b"", struct.pack("!HH", 11, 0), b"\0\x03\0\x05abc"]) | cookie
    sizes = st.sampled_from([0, 511, 512, 700, 1232, 4096, 65535])
    return st.builds(
        record, sizes, st.sampled_from([0, 0, 0, 1]), st.sampled_from([0, 0x8000, 0x00FF]), options
    )


def in_random_case(name: bytes, bits: int) -> bytes:
    return (
        b"".join(
            bytes((len(label),))
            + bytes(
                octet ^ 0x20 if chr(octet).isalpha() and bits >> (at % 31) & 1 else octet
                for at, octet in enumerate(label)
            )
            for label in names.to_labels(name)
        )
        + b"\0"
    )


messages = st.builds(
    lambda name, bits, qtype, opt, flags, ident, junk: (
        query(in_random_case(names.from_text(name), bits), qtype, opt=opt, flags=flags, ident=ident) + junk
    ),
    asked_names(),
    st.integers(0, 2**31 - 1),
    st.sampled_from(
        [RType.A, RType.AAAA, RType.SRV, RType.HTTPS, RType.ANY, RType.TXT, RType.OPT, RType.AXFR]
    ),
    st.just(b"") | opts(),
    st.sampled_from([0, RD, RD | AD, RD | CD, RD | AD | CD, 0x0040, 0x0800]),
    st.integers(0, 65535),
    st.sampled_from([b"", b"", b"", b"\0"]),
)


@settings(max_examples=80, deadline=None)
@given(objects(), st.lists(messages, min_size=1, max_size=30), st.integers(0, 1000), st.booleans())
def test_fast_and_slow_replies_are_the_same_octets(
    world: list[Service | EndpointSlice], asked: list[bytes], turn: int, stream: bool
) -> None:
    cluster = Cluster(*world, namespaces=NAMESPACES)
    cluster.turn = turn
    for message in asked:
        cluster.responder.respond(message, stream=stream)  # this fills the table
        for variant in (message, message + b"\0", message[:-1], message[:12] + message[12:].swapcase()):
            fast = cluster.responder.respond(variant, stream=stream)
            assert fast == cluster.responder.respond_slowly(variant, stream=stream)


def every_name(cluster: Cluster) -> Iterator[bytes]:
    """Give all names that exist in the cluster, and below each one that does not."""
    zone = cluster.feed.zone
    found = [names.from_text(text) for text in (ZONE, f"svc.{ZONE}", f"pod.{ZONE}", f"dns-version.{ZONE}")]
    found += [names.prefixed(namespace) + found[1] for namespace in zone.namespaces]
    for key in zone.services:
        service = zone.services.get(key)
        assert service is not None
        found += [service.host_name(label) for label in (b"", *service.hosts)]
        found += [
            names.prefixed(b"_" + port.name) + names.prefixed(b"_" + port.protocol) + service.name
            for port in (*service.ports, *service.host_ports)
        ]
    found += [names.reverse_name(packed) for packed in zone.owners]
    found += [names.from_text(f"10-1-1-1.demo.pod.{ZONE}")]
    for name in found:
        yield name
        yield b"\x06absent" + name


EDNS_FORMS = (
    b"",
    *(b"\0" + struct.pack("!HHIH", 41, size, 0, 0) for size in (0, 511, 512, 513, 1232, 1400, 4096, 65535)),
    b"\0" + struct.pack("!HHIH", 41, 1232, 0x8000, 0),  # DO
    b"\0" + struct.pack("!HHIH", 41, 1232, 0x7FFF, 0),  # flags that nobody defined
    b"\0" + struct.pack("!HHIH", 41, 1232, 0x10000, 0),  # version 1
    *(
        b"\0" + struct.pack("!HHIH", 41, 1232, 0, len(option)) + option
        for option in (
            struct.pack("!HH", 10, 8) + b"cookie42",
            struct.pack("!HH", 10, 7) + b"cookie4",
            struct.pack("!HH", 11, 0),
            struct.pack("!HH", 3, 0),
            struct.pack("!HHHBB", 8, 4, 1, 0, 0),
            b"\0\x0c\0\xff",  # runs over the end
        )
    ),
    2 * PLAIN_OPT,
    b"\x01x" + PLAIN_OPT,
)


@settings(max_examples=12, deadline=None)
@given(objects(), st.integers(0, 2**31 - 1), st.integers(0, 1000), st.booleans())
def test_E3_all_names_in_any_case_with_every_form_of_edns_get_the_same_octets(
    world: list[Service | EndpointSlice], bits: int, turn: int, stream: bool
) -> None:
    cluster = Cluster(*world, namespaces=NAMESPACES)
    cluster.turn = turn
    respond, slowly = cluster.responder.respond, cluster.responder.respond_slowly
    forms = EDNS_FORMS[bits % 3 :: 3] + EDNS_FORMS[:1]
    for name in every_name(cluster):
        for rtype in (RType.A, RType.AAAA, RType.SRV, RType.PTR):
            respond(query(name, rtype), stream=stream)
            for opt in forms:
                message = query(in_random_case(name, bits), rtype, opt=opt)
                assert respond(message, stream=stream) == slowly(message, stream=stream), message.hex()


@settings(max_examples=40, deadline=None)
@given(objects(), objects(), st.lists(messages, min_size=1, max_size=30))
def test_after_a_change_nothing_of_before_is_told(
    before: list[Service | EndpointSlice], after: list[Service | EndpointSlice], asked: list[bytes]
) -> None:
    cluster = Cluster(*before, namespaces=NAMESPACES)
    for message in asked * 2:
        cluster.responder.respond(message, stream=False)
    kept = {each.metadata.key for each in after}
    for each in before:
        if each.metadata.key not in kept:
            take = cluster.feed.service if isinstance(each, Service) else cluster.feed.endpoint_slice
            take(each.metadata.key, None)
    cluster.put(*after)
    for message in asked:
        now = cluster.responder.respond(message, stream=False)
        assert now == cluster.responder.respond_slowly(message, stream=False)


def slow_count(cluster: Cluster, message: bytes) -> int:
    before = cluster.responder.counters.slow
    cluster.send(message)
    return cluster.responder.counters.slow - before


NAME = f"web.demo.svc.{ZONE}"


@pytest.mark.parametrize(
    ("asked", "qtype"),
    [
        pytest.param(NAME, RType.A, id="an address"),
        pytest.param(NAME, RType.AAAA, id="NODATA"),
        pytest.param(NAME, RType.HTTPS, id="what browsers ask"),
        pytest.param(f"_http._tcp.{NAME}", RType.SRV, id="a port"),
        pytest.param(f"gone.demo.svc.{ZONE}", RType.A, id="NXDOMAIN"),
        pytest.param(f"www.example.com.demo.svc.{ZONE}", RType.A, id="NXDOMAIN, by a search path"),
        pytest.param("1.1.1.1.in-addr.arpa", RType.PTR, id="NXDOMAIN, reverse"),
    ],
)
@pytest.mark.parametrize("opt", [b"", PLAIN_OPT, PLAIN_OPT[:-2] + b"\0\x0c\0\x0a\0\x08cookie42"])
def test_the_second_query_is_fast_whatever_its_case(asked: str, qtype: int, opt: bytes) -> None:
    cluster = Cluster(service("demo/web", "10.96.1.1"))
    assert slow_count(cluster, query(asked, qtype, opt=opt)) == 1
    assert slow_count(cluster, query(asked.upper(), qtype, opt=opt, ident=1)) == 0
    assert slow_count(cluster, query(asked, qtype, flags=RD | CD | AD)) == 0


def test_a_big_headless_service_is_fast_over_udp_too() -> None:
    hosts = [endpoint(f"10.1.{n // 250}.{n % 250 + 1}") for n in range(1000)]
    cluster = Cluster(service("demo/db", "None"), endpoint_slice("demo/db-1", "db", *hosts))
    message = query(f"db.demo.svc.{ZONE}", opt=PLAIN_OPT)
    assert slow_count(cluster, message) == 1
    assert slow_count(cluster, message) == 0


def test_another_denial_of_the_same_length_is_fast_though_never_asked_before() -> None:
    cluster = Cluster(service("demo/web", "10.96.1.1"))
    assert slow_count(cluster, query(f"aaaa.demo.svc.{ZONE}")) == 1
    assert slow_count(cluster, query(f"bbbb.demo.svc.{ZONE}")) == 0


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(
            query(b"\x5b" + b"a" * 91 + b"\x03svc\x07cluster\x05local\0"), id="a label of 91 octets"
        ),
        pytest.param(
            query(names.from_text(f"{'a' * 60}.{'b' * 30}.svc.{ZONE}"), RType.AXFR), id="a transfer"
        ),
        pytest.param(
            query(names.from_text(f"{'a' * 60}.{'b' * 30}.svc.{ZONE}"), RType.OPT), id="OPT as a type"
        ),
        pytest.param(
            query(names.from_text(f"{'a' * 60}.{'b' * 30}.svc.{ZONE}"))[:-1] + b"\3", id="another class"
        ),
    ],
)
def test_where_denials_are_fast_what_is_no_denial_is_still_seen(message: bytes) -> None:
    cluster = Cluster(service("demo/web", "10.96.1.1"))
    denied = query(f"{'a' * 60}.{'a' * 30}.svc.{ZONE}")
    assert len(denied) == len(message)
    slow_count(cluster, denied)
    assert slow_count(cluster, denied) == 0
    assert slow_count(cluster, message) == 1


def test_a_change_of_one_service_leaves_the_others_fast() -> None:
    cluster = Cluster(service("demo/web", "10.96.1.1"), service("demo/db", "10.96.1.2"))
    web, db = query(NAME), query(f"db.demo.svc.{ZONE}")
    cluster.send(web)
    cluster.send(db)
    cluster.put(service("demo/web", "10.96.1.3"))
    assert slow_count(cluster, db) == 0
    assert slow_count(cluster, web) == 1


def test_the_table_is_bounded_by_what_exists() -> None:
    """Neither invented names, nor types, nor cases, nor EDNS forms make it grow."""
    cluster = Cluster(service("demo/web", "10.96.1.1"))
    for number in range(2000):
        cluster.send(query(f"n{number}.demo.svc.{ZONE}"))
        cluster.send(query(NAME, number))
        cluster.send(query(in_random_case(names.from_text(NAME), number * 7919)))
        cluster.send(query(NAME, opt=b"\0\0\x29" + struct.pack("!H", number) + bytes(6)))
    fast = cluster.responder.fast
    assert len(fast) <= 4
    assert len(fast._soa) <= 5
    assert len(fast._opts) <= 64
    for _ in range(3):
        cluster.feed.service("demo/web", None)
        cluster.flush()
        assert len(fast) == 0
        assert not fast._of_service


def test_a_message_without_the_end_of_a_name_is_no_denial() -> None:
    """Every octet of the header could pass for a type and class."""
    cluster = Cluster(service("demo/web", "10.96.1.1"))
    cluster.ask(f"x.demo.svc.{ZONE}")
    message = b"\0\x01\x01\x00\x00\x01" + bytes(6) + b"\x05abc"
    assert cluster.responder.fast.reply(message, UDP) is None
    assert cluster.responder.fast.reply(b"\0\x01\x00\x01\x00\x01" + bytes(6), UDP) is None


def test_invented_names_leave_little_behind() -> None:
    cluster = Cluster(service("demo/web", "10.96.1.1"))
    for n in range(5000):
        cluster.send(query(f"a.x{n}.demo.svc.{ZONE}"))
    assert len(cluster.responder.fast._parents) <= 4096  # the bound itself is what is promised


def test_the_top_of_a_zone_inside_another_is_not_denied_by_the_outer_one() -> None:
    config = ZoneConfig(
        Naming(names.from_text(ZONE)), reverse=(names.IN_ADDR_ARPA, names.from_text("10.in-addr.arpa"))
    )
    feed = ClusterFeed(config, serial=1)
    feed.complete()
    feed.flush()
    responder = Responder(feed.zone, lambda n: 0, forwards=False)
    for name in (
        "1.2.3.11.in-addr.arpa",
        "x.11.in-addr.arpa",
        "x.10.in-addr.arpa",
        "10.in-addr.arpa",
        "x.in-addr.arpa",
    ):
        for _ in range(2):
            message = query(name, RType.PTR)
            assert responder.respond(message, stream=False) == responder.respond_slowly(message, stream=False)
