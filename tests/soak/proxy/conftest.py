"""The same world as the shorter tests have."""

from tests.netns.proxy.conftest import _own_lock, world

__all__ = ["_own_lock", "world"]
