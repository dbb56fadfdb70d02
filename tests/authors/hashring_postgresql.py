"""``postgresql://user:password@host:port/database``: each group of members as rows of a table.

Every change and every reading of a group is one transaction under the group's advisory lock, and
begins by removing what ran out by the server's clock. So what one reading showed as gone, no
heartbeat brings back: it comes later under that lock, and finds nothing. A transaction that was
under way when its client gave up holds the lock until it is committed or rolled back: no write
lands after a later one has been confirmed.

A primary that confirms a commit before a replica has it may fail, and the replica that takes over
lacks what was confirmed. Its timeline is another then: the table of timelines has the server's time
at which each was first seen, and that is for how long the store has surely forgotten nothing.

A call asks the server several things. They share one deadline, with the wait for a lock and for a
connection: a limit for each answer would let a slow server make the whole call outlast the lease.
The system's resolver alone knows no limit: name the server by an address. Without TLS.
"""

import contextlib
import hashlib
import socket
import struct
import threading
import time

import pg8000.exceptions
import pg8000.native

from hashring.driver import Driver, Option, Reading, check_names, check_record, incarnation_of
from hashring.errors import LeaseLost, MemberExists

TABLES = """
CREATE TABLE IF NOT EXISTS hashring_lease (
    in_group bytea, id bytea, member bytea NOT NULL, token text NOT NULL, incarnation text,
    record bytea, expires double precision, PRIMARY KEY (in_group, id));
CREATE TABLE IF NOT EXISTS hashring_timeline (timeline text PRIMARY KEY, since double precision);
"""

NOW = "extract(epoch FROM clock_timestamp())::double precision"
TIMELINE = "left(pg_walfile_name(pg_current_wal_lsn()), 8)"
MINE = "in_group = :g AND id = :id AND token = :token AND incarnation IS NOT DISTINCT FROM :inc"

# A connection that was cut ends in any of these, by where it was.
FAILURES = (pg8000.exceptions.Error, OSError, struct.error, AttributeError, IndexError)


def _seconds(text):
    value = float(text)
    if not 0.001 <= value <= 10:
        raise ValueError("must lie between 0.001 and 10 seconds")
    return value


class _Socket(socket.socket):
    """Whose every read and write ends at one deadline, however many pieces an answer has."""

    deadline = 0.0

    def connect(self, address):
        self.settimeout(_left(self.deadline))
        super().connect(address)

    def recv_into(self, *arguments):
        self.settimeout(_left(self.deadline))
        return super().recv_into(*arguments)

    def send(self, *arguments):
        self.settimeout(_left(self.deadline))
        return super().send(*arguments)


def _dialled(host, port, deadline):
    for family, kind, protocol, _, address in socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM
    ):
        made = _Socket(family, kind, protocol)
        made.deadline = deadline
        try:
            made.connect(address)
        except OSError as error:
            made.close()
            failure = error
        else:
            return made
    raise failure


def _left(deadline):
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError("no answer in time")
    return seconds


def _digest(name):
    # An id may be longer than an index takes.
    return hashlib.sha256(name.encode()).digest()


class PostgreSQLDriver(Driver):
    """Groups as rows."""

    promise = "hosts that share a PostgreSQL; forgets where a replica takes over, and says so"
    options = (Option("poll", _seconds, 0.02, "seconds between two looks at a group in wait()"),)

    def __init__(self, url, *, ttl):
        super().__init__(url, ttl=ttl)
        # Seconds for a whole call. A third of the lease: one that failed can be made again in time.
        self._limit = min(self.settings["timeout"], self.ttl / 3)
        self._own = {}  # (group, member) -> incarnation: what heartbeat() renews
        self._guard = threading.Lock()  # of the above, as heartbeat() has a thread of its own
        self._seen = {}  # group -> what was read last
        # The heartbeat has a connection of its own: nothing that the other thread does holds it up.
        self._locks = {"heart": threading.RLock(), "rest": threading.RLock()}
        self._connections = {}  # use -> connection and its socket
        self._closed = threading.Event()
        self._closed.set()

    # -- life

    def open(self):
        if not self._closed.is_set():
            return
        self._closed.clear()
        try:
            with self._transaction("rest", "open", b"hashring tables", self._deadline()) as run:
                for statement in TABLES.split(";")[:-1]:
                    run(statement)
        except BaseException:
            self.close()
            raise

    def close(self):
        self._closed.set()  # wakes up wait()
        for use, lock in self._locks.items():
            with lock:  # whoever has it began before, and ends by his deadline
                self._drop(use)

    # -- the lease

    def join(self, group, member, record):
        check_names(group, member)
        check_record(record)
        key = self._key(group, member, incarnation_of(record))
        with self._changing("rest", group, self._deadline()) as run:
            found = run(
                "SELECT token, incarnation FROM hashring_lease WHERE in_group = :g AND id = :id",
                **key,
            )
            if found and found != [[key["token"], key["inc"]]]:
                raise self.member_exists(group, member)
            run(
                "INSERT INTO hashring_lease"
                f" VALUES (:g, :id, :member, :token, :inc, :record, {NOW} + :ttl)"
                " ON CONFLICT (in_group, id) DO UPDATE"
                " SET record = excluded.record, expires = excluded.expires",
                member=member.encode(),
                record=record,
                ttl=self.ttl,
                **key,
            )
            with self._guard:
                self._own[group, member] = key["inc"]

    def heartbeat(self):
        self._check_open()
        with self._guard:
            own = dict(self._own)
        deadline = self._deadline()
        lost = []
        for group in {group for group, _ in own}:
            with self._changing("heart", group, deadline) as run:
                for (of, member), incarnation in own.items():
                    if of != group:
                        continue
                    key = self._key(group, member, incarnation)
                    renew = (
                        f"UPDATE hashring_lease SET expires = {NOW} + :ttl WHERE {MINE} RETURNING 1"
                    )
                    if not run(renew, ttl=self.ttl, **key):
                        lost.append((group, member))
        with self._guard:
            # What the other thread left or joined anew meanwhile is not lost.
            lost = [key for key in lost if key in self._own and self._own[key] == own[key]]
        if lost:
            raise self.lease_lost(*lost)

    def leave(self, group, member):
        check_names(group, member)
        self._check_open()
        with self._guard:
            self._own.pop((group, member), None)
        with self._changing("rest", group, self._deadline()) as run:
            run(
                "DELETE FROM hashring_lease WHERE in_group = :g AND id = :id AND token = :token",
                g=_digest(group),
                id=_digest(member),
                token=self.token,
            )

    # -- records

    def publish(self, group, member, record):
        check_names(group, member)
        check_record(record)
        key = self._key(group, member, incarnation_of(record))
        with self._changing("rest", group, self._deadline()) as run:
            change = f"UPDATE hashring_lease SET record = :record WHERE {MINE} RETURNING 1"
            if not run(change, record=record, **key):
                raise self.lease_lost((group, member))

    def read(self, group):
        check_names(group)
        reading = self._read(group)
        self._seen[group] = reading.records
        return reading

    def _read(self, group):
        with self._changing("rest", group, self._deadline()) as run:
            rows = run(
                "SELECT member, record FROM hashring_lease WHERE in_group = :g", g=_digest(group)
            )
            run(
                f"INSERT INTO hashring_timeline VALUES ({TIMELINE}, {NOW})"
                " ON CONFLICT (timeline) DO NOTHING"
            )
            ((age,),) = run(
                f"SELECT {NOW} - since FROM hashring_timeline WHERE timeline = {TIMELINE}"
            )
        records = {bytes(member).decode(): bytes(record) for member, record in rows}
        return Reading(records, max(0.0, age))

    def wait(self, group, timeout):
        check_names(group)
        self._check_open()
        deadline = time.monotonic() + timeout
        seen = self._seen.get(group)
        while (left := deadline - time.monotonic()) > 0:
            # Each look is a call for itself: this one outlasts its timeout by no more than that.
            if self._read(group).records != seen:
                return
            if self._closed.wait(min(left, self.settings["poll"])):
                return

    # -- the server

    def _key(self, group, member, incarnation):
        return {"g": _digest(group), "id": _digest(member), "token": self.token, "inc": incarnation}

    def _check_open(self):
        if self._closed.is_set():
            raise self.not_open()

    def _deadline(self):
        return time.monotonic() + self._limit

    @contextlib.contextmanager
    def _changing(self, use, group, deadline):
        """Lock a group and remove what ran out: what follows sees living leases alone."""
        with self._transaction(use, f"group {group!r}", _digest(group), deadline) as run:
            run(
                f"DELETE FROM hashring_lease WHERE in_group = :g AND expires <= {NOW}",
                g=_digest(group),
            )
            yield run

    @contextlib.contextmanager
    def _transaction(self, use, doing, lock, deadline):
        self._check_open()
        with self._turn(use, doing, deadline):
            try:
                run = self._connected(use, deadline).run
                run("START TRANSACTION")
                run("SELECT pg_advisory_xact_lock(:n)", n=struct.unpack_from(">q", lock)[0])
                yield run
                run("COMMIT")
            except (MemberExists, LeaseLost):
                # What ran out was removed, and stays so.
                self._end(use, doing)
                raise
            except FAILURES as error:
                self._drop(use)
                raise self.unavailable(doing, error) from error
            except BaseException:
                self._drop(use)
                raise

    @contextlib.contextmanager
    def _turn(self, use, doing, deadline):
        """Wait for another thread's call on the same connection, but not past the deadline."""
        lock = self._locks[use]
        if not lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
            error = TimeoutError("another thread's call took all the time there was")
            raise self.unavailable(doing, error)
        try:
            yield
        finally:
            lock.release()

    def _end(self, use, doing):
        try:
            self._connections[use][0].run("COMMIT")
        except FAILURES as error:
            self._drop(use)
            raise self.unavailable(doing, error) from error

    def _connected(self, use, deadline):
        if use in self._connections:
            connection, made = self._connections[use]
            made.deadline = deadline
            return connection
        host, port = self.url.hosts[0]
        made = _dialled(host, port or 5432, deadline)
        try:
            connection = pg8000.native.Connection(
                self.url.user,
                database=self.url.path.strip("/") or None,
                password=self.url.secret,
                sock=made,
                ssl_context=False,
                # The server ends what its client has given up, and a client that is paused in the
                # middle of a transaction keeps the group's lock from the others no longer than so.
                startup_params=dict.fromkeys(
                    ("statement_timeout", "idle_in_transaction_session_timeout"),
                    f"{self._limit * 1000:.0f}",
                ),
            )
        except BaseException:
            made.close()
            raise
        self._connections[use] = connection, made
        return connection

    def _drop(self, use):
        connection, made = self._connections.pop(use, (None, None))
        if connection is not None:
            # To say goodbye, which nobody answers, takes no time: it may, though none is left.
            made.deadline = time.monotonic() + 0.05
            with contextlib.suppress(*FAILURES):
                connection.close()
