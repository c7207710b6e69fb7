"""A client that is cut, refused and overtaken still ends with the server's truth (B8.2)."""

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from kubenet.client.cache import Cache, Change
from kubenet.client.reflector import (
    Broken,
    Ended,
    Event,
    EventKind,
    Garbage,
    List,
    Page,
    Put,
    Reflector,
    Refused,
    Remove,
    Replace,
)
from kubenet.model.objects import KubeObject, ObjectMeta

State = dict[str, str]  # name -> resourceVersion


@dataclass
class Server:
    """Objects with a history that can be cut off at its old end, as an API server keeps it."""

    version: int = 1
    states: dict[int, State] = field(default_factory=lambda: {1: {}})
    events: list[Event[KubeObject]] = field(default_factory=list)
    oldest: int = 1  # watches from before this are answered 410

    @property
    def state(self) -> State:
        return self.states[self.version]

    def write(self, name: str, delete: bool) -> None:
        if delete and name not in self.state:
            return
        kind = EventKind.DELETED if delete else EventKind.MODIFIED if name in self.state else EventKind.ADDED
        new = {key: value for key, value in self.state.items() if key != name}
        self.version += 1
        version = str(self.version)
        if not delete:
            new[name] = version
        self.states[self.version] = new
        self.events.append(Event(kind, version, thing(name, version)))

    def after(self, version: int) -> list[Event[KubeObject]]:
        return [event for event in self.events if int(event.resource_version) > version]


def thing(name: str, version: str) -> KubeObject:
    return KubeObject(metadata=ObjectMeta(name=name, uid=f"uid-{name}", resource_version=version))


@dataclass
class Client:
    """Reflector, cache, and a listener that rebuilds the map from changes alone."""

    server: Server
    reflector: Reflector[KubeObject] = field(default_factory=Reflector)
    cache: Cache[KubeObject] = field(default_factory=Cache)
    heard: State = field(default_factory=dict)
    sent: int = 0  # up to which version the open watch has sent
    list_at: int = 0  # the version of the list being paged through

    def step(self, page: int, fault: str) -> None:
        """Do one thing: a page, or one event of a watch; or meet a fault instead."""
        if fault and not (fault in ("end", "bookmark") and isinstance(self.reflector.action, List)):
            self._meet(fault)
        elif isinstance(self.reflector.action, List):
            self._list(self.reflector.action, page)
        else:
            self._watch()
        assert not self.cache.synced or self.truth_at(self.cache_version) == versions(self.cache)
        assert self.heard == versions(self.cache)

    @property
    def cache_version(self) -> int:
        return int(self.reflector.resource_version)

    def truth_at(self, version: int) -> State:
        return self.server.states[version]

    def _meet(self, fault: str) -> None:
        match fault:
            case "reset":
                self._receive(Broken())
            case "end":
                self._receive(Ended())
            case "garbage":
                self._receive(Garbage())
            case "bookmark":
                self._receive(Event(EventKind.BOOKMARK, str(max(self.sent, self.cache_version))))
            case code:
                self._receive(Refused(int(code)))

    def _list(self, action: List, page: int) -> None:
        if not action.continue_token:
            self.list_at, start = self.server.version, 0
        else:
            start = int(action.continue_token)
        if self.list_at < self.server.oldest and start:
            self._receive(Refused(410))
            return
        state = self.server.states[self.list_at]
        names = sorted(state)
        end = start + (min(page, action.limit) if action.limit else len(names))
        items = [thing(name, state[name]) for name in names[start:end]]
        self._receive(Page(items, str(self.list_at), str(end) if end < len(names) else ""))

    def _watch(self) -> None:
        if self.cache_version < self.server.oldest:
            self._receive(Refused(410))
            return
        for event in self.server.after(self.cache_version)[:1]:
            self._receive(event)

    def _receive(
        self, what: "Page[KubeObject] | Event[KubeObject] | Refused | Ended | Broken | Garbage"
    ) -> None:
        match self.reflector.receive(what, 0.0, 0.0):
            case Replace(objects):
                changes = self.cache.replace(objects)
            case Put(new):
                changes = [change] if (change := self.cache.put(new)) else []
            case Remove(last):
                changes = [change] if (change := self.cache.remove(last)) else []
            case None:
                changes = []
        for each in changes:
            self._hear(each)

    def _hear(self, change: Change[KubeObject]) -> None:
        before = change.old.metadata.resource_version if change.old else None
        if change.new is None:
            assert change.key in self.heard, "a deletion of what was never announced"
            del self.heard[change.key]
            return
        assert self.heard.get(change.key) == before, "an event was lost between two changes"
        assert before != change.new.metadata.resource_version, "the same version was announced twice"
        self.heard[change.key] = change.new.metadata.resource_version


def versions(cache: Cache[KubeObject]) -> State:
    return {key: each.metadata.resource_version for key, each in cache.objects().items()}


names = st.sampled_from(["a", "b", "c", "d", "e", "f"])
faults = st.sampled_from(["", "", "", "", "reset", "end", "garbage", "bookmark", "410", "429", "500", "401"])
moves = st.one_of(
    st.tuples(st.just("write"), names, st.booleans()),
    st.tuples(st.just("step"), st.integers(1, 3), faults),
    st.tuples(st.just("compact"), st.integers(0, 3), st.none()),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(moves, max_size=80))
def test_B8_2_no_event_is_lost_or_repeated_whatever_happens(
    history: list[tuple[str, object, object]],
) -> None:
    server = Server()
    client = Client(server)
    for move in history:
        match move:
            case ("write", str(name), bool(delete)):
                server.write(name, delete)
            case ("step", int(page), str(fault)):
                client.step(page, fault)
            case ("compact", int(kept), None):
                server.oldest = max(server.oldest, server.version - kept)
    for _ in range(len(history) + 20):  # the faults have ended: it must arrive
        client.step(2, "")
    assert versions(client.cache) == server.state
