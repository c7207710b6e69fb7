"""What does not fit between the records and the kernel."""

from collections.abc import Sequence
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from ipam.audit import findings
from ipam.record import AllocationRecord, Phase, Stored, Unreadable
from kubenet.model.links import Link, LinkKind, LinkState, Route, state_of

ONE = AllocationRecord("k1", (ip_address("10.244.1.2"),), container_id="c1", ifname="eth0", pod="demo/web")
HELD_TOO = AllocationRecord("k2", ONE.addresses, container_id="c2", ifname="eth0")
LINK = Link("k1", LinkKind.VETH)
ROUTE = Route(ip_network("10.244.1.2/32"), "k1")
ASTRAY = Route(ip_network("10.244.1.2/32"), "k9")


@pytest.mark.parametrize(
    ("stored", "unreadable", "node", "said"),
    [
        pytest.param([Stored(ONE, Phase.ATTACHED)], [], state_of(LINK, ROUTE), "", id="all is well"),
        pytest.param([Stored(ONE, Phase.ATTACHED)], [], state_of(), "link k1 is gone", id="link gone"),
        pytest.param([Stored(ONE, Phase.DYING)], [], state_of(), "dying was not finished", id="unfinished"),
        pytest.param(
            [Stored(ONE, Phase.ATTACHED)],
            [],
            state_of(LINK, ASTRAY),
            "leads to k9 instead",
            id="route astray",
        ),
        pytest.param(
            [Stored(ONE, Phase.ATTACHED), Stored(HELD_TOO, Phase.ATTACHED)],
            [],
            state_of(LINK, Link("k2", LinkKind.VETH), ROUTE),
            "hold the same address",
            id="held twice",
        ),
        pytest.param([], [Unreadable(Path("/x/k3.attached"), "k3", "torn")], state_of(), "torn", id="torn"),
    ],
)
def test_everything_that_does_not_fit_is_told(
    stored: Sequence[Stored], unreadable: Sequence[Unreadable], node: LinkState, said: str
) -> None:
    found = list(findings(stored, unreadable, node))
    assert bool(found) == bool(said)
    assert said in (found[0] if found else "")
