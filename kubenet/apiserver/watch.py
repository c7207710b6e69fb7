"""What a watcher sees of a change, and how it is written. *Pure.*

Source: Kubernetes API concepts, "Efficient detection of changes".
"""

from collections.abc import Iterable

from kubenet.apiserver import codec
from kubenet.apiserver.entries import Change, Entry
from kubenet.apiserver.query import Selection
from kubenet.apiserver.status import StatusError
from kubenet.apiserver.strategy import Kind
from kubenet.apiserver.view import Plain, View
from kubenet.model.objects import Json

INITIAL_EVENTS_END = "k8s.io/initial-events-end"


def edge(change: Change, selection: Selection) -> str:
    """Return ADDED, MODIFIED or DELETED as the selection sees it, or an empty string if it sees nothing."""
    was_in = change.before is not None and selection.takes(change.before)
    is_in = not change.deleted and selection.takes(change.after)
    if is_in:
        return "MODIFIED" if was_in else "ADDED"
    return "DELETED" if was_in else ""


def change_line(change: Change, event_type: str, view: View) -> bytes:
    """Return the line of a change; encoded once for all watchers that see it alike."""
    line = change.lines.get((event_type, view.name))
    if line is None:
        line = change.lines[event_type, view.name] = event_line(
            event_type, change.after.kind, _shown(change, event_type), view
        )
    return line


def _shown(change: Change, event_type: str) -> bytes:
    if event_type == "DELETED" and not change.deleted and change.before is not None:
        # It only left the selection: the watcher gets the last state that it knew, at the new revision.
        return codec.restamped(change.after.kind.resource, change.before.body, change.revision)
    return change.after.body


def event_line(event_type: str, kind: Kind, body: bytes, view: View) -> bytes:
    """Return one line of a watch."""
    return b'{"type":"%b","object":%b}\n' % (event_type.encode(), view.one(kind.resource, body).rstrip())


def initial_lines(entries: Iterable[Entry], view: View) -> Iterable[bytes]:
    """Yield the synthetic ADDED lines of objects that exist already."""
    return (event_line("ADDED", entry.kind, entry.body, view) for entry in entries)


def bookmark_line(kind: Kind, revision: int, view: View, initial_events_end: bool = False) -> bytes:
    """Return a line that only says how far the watch has come."""
    metadata: Json = {"resourceVersion": str(revision), "creationTimestamp": None}
    if initial_events_end:
        metadata["annotations"] = {INITIAL_EVENTS_END: "true"}
    value: Json = {
        "kind": kind.resource.kind,
        "apiVersion": kind.resource.api_version,
        "metadata": metadata,
    }
    body = codec.encoded(value)
    if view.name.startswith("table:"):
        body = view.many(kind.resource, metadata, ())
        view = Plain()
    return event_line("BOOKMARK", kind, body, view)


def error_line(error: StatusError) -> bytes:
    """Return the line that ends a watch which cannot go on."""
    return b'{"type":"ERROR","object":%b}\n' % codec.encoded(error.body())
