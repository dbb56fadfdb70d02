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
  and ``-shm`` (``place``). Others put in their place, while processes of the old ones still
  live, count as a store that has just forgotten. A file with a second name is refused.
* Every operation looks whether the file still has what it had confirmed: an older copy written over
  it counts as a store that has just forgotten.

This module knows nothing of other hosts: a file on a network file system is refused, because
the clock and the boot id are one kernel's.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from hashring.backoff import Backoff
from hashring.clock import boottime
from hashring.driver import (
    Changes,
    Driver,
    DriverURL,
    Reading,
    check_names,
    check_record,
    incarnation_of,
)
from hashring.errors import BadURL, HashringError, StoreUnavailable, StoreUnusable

from .._net import tell_limits, within_the_lease
from .file import File, retire_connections
from .place import Unusable
from .place import look as look_at_place
from .tables import RESUME, changed, drop_leases_of, expire, living, look_at

__all__ = ["SQLiteDriver"]

_log = logging.getLogger(__name__)

_POLL = 0.5  # seconds between two looks at a group's version where inotify tells of changes
_POLL_FAST, _POLL_SLOW = 0.002, 0.02  # the same where it cannot: quick at first, then slower

_RETRY_FIRST, _RETRY_LAST = 0.0003, 0.004  # seconds between two tries for the file's lock


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
    epochs = "the file's counter, and the time where a file begins anew; falls if that was set back"
    interrupts = True

    def __init__(self, url: DriverURL, *, ttl: float) -> None:
        super().__init__(url, ttl=ttl)
        self.settings = within_the_lease(self)
        self._path = _path(url)
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._file: File | None = None
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
            expire(connection, group, file.boot, now)
            row = connection.execute(
                'SELECT token, incarnation, expires FROM leases WHERE "group" = ? AND member = ?',
                (group, member),
            ).fetchone()
            if row is not None and (row[0], row[1]) != (self.token, incarnation):
                until = f"its lease runs for {row[2] - now:.1f} s more"
                raise self.member_exists(group, member, row[1], until)
            connection.execute(
                "INSERT OR REPLACE INTO leases VALUES (?, ?, ?, ?, ?, ?, ?)",
                (group, member, self.token, incarnation, file.boot, now + self.ttl, record),
            )
            changed(connection, group)
        with self._lock:
            self._own[group, member] = incarnation
            self._ends[group, member] = now + self.ttl
        file.touch()

    def publish(self, group: str, member: str, record: bytes) -> int:
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
                raise self.lease_lost((group, member))
            number = changed(connection, group)
        file.touch()
        return number

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
            raise self.lease_lost(*gone)

    def read(self, group: str) -> Reading:
        """See :meth:`hashring.driver.Driver.read`."""
        changes = self.read_since(group, None)
        return Reading(changes.changed, changes.memory_age)

    def read_since(self, group: str, cursor: bytes | None) -> Changes:
        """See :meth:`hashring.driver.Driver.read_since`."""
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
            look = look_at(connection, group, file.boot, now, cursor)
            connection.execute("COMMIT")
        if went_back or look.is_late:
            with self._writing("read") as (file, connection):
                now = boottime()
                if went_back:
                    self._forget(connection, file)
                expire(connection, group, file.boot, now)
                look = look_at(connection, group, file.boot, now, cursor)
            file.touch()
        self._seen[group] = look.version
        return look.changes

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

    def interrupt(self) -> None:
        """See :meth:`hashring.driver.Driver.interrupt`."""
        file = self._file
        if file is not None and self._process == os.getpid():
            file.wake()

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
                changed(connection, group)
        if deleted:
            file.touch()

    def open_to_look(self) -> None:
        """See :meth:`hashring.driver.Driver.open_to_look`."""
        if not self._path.exists():
            raise StoreUnusable(f"{self.url}: there is no file {self._path}: is the path right?")
        self.open()

    def groups(self) -> list[str]:
        """See :meth:`hashring.driver.Driver.groups`."""
        with self._connected("list of groups") as (file, connection):
            return list({name for name, *_ in living(connection, file.boot, boottime())})

    def seize(self, group: str, member: str, record: bytes) -> None:
        """See :meth:`hashring.driver.Driver.seize`."""
        check_names(group, member)
        check_record(record)
        incarnation = incarnation_of(record)
        with self._writing(f"seizing the lease of {member!r}") as (file, connection):
            now = boottime()
            updated = connection.execute(
                "UPDATE leases SET token = ?, incarnation = ?, expires = ?, record = ? "
                'WHERE "group" = ? AND member = ? AND boot = ? AND expires > ?',
                (self.token, incarnation, now + self.ttl, record, group, member, file.boot, now),
            ).rowcount
            if not updated:
                raise self.lease_lost((group, member))
            changed(connection, group)
        with self._lock:
            self._own[group, member] = incarnation
            self._ends[group, member] = now + self.ttl
        file.touch()

    def leases(self, group: str) -> dict[str, float]:
        """See :meth:`hashring.driver.Driver.leases`."""
        check_names(group)
        with self._connected("reading leases") as (file, connection):
            now = boottime()
            found = living(connection, file.boot, now)
            return {member: expires - now for of, member, expires in found if of == group}

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
                'SELECT expires, token FROM leases WHERE "group" = ? AND member = ?',
                (group, member),
            ).fetchone()
            is_seized = row is not None and row[1] != self.token and row[0] > now
            if row is None or (row[0] < confirmed and not is_seized):
                with self._lock:
                    # The other thread may have left meanwhile. Joined anew, it ends no earlier.
                    back = back or (group, member) in self._own
        return back

    def _forget(self, connection: sqlite3.Connection, file: File) -> None:
        """Make the store one that has just forgotten; our own leases with it, to be joined anew.

        What the older copy has of them is no longer true.
        """
        drop_leases_of(connection, self.token)
        with self._lock:
            self._ends.clear()
            # Greater than what others may have had of the file that is gone, too.
            connection.execute(RESUME, (self._counted + 1,))
        connection.execute("UPDATE store SET boot = ?, since = ?", (file.boot, boottime()))
        _log.warning(
            "%s: the file went back in time: an older copy was written over it. Its members stand "
            "still for one ttl, then go on. Stop the agents before a copy is put back",
            self.url,
        )

    def _opened(self, replaced: File | None) -> File:
        try:
            if not retire_connections(self._path, self.settings["timeout"]):
                raise StoreUnavailable(
                    f"{self.url}: -wal or -shm was replaced, and the old one is still in use here"
                )
            opened = File(
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
    def _connected(self, doing: str) -> Iterator[tuple[File, sqlite3.Connection]]:
        self._refuse_a_fork()
        with self._lock:
            file = self._file
            if file is None:
                raise self.not_open()
            place = look_at_place(self._path)
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
    def _writing(self, doing: str) -> Iterator[tuple[File, sqlite3.Connection]]:
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
        pauses = Backoff(_RETRY_FIRST, _RETRY_LAST, factor=1.5)
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
            time.sleep(next(pauses))  # of another length each time, so as not to meet again

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
