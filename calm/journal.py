"""What happened on this host: one SQLite file, ``<root>/journal.db``.

Samples are thinned by age, so that a year stays far below 100 MB. A remedy is written down before it is
begun, so that an agent that is killed in the middle has not forgotten it. A file that is no journal any more
is set aside, never overwritten, and said so.
"""

from __future__ import annotations

import json
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

SCHEMA = 1
NAME = "journal.db"
HOUR, DAY = 3600.0, 86_400.0

_TABLES = """
CREATE TABLE samples (at REAL NOT NULL, body BLOB NOT NULL);
CREATE INDEX samples_at ON samples (at);
CREATE TABLE findings (id INTEGER PRIMARY KEY, rule TEXT NOT NULL, target TEXT NOT NULL, mode TEXT NOT NULL,
    since REAL NOT NULL, seen REAL NOT NULL, ended REAL, evidence TEXT NOT NULL);
CREATE INDEX findings_open ON findings (ended, rule, target);
CREATE INDEX findings_seen ON findings (seen);
CREATE TABLE remedies (id INTEGER PRIMARY KEY, at REAL NOT NULL, ended REAL, key TEXT NOT NULL,
    turn TEXT NOT NULL, rule TEXT NOT NULL, target TEXT NOT NULL, action TEXT NOT NULL, reason TEXT NOT NULL,
    result TEXT NOT NULL, took_ms REAL, helped INTEGER, evidence TEXT NOT NULL);
CREATE INDEX remedies_key ON remedies (key, at);
CREATE INDEX remedies_at ON remedies (at);
CREATE TABLE applies (at REAL NOT NULL, who TEXT NOT NULL, body TEXT NOT NULL);
CREATE TABLE bench (at REAL NOT NULL, mode TEXT NOT NULL, body TEXT NOT NULL);
CREATE TABLE runs (at REAL NOT NULL, command TEXT NOT NULL, code INTEGER NOT NULL, took_ms REAL NOT NULL);
CREATE INDEX runs_command ON runs (command, at);
"""

_THINNING = ((DAY, 600.0), (14 * DAY, HOUR))
"""Samples older than the first figure are kept one per slice of the second, both in seconds."""

_KEPT = {
    "samples": ("at", 366 * DAY),
    "findings": ("seen", 366 * DAY),
    "remedies": ("at", 366 * DAY),
    "applies": ("at", 5 * 366 * DAY),
    "bench": ("at", 5 * 366 * DAY),
    "runs": ("at", 32 * DAY),
}
"""How long each table's rows are kept, by which column."""

_BROKEN = ("not a database", "malformed", "encrypted", "no such table", "no such column")
_LEAST_FREE_PAGES = 1024
_PART = 50

T = TypeVar("T")


class JournalError(Exception):
    """The journal cannot be read or written; the text says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One remedy as it is remembered. ``helped`` is ``None`` until it has been verified."""

    id: int
    at: float
    ended: float | None
    key: str
    turn: str
    rule: str
    target: str
    action: str
    reason: str
    result: str
    took_ms: float | None
    helped: bool | None
    evidence: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of a command that a schedule may have started, and its exit code."""

    at: float
    command: str
    code: int


class Journal:
    """The journal of one host, for one thread at a time; several processes may use the file."""

    def __init__(
        self, path: Path, *, notice: Callable[[str], None], now: Callable[[], float] = time.time
    ) -> None:
        """Open ``path``, or make it. ``notice`` is told what a person should know (a file set aside).

        Raises ``JournalError`` if the folder cannot be written or a newer calm wrote the file.
        """
        self.path, self._notice, self._now = path, notice, now
        self._db = self._open()

    def close(self) -> None:
        self._db.close()

    # -- samples -------------------------------------------------------------------------------------------

    def add_sample(self, at: float, text: str) -> None:
        """Keep one snapshot, as ``Snapshot.to_text`` gives it."""
        self._write("INSERT INTO samples VALUES (?, ?)", (at, zlib.compress(text.encode(), 6)))

    def samples(self, *, since: float) -> Iterator[dict[str, Any]]:
        """The kept snapshots from ``since`` on, oldest first."""
        # In parts: two hours of them at once are megabytes that the process would keep.
        last = (since, -1)
        while rows := self._read(
            "SELECT at, rowid, body FROM samples WHERE (at, rowid) > (?, ?) ORDER BY at, rowid LIMIT ?",
            (*last, _PART),
        ):
            for at, row, body in rows:
                last = (at, row)
                yield json.loads(zlib.decompress(body))

    # -- findings ------------------------------------------------------------------------------------------

    def see(self, findings: Sequence[tuple[str, str, str, float, Mapping[str, Any]]], *, at: float,
            ends: Sequence[str] | None = None) -> dict[tuple[str, str], float]:  # fmt: skip
        """Note what was found now: (rule, target, mode, since, evidence) each; what is gone has ended.

        ``ends`` are the rules that were looked at: only their findings can end. None means all. Returns
        since when each (rule, target) has been seen.
        """

        def note(db: sqlite3.Connection) -> dict[tuple[str, str], float]:
            known = {
                (rule, target): (row, since)
                for row, rule, target, since in db.execute(
                    "SELECT id, rule, target, since FROM findings WHERE ended IS NULL"
                )
            }
            began: dict[tuple[str, str], float] = {}
            for rule, target, mode, since, evidence in findings:
                body = json.dumps(evidence)
                row, began[rule, target] = known.pop((rule, target), (None, since))
                if row is None:
                    db.execute(
                        "INSERT INTO findings (rule, target, mode, since, seen, evidence)"
                        " VALUES (?, ?, ?, ?, ?, ?)",
                        (rule, target, mode, since, at, body),
                    )
                else:
                    db.execute(
                        "UPDATE findings SET seen = ?, mode = ?, evidence = ? WHERE id = ?",
                        (at, mode, body, row),
                    )
            gone = [(at, row) for (rule, _), (row, _) in known.items() if ends is None or rule in ends]
            db.executemany("UPDATE findings SET ended = ? WHERE id = ?", gone)
            return began

        return self._transact(note)

    def findings(self, *, since: float) -> list[dict[str, Any]]:
        """Findings seen since then, oldest first; ``ended`` is null for what is still there."""
        names = ("rule", "target", "mode", "since", "seen", "ended", "evidence")
        rows = self._read(f"SELECT {', '.join(names)} FROM findings WHERE seen >= ? ORDER BY since", (since,))
        return [dict(zip(names, (*row[:-1], json.loads(row[-1])), strict=True)) for row in rows]

    # -- remedies ------------------------------------------------------------------------------------------

    def begin(self, *, key: str, turn: str, rule: str, target: str, action: str, reason: str,
              evidence: Mapping[str, Any], result: str = "begun") -> int:  # fmt: skip
        """Write down a remedy before it is begun, and return its number for :meth:`finish`."""
        values = (self._now(), key, turn, rule, target, action, reason, result, json.dumps(evidence))
        return self._transact(
            lambda db: int(
                db.execute(
                    "INSERT INTO remedies (at, key, turn, rule, target, action, reason, result, evidence)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    values,
                ).lastrowid
                or 0
            )
        )

    def finish(self, row: int, *, result: str, reason: str, took_ms: float) -> None:
        self._write(
            "UPDATE remedies SET ended = ?, result = ?, reason = ?, took_ms = ? WHERE id = ?",
            (self._now(), result, reason, took_ms, row),
        )

    def verify(self, row: int, *, helped: bool) -> None:
        """Note whether a remedy helped. What was done stays as :meth:`finish` wrote it."""
        self._write("UPDATE remedies SET helped = ? WHERE id = ?", (int(helped), row))

    def remedies(self, *, since: float = 0.0, key: str | None = None, after: int = 0) -> list[Entry]:
        """What was done since then (seconds since the epoch), oldest first."""
        rows = self._read(
            "SELECT id, at, ended, key, turn, rule, target, action, reason, result, took_ms, helped, evidence"
            " FROM remedies WHERE at >= ? AND id > ? AND (? IS NULL OR key = ?) ORDER BY id",
            (since, after, key, key),
        )
        return [_entry(row) for row in rows]

    def last_marks(self) -> dict[str, Entry]:
        """By key: the newest ``quarantine`` or ``release``, which says whether it is quarantined."""
        rows = self._read(
            "SELECT id, at, ended, key, turn, rule, target, action, reason, result, took_ms, helped, evidence"
            " FROM remedies WHERE id IN (SELECT max(id) FROM remedies"
            " WHERE action IN ('quarantine', 'release') GROUP BY key)",
        )
        return {entry.key: entry for entry in map(_entry, rows)}

    # -- applies, benchmarks, runs -------------------------------------------------------------------------

    def add_apply(self, who: str, document: Mapping[str, Any]) -> None:
        """Keep what one ``apply`` did, as ``apply --json`` has this host."""
        self._write("INSERT INTO applies VALUES (?, ?, ?)", (self._now(), who, json.dumps(document)))

    def applies(self, *, since: float) -> list[dict[str, Any]]:
        rows = self._read("SELECT at, who, body FROM applies WHERE at >= ? ORDER BY at", (since,))
        return [{"at": at, "who": who, "apply": json.loads(body)} for at, who, body in rows]

    def add_bench(self, mode: str, document: Mapping[str, Any]) -> None:
        """Keep one benchmark's document."""
        self._write("INSERT INTO bench VALUES (?, ?, ?)", (self._now(), mode, json.dumps(document)))

    def benches(self, *, since: float) -> list[dict[str, Any]]:
        rows = self._read("SELECT at, mode, body FROM bench WHERE at >= ? ORDER BY at", (since,))
        return [{"at": at, "mode": mode, "bench": json.loads(body)} for at, mode, body in rows]

    def ran(self, command: str, code: int, took_ms: float) -> None:
        """Note that a command that schedules start has run: ``heal --only docker``, with its exit code."""
        self._write("INSERT INTO runs VALUES (?, ?, ?, ?)", (self._now(), command, code, took_ms))

    def last_runs(self) -> list[Run]:
        """The newest run of each command."""
        rows = self._read("SELECT max(at), command, code FROM runs GROUP BY command")
        return [Run(at=at, command=command, code=code) for at, command, code in rows]

    # -- upkeep --------------------------------------------------------------------------------------------

    def prune(self) -> None:
        """Thin the samples, forget what is past its age, and give the space back to the disk."""
        now = self._now()

        def tidy(db: sqlite3.Connection) -> None:
            for table, (column, age) in _KEPT.items():
                db.execute(f"DELETE FROM {table} WHERE {column} < ?", (now - age,))
            for age, width in _THINNING:
                db.execute(
                    "DELETE FROM samples WHERE at < ?1 AND rowid NOT IN"
                    " (SELECT min(rowid) FROM samples WHERE at < ?1 GROUP BY CAST(at / ?2 AS INTEGER))",
                    (now - age, width),
                )

        self._transact(tidy)
        (free,) = next(iter(self._read("PRAGMA freelist_count")))
        if free > _LEAST_FREE_PAGES:
            # Each step frees one page, and execute() takes only the first step of what returns no columns.
            self._guarded(lambda db: db.executescript("PRAGMA incremental_vacuum"))

    def size_bytes(self) -> int:
        """What the journal takes on the disk, its write-ahead log included."""
        return sum(part.stat().st_size for part in _parts(self.path) if part.exists())

    # -- inside --------------------------------------------------------------------------------------------

    def _open(self) -> sqlite3.Connection:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            return self._connect()
        except sqlite3.DatabaseError as error:
            if not _is_broken(error):
                raise self._said(error) from error
            self._set_aside(error)
            return self._connect()
        except OSError as error:
            raise self._said(error) from error

    def _connect(self) -> sqlite3.Connection:
        # Opened by one thread and used by another is fine, as long as it is one at a time.
        db = sqlite3.connect(self.path, timeout=5.0, isolation_level=None, check_same_thread=False)
        try:
            _prepare(db)
        except BaseException:
            db.close()
            raise
        return db

    def _set_aside(self, error: Exception) -> None:
        stamp = time.strftime("%Y%m%d_%H%M%S", time.gmtime(self._now()))
        aside = _free_name(self.path.with_name(f"{self.path.name}.broken-{stamp}"))
        try:
            for part, name in zip(_parts(self.path), _parts(aside), strict=True):
                if part.exists():
                    part.rename(name)
        except OSError as trouble:
            raise JournalError(
                f"{self.path} is damaged ({error}) and could not be set aside: {trouble.strerror}."
                " Stop what uses it and move it away."
            ) from trouble
        self._notice(
            f"the journal {self.path} was damaged ({error}). It was set aside as {aside.name} and a new one"
            " begun: earlier samples, findings and budgets are in the old file."
        )

    def _read(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self._guarded(lambda db: db.execute(query, values).fetchall())

    def _write(self, query: str, values: Sequence[Any]) -> None:
        self._transact(lambda db: db.execute(query, values))

    def _transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        def inside(db: sqlite3.Connection) -> T:
            with _transaction(db):
                return work(db)

        return self._guarded(inside)

    def _guarded(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``work``; if the file turns out to be damaged, set it aside and run it on a new one."""
        try:
            return work(self._db)
        except sqlite3.DatabaseError as error:
            if not _is_broken(error):
                raise self._said(error) from error
            self._db.close()
            self._set_aside(error)
            self._db = self._open()
        return work(self._db)

    def _said(self, error: Exception) -> JournalError:
        return JournalError(f"the journal {self.path} cannot be used: {error}")


def _prepare(db: sqlite3.Connection) -> None:
    # Full: what was said to be written is still there after a power cut. It costs one sync per write.
    db.execute("PRAGMA auto_vacuum = INCREMENTAL")
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA journal_size_limit = 4194304")
    with _transaction(db):
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA:
            raise JournalError(
                f"the journal was written by a newer calm (schema {version}, this one knows {SCHEMA})."
                " Install the newer agent again: calm apply --only agent"
            )
        if version == 0:
            for statement in _TABLES.split(";")[:-1]:
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {SCHEMA}")


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        # On some errors (disk full) SQLite has rolled back by itself; to do it again would hide the first.
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _is_broken(error: Exception) -> bool:
    return any(words in str(error) for words in _BROKEN)


def _parts(path: Path) -> tuple[Path, Path, Path]:
    return path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")


def _free_name(path: Path) -> Path:
    taken = path
    for number in range(1, 1000):
        if not taken.exists():
            break
        taken = path.with_name(f"{path.name}.{number}")
    return taken


def _entry(row: tuple[Any, ...]) -> Entry:
    number, at, ended, key, turn, rule, target, action, reason, result, took_ms, helped, evidence = row
    return Entry(
        id=number, at=at, ended=ended, key=key, turn=turn, rule=rule, target=target, action=action,
        reason=reason, result=result, took_ms=took_ms, helped=None if helped is None else bool(helped),
        evidence=json.loads(evidence),
    )  # fmt: skip
