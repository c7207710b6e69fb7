"""The objects of a cluster, and which of them are to be looked at again."""

from kubenet.model.objects import EndpointSlice, Service
from proxy.track import ServiceObjects


class Cluster:
    """The objects there are, and who is to be looked at again."""

    def __init__(self) -> None:
        self.services: dict[str, Service] = {}
        self.slices: dict[str, EndpointSlice] = {}
        self.touched: set[str] = set()

    def put(self, thing: Service | EndpointSlice) -> None:
        self.drop(thing)
        if isinstance(thing, Service):
            self.services[thing.metadata.key] = thing
            self.touched.add(thing.metadata.key)
        else:
            self.slices[thing.metadata.key] = thing
            self.touched.add(thing.service_key)

    def drop(self, thing: Service | EndpointSlice) -> None:
        if isinstance(thing, Service):
            self.services.pop(thing.metadata.key, None)
            self.touched.add(thing.metadata.key)
        elif old := self.slices.pop(thing.metadata.key, None):
            self.touched.add(old.service_key)

    def look(self) -> list[ServiceObjects]:
        keys, self.touched = self.touched, set()
        return [
            ServiceObjects(
                key,
                self.services.get(key),
                [each for each in self.slices.values() if each.service_key == key],
            )
            for key in keys
        ]
