"""Laws of the cache: the past is the present undone, and a filtered watch rebuilds a filtered list."""

from hypothesis import given
from hypothesis import strategies as st

from kubenet.apiserver import codec
from kubenet.apiserver.entries import CacheLimits, Change, Entry, Shelf
from kubenet.apiserver.kinds import BY_PLURAL
from kubenet.apiserver.query import Continue, ListQuery, Selection, parse_continue, selection_of
from kubenet.apiserver.reads import list_body
from kubenet.apiserver.view import Plain
from kubenet.apiserver.watch import edge
from kubenet.model.objects import Json

KIND = BY_PLURAL["configmaps"]
SPACES, NAMES, COLORS = ("a", "a-b", "b"), ("x", "y"), ("", "red", "blue")
HISTORY = st.lists(
    st.tuples(st.sampled_from(SPACES), st.sampled_from(NAMES), st.sampled_from((*COLORS, "gone"))),
    max_size=30,
)
State = dict[str, Entry]


def entry(space: str, name: str, color: str, revision: int) -> Entry:
    labels: Json = {"color": color} if color else {}
    value: Json = {
        "metadata": {"name": name, "namespace": space, "labels": labels},
        "data": {"at": str(revision)},
    }
    return Entry(KIND, KIND.key(space, name), codec.stored(KIND.resource, value), revision)


def played(
    history: list[tuple[str, str, str]], limits: CacheLimits
) -> tuple[Shelf, list[State], list[Change]]:
    """Return a shelf after a history, the state at each revision (0 is empty), and the changes."""
    shelf, states, changes = Shelf(KIND, limits), [State()], list[Change]()
    for space, name, color in history:
        before, revision = states[-1].get(KIND.key(space, name)), len(states)
        if color == "gone" and before is None:
            continue
        after = entry(space, name, color if color != "gone" else "", revision)
        change = Change(after, before, deleted=color == "gone")
        shelf.apply(change)
        changes.append(change)
        state = {key: value for key, value in states[-1].items() if key != change.key}
        states.append(state if change.deleted else state | {change.key: after})
    return shelf, states, changes


@given(HISTORY, st.sampled_from(("", "a", "a-b")), st.integers(1, 40))
def test_B4_3_a_scan_of_the_past_is_what_was_then(
    history: list[tuple[str, str, str]], space: str, kept: int
) -> None:
    shelf, states, _ = played(history, CacheLimits(changes_most=kept))
    assert shelf.oldest == max(0, len(states) - 1 - kept)
    prefix = f"{KIND.prefix}{space}/" if space else KIND.prefix
    for revision in range(shelf.oldest, len(states)):
        expected = [value for key, value in sorted(states[revision].items()) if key.startswith(prefix)]
        assert list(shelf.scan(prefix, "", revision)) == expected
        assert shelf.count(prefix, "", revision) == len(expected)
        for start in states[-1]:
            later = [value for value in expected if value.key >= start]
            assert list(shelf.scan(prefix, start, revision)) == later
            assert shelf.count(prefix, start, revision) == len(later)


@given(HISTORY, st.integers(0, 2000))
def test_history_is_bounded_in_bytes(history: list[tuple[str, str, str]], most_bytes: int) -> None:
    shelf, states, changes = played(history, CacheLimits(changes_most_bytes=most_bytes))
    kept = shelf.since(shelf.oldest)
    assert kept == changes[len(changes) - len(kept) :]
    assert sum(len(change.after.body) for change in kept) <= most_bytes
    assert list(shelf.scan(KIND.prefix, "", len(states) - 1)) == [v for _, v in sorted(states[-1].items())]


@given(HISTORY, st.sampled_from(SPACES), st.sampled_from(("color=red", "color!=red", "color", "!color", "")))
def test_B5_3_a_filtered_watch_rebuilds_the_filtered_list(
    history: list[tuple[str, str, str]], space: str, labels: str
) -> None:
    _, states, changes = played(history, CacheLimits())
    selection = selection_of(KIND, space, {"labelSelector": labels})
    for start in range(len(states)):
        seen = selected(states[start], selection)
        for change in changes[start:]:
            kind = edge(change, selection)
            assert (kind in ("MODIFIED", "DELETED")) == (change.key in seen)
            if kind in ("ADDED", "MODIFIED"):
                seen[change.key] = change.after
            elif kind == "DELETED":
                del seen[change.key]
        assert seen == selected(states[-1], selection)


def selected(state: State, selection: Selection) -> State:
    return {key: value for key, value in state.items() if selection.takes(value)}


@given(HISTORY, st.integers(1, 4))
def test_B4_3_pages_put_together_are_the_list(history: list[tuple[str, str, str]], limit: int) -> None:
    shelf, states, _ = played(history, CacheLimits())
    current, found = len(states) - 1, list[bytes]()
    token: Continue | None = None
    while True:
        query = ListQuery(Selection(KIND.prefix), limit=limit, token=token)
        body = codec.decoded_table(list_body(shelf, query, current, Plain()))
        items, metadata = body["items"], body["metadata"]
        assert isinstance(items, list)
        assert isinstance(metadata, dict)
        found += [codec.encoded(item) for item in items]
        if "continue" not in metadata:
            break
        assert len(items) == limit
        token = parse_continue(str(metadata["continue"]))
    whole = [codec.list_item(KIND.resource, states[-1][key].body) for key in sorted(states[-1])]
    assert found == whole
