"""The kinds of workload on the real API server, with nodes that pretend to run pods."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from kubenet.controllers.daemonsets import DAEMONSETS
from kubenet.kernel.netns import NetNs
from kubenet.model.objects import Json
from kubenet.model.workloads import DaemonSet
from tests.netns.client.scripted import drop_netns, fresh_netns
from tests.netns.manager.cluster import Cluster, running

pytestmark = pytest.mark.netns

NODE_NAMES = ("n1", "n2", "n3")


@pytest.fixture
def netns(tmp_path: Path) -> Iterator[NetNs]:
    path = tmp_path / "netns"
    made = fresh_netns(path)
    yield made
    drop_netns(made, path)


def play(netns: NetNs, story: Callable[[Cluster], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with running(netns, *NODE_NAMES) as cluster:
            await story(cluster)

    asyncio.run(whole())


def template(image: str = "v1") -> Json:
    spec: Json = {"containers": [{"name": "c", "image": image}], "terminationGracePeriodSeconds": 1}
    return {"metadata": {"labels": {"app": "w"}}, "spec": spec}


def body(api_version: str, kind: str, **spec: object) -> Json:
    written: Json = {"selector": {"matchLabels": {"app": "w"}}, "template": template(), **spec}  # type: ignore[dict-item]  # what a test writes
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": "w"}, "spec": written}


def test_a_daemonset_runs_on_every_node_and_rolls_over_to_a_new_image(netns: NetNs) -> None:
    async def story(cluster: Cluster) -> None:
        async def rolled_out() -> bool:
            found = await cluster.client.get(DAEMONSETS, "default", "w", DaemonSet)
            status = found.status
            counts = (status.updated_number_scheduled, status.number_available)
            return counts == (3, 3) and status.observed_generation == found.metadata.generation

        async def places() -> list[tuple[str, str]]:
            pods = await cluster.pods()
            return sorted((pod.spec.node_name, pod.spec.containers[0].image) for pod in pods)

        await cluster.client.create(DAEMONSETS, "default", body("apps/v1", "DaemonSet"))
        await cluster.until("a pod a node", rolled_out)
        assert await places() == [(name, "v1") for name in NODE_NAMES]
        change: Json = {"spec": {"template": template("v2")}}
        await cluster.client.patch(DAEMONSETS, "default", "w", change)
        await cluster.until("the new image on all", rolled_out)
        assert await places() == [(name, "v2") for name in NODE_NAMES]

    play(netns, story)
