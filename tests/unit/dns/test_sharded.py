"""The immutable map behaves as a dictionary, and old versions stay as they were."""

from hypothesis import given
from hypothesis import strategies as st

from dns.sharded import ShardedMap

changes = st.dictionaries(st.integers(0, 50), st.none() | st.integers())


@given(st.lists(changes, max_size=6))
def test_each_version_equals_a_dictionary_and_stays_so(steps: list[dict[int, int | None]]) -> None:
    plain: dict[int, int] = {}
    version: ShardedMap[int, int] = ShardedMap()
    versions = [(version, dict(plain))]
    for step in steps:
        for key, value in step.items():
            if value is None:
                plain.pop(key, None)
            else:
                plain[key] = value
        version = version.patched(step)
        versions.append((version, dict(plain)))
    for sharded, then in versions:
        assert {key: sharded.get(key) for key in sharded} == then
        assert len(sharded) == len(then)
        assert all((key in sharded) == (key in then) for key in range(51))


def test_a_change_copies_little() -> None:
    big = ShardedMap({number: number for number in range(100_000)})
    changed = big.patched({5: -5})
    shared = sum(a is b for a, b in zip(big._shards, changed._shards, strict=True))
    assert shared == len(big._shards) - 1
