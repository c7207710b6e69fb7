"""An agent in a process of its own, for tests that kill it.

``python -m tests.netns.cni.serve DIRECTORY RANGE`` is started inside its node's namespace and says "ready".
"""

import signal
import sys
from ipaddress import ip_network
from pathlib import Path

from cni.agent import AgentConfig, NodeAgent
from cni.plan import PodWiring
from kubenet.kernel.netns import NetNs


def main(directory: Path, pod_cidr: str) -> None:
    config = AgentConfig(
        node_name="node1",
        netns=NetNs.current(),
        socket_path=directory / "run" / "cni.sock",
        state_dir=directory / "state",
        bin_dir=directory / "bin",
        conf_dir=directory / "net.d",
        cluster_cidrs=(),
    )
    agent = NodeAgent(config)
    agent.start()
    agent.attachments.open([ip_network(pod_cidr)], PodWiring(1450))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    signal.pause()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
