"""SpoolFile: one SQLite file of samples, and the kernel's lock on the lock file beside it.

What must hold of it stands in ``spool``. This module knows routes, cursors and bytes; neither
what a payload is nor when a publisher is called. It does no locking between threads.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import re
import secrets
import sqlite3
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from hashring import clock
from hashring.telemetry.errors import SpoolBroken

__all__ = [
    "SpoolFile",
    "broken",
    "is_damage",
    "journal_of",
    "lock_orphan",
    "remove_stale_locks",
    "route_of",
    "size_of",
]

_APPLICATION_ID = 0x68_72_73_70  # "hrsp" in the file's header tells our files from others
_LAYOUT = 1  # PRAGMA user_version
_SCHEMA = (
    """CREATE TABLE routes (
        route INTEGER NOT NULL, url TEXT NOT NULL,
        cursor INTEGER NOT NULL,  -- the id of the last sample that this publisher has taken
        PRIMARY KEY (route, url)
    ) WITHOUT ROWID""",
    # An id is route and number in one, so that a route is a range of the table.
    "CREATE TABLE samples (id INTEGER PRIMARY KEY, payload BLOB NOT NULL)",
    f"PRAGMA application_id = {_APPLICATION_ID}",
    f"PRAGMA user_version = {_LAYOUT}",
)
_NUMBER_BITS = 44  # 10,000 samples a second for 55 years; leaves 19 bits for the route
_NUMBERS = (1 << _NUMBER_BITS) - 1

_FREE_PAGES = 1024
"""Free pages, 4 KiB each, that a file may keep for what comes next."""
_JOURNAL_BYTES = 4 * 1024 * 1024
"""The length to which SQLite cuts its write-ahead log after a burst."""

_NOTES = (".waiting", ".drop")
"""Suffixes of what lies beside a spool for people's sake: see `leftovers`."""

_FULL = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR})
_CORRUPT = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class SpoolFile:
    """One spool: an SQLite file and the lock on it. Its user sees to it that threads take turns."""

    def __init__(self, path: Path, lock: int, connection: sqlite3.Connection) -> None:
        self.path = path
        self.bytes = 0
        self.waiting: Counter[str] = Counter()  # by publisher
        self.is_open = True
        self._lock = lock
        self._connection = connection
        self._routes: dict[tuple[str, ...], int] = {}
        self._cursors: dict[int, dict[str, int]] = {}  # by route and publisher
        self._number = 0  # of the sample that was put last
        _live.add(self)

    @classmethod
    def create(cls, folder: Path, owner: str, power_safe: bool) -> SpoolFile:
        """Make a file that no process has had, under its lock."""
        try:
            path, lock = _new_name(folder, owner)
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
        if layout != _LAYOUT:
            self.close()
            raise SpoolBroken(
                f"the spool {str(self.path)!r} has layout {layout}, this version knows {_LAYOUT}: "
                "it is left as it is, for an agent of the version that wrote it"
            )
        for route, url, cursor in ask("SELECT route, url, cursor FROM routes"):
            self._cursors.setdefault(route, {})[url] = cursor
        for route, cursors in self._cursors.items():
            self._routes[route_of(tuple(cursors))] = route
            size, last = ask(
                "SELECT total(length(payload)), max(id) FROM samples WHERE id > ? AND id < ?",
                _range(route),
            ).fetchone()
            self.bytes += int(size)
            for url, cursor in cursors.items():
                (count,) = ask(
                    "SELECT count(*) FROM samples WHERE id > ? AND id < ?",
                    (cursor, _range(route)[1]),
                ).fetchone()
                self.waiting[url] += count
            for known in (*cursors.values(), last or 0):
                self._number = max(self._number, known & _NUMBERS)

    def put(self, rows: Sequence[tuple[tuple[str, ...], bytes]]) -> None:
        """Keep payloads, each with its publishers' URLs, in one transaction."""
        routes = dict(self._routes)
        for urls, _ in rows:
            routes.setdefault(urls, len(routes) + 1)
        new = {urls: routes[urls] for urls in list(routes)[len(self._routes) :]}
        with self._transaction():
            for urls, route in new.items():
                self._connection.executemany(
                    "INSERT INTO routes VALUES (?, ?, ?)",
                    [(route, url, _range(route)[0]) for url in urls],
                )
            self._connection.executemany(
                "INSERT INTO samples VALUES (?, ?)",
                [
                    (routes[urls] << _NUMBER_BITS | number, payload)
                    for number, (urls, payload) in enumerate(rows, self._number + 1)
                ],
            )
        # Only now: what was not committed must not be counted.
        self._routes = routes
        self._number += len(rows)
        for urls, route in new.items():
            self._cursors[route] = dict.fromkeys(urls, _range(route)[0])
        for urls, payload in rows:
            self.bytes += len(payload)
            for url in urls:
                self.waiting[url] += 1

    def take(self, url: str, limit: int) -> tuple[list[bytes], dict[int, int]]:
        """Return payloads, and the id of the last one in each of their routes."""
        found: list[tuple[int, bytes]] = []
        for route, cursors in self._cursors.items():
            if url in cursors:
                found += self._connection.execute(
                    "SELECT id, payload FROM samples WHERE id > ? AND id < ? ORDER BY id LIMIT ?",
                    (cursors[url], _range(route)[1], limit),
                )
        found.sort(key=lambda row: row[0] & _NUMBERS)
        del found[limit:]
        return [payload for _, payload in found], {id_ >> _NUMBER_BITS: id_ for id_, _ in found}

    def last(self, url: str) -> dict[int, int]:
        """Return the last id in each route that leads to a publisher."""
        return {
            route: route << _NUMBER_BITS | self._number
            for route, cursors in self._cursors.items()
            if url in cursors
        }

    def advance(self, url: str, ends: Mapping[int, int], count: int) -> None:
        """Move a publisher's cursors past what it has taken; delete what all have taken."""
        freed = 0
        with self._transaction():
            for route, end in ends.items():
                self._connection.execute(
                    "UPDATE routes SET cursor = ? WHERE route = ? AND url = ?", (end, route, url)
                )
                before = min(self._cursors[route].values())
                after = min((self._cursors[route] | {url: end}).values())
                if after > before:
                    (size,) = self._connection.execute(
                        "SELECT total(length(payload)) FROM samples WHERE id > ? AND id <= ?",
                        (before, after),
                    ).fetchone()
                    self._connection.execute(
                        "DELETE FROM samples WHERE id > ? AND id <= ?", (before, after)
                    )
                    freed += int(size)
        for route, end in ends.items():
            self._cursors[route][url] = end
        self.waiting[url] -= count
        self.bytes -= freed
        if freed:
            self._shrink()

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


def _new_name(folder: Path, owner: str) -> tuple[Path, int]:
    """Return a path that no spool has, and a descriptor that holds its lock."""
    readable = re.sub(r"[^A-Za-z0-9._-]+", "_", owner)[:40].strip("._") or "agent"
    while True:
        # The time comes first, so that names sort by age.
        name = f"{int(clock.wall() * 1e6):017d}-{readable}-{secrets.token_hex(4)}.spool"
        path = folder / name
        lock = os.open(_lock_path(path), os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        if _has_locked(lock, _lock_path(path)):
            return path, lock
        os.close(lock)  # somebody took it for a stale one, in the instant before we had it


def lock_orphan(path: Path) -> int | None:
    """Return a descriptor that holds a spool's lock; ``None`` while its process lives."""
    try:
        lock = os.open(_lock_path(path), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        if _has_locked(lock, _lock_path(path)):
            if path.exists():
                return lock
            _lock_path(path).unlink(missing_ok=True)  # it was delivered and removed just now
    except OSError as error:
        raise broken(path, error) from None
    os.close(lock)
    return None


def _has_locked(lock: int, path: Path) -> bool:
    """Lock a file; whether that worked and the path still names that very file."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(lock), path.stat())
    except (BlockingIOError, FileNotFoundError):
        return False


def remove_stale_locks(folder: Path) -> None:
    """Remove locks without a spool: their process died between making the one and the other."""
    for path in folder.glob("*.lock"):
        if not path.with_suffix(".spool").exists():
            with contextlib.suppress(OSError):
                lock = os.open(path, os.O_RDWR | os.O_CLOEXEC)
                try:
                    if _has_locked(lock, path) and not path.with_suffix(".spool").exists():
                        path.unlink()
                finally:
                    os.close(lock)


def _lock_path(path: Path) -> Path:
    return path.with_suffix(".lock")


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
    for part in (*notes, journal_of(path), path, _lock_path(path)):
        part.unlink(missing_ok=True)


def _set_aside(path: Path, why: str) -> SpoolBroken:
    kept = path.with_suffix(".broken")
    try:
        if journal_of(path).exists():
            journal_of(path).rename(journal_of(kept))
        path.rename(kept)
        _lock_path(path).unlink(missing_ok=True)
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
    return _code(error) in _CORRUPT


def _code(error: sqlite3.Error) -> int:
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF  # the low byte is the kind, the rest says more


def broken(path: Path, error: OSError | sqlite3.Error) -> SpoolBroken:
    """Return the error that a spool cannot be used, with what to do."""
    if isinstance(error, sqlite3.Error):
        why = str(error)
        full = _code(error) in _FULL
    else:
        why = error.strerror or str(error)
        full = False
    what = "see whether its disk is full" if full else "see to it that it can be written"
    return SpoolBroken(f"the spool {str(path)!r} cannot be used: {why}; {what}")


def _range(route: int) -> tuple[int, int]:
    """Return the ids between which a route's samples lie, both excluded."""
    return route << _NUMBER_BITS, (route + 1) << _NUMBER_BITS


@functools.lru_cache(maxsize=1024)
def route_of(urls: tuple[str, ...]) -> tuple[str, ...]:
    """Return the name of the route that leads to these publishers."""
    return tuple(sorted(set(urls)))
