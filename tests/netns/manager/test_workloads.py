"""The kinds of workload on the real API server, with nodes that pretend to run pods."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from kubenet.controllers.cronjobs import CRONJOBS
from kubenet.controllers.daemonsets import DAEMONSETS
from kubenet.controllers.jobs import JOBS
from kubenet.controllers.statefulsets import STATEFULSETS
from kubenet.kernel.netns import NetNs
from kubenet.manager.watched import REPLICATION_CONTROLLERS
from kubenet.model.objects import EndpointSlice, Json
from kubenet.model.resources import ENDPOINTSLICES, PODS, SERVICES
from kubenet.model.workloads import CronJob, DaemonSet, Job, ReplicationController, StatefulSet
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


def test_a_statefulset_is_made_in_order_and_gives_its_service_host_names(netns: NetNs) -> None:
    async def story(cluster: Cluster) -> None:
        async def complete() -> bool:
            found = await cluster.client.get(STATEFULSETS, "default", "w", StatefulSet)
            return found.status.available_replicas == 3

        async def published() -> bool:
            slices = await cluster.all(ENDPOINTSLICES, EndpointSlice)
            names = {each.hostname for one in slices for each in one.endpoints or ()}
            return names == {"w-0", "w-1", "w-2"}

        headless: Json = {"clusterIP": "None", "selector": {"app": "w"}, "ports": [{"port": 80}]}
        service: Json = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "peers"}}
        await cluster.client.create(SERVICES, "default", {**service, "spec": headless})
        written = body("apps/v1", "StatefulSet", replicas=3, serviceName="peers")
        await cluster.client.create(STATEFULSETS, "default", written)
        await cluster.until("three pods", complete)
        bound = [key for what, key in cluster.history if what == "bound"]
        assert bound == ["default/w-0", "default/w-1", "default/w-2"]
        await cluster.until("their host names behind the Service", published)

    play(netns, story)


def test_a_replication_controller_replaces_a_pod_that_is_killed(netns: NetNs) -> None:
    async def story(cluster: Cluster) -> None:
        async def complete() -> bool:
            found = await cluster.client.get(REPLICATION_CONTROLLERS, "default", "w", ReplicationController)
            return found.status.available_replicas == 2

        written = body("v1", "ReplicationController", replicas=2, selector={"app": "w"})
        await cluster.client.create(REPLICATION_CONTROLLERS, "default", written)
        await cluster.until("two pods", complete)
        killed = (await cluster.pods())[0].metadata
        await cluster.client.delete(PODS, "default", killed.name, grace_s=0)

        async def replaced() -> bool:
            pods = await cluster.pods()
            return len(pods) == 2 and killed.uid not in {each.metadata.uid for each in pods}

        await cluster.until("another one in its place", replaced)

    play(netns, story)


def test_a_job_is_complete_when_its_pods_have_succeeded(netns: NetNs) -> None:
    async def story(cluster: Cluster) -> None:
        pod_spec: Json = {"containers": [{"name": "c", "image": "v1"}], "restartPolicy": "Never"}
        written: Json = {"completions": 2, "parallelism": 1, "template": {"spec": pod_spec}}
        whole: Json = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "w"}, "spec": written}
        await cluster.client.create(JOBS, "default", whole)

        async def complete() -> bool:
            for pod in await cluster.pods():
                if pod.status.phase == "Running":
                    ended: Json = {"status": {"phase": "Succeeded"}}
                    await cluster.client.patch(
                        PODS, "default", pod.metadata.name, ended, subresource="status"
                    )
            found = await cluster.client.get(JOBS, "default", "w", Job)
            return [each.type for each in found.status.conditions] == ["SuccessCriteriaMet", "Complete"]

        await cluster.until("the job is complete", complete)
        assert [pod.status.phase for pod in await cluster.pods()] == ["Succeeded", "Succeeded"]

    play(netns, story)


def test_a_cronjob_makes_jobs_by_the_clock(netns: NetNs) -> None:
    async def story(cluster: Cluster) -> None:
        pod_spec: Json = {"containers": [{"name": "c", "image": "v1"}], "restartPolicy": "Never"}
        job: Json = {"spec": {"template": {"spec": pod_spec}}}
        spec: Json = {"schedule": "@every 1s", "timeZone": "Europe/Berlin", "jobTemplate": job}
        whole: Json = {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "w"}, "spec": spec}
        await cluster.client.create(CRONJOBS, "default", whole)

        async def runs() -> bool:
            found = await cluster.client.get(CRONJOBS, "default", "w", CronJob)
            return bool(found.status.active) and any(pod.ready for pod in await cluster.pods())

        await cluster.until("a pod of a job of the cronjob", runs)

    play(netns, story)
