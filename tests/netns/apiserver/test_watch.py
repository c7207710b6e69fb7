"""Watches, as clients meet them."""

import asyncio
import json
from pathlib import Path

import aiohttp
import pytest

from kubenet.apiserver.entries import CacheLimits
from kubenet.apiserver.http import ServerConfig
from kubenet.store.feed import FeedLimits
from kubenet.store.memory import MemoryStore
from kubenet.store.sqlite import SqliteStore
from tests.netns.apiserver.server import (
    CONFIGMAPS,
    NS,
    PODS,
    TABLE,
    Api,
    Value,
    configmap,
    on_server,
    pod,
    serving,
)


async def revision(api: Api) -> str:
    return str((await api.get(CONFIGMAPS)).ok["metadata"]["resourceVersion"])


def test_B5_1_changes_come_one_a_line_as_they_happen() -> None:
    async def case(api: Api) -> None:
        async with api.watch(CONFIGMAPS, resourceVersion=await revision(api)) as watch:
            assert watch.response.headers["Content-Type"] == "application/json"
            assert watch.response.headers["Transfer-Encoding"] == "chunked"
            made = (await api.post(CONFIGMAPS, configmap("a", v="1"))).ok
            assert await watch.next() == {"type": "ADDED", "object": made}
            changed = (await api.patch(f"{CONFIGMAPS}/a", {"data": {"v": "2"}})).ok
            assert await watch.next() == {"type": "MODIFIED", "object": changed}
            await api.delete(f"{CONFIGMAPS}/a")
            await api.post(f"{NS}/kube-system/configmaps", configmap("elsewhere"))
            await api.post(PODS, pod("a"))
            await api.post(CONFIGMAPS, configmap("b"))
            assert await watch.take(2) == [("DELETED", "a"), ("ADDED", "b")]

    on_server(case)


@pytest.mark.parametrize("start", ["", "0"], ids=["no revision", "revision 0"])
def test_B5_2_a_watch_from_nowhere_begins_with_what_is(start: str) -> None:
    async def case(api: Api) -> None:
        for name in "ba":
            await api.post(CONFIGMAPS, configmap(name))
        async with api.watch(CONFIGMAPS, resourceVersion=start) as watch:
            assert await watch.take(2) == [("ADDED", "a"), ("ADDED", "b")]
            await api.post(CONFIGMAPS, configmap("c"))
            assert await watch.take(1) == [("ADDED", "c")]

    on_server(case)


def test_B5_2_a_watch_from_a_revision_gets_all_after_it() -> None:
    async def case(api: Api) -> None:
        await api.post(CONFIGMAPS, configmap("before"))
        start = await revision(api)
        await api.post(CONFIGMAPS, configmap("a"))
        await api.delete(f"{CONFIGMAPS}/before")
        async with api.watch(CONFIGMAPS, resourceVersion=start) as watch:
            assert await watch.take(2) == [("ADDED", "a"), ("DELETED", "before")]

    on_server(case)


def test_B5_2_history_that_the_cache_dropped_comes_from_the_store() -> None:
    async def case(api: Api) -> None:
        start = await revision(api)
        for index in range(10):
            await api.post(CONFIGMAPS, configmap(f"c{index}"))
        async with api.watch(CONFIGMAPS, resourceVersion=start) as watch:
            assert await watch.take(10) == [("ADDED", f"c{index}") for index in range(10)]
            await api.post(CONFIGMAPS, configmap("live"))
            assert await watch.take(1) == [("ADDED", "live")]

    on_server(case, ServerConfig(cache=CacheLimits(changes_most=3)))


def test_B5_2_history_that_nobody_keeps_is_expired_inside_the_stream() -> None:
    async def case(api: Api) -> None:
        start = await revision(api)
        for index in range(10):
            await api.post(CONFIGMAPS, configmap(f"c{index}"))
        await api.store.compact(await api.store.revision())
        async with api.watch(CONFIGMAPS, resourceVersion=start) as watch:
            (event,) = await watch.rest()
        assert event["type"] == "ERROR"
        status = event["object"]
        assert (status["kind"], status["code"], status["reason"]) == ("Status", 410, "Expired")
        assert "too old resource version" in status["message"]

    on_server(case, ServerConfig(cache=CacheLimits(changes_most=3)))


def test_B5_2_a_revision_of_the_future_is_waited_for_or_refused() -> None:
    async def case(api: Api) -> None:
        reply = await api.get(CONFIGMAPS, watch="true", resourceVersion="999")
        reply.refused(504, "Timeout")

    on_server(case, ServerConfig(cache=CacheLimits(freshness_wait_s=0.01)))


def test_B5_3_objects_come_and_go_as_a_selector_sees_them() -> None:
    async def case(api: Api) -> None:
        start = await revision(api)
        async with (
            api.watch(CONFIGMAPS, resourceVersion=start, labelSelector="color=red") as red,
            api.watch(CONFIGMAPS, resourceVersion=start, labelSelector="!color") as plain,
        ):
            await api.post(CONFIGMAPS, configmap("a", v="1"))
            assert await plain.take(1) == [("ADDED", "a")]
            painted = (await api.patch(f"{CONFIGMAPS}/a", {"metadata": {"labels": {"color": "red"}}})).ok
            assert await red.next() == {"type": "ADDED", "object": painted}
            left = await plain.next()
            assert left["type"] == "DELETED"
            assert "labels" not in left["object"]["metadata"]  # the last state that this watcher knew
            assert left["object"]["metadata"]["resourceVersion"] == painted["metadata"]["resourceVersion"]
            await api.patch(f"{CONFIGMAPS}/a", {"data": {"v": "2"}})
            await api.patch(f"{CONFIGMAPS}/a", {"metadata": {"labels": None}})
            assert await red.take(2) == [("MODIFIED", "a"), ("DELETED", "a")]
            assert await plain.take(1) == [("ADDED", "a")]
            await api.delete(f"{CONFIGMAPS}/a")
            assert await plain.take(1) == [("DELETED", "a")]
            await api.post(CONFIGMAPS, {"metadata": {"name": "b", "labels": {"color": "red"}}})
            assert await red.take(1) == [("ADDED", "b")]  # nothing of the deletion before

    on_server(case)


def test_B5_3_a_node_agent_sees_its_own_pods_only() -> None:
    async def case(api: Api) -> None:
        async with api.watch("/api/v1/pods", fieldSelector="spec.nodeName=n1") as mine:
            for name, node in (("a", "n2"), ("b", "n1")):
                await api.post(PODS, pod(name))
                await api.post(f"{PODS}/{name}/binding", {"target": {"kind": "Node", "name": node}})
            assert await mine.take(1) == [("ADDED", "b")]

    on_server(case)


def test_B5_4_a_deletion_carries_the_last_state_at_its_own_revision() -> None:
    async def case(api: Api) -> None:
        await api.post(CONFIGMAPS, configmap("a", v="1"))
        last = (await api.patch(f"{CONFIGMAPS}/a", {"data": {"v": "2"}})).ok
        async with api.watch(CONFIGMAPS, resourceVersion=last["metadata"]["resourceVersion"]) as watch:
            await api.delete(f"{CONFIGMAPS}/a")
            event = await watch.next()
        assert event["type"] == "DELETED"
        expected = str(int(last["metadata"]["resourceVersion"]) + 1)
        assert event["object"]["metadata"].pop("resourceVersion") == expected
        del last["metadata"]["resourceVersion"]
        assert event["object"] == last

    on_server(case)


def test_B5_5_and_7_a_bookmark_says_how_far_a_watch_has_come_and_it_ends_in_time() -> None:
    async def case(api: Api) -> None:
        start = await revision(api)
        options = {"resourceVersion": start, "timeoutSeconds": "1"}
        async with (
            api.watch(CONFIGMAPS, allowWatchBookmarks="true", **options) as marked,
            api.watch(CONFIGMAPS, **options) as silent,
        ):
            await api.post(PODS, pod("a"))  # another kind moves the revision on
            now = await revision(api)
            (event,) = await marked.rest()
            assert event["type"] == "BOOKMARK"
            assert (event["object"]["kind"], event["object"]["apiVersion"]) == ("ConfigMap", "v1")
            assert event["object"]["metadata"]["resourceVersion"] == now
            assert await silent.rest() == []

    on_server(case)


def test_B5_6_a_streaming_list_says_where_the_present_ends() -> None:
    async def case(api: Api) -> None:
        await api.post(CONFIGMAPS, configmap("a"))
        options = {
            "sendInitialEvents": "true",
            "resourceVersionMatch": "NotOlderThan",
            "allowWatchBookmarks": "true",
        }
        async with api.watch(CONFIGMAPS, **options) as watch:
            assert await watch.take(1) == [("ADDED", "a")]
            end = await watch.next()
            assert end["type"] == "BOOKMARK"
            assert end["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
            assert end["object"]["metadata"]["resourceVersion"] == await revision(api)
            await api.post(CONFIGMAPS, configmap("b"))
            assert await watch.take(1) == [("ADDED", "b")]
        options["sendInitialEvents"] = "false"
        async with api.watch(CONFIGMAPS, **options) as watch:
            await api.post(CONFIGMAPS, configmap("c"))
            assert await watch.take(1) == [("ADDED", "c")]

    on_server(case)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"sendInitialEvents": "true", "allowWatchBookmarks": "true"}, id="no match"),
        pytest.param(
            {
                "sendInitialEvents": "true",
                "allowWatchBookmarks": "true",
                "resourceVersionMatch": "Exact",
                "resourceVersion": "1",
            },
            id="an exact match",
        ),
        pytest.param(
            {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}, id="no bookmarks wanted"
        ),
        pytest.param({"resourceVersionMatch": "NotOlderThan"}, id="a match without initial events"),
    ],
)
def test_B5_6_a_streaming_list_asked_for_wrongly_is_refused(options: dict[str, str]) -> None:
    async def case(api: Api) -> None:
        (await api.get(CONFIGMAPS, watch="true", **options)).refused(422, "Invalid")

    on_server(case)


def test_B5_8_a_watcher_that_never_reads_is_cut_and_nobody_waits_for_it() -> None:
    async def case(api: Api) -> None:
        async with aiohttp.ClientSession(read_bufsize=1024) as session:
            address = f"{api.url}{CONFIGMAPS}?watch=true"
            async with session.get(address) as stuck, api.watch(CONFIGMAPS) as quick:
                await api.post(CONFIGMAPS, configmap("a"))
                assert await quick.take(1) == [("ADDED", "a")]
                for index in range(40):  # 40 x 500 kB: more than sockets and buffers hold
                    await api.patch(f"{CONFIGMAPS}/a", {"data": {"v": f"{index}" + "x" * 500_000}})
                    assert await quick.take(1) == [("MODIFIED", "a")]
                with pytest.raises(aiohttp.ClientError):
                    await asyncio.wait_for(stuck.content.read(), 10)

    on_server(case)


def test_B5_9_a_watch_of_tables() -> None:
    async def case(api: Api) -> None:
        async with api.watch(CONFIGMAPS, resourceVersion=await revision(api), accept=TABLE) as watch:
            await api.post(CONFIGMAPS, configmap("a", x="1"))
            event = await watch.next()
            assert (event["type"], event["object"]["kind"]) == ("ADDED", "Table")
            assert event["object"]["rows"][0]["cells"][:2] == ["a", 1]
            assert event["object"]["columnDefinitions"][0]["name"] == "Name"

    on_server(case)


def test_B5_10_revisions_are_one_counter_over_all_kinds() -> None:
    async def case(api: Api) -> None:
        made = [
            (await api.post(CONFIGMAPS, configmap("a"))).ok,
            (await api.post(PODS, pod("a"))).ok,
            (await api.post(CONFIGMAPS, configmap("b"))).ok,
        ]
        revisions = [int(one["metadata"]["resourceVersion"]) for one in made]
        assert revisions == [revisions[0], revisions[0] + 1, revisions[0] + 2]

    on_server(case)


def test_B5_10_a_watch_resumes_over_a_restart_of_the_server(tmp_path: Path) -> None:
    async def run() -> None:
        store = await SqliteStore.open(tmp_path / "s.db")
        async with serving(store) as api:
            start = await revision(api)
            await api.post(CONFIGMAPS, configmap("a"))
        await store.close()
        store = await SqliteStore.open(tmp_path / "s.db")
        async with (
            serving(store) as api,
            api.watch(CONFIGMAPS, resourceVersion=start) as watch,
        ):
            await api.post(CONFIGMAPS, configmap("b"))
            assert await watch.take(2) == [("ADDED", "a"), ("ADDED", "b")]
        await store.close()

    asyncio.run(run())


def test_B5_11_stopping_the_server_ends_watches_at_once() -> None:
    async def run() -> None:
        async with serving() as api, api.watch(CONFIGMAPS) as watch:
            async with asyncio.timeout(2):
                await api.server.stop()
                assert await watch.rest() == []

    asyncio.run(run())


def test_a_cache_that_lost_its_place_ends_watches_as_expired_and_reads_on() -> None:
    async def run() -> None:
        store = MemoryStore(FeedLimits(events=5))
        async with serving(store) as api, api.watch(CONFIGMAPS) as watch:
            for index in range(10):  # without a pause: more than the cache may leave unread
                head = f'"kind":"ConfigMap","apiVersion":"v1","metadata":{{"name":"c{index}"'
                body = f'{{{head},"namespace":"default"}}}}'.encode()
                await store.create(f"/registry/configmaps/default/c{index}", body)
            (event,) = await watch.rest()
            assert (event["type"], event["object"]["code"]) == ("ERROR", 410)
            await api.post(CONFIGMAPS, configmap("d"))
            listed = (await api.get(CONFIGMAPS)).ok["items"]
            assert len(listed) == 11

    asyncio.run(run())


@pytest.mark.parametrize("kept", [4096, 3], ids=["from the cache", "mostly from the store"])
def test_A3_watchers_of_many_writers_see_every_change_once_and_in_order(kept: int) -> None:
    async def case(api: Api) -> None:
        async def write(writer: int) -> None:
            path = f"{CONFIGMAPS}/w{writer}"
            for turn in range(5):
                await api.post(CONFIGMAPS, configmap(f"w{writer}"))
                await api.patch(path, {"data": {"turn": str(turn)}})
                await api.delete(path)

        async def follow(start: str, delay_s: float) -> list[tuple[str, Value]]:
            await asyncio.sleep(delay_s)
            async with api.watch(CONFIGMAPS, resourceVersion=start) as watch:
                events = [await watch.next() for _ in range(4 * 5 * 3)]
            return [(event["type"], event["object"]["metadata"]) for event in events]

        start = await revision(api)
        followers = [asyncio.ensure_future(follow(start, index / 500)) for index in range(10)]
        await asyncio.gather(*(write(writer) for writer in range(4)))
        histories = await asyncio.gather(*followers)
        assert all(history == histories[0] for history in histories)
        revisions = [int(metadata["resourceVersion"]) for _, metadata in histories[0]]
        assert revisions == list(range(int(start) + 1, int(start) + 61))
        for writer in range(4):
            types = [kind for kind, metadata in histories[0] if metadata["name"] == f"w{writer}"]
            assert types == ["ADDED", "MODIFIED", "DELETED"] * 5

    on_server(case, ServerConfig(cache=CacheLimits(changes_most=kept)))


def test_one_object_is_watched_by_its_name() -> None:
    async def case(api: Api) -> None:
        async with api.watch(CONFIGMAPS, fieldSelector="metadata.name=b") as watch:
            for name in "ab":
                await api.post(CONFIGMAPS, configmap(name))
            assert await watch.take(1) == [("ADDED", "b")]
        reply = await api.get(f"{CONFIGMAPS}/b", watch="true")
        assert "metadata.name" in reply.refused(400, "BadRequest")
        assert json.loads(reply.body)["kind"] == "Status"

    on_server(case)
