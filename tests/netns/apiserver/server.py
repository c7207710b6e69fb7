"""A server on loopback and a client that speaks plain HTTP to it: no part of our own client takes part."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from kubenet.apiserver.http import ApiServer, ServerConfig
from kubenet.store.base import Store
from kubenet.store.memory import MemoryStore

JSON = "application/json"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON_PATCH = "application/json-patch+json"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"

Value = Any  # what JSON holds; tests look into it without ceremony


@dataclass(frozen=True)
class Reply:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Value:
        return json.loads(self.body)

    @property
    def ok(self) -> Value:
        """The body of a request that must have worked."""
        assert 200 <= self.status < 300, self.body
        return json.loads(self.body)

    def refused(self, code: int, reason: str) -> str:
        """Return the message of a refusal that must be of this kind."""
        value = self.json
        assert (self.status, value["code"], value["reason"]) == (code, code, reason), value
        assert (value["kind"], value["apiVersion"], value["status"]) == ("Status", "v1", "Failure")
        return str(value["message"])


class Watching:
    """An open watch, line by line."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response

    async def next(self) -> Value:
        """Return the next event; fails if the stream ends or nothing comes."""
        line = await asyncio.wait_for(self.response.content.readline(), 10)
        assert line.endswith(b"\n"), f"the watch ended: {line!r}"
        return json.loads(line)

    async def take(self, count: int) -> list[tuple[str, str]]:
        """Return the types and names of the next events."""
        events = [await self.next() for _ in range(count)]
        return [(event["type"], event["object"]["metadata"]["name"]) for event in events]

    async def rest(self) -> list[Value]:
        """Return all events up to the end of the stream."""
        text = await asyncio.wait_for(self.response.content.read(), 10)
        return [json.loads(line) for line in text.splitlines()]


class Api:
    """A client of one server."""

    def __init__(self, url: str, session: aiohttp.ClientSession, server: ApiServer, store: Store) -> None:
        self.url = url
        self.server = server
        self.store = store
        self._session = session

    async def call(self, method: str, path: str, body: Value = None, **options: str) -> Reply:
        """Send a request; ``type`` and ``accept`` set headers, all other options are query parameters."""
        headers = {"Accept": options.pop("accept", JSON)}
        sent = body if isinstance(body, bytes | type(None)) else json.dumps(body).encode()
        if sent is not None:
            headers["Content-Type"] = options.pop("type", JSON)
        address = self.url + path
        async with self._session.request(method, address, data=sent, headers=headers, params=options) as r:
            return Reply(r.status, dict(r.headers), await r.read())

    async def get(self, path: str, **options: str) -> Reply:
        return await self.call("GET", path, **options)

    async def post(self, path: str, body: Value, **options: str) -> Reply:
        return await self.call("POST", path, body, **options)

    async def put(self, path: str, body: Value, **options: str) -> Reply:
        return await self.call("PUT", path, body, **options)

    async def patch(self, path: str, body: Value, type: str = MERGE, **options: str) -> Reply:
        return await self.call("PATCH", path, body, type=type, **options)

    async def delete(self, path: str, body: Value = None, **options: str) -> Reply:
        return await self.call("DELETE", path, body, **options)

    @asynccontextmanager
    async def watch(self, path: str, **options: str) -> AsyncIterator[Watching]:
        """Open a watch; the reply's headers must have come."""
        headers = {"Accept": options.pop("accept", JSON)}
        params = {"watch": "true"} | options
        async with self._session.get(self.url + path, params=params, headers=headers) as response:
            assert response.status == 200, await response.read()
            yield Watching(response)

    async def until_gone(self, path: str) -> None:
        """Return once an object does not exist any more."""
        async with asyncio.timeout(10):
            while (await self.get(path)).status != 404:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def serving(store: Store | None = None, config: ServerConfig | None = None) -> AsyncIterator[Api]:
    """Serve a store (a new one in memory) on a free port of loopback."""
    store = store or MemoryStore()
    listener = socket.create_server(("127.0.0.1", 0))
    server = ApiServer(store, config)
    await server.start([listener])
    try:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        connector = aiohttp.TCPConnector(limit=0)  # every watch holds a connection
        async with aiohttp.ClientSession(connector=connector) as session:
            yield Api(url, session, server, store)
    finally:
        await server.stop()
        listener.close()


def on_server(case: Callable[[Api], Awaitable[None]], config: ServerConfig | None = None) -> None:
    """Run a test's case against a new server."""

    async def run() -> None:
        async with asyncio.timeout(30), serving(config=config) as api:
            await case(api)

    asyncio.run(run())


def configmap(name: str, **content: str) -> Value:
    return {"metadata": {"name": name}, "data": content}


def pod(name: str = "", **spec: Value) -> Value:
    metadata: Value = {"name": name} if name else {}
    return {"metadata": metadata, "spec": {"containers": [{"name": "c", "image": "web"}]} | spec}


def service(name: str, **spec: Value) -> Value:
    return {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}]} | spec}


def deployment(name: str, **spec: Value) -> Value:
    template = {"metadata": {"labels": {"app": name}}, "spec": pod()["spec"]}
    selector = {"matchLabels": {"app": name}}
    return {"metadata": {"name": name}, "spec": {"selector": selector, "template": template} | spec}


NS = "/api/v1/namespaces"
DEFAULT = f"{NS}/default"
CONFIGMAPS = f"{DEFAULT}/configmaps"
PODS = f"{DEFAULT}/pods"
SERVICES = f"{DEFAULT}/services"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
REPLICASETS = "/apis/apps/v1/namespaces/default/replicasets"
