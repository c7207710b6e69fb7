"""Attach pods to the node's network and detach them, so that nothing is ever left half done.

An ADD reserves addresses, writes its record, wires the pod, marks the record as finished, and answers;
whatever fails on the way, the answer included, undoes all of it before the error goes out. A DEL needs
nothing but the container and the interface, and succeeds on whatever is left of them: the name of the link
follows from the two, and what has no link and no record is done.

One attachment is worked on by one thread at a time, so a DEL that comes while its ADD still runs waits for it
and then removes what it made.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from cni import gc
from cni.locks import KeyedLocks
from cni.plan import PodNet, PodWiring, differences, host_ifname
from cni.publish import Publisher
from cni.reaper import Reaper
from cni.recovery import recovery, strangers
from cni.reservations import Reservations
from cni.result import AssignedAddress, addresses_in
from cni.spec import CniError, Code, Request, Role
from cni.told import as_told
from cni.whereabouts import may_live, netns_of
from cni.wires import Wires
from ipam.pool import NO_RULES, PoolRules
from ipam.record import AllocationRecord, Phase, Stored
from ipam.sticky import StickyFile
from ipam.store import RecordStore, StoreFailed
from kubenet.errors import KubenetError
from kubenet.kernel.netns import NetNs
from kubenet.model.links import IPNetwork

log = logging.getLogger(__name__)

LOCK_WITHIN_S = 40.0  # longer than anything a request can be busy with: the kernel gets 30 s
GONE_WITHIN_S = 10.0
# The clock of file times ticks: it is behind the one that records are dated by, with CONFIG_HZ=100 up to
# this.
CLOCK_SLACK_NS = 10 * 10**6


class Attachments:
    """All pods of one node. May be used by several threads; one more has to ``reaper.run()``."""

    def __init__(
        self,
        store: RecordStore,
        connect: Callable[[], Wires],
        publisher: Publisher,
        *,
        strict_delete: bool = False,
        sticky: StickyFile | None = None,
    ) -> None:
        self._store = store
        self._connect = connect
        self._publisher = publisher
        self._strict_delete = strict_delete
        self._reservations = Reservations(sticky or StickyFile(None))
        self._busy = KeyedLocks()
        self._wiring: PodWiring | None = None
        self._idle: deque[Wires] = deque()
        self.reaper = Reaper(connect, self._gone)

    def recover(self) -> None:
        """Take in what an earlier agent has left, and undo what it had not finished.

        Raises StateLost, StoreFailed, NetlinkError.
        """
        self._reservations.recall()
        stored, unreadable = self._store.load()
        with self._wires() as wires:
            node = wires.node()
            ends = {name: end for name in strangers(stored, node) if (end := wires.pod_end(name))}
            found = recovery(stored, unreadable, node, ends)
            for name in found.undone:
                if name in ends or name in node.links:
                    log.warning("cni: %s is removed: it was not finished, or nobody knows its address", name)
            for record in found.found:
                self._store.begin(record)
                self._store.commit(record.host_ifname)
                log.warning("cni: %s has lost its record; it keeps %s", record.host_ifname, _list(record))
            if gone := (*found.undone, *found.stray):
                wires.bury(gone)
        self._publisher.take_over((*found.kept, *found.found))
        for name in found.undone:
            self._store.forget(name)
        self._reservations.adopt((*found.kept, *found.found))
        log.info("cni: %d pods taken over, %d undone", len(found.kept) + len(found.found), len(found.undone))

    def open(self, ranges: Iterable[IPNetwork], wiring: PodWiring, rules: PoolRules = NO_RULES) -> None:
        """Add pods from now on: addresses of ``ranges``, wired so. Raises InvalidInput for a small range."""
        self._reservations.open(ranges, rules)
        self._wiring = wiring

    def rewire(self, wiring: PodWiring) -> None:
        """Wire later pods so; those that are there get its MTU, and stay as they are otherwise."""
        self._wiring = wiring

    def follow_mtu(self) -> None:
        """Give the pods that are there the MTU of now, unless one was asked for. Raises NetlinkError."""
        wiring = self._wiring
        if wiring is None:
            return
        with self._wires() as wires:
            links = wires.node().links
        for record in self.records:
            link = links.get(record.host_ifname)
            if link is not None and not record.mtu and link.mtu != wiring.mtu:
                self._resize(record, wiring.mtu)

    def _resize(self, record: AllocationRecord, mtu: int) -> None:
        with self._busy.held(record.host_ifname, LOCK_WITHIN_S), self._wires() as wires:
            entry = self._entry(record.host_ifname)
            if entry is None or entry.phase is not Phase.ATTACHED:
                return
            try:
                with netns_of(record) as netns:
                    wires.resize(record.host_ifname, record.ifname, netns, mtu)
            except KubenetError as error:
                # Both ends keep theirs: were one smaller, what is larger would get lost without a word.
                log.warning("cni: %s does not get the MTU %d: %s", record.label, mtu, error)
            else:
                log.info("cni: %s has the MTU %d", record.label, mtu)

    @property
    def records(self) -> list[AllocationRecord]:
        """The finished attachments."""
        return self._reservations.in_phase(Phase.ATTACHED)

    def readiness(self) -> str:
        """Return why no pod can be added now; an empty string if one can."""
        return self._reservations.shortage() if self._wiring else "the node has no pod range yet"

    def add(self, request: Request, netns: NetNs, deliver: Callable[[PodNet], None]) -> None:
        """Wire the pod and ``deliver`` what was made; if that raises too, nothing stays.

        Raises CniError, PoolExhausted, AddressTaken, StoreFailed, NetlinkError, TimedOut.
        """
        name = host_ifname(request.container_id, request.ifname)
        with self._busy.held(name, LOCK_WITHIN_S), ExitStack() as undo, self._wires() as wires:
            self.reaper.wait_gone(name, GONE_WITHIN_S)
            wiring = self._ready_for(name, request)
            record = self._reserve(request, name, netns)
            undo.callback(self._undo, record)
            pod = PodNet(
                name, request.ifname, record.addresses, request.mtu or wiring.mtu, wiring.bridge, request.mac
            )
            self._store.begin(record)
            self._make(wires, pod, netns)
            wires.dress(pod, netns)
            wires.reach(pod)
            if record.bandwidth:
                wires.shape(name, record.bandwidth)
            self._publisher.publish(record)
            self._store.commit(name)
            deliver(pod)
            self._move(name, Phase.ATTACHED)
            undo.pop_all()

    def assign(
        self, request: Request, netns: NetNs, deliver: Callable[[Sequence[AssignedAddress]], None]
    ) -> None:
        """Reserve addresses and nothing else, for an interface that another plugin makes.

        If ``deliver`` raises, they are free again. Raises as ``add``.
        """
        name = host_ifname(request.container_id, request.ifname)
        with self._busy.held(name, LOCK_WITHIN_S), ExitStack() as undo:
            self.reaper.wait_gone(name, GONE_WITHIN_S)
            self._ready_for(name, request)
            record = self._reserve(request, name, netns)
            undo.callback(self._undo, record)
            self._store.begin(record)
            self._store.commit(name)
            deliver(self._reservations.assigned(record))
            self._move(name, Phase.ATTACHED)
            undo.pop_all()

    def delete(self, request: Request, asked_ns: int | None = None) -> None:
        """Detach the pod; what is not there is fine. Raises NetlinkError, TimedOut.

        A request that was ``asked`` for earlier means nothing that was attached since.
        """
        name = host_ifname(request.container_id, request.ifname)
        entry = self._entry(name)
        if asked_ns is None or entry is None or entry.record.created_ns <= asked_ns + CLOCK_SLACK_NS:
            self._delete(name)

    def check(self, request: Request, netns: NetNs) -> None:
        """Return if the pod is wired as it was made. Raises CniError with all that differs."""
        name = host_ifname(request.container_id, request.ifname)
        with self._busy.held(name, LOCK_WITHIN_S), self._wires() as wires:
            record = self._attached(name, request)
            if self._wiring is None:
                raise CniError(Code.TRY_AGAIN, "how pods are wired is not known yet", "waiting for podCIDR")
            inside = wires.pod(netns)
            pod = as_told(record, request, inside, self._wiring)
            different = list(differences(inside, wires.node(), pod))
            different += self._publisher.missing(record)
            if record.bandwidth:
                different += wires.unshaped(name, record.bandwidth)
        if different:
            raise CniError(Code.CHECK_FAILED, "; ".join(different), f"{len(different)} differences")

    def check_assigned(self, request: Request) -> None:
        """Return if the addresses of the earlier result are reserved for this interface. Raises CniError."""
        record = self._attached(host_ifname(request.container_id, request.ifname), request)
        told = addresses_in(request.prev_result or {})
        if missing := [str(address) for address in record.addresses if address not in told]:
            raise CniError(Code.CHECK_FAILED, f"{', '.join(missing)}: reserved, and not in prevResult")

    def collect(self, request: Request, arrived_ns: int) -> None:
        """Detach everything of the request's network that it does not list as valid.

        Raises CniError naming what could not be detached; all else is.
        """
        stale = gc.unlisted(self.records, request.network, request.valid, arrived_ns)
        failed = [f"{record.label}: {error}" for record, error in self._delete_all(stale, "not listed by GC")]
        if failed:
            raise CniError(Code.GC_INCOMPLETE, f"{len(failed)} attachments remain", "; ".join(failed))

    def dead(self, now_ns: int) -> list[AllocationRecord]:
        """Return what is provably dead: neither the pod's link nor its namespace is there."""
        records = self.records
        with self._wires() as wires:
            ifnames = set(wires.node().links)
        alive = {record.netns_inode for record in records if may_live(record)}
        return gc.vanished(records, ifnames, alive, now_ns)

    def sweep(self, now_ns: int) -> list[AllocationRecord]:
        """Let go what is dead, and return it.

        What somebody has changed of the ports of pods is put right, and what could not be taken away yet is
        tried once more.
        """
        self._publisher.restore()
        for record in self._reservations.in_phase(Phase.DYING):
            self.reaper.put(record.host_ifname)
        dead = self.dead(now_ns)
        for record, error in self._delete_all(dead, "pod vanished"):
            log.warning("cni: %s cannot be let go: %s", record.label, error)
        return dead

    def close(self) -> None:
        """Close the connections to the kernel. No thread may be busy any more."""
        while self._idle:
            self._idle.pop().close()
        self._publisher.close()

    def _ready_for(self, name: str, request: Request) -> PodWiring:
        if self._entry(name) is not None:
            raise CniError(
                Code.ALREADY_ATTACHED,
                f"container {request.container_id} has {request.ifname} already",
                "the existing attachment was left as it is",
            )
        if self._wiring is None or not self._reservations.opened:
            raise CniError(Code.TRY_AGAIN, "the node has no pod range yet", "waiting for its podCIDR")
        return self._wiring

    def _reserve(self, request: Request, name: str, netns: NetNs) -> AllocationRecord:
        blank = AllocationRecord(
            name,
            (),
            request.network,
            request.container_id,
            request.ifname,
            request.netns,
            netns.inode,
            time.time_ns(),
            request.pod,
            request.host_ports,
            request.bandwidth,
            request.role is Role.IPAM,
            request.mac or "",
            request.mtu,
        )
        return self._reservations.reserve(blank, request)

    def release(self, pod: str) -> bool:
        """Keep no address for the pod any more; return whether one was. Raises StoreFailed."""
        return self._reservations.release(pod)

    def _make(self, wires: Wires, pod: PodNet, netns: NetNs) -> None:
        try:
            wires.make(pod, netns)
        except CniError as error:
            if error.code is not Code.ALREADY_ATTACHED or not self.reaper.busy:
                raise
            # The interface in the way may be one whose DEL was answered a moment ago.
            self.reaper.wait_idle(GONE_WITHIN_S)
            wires.make(pod, netns)

    def _undo(self, record: AllocationRecord) -> None:
        """Remove all that an ADD has made; what cannot be removed now goes later, with its address."""
        name = record.host_ifname
        self._move(name, Phase.DYING)
        try:
            self._publisher.withdraw(name)
            with self._wires() as wires:
                wires.remove(name)
        except KubenetError as error:
            log.warning("cni: %s: the link %s stays for the moment: %s", record.label, name, error)
            self.reaper.put(name)
        else:
            self._gone(name)

    def _delete(self, name: str) -> None:
        with self._busy.held(name, LOCK_WITHIN_S), self._wires() as wires:
            entry = self._entry(name)
            self._publisher.withdraw(name)
            if entry is not None and entry.phase is Phase.ATTACHED:
                self._retire(entry.record)
            if wires.retire(name):
                self.reaper.put(name)
            elif entry is not None:
                self._gone(name)
        if self._strict_delete:
            self.reaper.wait_gone(name, GONE_WITHIN_S)

    def _retire(self, record: AllocationRecord) -> None:
        try:
            self._store.retire(record.host_ifname)
        except StoreFailed as error:
            # The pod has to go all the same. At worst the next agent finds a record without a link.
            log.warning("cni: %s: %s", record.label, error)
        self._move(record.host_ifname, Phase.DYING)

    def _delete_all(
        self, records: Iterable[AllocationRecord], why: str
    ) -> Iterator[tuple[AllocationRecord, KubenetError]]:
        for record in records:
            log.info("cni: %s lets go of %s: %s", record.label, _list(record), why)
            try:
                self._delete(record.host_ifname)
            except KubenetError as error:
                yield record, error

    def _gone(self, name: str) -> None:
        """Its links are no more: free what it held, unless a port of the node still leads to it."""
        try:
            self._publisher.withdraw(name)
            self._store.forget(name)
        except KubenetError as error:
            # Until a DEL, a sweep or the next agent: two records of one address would stop that one.
            log.warning("cni: %s keeps its addresses: %s", name, error)
            return
        self._reservations.free(name)

    def _attached(self, name: str, request: Request) -> AllocationRecord:
        entry = self._entry(name)
        if entry is None or entry.phase is not Phase.ATTACHED:
            raise CniError(Code.CHECK_FAILED, f"{request.ifname}: no address is reserved for it")
        return entry.record

    def _entry(self, name: str) -> Stored | None:
        return self._reservations.entry(name)

    def _move(self, name: str, phase: Phase) -> None:
        self._reservations.move(name, phase)

    @contextmanager
    def _wires(self) -> Iterator[Wires]:
        """Lend a connection to the kernel to the calling thread."""
        try:
            wires = self._idle.pop()
        except IndexError:
            wires = self._connect()
        try:
            yield wires
        finally:
            self._idle.append(wires)


def _list(record: AllocationRecord) -> str:
    return ", ".join(str(address) for address in record.addresses)
