"""``memcached://host``: processes of many hosts, on a cache. For testing, yet exclusive.

Memcached may drop any key at any time, and knows neither transactions nor fractions of a second.
What must hold nevertheless, and what keeps it:

* A member is one key: who holds the lease, until when, and the record. It changes by compare and
  swap alone, so every join, publish, heartbeat, leave and death is one point in its history.
  A swap that was delayed on its way fails, because the key has another number by then.
* A lease that ran out is marked as dead by a swap before anyone is told. Who looks on knows that it
  ran out after watching it unchanged for ``ttl`` on its own boot-time clock; who has just come,
  from the server's uptime, which counts whole seconds and is therefore given some in addition.
* The group is a list of members, under compare and swap too. Nobody takes a member's key away while
  it is in the list: a key that is missing was *forgotten*, whatever the reason, be it a restart, a
  flush, an eviction, or a page of memory moved. The list tells since when, by the server's uptime,
  nothing was; a missing list starts anew. :attr:`Reading.memory_age` is the time since.

This room knows one store, and nothing of rings, views or the hand-off.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import random
import secrets
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from hashring.clock import boottime
from hashring.driver import (
    Driver,
    DriverURL,
    Option,
    Reading,
    boolean,
    check_names,
    check_record,
    incarnation_of,
)
from hashring.errors import (
    BadURL,
    HashringError,
    LeaseLost,
    MemberExists,
    MissingDependency,
    StoreUnavailable,
    StoreUnusable,
)

from ._net import tell_limits, within_the_lease
from ._resolve import addresses

try:
    import pymemcache
    from pymemcache.exceptions import MemcacheClientError, MemcacheError, MemcacheServerError
except ImportError as error:
    raise MissingDependency("the memcached:// driver", "pymemcache", "memcached") from error

__all__ = ["MemcachedDriver"]

_Result = TypeVar("_Result")

_PORT = 11211
_PREFIX = "hashring"
_DAY = 86_400  # seconds after which a key that nobody renews may go
# Seconds for which the key of a dead lease stays after it was taken off its group's list: longer
# than a join that was delayed on its way can take to arrive, which the key then refuses.
_BURIED = 300
_DATE = 30 * _DAY  # memcached takes a longer time for a date, long past, and drops the key at once
_DRIFT = 1e-3  # by how much two clocks' rates may differ: twice what NTP slews at most
# Seconds by which the uptime that a driver reads may lag behind the server's time: one since it
# counts whole seconds, one since it ticks once a second, and two that _uptime does not notice.
_LAG = 4
_CONTENTION = 0.002  # seconds between two tries of a swap that another one beat


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError("must be a positive number of seconds")
    return value


class _Beaten(Exception):
    """Another swap came first: look again."""


class _Refused(Exception):
    """The server wants a user and password, and did not get the right ones."""


@dataclasses.dataclass(frozen=True)
class _Lease:
    """What stands in a member's key: a line of JSON, then the record."""

    token: str
    incarnation: str | None
    ttl: float
    until: int  # the server's uptime in seconds
    dead: bool
    record: bytes

    def encoded(self) -> bytes:
        # The random part: a restarted server gives out the same numbers again.
        beat = secrets.token_hex(4)
        head = [beat, self.token, self.incarnation, self.ttl, self.until, self.dead]
        return json.dumps(head).encode() + b"\n" + self.record

    @classmethod
    def decoded(cls, value: bytes) -> _Lease:
        head, _, record = value.partition(b"\n")
        _, token, incarnation, ttl, until, dead = json.loads(head)
        return cls(token, incarnation, ttl, until, dead, record)

    @property
    def keeps(self) -> int:
        """Seconds after which the server may drop the key where nobody renews it."""
        return _keeps(self.ttl)


@dataclasses.dataclass(frozen=True)
class _List:
    """What stands in a group's key."""

    since: int | None  # the server's uptime in seconds; None: the list is new and not stamped yet
    members: frozenset[str]

    def encoded(self) -> bytes:
        return json.dumps([self.since, sorted(self.members)]).encode()

    @classmethod
    def decoded(cls, value: bytes) -> _List:
        since, members = json.loads(value)
        return cls(since, frozenset(members))


@dataclasses.dataclass(frozen=True)
class _Sighting:
    """When this driver first saw a member's key as it is; its first line changes with each swap."""

    line: bytes
    at: float


@dataclasses.dataclass
class _Seen:
    """What this driver saw of a group."""

    sightings: dict[str, _Sighting] = dataclasses.field(default_factory=dict)
    version: bytes | None = None


class _Socket:
    """A socket whose every read and write ends at a deadline, however often it is called.

    pymemcache reads until it has an answer, and a timeout of the socket alone would begin anew with
    each byte that comes.

    Attributes:
        deadline: on the boot-time clock.
        patience: seconds to wait for the next bytes.
    """

    def __init__(self, made: socket.socket, deadline: float) -> None:
        self._made = made
        self.deadline = deadline
        self.patience = math.inf

    def recv(self, size: int) -> bytes:
        self._made.settimeout(min(_left(self.deadline), self.patience))
        return self._made.recv(size)

    def sendall(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:  # TLS has a timeout for each of its writes
            self._made.settimeout(_left(self.deadline))
            rest = rest[self._made.send(rest) :]

    def close(self) -> None:
        self._made.close()


class _Connection:
    """A connection for one operation, whose every wait ends at the operation's deadline."""

    def __init__(self, client: Any, deadline: float) -> None:
        self._client = client
        self.deadline = client.sock.deadline = deadline

    def get(self, keys: Iterable[str]) -> dict[str, tuple[bytes, bytes]]:
        """Return the values and numbers of the keys that there are."""
        return dict(self._client.gets_many(list(keys)))

    def uptime(self) -> int:
        """Return the server's uptime in whole seconds."""
        return int(self._client.stats()[b"uptime"])

    def add(self, key: str, value: bytes, keeps: int) -> None:
        """Store a key that is missing.

        Raises:
            _Beaten: it is there.
        """
        if not self._client.add(key, value, keeps):
            raise _Beaten

    def swap(self, key: str, value: bytes, number: bytes, keeps: int) -> None:
        """Replace a value that is still the one of this number.

        Raises:
            _Beaten: it is not.
        """
        if not self._client.cas(key, value, number, keeps):
            raise _Beaten

    def count(self, key: str) -> None:
        """Change a counter; where it is missing, start it at a number it never had."""
        client = self._client
        if client.incr(key, 1) is None:
            client.add(key, str(secrets.randbits(48)))

    def settings(self) -> dict[bytes, Any]:
        """Return how the server is set up."""
        return dict(self._client.stats("settings"))


class MemcachedDriver(Driver):
    """A group on one memcached.

    Example:
        >>> from hashring.driver import load
        >>> load("memcached://cache?heartbeat=5", ttl=4.0)
        Traceback (most recent call last):
        hashring.errors.BadURL: memcached://cache?heartbeat=5: the lease (ttl) of 4 s must be...
    """

    promise = "processes of many hosts, for testing; tells when it forgot anything"
    options = (
        Option("heartbeat", _seconds, None, "seconds between two heartbeats; default: ttl / 3"),
        Option("poll", _seconds, 0.025, "seconds between two looks of wait() at the version"),
        Option("tls", boolean, False, "speak TLS"),
        Option("ca", str, None, "file with the authorities that sign the server's certificate"),
        Option("cert", str, None, "file with our certificate, for a server that asks for one"),
        Option("key", str, None, "file with the key of our certificate"),
        Option("verify", boolean, True, "check the server's certificate and its name"),
    )

    def __init__(self, url: DriverURL, *, ttl: float) -> None:
        super().__init__(url, ttl=ttl)
        self.settings = within_the_lease(self)
        self._host = self._checked_host()
        self._check_ttl()
        self._lock = threading.Lock()
        self._context: ssl.SSLContext | None = None
        self._idle: list[Any] | None = None
        self._pid = os.getpid()
        self._closing = threading.Event()
        self._own: dict[tuple[str, str], tuple[str, str | None]] = {}
        self._seen: dict[str, _Seen] = {}
        self._wants_login = False
        # By how much the server's time is ahead of our clock, and when the most was learned.
        self._least, self._most, self._learned = -math.inf, math.inf, 0.0
        self._highest = 0  # the server's uptime in seconds

    def _checked_host(self) -> tuple[str, int] | str:
        url, settings = self.url, self.settings
        if len(url.hosts) > 1:
            raise BadURL(
                f"{url}: name one server: several would share the keys out, and lose them when "
                "one of them goes"
            )
        if (url.user is None) != (url.secret is None):
            raise BadURL(f"{url}: write both a user and a password, or neither")
        if (settings["ca"] or settings["cert"] or settings["key"]) and not settings["tls"]:
            raise BadURL(f"{url}: ca, cert and key are for TLS; add tls=true")
        path = url.path.rstrip("/")
        if path and (url.hosts or settings["tls"]):
            raise BadURL(f"{url}: write memcached://host:port, or memcached:///path/of/a/socket")
        if path:
            return path
        host, port = url.hosts[0] if url.hosts else ("localhost", None)
        return host, port or _PORT

    def _check_ttl(self) -> None:
        if _keeps(self.ttl) > _DATE:
            raise BadURL(
                f"{self.url}: the lease (ttl) of {self.ttl:g} s is too long: memcached keeps a key "
                f"for 30 days at most, which is enough for {(_DATE - _DAY) // 2} s"
            )
        heartbeat = self.settings["heartbeat"]
        if heartbeat is not None and self.ttl <= heartbeat:
            raise BadURL(
                f"{self.url}: the lease (ttl) of {self.ttl:g} s must be longer than the heartbeat "
                f"interval of {heartbeat:g} s"
            )

    # -- the life of a driver ------------------------------------------------------------------

    def open(self) -> None:
        """Connect, and check that the server can be a store.

        Raises:
            StoreUnusable: it refused the user or password, knows no compare and swap, or a TLS
                file is missing.
            StoreUnavailable: it did not answer, or not as memcached does.
        """
        with self._lock:
            if self._idle is not None:
                return
            tell_limits(self)
            self._context = self._new_context()
            self._idle = []
            self._closing.clear()
        try:
            self._check_server()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close all connections; a :meth:`wait` in another thread returns. Leases run on."""
        self._closing.set()
        with self._lock:
            idle, self._idle = self._idle, None
        for client in idle or []:
            client.close()

    def join(self, group: str, member: str, record: bytes) -> None:
        """See :meth:`hashring.driver.Driver.join`."""
        check_names(group, member)
        check_record(record)
        token, incarnation = self.token, incarnation_of(record)
        key = _member_key(group, member)
        was_missing = False

        def act(connection: _Connection) -> None:
            nonlocal was_missing
            uptime = self._uptime(connection)
            lease = _Lease(
                token, incarnation, self.ttl, self._until(uptime), dead=False, record=record
            )
            found = connection.get([key])
            if key not in found:
                was_missing = True  # in a further try, too, which finds the key of this one
                connection.add(key, lease.encoded(), lease.keeps)
            else:
                value, number = found[key]
                old = self._sight(group, member, value)
                mine = (old.token, old.incarnation) == (token, incarnation)
                if not (old.dead or mine or self._ran_out(group, member, old, uptime)):
                    raise MemberExists(
                        f"{self.url}: member {member!r} of group {group!r} is alive in another "
                        f"incarnation ({old.incarnation}); its lease runs for at most "
                        f"{old.ttl + _LAG:g} s more"
                    )
                connection.swap(key, lease.encoded(), number, lease.keeps)
            self._enlist(connection, group, member, was_missing=was_missing)
            connection.count(_version_key(group))

        self._run(f"join of {member!r}", act)
        with self._lock:
            self._own[group, member] = (token, incarnation)

    def publish(self, group: str, member: str, record: bytes) -> None:
        """See :meth:`hashring.driver.Driver.publish`."""
        check_names(group, member)
        check_record(record)
        owner = (self.token, incarnation_of(record))
        key = _member_key(group, member)

        def act(connection: _Connection) -> None:
            value, number = connection.get([key]).get(key, (None, b""))
            lease = self._ours(value, owner)
            if lease is None:
                raise LeaseLost(f"{self.url}: {member!r} has no lease of ours in group {group!r}")
            if lease.record != record:
                new = dataclasses.replace(lease, record=record)
                connection.swap(key, new.encoded(), number, new.keeps)
                connection.count(_version_key(group))

        self._run(f"publish of {member!r}", act)

    def heartbeat(self) -> None:
        """See :meth:`hashring.driver.Driver.heartbeat`."""
        with self._lock:
            self._clients()
            own = dict(self._own)
        gone = self._run("heartbeat", lambda connection: self._renew(connection, own))
        with self._lock:
            # What the other thread left or joined anew meanwhile is not lost.
            gone = [key for key in gone if self._own.get(key) is own[key]]
        if gone:
            names = ", ".join(f"{member!r} in group {group!r}" for group, member in gone)
            raise LeaseLost(f"{self.url}: the lease of {names} is gone")

    def read(self, group: str) -> Reading:
        """See :meth:`hashring.driver.Driver.read`."""
        check_names(group)
        reading, version = self._run("read", lambda connection: self._read(connection, group))
        self._seen_of(group).version = version
        return reading

    def wait(self, group: str, timeout: float) -> None:
        """See :meth:`hashring.driver.Driver.wait`. A lease that runs out is a change, too."""
        check_names(group)
        deadline = boottime() + timeout
        with self._lock:
            self._clients()
        seen = self._seen_of(group)
        key = _version_key(group)
        # Who watches often knows soon that a lease ran out, and late by no more than this.
        interval = min(0.5, self.ttl / 8)
        next_survey = boottime() + interval

        def look(connection: _Connection) -> bytes | None:
            if boottime() >= next_survey:
                return self._read(connection, group)[1]
            return connection.get([key]).get(key, (None, b""))[0]

        while not self._closing.is_set():
            try:
                version = self._run("wait", look)
            except StoreUnavailable:
                if self._closing.is_set():
                    return
                raise
            now = boottime()
            if version is None or version != seen.version or now >= deadline:
                return
            if now >= next_survey:
                next_survey = now + interval
            self._closing.wait(min(self.settings["poll"], deadline - now))

    def leave(self, group: str, member: str) -> None:
        """See :meth:`hashring.driver.Driver.leave`."""
        check_names(group, member)
        with self._lock:
            self._clients()
            self._own.pop((group, member), None)
        key = _member_key(group, member)

        def act(connection: _Connection) -> None:
            found = connection.get([key])
            if key not in found:
                return
            value, number = found[key]
            lease = _Lease.decoded(value)
            if lease.token != self.token:
                return
            if not lease.dead:
                self._kill(connection, group, member, lease, number)
            self._strike(connection, group, {member})

        self._run(f"leave of {member!r}", act)

    def _check_server(self) -> None:
        try:
            settings = self._run("connecting", lambda connection: connection.settings())
        except StoreUnavailable as error:
            if isinstance(error.__cause__, _Refused):
                why = self.url.hide(str(error.__cause__))
                raise StoreUnusable(f"{self.url}: {why}") from None
            raise
        if settings.get(b"cas_enabled") not in {b"yes", True}:
            raise StoreUnusable(
                f"{self.url}: the server runs without compare and swap: start it without -C"
            )

    # -- leases --------------------------------------------------------------------------------

    def _renew(
        self, connection: _Connection, own: dict[tuple[str, str], tuple[str, str | None]]
    ) -> list[tuple[str, str]]:
        """Renew leases, and return those that are gone."""
        if not own:
            return []
        # The uptime first: what is promised counts from the call's start.
        until = self._until(self._uptime(connection))
        gone = []
        left = dict(own)
        while left:
            found = connection.get([_member_key(*names) for names in left])
            for names, owner in list(left.items()):
                key = _member_key(*names)
                value, number = found.get(key, (None, b""))
                lease = self._ours(value, owner)
                if lease is None:
                    gone.append(names)
                    del left[names]
                    continue
                renewed = dataclasses.replace(lease, ttl=self.ttl, until=until)
                try:
                    connection.swap(key, renewed.encoded(), number, renewed.keeps)
                    del left[names]
                except _Beaten:
                    _pause()
        return gone + self._unlisted(connection, own.keys() - set(gone))

    def _unlisted(
        self, connection: _Connection, names: set[tuple[str, str]]
    ) -> list[tuple[str, str]]:
        """Return the members that no reading shows, since their group's list was forgotten.

        The list comes after the leases: who lost it before this look is told now, and whoever
        reads after a later loss finds a young memory.
        """
        keys = {_list_key(group) for group, _ in names}
        found = connection.get(keys) if keys else {}
        listed = {key: _List.decoded(value).members for key, (value, _) in found.items()}
        return [
            (group, member)
            for group, member in names
            if member not in listed.get(_list_key(group), ())
        ]

    def _ours(self, value: bytes | None, owner: tuple[str, str | None]) -> _Lease | None:
        """Return the lease in a member's key if it is ours, and not dead."""
        if value is None or self.token != owner[0]:
            return None
        lease = _Lease.decoded(value)
        ours = not lease.dead and (lease.token, lease.incarnation) == owner
        return lease if ours else None

    def _until(self, uptime: int) -> int:
        return uptime + math.ceil(self.ttl) + _LAG

    def _sight(self, group: str, member: str, value: bytes) -> _Lease:
        """Return a lease, and note since when it stands as it does."""
        line = value.partition(b"\n")[0]
        sightings = self._seen_of(group).sightings
        old = sightings.get(member)
        if old is None or old.line != line:
            sightings[member] = _Sighting(line, boottime())
        return _Lease.decoded(value)

    def _ran_out(self, group: str, member: str, lease: _Lease, uptime: int) -> bool:
        sighting = self._seen_of(group).sightings.get(member)
        watched = 0.0 if sighting is None else boottime() - sighting.at
        return watched >= lease.ttl * (1 + _DRIFT) or uptime >= lease.until

    def _kill(
        self, connection: _Connection, group: str, member: str, lease: _Lease, number: bytes
    ) -> None:
        """Mark a lease as dead: from now on no heartbeat revives it."""
        dead = dataclasses.replace(lease, dead=True, record=b"")
        connection.swap(_member_key(group, member), dead.encoded(), number, dead.keeps)
        connection.count(_version_key(group))

    # -- the group -----------------------------------------------------------------------------

    def _read(self, connection: _Connection, group: str) -> tuple[Reading, bytes | None]:
        """Return what is alive, and the version before it was read.

        Keys are read one after the other, which is enough: whoever joins meanwhile holds nothing
        yet, and whoever published something since was read either before or after. The age of the
        memory goes by an uptime from before the list, so that it is no newer than what it judges;
        the end of a lease by one from after it.
        """
        seen = self._seen_of(group)
        list_key, version_key = _list_key(group), _version_key(group)
        began = self._uptime(connection)
        found = connection.get([version_key, list_key])
        version = found.get(version_key, (None, b""))[0]
        if list_key not in found:
            self._begin(connection, group)
            raise _Beaten
        listed = _List.decoded(found[list_key][0])
        keys = {_member_key(group, member): member for member in listed.members}
        values = connection.get(keys) if keys else {}
        leases = {
            keys[key]: (self._sight(group, keys[key], value), number)
            for key, (value, number) in values.items()
        }
        for member in list(seen.sightings):
            if member not in leases:
                seen.sightings.pop(member, None)
        uptime = self._uptime(connection)
        forgotten = listed.members - leases.keys()
        # A stamp is rounded up, but one that is far ahead is of a server before this one.
        if forgotten or listed.since is None or uptime < listed.since - 2 * _LAG:
            fresh = _List(self._stamp(connection), listed.members - forgotten)
            connection.swap(list_key, fresh.encoded(), found[list_key][1], 0)
            connection.count(version_key)
            raise _Beaten
        late = False
        for member, (lease, number) in leases.items():
            if not lease.dead and self._ran_out(group, member, lease, uptime):
                late = True
                with contextlib.suppress(_Beaten):
                    self._kill(connection, group, member, lease, number)
        if late:
            raise _Beaten
        dead = {member for member, (lease, _) in leases.items() if lease.dead}
        if dead:
            self._strike(connection, group, dead)
            raise _Beaten
        if version is None:
            connection.count(version_key)
            raise _Beaten
        records = {member: lease.record for member, (lease, _) in leases.items()}
        return Reading(records, max(0.0, began - listed.since)), version

    def _begin(self, connection: _Connection, group: str) -> None:
        """Make the list of a group that has none: it is new, or was forgotten."""
        # Stamped once it is there: what is forgotten until then must not count as remembered.
        connection.add(_list_key(group), _List(None, frozenset()).encoded(), 0)
        connection.count(_version_key(group))

    def _enlist(
        self, connection: _Connection, group: str, member: str, *, was_missing: bool
    ) -> None:
        """Put a member into the list, after its lease.

        The list is written even where it has the member already, so that nobody who saw the dead
        lease before strikes the new one.
        """
        key = _list_key(group)
        while True:
            found = connection.get([key])
            try:
                if key not in found:
                    self._begin(connection, group)
                    continue
                value, number = found[key]
                listed = _List.decoded(value)
                forgotten = was_missing and member in listed.members
                since = None if forgotten else listed.since
                fresh = _List(since, listed.members | {member})
                connection.swap(key, fresh.encoded(), number, 0)
            except _Beaten:
                _pause()
            else:
                return

    def _strike(self, connection: _Connection, group: str, dead: set[str]) -> None:
        """Take members whose lease was marked as dead off the list."""
        key = _list_key(group)
        while True:
            # The list before the leases: see _enlist.
            found = connection.get([key])
            if key not in found:
                return
            value, number = found[key]
            listed = _List.decoded(value)
            candidates = {_member_key(group, member): member for member in dead & listed.members}
            if not candidates:
                return
            leases = connection.get(candidates)
            still = {
                member
                for name, member in candidates.items()
                if name in leases and _Lease.decoded(leases[name][0]).dead
            }
            if not still:
                return
            fresh = _List(listed.since, listed.members - still)
            try:
                connection.swap(key, fresh.encoded(), number, 0)
            except _Beaten:
                _pause()
            else:
                connection.count(_version_key(group))
                self._bury(connection, group, still, leases)
                return

    def _bury(
        self,
        connection: _Connection,
        group: str,
        struck: set[str],
        leases: dict[str, tuple[bytes, bytes]],
    ) -> None:
        """Let the keys of members that were struck off go soon, and not in a day only.

        Members come and go under new ids. A key that is on no list may be missing.
        """
        for member in struck:
            key = _member_key(group, member)
            value, number = leases[key]
            keeps = _BURIED + 2 * math.ceil(_Lease.decoded(value).ttl)
            with contextlib.suppress(_Beaten):  # by one that joins under this id again
                connection.swap(key, value, number, keeps)

    def _seen_of(self, group: str) -> _Seen:
        with self._lock:
            return self._seen.setdefault(group, _Seen())

    # -- the server's time ---------------------------------------------------------------------

    def _uptime(self, connection: _Connection) -> int:
        """Return the server's uptime, and not one from before it was paused.

        The server ticks once a second, and one that was paused for longer answers with its old
        time until its next tick: a lease that counted from there would end early. That it lags
        shows against our own clock; then the next tick is awaited. An uptime that fell is of
        another server: what was learned of the one before would only have each call wait.
        """
        with self._lock:
            before = self._highest
        began = boottime()
        uptime = connection.uptime()
        with self._lock:
            if uptime < before:
                self._least, self._most, self._highest = -math.inf, math.inf, uptime
            self._highest = max(self._highest, uptime)
            if uptime > self._most + boottime():
                self._most = math.inf  # our own clock lost time: look anew
            if uptime >= self._least + began - 2:
                self._least = max(self._least, uptime - boottime())
                return uptime
        return self._ticked(connection, uptime, began)

    def _ticked(self, connection: _Connection, first: int, began: float) -> int:
        """Await a tick, and learn from it how far the server's time is ahead of ours."""
        while (uptime := connection.uptime()) == first:
            time.sleep(0.02)
            began = boottime()
        now = boottime()
        with self._lock:
            # Between these two, the server's time passed from before `uptime` into its second.
            self._least, self._most, self._learned = uptime - now, uptime + 1 - began, now
        return uptime

    def _stamp(self, connection: _Connection) -> int:
        """Return an uptime that is not before the call: the server's time, rounded up."""
        began = boottime()
        uptime = self._uptime(connection)
        if math.isinf(self._most) or began > self._learned + 60:
            if connection.deadline - boottime() < 1.2:
                # There may be no time for a tick. Later than true only makes others wait.
                return uptime + _LAG
            self._ticked(connection, uptime, began)
        now = boottime()
        return math.ceil(self._most + now + _DRIFT * (now - self._learned))

    # -- connections ---------------------------------------------------------------------------

    def _run(self, doing: str, act: Callable[[_Connection], _Result]) -> _Result:
        """Run an operation, again where it was beaten or cut off, until it is done or too late.

        Every operation may run twice: the second run finds what the first one did.
        """
        deadline = boottime() + self.settings["timeout"]
        failures = 0
        while True:
            try:
                return self._attempt(act, deadline, first=failures == 0)
            except _Beaten:
                if boottime() >= deadline:
                    late = TimeoutError("others changed the group all the time")
                    raise self.unavailable(doing, late) from None
                _pause()
            except HashringError:
                raise
            except (_Refused, MemcacheError, OSError, ValueError, TypeError, KeyError) as error:
                # The last three are an answer, or a value, that is not of memcached or of ours.
                passing = isinstance(error, OSError | MemcacheServerError)
                passing = passing and not isinstance(error, ssl.SSLCertVerificationError)
                pause = min(self.settings["backoff"] * 2.0**failures, self.settings["backoff_max"])
                pause *= 1 - self.settings["jitter"] * random.random()  # noqa: S311
                late = boottime() + pause >= deadline
                if not passing or late or failures >= self.settings["retries"]:
                    raise self.unavailable(doing, error) from error
                failures += 1
                self._closing.wait(pause)

    def _attempt(
        self, act: Callable[[_Connection], _Result], deadline: float, *, first: bool
    ) -> _Result:
        with self._lock:
            idle = self._clients()
            if not first:
                # Where one connection broke, those that were idle with it will have, too.
                while idle:
                    idle.pop().close()
            client = idle.pop() if idle else None
        if client is None:
            client = self._connected(deadline)
        elif self.settings["retries"]:
            # It may have fallen silent since it was used; then a new one gets the rest of the time.
            client.sock.patience = self.settings["timeout"] / 3
        try:
            result = act(_Connection(client, deadline))
        except (_Beaten, LeaseLost, MemberExists):
            self._release(client)
            raise
        except BaseException:
            client.close()
            raise
        self._release(client)
        return result

    def _clients(self) -> list[Any]:
        if self._idle is None:
            raise StoreUnavailable(f"{self.url} is not open: call open() first")
        if self._pid != os.getpid():
            # A parent's connections: the two would read each other's answers.
            self._idle, self._pid = [], os.getpid()
        return self._idle

    def _release(self, client: Any) -> None:
        with self._lock:
            if self._idle is not None and len(self._idle) < 4:
                client.sock.patience = math.inf
                self._idle.append(client)
                return
        client.close()

    def _connected(self, deadline: float) -> Any:
        client = self._client(deadline)
        try:
            if not self._wants_login:
                # A server that wants no password would store it: ask first.
                try:
                    client.get(_PREFIX)
                except MemcacheClientError as error:
                    if "unauthenticated" not in str(error):
                        raise
                    self._wants_login = True
                    client = self._client(deadline)
            if self._wants_login:
                self._log_in(client)
        except BaseException:
            client.close()
            raise
        return client

    def _log_in(self, client: Any) -> None:
        if self.url.secret is None:
            raise _Refused("the server wants a user and password, and the URL has none")
        try:
            client.set("login", f"{self.url.user} {self.url.secret}")
        except MemcacheClientError:
            raise _Refused("the server refused the user or password") from None

    def _client(self, deadline: float) -> Any:
        within = min(self.settings["connect_timeout"], deadline - boottime())
        until = boottime() + within
        # pymemcache's own way to connect tries but one of a host's addresses.
        if isinstance(self._host, str):
            made = _dialled((socket.AF_UNIX, socket.SOCK_STREAM, 0, "", self._host), _left(until))
        else:
            made = self._first(addresses(self._host, until), until)
        try:
            made.settimeout(_left(until))
            if not isinstance(self._host, str):
                made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if self._context is not None:
                    made = self._context.wrap_socket(made, server_hostname=self._host[0])
        except BaseException:
            made.close()
            raise
        client = pymemcache.Client(self._host, default_noreply=False)
        client.sock = _Socket(made, until)
        return client

    @staticmethod
    def _first(found: list[Any], deadline: float) -> socket.socket:
        """Connect to the first of a host's addresses that lets us; they share the time there is."""
        for index, address in enumerate(found):
            try:
                return _dialled(address, _left(deadline) / (len(found) - index))
            except OSError:
                if index == len(found) - 1:
                    raise
        raise OSError("the host has no address")

    def _new_context(self) -> ssl.SSLContext | None:
        settings = self.settings
        if not settings["tls"]:
            return None
        for option in ("ca", "cert", "key"):
            path = settings[option]
            if path is not None and not Path(path).is_file():
                raise StoreUnusable(f"{self.url}: there is no file {path}, given as {option}")
        try:
            context = ssl.create_default_context(cafile=settings["ca"])
            if settings["cert"] is not None:
                context.load_cert_chain(settings["cert"], settings["key"])
        except OSError as error:
            raise StoreUnusable(f"{self.url}: the files for TLS are not usable: {error}") from error
        if not settings["verify"]:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def _left(deadline: float) -> float:
    left = deadline - boottime()
    if left <= 0:
        raise TimeoutError("the time for the call is over")
    return left


def _dialled(address: tuple[Any, ...], within: float) -> socket.socket:
    family, kind, protocol, _, where = address
    made = socket.socket(family, kind, protocol)
    try:
        made.settimeout(within)
        made.connect(where)
    except BaseException:
        made.close()
        raise
    return made


def _keeps(ttl: float) -> int:
    return _DAY + 2 * math.ceil(ttl)


def _pause() -> None:
    time.sleep(_CONTENTION * random.random())  # noqa: S311


def _legal(name: str) -> str:
    """Return what stands for an id in a key: itself where it can, else a hash.

    Keys have at most 250 bytes, without spaces and control characters.
    """
    quoted = quote(name, safe="")
    return quoted if len(quoted) <= 80 else f"#{hashlib.sha256(name.encode()).hexdigest()}"


def _list_key(group: str) -> str:
    return f"{_PREFIX}:{_legal(group)}"


def _version_key(group: str) -> str:
    return f"{_PREFIX}:{_legal(group)}:version"


def _member_key(group: str, member: str) -> str:
    return f"{_PREFIX}:{_legal(group)}:member:{_legal(member)}"
