"""Who has which address on this node, for several threads: the ledger under its lock, and what pods keep.

An ordinary pod's address is a step in memory. One that is to be kept for the pod's name is also written to a
disk, before the pod is answered; only such pods wait for that.
"""

import time
from collections.abc import Iterable
from threading import Lock

from cni.result import AssignedAddress
from cni.spec import CniError, Code, Request
from ipam.ledger import Ledger
from ipam.pool import AddressTaken, PoolRules
from ipam.record import AllocationRecord, Phase, Stored
from ipam.sticky import StickyFile
from kubenet.model.links import IPNetwork


class Reservations:
    """All addresses of one node. May be used by several threads."""

    def __init__(self, sticky: StickyFile) -> None:
        self._sticky = sticky
        self._sticky_lock = Lock()  # of the file: taken before the ledger's
        self.ledger = Ledger()
        self._guard = Lock()  # of the ledger

    def recall(self) -> None:
        """Keep what pods kept in earlier times. Raises StoreFailed."""
        for pod, addresses in self._sticky.read().items():
            self.ledger.keep(pod, addresses)

    def adopt(self, records: Iterable[AllocationRecord]) -> None:
        """Take in attachments that were made earlier. To be done before ``open``."""
        for record in records:
            self.ledger.adopt(record, Phase.ATTACHED)

    def open(self, ranges: Iterable[IPNetwork], rules: PoolRules) -> None:
        """Hand out addresses of ``ranges``. Raises InvalidInput for one that is too small."""
        with self._guard:
            self.ledger.open(ranges, rules)

    def shortage(self) -> str:
        """Return why nobody can have an address now; an empty string if somebody can."""
        with self._guard:
            if not self.ledger.pools:
                return "the node has no pod range yet"
            full = self.ledger.exhausted
            return f"{full.network}: all {full.usable} addresses are in use" if full else ""

    @property
    def opened(self) -> bool:
        return bool(self.ledger.pools)

    def reserve(self, blank: AllocationRecord, request: Request) -> AllocationRecord:
        """Return the record with addresses, which are the attachment's from now on.

        Raises PoolExhausted, AddressTaken, CniError, StoreFailed.
        """
        if not (request.sticky and request.pod):
            with self._guard:
                return self.ledger.reserve(blank, request.addresses, time.monotonic())
        with self._sticky_lock:
            return self._reserve_for_long(blank, request)

    def _reserve_for_long(self, blank: AllocationRecord, request: Request) -> AllocationRecord:
        with self._guard:
            kept = self.ledger.kept_for(request.pod)
            try:
                record = self.ledger.reserve(blank, request.addresses or kept, time.monotonic())
            except AddressTaken as error:
                if request.addresses:
                    raise
                raise CniError(Code.TRY_AGAIN, f"{error}: the pod before has it still") from error
            self.ledger.keep(request.pod, record.addresses)
            everything = self.ledger.kept
        if kept != record.addresses:
            try:
                self._sticky.write(everything)
            except BaseException:
                with self._guard:
                    self.ledger.free(record.host_ifname)
                    self.ledger.let_go(request.pod)
                raise
        return record

    def release(self, pod: str) -> bool:
        """Keep no address for the pod any more; return whether one was. Raises StoreFailed."""
        with self._sticky_lock:
            with self._guard:
                kept = {name: addresses for name, addresses in self.ledger.kept.items() if name != pod}
            self._sticky.write(kept)
            with self._guard:
                return self.ledger.let_go(pod, time.monotonic())

    def assigned(self, record: AllocationRecord) -> list[AssignedAddress]:
        """Return the record's addresses as an address manager tells them."""
        with self._guard:
            told = [self.ledger.assigned(address) for address in record.addresses]
        return [AssignedAddress(interface, gateway) for interface, gateway in told]

    def entry(self, host_ifname: str) -> Stored | None:
        """Return what is known of an attachment."""
        with self._guard:
            return self.ledger.get(host_ifname)

    def in_phase(self, phase: Phase) -> list[AllocationRecord]:
        """Return the attachments of one phase."""
        with self._guard:
            return self.ledger.in_phase(phase)

    def move(self, host_ifname: str, phase: Phase) -> None:
        """Note how far an attachment has come."""
        with self._guard:
            self.ledger.move(host_ifname, phase)

    def free(self, host_ifname: str) -> None:
        """Forget an attachment: its addresses rest now."""
        with self._guard:
            self.ledger.free(host_ifname, time.monotonic())
