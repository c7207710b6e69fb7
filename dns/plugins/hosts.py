"""``hosts``: names and addresses as /etc/hosts has them. *Pure.*

``*.example.org`` stands for every name one label below example.org that has no line of its own.

Source: hosts(5); manual page of the plugin hosts of CoreDNS.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from ipaddress import ip_address

from dns import names
from dns.answer import Answer, refuse
from dns.chain import Decision, Next, Request
from dns.corefile import Directive
from dns.names import WireName, is_in
from dns.plugins.reach import overlap
from dns.records import RRset, both_families
from dns.settings import Block, Hosts
from dns.wire import Question, Rcode, RType
from dns.words import duration_s, one_value, unknown_option, whole_number, zones_of_all
from kubenet.errors import InvalidInput

_STAR = b"\x01*"
_OPTIONS = ("ttl", "no_reverse", "fallthrough", "fallthrough_unsupported", "reload")


def read_hosts(block: Block, directive: Directive) -> Block:
    """Return the block with host names. Raises InvalidInput."""
    path, zones = "".join(directive.args[:1]), directive.args[1:]
    config = Hosts(zones_of_all(zones) or block.zones, path or "/etc/hosts")
    for option in directive.options:
        config = _read_option(config, option)
    if config.fallthrough_unsupported and config.fallthrough is None:
        raise directive.wrong("fallthrough_unsupported needs fallthrough")
    return replace(block, hosts=config)


def _read_option(config: Hosts, option: Directive) -> Hosts:
    match option.name:
        case "ttl":
            return replace(config, ttl_s=whole_number(one_value(option), 1, 1 << 30))
        case "no_reverse":
            return replace(config, reverse=False)
        case "fallthrough":
            return replace(config, fallthrough=zones_of_all(option.args))
        case "fallthrough_unsupported":
            return replace(config, fallthrough_unsupported=True)
        case "reload":
            return replace(config, reload_s=duration_s(one_value(option)))
        case _:
            _check_line(option)
            return replace(config, lines=(*config.lines, " ".join((option.name, *option.args))))


def _check_line(option: Directive) -> None:
    try:
        ip_address(option.name)
    except ValueError:
        raise unknown_option(option, "hosts", _OPTIONS) from None
    if not option.args:
        raise option.wrong("an address without a name")


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
            if self._config.reverse and not owner.startswith(_STAR):
                self._names.setdefault(names.reverse_name(packed), {})[owner] = None

    def answer(self, question: Question) -> Answer | None:
        """Return the answer for a question, None if the next plugin is to be asked."""
        config, name = self._config, question.name.lower()
        if not any(is_in(name, zone) for zone in config.zones):
            return None
        if question.qtype == RType.PTR:
            pointers = tuple(self._names.get(name, ()))
            return (
                Answer(Rcode.NOERROR, (RRset(name, RType.PTR, config.ttl_s, pointers),)) if pointers else None
            )
        held = self._addresses.get(name) or self._addresses.get(_wildcard(name))
        if held is None:
            return self._missing(name)
        if question.qtype not in (RType.A, RType.AAAA) and config.fallthrough_unsupported:
            return self._missing(name)
        found = both_families(name, config.ttl_s, held)
        fits = tuple(rrset for rrset in found if rrset.rtype == question.qtype)
        return Answer(Rcode.NOERROR, fits)

    def held(self) -> Iterator[WireName]:
        """Give all names that have lines."""
        yield from self._addresses
        yield from self._names

    def _missing(self, name: WireName) -> Answer | None:
        """A name that is not here goes to the next plugin if it may; there is no SOA to deny it with."""
        zones = self._config.fallthrough
        if zones is not None and (not zones or any(is_in(name, zone) for zone in zones)):
            return None
        return refuse(Rcode.SERVFAIL)


def _wildcard(name: WireName) -> WireName:
    return _STAR + name[1 + name[0] :] if name != names.ROOT else name


class HostsPlugin:
    """The plugin; its table may be exchanged at any time."""

    def __init__(self, config: Hosts, lines: Iterable[str]) -> None:
        self.config = config
        self.renew(lines)

    def __call__(self, request: Request, serve: Next) -> Decision:
        found = self.table.answer(request.question)
        return serve(request) if found is None else found

    def touches(self, zones: Sequence[WireName]) -> bool:
        """Return whether the plugin has a say in names of ``zones`` by what the file holds now."""
        config = self.config
        goes_on = config.fallthrough is not None and not config.fallthrough
        held = any(is_in(name, zone) for name in self.table.held() for zone in zones)
        return overlap(config.zones, zones) and (held or not goes_on)

    def renew(self, lines: Iterable[str]) -> None:
        """Answer by the lines that the file has now."""
        self.lines = list(lines)
        self.table = HostTable(self.config, self.lines)
