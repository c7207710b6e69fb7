"""The agent needs no more rights than deploy/agent-rbac.yaml gives, and gets nothing done with less (S11)."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml

from kubenet.apiserver.authenticator import Credentials
from kubenet.apiserver.datadir import DataDir
from kubenet.apiserver.gate import Access
from kubenet.apiserver.http import ApiServer, Listener
from kubenet.apiserver.users import User
from kubenet.client.errors import NotAllowed
from kubenet.client.kubeconfig import ClusterConfig
from kubenet.client.transport import ApiClient
from kubenet.clock import SystemClock
from kubenet.model.objects import Json, Node
from kubenet.model.resources import NODES, PODS, SECRETS, Resource
from kubenet.store.memory import MemoryStore
from tests.netns.cni.conftest import NodeMaker, Pin
from tests.netns.cni.test_agent import node_object, running, until

pytestmark = pytest.mark.netns

RIGHTS = Path(__file__).parents[3] / "deploy" / "agent-rbac.yaml"
AGENT = User("system:serviceaccount:kube-system:kubenet-agent", ("system:serviceaccounts",))
TOKENS = {"of the administrator": User("root", ("system:masters",)), "of the agent": AGENT}


@asynccontextmanager
async def guarded_api(directory: Path) -> AsyncIterator[tuple[ApiClient, ApiClient]]:
    """An API server with access control: a client of the administrator's, and one of the agent's."""
    keys = DataDir(directory, SystemClock())
    keys.prepare()
    server = ApiServer(MemoryStore(), access=Access(credentials=Credentials(tokens=TOKENS)))
    listening = socket.create_server(("127.0.0.1", 0))
    await server.start([Listener(listening, keys.server_tls(()))])
    url = f"https://127.0.0.1:{listening.getsockname()[1]}"
    ca = keys.authority().cert_pem
    administrator, agent = (ClusterConfig(url, token=token, ca_pem=ca) for token in TOKENS)
    try:
        async with ApiClient(administrator) as one, ApiClient(agent) as other:
            yield one, other
    finally:
        await server.stop()


async def grant(administrator: ApiClient) -> None:
    """Apply the manifest."""
    for each in yaml.safe_load_all(RIGHTS.read_text()):
        if each["kind"].startswith("ClusterRole"):
            group, version = each["apiVersion"].split("/")
            kind = each["kind"]
            resource = Resource(group, version, f"{kind.lower()}s", kind, False)
            await administrator.create(resource, "", each)


def test_S11_the_agent_runs_with_the_rights_of_its_manifest_and_no_others(
    make_node: NodeMaker, pin: Pin, tmp_path: Path
) -> None:
    node = make_node()
    path = pin("p")

    async def scene() -> None:
        async with guarded_api(tmp_path / "keys") as (administrator, agent):
            await administrator.create(NODES, "", node_object(node))
            with pytest.raises(NotAllowed):
                await agent.get(NODES, "", "node1", Node)
            await grant(administrator)
            async with running(node, agent) as ready:
                await asyncio.wait_for(ready.wait(), 10)
                await until(lambda: node.runtime.call("STATUS").code == 0)
                assert (await asyncio.to_thread(node.runtime.add, "c", path)).code == 0
                for _ in range(200):
                    told = await administrator.get(NODES, "", "node1", Node)
                    if any(c.type == "NetworkUnavailable" for c in told.status.conditions):
                        break
                    await asyncio.sleep(0.02)
                assert "flannel.alpha.coreos.com/public-ip" in told.metadata.annotations
            spec: Json = {"spec": {"unschedulable": True}}
            for refused in (
                agent.patch(NODES, "", "node1", spec),
                agent.delete(NODES, "", "node1"),
                agent.get(SECRETS, "kube-system", "any", Node),
                agent.get(PODS, "default", "any", Node),
            ):
                with pytest.raises(NotAllowed):
                    await refused

    asyncio.run(scene())
