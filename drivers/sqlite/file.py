"""One SQLite file, as one process has it open: connections, liveness mark, and change notices.

It knows which file may be a store, and what a fork and another process's changes mean for it. It
knows no member and no lease.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import select
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

from hashring.clock import boottime

from .place import LivenessMark, Place, Unusable, look, refuse_a_mounted_file
from .tables import APPLICATION_ID, JOURNAL, LAYOUT, SCHEMA, drop_leases_of, sweep

__all__ = ["File", "retire_connections"]

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_MOUNTS = Path("/proc/self/mountinfo")
_NETWORK_FILE_SYSTEMS = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "coda", "gfs", "gfs2", "glusterfs", "gpfs", "lustre"}
    | {"ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "panfs", "prl_fs", "pvfs2", "smb3", "smbfs"}
    | {"sshfs", "vboxsf", "virtiofs", "vmhgfs"}
)

# SQLite keeps, per process, which locks its connections hold on which file. A fork copies these
# notes, but not the locks: in the child even a new connection to such a file would go wrong.
_open_files: weakref.WeakSet[File] = weakref.WeakSet()
_inherited: dict[str, File] = {}  # by identity; kept, for SQLite forbids a child to close them


def _note_inherited_files() -> None:
    for file in list(_open_files):
        _inherited[file.identity] = file
    _open_files.clear()


os.register_at_fork(after_in_child=_note_inherited_files)


def retire_connections(path: Path, timeout: float) -> bool:
    """Close this process's connections to a database whose ``-wal`` or ``-shm`` was replaced.

    SQLite lets all connections of a process to one database share a ``-shm``: while one of the old
    ones is open, a new one would use the old, deleted one as well.

    Returns:
        Whether none of them is in the middle of an operation for longer than the timeout.
    """
    # First the list, then the look: one that is opened in between has files that are newer than it.
    opened = list(_open_files)
    place, path = look(path), path.resolve()
    whole = True
    for file in opened:
        same = file.path == path and file.place.file == place.file
        if same and file.place.identity != place.identity:
            whole = file.retire(timeout) and whole
    return whole


class File:
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
        """Sleep until a change, a :meth:`wake`, a close, or the end.

        Returns:
            False where it was woken, and once the file is closed.
        """
        with self._sleeping:
            if self._closed:
                return False
            poll = select.poll()
            poll.register(self._waker[0], select.POLLIN)
            if self._notices is not None:
                poll.register(self._notices, select.POLLIN)
            ready = poll.poll(math.ceil(seconds * 1000))
            if self._notices is not None:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._notices, 65536)
            if self._closed:
                return False
            with contextlib.suppress(BlockingIOError):
                os.read(self._waker[0], 4096)
            return all(number != self._waker[0] for number, _ in ready)

    def wake(self) -> None:
        """Let the :meth:`sleep` that goes on, or else the next one, return at once."""
        with self._lock, contextlib.suppress(BlockingIOError):
            if not self._closed:
                os.write(self._waker[1], b"x")

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
            drop_leases_of(connection, token)
        sweep(connection, self.boot, boottime())
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
            for statement in SCHEMA:
                connection.execute(statement)
        for statement in JOURNAL:  # a file of an earlier release has none
            connection.execute(statement)
        connection.execute("COMMIT")

    def _is_ours(self, connection: sqlite3.Connection) -> bool:
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        layout = connection.execute("PRAGMA user_version").fetchone()[0]
        if application == APPLICATION_ID and layout != LAYOUT:
            raise Unusable(
                f"{self.path} has layout {layout} and this version knows {LAYOUT}: run the same "
                "version of hashring on this host, or name another file"
            )
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        return bool(application == APPLICATION_ID or (application == layout == tables == 0))


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
