"""The agent's life: killed, failing, restarted, told of nodes by a real API server."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cni.agent import NodeAgent
from cni.attach import Attachments
from cni.follow import run_agent
from cni.install import CONFLIST
from cni.plan import PodNet, PodWiring, Wiring, host_ifname
from cni.server import CallerGone
from cni.spec import Command, Request
from cni.wires import KernelWires
from kubenet.apiserver.http import ApiServer
from kubenet.client.kubeconfig import ClusterConfig
from kubenet.client.transport import ApiClient
from kubenet.errors import AlreadyExists, KubenetError
from kubenet.kernel import codec, iptables
from kubenet.kernel.netlink import refusal
from kubenet.kernel.netns import NetNs
from kubenet.kernel.rtnl import Rtnl
from kubenet.kernel.run import run
from kubenet.model.links import LinkState
from kubenet.model.objects import Json
from kubenet.model.resources import NODES
from kubenet.store.memory import MemoryStore
from tests.netns.cni.conftest import LabNode, NodeMaker, Pin, observe
from tests.netns.cni.test_dataplane import reaches
from tests.unit.cni.fakes import FakeKernel, FakePublisher, Faults, FaultyStore, Killed

pytestmark = pytest.mark.netns

ADD = Request(Command.ADD, "1.1.0", "kubenet", "c1", "eth0", "/netns/p1")
STEPS = 6  # begin, make, dress, reach, commit, deliver


class FaultyWires(KernelWires):
    """The kernel, with a refusal or a kill before the step of your choice."""

    def __init__(self, netns: NetNs, faults: Faults) -> None:
        super().__init__(netns)
        self._faults = faults

    def make(self, pod: PodNet, netns: NetNs) -> None:
        self._step("make")
        super().make(pod, netns)

    def dress(self, pod: PodNet, netns: NetNs) -> None:
        self._step("dress")
        super().dress(pod, netns)

    def reach(self, pod: PodNet) -> None:
        self._step("reach")
        super().reach(pod)

    def remove(self, host_ifname: str) -> None:
        self._step("remove")
        super().remove(host_ifname)

    def retire(self, host_ifname: str) -> bool:
        self._step("retire")
        return super().retire(host_ifname)

    def bury(self, host_ifnames: Sequence[str]) -> None:
        self._step("bury")
        super().bury(host_ifnames)

    def _step(self, step: str) -> None:
        self._faults.pass_by(step, refusal(16, step))  # EBUSY


def faulty(node: LabNode, faults: Faults) -> Attachments:
    """The heart of an agent of this node, with faults."""
    store = FaultyStore(node.config.state_dir / "attachments", faults)
    publisher = FakePublisher(FakeKernel(), faults)
    attachments = Attachments(store, lambda: FaultyWires(node.netns, faults), publisher)
    attachments.open(node.net.pod_cidrs, PodWiring(1450))
    return attachments


def add(attachments: Attachments, faults: Faults, path: Path) -> None:
    def deliver(pod: PodNet) -> None:
        faults.pass_by("deliver", CallerGone("the caller is gone"))

    with NetNs.open(path) as netns:
        attachments.add(ADD, netns, deliver)


@pytest.fixture
def bare(make_node: NodeMaker) -> LabNode:
    """A node whose agent has run and is no more."""
    node = make_node()
    node.start()
    node.stop()
    return node


@pytest.mark.parametrize("number", range(1, STEPS + 1))
def test_A2_N2_an_add_that_fails_at_any_step_leaves_nothing(bare: LabNode, pin: Pin, number: int) -> None:
    path, faults = pin("p1"), Faults(fail_at=number)
    before = observe(bare.netns)
    with pytest.raises(KubenetError):
        add(faulty(bare, faults), faults, path)
    assert observe(bare.netns) == before
    with NetNs.open(path) as netns:
        assert set(observe(netns).links) == {"lo"}
    assert bare.records() == set()


@pytest.mark.parametrize("number", range(1, STEPS))
def test_A5_N1_an_agent_killed_at_any_step_leaves_nothing_to_the_next(
    bare: LabNode, pin: Pin, number: int
) -> None:
    path, faults = pin("p1"), Faults(kill_at=number)
    with pytest.raises(Killed):
        add(faulty(bare, faults), faults, path)
    bare.start()
    assert bare.nothing_left()
    assert bare.runtime.add("c1", path).code == 0


@pytest.mark.parametrize("number", range(1, 4))
def test_A5_N1_an_agent_killed_in_a_del_leaves_nothing_once_it_is_repeated(
    bare: LabNode, pin: Pin, number: int
) -> None:
    path = pin("p1")
    bare.start()
    assert bare.runtime.add("c1", path).code == 0
    bare.stop()
    faults = Faults(kill_at=number)
    attachments = faulty(bare, faults)
    attachments.recover()
    with pytest.raises(Killed):
        delete_and_reap(attachments)
    bare.start()
    assert bare.runtime.delete("c1").code == 0
    assert bare.nothing_left()


def delete_and_reap(attachments: Attachments) -> None:
    attachments.delete(ADD)
    attachments.reaper.close()
    attachments.reaper.run()


def test_A5_pods_live_through_a_restart_and_keep_their_addresses(make_node: NodeMaker, pin: Pin) -> None:
    node = make_node()
    node.start()
    paths = [pin(f"p{number}") for number in range(3)]
    addresses = [node.runtime.add(f"c{number}", path).address for number, path in enumerate(paths[:2])]
    node.stop()
    with NetNs.open(paths[0]) as a, NetNs.open(paths[1]) as b:
        assert reaches(a, b, addresses[1])
        node.start()
        assert reaches(a, b, addresses[1])
    assert node.runtime.add("c2", paths[2]).address not in addresses
    for number in range(3):
        assert node.runtime.delete(f"c{number}").code == 0
    assert node.nothing_left()


@pytest.mark.parametrize("broken", [True, False], ids=["broken", "lost"])
@pytest.mark.parametrize("wiring", list(Wiring), ids=lambda wiring: str(wiring.value))
def test_N11_a_record_of_a_living_pod_is_written_anew_from_the_kernel(
    make_node: NodeMaker, pin: Pin, wiring: Wiring, broken: bool
) -> None:
    node = make_node(wiring=wiring)
    node.start()
    path, other = pin("p1"), pin("p2")
    taken = node.runtime.add("c1", path, runtimeConfig={"mac": "0a:00:00:00:00:99"}).address
    node.stop()
    record = node.config.state_dir / "attachments" / f"{host_ifname('c1', 'eth0')}.attached"
    record.write_bytes(b"") if broken else record.unlink()
    node.start()
    assert [str(address) for r in node.attached() for address in r.addresses] == [taken]
    assert record.read_bytes()
    assert node.runtime.add("c2", other).address != taken
    with NetNs.open(path) as a, NetNs.open(other) as b:
        assert reaches(b, a, taken)
        assert reaches(a, b, "10.244.1.3")
    assert node.runtime.delete("c2").code == 0
    assert node.runtime.delete("c1").code == 0
    assert node.nothing_left()


def test_N11_a_link_without_record_and_address_goes_and_the_agent_starts(
    make_node: NodeMaker, pin: Pin
) -> None:
    node = make_node(wiring=Wiring.BRIDGE)
    node.start()
    path = pin("p1")
    assert node.runtime.add("c1", path).code == 0
    node.stop()
    (node.config.state_dir / "attachments" / f"{host_ifname('c1', 'eth0')}.attached").unlink()
    with NetNs.open(path) as netns:
        run(["ip", "address", "flush", "dev", "eth0"], netns=netns)
    node.start()
    assert node.nothing_left()
    assert node.runtime.add("c1", path).code == 0


def test_N8_N10_many_pods_come_and_go_in_the_same_namespaces(make_node: NodeMaker, pin: Pin) -> None:
    node = make_node()
    node.start()
    paths = [pin(f"p{number}") for number in range(5)]
    for _ in range(6):
        for number, path in enumerate(paths):
            assert node.runtime.add(f"c{number}", path).code == 0
        for number in range(5):
            assert node.runtime.delete(f"c{number}").code == 0
    assert node.nothing_left()


def test_two_agents_do_not_serve_one_node(node: LabNode) -> None:
    with pytest.raises(AlreadyExists, match="another agent serves here"):
        NodeAgent(node.config)
    assert node.runtime.call("STATUS").code == 0


def test_a_directory_that_others_may_write_is_refused(make_node: NodeMaker) -> None:
    node = make_node()
    node.config.socket_path.parent.mkdir(parents=True, mode=0o777)
    node.config.socket_path.parent.chmod(0o777)
    with pytest.raises(KubenetError, match="mode 777"):
        NodeAgent(node.config)


# With an API server.


def node_object(node: LabNode, *, ranged: bool = True) -> Json:
    cidr = str(node.net.pod_cidrs[0])
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": node.net.name},
        "spec": {"podCIDR": cidr, "podCIDRs": [cidr]} if ranged else {},
        "status": {"addresses": [{"type": "InternalIP", "address": str(node.net.node_ip)}]},
    }


@asynccontextmanager
async def api() -> AsyncIterator[ApiClient]:
    """A client of an API server of its own."""
    store = MemoryStore()
    server = ApiServer(store)
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    await server.start([listening])
    try:
        async with ApiClient(ClusterConfig(f"http://127.0.0.1:{listening.getsockname()[1]}")) as client:
            yield client
    finally:
        await server.stop()


@asynccontextmanager
async def running(node: LabNode, client: ApiClient) -> AsyncIterator[asyncio.Event]:
    """An agent as a daemon runs it."""
    ready = asyncio.Event()
    task = asyncio.create_task(run_agent(node.config, client, ready))
    try:
        yield ready
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def until(holds: Callable[[], bool], within_s: float = 10.0) -> None:
    """Wait for something that happens by itself."""
    give_up = time.monotonic() + within_s
    while not await asyncio.to_thread(holds):
        assert time.monotonic() < give_up, "it did not happen"
        await asyncio.sleep(0.02)


def play(scene: Callable[[ApiClient], Awaitable[None]]) -> None:
    async def with_api() -> None:
        async with api() as client:
            await scene(client)

    asyncio.run(with_api())


def test_S2_the_runtime_is_told_of_the_network_only_when_the_node_has_a_range(
    make_node: NodeMaker, pin: Pin
) -> None:
    node = make_node()
    conflist = node.config.conf_dir / CONFLIST
    conflist.unlink()

    async def scene(client: ApiClient) -> None:
        await client.create(NODES, "", node_object(node, ranged=False))
        async with running(node, client) as ready:
            await until(node.config.socket_path.exists)
            status = await asyncio.to_thread(node.runtime.call, "STATUS")
            assert status.error == 50
            assert (await asyncio.to_thread(node.runtime.add, "c1", pin("p1"))).error == 11
            assert (await asyncio.to_thread(node.runtime.delete, "c1")).code == 0
            assert not conflist.exists()
            cidr = str(node.net.pod_cidrs[0])
            await client.patch(NODES, "", node.net.name, {"spec": {"podCIDR": cidr, "podCIDRs": [cidr]}})
            await asyncio.wait_for(ready.wait(), 10)
            assert json.loads(conflist.read_bytes())["name"] == "kubenet"
            assert (await asyncio.to_thread(node.runtime.call, "STATUS")).code == 0
            assert (await asyncio.to_thread(node.runtime.add, "c1", pin("p2"))).code == 0
        assert conflist.exists()  # pods stay, and so does the word that there is a network

    play(scene)


def test_nodes_find_each_other_and_repair_at_once_what_somebody_broke(make_node: NodeMaker, pin: Pin) -> None:
    one, two = make_node(1), make_node(2)
    paths = pin("a"), pin("b")

    async def scene(client: ApiClient) -> None:
        async with running(one, client) as one_ready, running(two, client) as two_ready:
            for node in (one, two):
                await client.create(NODES, "", node_object(node))
            await asyncio.wait_for(asyncio.gather(one_ready.wait(), two_ready.wait()), 10)
            await until(lambda: bool(observe(one.netns).fdb) and bool(observe(two.netns).fdb))
            for node, path in zip((one, two), paths, strict=True):
                assert (await asyncio.to_thread(node.runtime.add, "c", path)).code == 0
            with NetNs.open(paths[0]) as a, NetNs.open(paths[1]) as b:
                assert await asyncio.to_thread(reaches, a, b, "10.244.2.2")
                before = observe(one.netns)
                with Rtnl(one.netns) as rtnl:
                    rtnl.transact([codec.delete_link(ifname="kubenet.1")])
                await until(lambda: _same(observe(one.netns), before))
                assert await asyncio.to_thread(reaches, a, b, "10.244.2.2")
            await client.delete(NODES, "", "node2")
            await until(lambda: not observe(one.netns).fdb)

    play(scene)


def _same(have: LinkState, want: LinkState) -> bool:
    ours = ("kubenet.1",)
    return have.owned_by(ours) == want.owned_by(ours)


def test_S2_a_node_without_an_underlay_limits_its_pods_and_says_so(make_node: NodeMaker, pin: Pin) -> None:
    node = make_node()

    async def scene(client: ApiClient) -> None:
        await client.create(NODES, "", node_object(node))
        async with running(node, client) as ready:
            await asyncio.wait_for(ready.wait(), 10)
            with Rtnl(node.netns) as rtnl:
                rtnl.transact([codec.delete_link(ifname="eth0")])
            await until(lambda: node.runtime.call("STATUS").code == 1)
            status = await asyncio.to_thread(node.runtime.call, "STATUS")
            assert status.error == 51
            assert str(node.net.node_ip) in status.json["msg"]

    play(scene)


def test_an_agent_that_is_stopped_leaves_pods_and_rules_as_they_are(make_node: NodeMaker, pin: Pin) -> None:
    node = make_node()
    path = pin("p1")

    async def scene(client: ApiClient) -> None:
        await client.create(NODES, "", node_object(node))
        async with running(node, client) as ready:
            await asyncio.wait_for(ready.wait(), 10)
            assert (await asyncio.to_thread(node.runtime.add, "c1", path)).code == 0
            before = observe(node.netns)
        assert observe(node.netns) == before
        assert "KUBENET-POSTROUTING" in iptables.save(node.netns, "nat")
        assert not node.config.socket_path.exists()

    play(scene)
