"""Our own writes show at once and for exactly as long as the watch lags behind them."""

from kubenet.client.cache import Cache
from kubenet.client.recent import Recent
from kubenet.model.objects import KubeObject, ObjectMeta


def thing(name: str, version: int, *, uid: str = "", team: str = "red", dying: bool = False) -> KubeObject:
    return KubeObject(
        metadata=ObjectMeta(
            name=name,
            uid=uid or f"uid-{name}",
            resource_version=str(version),
            labels={"team": team},
            deletion_timestamp="2026-01-01T00:00:00Z" if dying else None,
        )
    )


class Watched:
    """A cache with the watch's place in history."""

    def __init__(self, *objects: KubeObject, version: int = 10) -> None:
        self.cache: Cache[KubeObject] = Cache()
        self.cache.add_index("team", lambda each: [each.metadata.labels["team"]])
        self.cache.replace(objects)
        self.cache.resource_version = version
        self.recent = Recent(self.cache)

    def sees(self, version: int, *, put: KubeObject | None = None, gone: KubeObject | None = None) -> None:
        self.cache.resource_version = version
        if put:
            self.cache.put(put)
        if gone:
            self.cache.remove(gone)


def test_a_created_object_shows_before_the_watch_brings_it() -> None:
    watched = Watched()
    watched.recent.wrote(thing("a", 12))
    assert watched.recent.get("a") == thing("a", 12)
    assert list(watched.recent.objects()) == ["a"]
    assert watched.recent.indexed("team", "red") == (thing("a", 12),)


def test_a_changed_object_shows_in_the_index_of_its_new_value_only() -> None:
    watched = Watched(thing("a", 5))
    watched.recent.wrote(thing("a", 12, team="blue"))
    assert watched.recent.indexed("team", "red") == ()
    assert watched.recent.indexed("team", "blue") == (thing("a", 12, team="blue"),)


def test_the_watch_wins_as_soon_as_it_has_come_past_the_write() -> None:
    watched = Watched()
    watched.recent.wrote(thing("a", 12))
    watched.sees(11)
    assert watched.recent.get("a") == thing("a", 12)
    watched.sees(13, put=thing("a", 13, team="blue"))
    assert watched.recent.get("a") == thing("a", 13, team="blue")


def test_an_answer_that_comes_after_the_object_has_come_and_gone_is_no_ghost() -> None:
    watched = Watched()
    watched.sees(12, put=thing("a", 12))
    watched.sees(14, gone=thing("a", 14))
    watched.recent.wrote(thing("a", 12))
    assert watched.recent.get("a") is None


def test_an_object_deleted_by_others_after_our_write_vanishes() -> None:
    watched = Watched()
    watched.recent.wrote(thing("a", 12))
    watched.sees(15)  # created at 12 and deleted at 15: the watch showed both, the cache has nothing
    assert watched.recent.get("a") is None


def test_of_two_own_writes_the_later_counts_whichever_answer_comes_first() -> None:
    watched = Watched(thing("a", 5))
    watched.recent.wrote(thing("a", 14, team="blue"))
    watched.recent.wrote(thing("a", 12))
    assert watched.recent.get("a") == thing("a", 14, team="blue")


def test_a_deleted_object_is_shown_as_dying_until_the_watch_says_more() -> None:
    watched = Watched(thing("a", 5))
    watched.recent.deleted("a", "uid-a", "5")
    shown = watched.recent.get("a")
    assert shown is not None
    assert shown.metadata.deletion_timestamp
    watched.sees(12, gone=thing("a", 12))
    assert watched.recent.get("a") is None


def test_an_object_created_and_deleted_before_the_watch_saw_it_is_dying_all_along() -> None:
    watched = Watched()
    watched.recent.wrote(thing("a", 12))
    watched.recent.deleted("a", "uid-a", "12")
    watched.sees(11)
    assert [o.metadata.deletion_timestamp is not None for o in watched.recent.objects().values()] == [True]
    watched.sees(12, put=thing("a", 12))
    assert [o.metadata.deletion_timestamp is not None for o in watched.recent.objects().values()] == [True]
    watched.sees(13, gone=thing("a", 13))
    assert not watched.recent.objects()


def test_a_successor_of_the_same_name_is_not_dying() -> None:
    watched = Watched(thing("a", 5))
    watched.recent.deleted("a", "uid-a", "5")
    watched.sees(14, put=thing("a", 14, uid="another"))
    assert watched.recent.get("a") == thing("a", 14, uid="another")


def test_without_writes_of_ours_it_is_the_cache_itself() -> None:
    watched = Watched(thing("a", 5))
    assert watched.recent.objects() is watched.cache.objects()
