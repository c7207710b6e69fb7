"""What a running proxy tells about itself: vitals, metrics, and the servers that show them."""

import contextlib
import logging
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import IPv4Address

from kubenet.clock import Clock, SystemClock
from kubenet.errors import Unreachable
from kubenet.kernel.netns import NetNs
from kubenet.model.objects import EndpointSlice, KubeObject, Node, Service
from proxy.backend import Applied
from proxy.health import Address, HealthCheckServers, HttpServer, Reply, Routes, json_reply, open_listener
from proxy.metrics import CONTENT_TYPE, ProxyMetrics, family_name, trigger_time
from proxy.ports import Family, IPAddress, Refused, ServicePortName
from proxy.tidings import Tell, of_health_check, of_refusal
from proxy.vitals import ServiceHealth, Vitals

log = logging.getLogger(__name__)

EVERYWHERE = (IPv4Address("0.0.0.0"),)


@dataclass(frozen=True, slots=True)
class StatusConfig:
    """Where it is told."""

    mode: str = "iptables"
    healthz: Address | None = None  # None: nowhere
    metrics: Address | None = None
    health_check_ips: tuple[IPAddress, ...] = EVERYWHERE
    node_name: str = ""
    patience_s: float = 60.0  # how long a change may wait in a proxy that is well: twice the sync period


@dataclass(slots=True)
class _Waiting:
    """What came since the last sync began."""

    services: int = 0
    slices: int = 0
    triggers: list[datetime] = field(default_factory=list)


class Status:
    """Told of everything that happens; see ``served`` for who may ask."""

    def __init__(
        self,
        families: Sequence[Family],
        config: StatusConfig = StatusConfig(),
        clock: Clock | None = None,
        tell: Tell = lambda _: None,
    ) -> None:
        self._tell = tell
        self.metrics = ProxyMetrics()
        self.vitals = Vitals(families, config.patience_s)
        self._families = families
        self._config = config
        self._clock = clock or SystemClock()
        self._waiting = _Waiting()
        self._began = self._clock.now()
        self._checks: HealthCheckServers | None = None

    def changed(self, new: KubeObject | None) -> None:
        """Something new has come and waits for its sync."""
        self.vitals.queued(self._clock.monotonic())
        waiting = self._waiting
        if isinstance(new, Service):
            waiting.services += 1
        elif isinstance(new, EndpointSlice):
            waiting.slices += 1
            moment = trigger_time(new.metadata.annotations)
            if moment and moment >= self._began:  # what happened before our time was not slow through us
                waiting.triggers.append(moment)
        for name in map(family_name, self._families):
            if isinstance(new, Service):
                self.metrics.service_changes.add(1, name)
            elif isinstance(new, EndpointSlice):
                self.metrics.endpoint_changes.add(1, name)
            self.metrics.last_queued_s.set(self._clock.now().timestamp(), name)
            self._show_waiting(name)

    def node_is(self, node: Node | None) -> None:
        """This is our Node now."""
        self.vitals.node = node

    @contextlib.contextmanager
    def syncing(self) -> Iterator[None]:
        """Hold what waits when a sync begins; it waits on if the sync fails."""
        taken, self._waiting = self._waiting, _Waiting()
        try:
            yield
        except BaseException:
            self._waiting.services += taken.services
            self._waiting.slices += taken.slices
            self._waiting.triggers += taken.triggers
            raise
        now = self._clock.now()
        for name in map(family_name, self._families):
            for moment in taken.triggers:
                self.metrics.programming_s.observe(max(0.0, (now - moment).total_seconds()), name)
            self._show_waiting(name)

    def _show_waiting(self, name: str) -> None:
        self.metrics.service_changes_pending.set(self._waiting.services, name)
        self.metrics.endpoint_changes_pending.set(self._waiting.slices, name)

    def synced(self, family: Family, began_s: float, took_s: float, applied: Applied) -> None:
        """One family's sync that began at ``began_s`` has ended well."""
        name = family_name(family)
        self.metrics.sync_s.observe(took_s, name)
        kind = self.metrics.full_sync_s if applied.observed else self.metrics.partial_sync_s
        kind.observe(took_s, name)
        self.metrics.last_sync_s.set(self._clock.now().timestamp(), name)
        for table, count in applied.rules.items():
            self.metrics.iptables_total.set(count, table, name)
        for table, count in applied.rules_written.items():
            self.metrics.iptables_last.set(count, table, name)
        self.vitals.updated(family, began_s, self._clock.now())

    def failed(self, family: Family, *, full: bool) -> None:
        """One family's sync has been refused; ``full`` if the kernel's state was read for it."""
        name = family_name(family)
        if self._config.mode == "nftables":
            self.metrics.nftables_failures.add(1, name)
            return
        self.metrics.restore_failures.add(1, name)
        if not full:
            self.metrics.partial_restore_failures.add(1, name)

    def invalid_dropped(self, family: Family, packets: int) -> None:
        """The kernel has dropped so many packets that belong to no connection."""
        before = self.metrics.invalid.value(family_name(family))
        self.metrics.invalid.reach(packets, family_name(family))
        if self._config.mode == "iptables":
            self.metrics.iptables_invalid.add(self.metrics.invalid.value(family_name(family)) - before)

    def connections(self, family: Family, counts: Mapping[tuple[ServicePortName, str], int]) -> None:
        """So many connections went to the endpoints of service ports, as the kernel counts them."""
        each, whole = self.metrics.endpoint_connections, self.metrics.service_connections
        ours: dict[tuple[str, ...], tuple[str, ...]] = {}
        for (name, endpoint), count in counts.items():
            port = (family_name(family), name.namespace, name.service, name.port, name.protocol.value)
            labels = (*port, endpoint)
            before = each.value(*labels)
            each.reach(count, *labels)
            whole.add(each.value(*labels) - before, *port)
            ours[labels] = port
        others = (known for known in each.labels() if known[0] != family_name(family))
        each.keep([*ours, *others])
        whole.keep([*ours.values(), *(known for known in whole.labels() if known[0] != family_name(family))])

    def mended(self, family: Family, rules: int) -> None:
        """Somebody has taken away so many jump rules, and they are back."""
        self.metrics.drift.add(rules, family_name(family))

    def refused(self, what: Refused) -> None:
        """A part of an object is not proxied; told once, however long that is so."""
        self._tell(of_refusal(what))

    def _no_health_check(self, health: ServiceHealth, port: int, why: str) -> None:
        tiding = of_health_check(health, port, self._config.node_name, why)
        log.warning("proxy: %s: %s", tiding.reason, tiding.message)
        self._tell(tiding)

    def no_local(self, family: Family, counts: Mapping[str, int]) -> None:
        """So many service ports have a policy Local and endpoints, but none here, by policy."""
        for policy, count in counts.items():
            self.metrics.no_local_endpoints.set(count, policy, family_name(family))

    def forgot(self, family: Family, entries: int, took_s: float) -> None:
        """The table of connections was looked through for stale flows."""
        self.metrics.flows_s.observe(took_s, family_name(family))
        self.metrics.flows_deleted.add(entries, family_name(family))

    async def health_checks(self, want: Mapping[int, ServiceHealth]) -> None:
        """Answer on the health check node ports of these Services."""
        if self._checks:
            await self._checks.update(want)

    @asynccontextmanager
    async def served(self, netns: NetNs | None) -> AsyncIterator[None]:
        """Serve until the block ends. Raises Unreachable (an address is taken)."""
        config = self._config
        servers: list[HttpServer] = []
        self._checks = HealthCheckServers(netns, config.health_check_ips, self._well, self._no_health_check)
        try:
            for address, routes in ((config.healthz, self._health), (config.metrics, self._inside)):
                if address:
                    servers.append(await _serve(netns, address, routes))
            yield
        finally:
            self._checks.close()
            for server in servers:
                server.close()

    def _well(self) -> bool:
        return all(self.vitals.well(self._clock.monotonic()).values())

    def _health(self, path: str) -> Reply | None:
        now_s, moment = self._clock.monotonic(), self._clock.now()
        if path == "/healthz":
            status, body = self.vitals.healthz(now_s, moment)
            self.metrics.healthz.add(1, str(status))
        elif path == "/livez":
            status, body = self.vitals.livez(now_s, moment)
            self.metrics.livez.add(1, str(status))
        else:
            return None
        return json_reply(status, body)

    def _inside(self, path: str) -> Reply | None:
        if path == "/metrics":
            return 200, CONTENT_TYPE, self.metrics.page().encode(), {}
        if path == "/proxyMode":
            return 200, "text/plain; charset=utf-8", self._config.mode.encode(), {}
        return self._health(path)


async def _serve(netns: NetNs | None, address: Address, routes: Routes) -> HttpServer:
    ip, port = address
    try:
        listener = open_listener(netns, ip, port)
    except OSError as error:
        raise Unreachable(
            f"cannot serve on {ip}:{port}: {error.strerror}", "choose another address, or end who has it"
        ) from error
    server = HttpServer(routes)
    await server.start(listener)
    return server
