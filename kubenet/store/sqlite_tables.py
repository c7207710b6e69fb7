"""The tables of the SQLite store, as functions on a connection: what is written, compacted and read.

The schema holds each value once. ``log`` has a row per revision; ``current`` maps each live key to its newest
row. A row leaves ``log`` when a later, compacted row has replaced it, so the newest state of a key stays for
as long as the key does, and every change in the log can tell what it replaced.

Source: sqlite.org, "Write-Ahead Logging", "PRAGMA synchronous".
"""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from kubenet.errors import KubenetError
from kubenet.store.base import Batch, Event, Gone, Page, Record, Write, check, prefix_end

SCHEMA_VERSION = 1
SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE current (key TEXT PRIMARY KEY, revision INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE log (
    revision INTEGER PRIMARY KEY, key TEXT NOT NULL, replaced INTEGER NOT NULL, value BLOB
);
INSERT INTO meta VALUES ('schema', 1), ('compacted', 0);
"""
COMPACT_SLICE = 500  # log rows examined between two commits
REPLAY_PAGE = 500
BUSY_TIMEOUT_MS = 30_000
WAL_MOST_BYTES = 4 << 20

Outcome = int | KubenetError
"""What becomes of one write: its revision, or why it was refused."""


@contextmanager
def transaction(db: sqlite3.Connection, kind: str = "IMMEDIATE") -> Iterator[None]:
    """Do what is inside as one transaction, or not at all."""
    db.execute(f"BEGIN {kind}")
    try:
        yield
        db.execute("COMMIT")
    finally:
        if db.in_transaction:
            db.execute("ROLLBACK")


def connected(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    connection.execute("PRAGMA synchronous=FULL")
    return connection


class WritingSide:
    """The writing side: one connection, used by one thread."""

    def __init__(self, path: Path) -> None:
        self._db = connected(path)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute(f"PRAGMA journal_size_limit={WAL_MOST_BYTES}")
        if not self._db.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone():
            self._db.executescript(f"BEGIN IMMEDIATE; {SCHEMA} COMMIT;")
        version = _number(self._db, "schema")
        if version != SCHEMA_VERSION:
            raise sqlite3.DatabaseError(f"schema version {version}, expected {SCHEMA_VERSION}")
        self.revision = _newest(self._db)

    def commit(self, writes: Iterable[Write], events: list[Event]) -> list[Outcome]:
        """Carry out what can be in one durable transaction, and add what happened to ``events``.

        Raises sqlite3.Error: nothing is kept.
        """
        before = self.revision
        try:
            with transaction(self._db):
                return [self._outcome(write, events) for write in writes]
        except sqlite3.Error:
            self.revision = before
            events.clear()
            raise

    def _outcome(self, write: Write, events: list[Event]) -> Outcome:
        found = self._db.execute("SELECT revision FROM current WHERE key = ?", (write.key,)).fetchone()
        replaced = int(found[0]) if found else 0
        try:
            check(write, replaced)
        except KubenetError as refusal:
            return refusal
        events.append(self._write(write, replaced))
        return self.revision

    def _write(self, write: Write, replaced: int) -> Event:
        before = _record(self._db, write.key, replaced) if replaced else None
        self.revision += 1
        self._db.execute(
            "INSERT INTO log VALUES (?, ?, ?, ?)", (self.revision, write.key, replaced, write.value)
        )
        if write.value is None:
            self._db.execute("DELETE FROM current WHERE key = ?", (write.key,))
        else:
            self._db.execute(
                "INSERT INTO current VALUES (?, ?)"
                " ON CONFLICT (key) DO UPDATE SET revision = excluded.revision",
                (write.key, self.revision),
            )
        return Event(self.revision, write.key, write.value, before)

    def compact_slice(self, revision: int) -> bool:
        """Forget what a few rows of the log, up to ``revision``, replaced; return whether more remains."""
        done = _number(self._db, "compacted")
        rows = self._db.execute(
            "SELECT revision, replaced, value IS NULL FROM log"
            " WHERE revision > ? AND revision <= ? ORDER BY revision LIMIT ?",
            (done, revision, COMPACT_SLICE),
        ).fetchall()
        more = len(rows) == COMPACT_SLICE
        reached = max(done, rows[-1][0] if more else revision)
        gone = [(replaced,) for _, replaced, _ in rows if replaced]
        gone += [(own,) for own, _, deletes in rows if deletes]
        with transaction(self._db):
            self._db.executemany("DELETE FROM log WHERE revision = ?", gone)
            self._db.execute("UPDATE meta SET number = ? WHERE name = 'compacted'", (reached,))
        if not more:
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return more

    def close(self) -> None:
        self._db.close()


def _number(db: sqlite3.Connection, name: str) -> int:
    return int(db.execute("SELECT number FROM meta WHERE name = ?", (name,)).fetchone()[0])


def _newest(db: sqlite3.Connection) -> int:
    newest = db.execute("SELECT max(revision) FROM log").fetchone()[0] or 0
    # The newest row may have been a deletion that is compacted: revisions never go back all the same.
    return max(int(newest), _number(db, "compacted"))


def _record(db: sqlite3.Connection, key: str, revision: int) -> Record:
    value = db.execute("SELECT value FROM log WHERE revision = ?", (revision,)).fetchone()[0]
    return Record(key, bytes(value), revision)


# the reading side: each function is one transaction on the reader's connection


def read_one(db: sqlite3.Connection, key: str) -> Record | None:
    row = db.execute(
        "SELECT log.value, log.revision FROM current JOIN log USING (revision) WHERE current.key = ?", (key,)
    ).fetchone()
    return Record(key, bytes(row[0]), int(row[1])) if row else None


def read_range(db: sqlite3.Connection, span: tuple[str, str], limit: int) -> Page:
    prefix, start = span
    with transaction(db, "DEFERRED"):
        rows = db.execute(
            "SELECT current.key, log.value, log.revision FROM current JOIN log USING (revision)"
            " WHERE current.key >= ? AND current.key < ? ORDER BY current.key LIMIT ?",
            (max(prefix, start), prefix_end(prefix), limit + 1 if limit else -1),
        ).fetchall()
        revision = _newest(db)
    more = bool(limit) and len(rows) > limit
    records = tuple(Record(key, bytes(value), at) for key, value, at in (rows[:limit] if more else rows))
    return Page(records, revision, more)


def read_replay(db: sqlite3.Connection, prefix: str, after: int, head: int) -> Batch:
    with transaction(db, "DEFERRED"):
        compacted = _number(db, "compacted")
        if after < compacted:
            raise Gone(f"revision {after} is compacted, the log begins after {compacted}")
        rows = db.execute(
            "SELECT log.revision, log.key, log.value, log.replaced, old.value"
            " FROM log LEFT JOIN log AS old ON old.revision = log.replaced"
            " WHERE log.revision > ? AND log.revision <= ? AND log.key >= ? AND log.key < ?"
            " ORDER BY log.revision LIMIT ?",
            (after, head, prefix, prefix_end(prefix), REPLAY_PAGE),
        ).fetchall()
    events = tuple(
        Event(
            revision,
            key,
            None if value is None else bytes(value),
            Record(key, bytes(old), replaced) if replaced else None,
        )
        for revision, key, value, replaced, old in rows
    )
    return Batch(events[-1].revision if len(rows) == REPLAY_PAGE else head, events)
