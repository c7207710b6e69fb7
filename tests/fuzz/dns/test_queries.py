"""Hostile queries: nothing that comes in makes an error of ours, a reply to no query, or a big reply."""

import struct

import pytest

from dns.respond import Forwarding
from dns.wire import HEADER_BYTES, TCP_BYTES, UDP_BYTES, RType, read_question
from tests.fuzz.dns.mutate import inputs
from tests.unit.dns.world import (
    PLAIN_OPT,
    ZONE,
    Cluster,
    endpoint,
    endpoint_slice,
    external,
    query,
    seen,
    service,
)

pytestmark = pytest.mark.fuzz

NAMES = (
    f"web.demo.svc.{ZONE}",
    f"_http._tcp.db.demo.svc.{ZONE}",
    f"out.demo.svc.{ZONE}",
    f"1-2-3-4.demo.pod.{ZONE}",
    "1.1.96.10.in-addr.arpa",
    "1.0.0.0.ip6.arpa",
    "example.com",
    ".",
)
COOKIE = PLAIN_OPT[:-2] + struct.pack("!HHH", 12, 10, 8) + b"cookie42"
SEEDS = [
    query(name, rtype, opt=opt)
    for name in NAMES
    for rtype in (RType.A, RType.SRV, RType.PTR, RType.ANY)
    for opt in (b"", PLAIN_OPT, COOKIE)
]


def hostile_cluster() -> Cluster:
    hosts = [endpoint(f"10.1.{n >> 8}.{n & 255}") for n in range(300)]
    return Cluster(
        service("demo/web", "10.96.1.1", "fd00::1"),
        service("demo/db", "None"),
        endpoint_slice("demo/db-1", "db", *hosts),
        external("demo/out", "example.com"),
        upstream=True,
    )


def test_C_no_query_breaks_the_server_and_both_paths_agree(fuzz_seconds: float) -> None:
    cluster = hostile_cluster()
    for message in inputs(SEEDS, fuzz_seconds):
        for stream in (False, True):
            reply = cluster.responder.respond(message, stream=stream)
            if isinstance(reply, Forwarding):
                continue
            assert reply == cluster.responder.respond_slowly(message, stream=stream), message.hex()
            if reply is None:
                assert len(message) < HEADER_BYTES or message[2] & 0x80, message.hex()
                continue
            assert reply[:2] == message[:2]
            assert reply[2] & 0x80
            assert len(reply) <= (TCP_BYTES if stream else UDP_BYTES), message.hex()


def test_C_every_reply_can_be_read_by_somebody_else(fuzz_seconds: float) -> None:
    """dnslib reads all of what we write, whatever it was that we were asked."""
    cluster = hostile_cluster()
    for message in inputs(SEEDS, fuzz_seconds):
        reply = cluster.responder.respond(message, stream=False)
        if isinstance(reply, bytes) and showable(reply):
            try:
                seen(reply)
            except Exception as error:
                raise AssertionError(message.hex()) from error


def showable(reply: bytes) -> bool:
    """Return whether dnslib can show the name that is echoed: it refuses octets above 127."""
    return not reply[5] or max(read_question(reply)[0].name) < 128
