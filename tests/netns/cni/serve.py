"""Agents in processes of their own, for tests that kill them.

``python -m tests.netns.cni.serve DIRECTORY FD RANGE...`` is started inside its node's namespace. For each
byte that comes by the socket FD it becomes one more agent, by a fork, so that a test can have a thousand of
them: the agent says "ready" there, after it has handed over the word on its own system calls.
"""

import os
import signal
import socket
import sys
import traceback
from concurrent.futures import FIRST_COMPLETED, wait
from ipaddress import ip_network
from pathlib import Path

from cni.agent import AgentConfig, NodeAgent
from cni.plan import PodWiring
from kubenet.kernel.netns import NetNs
from tests.netns.steps import report_steps


def config_in(directory: Path) -> AgentConfig:
    return AgentConfig(
        node_name="node1",
        netns=NetNs.current(),
        socket_path=directory / "run" / "cni.sock",
        state_dir=directory / "state",
        bin_dir=directory / "bin",
        conf_dir=directory / "net.d",
        cluster_cidrs=(),
    )


def serve(directory: Path, pod_cidrs: list[str], told: socket.socket) -> None:
    """Be an agent until killed."""
    report_steps(told)
    agent = NodeAgent(config_in(directory))
    workers = agent.start()
    agent.attachments.open(map(ip_network, pod_cidrs), PodWiring(1450))
    told.sendmsg([b"ready"])
    ended, _ = wait(workers, return_when=FIRST_COMPLETED)
    ended.pop().result()  # a worker that ends tells of a bug


def main(directory: Path, told: socket.socket, pod_cidrs: list[str]) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that were killed
    while told.recv(1):
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            try:
                serve(directory, pod_cidrs, told)
            finally:  # the server's own loop is not for its children
                traceback.print_exc()
                os._exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]), socket.socket(fileno=int(sys.argv[2])), sys.argv[3:])
