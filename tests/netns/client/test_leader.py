"""Leader election over a real server: two processes, and the leader is killed."""

import asyncio
import subprocess
import sys

import pytest

from kubenet.client.kubeconfig import ClusterConfig
from kubenet.client.leader import LeaderElection, LeadershipLost, Terms
from kubenet.client.transport import ApiClient
from kubenet.model.objects import Lease
from kubenet.model.resources import LEASES
from tests.netns.apiserver.server import serving

pytestmark = pytest.mark.netns

QUICK = Terms(duration_s=1.0, renew_deadline_s=0.6, retry_s=0.05)
PROCESS = """
import asyncio, sys
from kubenet.client.kubeconfig import ClusterConfig
from kubenet.client.leader import LeaderElection, Terms
from kubenet.client.transport import ApiClient

async def lead():
    print("leads", flush=True)
    await asyncio.Event().wait()

async def main(url, name):
    async with ApiClient(ClusterConfig(server=url)) as client:
        await LeaderElection(client, ("default", "x"), name, Terms(1.0, 0.6, 0.05)).run(lead)

asyncio.run(main(*sys.argv[1:]))
"""


def test_B8_8_when_the_leader_is_killed_the_other_leads() -> None:
    async def case() -> None:
        async with asyncio.timeout(30), serving() as api:
            first = await _started(api.url, "first")
            try:
                assert first.stdout is not None
                assert await first.stdout.readline() == b"leads\n"
                second = await _started(api.url, "second")
                try:
                    assert second.stdout is not None
                    waiting = asyncio.ensure_future(second.stdout.readline())
                    await asyncio.sleep(1.5)  # longer than the lease lasts: it is being renewed
                    assert not waiting.done()
                    first.kill()
                    assert await waiting == b"leads\n"
                finally:
                    second.kill()
                    await second.wait()
            finally:
                if first.returncode is None:
                    first.kill()
                await first.wait()

    asyncio.run(case())


async def _started(url: str, name: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROCESS, url, name, stdout=subprocess.PIPE
    )


def test_B8_8_a_leader_that_ends_gives_the_lease_back_and_one_that_loses_it_stops() -> None:
    async def case() -> None:
        async with asyncio.timeout(20), serving() as api, ApiClient(ClusterConfig(server=api.url)) as client:

            async def briefly() -> None:
                await asyncio.sleep(0)

            await LeaderElection(client, ("default", "x"), "a", QUICK).run(briefly)
            lease = await client.get(LEASES, "default", "x", Lease)
            assert not lease.spec.holder_identity
            leading, stopped = asyncio.Event(), asyncio.Event()

            async def for_ever() -> None:
                leading.set()
                try:
                    await asyncio.Event().wait()
                finally:
                    stopped.set()

            running = asyncio.ensure_future(
                LeaderElection(client, ("default", "x"), "b", QUICK).run(for_ever)
            )
            await leading.wait()
            path = "/apis/coordination.k8s.io/v1/namespaces/default/leases/x"
            stolen = {"spec": {"holderIdentity": "thief", "leaseDurationSeconds": 60}}
            await api.patch(path, stolen)
            with pytest.raises(LeadershipLost):
                await running
            assert stopped.is_set()
            assert (await api.get(path)).ok["spec"]["holderIdentity"] == "thief"

    asyncio.run(case())
