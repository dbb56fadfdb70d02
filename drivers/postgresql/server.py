"""The driver's one connection: made, checked, made again, and shared by the driver's threads.

A write whose outcome is unknown must not land after a later one. So each connection holds, for as
long as the server's process behind it lives, a session lock that is the driver's own. One that is
made anew ends the process of the one before, and waits until it has that lock: from then on nothing
of the earlier connection can be done any more, wherever it was held up.

It knows groups by the names of their channels alone, and no leases.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import logging
import os
import re
import select
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import psycopg

from hashring.clock import boottime
from hashring.driver import Driver
from hashring.errors import StoreUnusable

from .._net import left
from .address import parameters_of
from .link import Link, LinkFailed, ServerRefused, Value, attempts
from .tables import Statements

__all__ = ["Facts", "Server", "lock_number"]

_log = logging.getLogger(__name__)

_OLDEST = 130000  # the first with pg_current_xact_id()
# Of a call's time: the longest that a connection which was made earlier may stay silent.
_PATIENCE = 0.7

_UNDEFINED_TABLE, _NO_RIGHT, _NO_SCHEMA = "42P01", "42501", "3F000"
_READ_ONLY = "25006"

# What libpq says where a person must act, before there is a SQLSTATE.
_HOPELESS = re.compile(
    r"password authentication failed|no password supplied|authentication failed"
    r"|no pg_hba\.conf entry|(role|database|user) \"[^\"]*\" does not exist"
    r"|definition of service|certificate file|root certificate|private key file"
    r"|invalid sslmode|is not permitted to log in|permission denied for database"
    r"|invalid (channel_binding|gssencmode) value"
)

_FACTS = """
SELECT pg_backend_pid(), pg_is_in_recovery(), current_setting('server_version_num')::int4,
    to_regclass($1::text) IS NOT NULL,
    (SELECT system_identifier FROM pg_control_system())::text || '/'
        || CASE WHEN pg_is_in_recovery() THEN ''
           ELSE left(pg_walfile_name(pg_current_wal_lsn()), 8) END || '/'
        || (SELECT oid FROM pg_database WHERE datname = current_database())::text || '/'
        || extract(epoch FROM pg_postmaster_start_time())::text,
    current_user::text, current_setting('transaction_read_only')::bool,
    current_setting('fsync')::bool
"""
_RIGHTS = """
SELECT has_table_privilege($1::text, 'SELECT'), has_table_privilege($1::text, 'INSERT')
    AND has_table_privilege($1::text, 'UPDATE') AND has_table_privilege($1::text, 'DELETE')
"""
_END_OTHERS = """
SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1
    AND classid = (($1::bigint >> 32) & 4294967295)::oid AND objid = ($1::bigint & 4294967295)::oid
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND pid <> pg_backend_pid()
"""
_OWN_SESSION = "SELECT pg_advisory_lock($1::bigint)::text"
_SETTINGS = """
SELECT set_config('statement_timeout', $1::text, false),
    set_config('lock_timeout', $1::text, false),
    set_config('idle_in_transaction_session_timeout', $1::text, false),
    set_config('default_transaction_isolation', 'read committed', false),
    set_config('synchronous_commit', CASE WHEN current_setting('synchronous_commit') = 'off'
        THEN 'on' ELSE current_setting('synchronous_commit') END, false)
"""


def lock_number(*parts: str) -> int:
    """Return the number of the advisory lock that some words name.

    >>> lock_number("a", "bc") != lock_number("ab", "c")
    True
    """
    digest = hashlib.sha256("\0".join(parts).encode()).digest()
    return int(struct.unpack(">q", digest[:8])[0])


@dataclasses.dataclass(frozen=True)
class Facts:
    """What a connection found.

    Attributes:
        identity: the server and its history: another one where it may have forgotten something.
        timeline: grows with each promotion of a replica; 0 where the server is one itself.
        role: who we are there.
        writes: whether that role may write the table.
    """

    identity: str
    timeline: int
    role: str
    writes: bool


class Server:
    """The connection of one driver.

    Args:
        driver: for its URL, its settings, its token and the words of its errors.

    Attributes:
        on_heard: is called with a channel and a payload, while the connection is in use.
    """

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._parameters = parameters_of(driver)
        self.statements = Statements(driver.settings["table"], driver.settings["schema"])
        self.on_heard: Callable[[str, str], None] = lambda channel, payload: None
        self._begin()

    def _begin(self) -> None:
        """Make what belongs to one process."""
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._link: Link | None = None
        self._facts = Facts("", 0, "", False)
        self.makes_table = True  # where it is missing
        self._channels: set[str] = set()  # that the connection listens to
        self._waking = threading.Lock()  # keeps the pipe that lets a pause return
        self._wake: tuple[int, int] | None = None
        self._warned = False
        self.is_open = False

    # -- life

    def open(self) -> None:
        """Connect and check that the server can be a store."""
        if self._process != os.getpid():
            self._begin()
        if self.is_open:
            return
        self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.is_open = True
        try:
            self.call("connecting", lambda facts: [], opening=True)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the connection; whoever waits returns."""
        if not self.is_open or self._process != os.getpid():
            return
        self.is_open = False
        self.wake()
        with self._lock:
            self._drop()
        with self._waking:
            ends, self._wake = self._wake or (), None
            for end in ends:
                os.close(end)

    def check_open(self) -> None:
        """Refuse a call on what is closed, or is another process's."""
        if self._process != os.getpid():
            raise self._driver.forked(self._process)
        if not self.is_open:
            raise self._driver.not_open()

    @property
    def facts(self) -> Facts:
        """What the connection in use, or the last one, found."""
        return self._facts

    # -- calls

    def call(
        self,
        doing: str,
        ask: Callable[[Facts], Sequence[tuple[str, Sequence[Value]]]],
        *,
        deadline: float | None = None,
        opening: bool = False,
    ) -> list[list[tuple[Any, ...]]]:
        """Run statements as one transaction, again where the connection broke, while there is time.

        Every one of the driver's operations may run twice: see the first lines of this module.

        Args:
            doing: for an error.
            ask: makes the statements, from what the connection found.
            deadline: in seconds on the boot-time clock; default: the option ``timeout`` from now.
            opening: what a person must mend is a :class:`~hashring.errors.StoreUnusable`.

        Raises:
            StoreUnavailable: the outcome is unknown, or the server refused.
        """
        self.check_open()
        if deadline is None:
            deadline = boottime() + self._driver.settings["timeout"]
        pauses = self._driver.delays()
        telling: Exception | None = None
        while True:
            try:
                with self._locked(deadline):
                    self.check_open()
                    return self._once(ask, deadline)
            except StoreUnusable as error:
                if opening:
                    raise
                raise self._driver.unavailable(doing, error) from error
            except (LinkFailed, ServerRefused, TimeoutError, psycopg.Error) as error:
                if telling is None or isinstance(error, ServerRefused):
                    telling = error
                if opening and (unusable := self._unusable(error)) is not None:
                    raise unusable from error
                pause = next(pauses, None)
                if pause is None or boottime() + pause >= deadline or self._is_final(error):
                    raise self._driver.unavailable(doing, telling) from telling
                time.sleep(pause)

    @staticmethod
    def _is_final(error: Exception) -> bool:
        """Return whether another try would be refused as well."""
        if not isinstance(error, ServerRefused) or error.code == _UNDEFINED_TABLE:
            return False
        return error.code[:2] in {"22", "42"}

    @contextlib.contextmanager
    def _locked(self, deadline: float) -> Iterator[None]:
        if not self._lock.acquire(timeout=max(0.0, deadline - boottime())):
            raise TimeoutError("an earlier call took all the time there was")
        try:
            yield
        finally:
            self._lock.release()

    def _once(
        self, ask: Callable[[Facts], Sequence[tuple[str, Sequence[Value]]]], deadline: float
    ) -> list[list[tuple[Any, ...]]]:
        link, until = self._link, deadline
        try:
            if link is None:
                link = self._connected(deadline)
            else:
                # The way to the server may have gone silently: leave time for another connection.
                until = boottime() + left(deadline) * _PATIENCE
            statements = list(ask(self._facts))
            answers = link.run(statements, until) if statements else []
        except ServerRefused as error:
            if error.code in (_UNDEFINED_TABLE, _READ_ONLY):
                self._drop()  # what the connection found is no longer true
            raise
        except BaseException:
            self._drop()
            raise
        finally:
            self._dispatch()
        return answers

    def _dispatch(self) -> None:
        link = self._link
        if link is not None and link.heard:
            heard, link.heard = link.heard, []
            for channel, payload in heard:
                self.on_heard(channel, payload)
            self.wake()

    def _drop(self) -> None:
        link, self._link = self._link, None
        self._channels = set()
        if link is not None:
            link.close()
            self.wake()

    # -- waiting

    def listens(self, channel: str) -> bool:
        """Return whether the connection in use hears of a channel."""
        return channel in self._channels

    def listen(self, channel: str, deadline: float) -> None:
        """Hear of a channel from now on, for as long as the connection lasts."""

        def ask(facts: Facts) -> list[tuple[str, Sequence[Value]]]:
            self._channels.add(channel)  # forgotten with the connection, should it break now
            return [(f'LISTEN "{channel}"', ())]

        self.call("listening", ask, deadline=deadline)

    def pause(self, until: float) -> None:
        """Wait until something may have come by itself, or :meth:`wake`, or a moment."""
        link, wake = self._link, self._wake
        poll = select.poll()
        if wake is None or link is None:
            time.sleep(max(0.0, min(0.05, until - boottime())))
            return
        poll.register(wake[0], select.POLLIN)
        with contextlib.suppress(psycopg.Error, OSError):
            poll.register(link.socket, select.POLLIN)
        milliseconds = max(0.0, until - boottime()) * 1000
        try:
            ready = poll.poll(milliseconds)
        except OSError:
            return
        if any(number == wake[0] for number, _ in ready):
            with self._waking, contextlib.suppress(OSError):
                if self._wake is wake:  # otherwise the number may be another file's by now
                    os.read(wake[0], 4096)
        if all(number == wake[0] for number, _ in ready):
            return
        # Another thread's answer may be what came: it is read by then.
        if not self._lock.acquire(timeout=max(0.0, until - boottime())):
            return
        try:
            if self._link is link:
                link.listen()
        except (LinkFailed, psycopg.Error):
            self._drop()
        finally:
            self._dispatch()
            self._lock.release()

    def wake(self) -> None:
        """Let a :meth:`pause` in another thread return."""
        with self._waking, contextlib.suppress(OSError):
            if self._wake is not None:
                os.write(self._wake[1], b"!")

    # -- a connection

    def _connected(self, deadline: float) -> Link:
        """Connect to the first host that is the primary; they share the time there is."""
        end = min(deadline, boottime() + self._driver.settings["connect_timeout"])
        tries, failed = attempts(self._parameters, end)
        for index, parameters in enumerate(tries):
            until = boottime() + left(end) / (len(tries) - index)
            try:
                link = Link(parameters, until, self._driver.traffic)
            except (LinkFailed, TimeoutError, psycopg.Error) as error:
                failed.append(str(error))
                continue
            try:
                self._facts = self._checked(link, deadline)
            except BaseException:
                link.close()
                raise
            self._link = link
            return link
        raise LinkFailed("; ".join(dict.fromkeys(failed)) or "there is no host to connect to")

    def _checked(self, link: Link, deadline: float) -> Facts:
        """Make a connection ready, and learn what it is connected to."""
        driver, table = self._driver, self.statements.table
        own = lock_number("driver", table, driver.token)
        milliseconds = str(max(1, int(driver.settings["timeout"] * 1000)))
        *_, ((backend, standby, version, exists, identity, role, read_only, fsync),) = link.run(
            [
                (_SETTINGS, [milliseconds]),
                (_END_OTHERS, [own]),
                (_OWN_SESSION, [own]),
                (_FACTS, [table]),
            ],
            deadline,
        )
        if version < _OLDEST:
            raise StoreUnusable(
                f"{driver.url}: the server is PostgreSQL {version // 10000}; 13 or later is needed"
            )
        if backend != link.announced_backend and driver.settings["pooler"] == "refuse":
            raise StoreUnusable(
                f"{driver.url}: a connection pooler (PgBouncer or its like) stands before the "
                "server. In transaction mode it takes away the session lock and the LISTEN that "
                "the driver needs. Connect to the server itself; or, where the pool is in session "
                "mode, write pooler=session"
            )
        if standby:
            raise LinkFailed("the server is a standby, and not the primary")
        if not fsync and not self._warned:
            self._warned = True
            _log.warning(
                "%s: the server has fsync=off: a crash may destroy the database", driver.url
            )
        if not exists and not read_only and self.makes_table:
            self._create(link, deadline)
        try:
            (((looks, writes),),) = link.run([(_RIGHTS, [table])], deadline)
        except ServerRefused as error:
            if error.code == _UNDEFINED_TABLE:
                raise self._no_table(role, error) from error
            raise
        if not looks:
            raise StoreUnusable(
                f"{driver.url}: the role {role} may not read the table {table}: "
                f'GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO "{role}"'
            )
        timeline = int(identity.split("/")[1] or "0", 16)
        return Facts(identity, timeline, role, writes and not read_only)

    def _create(self, link: Link, deadline: float) -> None:
        """Make the table, one driver at a time."""
        table = self.statements.table
        number = lock_number("table", table)
        try:
            link.run(
                [(self.statements.lock, [number]), (self.statements.create, ())],
                deadline,
            )
        except ServerRefused as error:
            if error.code in (_NO_RIGHT, _NO_SCHEMA):
                raise self._no_table(self._parameters.get("user", "of this URL"), error) from error
            raise

    def _no_table(self, role: str, error: ServerRefused) -> StoreUnusable:
        return StoreUnusable(
            f"{self._driver.url}: there is no table {self.statements.table}, and the role {role} "
            f"cannot make it ({error}): have its owner run what `python -m "
            "hashring.drivers.postgresql --members ROLE` prints"
        )

    def _unusable(self, error: Exception) -> StoreUnusable | None:
        """Return the error to raise by ``open()`` for what does not pass by itself."""
        message = self._driver.url.hide(str(error))
        if isinstance(error, LinkFailed) and _HOPELESS.search(message):
            return StoreUnusable(f"{self._driver.url}: the server cannot be used: {message}")
        if isinstance(error, ServerRefused) and self._is_final(error):
            return StoreUnusable(f"{self._driver.url}: the server refused: {message}")
        return None
