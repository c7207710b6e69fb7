"""The nodes of the netns tests."""

from tests.netns.cni.conftest import make_node, pin, shim_cache, wire

__all__ = ["make_node", "pin", "shim_cache", "wire"]
