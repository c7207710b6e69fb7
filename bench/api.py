"""The API server, its store and the client.

The peer is the official Python client, in the environment that ``./dev test e2e`` makes for it.
The load generator is a process of its own; processor time is the server's, or the client's, alone.
"""

import asyncio
import contextlib
import gc
import json
import multiprocessing
import resource
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp
import msgspec

from bench.common import Figure, Target, asked, process_cpu_ms, report, skip
from kubenet.apiserver.http import ApiServer
from kubenet.client.informer import Informer
from kubenet.client.kubeconfig import ClusterConfig
from kubenet.client.transport import ApiClient
from kubenet.kernel.run import run
from kubenet.model.objects import EndpointSlice
from kubenet.model.resources import ENDPOINTSLICES
from kubenet.store.base import Store
from kubenet.store.memory import MemoryStore
from kubenet.store.sqlite import SqliteStore

OFFICIAL = "kubernetes (Python)"
FIGURES = {
    figure.name: figure
    for figure in (
        Figure("api-writes-32", "writes/s", Target(">=", 1500)),
        Figure("api-writes-1", "writes/s", Target(">=", 400)),
        Figure("api-commit-to-watcher-p50", "ms", Target("<=", 5)),
        Figure("api-deliveries-100-watchers", "events/s", Target(">=", 50_000)),
        Figure("api-deliveries-stuck-watcher", "slowdown", Target("<=", 1.25)),
        Figure("api-list-10k-cpu", "ms", Target("<=", 150)),
        Figure("api-cold-start-10k", "s", Target("<=", 1)),
        Figure("client-list-50k-cpu", "s CPU", Target("<=", 0.1), OFFICIAL),
        Figure("client-list-50k-memory", "MB", Target("<=", 0.1), OFFICIAL),
        Figure("client-watch", "events/CPU s", Target(">=", 20), OFFICIAL),
    )
}
SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
WATCHERS, EVENTS = 100, 3000
JSON = {"Content-Type": "application/json"}  # as compact as programs in Go write it
LISTED, WATCHED, CHANGING = 50_000, 20_000, 100


def slice_body(name: str, turn: int = 0) -> dict[str, Any]:
    """Return an EndpointSlice of ten endpoints, some 3 KB."""
    endpoints = [
        {
            "addresses": [f"10.{turn % 250}.{number}.7"],
            "conditions": {"ready": True, "serving": True, "terminating": False},
            "nodeName": f"node-{number}",
            "targetRef": {"kind": "Pod", "name": f"{name}-{number}", "namespace": "default", "uid": name},
            "zone": "zone-a",
        }
        for number in range(10)
    ]
    return {
        "kind": "EndpointSlice",
        "apiVersion": "discovery.k8s.io/v1",
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": endpoints,
    }


@contextlib.contextmanager
def served(directory: str, count: int = 0, churning: bool = False) -> Iterator[tuple[str, int]]:
    """Run a server in a process of its own, on SQLite or (no directory) in memory; yield URL and pid."""
    context = multiprocessing.get_context("spawn")
    ready = context.Queue()
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        port = listener.getsockname()[1]
    process = context.Process(target=_serve, args=(port, directory, count, churning, ready), daemon=True)
    process.start()
    try:
        ready.get(timeout=120)
        assert process.pid is not None
        yield f"http://127.0.0.1:{port}", process.pid
    finally:
        process.terminate()
        process.join()


def _serve(port: int, directory: str, count: int, churning: bool, ready: Any) -> None:
    async def run() -> None:
        store: Store = await SqliteStore.open(Path(directory) / "s.db") if directory else MemoryStore()
        for index in range(count):
            await store.create(f"/registry/endpointslices/default/s{index:06}", _stored(index))
        server = ApiServer(store)
        await server.start([socket.create_server(("127.0.0.1", port), backlog=1024)])
        ready.put("ready")
        while churning:  # a server whose objects change without end: its writer costs the client nothing
            for index in range(count):
                key = f"/registry/endpointslices/default/s{index:06}"
                record = await store.get(key)
                assert record is not None
                await store.update(key, _stored(index), record.revision)
                if index % 10 == 9:
                    await asyncio.sleep(0.001)  # some 10,000 a second, as far as the machine goes
        await asyncio.Event().wait()

    asyncio.run(run())


def _stored(index: int) -> bytes:
    body = slice_body(f"s{index:06}")
    metadata = body["metadata"] | {"namespace": "default", "uid": f"u{index}", "generation": 1}
    metadata["creationTimestamp"] = "2026-01-01T00:00:00Z"
    return msgspec.json.encode(body | {"metadata": metadata})


async def _writes(url: str, clients: int, seconds: float) -> float:
    """Return how many durable updates a second so many clients get."""
    done = 0
    end = time.perf_counter() + seconds

    async def client(session: aiohttp.ClientSession, number: int) -> None:
        nonlocal done
        path = f"{url}{SLICES}/w{number}"
        await (await session.post(f"{url}{SLICES}", json=slice_body(f"w{number}"))).read()
        turn = 0
        while time.perf_counter() < end:
            turn += 1
            async with session.put(
                path, data=msgspec.json.encode(slice_body(f"w{number}", turn)), headers=JSON
            ) as reply:
                assert reply.status == 200, await reply.read()
                await reply.read()
            done += 1

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        started = time.perf_counter()
        await asyncio.gather(*(client(session, number) for number in range(clients)))
        return done / (time.perf_counter() - started)


def writes(clients: int) -> float:
    with tempfile.TemporaryDirectory() as directory, served(directory) as (url, _):
        return asyncio.run(_writes(url, clients, 3.0))


async def _latency(url: str) -> float:
    """Return the median time in ms from a write's answer or its event, whichever a client sees last."""
    took: list[float] = []
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{url}{SLICES}", params={"watch": "true"}) as watch,
    ):
        for turn in range(200):
            body = slice_body("l", turn)
            method, path = ("PUT", f"{url}{SLICES}/l") if turn else ("POST", f"{url}{SLICES}")
            started = time.perf_counter()
            writing = asyncio.ensure_future(_sent(session, method, path, body))
            await watch.content.readline()
            took.append((time.perf_counter() - started) * 1000)
            await writing
    return median(took)


async def _sent(session: aiohttp.ClientSession, method: str, path: str, body: Any) -> None:
    async with session.request(method, path, json=body) as reply:
        await reply.read()


def commit_to_watcher() -> float:
    with tempfile.TemporaryDirectory() as directory, served(directory) as (url, _):
        return asyncio.run(_latency(url))


class _Counting(asyncio.Protocol):
    """A watcher that only counts bytes: it must not be what is measured."""

    def __init__(self, path: str) -> None:
        self.received = 0
        self._path = path

    def connection_made(self, transport: Any) -> None:
        transport.write(f"GET {self._path}?watch=true HTTP/1.1\r\nHost: x\r\n\r\n".encode())

    def data_received(self, data: bytes) -> None:
        self.received += data.count(b'{"type":"')


def _watchers(port: int, count: int, wanted: int, pipe: Any) -> None:
    """Open watchers in a process of their own; say when they are open, and when all have everything."""

    async def run() -> None:
        loop = asyncio.get_running_loop()

        opened = [
            (await loop.create_connection(lambda: _Counting(SLICES), "127.0.0.1", port))[1]
            for _ in range(count)
        ]
        await asyncio.sleep(0.5)
        pipe.send("open")
        while min(one.received for one in opened) < wanted:
            await asyncio.sleep(0.005)
        pipe.send("all")

    asyncio.run(run())


def deliveries(stuck: int = 0) -> float:
    """Return how many events a second reach 100 watchers; the writer is a client of the store itself."""
    context = multiprocessing.get_context("spawn")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    ours, theirs = context.Pipe()
    process = context.Process(target=_watchers, args=(port, WATCHERS, EVENTS, theirs), daemon=True)

    async def run() -> float:
        store = MemoryStore()
        server = ApiServer(store)
        await server.start([socket.create_server(("127.0.0.1", port), backlog=512)])
        await asyncio.to_thread(process.start)
        await asyncio.to_thread(ours.recv)
        silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(stuck)]
        for one in silent:
            one.send(f"GET {SLICES}?watch=true HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await asyncio.sleep(0.2)
        gc.collect()
        started = time.process_time()
        for index in range(EVENTS):
            await store.create(f"/registry/endpointslices/default/e{index}", _stored(index))
            while server.revision < await store.revision():  # each event by itself: nothing is collected
                await asyncio.sleep(0)
        await asyncio.to_thread(ours.recv)
        used = time.process_time() - started
        for one in silent:
            one.close()
        await server.stop()
        return WATCHERS * EVENTS / used

    try:
        return asyncio.run(run())
    finally:
        process.terminate()
        process.join()


def list_cpu() -> float:
    with served("", 10_000) as (url, pid):

        async def run() -> float:
            async with aiohttp.ClientSession() as session:
                before = process_cpu_ms(pid)
                for _ in range(5):
                    async with session.get(f"{url}{SLICES}") as reply:
                        await reply.read()
                return (process_cpu_ms(pid) - before) / 5

        return asyncio.run(run())


def cold_start() -> float:
    """Return how long a server takes to serve a store of 10,000 objects, without the interpreter's start."""
    with tempfile.TemporaryDirectory() as directory:

        async def fill() -> None:
            store = await SqliteStore.open(Path(directory) / "s.db")
            await asyncio.gather(
                *(
                    store.create(f"/registry/endpointslices/default/s{index:06}", _stored(index))
                    for index in range(10_000)
                )
            )
            await store.close()

        async def start() -> float:
            started = time.perf_counter()
            store = await SqliteStore.open(Path(directory) / "s.db")
            server = ApiServer(store)
            await server.start([socket.create_server(("127.0.0.1", 0))])
            took = time.perf_counter() - started
            await server.stop()
            await store.close()
            return took

        asyncio.run(fill())
        return asyncio.run(start())


# the client beside the official one: each in a process of its own, which reports its CPU and memory


def _measured(work: Callable[[str], int], url: str, pipe: Any) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF)
    base_mb = before.ru_maxrss / 1024
    count = work(url)
    after = resource.getrusage(resource.RUSAGE_SELF)
    used_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    pipe.send((count, used_s, after.ru_maxrss / 1024 - base_mb))


def _list_ours(url: str) -> int:
    async def run() -> int:
        async with ApiClient(ClusterConfig(server=url)) as client:
            informer = Informer(client, ENDPOINTSLICES, EndpointSlice)
            running = asyncio.ensure_future(informer.run())
            await informer.wait_synced()
            running.cancel()
            return len(informer.cache.objects())

    return asyncio.run(run())


def _watch_ours(url: str) -> int:
    async def run() -> int:
        seen = 0
        enough = asyncio.Event()

        def count(_: object) -> None:
            nonlocal seen
            seen += 1
            if seen >= WATCHED:
                enough.set()

        async with ApiClient(ClusterConfig(server=url)) as client:
            informer = Informer(client, ENDPOINTSLICES, EndpointSlice)
            informer.on_change(count)
            running = asyncio.ensure_future(informer.run())
            await informer.wait_synced()
            await enough.wait()
            running.cancel()
            return seen

    return asyncio.run(run())


PEER_PYTHON = Path(__file__).parents[1] / ".venv-clients" / "bin" / "python"  # made by ./dev test e2e
PEER = """
import json, resource, sys
from kubernetes import client, watch
api = client.DiscoveryV1Api(client.ApiClient(client.Configuration(host=sys.argv[1])))
before = resource.getrusage(resource.RUSAGE_SELF)
seen = 0
if sys.argv[2] == "list":
    seen = len(api.list_endpoint_slice_for_all_namespaces().items)
else:
    version = api.list_endpoint_slice_for_all_namespaces(limit=1).metadata.resource_version
    before = resource.getrusage(resource.RUSAGE_SELF)
    for _ in watch.Watch().stream(api.list_endpoint_slice_for_all_namespaces, resource_version=version):
        seen += 1
        if seen >= int(sys.argv[3]):
            break
after = resource.getrusage(resource.RUSAGE_SELF)
used_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
print(json.dumps([seen, used_s, (after.ru_maxrss - before.ru_maxrss) / 1024]))
"""


def official(url: str, what: str, count: int) -> tuple[int, float, float]:
    """Let the official client list or watch; return how many it saw, its processor time, and its memory."""
    done = run((str(PEER_PYTHON), "-c", PEER, url, what, str(count)), timeout_s=600.0)
    seen, used_s, size_mb = json.loads(done.stdout)
    return int(seen), float(used_s), float(size_mb)


def in_process(work: Callable[[str], int], url: str) -> tuple[int, float, float]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_measured, args=(work, url, theirs), daemon=True)
    process.start()
    found: tuple[int, float, float] = ours.recv()
    process.join()
    return found


def compare_lists(names: frozenset[str], rounds: int) -> None:
    mine: dict[str, list[float]] = {"cpu": [], "memory": []}
    peer: dict[str, list[float]] = {"cpu": [], "memory": []}
    with served("", LISTED) as (url, _):
        for _ in range(rounds):
            for found, samples in (
                (in_process(_list_ours, url), mine),
                (official(url, "list", LISTED), peer),
            ):
                count, used_s, size_mb = found
                assert count == LISTED
                samples["cpu"].append(used_s)
                samples["memory"].append(size_mb)
    for name, key in (("client-list-50k-cpu", "cpu"), ("client-list-50k-memory", "memory")):
        if name in names:
            report(FIGURES[name], mine[key], peer[key])


def compare_watches(rounds: int) -> None:
    mine: list[float] = []
    peer: list[float] = []
    with served("", CHANGING, churning=True) as (url, _):
        for _ in range(rounds):
            for found, samples in (
                (in_process(_watch_ours, url), mine),
                (official(url, "watch", WATCHED // 10), peer),
            ):
                samples.append(found[0] / found[1])
    report(FIGURES["client-watch"], mine, peer)


SIMPLE: Mapping[str, Callable[[], float]] = {
    "api-writes-32": lambda: writes(32),
    "api-writes-1": lambda: writes(1),
    "api-commit-to-watcher-p50": commit_to_watcher,
    "api-deliveries-100-watchers": deliveries,
    "api-deliveries-stuck-watcher": lambda: deliveries() / deliveries(stuck=1),
    "api-list-10k-cpu": list_cpu,
    "api-cold-start-10k": cold_start,
}


def main() -> None:
    wanted = asked(tuple(FIGURES.values()))
    for name, take in SIMPLE.items():
        if name in wanted.figures:
            report(FIGURES[name], [take() for _ in range(wanted.rounds)])
    against = [name for name in FIGURES if name.startswith("client-") and name in wanted.figures]
    if against and not PEER_PYTHON.exists():
        for name in against:
            skip(FIGURES[name], "the official client is missing; next: ./dev test e2e makes .venv-clients")
        return
    if any(name.startswith("client-list") for name in against):
        compare_lists(wanted.figures, wanted.rounds)
    if "client-watch" in against:
        compare_watches(wanted.rounds)


if __name__ == "__main__":
    main()
