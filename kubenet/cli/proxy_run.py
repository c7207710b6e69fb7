"""What ``kubenet proxy`` does once it knows what was asked: run, or do one thing and end."""

import asyncio
import contextlib
import gc
import logging
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path

from kubenet.client import kubeconfig
from kubenet.client.transport import ApiClient
from kubenet.errors import InvalidInput, KubenetError, ProgramMissing, TimedOut
from kubenet.kernel.heap import trim_heap
from kubenet.kernel.run import run
from kubenet.model.iptables import first_write, render_restore
from proxy.apply_iptables import KernelIptables, remove_rules
from proxy.auto_mode import best_mode
from proxy.backend import ProxyMode
from proxy.config import Settings, as_file, unwritable
from proxy.config_values import PRIMARY
from proxy.daemon import run_from, sync_once
from proxy.explain import nft_rules_of, nft_text, tables_of
from proxy.host_flavour import flavours_with_rules_of_ours
from proxy.nft_names import TABLE
from proxy.node_config import ProxyConfig
from proxy.ports import Balance, Family
from proxy.source import ApiSource, FileSource, Source

log = logging.getLogger(__name__)

_FAMILIES: tuple[Family, ...] = (4, 6)
CONFIG_POLL_S = 1.0  # how often the configuration is looked at: one read of a small file


def with_mode(settings: Settings) -> Settings:
    """Return ``settings`` with a mode: the best there is where they name none."""
    if settings.mode:
        return settings
    mode, why = best_mode()
    if why:
        log.warning("proxy: mode %s: %s", mode.value, why)
    return replace(settings, mode=mode.value)


def config_of(settings: Settings) -> ProxyConfig:
    """Return the daemon's configuration. Raises InvalidInput."""
    cidrs_v4 = [cidr for cidr in settings.cluster_cidrs if isinstance(cidr, IPv4Network)]
    cidrs_v6 = [cidr for cidr in settings.cluster_cidrs if isinstance(cidr, IPv6Network)]
    if len(cidrs_v4) > 1 or len(cidrs_v6) > 1:
        raise InvalidInput("clusterCIDR: more than one network of a family", "give one for each")
    node_port_networks = [ip_network(text) for text in settings.node_port_addresses if text != PRIMARY]
    backend = settings.backend
    if settings.balance is Balance.CONSISTENT_HASH and settings.mode == "iptables":
        raise InvalidInput(f"--balance {settings.balance.value} needs the mode nftables")
    return ProxyConfig(
        node_name=settings.hostname_override or socket.gethostname().lower(),
        mode=ProxyMode(settings.mode or "nftables"),
        cluster_cidr=cidrs_v4[0] if cidrs_v4 else None,
        cluster_cidr_v6=cidrs_v6[0] if cidrs_v6 else None,
        service_cidrs=settings.service_cidrs,
        default_balance=settings.balance,
        masquerade_all=backend.masquerade_all,
        masquerade_mark=1 << backend.masquerade_bit,
        min_sync_s=backend.min_sync_period_s,
        check_s=backend.sync_period_s or 30.0,
        external_ips=settings.allowed_external_ips,
        load_balancer_ips=settings.load_balancer_ips,
        node_port_networks=tuple(node_port_networks),
        node_ports_on_primary=PRIMARY in settings.node_port_addresses,
        localhost_node_ports=settings.localhost_node_ports,
        pods_of_node=settings.detect_local_mode == "NodeCIDR",
        pod_ifname=_pod_ifname(settings),
        tcp_liberal=settings.tcp_liberal,
        count_connections=settings.count_connections,
        healthz=settings.healthz,
        metrics=settings.metrics,
        bind_ip=settings.bind_address[0] if settings.bind_address else None,
        ipv6=_may_use_ipv6(settings),
    )


def _may_use_ipv6(settings: Settings) -> bool:
    """Return whether IPv6 is proxied though no network of pods says so: their interfaces or Nodes will."""
    told_otherwise = settings.detect_local_mode not in ("", "ClusterCIDR")
    return told_otherwise and not settings.cluster_cidrs and Path("/proc/net/if_inet6").exists()


def _pod_ifname(settings: Settings) -> str:
    said = {
        "BridgeInterface": (settings.bridge_interface, "", "detectLocal.bridgeInterface"),
        "InterfaceNamePrefix": (settings.interface_prefix, "+", "detectLocal.interfaceNamePrefix"),
    }
    if settings.detect_local_mode not in said:
        return ""
    name, ending, field = said[settings.detect_local_mode]
    if not name:
        raise InvalidInput(f"detectLocalMode {settings.detect_local_mode} needs {field}", f"set {field}")
    return name + ending


@asynccontextmanager
async def _source(settings: Settings, path: Path | None, node_name: str) -> AsyncIterator[Source]:
    if path:
        yield FileSource(path, node_name)
        return
    async with ApiClient(_cluster(settings), user_agent="kubenet-proxy") as client:
        yield ApiSource(client, node_name)


def _cluster(settings: Settings) -> kubeconfig.ClusterConfig:
    """Return where the API server is and who we are, as kube-proxy finds it. Raises KubenetError."""
    said = Path(settings.kubeconfig) if settings.kubeconfig else None
    if said is None and settings.master:
        return kubeconfig.ClusterConfig(server=settings.master.rstrip("/"))
    in_pod = said is None and kubeconfig.SERVICE_ACCOUNT.exists()
    found = kubeconfig.in_cluster() if in_pod else kubeconfig.load(said)
    return replace(found, server=settings.master.rstrip("/")) if settings.master else found


def read_once(settings: Settings, path: Path | None, patience_s: float) -> Source:
    """Return a source that has heard of everything, and hears no more. Raises KubenetError."""

    async def read() -> Source:
        async with _source(settings, path, config_of(settings).node_name) as source:
            task = asyncio.create_task(source.run())
            try:
                await asyncio.wait_for(source.wait_synced(), patience_s)
            except TimeoutError:
                raise TimedOut(f"the API server has not told everything within {patience_s:.0f} s") from None
            finally:
                task.cancel()
                await asyncio.wait({task})
            return source

    return asyncio.run(read())


class ConfigChanged(KubenetError):
    """The configuration file says something else than when it was read."""


def write_config(settings: Settings, path: Path) -> None:
    """Write ``settings`` as a KubeProxyConfiguration. Raises InvalidInput."""
    try:
        path.write_text(as_file(settings))
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be written: {error.strerror}") from error
    for flag in unwritable(settings):
        print(f"not in {path}, which has no field for it: {flag}")


async def _until_changed(path: Path | None) -> None:
    """End by ConfigChanged once ``path`` holds another text: whoever started us will start us anew."""
    if path is None:
        return
    text = await asyncio.to_thread(_text, path)
    while True:
        await asyncio.sleep(CONFIG_POLL_S)
        if (now := _text(path)) is not None and now != text:
            raise ConfigChanged(f"{path}: the configuration has changed", "start the proxy anew")


def _text(path: Path) -> bytes | None:
    """Return what is there; None in the instant in which a ConfigMap's files are exchanged."""
    try:
        return path.read_bytes()
    except OSError:
        return None


def collect_garbage_seldom() -> None:
    """Have this process look for garbage less often than Python's default.

    A cluster is a million objects that live long and make no cycles: looking through them again and again
    would be a third of all the work.
    """
    gc.set_threshold(50_000, 20, 100)


def settle_memory() -> None:
    """Call this once everything has been read. What only the reading needed goes back to the system."""
    gc.collect()
    gc.freeze()  # what there is now stays for long, and is not looked through again
    trim_heap()


def run_until_signal(
    config: ProxyConfig, settings: Settings, path: Path | None, config_path: Path | None = None
) -> None:
    """Be the proxy until SIGTERM or SIGINT; the rules stay. Raises KubenetError, also ConfigChanged."""

    collect_garbage_seldom()

    async def serve() -> None:
        ready = asyncio.Event()
        async with _source(settings, path, config.node_name) as source, asyncio.TaskGroup() as group:
            group.create_task(_until_changed(config_path))
            group.create_task(_leave_other_mode(config.mode, ready))
            await run_from(replace(config, ready=ready), source)

    async def until_signal() -> None:
        task = asyncio.create_task(serve())
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, task.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await task

    try:
        asyncio.run(until_signal())
    except BaseExceptionGroup as group:
        raise _first(group) from group


async def _leave_other_mode(mode: ProxyMode, ready: asyncio.Event) -> None:
    """Take out what the other mode left, once ours is in place: so a switch leaves no gap (row 66)."""
    await ready.wait()
    settle_memory()
    await asyncio.to_thread(remove_other_mode, mode)


def remove_other_mode(mode: ProxyMode) -> int:
    """Take out the rules of every mode but ``mode``; return how many chains and tables went."""
    if mode is ProxyMode.NFTABLES:
        return _remove_iptables() + _remove_tables("kube-proxy")
    return _remove_tables("kube-proxy", TABLE)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first of the errors that a task group holds: what ended the daemon."""
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


def write_once(config: ProxyConfig, source: Source) -> None:
    """Write the rules, and take out those of the other mode. Raises KubenetError."""
    results = sync_once(config, source)
    remove_other_mode(config.mode)
    for result in results:
        print(f"{result.services} services, {result.endpoints} endpoints, {result.applied.written} written")
        for refused in sorted(result.refused):
            print(f"left out: {refused.subject}: {refused.reason}")


def print_rules(config: ProxyConfig, source: Source) -> None:
    """Print what would be written where nothing of ours is yet."""
    for network in config.networks_of(source.node()):
        print(f"# IPv{network.family}")
        if config.mode is ProxyMode.NFTABLES:
            print(nft_text(nft_rules_of(config, source, network)))
            continue
        tables = tables_of(config, source, network)
        print(render_restore([first_write(table) for table in tables], network.family), end="")


def clean_up() -> int:
    """Take out the rules of every mode; return how many chains and tables went. Raises KubenetError."""
    return _remove_iptables() + _remove_tables("kube-proxy", TABLE)


def _remove_iptables() -> int:
    """Take them out of both of iptables' interfaces, if they are there."""
    return sum(
        remove_rules(KernelIptables(None, family, flavour), family)
        for flavour in flavours_with_rules_of_ours(None)
        for family in _FAMILIES
    )


def _remove_tables(*names: str) -> int:
    gone = 0
    for family in ("ip", "ip6"):
        for name in names:
            try:
                done = run(["nft", "delete", "table", family, name], check=False)
            except ProgramMissing:
                return gone  # then nobody has made such tables with it
            gone += done.returncode == 0
    return gone
