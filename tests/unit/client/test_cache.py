"""What a cache reports when it changes (B8.3), and its indexes."""

from hypothesis import given
from hypothesis import strategies as st

from kubenet.client.cache import Cache, Change
from kubenet.model.objects import KubeObject, ObjectMeta


def thing(name: str, version: str = "1", uid: str = "u", **labels: str) -> KubeObject:
    return KubeObject(metadata=ObjectMeta(name=name, uid=uid, resource_version=version, labels=labels))


def test_B8_3_a_relist_of_equal_versions_reports_nothing() -> None:
    cache: Cache[KubeObject] = Cache()
    cache.replace([thing("a"), thing("b")])
    assert cache.replace([thing("b"), thing("a")]) == []


def test_B8_3_a_relist_reports_what_vanished_with_its_last_known_state() -> None:
    cache: Cache[KubeObject] = Cache()
    cache.replace([thing("a"), thing("b", "5")])
    assert cache.replace([thing("a")]) == [Change("b", thing("b", "5"), None, final_state_unknown=True)]


def test_B8_3_a_relist_reports_new_and_changed_objects() -> None:
    cache: Cache[KubeObject] = Cache()
    cache.replace([thing("a")])
    changes = cache.replace([thing("a", "2"), thing("b")])
    assert changes == [Change("a", thing("a"), thing("a", "2")), Change("b", None, thing("b"))]


def test_an_equal_version_with_another_uid_is_another_object() -> None:
    cache: Cache[KubeObject] = Cache()
    cache.replace([thing("a", uid="old server")])
    assert len(cache.replace([thing("a", uid="new server")])) == 1


def test_a_watch_event_carries_the_state_before_and_after() -> None:
    cache: Cache[KubeObject] = Cache()
    assert cache.put(thing("a")) == Change("a", None, thing("a"))
    assert cache.put(thing("a", "2")) == Change("a", thing("a"), thing("a", "2"))
    assert cache.remove(thing("a", "3")) == Change("a", thing("a", "3"), None)
    assert cache.remove(thing("a", "3")) is None


def test_synced_only_after_a_whole_list() -> None:
    cache: Cache[KubeObject] = Cache()
    cache.put(thing("a"))
    assert not cache.synced
    cache.replace([])
    assert cache.synced


def test_a_snapshot_does_not_move() -> None:
    cache: Cache[KubeObject] = Cache()
    cache.put(thing("a"))
    snapshot = cache.objects()
    cache.put(thing("b"))
    assert list(snapshot) == ["a"]
    assert list(cache.objects()) == ["a", "b"]


versions = st.integers(1, 3).map(str)
things = st.builds(
    lambda name, version, team: thing(name, version, team=team),
    st.sampled_from("abcd"),
    versions,
    st.sampled_from(["red", "blue"]),
)


@given(st.lists(st.one_of(things, st.lists(things, unique_by=lambda each: each.metadata.name))))
def test_an_index_holds_what_a_scan_would_find(steps: list[KubeObject | list[KubeObject]]) -> None:
    cache: Cache[KubeObject] = Cache()
    cache.add_index("team", lambda each: [each.metadata.labels["team"]])
    for step in steps:
        if isinstance(step, list):
            cache.replace(step)
        elif step.metadata.resource_version == "3":
            cache.remove(step)
        else:
            cache.put(step)
        for team in ("red", "blue"):
            scan = {k: o for k, o in cache.objects().items() if o.metadata.labels["team"] == team}
            assert cache.indexed("team", team) == tuple(scan[key] for key in sorted(scan))


def test_an_index_added_late_knows_what_is_there() -> None:
    cache: Cache[KubeObject] = Cache()
    cache.put(thing("a", team="red"))
    cache.add_index("team", lambda each: [each.metadata.labels["team"]])
    assert cache.indexed("team", "red") == (thing("a", team="red"),)
