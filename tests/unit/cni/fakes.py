"""A kernel, a store and callers that hold a world, and that can be told to fail or to die at a step."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cni.plan import PodNet, new_pod_state, node_state, pod_state
from cni.server import CallerGone
from cni.spec import CniError, Code
from ipam.record import AllocationRecord, Bandwidth, HostPort
from ipam.store import RecordStore, StoreFailed
from kubenet.errors import KubenetError
from kubenet.kernel.netlink import refusal
from kubenet.kernel.netns import NetNs
from kubenet.model.links import LinkState, PeerEnd


class Killed(BaseException):
    """The process is no more: nothing it still wanted to do is done."""


@dataclass
class Faults:
    """What goes wrong: the ``number``-th step fails, or all from it on are never done."""

    fail_at: int = 0  # 1 is the first step; 0 is none
    kill_at: int = 0
    fail_always: frozenset[str] = frozenset()
    steps: list[str] = field(default_factory=list)

    def pass_by(self, step: str, error: KubenetError) -> None:
        """Count a step; raise instead of doing it if it is its turn."""
        self.steps.append(step)
        if self.kill_at and len(self.steps) >= self.kill_at:
            raise Killed
        if len(self.steps) == self.fail_at or step in self.fail_always:
            raise error


class FakeNetNs(NetNs):
    """A namespace that is nothing but a number."""

    def __init__(self, inode: int) -> None:
        self._fd = -1
        self.inode = inode


@dataclass
class FakeKernel:
    """All namespaces: the node's links by name, and what is inside the pods by their number."""

    node: dict[str, LinkState] = field(default_factory=dict)
    pods: dict[int, dict[str, LinkState]] = field(default_factory=dict)
    homes: dict[str, tuple[int, str]] = field(default_factory=dict)  # where the other end of a link is
    down: set[str] = field(default_factory=set)
    ports: dict[str, tuple[HostPort, ...]] = field(default_factory=dict)  # by the pod they lead to
    shaped: dict[str, Bandwidth] = field(default_factory=dict)

    @property
    def is_clean(self) -> bool:
        return not self.node and not self.ports and not self.shaped and not any(self.pods.values())

    def delete(self, host_ifname: str) -> None:
        self.shaped.pop(host_ifname, None)
        if host_ifname in self.node:
            del self.node[host_ifname]
            inode, ifname = self.homes.pop(host_ifname)
            self.pods[inode].pop(ifname, None)
            self.down.discard(host_ifname)


class FakeWires:
    """``cni.wires.Wires`` upon a fake kernel."""

    def __init__(self, kernel: FakeKernel, faults: Faults) -> None:
        self._kernel = kernel
        self._faults = faults

    def make(self, pod: PodNet, netns: NetNs) -> None:
        self._step("make")
        inside = self._kernel.pods.setdefault(netns.inode, {})
        if pod.ifname in inside and pod.host_ifname not in self._kernel.node:
            raise CniError(Code.ALREADY_ATTACHED, f"{pod.ifname} exists already")
        self._kernel.delete(pod.host_ifname)
        self._kernel.node[pod.host_ifname] = LinkState(links=node_state(pod).links)
        inside[pod.ifname] = new_pod_state(pod)
        self._kernel.homes[pod.host_ifname] = netns.inode, pod.ifname

    def dress(self, pod: PodNet, netns: NetNs) -> None:
        self._step("dress")
        self._kernel.pods[netns.inode][pod.ifname] = pod_state(pod)

    def reach(self, pod: PodNet) -> None:
        self._step("reach")
        self._kernel.node[pod.host_ifname] = node_state(pod)

    def shape(self, host_ifname: str, bandwidth: Bandwidth) -> None:
        self._step("shape")
        self._kernel.shaped[host_ifname] = bandwidth

    def unshaped(self, host_ifname: str, bandwidth: Bandwidth) -> list[str]:
        return [] if self._kernel.shaped.get(host_ifname) == bandwidth else ["not held back"]

    def resize(self, host_ifname: str, ifname: str, netns: NetNs, mtu: int) -> None:
        self._step("resize")

    def remove(self, host_ifname: str) -> None:
        self._step("remove")
        self._kernel.delete(host_ifname)

    def retire(self, host_ifname: str) -> bool:
        self._step("retire")
        if host_ifname not in self._kernel.node:
            return False
        self._kernel.node[host_ifname] = LinkState(links=self._kernel.node[host_ifname].links)
        self._kernel.down.add(host_ifname)
        return True

    def bury(self, host_ifnames: Sequence[str]) -> None:
        self._step("bury")
        for host_ifname in host_ifnames:
            self._kernel.delete(host_ifname)

    def node(self) -> LinkState:
        state = LinkState()
        for part in self._kernel.node.values():
            state = state.union(part)
        return state

    def pod(self, netns: NetNs) -> LinkState:
        state = LinkState()
        for part in self._kernel.pods.get(netns.inode, {}).values():
            state = state.union(part)
        return state

    def pod_end(self, host_ifname: str) -> PeerEnd | None:
        inode, ifname = self._kernel.homes[host_ifname]
        inside = self._kernel.pods[inode][ifname]
        addresses = tuple(entry.interface.ip for entry in inside.addresses)
        return PeerEnd(ifname, inside.links[ifname].mac or "", addresses)

    def close(self) -> None:
        """Nothing to close."""

    def _step(self, step: str) -> None:
        self._faults.pass_by(step, refusal(16, step))  # EBUSY


class FakePublisher:
    """``cni.publish.Publisher`` upon a fake kernel."""

    def __init__(self, kernel: FakeKernel, faults: Faults) -> None:
        self._ports = kernel.ports
        self._faults = faults

    def take_over(self, records: Iterable[AllocationRecord]) -> None:
        self._ports.clear()
        self._ports.update({r.host_ifname: r.host_ports for r in records if r.host_ports})

    def publish(self, record: AllocationRecord) -> None:
        if record.host_ports:
            self._step("publish")
            self._ports[record.host_ifname] = record.host_ports

    def withdraw(self, host_ifname: str) -> None:
        if host_ifname in self._ports:
            self._step("withdraw")
            del self._ports[host_ifname]

    def missing(self, record: AllocationRecord) -> list[str]:
        return [] if self._ports.get(record.host_ifname, ()) == record.host_ports else ["a port is missing"]

    def restore(self) -> None:
        """Nobody else changes this kernel."""

    def close(self) -> None:
        """Nothing to close."""

    def _step(self, step: str) -> None:
        self._faults.pass_by(step, refusal(16, step))  # EBUSY


class FaultyStore(RecordStore):
    """The store itself, with a full disk at the step of your choice."""

    def __init__(self, directory: Path, faults: Faults) -> None:
        super().__init__(directory)
        directory.mkdir(exist_ok=True)
        self._faults = faults

    def begin(self, record: AllocationRecord) -> None:
        self._step("begin")
        super().begin(record)

    def commit(self, host_ifname: str) -> None:
        self._step("commit")
        super().commit(host_ifname)

    def retire(self, host_ifname: str) -> None:
        self._step("note")
        super().retire(host_ifname)

    def forget(self, host_ifname: str) -> None:
        self._step("forget")
        super().forget(host_ifname)

    @property
    def names(self) -> list[str]:
        """The files of records."""
        return sorted(path.name for path in self.directory.iterdir())

    def _step(self, step: str) -> None:
        self._faults.pass_by(step, StoreFailed(f"{step}: No space left on device"))


@dataclass
class FakeCaller:
    """A shim that waits, or is gone."""

    environment: Mapping[str, str]
    config: bytes = b""
    inode: int | None = None
    gone: bool = False
    answers: list[tuple[bytes, int]] = field(default_factory=list)

    def stdin(self) -> bytes:
        return self.config

    def netns(self) -> NetNs | None:
        return None if self.inode is None else FakeNetNs(self.inode)

    def answer(self, stdout: bytes, exit_code: int) -> None:
        if self.gone:
            raise CallerGone("the caller is gone")
        self.answers.append((stdout, exit_code))
