"""Lists: which entries, at which revision, in which page. *Pure* (it reads the cache that it is given)."""

from itertools import islice

from kubenet.apiserver.entries import Entry, Shelf
from kubenet.apiserver.query import Continue, ListQuery
from kubenet.apiserver.status import StatusError
from kubenet.apiserver.view import View
from kubenet.model.objects import Json

CONTINUE_TOO_OLD = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list"
    " without the continue parameter, or use the continue token in this response to retrieve the remainder of"
    " the results. Continuing with the provided token results in an inconsistent list - objects that were"
    " created, modified, or deleted between the time the first chunk was returned and now may show up in the"
    " list."
)


def list_body(shelf: Shelf, query: ListQuery, current: int, view: View) -> bytes:
    """Return the body of a list; the cache is at revision ``current``. Raises StatusError (410)."""
    revision = _revision(shelf, query, current)
    start = query.token.start if query.token else ""
    candidates = shelf.scan(query.selection.prefix, start, revision)
    selected = (entry for entry in candidates if query.selection.takes(entry))
    page = list(islice(selected, query.limit)) if query.limit else list(selected)
    metadata: Json = {"resourceVersion": str(revision)}
    following = next(selected, None) if query.limit else None
    if following is not None:
        metadata["continue"] = Continue(revision, following.key).text()
        if not query.selection.partial:
            metadata["remainingItemCount"] = shelf.count(query.selection.prefix, following.key, revision)
    return view.many(shelf.kind.resource, metadata, (entry.body for entry in page))


def _revision(shelf: Shelf, query: ListQuery, current: int) -> int:
    """Return the revision that the list is true at. Raises StatusError (410)."""
    if query.token is not None:
        if query.token.rv < 0:
            return current
        if not shelf.oldest <= query.token.rv <= current:
            raise _continue_expired(query.token)
        return query.token.rv
    if query.exact and query.revision is not None:
        if query.revision < shelf.oldest:
            raise StatusError(
                410, "Expired", f"The resourceVersion for the provided list is too old: {query.revision}"
            )
        return query.revision
    return current


def _continue_expired(token: Continue) -> StatusError:
    error = StatusError(410, "Expired", CONTINUE_TOO_OLD)
    error.list_metadata = {"continue": Continue(-1, token.start).text()}
    return error


def selected_entries(shelf: Shelf, query: ListQuery) -> list[Entry]:
    """Return the present entries of a selection, up to its limit."""
    entries = (entry for key in shelf.keys if query.selection.takes(entry := shelf.entries[key]))
    return list(islice(entries, query.limit or None))
