"""Names and addresses as /etc/hosts has them, for the plugin ``hosts``. *Pure.*

Source: hosts(5); manual page of the plugin hosts of CoreDNS.
"""

from collections.abc import Iterable
from ipaddress import ip_address

from dns import names
from dns.answer import Answer, refuse
from dns.names import WireName, is_in
from dns.records import RRset, both_families
from dns.settings import Hosts
from dns.wire import Question, Rcode, RType
from kubenet.errors import InvalidInput


class HostTable:
    """What the lines of a file and of the Corefile say."""

    def __init__(self, config: Hosts, lines: Iterable[str]) -> None:
        self._config = config
        self._addresses: dict[WireName, dict[bytes, None]] = {}
        self._names: dict[WireName, dict[WireName, None]] = {}  # by reverse name
        for line in (*lines, *config.lines):
            self._read(line)

    def _read(self, line: str) -> None:
        """Take one line; one that is not understood is passed over, as the system's resolver does."""
        words = line.partition("#")[0].split()
        try:
            packed = ip_address(words[0].partition("%")[0]).packed if words else b""
            owners = [names.from_text(word.lower()) for word in words[1:]]
        except (ValueError, InvalidInput):
            return
        for owner in owners:
            self._addresses.setdefault(owner, {})[packed] = None
            if self._config.reverse:
                self._names.setdefault(names.reverse_name(packed), {})[owner] = None

    def answer(self, question: Question) -> Answer | None:
        """Return the answer for a question, None if the next plugin is to be asked."""
        name = question.name.lower()
        if not any(is_in(name, zone) for zone in self._config.zones):
            return None
        ttl_s = self._config.ttl_s
        if question.qtype == RType.PTR:
            pointers = tuple(self._names.get(name, ()))
            return Answer(Rcode.NOERROR, (RRset(name, RType.PTR, ttl_s, pointers),)) if pointers else None
        if name not in self._addresses:
            return self._missing(name)
        found = both_families(name, ttl_s, self._addresses[name])
        fits = tuple(rrset for rrset in found if rrset.rtype == question.qtype)
        return Answer(Rcode.NOERROR, fits)

    def _missing(self, name: WireName) -> Answer | None:
        """A name that is not here goes to the next plugin if it may; there is no SOA to deny it with."""
        zones = self._config.fallthrough
        if zones is not None and (not zones or any(is_in(name, zone) for zone in zones)):
            return None
        return refuse(Rcode.SERVFAIL)
