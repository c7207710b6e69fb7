"""Attaching and detaching: nothing is ever left half done, whatever fails and whoever dies."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from cni.attach import Attachments
from cni.plan import PodNet, PodWiring, host_ifname
from cni.server import CallerGone
from cni.spec import Attachment, CniError, Code, Command, Request
from ipam.pool import PoolExhausted
from ipam.record import HostPort, Phase
from kubenet.errors import KubenetError
from kubenet.model.protocol import Protocol
from tests.unit.cni.fakes import FakeKernel, FakeNetNs, FakePublisher, FakeWires, Faults, FaultyStore, Killed

RANGE = ip_network("10.244.1.0/29")  # five pods
PORT = HostPort(Protocol.UDP, 8053, 53)
ADD = Request(Command.ADD, "1.1.0", "kubenet", "c1", "eth0", "/netns/1", pod="demo/web", host_ports=(PORT,))
ADD_STEPS = ["begin", "make", "dress", "reach", "publish", "commit", "deliver"]
DEL_STEPS = ["withdraw", "note", "retire", "bury", "forget"]
LINK = host_ifname("c1", "eth0")


def add_of(number: int) -> Request:
    return replace(ADD, container_id=f"c{number}", netns=f"/netns/{number}")


@dataclass
class World:
    """A node that outlives its agents."""

    directory: Path
    kernel: FakeKernel = field(default_factory=FakeKernel)
    faults: Faults = field(default_factory=Faults)
    delivered: list[PodNet] = field(default_factory=list)

    def agent(self, faults: Faults | None = None, *, strict_delete: bool = False) -> Attachments:
        """Start an agent on what is there."""
        self.faults = faults or Faults()
        self.store = FaultyStore(self.directory, self.faults)
        publisher = FakePublisher(self.kernel, self.faults)
        agent = Attachments(
            self.store, lambda: FakeWires(self.kernel, self.faults), publisher, strict_delete=strict_delete
        )
        agent.recover()
        agent.open([RANGE], PodWiring(1450))
        return agent

    def deliver(self, pod: PodNet) -> None:
        self.faults.pass_by("deliver", CallerGone("the caller is gone"))
        self.delivered.append(pod)

    def add(self, agent: Attachments, number: int = 1) -> PodNet:
        agent.add(add_of(number), FakeNetNs(number), self.deliver)
        return self.delivered[-1]

    def reap(self, agent: Attachments) -> None:
        """Let the reaper do all that waits."""
        agent.reaper.close()
        agent.reaper.run()

    def nothing_left(self, agent: Attachments) -> bool:
        return self.kernel.is_clean and not self.store.names and not agent.records and self.free(agent) == 5

    def free(self, agent: Attachments) -> int:
        pool = agent._reservations.ledger.pools[0]
        return pool.usable - pool.used


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "records")


@contextmanager
def reaping(agent: Attachments) -> Iterator[None]:
    thread = threading.Thread(target=agent.reaper.run)
    thread.start()
    try:
        yield
    finally:
        agent.reaper.close()
        thread.join()


def steps_of_an_add(tmp_path: Path) -> list[str]:
    world = World(tmp_path)
    agent = world.agent()
    world.faults.steps.clear()
    world.add(agent)
    return world.faults.steps


def test_A1_an_add_makes_all_and_tells_what_it_made(world: World) -> None:
    agent = world.agent()
    pod = world.add(agent)
    assert pod == PodNet(LINK, "eth0", (RANGE[2],), 1450)
    assert world.store.names == [f"{LINK}.attached"]
    assert agent.records[0].addresses == (RANGE[2],)
    agent.check(replace(ADD, command=Command.CHECK, prev_result={}), FakeNetNs(1))


@pytest.mark.parametrize("number", range(1, len(ADD_STEPS) + 1))
def test_A2_N2_an_add_that_fails_at_any_step_leaves_nothing_and_the_next_works(
    world: World, tmp_path: Path, number: int
) -> None:
    agent = world.agent(Faults(fail_at=number))
    with pytest.raises(KubenetError):
        world.add(agent)
    assert world.nothing_left(agent), world.faults.steps
    assert world.add(agent).host_ifname == LINK


def test_A2_the_steps_above_are_all_steps(tmp_path: Path) -> None:
    assert steps_of_an_add(tmp_path / "x") == ADD_STEPS


def test_A2_what_cannot_be_undone_now_keeps_its_address_until_it_is_gone(world: World) -> None:
    agent = world.agent(Faults(fail_always=frozenset({"reach", "remove"})))
    with pytest.raises(KubenetError):
        world.add(agent)
    assert LINK in world.kernel.node
    assert world.free(agent) == 4
    world.reap(agent)
    assert world.nothing_left(agent)


@pytest.mark.parametrize("number", range(1, len(ADD_STEPS) + 1))
def test_A5_N1_an_agent_killed_at_any_step_of_an_add_leaves_nothing_to_the_next(
    world: World, number: int
) -> None:
    with pytest.raises(Killed):
        world.add(world.agent(Faults(kill_at=number)))
    agent = world.agent()
    if number == len(
        ADD_STEPS
    ):  # finished, but nobody was told: the runtime will delete what it thinks failed
        assert len(agent.records) == 1
        agent.delete(ADD)
        world.reap(agent)
    assert world.nothing_left(agent)
    world.add(agent)


@pytest.mark.parametrize("number", range(1, len(ADD_STEPS) + 1))
def test_A5_N1_a_del_after_an_agent_was_killed_in_an_add_is_fine(world: World, number: int) -> None:
    with pytest.raises(Killed):
        world.add(world.agent(Faults(kill_at=number)))
    agent = world.agent()
    agent.delete(ADD)
    world.reap(agent)
    assert world.nothing_left(agent)


@pytest.mark.parametrize("number", range(1, len(DEL_STEPS) + 1))
def test_A5_N1_an_agent_killed_at_any_step_of_a_del_leaves_nothing_after_the_del_is_repeated(
    world: World, number: int
) -> None:
    agent = world.agent()
    world.add(agent)
    dying = world.agent(Faults(kill_at=number))

    def delete_and_reap() -> None:
        dying.delete(ADD)
        world.reap(dying)

    with pytest.raises(Killed):
        delete_and_reap()
    agent = world.agent()
    agent.delete(ADD)
    world.reap(agent)
    assert world.nothing_left(agent)


@pytest.mark.parametrize("step", DEL_STEPS)
def test_N2_a_del_that_fails_at_a_step_succeeds_when_it_is_repeated(world: World, step: str) -> None:
    agent = world.agent()
    world.add(agent)
    world.faults.fail_at = len(world.faults.steps) + DEL_STEPS.index(step) + 1
    try:
        agent.delete(ADD)
    except KubenetError:
        assert step in ("withdraw", "retire")
        agent.delete(ADD)
    world.reap(agent)
    later = world.agent()
    later.delete(ADD)
    world.reap(later)
    assert world.nothing_left(later)


def test_A1_a_second_add_is_refused_and_the_first_stays_as_it_is(world: World) -> None:
    agent = world.agent()
    pod = world.add(agent)
    before = dict(world.kernel.node)
    with pytest.raises(CniError) as caught:
        world.add(agent)
    assert caught.value.code == Code.ALREADY_ATTACHED
    assert world.kernel.node == before
    assert agent.records[0].addresses == pod.addresses


def test_A1_an_interface_that_somebody_else_made_stays(world: World) -> None:
    agent = world.agent()
    world.add(agent)
    with pytest.raises(CniError) as caught:
        agent.add(add_of(2), FakeNetNs(1), world.deliver)
    assert caught.value.code == Code.ALREADY_ATTACHED
    assert list(world.kernel.node) == [LINK]
    assert world.free(agent) == 4


def test_A3_two_interfaces_of_one_container_are_two_attachments(world: World) -> None:
    agent = world.agent()
    world.add(agent)
    agent.add(replace(ADD, ifname="net1"), FakeNetNs(1), world.deliver)
    agent.delete(replace(ADD, ifname="net1"))
    world.reap(agent)
    assert [record.ifname for record in agent.records] == ["eth0"]
    assert set(world.kernel.pods[1]) == {"eth0"}


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda world: None, id="whole"),
        pytest.param(lambda world: world.kernel.delete(LINK), id="link deleted by hand"),
        pytest.param(lambda world: world.store.forget(LINK), id="record lost"),
        pytest.param(
            lambda world: (world.kernel.delete(LINK), world.store.forget(LINK)), id="link and record lost"
        ),
    ],
)
@pytest.mark.parametrize("restarted", [False, True], ids=["same agent", "agent restarted"])
def test_D1_N5_a_del_succeeds_and_frees_the_address_whatever_is_left(
    world: World, spoil: Callable[[World], object], restarted: bool
) -> None:
    agent = world.agent()
    world.add(agent)
    spoil(world)
    if restarted:
        agent = world.agent()
    bare = replace(ADD, command=Command.DEL, netns="", network="", pod="")
    agent.delete(bare)
    agent.delete(bare)
    world.reap(agent)
    assert world.nothing_left(agent)


def test_D1_N5_a_del_of_what_was_never_added_is_fine(world: World) -> None:
    agent = world.agent()
    agent.delete(ADD)
    assert world.nothing_left(agent)


def test_D2_a_del_frees_the_address_though_the_nodes_range_has_changed(world: World) -> None:
    agent = world.agent()
    world.add(agent)
    agent.open([ip_network("10.244.9.0/29")], PodWiring(1400))
    agent.delete(replace(ADD, network="renamed"))
    world.reap(agent)
    assert world.nothing_left(agent)


def test_D4_a_del_waits_for_the_add_of_the_same_attachment_and_then_removes_it(world: World) -> None:
    agent = world.agent()
    delivering, go_on = threading.Event(), threading.Event()

    def deliver(pod: PodNet) -> None:
        delivering.set()
        assert go_on.wait(5)

    adding = threading.Thread(target=agent.add, args=(ADD, FakeNetNs(1), deliver))
    adding.start()
    assert delivering.wait(5)
    deleting = threading.Thread(target=agent.delete, args=(ADD,))
    deleting.start()
    deleting.join(0.05)
    assert deleting.is_alive()
    assert LINK in world.kernel.node
    go_on.set()
    adding.join(5)
    deleting.join(5)
    world.reap(agent)
    assert world.nothing_left(agent)


def test_D4_a_caller_that_died_before_it_got_its_answer_has_added_nothing(world: World) -> None:
    agent = world.agent()

    def deliver(pod: PodNet) -> None:
        raise CallerGone("the caller is gone")

    with pytest.raises(CallerGone):
        agent.add(ADD, FakeNetNs(1), deliver)
    assert world.nothing_left(agent)


def test_E13_N7_an_exhausted_pool_leaves_nothing_and_one_del_makes_room(world: World) -> None:
    agent = world.agent()
    for number in range(1, 6):
        world.add(agent, number)
    assert "10.244.1.0/29: all 5 addresses are in use" in agent.readiness()
    with pytest.raises(PoolExhausted):
        world.add(agent, 6)
    assert len(world.kernel.node) == 5
    agent.delete(add_of(3))
    with reaping(agent):
        agent.reaper.wait_idle(5)
        assert world.add(agent, 6).addresses == (RANGE[4],)


def test_E13_without_a_pod_range_an_add_is_to_be_tried_again(world: World) -> None:
    agent = Attachments(
        FaultyStore(world.directory, Faults()),
        lambda: FakeWires(world.kernel, Faults()),
        FakePublisher(world.kernel, Faults()),
    )
    with pytest.raises(CniError) as caught:
        agent.add(ADD, FakeNetNs(1), world.deliver)
    assert caught.value.code == Code.TRY_AGAIN
    assert agent.readiness() == "the node has no pod range yet"


def test_N7_an_address_is_free_only_when_its_link_is_gone(world: World) -> None:
    agent = world.agent()
    world.add(agent)
    agent.delete(ADD)
    assert LINK in world.kernel.down
    assert world.free(agent) == 4
    assert world.store.names == [f"{LINK}.dying"]
    world.reap(agent)
    assert world.free(agent) == 5
    assert world.store.names == []


def test_N8_an_add_waits_for_the_link_of_the_same_name_that_is_going(world: World) -> None:
    agent = world.agent()
    world.add(agent)
    agent.delete(ADD)
    with reaping(agent):
        assert world.add(agent).host_ifname == LINK
    assert world.store.names == [f"{LINK}.attached"]


def test_N8_an_add_in_a_namespace_whose_interface_is_going_waits_for_that(world: World) -> None:
    agent = world.agent()
    world.add(agent)
    agent.delete(ADD)
    with reaping(agent):
        agent.add(add_of(2), FakeNetNs(1), world.deliver)
    assert [record.container_id for record in agent.records] == ["c2"]


def test_a_strict_del_answers_when_the_link_is_gone(world: World) -> None:
    agent = world.agent(strict_delete=True)
    world.add(agent)
    with reaping(agent):
        agent.delete(ADD)
        assert world.nothing_left(agent)


def test_N4_of_many_adds_of_one_attachment_one_wins_and_different_ones_get_different_addresses(
    world: World,
) -> None:
    agent = world.agent()
    outcomes: list[str] = []

    def add(number: int) -> None:
        try:
            agent.add(add_of(number % 3), FakeNetNs(number % 3), lambda pod: None)
            outcomes.append("added")
        except CniError as error:
            outcomes.append(error.code.name)

    threads = [threading.Thread(target=add, args=(number,)) for number in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["ALREADY_ATTACHED"] * 27 + ["added"] * 3
    assert len({record.addresses for record in agent.records}) == 3


def test_A5_a_restarted_agent_gives_no_address_twice(world: World) -> None:
    agent = world.agent()
    taken = {world.add(agent, number).addresses for number in (1, 2, 3)}
    later = world.agent()
    assert {record.addresses for record in later.records} == taken
    assert world.add(later, 4).addresses not in taken


def test_A5_an_agent_that_has_lost_its_records_gives_no_address_twice(world: World) -> None:
    taken = world.add(world.agent()).addresses
    world.store.forget(LINK)
    later = world.agent()
    assert [record.addresses for record in later.records] == [taken]
    assert world.add(later, 2).addresses != taken


def test_C2_a_check_names_all_that_differs(world: World) -> None:
    agent = world.agent()
    world.add(agent)
    world.kernel.pods[1].clear()
    with pytest.raises(CniError, match="eth0 is missing in the pod") as caught:
        agent.check(ADD, FakeNetNs(1))
    assert caught.value.code == Code.CHECK_FAILED


def test_C2_a_check_of_what_holds_no_address(world: World) -> None:
    with pytest.raises(CniError, match="no address is reserved") as caught:
        world.agent().check(ADD, FakeNetNs(1))
    assert caught.value.code == Code.CHECK_FAILED


def test_C2_a_check_compares_with_what_the_add_told(world: World) -> None:
    agent = world.agent()
    world.add(agent)
    agent.rewire(PodWiring(1400))
    told = {"interfaces": [{"name": "eth0", "sandbox": "/netns/1", "mtu": 1300}]}
    with pytest.raises(CniError, match="MTU 1450 instead of 1300"):
        agent.check(replace(ADD, prev_result=told), FakeNetNs(1))


def test_G1_gc_frees_what_is_not_listed(world: World) -> None:
    agent = world.agent()
    for number in (1, 2):
        world.add(agent, number)
    listed = Request(Command.GC, "1.1.0", "kubenet", valid=frozenset({Attachment("c1", "eth0")}))
    agent.collect(listed, arrived_ns=2**62)
    world.reap(agent)
    assert [record.container_id for record in agent.records] == ["c1"]
    assert list(world.kernel.node) == [LINK]


def test_G1_gc_goes_on_after_an_error_and_tells_of_it(world: World) -> None:
    agent = world.agent()
    for number in (1, 2, 3):
        world.add(agent, number)
    world.faults.fail_at = len(world.faults.steps) + 3  # the first retire
    with pytest.raises(CniError, match="1 attachments remain") as caught:
        agent.collect(Request(Command.GC, "1.1.0", "kubenet"), arrived_ns=2**62)
    assert caught.value.code == Code.GC_INCOMPLETE
    assert "demo/web eth0" in caught.value.details
    world.reap(agent)
    assert len(world.kernel.node) == 1


def test_G3_gc_leaves_an_add_that_is_under_way(world: World) -> None:
    agent = world.agent()

    def deliver(pod: PodNet) -> None:
        agent.collect(Request(Command.GC, "1.1.0", "kubenet"), arrived_ns=2**62)

    agent.add(ADD, FakeNetNs(1), deliver)
    assert len(agent.records) == 1
    assert LINK in world.kernel.node


def test_N10_a_pod_whose_link_and_namespace_are_gone_is_let_go_after_a_while(world: World) -> None:
    agent = world.agent()
    world.add(agent)
    now = agent.records[0].created_ns
    world.kernel.delete(LINK)
    agent.sweep(now + 10**9)
    assert len(agent.records) == 1
    agent.sweep(now + 3600 * 10**9)
    assert world.nothing_left(agent)


def test_N9_a_del_of_long_ago_does_not_touch_what_was_attached_since(world: World) -> None:
    agent = world.agent()
    world.add(agent)
    agent.delete(ADD, asked_ns=agent.records[0].created_ns - 10**9)
    assert len(agent.records) == 1
    agent.delete(ADD, asked_ns=agent.records[0].created_ns)
    world.reap(agent)
    assert world.nothing_left(agent)


def test_P1_a_wanted_address_is_given_and_one_in_use_is_not(world: World) -> None:
    agent = world.agent()
    wanted = replace(ADD, addresses=(ip_address("10.244.1.5"),), mac="0a:00:00:00:00:07")
    agent.add(wanted, FakeNetNs(1), world.deliver)
    assert world.delivered[-1].addresses == (ip_address("10.244.1.5"),)
    assert world.delivered[-1].mac == "0a:00:00:00:00:07"
    with pytest.raises(KubenetError, match=r"10\.244\.1\.5: in use"):
        agent.add(replace(wanted, container_id="c2"), FakeNetNs(2), world.deliver)


def test_phases_are_visible_to_nobody_but_the_agent(world: World) -> None:
    agent = world.agent()

    def deliver(pod: PodNet) -> None:
        assert agent.records == []
        assert world.store.names == [f"{LINK}.{Phase.ATTACHED.value}"]

    agent.add(ADD, FakeNetNs(1), deliver)
