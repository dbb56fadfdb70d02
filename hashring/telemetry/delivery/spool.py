"""Spool: samples on disk between polling and publishing, in a bounded SQLite file of one process.

What must hold, and the line that keeps it:

* What :meth:`Spool.put` has taken outlives the process: it is one committed transaction. Commits
  are not synced to disk (``synchronous=NORMAL`` in WAL mode): the kernel has them once the call
  returns, so ``kill -9`` loses nothing, while a loss of power may lose the last ones and never
  harms the file. ``power_safe=True`` syncs each commit instead.
* What was taken is never dropped to make room: at the bound the newest are refused
  (:class:`SpoolFull`), and whoever put them knows.
* A sample is kept until each of its publishers has taken it. Samples that go to the same
  publishers form a *route*, in which each publisher has a *cursor*; what lies below the lowest
  cursor is deleted as a range. So several publishers cost no more rows than one.
* A file belongs to the process that holds the kernel's lock on the lock file beside it, and the
  kernel frees that lock when the process dies, however it dies. A spool whose lock is free is an
  orphan; who gets its lock delivers it, and nobody else does.

This room knows nothing of publishers but their URLs, and nothing of when they are called.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import functools
import json
import logging
import operator
import os
import re
import secrets
import sqlite3
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from hashring import clock
from hashring.errors import BadArgument
from hashring.telemetry.errors import SpoolBroken, SpoolFull
from hashring.telemetry.model.sample import Meter, MeterType, Sample

__all__ = ["Batch", "Item", "Spool", "SpoolBroken", "SpoolFull"]

log = logging.getLogger(__name__)

Item = tuple[Sample, tuple[str, ...]]
"""A sample, and the URLs of the publishers that it goes to."""

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


@dataclasses.dataclass(frozen=True)
class Batch:
    """Samples for one publisher, in the order in which they were put.

    Attributes:
        url: the publisher.
        samples: at least one.
    """

    url: str
    samples: tuple[Sample, ...]
    _file: _File = dataclasses.field(repr=False)
    _ends: Mapping[int, int] = dataclasses.field(repr=False)


class Spool:
    """Samples on disk until each of their publishers has taken them. From any thread.

    Makes a file of its own, with mode 0600 (URLs may hold secrets). Those of processes that died
    are taken over by :meth:`adopt`, its own former ones too.

    Args:
        folder: where spools lie; on a disk of this host; made if it is not there.
        max_bytes: the bound: bytes of samples, as JSON, over all spools that this process holds.
        owner: whose it is, e.g. a member id: for people, in the file's name.
        power_safe: sync each commit to disk, so that a loss of power loses nothing either.

    Raises:
        BadArgument: max_bytes is not positive.
        SpoolBroken: the folder cannot be used.

    Example:
        >>> import tempfile
        >>> from hashring.telemetry.model.sample import Meter, MeterType, Sample
        >>> meter = Meter("hardware.cpu.util", MeterType.GAUGE, "%")
        >>> sample = Sample(meter, 1.5, "web1:host", 600.25, 10, 60.0, "a", ("v", "i", 10))
        >>> folder = tempfile.TemporaryDirectory()
        >>> spool = Spool(Path(folder.name), max_bytes=1_000_000)
        >>> spool.put([(sample, ("file:///tmp/a", "http://sink/"))])
        >>> batch = spool.take("http://sink/", 50)
        >>> batch.samples == (sample,)
        True
        >>> spool.done(batch)
        >>> spool.waiting
        {'file:///tmp/a': 1}
        >>> spool.close()
        >>> folder.cleanup()
    """

    def __init__(
        self, folder: Path, *, max_bytes: int, owner: str = "", power_safe: bool = False
    ) -> None:
        if max_bytes < 1:
            raise BadArgument(f"a spool of {max_bytes} bytes holds nothing: give it more")
        self.folder = folder
        self.max_bytes = max_bytes
        self._owner = owner
        self._power_safe = power_safe
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._adopting = threading.Lock()
        self._adopted: list[_File] = []  # oldest first
        self._reported: set[str] = set()  # what was said of orphans that cannot be read
        self._closed = False
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise SpoolBroken(
                f"no spool can lie in {str(folder)!r}: {error.strerror or error}; "
                "name a folder that may be written to"
            ) from None
        self._own: _File | None = _File.create(folder, owner, power_safe)

    @property
    def bytes(self) -> int:
        """The bytes of samples in all spools that this process holds."""
        with self._lock:
            return self._bytes()

    @property
    def waiting(self) -> dict[str, int]:
        """How many samples wait for which publisher; publishers with none are left out."""
        found: Counter[str] = Counter()
        with self._lock:
            for file in self._files():
                found.update(file.waiting)
        return {url: count for url, count in found.items() if count}

    @property
    def waiting_by_file(self) -> dict[Path, dict[str, int]]:
        """How many samples wait for which publisher, by the file that this process holds."""
        with self._lock:
            return {
                file.path: {url: count for url, count in file.waiting.items() if count}
                for file in self._files()
            }

    def waiting_for(self, url: str) -> int:
        """Return how many samples wait for one publisher."""
        with self._lock:
            return sum(file.waiting[url] for file in self._files())

    def put(self, items: Sequence[Item]) -> None:
        """Keep samples, all or none: when it returns, they outlive this process.

        Args:
            items: each with the URLs of its publishers; with none, it is not kept.

        Raises:
            SpoolFull: the bound would be passed.
            SpoolBroken: the disk is full, or the file is damaged; a damaged file is set aside, and
                the next call begins a new one.
            BadArgument: a sample cannot be written as JSON.
        """
        rows = [(_route(urls), _encode(sample)) for sample, urls in items if urls]
        size = sum(len(payload) for _, payload in rows)
        if not rows:
            return
        with self._lock:
            self._check_usable()
            held = self._bytes()
            if held + size > self.max_bytes:
                raise SpoolFull(
                    f"the spool in {str(self.folder)!r} is full: {held} of {self.max_bytes} bytes "
                    f"wait for their publishers, and {size} more ({len(rows)} samples) are "
                    "refused; bring the sinks back, or raise the bound"
                )
            if self._own is None:
                self._own = _File.create(self.folder, self._owner, self._power_safe)
            with self._damage_set_aside(self._own):
                self._own.put(rows)

    def take(self, url: str, limit: int) -> Batch | None:
        """Return the oldest samples that wait for a publisher; they stay until :meth:`done`.

        One thread at a time takes for one publisher: two would be given the same samples.

        Args:
            url: the publisher.
            limit: at most so many.

        Returns:
            ``None`` where none waits.

        Raises:
            SpoolBroken: a file cannot be read; if it is damaged it is set aside, and the next
                call goes on with the others.
        """
        with self._lock:
            self._check_usable()
            for file in self._files():
                if file.waiting[url]:
                    with self._damage_set_aside(file):
                        rows, ends = file.take(url, limit)
                    break
            else:
                return None
        try:
            samples = tuple(_decode(payload) for payload in rows)
        except (KeyError, TypeError, ValueError) as error:
            with self._lock:
                if not file.is_open:
                    return None
                raise self._set_aside(file, f"it holds what is not a sample: {error!r}") from None
        return Batch(url, samples, file, ends)

    def done(self, batch: Batch) -> None:
        """Note that a publisher has taken a batch; delete what every publisher has taken.

        Does nothing if the file of the batch was closed or set aside meanwhile.

        Raises:
            SpoolBroken: as of :meth:`put`. Unless the file was damaged, the batch is as it was.
        """
        with self._lock:
            file = batch._file
            if file.is_open:
                with self._damage_set_aside(file):
                    file.advance(batch.url, batch._ends, len(batch.samples))
                self._remove_if_delivered(file)

    def drop(self, url: str) -> int:
        """Give up whatever waits for one publisher; return how many samples that was.

        Raises:
            SpoolBroken: as of :meth:`done`.
        """
        count = 0
        with self._lock:
            self._check_usable()
            for file in self._files():
                if waiting := file.waiting[url]:
                    with self._damage_set_aside(file):
                        file.advance(url, file.last(url), waiting)
                    self._remove_if_delivered(file)
                    count += waiting
        return count

    def adopt(self) -> int:
        """Take over the spools in the folder whose process has died, oldest first.

        An orphan that would take this process past its bound waits until there is room; one that
        is larger than the bound itself is adopted once this process holds nothing else. An orphan
        that cannot be read is reported once in the log, and set aside where it is damaged.

        Returns:
            How many were adopted that hold samples; empty ones are just removed.
        """
        count = 0
        with self._adopting:
            self._check_usable()
            for path in sorted(self.folder.glob("*.spool")):
                try:
                    count += self._adopt(path)
                except OSError as error:  # SpoolBroken is one
                    # Nobody called for this file, so there is no caller to tell.
                    if str(error) not in self._reported:
                        self._reported.add(str(error))
                        log.error("%s", error)  # noqa: TRY400 - a traceback says no more
            _remove_stale_locks(self.folder)
        return count

    def _adopt(self, path: Path) -> bool:
        lock = _lock_orphan(path)
        if lock is None:
            return False
        # The file is never much smaller than the samples in it; to look inside takes longer.
        size = path.stat().st_size + _size(_journal(path))
        held = self.bytes
        if held and held + size > self.max_bytes:
            os.close(lock)
            return False
        file = _File.adopt(path, lock, self._power_safe)
        with self._lock:
            if self._closed:
                file.close()
                return False
            self._adopted.append(file)
            self._adopted.sort(key=lambda file: file.path)
            waiting = max(file.waiting.values(), default=0)
            self._remove_if_delivered(file)
        if waiting:
            log.info("samples of a process that died wait in %s: adopted", path)
        return waiting > 0

    def close(self) -> None:
        """Let go of all files; what waits in them is for the next process. Idempotent."""
        with self._lock:
            self._closed = True
            for file in self._files():
                if file.bytes:
                    file.close()
                else:
                    file.remove()
            self._own, self._adopted = None, []

    def _files(self) -> list[_File]:
        return [*self._adopted, *([] if self._own is None else [self._own])]

    def _bytes(self) -> int:
        return sum(file.bytes for file in self._files())

    def _check_usable(self) -> None:
        if self._closed:
            raise SpoolBroken(f"the spool in {str(self.folder)!r} is closed")
        if self._pid != os.getpid():
            raise SpoolBroken(
                f"the spool in {str(self.folder)!r} was opened by process {self._pid}: "
                "open another one after a fork"
            )

    def _remove_if_delivered(self, file: _File) -> None:
        if file in self._adopted and not file.bytes:
            self._adopted.remove(file)
            file.remove()

    @contextlib.contextmanager
    def _damage_set_aside(self, file: _File) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if _is_damage(error):
                raise self._set_aside(file, str(error)) from None
            raise _broken(file.path, error) from None

    def _set_aside(self, file: _File, why: str) -> SpoolBroken:
        if file is self._own:
            self._own = None
        elif file in self._adopted:
            self._adopted.remove(file)
        return file.set_aside(why)


class _File:
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
    def create(cls, folder: Path, owner: str, power_safe: bool) -> _File:
        try:
            path, lock = _new_name(folder, owner)
        except OSError as error:
            raise _broken(folder, error) from None
        try:
            # SQLite gives its log the mode of the file.
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
            connection = _connect(path, power_safe)
        except (OSError, sqlite3.Error) as error:
            _unlink(path)
            os.close(lock)
            raise _broken(path, error) from None
        file = cls(path, lock, connection)
        try:
            with file._transaction():
                for statement in _SCHEMA:
                    connection.execute(statement)
        except sqlite3.Error as error:
            file.remove()
            raise _broken(path, error) from None
        return file

    @classmethod
    def adopt(cls, path: Path, lock: int, power_safe: bool) -> _File:
        try:
            connection = _connect(path, power_safe)
        except sqlite3.Error as error:
            try:
                raise (
                    _set_aside(path, str(error)) if _is_damage(error) else _broken(path, error)
                ) from None
            finally:
                os.close(lock)
        file = cls(path, lock, connection)
        try:
            file._load()
        except sqlite3.Error as error:
            if _is_damage(error):
                raise file.set_aside(str(error)) from None
            file.close()
            raise _broken(path, error) from None
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
            self._routes[_route(tuple(cursors))] = route
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
_live: weakref.WeakSet[_File] = weakref.WeakSet()
_inherited: list[_File] = []


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


def _lock_orphan(path: Path) -> int | None:
    """Return a descriptor that holds a spool's lock; ``None`` while its process lives."""
    try:
        lock = os.open(_lock_path(path), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        if _has_locked(lock, _lock_path(path)):
            if path.exists():
                return lock
            _lock_path(path).unlink(missing_ok=True)  # it was delivered and removed just now
    except OSError as error:
        raise _broken(path, error) from None
    os.close(lock)
    return None


def _has_locked(lock: int, path: Path) -> bool:
    """Lock a file; whether that worked and the path still names that very file."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(lock), path.stat())
    except (BlockingIOError, FileNotFoundError):
        return False


def _remove_stale_locks(folder: Path) -> None:
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


def _journal(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _unlink(path: Path) -> None:
    # The lock goes last: while there is a spool, there is a lock to ask for.
    notes = (path.with_suffix(suffix) for suffix in _NOTES)
    for part in (*notes, _journal(path), path, _lock_path(path)):
        part.unlink(missing_ok=True)


def _set_aside(path: Path, why: str) -> SpoolBroken:
    kept = path.with_suffix(".broken")
    try:
        if _journal(path).exists():
            _journal(path).rename(_journal(kept))
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


def _is_damage(error: sqlite3.Error) -> bool:
    return _code(error) in _CORRUPT


def _code(error: sqlite3.Error) -> int:
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF  # the low byte is the kind, the rest says more


def _broken(path: Path, error: OSError | sqlite3.Error) -> SpoolBroken:
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
def _route(urls: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(set(urls)))


# A payload is the list of a sample's fields. It costs a third of to_line, which makes an id and
# writes the time out, and it is shorter. A field that is added to the end of Sample, with a
# default, is read from older spools as that default.
_FIELDS = tuple(field.name for field in dataclasses.fields(Sample))
_METADATA = _FIELDS.index("metadata")
_fields_of = operator.attrgetter(*_FIELDS)
_to_json = json.JSONEncoder(separators=(",", ":")).encode


def _encode(sample: Sample) -> bytes:
    values = list(_fields_of(sample))
    values[_METADATA] = dict(values[_METADATA])  # a read-only view of one cannot be written
    try:
        return _to_json(values).encode()
    except (TypeError, ValueError) as error:
        raise BadArgument(
            f"the sample {sample.meter.name} of {sample.resource_id} cannot be written as JSON: "
            f"{error}; see to what its pollster puts into metadata"
        ) from None


def _decode(payload: bytes) -> Sample:
    found = dict(zip(_FIELDS, json.loads(payload), strict=False))
    name, kind, unit = found["meter"]
    found["meter"] = Meter(name, MeterType(kind), unit)
    found["token"] = tuple(found["token"])
    return Sample(**found)
