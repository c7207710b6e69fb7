"""As much of an API server as a DNS server asks for: lists, watches, and events when we say so.

Objects are made, not stored, so a cluster of 100,000 Services is there at once.
"""

import asyncio
import json
from collections.abc import Iterable, Mapping

from aiohttp import web

PAGE = 500
VERSION = "1"
DOMAIN = "cluster.local"
NAMESPACES = 50


def service(n: int, name: str = "", ip: str = "") -> dict[str, object]:
    """Return the nth Service as the API writes it."""
    namespace = f"ns-{n % NAMESPACES}"
    ip = ip or f"10.{96 + (n >> 16)}.{n >> 8 & 255}.{n & 255}"
    return {
        "metadata": {
            "name": name or f"svc-{n}",
            "namespace": namespace,
            "uid": str(n),
            "resourceVersion": VERSION,
            "labels": {"app": "bench"},
        },
        "spec": {
            "type": "ClusterIP",
            "clusterIP": ip,
            "clusterIPs": [ip],
            "ports": [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080}],
        },
    }


def endpoint_slice(name: str, of: str, addresses: Iterable[str], version: int = 1) -> dict[str, object]:
    """Return a slice of ns-0."""
    return {
        "metadata": {
            "name": name,
            "namespace": "ns-0",
            "resourceVersion": str(version),
            "labels": {"kubernetes.io/service-name": of},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [each], "conditions": {"ready": True}} for each in addresses],
        "ports": [{"name": "http", "protocol": "TCP", "port": 8080}],
    }


class Api:
    """One cluster: ``services`` of them, one headless Service of 1,000 endpoints, one that changes."""

    def __init__(self, services: int) -> None:
        namespaces: list[Mapping[str, object]] = [
            {"metadata": {"name": f"ns-{n}", "resourceVersion": VERSION}} for n in range(NAMESPACES)
        ]
        thousand = [f"10.244.{n >> 8}.{n & 255}" for n in range(1000)]
        headless = [service(0, name, "None") for name in ("many", "moving")]
        slices = [endpoint_slice(f"many-{n}", "many", thousand[n * 100 : n * 100 + 100]) for n in range(10)]
        moving = endpoint_slice("moving-1", "moving", ["10.1.0.0"])
        self._objects: dict[str, list[Mapping[str, object]]] = {
            "services": [*(service(n) for n in range(services)), *headless],
            "namespaces": namespaces,
            "endpointslices": [*slices, moving],
        }
        self._watches: dict[str, list[asyncio.Queue[bytes]]] = {}
        self._version = 1

    def move(self, address: str) -> None:
        """Give the Service ``moving`` another endpoint."""
        self._version += 1
        changed = endpoint_slice("moving-1", "moving", [address], self._version)
        line = json.dumps({"type": "MODIFIED", "object": changed}).encode() + b"\n"
        for queue in self._watches.get("endpointslices", ()):
            queue.put_nowait(line)

    async def start(self, port: int) -> web.AppRunner:
        """Serve on loopback."""
        app = web.Application()
        app.router.add_get("/{path:.*}", self._get)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        return runner

    async def _get(self, request: web.Request) -> web.StreamResponse:
        resource = request.path.rstrip("/").rpartition("/")[2]
        objects = self._objects.get(resource)
        if objects is None:
            return web.json_response({"kind": "Status", "code": 404}, status=404)
        if request.query.get("watch") in ("true", "1"):
            return await self._watch(request, resource)
        start = int(request.query.get("continue", "0"))
        end = start + int(request.query.get("limit", "0") or len(objects))
        metadata = {"resourceVersion": VERSION, **({"continue": str(end)} if end < len(objects) else {})}
        return web.json_response({"kind": "List", "metadata": metadata, "items": objects[start:end]})

    async def _watch(self, request: web.Request, resource: str) -> web.StreamResponse:
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        self._watches.setdefault(resource, []).append(queue)
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(await queue.get())
