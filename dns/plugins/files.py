"""``file`` and ``auto``: zones as files have them; ``transfer``: who may have a zone whole. *Pure.*

Source: manual pages of the plugins file, auto and transfer of CoreDNS; RFC 5936 (AXFR), RFC 1995 (IXFR).
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_network

from dns import names
from dns.answer import Answer, Transfer, refuse
from dns.chain import Decision, Next, Plugin, Request, resolved
from dns.corefile import Directive
from dns.names import WireName, is_in
from dns.plugins.guards import is_within
from dns.plugins.values import Network, TransferConfig, ZoneDirectory, ZoneFile
from dns.records import RRset
from dns.settings import Block
from dns.wire import Rcode, RType
from dns.words import duration_s, one_value, pattern_of, unknown_option, zones_of_all
from dns.zonefile import Alias, FileZone


def read_file(block: Block, directive: Directive) -> Block:
    """Return the block with one more file. Raises InvalidInput."""
    if not directive.args:
        raise directive.wrong("needs the name of a zone file")
    path, *zones = directive.args
    config = ZoneFile(path, zones_of_all(tuple(zones)) or block.zones)
    for option in directive.options:
        match option.name:
            case "reload":
                config = replace(config, reload_s=duration_s(one_value(option)))
            case "fallthrough":
                config = replace(config, fallthrough=zones_of_all(option.args))
            case "upstream":
                pass  # aliases ask this server
            case _:
                raise unknown_option(option, "file", ("reload", "fallthrough"))
    return replace(block, files=(*block.files, config))


def read_auto(block: Block, directive: Directive) -> Block:
    """Return the block with one more directory of zone files. Raises InvalidInput."""
    config = ZoneDirectory("", zones_of_all(directive.args) or block.zones)
    for option in directive.options:
        match option.name:
            case "directory":
                config = _directory(config, option)
            case "reload":
                config = replace(config, reload_s=duration_s(one_value(option)))
            case "upstream":
                pass
            case _:
                raise unknown_option(option, "auto", ("directory", "reload"))
    if not config.directory:
        raise directive.wrong("needs 'directory DIR'")
    return replace(block, directories=(*block.directories, config))


def _directory(config: ZoneDirectory, option: Directive) -> ZoneDirectory:
    match option.args:
        case (directory,):
            return replace(config, directory=directory)
        case (directory, pattern, origin):
            return replace(config, directory=directory, pattern=pattern_of(pattern), origin=origin)
        case _:
            raise option.wrong("needs a directory, and perhaps a pattern and what the origin is made of")


def origin_of(config: ZoneDirectory, file_name: str) -> WireName | None:
    """Return the zone that a file of a directory holds, None if it is no zone file or not a zone of ours."""
    found = re.fullmatch(config.pattern, file_name)
    if found is None:
        return None
    text = config.origin
    for number, group in enumerate((found[0], *found.groups(default=""))):
        text = text.replace(f"{{{number}}}", group)
    origin = names.from_text(text.lower())
    return origin if any(is_in(origin, zone) for zone in config.zones) else None


class FilePlugin:
    """The plugins ``file`` and ``auto`` of a block; their zones may be exchanged at any time."""

    def __init__(self, start: Next) -> None:
        self.zones: dict[WireName, FileZone] = {}
        self.fallthrough: dict[WireName, tuple[WireName, ...]] = {}  # by zone; empty: for all names
        self._start = start

    def zone_of(self, name: WireName) -> FileZone | None:
        """Return the zone with the longest name that a lower-cased name is in."""
        return next((self.zones[end] for end in _endings(name) if end in self.zones), None)

    def __call__(self, request: Request, serve: Next) -> Decision:
        zone = self.zone_of(request.name)
        if zone is None:
            return serve(request)
        found = zone.find(request.name, request.question.qtype)
        if isinstance(found, Alias):
            return resolved(request, self._start, found.records, found.target)
        if found.rcode == Rcode.NXDOMAIN and self._falls_through(request.name, zone.origin):
            return serve(request)
        return found

    def _falls_through(self, name: WireName, origin: WireName) -> bool:
        zones = self.fallthrough.get(origin)
        return zones is not None and (not zones or any(is_in(name, zone) for zone in zones))


def _endings(name: WireName) -> Iterator[WireName]:
    for _, ending in names.suffixes(name):
        yield ending
    yield names.ROOT


def read_transfer(block: Block, directive: Directive) -> Block:
    """Return the block that gives zones away. Raises InvalidInput."""
    networks: list[Network] = []
    everybody = False
    for option in directive.options:
        if option.name != "to" or not option.args:
            raise unknown_option(option, "transfer", ("to",))
        for word in option.args:
            everybody = everybody or word == "*"
            if word != "*":
                networks.append(_network(option, word))
    if not directive.options:
        raise directive.wrong("needs 'to ADDRESS'")
    config = TransferConfig(zones_of_all(directive.args) or block.zones, tuple(networks), everybody)
    return replace(block, transfers=(*block.transfers, config))


def _network(option: Directive, word: str) -> Network:
    try:
        return ip_network(word, strict=False)
    except ValueError:
        pass
    try:
        return ip_network(word.rpartition(":")[0].strip("[]"))  # a port is for notifies, which are not sent
    except ValueError as error:
        raise option.wrong(str(error)) from error


@dataclass(frozen=True, slots=True)
class Transferable:
    """A zone that can be given whole."""

    serial: int
    soa: RRset
    records: Callable[[], Iterator[RRset]]


def transfer_plugin(
    configs: Sequence[TransferConfig], zone_at: Callable[[WireName], Transferable | None]
) -> Plugin:
    """Return the plugin that answers AXFR and IXFR for those who may ask.

    Changes are not kept, so IXFR gets the whole zone, or only its SOA record if the client has that version
    already, or asks over UDP and has to come again over TCP.
    """

    def transfer(request: Request, serve: Next) -> Decision:
        qtype = request.question.qtype
        if qtype not in (RType.AXFR, RType.IXFR):
            return serve(request)
        zone = zone_at(request.name) if any(_allows(config, request) for config in configs) else None
        if zone is None or (qtype == RType.AXFR and not request.stream):
            return refuse(Rcode.REFUSED)
        if qtype == RType.IXFR and (not request.stream or request.query.serial == zone.serial):
            return Answer(Rcode.NOERROR, (zone.soa,))
        return Transfer(zone.records())

    return transfer


def _allows(config: TransferConfig, request: Request) -> bool:
    if not any(is_in(request.name, zone) for zone in config.zones):
        return False
    return config.everybody or is_within(request.client, config.networks)
