"""The client against a scripted server in another network namespace."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from kubenet.client.errors import Conflict, NotAllowed, ObjectNotFound
from kubenet.client.kubeconfig import ClusterConfig
from kubenet.client.transport import ApiClient
from kubenet.errors import Unreachable
from kubenet.kernel.netns import NetNs
from kubenet.model.objects import Pod
from kubenet.model.resources import PODS
from tests.netns.client.scripted import (
    CONFIG,
    Script,
    answer,
    drop_netns,
    event,
    fresh_netns,
    page,
    pod,
    refusal,
    serving,
    watch,
)

pytestmark = pytest.mark.netns


@pytest.fixture
def netns(tmp_path: Path) -> Iterator[NetNs]:
    path = tmp_path / "netns"
    made = fresh_netns(path)
    yield made
    drop_netns(made, path)


def test_connections_live_in_the_namespace_of_the_socket_factory(netns: NetNs) -> None:
    async def story() -> Pod:
        async with serving(netns, answer(pod("a", "7"))):
            async with ApiClient(CONFIG) as outside:
                with pytest.raises(Unreachable):
                    await outside.get(PODS, "ns", "a", Pod)
            async with ApiClient(CONFIG, socket_factory=netns.socket) as inside:
                return await inside.get(PODS, "ns", "a", Pod)

    assert asyncio.run(story()).metadata.key == "ns/a"


def test_a_server_that_is_not_there_is_named_with_the_next_step(netns: NetNs) -> None:
    async def story() -> None:
        async with ApiClient(CONFIG, socket_factory=netns.socket) as client:
            await client.request("GET", "/version")

    with pytest.raises(Unreachable, match=r"http://127\.0\.0\.1:6443: the API server does not") as caught:
        asyncio.run(story())
    assert "curl" in caught.value.next_step


def test_refusals_become_errors_of_their_own(netns: NetNs) -> None:
    async def story() -> None:
        replies = refusal(404, "NotFound"), refusal(409, "Conflict"), refusal(403, "Forbidden")
        async with serving(netns, *replies), ApiClient(CONFIG, socket_factory=netns.socket) as client:
            with pytest.raises(ObjectNotFound):
                await client.get(PODS, "ns", "a", Pod)
            with pytest.raises(Conflict):
                await client.replace(PODS, "ns", "a", {})
            with pytest.raises(NotAllowed):
                await client.create(PODS, "ns", {})

    asyncio.run(story())


def test_a_list_is_read_page_by_page(netns: NetNs) -> None:
    async def story() -> tuple[list[str], Script]:
        pages = page("9", "a", "b", continue_token="t1"), page("9", "c")
        async with serving(netns, *pages) as script, ApiClient(CONFIG, socket_factory=netns.socket) as client:
            found = await client.list(PODS, "ns", Pod, label_selector="app=x")
            return [each.metadata.name for each in found], script

    names, script = asyncio.run(story())
    assert names == ["a", "b", "c"]
    assert [dict(each.query) for each in script.asked] == [
        {"limit": "500", "labelSelector": "app=x"},
        {"limit": "500", "labelSelector": "app=x", "continue": "t1"},
    ]


def test_a_delete_names_the_uid_and_the_grace_it_means(netns: NetNs) -> None:
    async def story() -> object:
        async with (
            serving(netns, answer({})) as script,
            ApiClient(CONFIG, socket_factory=netns.socket) as client,
        ):
            await client.delete(PODS, "ns", "a", grace_s=0, uid="u1")
            return json.loads(await script.asked[0].text())

    assert asyncio.run(story()) == {
        "kind": "DeleteOptions",
        "apiVersion": "v1",
        "gracePeriodSeconds": 0,
        "preconditions": {"uid": "u1"},
    }


def test_a_renewed_token_is_read_again_after_a_401(netns: NetNs, tmp_path: Path) -> None:
    token_path = tmp_path / "token"
    token_path.write_text("old\n")
    config = ClusterConfig(server=CONFIG.server, token_path=token_path)

    async def story() -> list[str]:
        replies = answer({}), refusal(401, "Unauthorized"), answer({})
        async with (
            serving(netns, *replies) as script,
            ApiClient(config, socket_factory=netns.socket) as client,
        ):
            await client.request("GET", "/a")
            token_path.write_text("new\n")
            with pytest.raises(NotAllowed):
                await client.request("GET", "/b")
            await client.request("GET", "/c")
            return [each.headers["Authorization"] for each in script.asked]

    assert asyncio.run(story()) == ["Bearer old", "Bearer old", "Bearer new"]


def test_lines_of_a_megabyte_arrive_whole(netns: NetNs) -> None:
    long = b'"' + b"x" * 1_000_000 + b'"\n'

    async def story() -> list[bytes]:
        async with (
            serving(netns, watch(b'"first"\n', long, b'"last"\n')),
            ApiClient(CONFIG, socket_factory=netns.socket) as client,
        ):
            return [line async for line in client.stream("/watch")]

    assert asyncio.run(story()) == [b'"first"', long.strip(), b'"last"']


@pytest.mark.parametrize(
    ("reply", "idle_s"),
    [
        pytest.param(watch(event("ADDED", "a", "7"), b'{"half', cut=True), 30.0, id="cut in half a line"),
        pytest.param(watch(event("ADDED", "a", "7"), hang=True), 0.1, id="silent"),
    ],
)
def test_a_broken_stream_is_unreachable_after_its_whole_lines(
    netns: NetNs, reply: object, idle_s: float
) -> None:
    async def story() -> list[bytes]:
        got: list[bytes] = []

        async def read_all() -> None:
            async for line in client.stream("/watch", idle_s=idle_s):
                got.append(line)

        async with (
            serving(netns, reply),  # type: ignore[arg-type]  # parametrize knows no types
            ApiClient(CONFIG, socket_factory=netns.socket) as client,
        ):
            with pytest.raises(Unreachable):
                await read_all()
        return got

    assert asyncio.run(story()) == [event("ADDED", "a", "7").strip()]
