"""All controllers in one task: they share their informers and the memory of their own writes."""

import asyncio

from kubenet.client.transport import ApiClient
from kubenet.client.writer import Writer
from kubenet.clock import Clock, SystemClock
from kubenet.manager.config import ManagerConfig
from kubenet.manager.cronjobs import cronjob_loops
from kubenet.manager.nodes import node_loops
from kubenet.manager.plain import plain_loops
from kubenet.manager.revised import revised_loops
from kubenet.manager.services import service_loops
from kubenet.manager.watched import Objects
from kubenet.manager.workloads import workload_loops


async def run_controllers(
    client: ApiClient, config: ManagerConfig | None = None, clock: Clock | None = None
) -> None:
    """Run every controller until cancelled.

    None acts before all kinds have been seen whole: half a truth would look like many deletions.
    """
    config = config or ManagerConfig()
    writer = Writer(client)
    objects = Objects(client, writer, clock or SystemClock())
    loops = [
        *workload_loops(objects, writer),
        *revised_loops(objects, writer),
        *plain_loops(objects, writer),
        *cronjob_loops(objects, writer),
        *service_loops(objects, writer),
        *node_loops(objects, writer, config),
    ]
    async with asyncio.TaskGroup() as group:
        objects.start(group)
        await objects.wait_synced()
        for loop in loops:
            group.create_task(loop.run(), name=loop.name)
        if config.ready:
            config.ready.set()
