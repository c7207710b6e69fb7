"""One server block at work: its plugins in their fixed order, around the cluster's names. *Pure.*

Replies that are kept for the cluster's names are right for everybody where no plugin before ``kubernetes``
can have a say in them (``plain``). Elsewhere they are given as soon as those have let a question pass.

Source: plugin.cfg of CoreDNS (the order).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from ipaddress import ip_address
from typing import TypeAlias

from dns.answer import Answer, Dropped, Forward, Transfer, answer, never_answered, refuse
from dns.chain import (
    Decision,
    Kept,
    Next,
    Origin,
    Plugin,
    Request,
    chained,
    named,
    resolved,
    resumed,
    settled,
)
from dns.forward import Transport
from dns.names import WireName
from dns.passed import Passed
from dns.plugins.expression import Seen, compile_expression
from dns.plugins.files import FilePlugin, Transferable, transfer_plugin
from dns.plugins.guards import acl_plugin, chaos_plugin, local, minimal_any, whoami
from dns.plugins.hosts import HostsPlugin
from dns.plugins.reach import touches
from dns.plugins.rewrite import rewrite_plugin
from dns.plugins.shapes import autopath_plugin, dns64_plugin, header_plugin, minimal
from dns.plugins.template import template_plugin, type_name
from dns.read import Naming
from dns.relay import UpstreamReply
from dns.reply import Draw, write_transfer
from dns.respond import (
    NSID,
    Forwarding,
    Messages,
    Responder,
    Response,
    after_aliases,
    content_of,
    without_upstream,
)
from dns.settings import Block, ForwardTo
from dns.tally import Tallies, way_of
from dns.wire import UDP_BYTES, Query, Rcode, RType
from dns.zone import Zone, ZoneConfig
from dns.zonetransfer import zone_records

Finished: TypeAlias = Callable[[bytes], None]  # hears of the reply
PassOn: TypeAlias = Callable[[int, bytes, Passed], bool]  # the number of a forward, and the question
Observe: TypeAlias = Callable[[Query, Origin], Finished | None]

MOST_SIGHTINGS = 2  # of our own probe, until it is a loop

# For blocks without kubernetes; nothing is ever looked up in it.
NO_ZONE = Zone(ZoneConfig(Naming(b"\x07invalid\0"), reverse=()))


class Part:
    """One server block at work."""

    def __init__(
        self,
        block: Block,
        zone: Zone | None,
        draw: Draw,
        hosts: Sequence[str] = (),
        hostname: str = "kubenet",
    ) -> None:
        self.block = block
        self.has_zone = zone is not None
        self.responder = Responder(zone or NO_ZONE, draw, forwards=bool(block.forwards))
        self.responder.nsid = _nsid(block.nsid, hostname) if block.nsid else b""
        self.plugin = ""  # that made the last answer
        self.kept = False  # whether that was a kept reply, which is counted already
        self.tallies = Tallies()
        self.probe: WireName = b""  # what the loop plugin asks for
        self.sightings = 0
        self.reconsidered: Callable[[], None] = _nobody_asks
        self.pass_on: PassOn | None = None  # asks upstream for what no plugin has a say in
        self.observe: Observe | None = None  # hears of every query and its reply
        self.search_path: tuple[WireName, ...] = ()  # for autopath, from a file
        self.hosts = HostsPlugin(block.hosts, hosts) if block.hosts else None
        self.files = FilePlugin(self.serve) if block.files or block.directories else None
        self._views = [compile_expression(text) for view in block.views for text in view.expressions]
        plugins = self._plugins(hostname)
        shaped = plugins or self.files or block.views or block.logs or block.nsid
        # Whether forwarded questions and answers pass unchanged.
        self.passes = not shaped and block.bufsize == UDP_BYTES and all(map(_is_plain, block.forwards))
        config = self.responder.zone.config
        self._own = (
            config.naming.domain,
            *(apex for apex in config.reverse if apex not in config.fallthrough),
        )
        # Whether replies are those of the zone if no plugin changes them.
        self._transparent = not block.nsid and block.bufsize == UDP_BYTES
        self._plain = not touches(block, (config.naming.domain, *config.reverse))
        if self.has_zone:
            plugins.append(self._kubernetes)
        if self.files:
            plugins.append(named("file", self.files))
        self._serve = chained(plugins, self._last)

    def _plugins(self, hostname: str) -> list[Plugin]:
        """Return the plugins before kubernetes, in the order of CoreDNS's plugin.cfg.

        Unlike there, autopath comes before acl: the names it tries are guarded like any other.
        """
        block = self.block
        plugins: tuple[tuple[str, Plugin | None], ...] = (
            ("local", local if block.local else None),
            ("dns64", dns64_plugin(block.dns64) if block.dns64 else None),
            ("rewrite", rewrite_plugin(block.rewrites) if block.rewrites else None),
            ("autopath", autopath_plugin(block.autopath, self._path_of) if block.autopath else None),
            *(("acl", acl_plugin(rules)) for rules in block.acls),
            ("any", minimal_any if block.any else None),
            ("chaos", chaos_plugin(block.chaos, hostname) if block.chaos else None),
            ("header", header_plugin(block.header) if block.header else None),
            ("minimal", minimal if block.minimal else None),
            ("template", template_plugin(block.templates, self.serve) if block.templates else None),
            ("transfer", transfer_plugin(block.transfers, self._transferable) if block.transfers else None),
            ("hosts", self.hosts),
        )
        return [named(name, plugin) for name, plugin in plugins if plugin]

    @property
    def plain(self) -> bool:
        """Whether the kept replies of the zone are right for everybody."""
        block = self.block
        shaped = block.views or block.logs or block.nsid or block.bufsize != UDP_BYTES
        hosts = self.hosts is not None and self.hosts.touches(self._own)
        return self.has_zone and self._plain and not shaped and not hosts

    @property
    def looping(self) -> bool:
        """Whether what we ask upstream comes back to us."""
        return self.sightings > MOST_SIGHTINGS

    def is_for(self, query: Query, origin: Origin) -> bool:
        """Return whether the views of the block let a query in."""
        if not self._views:
            return True
        seen = Seen(query, origin, type_name(query.question.qtype), self.metadata_of(origin))
        return all(view(seen) for view in self._views)

    def serve(self, request: Request) -> Decision:
        """Return what a request gets from all plugins, the first one first."""
        return self._serve(request)

    def respond(self, query: Query, origin: Origin, message: bytes = b"") -> Response | None:
        """Return what a query gets here.

        ``message`` is what it was read from; empty if it has been looked up among kept replies already.
        """
        self.kept = False
        if query.question.qtype == RType.HINFO and query.question.name.lower() == self.probe:
            self.sightings += 1
        if query.edns and query.edns.udp_bytes > self.block.bufsize:
            query = replace(query, edns=replace(query.edns, udp_bytes=self.block.bufsize))
        done = self.observe(query, origin) if self.observe else None
        decision = self.serve(Request(query.question, query, origin))
        response: Response | None = None
        if isinstance(decision, Kept) and message:
            response = self._kept_reply(message, origin)
        if response is None:
            keep = isinstance(decision, Kept)
            response = self._settle(query, settled(decision), origin.stream, keep=keep)
        if done and isinstance(response, bytes):
            done(response)
        elif isinstance(response, Forwarding):
            return replace(response, done=done)
        return response

    def _kept_reply(self, message: bytes, origin: Origin) -> bytes | None:
        """Return a reply that is kept for a query that no plugin had a say in; it is counted then."""
        reply = self.responder.fast.reply(message, way_of(origin.client, stream=origin.stream))
        self.kept = reply is not None
        return reply

    def _settle(
        self,
        query: Query,
        decision: Answer | Forward | Dropped | Transfer,
        stream: bool,
        *,
        keep: bool = False,
    ) -> Response | None:
        match decision:
            case Dropped():
                return None
            case Transfer():
                return Messages(write_transfer(query, decision.records))
            case Forward():
                self.plugin = "forward"
                route = self.route(decision.question.name.lower())
                if route is not None and not self.looping:
                    return self.responder.settle(query, decision, stream=stream, route=route)
                failure = refuse(Rcode.SERVFAIL) if self.looping else without_upstream(decision)
                return self._settle(query, resumed(failure, decision.then), stream)
            case Answer():
                self.plugin = decision.plugin
                return self.responder.settle(query, decision, stream=stream, route=None, keep=keep)

    def complete(self, waiting: Forwarding, reply: UpstreamReply | None) -> Response | None:
        """Return what follows from an upstream server's reply; None for it: no server answered."""
        if not waiting.then:
            return self.responder.complete(waiting, reply)
        content = after_aliases(waiting.aliases, reply) if waiting.aliases else content_of(reply)
        return self._resume(waiting, content)

    def refuse(self, waiting: Forwarding) -> Response | None:
        """Return what a query gets that cannot be asked upstream now, because too many are."""
        return self._resume(waiting, refuse(Rcode.REFUSED))

    def _resume(self, waiting: Forwarding, content: Answer) -> Response | None:
        response = self._settle(waiting.query, resumed(content, waiting.then), waiting.stream)
        if isinstance(response, Forwarding):
            response.done, response.way = waiting.done, waiting.way
        return response

    def _kubernetes(self, request: Request, serve: Next) -> Decision:
        if request.question is request.query.question and self._transparent:
            return Kept(lambda: self._of_zone(request, serve))
        return self._of_zone(request, serve)

    def _of_zone(self, request: Request, serve: Next) -> Decision:
        decision = answer(request.question, self.responder.zone)
        if isinstance(decision, Answer):
            return replace(decision, plugin="kubernetes")
        if decision.aliases:
            return resolved(request, self.serve, decision.aliases, decision.question.name)
        return serve(request)

    def _last(self, request: Request) -> Decision:
        refusal = never_answered(request.question)
        if refusal is None and self.block.whoami and self.route(request.name) is None:
            return whoami(request)
        return refusal or Forward(request.question)

    def route(self, name: WireName) -> int | None:
        """Return the number of the first ``forward`` that takes ``name``, as CoreDNS asks them in turn."""
        return next((index for index, to in enumerate(self.block.forwards) if to.takes(name)), None)

    def next_route(self, route: int, name: WireName) -> int | None:
        """Return the number of the next ``forward`` after one of them that takes ``name``."""
        later = enumerate(self.block.forwards[route + 1 :], route + 1)
        return next((index for index, to in later if to.takes(name)), None)

    def metadata_of(self, origin: Origin) -> Mapping[str, str]:
        """Return what plugins know of who asks, under CoreDNS's names."""
        try:
            packed = ip_address(origin.client.partition("%")[0]).packed
        except ValueError:
            return {}
        namespace = self.responder.zone.tenant(packed)
        return {"kubernetes/client-namespace": namespace.decode(errors="replace")} if namespace else {}

    def _path_of(self, packed: bytes) -> tuple[WireName, ...]:
        return self.search_path or self.responder.zone.search_path(packed)

    def _transferable(self, name: WireName) -> Transferable | None:
        zone = self.responder.zone
        if self.has_zone and name == zone.config.naming.domain and zone.synced:
            return Transferable(zone.serial, zone.soa(name), partial(zone_records, zone))
        found = self.files.zones.get(name) if self.files else None
        return Transferable(found.serial, found.soa, found.records) if found else None


def _is_plain(to: ForwardTo) -> bool:
    """Return whether a forward is asked over UDP, and what it says is the last word."""
    plain = all(isinstance(each, str) or each.transport is Transport.PLAIN for each in to.servers)
    return plain and not (to.force_tcp or to.next_on or to.next_on_nodata)


def _nobody_asks() -> None:
    """Nothing is served yet."""


def _nsid(text: bytes, hostname: str) -> bytes:
    content = text.replace(b"{hostname}", hostname.encode())
    return NSID.to_bytes(2, "big") + len(content).to_bytes(2, "big") + content
