"""A keeper of flows that is told of all that is served, and works out what changed."""

from collections.abc import Iterable

from proxy.apply_stale import FlowKeeper
from proxy.policy import ServingPort
from proxy.ports import ServicePortName
from proxy.view import PortChange


class Keeping:
    """Remembers what was served at the last call."""

    def __init__(self, keeper: FlowKeeper) -> None:
        self._keeper = keeper
        self._served: dict[ServicePortName, ServingPort] = {}

    def forget(self, serving: Iterable[ServingPort]) -> int:
        """Forget what ``serving`` made stale; return how many kinds of flow."""
        before, self._served = self._served, {each.port.name: each for each in serving}
        names = sorted(before.keys() | self._served.keys(), key=str)
        return self._keeper.forget(PortChange(before.get(name), self._served.get(name)) for name in names)
