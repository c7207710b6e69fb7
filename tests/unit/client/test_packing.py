"""A cache that packs its objects says the same as one that does not."""

from collections.abc import Sequence

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from kubenet.client.cache import Cache
from kubenet.client.compare import Differences, still
from kubenet.client.packing import Packed, Packing, Whole
from kubenet.model.objects import KubeObject, ObjectMeta


def thing(name: str, version: str = "1", **labels: str) -> KubeObject:
    return KubeObject(metadata=ObjectMeta(name=name, uid="u", resource_version=version, labels=labels))


def without_labels(each: KubeObject) -> KubeObject:
    return KubeObject(metadata=msgspec.structs.replace(each.metadata, labels={}))


def packing() -> Packing[KubeObject]:
    return Packing(KubeObject, lambda each: each)


things = st.builds(
    lambda name, version, team: thing(name, version, team=team),
    st.sampled_from("abcd"),
    st.integers(1, 3).map(str),
    st.sampled_from(["red", "blue"]),
)
lists = st.lists(things, unique_by=lambda each: each.metadata.name)


def follow(cache: Cache[KubeObject], step: KubeObject | Sequence[KubeObject]) -> object:
    if not isinstance(step, KubeObject):
        return cache.replace(cache.shelved(step))
    return cache.remove(step) if step.metadata.resource_version == "3" else cache.put(step)


@given(st.lists(st.one_of(things, lists)))
def test_packing_never_shows(steps: list[KubeObject | list[KubeObject]]) -> None:
    plain: Cache[KubeObject] = Cache()
    packs = Cache(packing())
    for cache in (plain, packs):
        cache.add_index("team", lambda each: [each.metadata.labels["team"]])
    for step in steps:
        assert follow(plain, step) == follow(packs, step)
        assert dict(plain.objects()) == dict(packs.objects())
        assert plain.index_keys("team") == packs.index_keys("team")
        assert plain.indexed("team", "red") == packs.indexed("team", "red")
        assert plain.get("a") == packs.get("a")


def test_the_pages_of_the_first_list_wait_as_small_as_they_will_be_kept() -> None:
    cache = Cache(Packing(KubeObject, without_labels))
    (page,) = cache.shelved([thing("a", team="red")])
    assert isinstance(page, Packed)
    assert isinstance(page.kept, bytes)
    (change,) = cache.replace([page])
    assert change.new == thing("a")


def test_of_a_later_list_what_has_changed_comes_whole() -> None:
    cache = Cache(Packing(KubeObject, without_labels))
    cache.replace(cache.shelved([thing("a", team="red"), thing("b", team="red")]))
    (change,) = cache.replace(cache.shelved([thing("a", "2", team="red"), thing("b", team="red")]))
    assert change.new == thing("a", "2", team="red")
    assert cache.get("a") == thing("a", "2")


def test_what_is_large_stays_one_object() -> None:
    cache = Cache(Packing(KubeObject, without_labels, is_small=lambda each: each.metadata.name == "small"))
    cache.replace([thing("large"), thing("small")])
    assert cache.get("large") is cache.get("large")
    assert cache.get("small") is not cache.get("small")


def test_what_is_gone_from_the_server_is_found_though_it_is_unpacked_anew() -> None:
    cache = Cache(packing())
    cache.replace([thing("a")])
    gone = Differences(gone=(thing("a"),))
    assert still(cache.objects(), gone) == gone
    cache.put(thing("a", "2"))
    assert not still(cache.objects(), gone)


def test_a_trim_alone_packs_nothing() -> None:
    cache = Cache(Whole(without_labels))
    cache.replace(cache.shelved([thing("a", team="red")]))
    assert cache.get("a") == thing("a")
    assert cache.get("a") is cache.get("a")
