"""The control loops together, on the real API server: from a Deployment to addresses behind a Service."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from kubenet.client.informer import Informer
from kubenet.kernel.netns import NetNs
from kubenet.model.objects import Deployment, Endpoints, EndpointSlice, Json, Node, Pod, ReplicaSet
from kubenet.model.resources import (
    DEPLOYMENTS,
    ENDPOINTS,
    ENDPOINTSLICES,
    NODES,
    PODS,
    REPLICASETS,
    SERVICES,
)
from tests.netns.client.scripted import drop_netns, fresh_netns
from tests.netns.manager.cluster import SERVICE, Cluster, Skippable, running, web

pytestmark = pytest.mark.netns

NODE_NAMES = ("n1", "n2", "n3")


@pytest.fixture
def netns(tmp_path: Path) -> Iterator[NetNs]:
    path = tmp_path / "netns"
    made = fresh_netns(path)
    yield made
    drop_netns(made, path)


def play(netns: NetNs, story: Callable[[Cluster], Awaitable[None]], *nodes: str) -> None:
    async def whole() -> None:
        async with running(netns, *nodes) as cluster:
            await story(cluster)

    asyncio.run(whole())


async def deploy(cluster: Cluster, replicas: int, body: Json | None = None) -> None:
    await cluster.client.create(DEPLOYMENTS, "default", body or web(replicas))
    await cluster.until(f"{replicas} available", lambda: cluster.available(replicas))


def test_a_deployment_becomes_pods_on_all_nodes_and_addresses_behind_its_service(netns: NetNs) -> None:
    async def story(cluster: Cluster) -> None:
        await cluster.client.create(SERVICES, "default", SERVICE)
        await deploy(cluster, 6)
        pods = await cluster.pods()
        assert sorted(pod.spec.node_name for pod in pods) == ["n1", "n1", "n2", "n2", "n3", "n3"]
        addresses = sorted(pod.status.pod_ip for pod in pods)
        await cluster.until("all addresses", lambda: _equal(cluster.ready_addresses(), addresses))
        endpoints = await cluster.client.get(ENDPOINTS, "default", "web", Endpoints)
        (subset,) = endpoints.subsets or ()
        assert sorted(each.ip for each in subset.addresses) == addresses
        assert [(port.name, port.port) for port in subset.ports] == [("http", 8080)]

    play(netns, story, *NODE_NAMES)


async def _equal(found: Awaitable[object], expected: object) -> bool:
    return await found == expected


def test_every_node_gets_a_range_of_its_own(netns: NetNs) -> None:
    async def story(cluster: Cluster) -> None:
        async def all_given() -> bool:
            nodes = await cluster.all(NODES, Node)
            return len(nodes) == 3 and all(node.spec.pod_cidrs for node in nodes)

        await cluster.until("ranges", all_given)
        nodes = await cluster.all(NODES, Node)
        assert sorted(node.spec.pod_cidr for node in nodes) == [
            "10.244.0.0/24",
            "10.244.1.0/24",
            "10.244.2.0/24",
        ]
        assert all(node.spec.pod_cidrs == (node.spec.pod_cidr,) for node in nodes)

    play(netns, story, *NODE_NAMES)


def test_a_deleted_pod_is_replaced_and_leaves_its_service(netns: NetNs) -> None:
    async def story(cluster: Cluster) -> None:
        await cluster.client.create(SERVICES, "default", SERVICE)
        await deploy(cluster, 3)
        await cluster.until("three addresses", lambda: _count(cluster, 3))
        victim = (await cluster.pods())[0]
        await cluster.client.delete(PODS, "default", victim.metadata.name)

        async def replaced() -> bool:
            addresses = await cluster.ready_addresses()
            return len(addresses) == 3 and victim.status.pod_ip not in addresses

        await cluster.until("a replacement behind the Service", replaced)
        assert len(await cluster.pods()) == 3

    play(netns, story, *NODE_NAMES)


async def _count(cluster: Cluster, count: int) -> bool:
    return len(await cluster.ready_addresses()) == count


def test_E15_a_rolling_update_keeps_its_limits_on_the_event_log(netns: NetNs) -> None:
    async def story(cluster: Cluster) -> None:
        await deploy(cluster, 4, web(4, rolling=True))  # one more at most, none less
        seen: list[tuple[int, int]] = []
        pods = Informer(cluster.client, PODS, Pod)
        watch = asyncio.create_task(pods.run())
        await pods.wait_synced()

        def record(_: object) -> None:
            live = [p for p in pods.cache.objects().values() if not p.metadata.deletion_timestamp]
            seen.append((len(live), sum(pod.ready for pod in live)))

        pods.on_change(record)
        template: Json = {"spec": {"containers": [{"name": "c", "image": "v2"}]}}
        await cluster.client.patch(DEPLOYMENTS, "default", "web", {"spec": {"template": template}})
        await cluster.until("updated", lambda: cluster.available(4))
        watch.cancel()
        assert len(seen) >= 12, "four pods were made, became ready, and four went"
        assert max(live for live, _ in seen) == 5
        assert min(ready for _, ready in seen) == 4
        assert {p.spec.containers[0].image for p in await cluster.pods()} == {"v2"}
        found = await cluster.client.get(DEPLOYMENTS, "default", "web", Deployment)
        assert found.metadata.annotations["deployment.kubernetes.io/revision"] == "2"
        sets = await cluster.all(REPLICASETS, ReplicaSet)
        assert sorted(each.spec.replicas for each in sets) == [0, 4]

    play(netns, story, *NODE_NAMES)


def test_scaling_makes_and_takes_exactly_the_difference(netns: NetNs) -> None:
    async def story(cluster: Cluster) -> None:
        await deploy(cluster, 2)
        for replicas in (20, 5, 0):
            await cluster.client.patch(DEPLOYMENTS, "default", "web", {"spec": {"replicas": replicas}})
            await cluster.until(f"{replicas}", lambda want=replicas: cluster.available(want))  # type: ignore[misc]
        made = sum(word == "bound" for word, _ in cluster.history)
        assert made == 20, "no pod was made twice"

    play(netns, story, *NODE_NAMES)


def test_a_deleted_service_takes_its_endpoints_along(netns: NetNs) -> None:
    async def story(cluster: Cluster) -> None:
        await cluster.client.create(SERVICES, "default", SERVICE)
        await deploy(cluster, 1)
        await cluster.until("an address", lambda: _count(cluster, 1))
        await cluster.client.delete(SERVICES, "default", "web")

        async def gone() -> bool:
            slices = await cluster.client.list(ENDPOINTSLICES, "default", EndpointSlice)
            objects = await cluster.client.list(ENDPOINTS, "default", Endpoints)
            return not [each for each in (*slices, *objects) if each.metadata.name.startswith("web")]

        await cluster.until("nothing of the Service left", gone)

    play(netns, story, "n1")


def test_a_pod_that_fits_nowhere_says_why_and_goes_when_it_can(netns: NetNs) -> None:
    async def story(cluster: Cluster) -> None:
        greedy = web(1)
        container: Json = {"name": "c", "image": "v1", "resources": {"requests": {"cpu": "100"}}}
        change: Json = {"spec": {"template": {"spec": {"containers": [container]}}}}
        spec = greedy["spec"]
        assert isinstance(spec, dict)
        template = spec["template"]
        assert isinstance(template, dict)
        template["spec"] = {"containers": [container]}
        await cluster.client.create(DEPLOYMENTS, "default", greedy)

        async def told() -> bool:
            return [_unscheduled(pod) for pod in await cluster.pods()] == [
                "0/1 nodes are available: 1 Insufficient cpu."
            ]

        await cluster.until("a reason", told)
        container["resources"] = {"requests": {"cpu": "1"}}
        await cluster.client.patch(DEPLOYMENTS, "default", "web", change)
        await cluster.until("a place", lambda: cluster.available(1))

    play(netns, story, "n1")


def _unscheduled(pod: Pod) -> str:
    found = [c.message for c in pod.status.conditions if c.type == "PodScheduled" and c.status == "False"]
    return found[0] if found else ""


def test_a_node_that_falls_silent_loses_its_pods_to_others(netns: NetNs) -> None:
    async def whole() -> None:
        clock = Skippable()
        async with running(netns, "n1", clock=clock) as cluster:
            await cluster.client.create(SERVICES, "default", SERVICE)
            await deploy(cluster, 2)
            await cluster.until("two addresses", lambda: _count(cluster, 2))
            cluster.silent.add("n1")
            clock.skipped_s = 41.0
            # The controllers wake up by changes, since their timers still go by the machine's clock.
            await cluster.client.patch(NODES, "", "n1", {"metadata": {"labels": {"wake": "up"}}})
            await cluster.until("no address of a lost node", lambda: _count(cluster, 0))
            node = await cluster.client.get(NODES, "", "n1", Node)
            assert {c.type: c.status for c in node.status.conditions}["Ready"] == "Unknown"
            await cluster.until("tainted", lambda: _tainted(cluster))
            clock.skipped_s += 301.0
            await cluster.client.patch(NODES, "", "n1", {"metadata": {"labels": {"wake": "again"}}})

            async def replaced() -> bool:
                pods = await cluster.pods()
                return len(pods) == 2 and not any(pod.spec.node_name for pod in pods)

            await cluster.until("evicted; the replacements wait for a node", replaced)

    asyncio.run(whole())


async def _tainted(cluster: Cluster) -> bool:
    node = await cluster.client.get(NODES, "", "n1", Node)
    return [(taint.key, taint.effect) for taint in node.spec.taints] == [
        ("node.kubernetes.io/unreachable", "NoSchedule"),
        ("node.kubernetes.io/unreachable", "NoExecute"),
    ]
