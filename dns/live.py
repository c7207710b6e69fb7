"""A configuration at work: its server blocks with their caches and their sockets to upstream servers.

A change of configuration makes a new one of these; the old one finishes what waits for upstream servers.
"""

import asyncio
import logging
import random
import secrets
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import ip_address

from dns import names
from dns.asks import Ask, Plain, ask_of_key
from dns.cache import ReplyCache
from dns.chain import Origin
from dns.cluster import ClusterNames
from dns.forward import Forwarder, Patience, Transport, Upstream
from dns.health import Manners
from dns.metrics import ForwardFigures
from dns.part import Finished, Part
from dns.passed import Passed
from dns.plugins.errors import ErrorLines, Line
from dns.plugins.querylog import Told, line_of
from dns.plugins.template import type_name
from dns.relay import UpstreamReply
from dns.reply import opt_record
from dns.respond import Forwarding, Response
from dns.settings import Block, ForwardTo, Kubernetes
from dns.site import Site, count
from dns.streams import SocketFactory, StreamConfig, client_context
from dns.tally import WAYS
from dns.transports import Reply
from dns.upstream import UpstreamSockets
from dns.watched import WatchedFiles, ZoneFiles, host_lines, lines_of
from dns.wire import HEADER_BYTES, RD, Query, Question, Rcode, RType
from dns.zone import PodsMode
from kubenet.errors import InvalidInput

log = logging.getLogger(__name__)
query_log = logging.getLogger("dns.queries")

ENTROPY_BYTES = 4096  # asked of the kernel at a time


@dataclass(frozen=True, slots=True)
class Waiter:
    """Who waits for an upstream server; ``waiting`` None: the cache alone does."""

    ask: Ask
    waiting: Forwarding | None = None
    reply: Reply | None = None
    stale: UpstreamReply | None = None  # better than no answer
    route: int = 0  # the number of the forward in its block that is asked


@dataclass(slots=True)  # not frozen: there is one for each query
class PlainWaiter:
    """Who waits for the answer to a plain question."""

    part: "LivePart"
    route: int
    passed: Passed

    @property
    def began(self) -> float:
        """When it was asked, in the loop's time."""
        return self.passed.began

    def widened(self, ask: Ask) -> Waiter:
        """Return the waiter who takes over when more than the ordinary happens."""
        waiting = Forwarding(self.passed.query, (), ask, stream=False, way=self.passed.way)
        return Waiter(ask, waiting, partial(self.part.answered, self.passed), None, self.route)


class LivePart:
    """One server block, with what of it is no pure function."""

    def __init__(
        self,
        block: Block,
        cluster: ClusterNames | None,
        open_socket: SocketFactory,
        zones: ZoneFiles,
    ) -> None:
        zone = cluster.feed.zone if cluster else None
        self.cluster = cluster
        hosts = host_lines(block.hosts) if block.hosts else ()
        self.part = Part(block, zone, any_of, hosts, socket.gethostname())
        self.part.observe = self._observe if block.logs else None
        self._errors = ErrorLines(block.consolidations)
        self.watched = WatchedFiles(self.part, zones)
        self.cache = ReplyCache(block.cache) if block.cache else None
        self._loop = asyncio.get_running_loop()
        self.forwarders: list[Forwarder[Waiter]] = []
        self._routes: list[UpstreamSockets[Waiter]] = []
        self._said_looping = False
        self._telling: asyncio.TimerHandle | None = None
        for to in block.forwards:
            forwarder: Forwarder[Waiter] = _forwarder(to, whole=self.cache is not None)
            self.forwarders.append(forwarder)
            streams = _streams(to, forwarder)
            self._routes.append(
                UpstreamSockets(
                    forwarder, open_socket, self._deliver, self._refuse, streams, self._deliver_plain
                )
            )
        # Where what is stale waits for what upstream says, more than one reply has to be thought of.
        self.part.pass_on = None if block.cache and block.cache.stale_verify else self.pass_on

    def start(self) -> None:
        """Follow the cluster and the files, and look for a loop."""
        self.watched.start()
        _warn_of_blindness(self.part.block)
        if self.cluster:
            self.part.responder.move(self.cluster.feed.zone, tuple(self.cluster.feed.zone.services))
            self.cluster.watchers.append(self.part.responder.move)
        if self.part.block.loop and self._routes:
            label = names.prefixed(secrets.token_hex(16).encode())
            self.part.probe = label + self.part.block.zones[0]
            probe = Ask(Question(self.part.probe, RType.HINFO), RD, None)
            self._routes[0].ask(probe, Waiter(probe), stream=False)

    def stop(self) -> None:
        """Close all sockets; who still waits is not answered."""
        if self.cluster and self.part.responder.move in self.cluster.watchers:
            self.cluster.watchers.remove(self.part.responder.move)
        for route in self._routes:
            route.close()
        self.watched.stop()
        if self._telling:
            self._telling.cancel()

    def forward_figures(self) -> list[ForwardFigures]:
        """Return what each ``forward`` has counted."""
        return [
            ForwardFigures(
                forwarder.upstreams,
                [forwarder.health.is_down(number) for number in range(len(forwarder.upstreams))],
                forwarder.took,
                forwarder.rejected,
                forwarder.failed_probes,
                forwarder.all_down,
                sockets.connections.reused,
                sockets.connections.made,
            )
            for forwarder, sockets in zip(self.forwarders, self._routes, strict=True)
        ]

    def forward(self, route: int, waiting: Forwarding, reply: Reply) -> None:
        """Answer from the cache, or ask."""
        hit = self.cache.get(waiting.ask, self._loop.time()) if self.cache is not None else None
        if hit is None or hit.verify:
            waiter = Waiter(waiting.ask, waiting, reply, hit.reply if hit else None, route)
            self._routes[route].ask(waiting.ask, waiter, stream=waiting.stream)
            return
        self.part.plugin = "cache"
        self._finish(waiting, self.part.complete(waiting, hit.reply), reply)
        if hit.refresh:
            self._routes[route].ask(waiting.ask, Waiter(waiting.ask, route=route), stream=False)

    def pass_on(self, route: int, question: bytes, passed: Passed) -> bool:
        """Answer a plain ``question`` from the cache, or ask; False if it has to go the long way."""
        form, cache = passed.form, self.cache
        now = passed.began = self._loop.time()
        hit = cache.look(question + form.kept, now) if cache is not None else None
        if hit is not None:
            self._answer(passed, hit.reply, "cache", now)
            if hit.refresh:
                ask = ask_of_key(question + form.asked)
                self._routes[route].ask(ask, Waiter(ask, route=route), stream=False)
        elif not self._routes[route].pass_on(question + form.asked, PlainWaiter(self, route, passed)):
            if cache is not None:
                cache.counters.misses -= 1  # it is looked up again
            return False
        self.part.tallies.dnssec_ok += form.dnssec_ok
        return True

    def answered(self, passed: Passed, reply: bytes) -> None:
        """Send the reply to what was a plain question once."""
        count(reply, self.part.tallies, self.part.plugin, passed.way)
        passed.meter.one("udp", len(passed.message), len(reply), self._loop.time() - passed.began)
        passed.send(reply)

    def _answer(self, passed: Passed, found: UpstreamReply, plugin: str, now: float) -> None:
        reply = passed.reply(found)
        self.part.tallies.of(passed.qtype, found.rcode & 0xF, plugin)[passed.way] += 1
        passed.meter.one("udp", len(passed.message), len(reply), now - passed.began)
        passed.send(reply)

    def _deliver_plain(self, plain: Plain[Waiter], reply: UpstreamReply) -> None:
        """Answer all who passed on the same question."""
        now = self._loop.time()
        for waiter in plain.passers:
            assert isinstance(waiter, PlainWaiter)
            self._answer(waiter.passed, reply, "forward", now)
            form = waiter.passed.form
        if self.cache is not None and form.recursion:
            question = plain.key[: len(plain.question)]
            self.cache.keep(question + form.kept, question[:-4], reply, now)

    def _deliver(self, waiter: Waiter, reply: UpstreamReply | None) -> None:
        if self.part.looping and not self._said_looping:
            self._said_looping = True
            log.error("dns: forward: what is asked upstream comes back here; such names are SERVFAIL now")
        if reply and self._asks_next(waiter, reply):
            return
        if reply and self.cache is not None:
            self.cache.put(waiter.ask, reply, self._loop.time())
        if waiter.stale and self.cache is not None and (reply is None or reply.rcode == Rcode.SERVFAIL):
            reply = waiter.stale
            self.cache.counters.served_stale += 1
        if not waiter.waiting or not waiter.reply:
            return
        self.part.plugin = "forward"
        if reply is None and self.part.block.errors:
            self._tell_failure(waiter.ask)
        self._finish(waiter.waiting, self.part.complete(waiter.waiting, reply), waiter.reply)

    def _asks_next(self, waiter: Waiter, reply: UpstreamReply) -> bool:
        """Ask the next forward of the block, if this one's answer is one that is left to it."""
        forwards = self.part.block.forwards
        if waiter.route >= len(forwards) or not forwards[waiter.route].leaves_to_next(
            reply.rcode, reply.empty
        ):
            return False
        route = self.part.next_route(waiter.route, waiter.ask.question.name)
        if route is None:
            return False
        stream = bool(waiter.waiting and waiter.waiting.stream)
        self._routes[route].ask(waiter.ask, replace(waiter, route=route), stream=stream)
        return True

    def _refuse(self, waiter: Waiter) -> None:
        self.part.plugin = "forward"
        if waiter.waiting and waiter.reply:
            self._finish(waiter.waiting, self.part.refuse(waiter.waiting), waiter.reply)

    def _finish(self, waiting: Forwarding, response: Response | None, reply: Reply) -> None:
        """Send what an upstream reply led to, or ask again if it led to another question."""
        if isinstance(response, Forwarding):
            self.forward(response.route, response, reply)
        elif isinstance(response, bytes):
            if waiting.done:
                waiting.done(response)
            reply(response)

    def _observe(self, query: Query, origin: Origin) -> Finished:
        began = self._loop.time()

        def finished(reply: bytes) -> None:
            told = Told(query, origin, reply, self._loop.time() - began, self.part.metadata_of(origin))
            line = line_of(self.part.block.logs, told)
            if line is not None:
                query_log.info("%s", line)

        return finished

    def _tell_failure(self, ask: Ask) -> None:
        question = ask.question
        text = f"{names.to_text(question.name)} {type_name(question.qtype)}: no upstream server answered"
        waiting = self._errors.next_due is not None
        line = self._errors.note(text, self._loop.time())
        if line:
            _say(line)
        elif not waiting:
            self._tell_consolidated()

    def _tell_consolidated(self) -> None:
        now = self._loop.time()
        for line in self._errors.due(now):
            _say(line)
        due = self._errors.next_due
        self._telling = self._loop.call_later(due - now, self._tell_consolidated) if due is not None else None


class Live:
    """All server blocks of one configuration."""

    def __init__(
        self,
        blocks: Sequence[Block],
        clusters: Mapping[Kubernetes, ClusterNames],
        open_socket: SocketFactory,
        zones: ZoneFiles,
    ) -> None:
        self.blocks = tuple(blocks)
        self.parts = [
            LivePart(block, clusters[block.kubernetes] if block.kubernetes else None, open_socket, zones)
            for block in blocks
        ]
        self._by_part = {id(each.part): each for each in self.parts}

    def start(self) -> None:
        """Begin."""
        for each in self.parts:
            each.start()

    def stop(self) -> None:
        """End."""
        for each in self.parts:
            each.stop()

    @property
    def busy(self) -> bool:
        """Whether somebody waits for an upstream server."""
        return any(forwarder.waiting for each in self.parts for forwarder in each.forwarders)

    def of_blocks(self, wanted: Callable[[Block], bool]) -> list[Part]:
        """Return the parts of some of the blocks."""
        return [each.part for each in self.parts if wanted(each.part.block)]

    def forward(self, site: Site, waiting: Forwarding, reply: Reply) -> None:
        """Answer a query of ``site`` that has to be asked upstream."""
        part, route = site.part_of_route(waiting.route)
        respond = partial(_count_and_reply, site, part, waiting, asyncio.get_running_loop().time(), reply)
        self._by_part[id(part)].forward(route, waiting, respond)


def _count_and_reply(
    site: Site, part: Part, waiting: Forwarding, began: float, reply: Reply, message: bytes
) -> None:
    count(message, part.tallies, part.plugin, waiting.way)
    took_s = asyncio.get_running_loop().time() - began
    proto, query = WAYS[waiting.way][0], waiting.query
    asked_bytes = HEADER_BYTES + len(query.question.wire) + len(opt_record(query.edns))
    site.meter.one(proto, asked_bytes, len(message), took_s)
    reply(message)


def _forwarder(to: ForwardTo, *, whole: bool) -> Forwarder[Waiter]:
    patience = Patience()
    if to.max_concurrent:
        patience = replace(patience, most_questions=to.max_concurrent)
    if to.read_timeout_s:
        patience = replace(patience, try_s=to.read_timeout_s)
    if to.max_tries:
        patience = replace(patience, tries=to.max_tries)
    manners = Manners(
        to.policy,
        to.max_fails,
        to.health_check_s,
        to.fail_fast,
        to.force_tcp,
        whole,
        to.failover,
        to.health_check_domain,
        to.health_check_recurse,
    )
    return Forwarder(_servers(to), secret_draw(), patience, manners)


def _streams(to: ForwardTo, forwarder: Forwarder[Waiter]) -> StreamConfig:
    """Return how the servers are connected to. Raises InvalidInput."""
    secure = any(each.transport is Transport.TLS for each in forwarder.upstreams)
    config = StreamConfig(expire_s=to.expire_s, servername=to.tls.servername if to.tls else "")
    if to.max_idle:
        config = replace(config, most_idle=to.max_idle)
    return replace(config, tls=client_context(to.tls)) if secure else config


def _servers(to: ForwardTo) -> list[Upstream]:
    """Return the servers, those named in files included. Raises InvalidInput."""
    found: dict[Upstream, None] = {}
    for each in to.servers:
        if isinstance(each, Upstream):
            found[each] = None
            continue
        for line in lines_of(each):
            match line.split():
                case ["nameserver", address, *_]:
                    found[_name_server(address, each)] = None
    if not found:
        raise InvalidInput(f"forward: {', '.join(map(str, to.servers))} names no server")
    return list(found)


def _name_server(text: str, path: str) -> Upstream:
    """Return the server of a line of resolv.conf; a link-local one names its interface (``fe80::1%eth0``)."""
    try:
        return Upstream(ip_address(text))
    except ValueError as error:
        raise InvalidInput(f"{path}: nameserver {text}: {error}") from error


def _warn_of_blindness(block: Block) -> None:
    """Say so if autopath has been told to look at pods that nobody follows."""
    by_pods = block.autopath is not None and not block.autopath.resolv_conf
    if by_pods and (block.kubernetes is None or block.kubernetes.pods is not PodsMode.VERIFIED):
        log.warning("dns: autopath @kubernetes does nothing without 'pods verified' of kubernetes")


def _say(line: Line) -> None:
    log.log(getattr(logging, line.level.upper()), "dns: %s", line.text)


def any_of(choices: int) -> int:
    """Return one of 0 to ``choices`` - 1, without secrets."""
    return random.getrandbits(32) % choices


def secret_draw() -> Callable[[int], int]:
    """Return what draws numbers that nobody can predict; ``choices`` may be any.

    The kernel is asked for many octets at a time: a call for each would cost more than the query.
    """
    store = b""
    at = 0

    def draw(choices: int) -> int:
        nonlocal store, at
        if choices & (choices - 1) == 0:  # as many bits as it takes, and no number is likelier
            size = (choices.bit_length() + 6) // 8
            if at + size > len(store):
                store, at = secrets.token_bytes(max(ENTROPY_BYTES, size)), 0
            at += size
            return int.from_bytes(store[at - size : at], "big") & (choices - 1)
        # 64 bits more than needed, so that no number is likelier than another by more than 2 ** -64.
        size = (choices.bit_length() + 7) // 8 + 8
        if at + size > len(store):
            store, at = secrets.token_bytes(max(ENTROPY_BYTES, size)), 0
        at += size
        return int.from_bytes(store[at - size : at], "big") % choices

    return draw
