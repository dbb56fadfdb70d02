"""``sqlite:///path``: several processes of one host, on one file, with no server.

What must hold, and the line that keeps it:

* A lease runs on ``CLOCK_BOOTTIME`` and carries the kernel's boot id, so neither a changed wall
  clock nor a reboot keeps a dead member alive.
* A lease ends by a *write*: whoever sees that it ran out deletes its row under the write lock, and
  a heartbeat under that lock either finds the row or has lost it. So nobody is seen as gone and is
  renewed afterwards, however long a process is paused between two lines.
* Nothing is synced to disk on commit (``synchronous=NORMAL``): a lease need not survive a loss of
  power, for no member does. The file stays whole, since SQLite syncs around checkpoints.
* Every operation looks whether the path still names the file that is open, with the same ``-wal``
  and ``-shm`` (``_sqlite_place``). Others put in their place, while processes of the old ones still
  live, count as a store that has just forgotten. A file with a second name is refused.
* Every operation looks whether the file still has what it had confirmed: an older copy written over
  it counts as a store that has just forgotten.

This module knows nothing of other hosts: a file on a network file system is refused, because
the clock and the boot id are one kernel's.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import math
import os
import random
import select
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

from hashring.clock import boottime
from hashring.driver import Driver, DriverURL, Reading, check_names, check_record, incarnation_of
from hashring.errors import (
    BadURL,
    HashringError,
    LeaseLost,
    MemberExists,
    StoreUnavailable,
    StoreUnusable,
)

from ._net import tell_limits, within_the_lease
from ._sqlite_place import LivenessMark, Place, Unusable, look, refuse_a_mounted_file

__all__ = ["SQLiteDriver"]

_log = logging.getLogger(__name__)

_APPLICATION_ID = 0x68_72_6E_67  # "hrng" in the file's header tells our files from others
_LAYOUT = 1  # PRAGMA user_version
_SCHEMA = (
    """CREATE TABLE leases (
        "group" TEXT NOT NULL, member TEXT NOT NULL,
        token TEXT NOT NULL, incarnation TEXT,
        boot TEXT NOT NULL, expires REAL NOT NULL,
        record BLOB NOT NULL,
        PRIMARY KEY ("group", member)
    )""",
    # A group's version moves with each join, publish, leave and expiry, but not with a heartbeat.
    # Its numbers come from one counter, so that no group ever sees the same number twice.
    'CREATE TABLE versions ("group" TEXT PRIMARY KEY, version INTEGER NOT NULL)',
    "CREATE TABLE counter (last INTEGER NOT NULL)",
    "INSERT INTO counter VALUES (0)",
    # Which file this was when it was last opened for the first time; see _File.adopt.
    "CREATE TABLE store (file TEXT NOT NULL, boot TEXT NOT NULL, since REAL)",
    f"PRAGMA application_id = {_APPLICATION_ID}",
    f"PRAGMA user_version = {_LAYOUT}",
)

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_MOUNTS = Path("/proc/self/mountinfo")
_NETWORK_FILE_SYSTEMS = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "coda", "gfs", "gfs2", "glusterfs", "gpfs", "lustre"}
    | {"ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "panfs", "prl_fs", "pvfs2", "smb3", "smbfs"}
    | {"sshfs", "vboxsf", "virtiofs", "vmhgfs"}
)

_POLL = 0.5  # seconds between two looks at a group's version where inotify tells of changes
_POLL_FAST, _POLL_SLOW = 0.002, 0.02  # the same where it cannot: quick at first, then slower

_RETRY_FIRST, _RETRY_LAST = 0.0003, 0.004  # seconds between two tries for the file's lock

# SQLite keeps, per process, which locks its connections hold on which file. A fork copies these
# notes, but not the locks: in the child even a new connection to such a file would go wrong.
_open_files: weakref.WeakSet[_File] = weakref.WeakSet()
_inherited: dict[str, _File] = {}  # by identity; kept, for SQLite forbids a child to close them


def _note_inherited_files() -> None:
    for file in list(_open_files):
        _inherited[file.identity] = file
    _open_files.clear()


os.register_at_fork(after_in_child=_note_inherited_files)


class SQLiteDriver(Driver):
    """A group of processes on one host, on one file.

    Example:
        >>> import tempfile
        >>> from hashring.driver import load
        >>> folder = tempfile.TemporaryDirectory()
        >>> driver = load(f"sqlite://{folder.name}/group.db", ttl=10.0)
        >>> driver.open()
        >>> driver.join("group", "a", b"{}")
        >>> driver.read("group")
        Reading(records={'a': b'{}'}, memory_age=inf)
        >>> driver.leave("group", "a")
        >>> driver.close()
        >>> folder.cleanup()
    """

    promise = "processes of one host, on one file; never forgets; leases end with a reboot"

    def __init__(self, url: DriverURL, *, ttl: float) -> None:
        super().__init__(url, ttl=ttl)
        self.settings = within_the_lease(self)
        self._path = _path(url)
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._file: _File | None = None
        self._own: dict[tuple[str, str], str | None] = {}
        self._ends: dict[tuple[str, str], float] = {}  # until when each is confirmed
        self._counted = 0  # the file's counter, as last seen
        self._seen: dict[str, int | None] = {}

    def open(self) -> None:
        """Open the file; create it and its folder where they are missing.

        Raises:
            StoreUnusable: no database, another program's, corrupt, not writable, or on a network
                file system.
            StoreUnavailable: the disk is full, or the file stayed locked for ``connect_timeout``.
        """
        self._refuse_a_fork()
        with self._lock:
            if self._file is None:
                tell_limits(self)
                self._file = self._opened(None)

    def close(self) -> None:
        """Close the file; a :meth:`wait` in another thread returns. Leases run on."""
        if self._process != os.getpid():
            return  # not ours to close
        with self._lock:
            file, self._file = self._file, None
        if file is not None:
            file.close()

    def join(self, group: str, member: str, record: bytes) -> None:
        """See :meth:`hashring.driver.Driver.join`."""
        check_names(group, member)
        check_record(record)
        incarnation = incarnation_of(record)
        with self._writing(f"join of {member!r}") as (file, connection):
            now = boottime()
            _expire(connection, group, file.boot, now)
            row = connection.execute(
                'SELECT token, incarnation, expires FROM leases WHERE "group" = ? AND member = ?',
                (group, member),
            ).fetchone()
            if row is not None and (row[0], row[1]) != (self.token, incarnation):
                raise MemberExists(
                    f"{self.url}: member {member!r} of group {group!r} is alive in another "
                    f"incarnation ({row[1]}); its lease runs for {row[2] - now:.1f} s more"
                )
            connection.execute(
                "INSERT OR REPLACE INTO leases VALUES (?, ?, ?, ?, ?, ?, ?)",
                (group, member, self.token, incarnation, file.boot, now + self.ttl, record),
            )
            _changed(connection, group)
        with self._lock:
            self._own[group, member] = incarnation
            self._ends[group, member] = now + self.ttl
        file.touch()

    def publish(self, group: str, member: str, record: bytes) -> None:
        """See :meth:`hashring.driver.Driver.publish`."""
        check_names(group, member)
        check_record(record)
        with self._writing(f"publish of {member!r}") as (file, connection):
            updated = connection.execute(
                'UPDATE leases SET record = ? WHERE "group" = ? AND member = ? AND token = ? '
                "AND incarnation IS ? AND boot = ? AND expires > ?",
                (record, group, member, self.token, incarnation_of(record), file.boot, boottime()),
            ).rowcount
            if not updated:
                raise LeaseLost(f"{self.url}: {member!r} has no lease of ours in group {group!r}")
            _changed(connection, group)
        file.touch()

    def heartbeat(self) -> None:
        """See :meth:`hashring.driver.Driver.heartbeat`."""
        self._refuse_a_fork()
        with self._lock:
            own = dict(self._own)
            if not own and self._file is not None:
                return
        gone = []
        with self._writing("heartbeat") as (file, connection):
            now = boottime()
            went_back = self._went_back(connection, self._expected(own), now)
            for (group, member), incarnation in own.items():
                updated = connection.execute(
                    'UPDATE leases SET expires = ? WHERE "group" = ? AND member = ? AND token = ? '
                    "AND incarnation IS ? AND boot = ? AND expires > ?",
                    (now + self.ttl, group, member, self.token, incarnation, file.boot, now),
                ).rowcount
                if not updated:
                    gone.append((group, member))
            if went_back:
                self._forget(connection, file)
                gone = list(own)
        with self._lock:
            for key in own.keys() - set(gone):
                if key in self._own:
                    self._ends[key] = now + self.ttl
        with self._lock:
            # What the other thread left or joined anew meanwhile is not lost.
            gone = [key for key in gone if key in self._own and self._own[key] == own[key]]
        if gone:
            names = ", ".join(f"{member!r} in group {group!r}" for group, member in gone)
            raise LeaseLost(f"{self.url}: the lease of {names} is gone")

    def read(self, group: str) -> Reading:
        """See :meth:`hashring.driver.Driver.read`."""
        check_names(group)
        with self._lock:
            own = {key: incarnation for key, incarnation in self._own.items() if key[0] == group}
        with self._connected("read") as (file, connection):
            # Before the snapshot: a process paused between the two would otherwise judge an
            # old snapshot by a new time, and miss the heartbeats in between.
            now = boottime()
            expected = self._expected(own)
            self._begin(connection, "BEGIN")
            went_back = self._went_back(connection, expected, now)
            rows, version, age = _look(connection, group, file.boot, now)
            connection.execute("COMMIT")
        if went_back or any(boot != file.boot or expires <= now for _, boot, expires, _ in rows):
            with self._writing("read") as (file, connection):
                now = boottime()
                if went_back:
                    self._forget(connection, file)
                _expire(connection, group, file.boot, now)
                rows, version, age = _look(connection, group, file.boot, now)
            file.touch()
        self._seen[group] = version
        return Reading({member: record for member, _, _, record in rows}, age)

    def wait(self, group: str, timeout: float) -> None:
        """See :meth:`hashring.driver.Driver.wait`. A lease that runs out is a change, too."""
        check_names(group)
        deadline = boottime() + timeout
        delay = _POLL_FAST
        while True:
            with self._connected("wait") as (file, connection):
                self._begin(connection, "BEGIN")
                version, ends = connection.execute(
                    'SELECT (SELECT version FROM versions WHERE "group" = ?), '
                    '(SELECT min(expires) FROM leases WHERE "group" = ?)',
                    (group, group),
                ).fetchone()
                connection.execute("COMMIT")
            now = boottime()
            left = min(deadline, math.inf if ends is None else ends) - now
            if version != self._seen.get(group, -1) or left <= 0:
                return
            if file.notifies:
                delay = _POLL
            if not file.sleep(min(delay, left)):
                return
            delay = min(delay * 1.05, _POLL_SLOW)

    def leave(self, group: str, member: str) -> None:
        """See :meth:`hashring.driver.Driver.leave`."""
        check_names(group, member)
        self._refuse_a_fork()
        with self._lock:
            self._own.pop((group, member), None)
            self._ends.pop((group, member), None)
        with self._writing(f"leave of {member!r}") as (file, connection):
            deleted = connection.execute(
                'DELETE FROM leases WHERE "group" = ? AND member = ? AND token = ?',
                (group, member, self.token),
            ).rowcount
            if deleted:
                _changed(connection, group)
        if deleted:
            file.touch()

    def _expected(
        self, own: dict[tuple[str, str], str | None]
    ) -> tuple[int, dict[tuple[str, str], float]]:
        """Return what any transaction that begins from now on must find at least.

        That is the file's counter, and the ends of these leases of ours.
        """
        with self._lock:
            return self._counted, {key: self._ends.get(key, 0.0) for key in own}

    def _went_back(
        self,
        connection: sqlite3.Connection,
        expected: tuple[int, dict[tuple[str, str], float]],
        now: float,
    ) -> bool:
        """Return whether the file has less than it had confirmed, in a transaction of the caller's.

        Its counter is lower than it was, or a lease of ours ends earlier, or is gone too soon.
        """
        counted, ends = expected
        (last,) = connection.execute("SELECT last FROM counter").fetchone()
        with self._lock:
            self._counted = max(last, self._counted)
        back = bool(last < counted)
        for (group, member), confirmed in ends.items():
            if now >= confirmed:
                continue
            row = connection.execute(
                'SELECT expires FROM leases WHERE "group" = ? AND member = ? AND token = ?',
                (group, member, self.token),
            ).fetchone()
            if row is None or row[0] < confirmed:
                with self._lock:
                    # The other thread may have left meanwhile. Joined anew, it ends no earlier.
                    back = back or (group, member) in self._own
        return back

    def _forget(self, connection: sqlite3.Connection, file: _File) -> None:
        """Make the store one that has just forgotten; our own leases with it, to be joined anew.

        What the older copy has of them is no longer true.
        """
        _drop_leases_of(connection, self.token)
        with self._lock:
            self._ends.clear()
            connection.execute("UPDATE counter SET last = ?", (self._counted + 1,))
        connection.execute("UPDATE store SET boot = ?, since = ?", (file.boot, boottime()))
        _log.warning(
            "%s: the file went back in time: an older copy was written over it. Its members stand "
            "still for one ttl, then go on. Stop the agents before a copy is put back",
            self.url,
        )

    def _opened(self, replaced: _File | None) -> _File:
        try:
            if not _retire_connections(self._path, self.settings["timeout"]):
                raise StoreUnavailable(
                    f"{self.url}: -wal or -shm was replaced, and the old one is still in use here"
                )
            opened = _File(
                self._path,
                self.settings["connect_timeout"],
                token=self.token if replaced is not None else None,
            )
        except sqlite3.Error as error:
            raise self._explained("opening", error, opening=True) from error
        except OSError as error:
            raise StoreUnusable(
                f"{self.url}: {self._path} cannot be opened: {error.strerror}. The agent's user "
                "needs the right to write the file and its folder"
            ) from error
        except Unusable as error:
            raise StoreUnusable(f"{self.url}: {error}") from None
        if replaced is not None:
            # Only now, and only after a success: while a new file is adopted, by whomever, those
            # that may still hold slots by the old one must be seen to live.
            replaced.close()
            _log.warning(
                "%s: the file, or its -wal or -shm, was removed or replaced while it was open. Its "
                "members stand still for one ttl, then go on. Stop the agents before that is done",
                self.url,
            )
        return opened

    def _refuse_a_fork(self) -> None:
        if self._process != os.getpid():
            raise StoreUnusable(
                f"{self.url}: this driver was made in process {self._process}, and a fork cannot "
                "take it along: make it in the new process"
            )

    @contextlib.contextmanager
    def _connected(self, doing: str) -> Iterator[tuple[_File, sqlite3.Connection]]:
        self._refuse_a_fork()
        with self._lock:
            file = self._file
            if file is None:
                raise StoreUnavailable(f"{self.url} is not open: call open() first")
            place = look(self._path)
            try:
                place.refuse_other_names(self._path)
            except Unusable as error:
                raise StoreUnavailable(f"{self.url}: {error}") from None
            if file.retired or place.identity != file.place.identity:
                file = self._file = self._opened(file)
                self._seen.clear()  # another file counts its versions anew
                self._counted = 0
                self._ends.clear()
        try:
            with file.connection() as connection:
                yield file, connection
        except sqlite3.Error as error:
            raise self._explained(doing, error) from error

    @contextlib.contextmanager
    def _writing(self, doing: str) -> Iterator[tuple[_File, sqlite3.Connection]]:
        with self._connected(doing) as (file, connection):
            self._begin(connection, "BEGIN IMMEDIATE")
            yield file, connection
            connection.execute("COMMIT")

    def _begin(self, connection: sqlite3.Connection, kind: str) -> None:
        """Begin a transaction, once the file is free: nothing after this meets a lock.

        SQLite's own busy handler sleeps for up to 100 ms at a time, where a transaction of ours
        takes a tenth of one: after a change, when all members write at once, that is most of the
        time of a hand-over.
        """
        deadline = time.monotonic() + self.settings["timeout"]
        pause = _RETRY_FIRST
        while True:
            try:
                connection.execute(kind)
                if kind == "BEGIN":
                    connection.execute("SELECT last FROM counter").fetchone()
            except sqlite3.OperationalError as error:
                busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
                if not busy or time.monotonic() >= deadline:
                    raise
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            else:
                return
            time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - so as not to meet again
            pause = min(pause * 1.5, _RETRY_LAST)

    def _explained(
        self, doing: str, error: sqlite3.Error, *, opening: bool = False
    ) -> HashringError:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}:
            what = "is not a SQLite database" if code == sqlite3.SQLITE_NOTADB else "is corrupt"
            return StoreUnusable(
                f"{self.url}: {self._path} {what} ({error}). Stop the agents and move the file "
                "away, with its -wal and -shm: it holds nothing but leases, a new one is made"
            )
        if code == sqlite3.SQLITE_FULL:
            return StoreUnavailable(f"{self.url}: {doing} failed: the disk is full")
        if opening and code in {
            sqlite3.SQLITE_CANTOPEN,
            sqlite3.SQLITE_READONLY,
            sqlite3.SQLITE_PERM,
        }:
            return StoreUnusable(
                f"{self.url}: {self._path} cannot be written ({error}). The agent's user needs "
                "the right to write the file and its folder"
            )
        return self.unavailable(doing, error)


def _path(url: DriverURL) -> Path:
    path = url.path.lstrip("/")
    if url.hosts or url.user is not None or url.secret is not None:
        host = url.hosts[0][0] if url.hosts else ""
        right = "/".join(part for part in (host, path) if part) or "path"
        raise BadURL(
            f"{url}: a SQLite URL has no host; its path is absolute and follows three slashes: "
            f"sqlite:///{right}"
        )
    if not path or path.endswith("/") or "\0" in path:
        raise BadURL(f"{url}: name a file: sqlite:///var/lib/agent/group.db")
    if path == ":memory:":
        raise BadURL(f"{url}: for a store in memory write memory://")
    return Path("/" + path)


def _expire(connection: sqlite3.Connection, group: str, boot: str, now: float) -> None:
    if connection.execute(
        'DELETE FROM leases WHERE "group" = ? AND (boot <> ? OR expires <= ?)', (group, boot, now)
    ).rowcount:
        _changed(connection, group)


def _changed(connection: sqlite3.Connection, group: str) -> None:
    connection.execute("UPDATE counter SET last = last + 1")
    connection.execute("INSERT OR REPLACE INTO versions SELECT ?, last FROM counter", (group,))
    connection.execute(
        'DELETE FROM versions WHERE "group" = ? '
        'AND NOT EXISTS (SELECT 1 FROM leases WHERE "group" = ?)',
        (group, group),
    )


def _drop_leases_of(connection: sqlite3.Connection, token: str) -> None:
    groups = connection.execute(
        'SELECT DISTINCT "group" FROM leases WHERE token = ?', (token,)
    ).fetchall()
    connection.execute("DELETE FROM leases WHERE token = ?", (token,))
    for (group,) in groups:
        _changed(connection, group)


def _sweep(connection: sqlite3.Connection, boot: str, now: float) -> None:
    """End the leases that ran out in groups that nobody reads any more."""
    for (group,) in connection.execute(
        'SELECT DISTINCT "group" FROM leases WHERE boot <> ? OR expires <= ?', (boot, now)
    ).fetchall():
        _expire(connection, group, boot, now)


def _look(
    connection: sqlite3.Connection, group: str, boot: str, now: float
) -> tuple[list[tuple[str, str, float, bytes]], int | None, float]:
    """Return a group's rows and version, and the store's memory age, in one snapshot."""
    rows = connection.execute(
        'SELECT member, boot, expires, record FROM leases WHERE "group" = ?', (group,)
    ).fetchall()
    version = connection.execute(
        'SELECT version FROM versions WHERE "group" = ?', (group,)
    ).fetchone()
    adopted, since = connection.execute("SELECT boot, since FROM store").fetchone()
    # Members of an earlier boot are dead: what the store forgot of them does not matter.
    age = math.inf if since is None or adopted != boot else now - since
    return rows, version and version[0], age


def _retire_connections(path: Path, timeout: float) -> bool:
    """Close this process's connections to a database whose ``-wal`` or ``-shm`` was replaced.

    SQLite lets all connections of a process to one database share a ``-shm``: while one of the old
    ones is open, a new one would use the old, deleted one as well.

    Returns:
        Whether none of them is in the middle of an operation for longer than the timeout.
    """
    place, path = look(path), path.resolve()
    whole = True
    for file in list(_open_files):
        same = file.path == path and file.place.file == place.file
        if same and file.place.identity != place.identity:
            whole = file.retire(timeout) and whole
    return whole


class _File:
    """One file, as one process has it open: connections, liveness mark, and change notices.

    Args:
        path: as the URL names it.
        connect_timeout: seconds for all of it.
        token: of the driver, where it had another file open until now: what this file has of its
            leases is no longer true.
    """

    def __init__(self, path: Path, connect_timeout: float, *, token: str | None = None) -> None:
        self.boot = _boot_id()
        self._named = path
        # By one name, whatever links lead to it: SQLite's other two files lie beside the target.
        self.path = path if path.is_symlink() and not path.exists() else path.resolve()
        self._lock = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._lent = 0
        self._returned = threading.Condition(self._lock)
        self._closed = self.retired = False
        self._sleeping = threading.Lock()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        _refuse_network_file_system(self.path.parent)
        refuse_a_mounted_file(self.path)
        with contextlib.ExitStack() as undo:
            self._folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            undo.callback(os.close, self._folder)
            self.place = self._adopt(connect_timeout, token)
            undo.callback(self._close_connections)
            self._waker = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            for end in self._waker:
                undo.callback(os.close, end)
            self._notices = _watch(self.path)
            undo.pop_all()
        _open_files.add(self)

    @property
    def identity(self) -> str:
        """The database's own, whatever lies beside it."""
        return str(self.place.file)

    @property
    def notifies(self) -> bool:
        """Whether the kernel tells of changes."""
        return self._notices is not None

    @contextlib.contextmanager
    def connection(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection that no other thread uses meanwhile."""
        with self._lock:
            if self.retired:
                raise sqlite3.OperationalError("the files beside the database were replaced")
            connection = self._idle.pop() if self._idle else None
            self._lent += 1
        try:
            if connection is None:
                connection = self._connect(0.0)
            yield connection
        finally:
            if connection is not None:
                self._take_back(connection)
            with self._returned:
                self._lent -= 1
                self._returned.notify_all()

    def _take_back(self, connection: sqlite3.Connection) -> None:
        with contextlib.suppress(sqlite3.Error):
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        with self._lock:
            keep = not (self._closed or self.retired)
            if keep:
                self._idle.append(connection)
        if not keep:
            connection.close()

    def retire(self, timeout: float) -> bool:
        """Close all connections, and lend none any more; the liveness mark stays.

        Returns:
            Whether all that were lent came back within so many seconds.
        """
        with self._returned:
            self.retired = True
        self._close_connections()
        with self._returned:
            return self._returned.wait_for(lambda: not self._lent, timeout)

    def touch(self) -> None:
        """Tell the waiting processes that a group has changed: they watch the file's times."""
        with contextlib.suppress(OSError):
            os.utime(self.path)

    def sleep(self, seconds: float) -> bool:
        """Sleep until a change, a close, or the end; return False once the file is closed."""
        with self._sleeping:
            if self._closed:
                return False
            poll = select.poll()
            poll.register(self._waker[0], select.POLLIN)
            if self._notices is not None:
                poll.register(self._notices, select.POLLIN)
            poll.poll(math.ceil(seconds * 1000))
            if self._notices is not None:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._notices, 65536)
            return not self._closed

    def close(self) -> None:
        """Close what is idle now, and what is lent once it comes back."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        _open_files.discard(self)
        os.write(self._waker[1], b"x")
        with self._sleeping:
            for descriptor in (*self._waker, self._folder):
                os.close(descriptor)
            if self._notices is not None:
                os.close(self._notices)
        self._close_connections()

    def _close_connections(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _connect(self, timeout: float) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=timeout, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA synchronous = NORMAL")
        except BaseException:
            connection.close()
            raise
        return connection

    def _adopt(self, connect_timeout: float, token: str | None) -> Place:
        """Make sure that the file is a store of ours, mark it as open, and return what it is."""
        deadline = time.monotonic() + connect_timeout
        while True:
            before = look(self.path)
            before.refuse_other_names(self.path)
            if before.file in _inherited:
                raise Unusable(
                    f"{self.path} was open in this process's parent at the fork, and SQLite "
                    "cannot open it again here: open it after the fork, or in the child only "
                    "(with multiprocessing, use the start method 'spawn')"
                )
            if before.file is None and self.path.is_symlink():
                raise Unusable(f"{self.path} is a link to a file that does not exist")
            if self.path.exists() and not self.path.is_file():
                raise Unusable(f"{self.path} is not a file")
            connection = self._connect(connect_timeout)
            try:
                self._prepare(connection, deadline)
                # While a connection is open, SQLite removes neither of the files beside it.
                place = look(self.path)
                place.refuse_other_names(self.path)
                whole = "-" not in place.beside.split(" ")
                if whole and place.file is not None and before.file in {None, place.file}:
                    self._note(connection, place, token)
                    whole = look(self._named).identity == place.identity
                else:
                    whole = False
            except BaseException:
                connection.close()
                raise
            if whole:
                connection.execute("PRAGMA busy_timeout = 0")
                self._idle.append(connection)
                return place
            # The path got another file while this one was opened: look at that one.
            connection.close()
            if time.monotonic() > deadline:
                raise Unusable(f"{self.path} is being replaced again and again")
            time.sleep(0.005)

    def _note(self, connection: sqlite3.Connection, place: Place, token: str | None) -> None:
        """Mark this store as open, and as one that forgot where others have another one open."""
        mark = LivenessMark(self._folder, self.path.name, place.identity)
        mark.set()
        connection.execute("BEGIN IMMEDIATE")
        known = connection.execute("SELECT file FROM store").fetchone()
        # Members of earlier files of this name may still hold slots: then this store counts as one
        # that forgot, from now on. A new file, or one copied here, has nothing to say about that.
        # Whoever had another one until now is one of them: its mark need not tell, for the new
        # files may have the numbers of those that it has just closed.
        since = boottime() if token is not None or mark.others_live() else None
        if since is not None or known is None or known[0] != place.identity:
            connection.execute("DELETE FROM store")
            connection.execute(
                "INSERT INTO store VALUES (?, ?, ?)", (place.identity, self.boot, since)
            )
        if token is not None:
            _drop_leases_of(connection, token)
        _sweep(connection, self.boot, boottime())
        connection.execute("COMMIT")

    def _prepare(self, connection: sqlite3.Connection, deadline: float) -> None:
        # One look, in a transaction: else another process that makes a store of this new file
        # meanwhile would be seen with its tables and without its mark.
        connection.execute("BEGIN")
        if not self._is_ours(connection):
            raise Unusable(f"{self.path} is another program's database: name a file of its own")
        connection.execute("COMMIT")
        while True:
            try:
                mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
                break
            except sqlite3.OperationalError as error:
                # SQLite does not wait for this lock, whatever its busy timeout.
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    raise
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.005)
        if mode != "wal":
            raise Unusable(f"{self.path} lies where SQLite cannot keep a write-ahead log")
        connection.execute("BEGIN IMMEDIATE")
        if not self._is_ours(connection):
            raise Unusable(f"{self.path} is another program's database: name a file of its own")
        if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
            for statement in _SCHEMA:
                connection.execute(statement)
        connection.execute("COMMIT")

    def _is_ours(self, connection: sqlite3.Connection) -> bool:
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        layout = connection.execute("PRAGMA user_version").fetchone()[0]
        if application == _APPLICATION_ID and layout != _LAYOUT:
            raise Unusable(
                f"{self.path} has layout {layout} and this version knows {_LAYOUT}: run the same "
                "version of hashring on this host, or name another file"
            )
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        return bool(application == _APPLICATION_ID or (application == layout == tables == 0))


def _boot_id() -> str:
    """Return the kernel's id of this boot; the empty string where the platform has none."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""


def _refuse_network_file_system(folder: Path) -> None:
    """Refuse what several hosts may share: their clocks and boot ids differ."""
    folder = folder.resolve()
    try:
        mounts = _MOUNTS.read_text().splitlines()
    except OSError:
        return
    device = folder.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    for mount in mounts:
        # "36 35 98:0 /root /mount/point options … - type source options", proc_pid_mountinfo(5)
        left, _, right = mount.partition(" - ")
        kind = right.partition(" ")[0]
        if left.split(" ")[2] == number and kind.removeprefix("fuse.") in _NETWORK_FILE_SYSTEMS:
            raise Unusable(
                f"{folder} lies on a network file system ({kind}). Leases there hold on one host "
                "only: name a local folder, or use a server for several hosts"
            )


def _watch(path: Path) -> int | None:
    """Return an inotify descriptor that tells when a file is touched or unlinked, or None."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        descriptor = int(libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
    except (OSError, AttributeError):
        return None
    if descriptor < 0:
        return None
    in_attrib = 0x00000004
    if libc.inotify_add_watch(descriptor, os.fsencode(path), in_attrib) < 0:
        os.close(descriptor)
        return None
    return descriptor
