"""Events in the words of events.k8s.io/v1, and to a server that has not heard of it."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from kubenet.client.recorder import EventRecorder
from kubenet.client.transport import ApiClient
from kubenet.kernel.netns import NetNs
from kubenet.model.events import EventType, Occurrence
from kubenet.model.resources import SERVICES
from tests.netns.client.scripted import CONFIG, Reply, answer, drop_netns, fresh_netns, refusal, serving

pytestmark = pytest.mark.netns

WHAT = Occurrence(SERVICES, "demo", "web", "u1", "NotProxied", "no", EventType.WARNING, "Proxy")


@pytest.fixture
def netns(tmp_path: Path) -> Iterator[NetNs]:
    path = tmp_path / "server"
    made = fresh_netns(path)
    yield made
    drop_netns(made, path)


Asked = list[tuple[str, str, dict[str, object]]]


def sent(netns: NetNs, times: int, requests: int, *replies: Reply) -> Asked:
    """Record ``WHAT`` so many times; return method, path and body of the requests."""

    async def story() -> Asked:
        async with (
            serving(netns, *replies) as script,
            ApiClient(CONFIG, socket_factory=netns.socket) as client,
        ):
            recorder = EventRecorder(client, "kubenet-proxy", "here", new_form=True)
            running = asyncio.create_task(recorder.run())
            for _ in range(times):
                recorder.record(WHAT)
            async with asyncio.timeout(10):
                while len(script.asked) < requests:
                    await asyncio.sleep(0.01)
            running.cancel()
            await asyncio.wait({running})
            return [(each.method, each.path, json.loads(await each.text())) for each in script.asked]

    return asyncio.run(story())


def test_events_are_written_as_kube_proxy_writes_them_and_repeats_counted(netns: NetNs) -> None:
    create, repeat = sent(netns, 2, 2, answer({}))
    where = "/apis/events.k8s.io/v1/namespaces/demo/events"
    assert create[:2] == ("POST", where)
    assert (create[2]["reportingController"], create[2]["action"]) == ("kubenet-proxy", "Proxy")
    assert repeat[:2] == ("PATCH", f"{where}/{WHAT.event_name}")
    series = repeat[2]["series"]
    assert isinstance(series, dict)
    assert series["count"] == 2


def test_a_server_without_the_group_gets_them_in_the_old_words(netns: NetNs) -> None:
    asked = sent(netns, 2, 3, refusal(404, "NotFound"), answer({}))
    old = "/api/v1/namespaces/demo/events"
    assert [path for _, path, _ in asked[1:]] == [old, f"{old}/{WHAT.event_name}"]
    assert asked[1][2]["message"] == "no"
