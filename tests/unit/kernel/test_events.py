"""A notification says what changed, and where."""

from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubenet.kernel import codec, uapi
from kubenet.kernel.events import Changed, Subject, changed
from kubenet.kernel.netlink import CodecError, Message
from kubenet.model.links import FdbEntry, Link, LinkKind, Neighbor, Route

MAC = "0e:00:00:00:00:01"
NAMES = {3: "eth0"}
LINK = codec.new_link(Link("eth0", LinkKind.BRIDGE), index=3).body
PORT = codec.IFINFOMSG.pack(uapi.AF_BRIDGE, 1, 3, 0, 0)
ADDRESS = codec.new_address(3, IPv4Interface("10.0.0.1/8")).body
ROUTE = codec.new_route(Route(IPv4Network("10.9.0.0/16"), "eth0"), 3).body
NEIGHBOR = codec.new_neighbor(3, Neighbor("eth0", IPv4Address("10.0.0.2"), MAC)).body
FDB = codec.new_fdb(3, FdbEntry("eth0", MAC, IPv4Address("10.0.0.2"))).body


@pytest.mark.parametrize(
    ("kind", "body", "event"),
    [
        pytest.param(uapi.RTM_NEWLINK, LINK, Changed(Subject.LINK, "eth0"), id="link"),
        pytest.param(uapi.RTM_DELLINK, LINK, Changed(Subject.LINK, "eth0", gone=True), id="link gone"),
        pytest.param(uapi.RTM_DELLINK, PORT, Changed(Subject.LINK, "eth0"), id="port left its bridge"),
        pytest.param(uapi.RTM_NEWADDR, ADDRESS, Changed(Subject.ADDRESS, "eth0"), id="address"),
        pytest.param(
            uapi.RTM_DELADDR, ADDRESS, Changed(Subject.ADDRESS, "eth0", gone=True), id="address gone"
        ),
        pytest.param(uapi.RTM_NEWROUTE, ROUTE, Changed(Subject.ROUTE, "eth0", 254), id="route"),
        pytest.param(uapi.RTM_DELROUTE, ROUTE, Changed(Subject.ROUTE, "eth0", 254, True), id="route gone"),
        pytest.param(uapi.RTM_NEWNEIGH, NEIGHBOR, Changed(Subject.NEIGHBOR, "eth0"), id="neighbour"),
        pytest.param(uapi.RTM_NEWNEIGH, FDB, Changed(Subject.FDB, "eth0"), id="forwarding entry"),
        pytest.param(
            uapi.RTM_DELNEIGH, FDB, Changed(Subject.FDB, "eth0", gone=True), id="forwarding entry gone"
        ),
        pytest.param(uapi.RTM_NEWNSID, b"", None, id="nothing of ours"),
    ],
)
def test_a_notification_is_told(kind: int, body: bytes, event: Changed | None) -> None:
    assert changed(Message(kind, 0, 0, body), NAMES) == event


def test_a_link_whose_name_is_not_known_yet_has_none() -> None:
    assert changed(Message(uapi.RTM_NEWNEIGH, 0, 0, FDB), {}) == Changed(Subject.FDB, "")


@given(st.sampled_from([*range(16, 31), 88, 89]), st.binary(max_size=64))
def test_any_notification_is_told_or_a_codec_error(kind: int, body: bytes) -> None:
    try:
        changed(Message(kind, 0, 0, body), NAMES)
    except CodecError:
        pass
