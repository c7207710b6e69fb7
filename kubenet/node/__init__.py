"""The node agent: runs pods as processes in namespaces, and attaches them by executing CNI plugins."""

from kubenet.node.agent import run_node_agent
from kubenet.node.config import NodeConfig

__all__ = ["NodeConfig", "run_node_agent"]
