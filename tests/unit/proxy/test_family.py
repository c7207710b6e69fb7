"""One family's syncs: the short way, the long way after anything doubtful, and nothing lost on either."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubenet.errors import KubenetError
from kubenet.model.nft import Chain, Ruleset
from kubenet.model.nft_change import RulesetChange, change_between
from kubenet.model.nft_fields import Set
from kubenet.model.objects import EndpointSlice, Service
from proxy import nft_names as n
from proxy.apply_nft import NftBackend
from proxy.compile_nft import compile_nft
from proxy.family import FamilySync, Seen
from proxy.policy import Locality, serve
from proxy.ports import NodeNetwork
from proxy.track import TrackRules, track
from proxy.view import PortChange
from tests.unit.proxy.cluster import Cluster
from tests.unit.proxy.fake_nft import FakeNft
from tests.unit.proxy.objects import endpoint_slice, service
from tests.unit.proxy.test_view import services as any_service
from tests.unit.proxy.test_view import slices as any_slice

HERE = Locality("here", "z1")
NETWORK = NodeNetwork(4, ip_network("10.244.0.0/16"))


class Flows:
    """Hears of changes; may refuse to."""

    def __init__(self) -> None:
        self.heard: list[PortChange] = []
        self.broken = False

    def forget(self, changes: Iterable[PortChange]) -> int:
        self.heard += changes
        if self.broken:
            self.broken = False
            raise KubenetError("the kernel said no")
        return 0


class World:
    """A cluster, and a node's kernel that is kept in step with it."""

    def __init__(self) -> None:
        self.cluster = Cluster()
        self.kernel = FakeNft()
        self.flows = Flows()
        self.family = FamilySync(TrackRules(), HERE, NftBackend(self.kernel, NETWORK), self.flows)
        self._begun = False

    def sync(self) -> bool:
        """Return whether the kernel's table was read for it."""
        result = self.family.sync(Seen(self.cluster.look(), everything=not self._begun))
        self._begun = True
        return result.applied.observed

    def wanted(self) -> Ruleset:
        """Return the table that would be made anew, with endpoints where they sit."""
        tracked = track(self.cluster.services.values(), self.cluster.slices.values())
        return compile_nft(serve(tracked.service_ports, HERE), NETWORK, self.kernel.table)

    def surplus(self) -> RulesetChange:
        """Return what a fresh look at everything would still change."""
        return change_between(self.kernel.table, self.wanted())


def only_left_behind(change: RulesetChange) -> bool:
    """Return whether it only clears away ways that nobody goes any more, which is left to a restart."""
    left = {name for name, keys in change.elements_out.items() if keys}
    return not change.written and left <= {n.WAYS} and not change.anew


@pytest.fixture
def world() -> World:
    made = World()
    for number in range(1, 9):
        made.cluster.put(service(f"s{number}", f"10.96.1.{number}"))
        made.cluster.put(endpoint_slice("10.244.1.2", name=f"s{number}-1", of=f"s{number}"))
    made.sync()
    return made


def move(world: World, *ips: str, of: str = "s3") -> None:
    world.cluster.put(endpoint_slice(*ips, name=f"{of}-1", of=of))


_events = st.tuples(
    st.sampled_from(["put", "put", "put", "drop", "break", "disturb"]), any_service() | any_slice()
)


@settings(max_examples=120, deadline=None)
@given(st.lists(st.lists(_events, max_size=4), min_size=1, max_size=8))
def test_A7_row70_any_events_lead_to_the_table_that_would_be_made_anew(
    rounds: Sequence[Sequence[tuple[str, Service | EndpointSlice]]],
) -> None:
    world = World()
    for events in rounds:
        for what, thing in events:
            match what:
                case "put":
                    world.cluster.put(thing)
                case "drop":
                    world.cluster.drop(thing)
                case "break":
                    world.kernel.broken = True
                case "disturb":
                    world.kernel.disturbed = True
        touched = set(world.cluster.touched)
        try:
            world.sync()
        except KubenetError:
            world.cluster.touched |= touched  # as a daemon does
            world.sync()
        assert only_left_behind(world.surplus())


def test_A7_row70_a_change_reads_nothing_and_compiles_one_service(world: World) -> None:
    reads = world.kernel.reads
    move(world, "10.244.1.3")
    assert world.sync() is False
    assert world.kernel.reads == reads
    assert world.kernel.changes[-1].element_operations <= 6
    assert only_left_behind(world.surplus())


def flush(kernel: FakeNft) -> None:
    kernel.table, kernel.disturbed = None, True


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param(
            lambda kernel: setattr(kernel, "broken", True), id="the kernel refuses, or answers get lost"
        ),
        pytest.param(lambda kernel: setattr(kernel, "disturbed", True), id="somebody else wrote"),
        pytest.param(flush, id="somebody else flushed everything"),
    ],
)
def test_A7_row69_P5_doubt_leads_to_the_full_comparison(
    world: World, trouble: Callable[[FakeNft], None]
) -> None:
    trouble(world.kernel)
    move(world, "10.244.1.3")
    assert world.sync() is True
    assert not world.surplus()
    move(world, "10.244.1.4")
    assert world.sync() is False  # and the short way again


class Refusing(FakeNft):
    """A kernel that refuses even the full comparison, until told otherwise."""

    refusing = False

    def read(
        self, wanted: Callable[[], Mapping[str, Chain]], shape_of: Callable[[str], Set | None]
    ) -> Ruleset | None:
        if self.refusing:
            raise KubenetError("no")
        return super().read(wanted, shape_of)


def test_what_could_not_be_written_is_written_and_forgotten_later() -> None:
    kernel, flows = Refusing(), Flows()
    family = FamilySync(TrackRules(), HERE, NftBackend(kernel, NETWORK), flows)
    cluster = Cluster()
    cluster.put(service())
    cluster.put(endpoint_slice("10.244.1.2"))
    family.sync(Seen(cluster.look(), everything=True))
    kernel.refusing = kernel.broken = True
    flows.heard.clear()
    for ip in ("10.244.1.3", "10.244.1.4"):
        cluster.put(endpoint_slice(ip))
        with pytest.raises(KubenetError):
            family.sync(Seen(cluster.look()))
    assert flows.heard == []  # rules first
    kernel.refusing = False
    assert family.sync(Seen(())).applied.observed
    (change,) = flows.heard  # from the first to the last, whatever was between
    assert change.before is not None
    assert change.after is not None
    assert [str(each.cluster[0].ip) for each in (change.before, change.after)] == ["10.244.1.2", "10.244.1.4"]


def test_A3_row36_a_node_elsewhere_is_a_look_at_everything(world: World) -> None:
    world.family.move(HERE, NETWORK)
    assert world.sync() is False
    other = NodeNetwork(4, ip_network("10.99.0.0/16"))
    world.family.move(HERE, other)
    assert world.sync() is True
    assert "10.99.0.0/16" in str(world.kernel.table and world.kernel.table.chains)


def test_totals_follow_the_changes(world: World) -> None:
    move(world, "10.244.1.2", "10.244.1.3")
    world.cluster.drop(service("s1", "10.96.1.1"))
    result = world.family.sync(Seen(world.cluster.look()))
    assert (result.services, result.endpoints) == (7, 8)
