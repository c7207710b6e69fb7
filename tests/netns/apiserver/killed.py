"""A server that is killed under load, again and again, and what its clients were promised."""

import asyncio
import contextlib
import json
import random
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

MAIN = "import sys; from kubenet.cli.main import main; sys.exit(main())"
PATH = "http://x/api/v1/namespaces/default/configmaps"
WRITERS = 8


@dataclass
class Promised:
    """What the server has acknowledged: by name the revision and the value; and what was seen."""

    present: dict[str, tuple[int, str]] = field(default_factory=dict)
    doubtful: set[str] = field(default_factory=set)  # a write was under way when the server died
    newest: int = 0
    watched: int = 0
    count: int = 0

    def saw(self, revision: int) -> None:
        self.newest = max(self.newest, revision)


class Server:
    """The command, on a unix socket."""

    def __init__(self, directory: Path, listen: str) -> None:
        self.socket = directory / "plain.sock"
        words = [
            "--data-dir",
            str(directory / "d"),
            "--listen",
            listen,
            "--insecure-listen",
            f"unix:{self.socket}",
        ]
        self.process = subprocess.Popen(
            [sys.executable, "-c", MAIN, "apiserver", *words], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        assert "serving" in self.process.stdout.readline()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(self.socket), limit=0))


async def one_round(directory: Path, listen: str, promised: Promised, chance: random.Random) -> None:
    """Start the server, check what it promised before, write, kill it."""
    server = Server(directory, listen)
    try:
        async with server.session() as session, asyncio.timeout(60):
            await check(session, promised)
            writers = [asyncio.ensure_future(_write(session, promised, chance, n)) for n in range(WRITERS)]
            watcher = asyncio.ensure_future(_watch(session, promised))
            await asyncio.sleep(chance.uniform(0.05, 0.6))
            server.kill()
            await asyncio.gather(*writers, watcher)
    finally:
        if server.process.returncode is None:
            server.kill()


async def _write(
    session: aiohttp.ClientSession, promised: Promised, chance: random.Random, worker: int
) -> None:
    """Create, change and delete objects of one's own, until the server is gone."""
    while True:
        name, value = f"w{worker}-{chance.randrange(8)}", str(chance.random())
        body = {"metadata": {"name": name}, "data": {"v": value}}
        present = promised.present.get(name)
        promised.doubtful.add(name)
        try:
            if present and chance.random() < 0.2:
                async with session.delete(f"{PATH}/{name}") as reply:
                    if reply.status == 200:
                        promised.present.pop(name)
            else:
                method, url = ("PUT", f"{PATH}/{name}") if present else ("POST", PATH)
                async with session.request(method, url, json=body) as reply:
                    if reply.status < 300:
                        revision = int((await reply.json())["metadata"]["resourceVersion"])
                        promised.present[name] = (revision, value)
                        promised.saw(revision)
        except aiohttp.ClientError:
            return
        promised.doubtful.discard(name)
        promised.count += 1


async def _watch(session: aiohttp.ClientSession, promised: Promised) -> None:
    """Follow from where the last watch ended: strictly forward, and never told that the place is gone."""
    params = (
        {"watch": "true", "resourceVersion": str(promised.watched)} if promised.watched else {"watch": "true"}
    )
    with contextlib.suppress(aiohttp.ClientError):
        async with session.get(PATH, params=params, timeout=aiohttp.ClientTimeout(None)) as reply:
            resumed = promised.watched > 0
            async for line in reply.content:
                event = json.loads(line)
                assert event["type"] != "ERROR", event
                revision = int(event["object"]["metadata"]["resourceVersion"])
                if resumed:
                    assert revision > promised.watched
                promised.watched = max(promised.watched, revision)


async def check(session: aiohttp.ClientSession, promised: Promised) -> None:
    """Compare what there is with what was acknowledged."""
    async with session.get(PATH) as reply:
        listed = await reply.json()
    assert int(listed["metadata"]["resourceVersion"]) >= promised.newest
    have = {
        item["metadata"]["name"]: (int(item["metadata"]["resourceVersion"]), item["data"]["v"])
        for item in listed["items"]
        if item["metadata"]["name"].startswith("w")
    }
    for name in (promised.present.keys() | have.keys()) - promised.doubtful:
        assert have.get(name) == promised.present.get(name), name
    for name in promised.doubtful:  # it happened, or it did not: from now on it is known
        promised.present.pop(name, None)
        if name in have:
            promised.present[name] = have[name]
    promised.doubtful.clear()
