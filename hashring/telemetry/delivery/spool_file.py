"""SpoolFile: one SQLite file of samples, and the kernel's lock on the lock file beside it.

What must hold of it stands in ``spool``. This module knows routes, cursors and bytes; neither
what a payload is nor when a publisher is called. It does no locking between threads.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sqlite3
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from hashring.telemetry.delivery.columns import SERIES, StoredColumns
from hashring.telemetry.delivery.lock import broken, code_of, lock_path, new_name
from hashring.telemetry.errors import SpoolBroken

__all__ = [
    "Cursor",
    "New",
    "Row",
    "SpoolFile",
    "is_damage",
    "journal_of",
    "route_of",
    "size_of",
]

_APPLICATION_ID = 0x68_72_73_70  # "hrsp" in the file's header tells our files from others
_LAYOUT = 3  # PRAGMA user_version
_SCHEMA = (
    """CREATE TABLE routes (
        route INTEGER NOT NULL, url TEXT NOT NULL,
        cursor INTEGER NOT NULL,  -- the id of the last batch that this publisher has taken whole
        taken INTEGER NOT NULL DEFAULT 0,  -- samples that it has taken of the one after it
        PRIMARY KEY (route, url)
    ) WITHOUT ROWID""",
    # An id is route and number in one, so that a route is a range of the table.
    """CREATE TABLE batches (
        id INTEGER PRIMARY KEY, samples INTEGER NOT NULL DEFAULT 1,
        series INTEGER,  -- its columns, where they are kept apart
        payload BLOB NOT NULL
    )""",
    SERIES,
    f"PRAGMA application_id = {_APPLICATION_ID}",
    f"PRAGMA user_version = {_LAYOUT}",
)
_FROM_LAYOUT = {
    # A row for each sample. They are batches of one sample as they are.
    1: (
        "ALTER TABLE samples RENAME TO batches",
        "ALTER TABLE batches ADD COLUMN samples INTEGER NOT NULL DEFAULT 1",
        "ALTER TABLE batches ADD COLUMN series INTEGER",
        SERIES,
        "ALTER TABLE routes ADD COLUMN taken INTEGER NOT NULL DEFAULT 0",
    ),
    2: (),  # payloads had another checksum, which their marks tell
}
_NUMBER_BITS = 44  # 10,000 samples a second for 55 years; leaves 19 bits for the route
_NUMBERS = (1 << _NUMBER_BITS) - 1

_FREE_PAGES = 1024
"""Free pages, 4 KiB each, that a file may keep for what comes next."""
_JOURNAL_BYTES = 4 * 1024 * 1024
"""The length to which SQLite cuts its write-ahead log after a burst."""

_NOTES = (".waiting", ".drop")
"""Suffixes of what lies beside a spool for people's sake: see `leftovers`."""

_CORRUPT = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class Cursor(NamedTuple):
    """How far a publisher is in a route.

    Attributes:
        id: of the last batch that it has taken whole.
        taken: samples that it has taken of the next one.
    """

    id: int
    taken: int = 0


class New(NamedTuple):
    """A batch that is to be kept.

    Attributes:
        urls: its publishers'.
        payload: the batch.
        samples: how many it has.
        columns: those that are kept apart.
    """

    urls: tuple[str, ...]
    payload: bytes
    samples: int
    columns: bytes | None = None


class Row(NamedTuple):
    """A batch for a publisher.

    Attributes:
        id: its place in the file.
        payload: the batch.
        columns: those that are kept apart.
        start: the first sample that the publisher has not taken.
        stop: the end of those that it is to take now.
    """

    id: int
    payload: bytes
    columns: bytes | None
    start: int
    stop: int


class SpoolFile:
    """One spool: an SQLite file and the lock on it. Its user sees to it that threads take turns."""

    def __init__(self, path: Path, lock: int, connection: sqlite3.Connection) -> None:
        self.path = path
        self.bytes = 0
        self.waiting: Counter[str] = Counter()  # by publisher
        self.is_open = True
        self._lock = lock
        self._connection = connection
        self._columns = StoredColumns(connection)
        self._routes: dict[tuple[str, ...], int] = {}
        self._cursors: dict[int, dict[str, Cursor]] = {}  # by route and publisher
        self._number = 0  # of the batch that was put last
        _live.add(self)

    @classmethod
    def create(cls, folder: Path, owner: str, power_safe: bool) -> SpoolFile:
        """Make a file that no process has had, under its lock."""
        try:
            path, lock = new_name(folder, owner)
        except OSError as error:
            raise broken(folder, error) from None
        try:
            # SQLite gives its log the mode of the file.
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
            connection = _connect(path, power_safe)
        except (OSError, sqlite3.Error) as error:
            _unlink(path)
            os.close(lock)
            raise broken(path, error) from None
        file = cls(path, lock, connection)
        try:
            with file._transaction():
                for statement in _SCHEMA:
                    connection.execute(statement)
        except sqlite3.Error as error:
            file.remove()
            raise broken(path, error) from None
        return file

    @classmethod
    def adopt(cls, path: Path, lock: int, power_safe: bool) -> SpoolFile:
        """Open a file of a process that has died; the lock on it is held, and is the file's now."""
        try:
            connection = _connect(path, power_safe)
        except sqlite3.Error as error:
            try:
                raise (
                    _set_aside(path, str(error)) if is_damage(error) else broken(path, error)
                ) from None
            finally:
                os.close(lock)
        file = cls(path, lock, connection)
        try:
            file._load()
        except sqlite3.Error as error:
            if is_damage(error):
                raise file.set_aside(str(error)) from None
            file.close()
            raise broken(path, error) from None
        return file

    def _load(self) -> None:
        """Read what the process that died had in memory."""
        ask = self._connection.execute
        if not ask("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            return  # it died before it had put anything
        (application,) = ask("PRAGMA application_id").fetchone()
        (layout,) = ask("PRAGMA user_version").fetchone()
        if application != _APPLICATION_ID:
            raise self.set_aside("it is an SQLite file, but not a spool")
        if layout in _FROM_LAYOUT:
            with self._transaction():
                for statement in (*_FROM_LAYOUT[layout], f"PRAGMA user_version = {_LAYOUT}"):
                    ask(statement)
        elif layout != _LAYOUT:
            self.close()
            raise SpoolBroken(
                f"the spool {str(self.path)!r} has layout {layout}, this version knows {_LAYOUT}: "
                "it is left as it is, for an agent of the version that wrote it"
            )
        self.bytes = self._columns.load()
        for route, url, cursor, taken in ask("SELECT route, url, cursor, taken FROM routes"):
            self._cursors.setdefault(route, {})[url] = Cursor(cursor, taken)
        for route, cursors in self._cursors.items():
            self._routes[route_of(tuple(cursors))] = route
            size, last = ask(
                "SELECT total(length(payload)), max(id) FROM batches WHERE id > ? AND id < ?",
                _range(route),
            ).fetchone()
            self.bytes += int(size)
            for url, cursor in cursors.items():
                (count,) = ask(
                    "SELECT total(samples) FROM batches WHERE id > ? AND id < ?",
                    (cursor.id, _range(route)[1]),
                ).fetchone()
                self.waiting[url] += int(count) - cursor.taken
            for known in (*(cursor.id for cursor in cursors.values()), last or 0):
                self._number = max(self._number, known & _NUMBERS)

    def put(self, rows: Sequence[New]) -> None:
        """Keep batches in one transaction."""
        routes = dict(self._routes)
        for row in rows:
            routes.setdefault(row.urls, len(routes) + 1)
        new = {urls: routes[urls] for urls in list(routes)[len(self._routes) :]}
        apart = [row.columns for row in rows if row.columns is not None]
        with self._transaction():
            for urls, route in new.items():
                self._connection.executemany(
                    "INSERT INTO routes (route, url, cursor) VALUES (?, ?, ?)",
                    [(route, url, _range(route)[0]) for url in urls],
                )
            series = self._columns.add(apart)
            self._connection.executemany(
                "INSERT INTO batches (id, payload, samples, series) VALUES (?, ?, ?, ?)",
                [
                    (
                        routes[row.urls] << _NUMBER_BITS | number,
                        row.payload,
                        row.samples,
                        None if row.columns is None else series[row.columns],
                    )
                    for number, row in enumerate(rows, self._number + 1)
                ],
            )
        # Only now: what was not committed must not be counted.
        self._routes = routes
        self._number += len(rows)
        for urls, route in new.items():
            self._cursors[route] = dict.fromkeys(urls, Cursor(_range(route)[0]))
        self.bytes += self._columns.added(series, apart)
        for row in rows:
            self.bytes += len(row.payload)
            for url in row.urls:
                self.waiting[url] += row.samples

    def counts(self, columns: bytes) -> bool:
        """Whether columns are counted in :attr:`bytes` already."""
        return self._columns.counts(columns)

    def take(self, url: str, limit: int) -> tuple[list[Row], dict[int, Cursor]]:
        """Return batches of so many samples at most; one is cut only where it alone has more.

        Returns:
            The batches, and how far the publisher is, in each of their routes, once it has them.
        """
        found = self._waiting_rows(url, limit)
        rows: list[Row] = []
        ends: dict[int, Cursor] = {}
        for id_, payload, series, start, count in found:
            if rows and count - start > limit:
                break
            stop = min(count, start + limit)
            columns = None if series is None else self._columns.of(series)
            rows.append(Row(id_, payload, columns, start, stop))
            limit -= stop - start
            # Of a batch that is cut, the one before it is the last that was taken whole.
            ends[id_ >> _NUMBER_BITS] = Cursor(id_) if stop == count else Cursor(id_ - 1, stop)
            if limit <= 0:
                break
        return rows, ends

    def _waiting_rows(self, url: str, limit: int) -> list[tuple[int, bytes, int | None, int, int]]:
        """Return the next batches of a publisher in the order in which they were put."""
        found: list[tuple[int, bytes, int | None, int, int]] = []
        for route, cursors in self._cursors.items():
            if url not in cursors:
                continue
            cursor = cursors[url]
            left, taken = limit, cursor.taken
            for id_, payload, series, count in self._connection.execute(
                "SELECT id, payload, series, samples FROM batches "
                "WHERE id > ? AND id < ? ORDER BY id",
                (cursor.id, _range(route)[1]),
            ):
                found.append((id_, payload, series, taken, count))
                left -= count - taken
                taken = 0
                if left <= 0:
                    break
        found.sort(key=lambda row: row[0] & _NUMBERS)
        return found

    def last(self, url: str) -> dict[int, Cursor]:
        """Return the end of each route that leads to a publisher."""
        return {
            route: Cursor(route << _NUMBER_BITS | self._number)
            for route, cursors in self._cursors.items()
            if url in cursors
        }

    def advance(self, url: str, ends: Mapping[int, Cursor], count: int) -> None:
        """Move a publisher's cursors past what it has taken; delete what all have taken."""
        freed = 0
        gone: Counter[int] = Counter()  # by the columns that are kept apart
        with self._transaction():
            for route, end in ends.items():
                self._connection.execute(
                    "UPDATE routes SET cursor = ?, taken = ? WHERE route = ? AND url = ?",
                    (*end, route, url),
                )
                cursors = self._cursors[route]
                before = min(cursor.id for cursor in cursors.values())
                after = min(cursor.id for cursor in (cursors | {url: end}).values())
                if after > before:
                    freed += self._delete(before, after, gone)
            deleted = self._columns.surplus(gone)
        for route, end in ends.items():
            self._cursors[route][url] = end
        self.waiting[url] -= count
        self.bytes -= freed + self._columns.removed(gone, deleted)
        if freed:
            self._shrink()

    def _delete(self, before: int, after: int, gone: Counter[int]) -> int:
        """Delete a range of batches; count what columns they name, and return their bytes."""
        size = 0
        for series, count, length in self._connection.execute(
            "SELECT series, count(*), total(length(payload)) FROM batches "
            "WHERE id > ? AND id <= ? GROUP BY series",
            (before, after),
        ):
            size += int(length)
            if series is not None:
                gone[series] += count
        self._connection.execute("DELETE FROM batches WHERE id > ? AND id <= ?", (before, after))
        return size

    def _shrink(self) -> None:
        """Give free pages back to the disk, once they are many and more than half of the file.

        SQLite must move a page from the end for each one that it frees at the front. Waiting for
        half of them to be free keeps that below one move for each page ever written.
        """
        run = self._connection
        (free,) = run.execute("PRAGMA freelist_count").fetchone()
        if free <= _FREE_PAGES:
            return
        # A page is freed with each step, and no row returned: only a script runs all steps.
        if not self.bytes:
            run.executescript("PRAGMA incremental_vacuum; PRAGMA wal_checkpoint(TRUNCATE)")
        elif free * 2 > run.execute("PRAGMA page_count").fetchone()[0]:
            run.executescript(f"PRAGMA incremental_vacuum({max(256, free // 8)})")

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:  # SQLite itself may have rolled back
                self._connection.execute("ROLLBACK")
            raise

    def close(self, finish: Callable[[], None] | None = None) -> None:
        """Let go of the file; what waits in it is for the next process.

        Args:
            finish: called while the file is closed, but still locked.
        """
        if not self.is_open:
            return
        self.is_open = False
        _live.discard(self)
        # What cannot be written back now is in SQLite's log, for whoever opens the file next.
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()
        try:
            if finish is not None:
                finish()
        finally:
            os.close(self._lock)

    def remove(self) -> None:
        """Delete the file, of which nothing is left to deliver."""
        # What cannot be deleted is empty: whoever adopts it will try again.
        with contextlib.suppress(OSError):
            self.close(lambda: _unlink(self.path))

    def set_aside(self, why: str) -> SpoolBroken:
        """Rename the file, which is damaged; return the error that says so."""
        found: list[SpoolBroken] = []
        self.close(lambda: found.append(_set_aside(self.path, why)))
        return found[0]

    def forget(self) -> None:
        """Leave lock and file to the parent, in a process that was forked from it."""
        self.is_open = False
        os.close(self._lock)


# A fork copies the lock's descriptor, and the lock would outlive the parent in the child. It also
# copies SQLite's connection, which only the parent may close: the child keeps it unused.
_live: weakref.WeakSet[SpoolFile] = weakref.WeakSet()
_inherited: list[SpoolFile] = []


def _leave_to_the_parent() -> None:
    for file in list(_live):
        file.forget()
        _inherited.append(file)
    _live.clear()


os.register_at_fork(after_in_child=_leave_to_the_parent)


def _connect(path: Path, power_safe: bool) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=1.0, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        # Nobody else may open the file while we live, so that SQLite needs no shared memory.
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {'FULL' if power_safe else 'NORMAL'}")
        connection.execute(f"PRAGMA journal_size_limit = {_JOURNAL_BYTES}")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def journal_of(path: Path) -> Path:
    """Return where SQLite's log of a spool lies."""
    return path.with_name(f"{path.name}-wal")


def size_of(path: Path) -> int:
    """Return a file's size in bytes; 0 where the file is missing."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _unlink(path: Path) -> None:
    # The lock goes last: while there is a spool, there is a lock to ask for.
    notes = (path.with_suffix(suffix) for suffix in _NOTES)
    for part in (*notes, journal_of(path), path, lock_path(path)):
        part.unlink(missing_ok=True)


def _set_aside(path: Path, why: str) -> SpoolBroken:
    kept = path.with_suffix(".broken")
    try:
        if journal_of(path).exists():
            journal_of(path).rename(journal_of(kept))
        path.rename(kept)
        lock_path(path).unlink(missing_ok=True)
    except OSError as error:
        return SpoolBroken(
            f"the spool {str(path)!r} is damaged ({why}), and it cannot be renamed to "
            f"{kept.name!r}: {error.strerror or error}; move it away yourself"
        )
    return SpoolBroken(
        f"the spool {str(path)!r} is damaged ({why}): it is set aside as {str(kept)!r}; what "
        "waited in it is not delivered; the sqlite3 shell's .recover may read it"
    )


def is_damage(error: sqlite3.Error) -> bool:
    """Return whether SQLite says that a file is damaged."""
    return code_of(error) in _CORRUPT


def _range(route: int) -> tuple[int, int]:
    """Return the ids between which a route's samples lie, both excluded."""
    return route << _NUMBER_BITS, (route + 1) << _NUMBER_BITS


@functools.lru_cache(maxsize=1024)
def route_of(urls: tuple[str, ...]) -> tuple[str, ...]:
    """Return the name of the route that leads to these publishers."""
    return tuple(sorted(set(urls)))
