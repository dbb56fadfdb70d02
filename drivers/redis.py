"""``redis://``, ``rediss://``, ``redis+unix://``, ``redis+cluster://``: processes of many hosts.

Redis and Valkey, alone, under Sentinel or in a Cluster. What must hold, and what keeps it:

* Every operation is one Lua script on the server's own ``TIME`` (``_redis_script``).
* Writes carry this driver's sequence number, and the script refuses one older than the last it
  applied: what was cut off on its way never lands after a later write was confirmed.
* Redis forgets: all in a restart without persistence, the last writes in a restart with it or in
  a failover, anything in an eviction or a flush. The script keeps the server's identity (run id
  and replication id) and the time at which it was first seen, and :attr:`Reading.memory_age` is
  the time since. The memory starts anew with each identity, and when part of a group is missing.
* A record that the server lost although it had confirmed it is written again before a heartbeat
  is confirmed: the group never judges by an older record for longer than the memory is young.
* A primary that was replaced may not know it. Joins, publishes and heartbeats count only when
  someone else vouches for the server afterwards (``_redis_nodes``).
* A server whose clock stepped forward would end leases early. Each driver compares the server's
  time with its own boot-time clock (``_redis_clock``), and makes the memory young where they part.
  Where the step ended all leases before such a driver called, the script itself makes it young.
* An older copy of the group may be put back under a running server. Each call names the history
  that its driver knows, and the script compares; each driver compares its own leases' ends.

This module knows one store, and nothing of rings, views or the hand-off.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
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
    LeaseLost,
    MemberExists,
    MissingDependency,
    StoreUnavailable,
    StoreUnusable,
)

try:
    import redis
except ImportError as error:
    raise MissingDependency("the redis:// driver", "redis", "redis") from error

from ._net import tell_limits, within_the_lease
from ._redis_clock import ServerClock
from ._redis_nodes import (
    Address,
    ClusterRoute,
    Deadline,
    Link,
    Node,
    NotVouched,
    PlainRoute,
    Route,
    SentinelRoute,
    link,
)
from ._redis_script import PARTS, SCRIPT, SHA1

__all__ = ["RedisDriver"]

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")

_OLDEST = (5, 0)  # the first whose scripts may write after they have asked for the time
_TESTED = (6, 2)
_PORT, _SENTINEL_PORT = 6379, 26379
_REDIRECTIONS = 5
_LEAST = 0.25  # seconds for a call that waits for news, where its wait has less left
_JOINS = 5  # tries of a join that learns each time that the group has a newer history
_SILENCE = 60.0  # seconds between two warnings about one server's clock

# What passes by itself, or by asking another server.
_PASSING = (
    redis.ConnectionError,
    redis.TimeoutError,
    redis.ReadOnlyError,
    redis.exceptions.MasterDownError,
    redis.exceptions.ClusterDownError,
    redis.exceptions.TryAgainError,
    redis.exceptions.AskError,
    NotVouched,
    OSError,
)


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError("must be a positive number of seconds")
    return value


def _replicas(text: str) -> int | None:
    if text == "auto":
        return None
    if not (text.isascii() and text.isdigit()):
        raise ValueError("must be auto or a number, 0 for none")
    return int(text)


def _addresses(text: str) -> tuple[Address, ...]:
    found = []
    for part in text.split(","):
        host, colon, port = part.rpartition(":")
        if not (host and colon and port.isascii() and port.isdigit()):
            raise ValueError("must be host:port, several with commas between")
        found.append((host.strip("[]"), int(port)))
    return tuple(found)


def _database(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError("must be the number of a database")
    return int(text)


def _namespace(text: str) -> str:
    if not re.fullmatch(r"[\w.:/-]+", text, re.ASCII):
        raise ValueError("must be letters, digits and ._:/-")
    return text


@dataclasses.dataclass
class _Own:
    """A lease of this driver, and the last record that the store has confirmed."""

    token: str
    incarnation: str
    sequence: int
    record: bytes
    ends: int = 0  # by the server's clock, in microseconds: what it confirmed last


@dataclasses.dataclass
class _Reply:
    """What the script answers to every operation."""

    node: Node
    status: str
    epoch: bytes
    version: int
    now: int
    since: int
    online: int
    most: int
    ends: int
    mark: bytes
    back: int
    own: list[int]
    rest: list[Any]
    began: float
    ended: float


@dataclasses.dataclass(frozen=True)
class _Known:
    """The history of a group that this driver knows: a version of an epoch, and its mark."""

    epoch: bytes = b""
    version: int = -1
    mark: bytes = b""
    at: float = 0.0  # on our clock, when it was asked for


class _Group:
    """What this driver knows of a group; ``lock`` keeps its readers apart."""

    def __init__(self, namespace: str, group: str) -> None:
        tag = quote(group, safe="")
        self.keys = [f"{namespace}:{{{tag}}}:{part}".encode() for part in PARTS]
        self.lock = threading.Lock()
        self.epoch = b""
        self.version = -1
        self.records: dict[str, bytes] = {}
        self.ends = 0.0  # on our clock, the earliest time at which a lease may run out
        self.known = _Known()
        self.clock: tuple[bytes, ServerClock] | None = None  # of the server of that epoch
        self.doubtful = False  # a lease may have ended early, and the store was not told yet
        self.waiting = threading.Lock()
        self.subscription: _Subscription | None = None

    @property
    def key(self) -> bytes:
        """The key that stands for the group's hash slot, and names its channel."""
        return self.keys[0]


class _Subscription:
    """A connection that hears of a group's changes."""

    def __init__(self, node: Node, channel: bytes, deadline: Deadline) -> None:
        self.node = node
        self.last = -1  # the version in the last message
        self.owed = -1  # one that must have been announced by now
        self._link: Link = node.connect(deadline)
        try:
            self._link.send_command("SUBSCRIBE", channel)
            self._link.read_response()
        except BaseException:
            self._link.disconnect()
            raise

    def heard(self, seconds: float) -> int | None:
        """Return the version in the next message, or ``None`` where none comes in time."""
        self._link.bound(seconds + 1.0, 1.0)
        if not self._link.can_read(seconds):
            return None
        self._link.bound(1.0, 1.0)  # the rest of a message that has begun to arrive
        self.last = int(self._link.read_response()[2])
        return self.last

    def fell_silent(self) -> bool:
        """Return whether the message for a version that is long read never came."""
        while self.last < self.owed:
            if self.heard(0.0) is None:
                return True
        return False

    def wake(self) -> None:
        """Let a :meth:`heard` in another thread fail at once."""
        self._link.wake()

    def close(self) -> None:
        self._link.disconnect()


class RedisDriver(Driver):
    """A group on a Redis or Valkey server.

    The URL's hosts are one server; the Sentinels, where the option ``sentinel`` names the primary
    that they watch; or some nodes of a cluster, with ``redis+cluster://``. The path is the number
    of the database, or with ``redis+unix://`` the socket.

    Example:
        >>> from hashring.driver import load
        >>> load("redis://app:secret@one:26379,two?sentinel=group", ttl=10.0).url
        DriverURL('redis://app:***@one:26379,two?sentinel=group')
    """

    promise = "processes of many hosts; tells when it forgot: in a restart, a failover, an eviction"
    options = (
        Option("namespace", _namespace, "hashring", "what every key's name begins with"),
        Option("poll", _seconds, 1.0, "seconds after which wait() asks, should a message be lost"),
        Option("replicas", _replicas, None, "replicas that confirm a write: auto, or how many"),
        Option("db", _database, None, "the number of the database, instead of the path"),
        Option("ca", str, None, "file with the authorities that sign the server's certificate"),
        Option("cert", str, None, "file with our certificate, for a server that asks for one"),
        Option("key", str, None, "file with the key of our certificate"),
        Option("verify", boolean, True, "check the server's certificate and its name"),
        Option("sentinel", str, None, "the Sentinels' name of the primary; hosts are Sentinels"),
        Option("sentinel_fallback", _addresses, (), "further Sentinels, as tooz spells them"),
        Option("sentinel_username", str, None, "user for the Sentinels"),
        Option("sentinel_password", str, None, "password for the Sentinels", secret=True),
        Option("sentinel_ssl", boolean, None, "TLS to the Sentinels; default: as to the servers"),
        Option("ssl", boolean, None, "TLS, as tooz spells rediss://"),
        Option("ssl_ca_certs", str, None, "tooz's spelling of ca"),
        Option("ssl_certfile", str, None, "tooz's spelling of cert"),
        Option("ssl_keyfile", str, None, "tooz's spelling of key"),
    )

    def __init__(self, url: DriverURL, *, ttl: float) -> None:
        super().__init__(url, ttl=ttl)
        self.settings = within_the_lease(self)
        self._connections, self._tls = self._connection_options()
        self._hosts = self._checked_hosts()
        self._route: Route | None = None
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._groups: dict[str, _Group] = {}
        self._own: dict[tuple[str, str], _Own] = {}
        self._sequence = 0
        self._warned = -math.inf  # when its clock was last complained of

    # -- the URL -------------------------------------------------------------------------------

    def _connection_options(self) -> tuple[dict[str, Any], bool]:
        url, settings = self.url, self.settings
        base, _, kind = url.scheme.partition("+")
        if kind not in {"", "unix", "cluster"}:
            raise BadURL(f"{url}: {base}+{kind}:// is unknown; there are +unix and +cluster")
        tls = base in {"rediss", "valkeys"} if settings["ssl"] is None else settings["ssl"]
        options: dict[str, Any] = {
            "db": self._number_of_database(kind),
            "username": url.user,
            "password": url.secret,
        }
        if tls and kind == "unix":
            raise BadURL(f"{url}: there is no TLS on a unix socket; write redis+unix://")
        if tls:
            options |= self._tls_options()
        elif settings["ca"] or settings["cert"] or settings["key"]:
            raise BadURL(f"{url}: ca, cert and key are for TLS; write rediss://")
        return options, tls

    def _tls_options(self) -> dict[str, Any]:
        settings = self.settings
        return {
            "ssl_ca_certs": settings["ca"] or settings["ssl_ca_certs"],
            "ssl_certfile": settings["cert"] or settings["ssl_certfile"],
            "ssl_keyfile": settings["key"] or settings["ssl_keyfile"],
            "ssl_cert_reqs": "required" if settings["verify"] else "none",
            "ssl_check_hostname": settings["verify"],
        }

    def _number_of_database(self, kind: str) -> int:
        path, database = self.url.path.strip("/"), self.settings["db"]
        if kind != "unix" and path:
            if not (path.isascii() and path.isdigit()):
                raise BadURL(f"{self.url}: the path must be the number of a database, as in /0")
            if database not in {None, int(path)}:
                raise BadURL(f"{self.url}: the path and db= name two databases")
            database = int(path)
        if kind == "cluster" and database:
            raise BadURL(f"{self.url}: a cluster has the database 0 alone")
        return database or 0

    def _checked_hosts(self) -> list[Address]:
        url, settings = self.url, self.settings
        kind = url.scheme.partition("+")[2]
        if kind == "unix":
            if url.hosts or not url.path.strip("/"):
                raise BadURL(f"{url}: name the socket: redis+unix:///run/redis/redis.sock")
            return [(url.path, 0)]
        sentinel = settings["sentinel"]
        if sentinel is not None and kind == "cluster":
            raise BadURL(f"{url}: a cluster has no Sentinels")
        if sentinel is None and settings["sentinel_fallback"]:
            raise BadURL(f"{url}: sentinel_fallback needs sentinel=, the name of the primary")
        default = _PORT if sentinel is None else _SENTINEL_PORT
        hosts = [(host, port or default) for host, port in url.hosts or (("localhost", None),)]
        hosts += settings["sentinel_fallback"]
        if len(hosts) > 1 and sentinel is None and kind != "cluster":
            raise BadURL(
                f"{url}: several hosts are Sentinels, then add sentinel=NAME, "
                "or nodes of a cluster, then write redis+cluster://"
            )
        return hosts

    # -- the life of a driver ------------------------------------------------------------------

    def open(self) -> None:
        """Connect, and check that the server can be a store.

        Raises:
            StoreUnusable: it refused the user or password, is too old, or a TLS file is missing.
            StoreUnavailable: it did not answer, or not as Redis does.
        """
        with self._lock:
            if self._route is not None:
                return
            tell_limits(self)
            self._check_files()
            self._route = self._new_route()
        try:
            self._check_server()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close all connections; a :meth:`wait` in another thread returns. Leases run on."""
        with self._lock:
            route, self._route = self._route, None
            groups = list(self._groups.values())
        for state in groups:
            subscription = state.subscription
            if subscription is not None:
                subscription.wake()
            # Whoever waits lets go now, and the connection is ours to close.
            with state.waiting:
                self._unsubscribe(state)
        if route is not None:
            route.close()

    def join(self, group: str, member: str, record: bytes) -> None:
        """See :meth:`hashring.driver.Driver.join`."""
        check_names(group, member)
        check_record(record)
        token, incarnation = self.token, _spelled(incarnation_of(record))
        deadline = self._deadline()
        with self._writes(deadline):
            sequence = self._next()
            for _ in range(_JOINS):
                reply = self._call(
                    f"join of {member!r}",
                    group,
                    "join",
                    *(token, sequence, member, incarnation, record),
                    vouched=True,
                    deadline=deadline,
                )
                if reply.status != "stale":
                    break
                # It knew too little of the group. That answer told the rest.
            if reply.status == "exists":
                other, left = reply.rest
                raise MemberExists(
                    f"{self.url}: member {member!r} of group {group!r} is alive in another "
                    f"incarnation ({other[1:].decode()}); its lease runs for "
                    f"{left / 1e6:.1f} s more"
                )
            if reply.status != "ok":
                raise StoreUnavailable(
                    f"{self.url}: the join of {member!r} was overtaken by other writes: try again"
                )
            ends = reply.now + int(self.ttl * 1e6)
            with self._lock:
                self._own[group, member] = _Own(token, incarnation, sequence, record, ends)

    def publish(self, group: str, member: str, record: bytes) -> None:
        """See :meth:`hashring.driver.Driver.publish`."""
        check_names(group, member)
        check_record(record)
        deadline = self._deadline()
        with self._writes(deadline):
            self._publish(group, member, _spelled(incarnation_of(record)), record, deadline)

    def heartbeat(self) -> None:
        """See :meth:`hashring.driver.Driver.heartbeat`.

        A record that the store has lost, though it had confirmed it, is written again first.
        """
        self._opened()
        lost = self._renew(self._deadline())
        if lost:
            names = ", ".join(f"{member!r} in group {group!r}" for group, member in lost)
            raise LeaseLost(f"{self.url}: the lease of {names} is gone")

    def read(self, group: str) -> Reading:
        """See :meth:`hashring.driver.Driver.read`.

        The server sends what changed since the last reading, or everything where the two do not
        share a history; the result is the group as it is in the store now.
        """
        check_names(group)
        state = self._group(group)
        with state.lock:
            while True:
                reply = self._call("read", group, "read", state.epoch, state.version)
                size, flat = reply.rest
                if reply.status == "all":
                    state.records = {}
                for member, record in zip(flat[::2], flat[1::2], strict=True):
                    if record is None:
                        state.records.pop(member.decode(), None)
                    elif member:
                        state.records[member.decode()] = record
                state.epoch, state.version = reply.epoch, reply.version
                if len(state.records) == size:
                    break
                if reply.status == "all":
                    raise StoreUnavailable(
                        f"{self.url}: the keys of group {group!r} contradict each other: another "
                        "program writes them"
                    )
                state.epoch = b""
            state.ends = _on_our_clock(reply)
            age = max(0, reply.now - reply.since) / 1e6
            return Reading(dict(state.records), age)

    def wait(self, group: str, timeout: float) -> None:
        """See :meth:`hashring.driver.Driver.wait`. A lease that runs out is a change, too."""
        check_names(group)
        self._opened()
        state = self._group(group)
        deadline = boottime() + timeout
        if not state.waiting.acquire(timeout=max(0.0, timeout)):
            return
        try:
            self._wait(group, state, deadline)
        except StoreUnavailable:
            # It was neither close() that cut us off, nor the end of the time.
            if self._route is not None and boottime() < deadline:
                raise
        finally:
            state.waiting.release()

    def leave(self, group: str, member: str) -> None:
        """See :meth:`hashring.driver.Driver.leave`."""
        check_names(group, member)
        self._opened()
        with self._lock:
            self._own.pop((group, member), None)
        deadline = self._deadline()
        with self._writes(deadline):
            doing, sequence = f"leave of {member!r}", self._next()
            self._call(doing, group, "leave", self.token, sequence, member, deadline=deadline)

    # -- writes --------------------------------------------------------------------------------

    def _deadline(self) -> Deadline:
        return Deadline(self.settings["timeout"])

    @contextlib.contextmanager
    def _writes(self, deadline: Deadline) -> Iterator[None]:
        """Keep this driver's writes in the order of their numbers."""
        try:
            taken = self._writing.acquire(timeout=deadline.left())
        except redis.TimeoutError:
            taken = False
        if not taken:
            raise StoreUnavailable(f"{self.url}: an earlier write took all the time there was")
        try:
            yield
        finally:
            self._writing.release()

    def _next(self) -> int:
        self._sequence += 1
        return self._sequence

    def _publish(
        self, group: str, member: str, incarnation: str, record: bytes, deadline: Deadline
    ) -> None:
        token, sequence = self.token, self._next()
        reply = self._call(
            f"publish of {member!r}",
            group,
            "publish",
            *(token, sequence, member, incarnation, record),
            vouched=True,
            deadline=deadline,
        )
        if reply.status != "ok":
            raise LeaseLost(f"{self.url}: {member!r} has no lease of ours in group {group!r}")
        with self._lock:
            if (before := self._own.get((group, member))) is not None:
                ends = before.ends  # not renewed by this
                self._own[group, member] = _Own(token, incarnation, sequence, record, ends)

    def _renew(self, deadline: Deadline) -> list[tuple[str, str]]:
        with self._lock:
            own = dict(self._own)
        lost = []
        for group in sorted({group for group, _ in own}):
            members = {member: lease for (of, member), lease in own.items() if of == group}
            gone, behind = self._renew_group(group, members, deadline)
            if behind:
                for member in behind:
                    self._restore(group, member, deadline)
                gone, behind = self._renew_group(group, members, deadline)
            lost += [(group, member) for member in gone]
        with self._lock:
            # What the other thread left or joined anew meanwhile is not lost.
            return [key for key in lost if self._same_lease(self._own.get(key), own[key])]

    @staticmethod
    def _same_lease(now: _Own | None, then: _Own) -> bool:
        return now is not None and (now.token, now.incarnation) == (then.token, then.incarnation)

    def _renew_group(
        self, group: str, members: dict[str, _Own], deadline: Deadline
    ) -> tuple[list[str], list[str]]:
        arguments: list[Any] = []
        for member, lease in members.items():
            arguments += [member, lease.incarnation, lease.sequence]
        arguments = [self.token, *arguments]
        reply = self._call(
            "heartbeat", group, "heartbeat", *arguments, vouched=True, deadline=deadline
        )
        lost, behind = ([name.decode() for name in names] for names in reply.rest)
        with self._lock:
            for member, lease in members.items():
                now = self._own.get((group, member))
                if member not in lost and now is not None and self._same_lease(now, lease):
                    now.ends = max(now.ends, reply.now + int(self.ttl * 1e6))
        return lost, behind

    def _restore(self, group: str, member: str, deadline: Deadline) -> None:
        with self._writes(deadline):
            with self._lock:
                lease = self._own.get((group, member))
            if lease is not None:
                self._publish(group, member, lease.incarnation, lease.record, deadline)

    # -- waiting -------------------------------------------------------------------------------

    def _wait(self, group: str, state: _Group, deadline: float) -> None:
        poll = self.settings["poll"]
        next_look = boottime() + poll
        next_subscribe = 0.0
        if self._announced(state):
            return
        listening = state.subscription is not None
        while self._route is not None:
            now = boottime()
            if now >= deadline or not state.epoch:
                return
            if state.subscription is None and now >= next_subscribe:
                next_subscribe = now + poll
                if self._subscribe(state, self._within(deadline)):
                    next_look = now  # what was said before we listened
            if now >= min(next_look, state.ends):
                reply = self._call("wait", group, "look", deadline=self._within(deadline))
                if (reply.epoch, reply.version) != (state.epoch, state.version):
                    if listening and state.subscription is not None:
                        if reply.epoch == state.epoch:
                            state.subscription.owed = reply.version
                        else:
                            self._unsubscribe(state)
                    return
                listening = state.subscription is not None
                state.ends = _on_our_clock(reply)
                next_look = boottime() + poll
                if state.subscription is not None and reply.node is not state.subscription.node:
                    next_subscribe = 0.0
                    self._unsubscribe(state)
                    continue
            until = min(next_look, state.ends, deadline) - boottime()
            if self._hear(state, until):
                return

    def _announced(self, state: _Group) -> bool:
        """Return whether a change was announced since the last reading.

        A subscription that did not announce what an earlier wait found by asking is dropped: it may
        be half open. Its message has had the time of a reading since then.
        """
        if state.subscription is None:
            return False
        before = state.subscription.last
        try:
            silent = state.subscription.fell_silent()
        except (redis.RedisError, OSError, ValueError):
            silent = True
        if silent:
            self._unsubscribe(state)
            return False
        # One from before may be of another epoch, whose versions were higher.
        return state.subscription.last != before and state.subscription.last > state.version

    def _hear(self, state: _Group, seconds: float) -> bool:
        """Return whether a message told of a version that was not read yet."""
        if state.subscription is None:
            # Without the right to subscribe, or while the server is away: a short poll.
            time.sleep(max(0.0, min(seconds, 0.05)))
            state.ends = 0.0
            return False
        try:
            version = state.subscription.heard(max(0.0, seconds))
        except (redis.RedisError, OSError, ValueError):
            self._unsubscribe(state)
            return False
        return version is not None and version > state.version

    def _within(self, end: float) -> Deadline:
        """Return the deadline of a call in a wait until ``end``, or a little later."""
        return Deadline(min(self.settings["timeout"], max(end - boottime(), _LEAST)))

    def _subscribe(self, state: _Group, deadline: Deadline) -> bool:
        route = self._route
        if route is None:
            return False
        try:
            subscription = _Subscription(route.find(state.key, deadline), state.key, deadline)
        except (redis.RedisError, OSError) as error:
            _log.debug("%s: no messages, polling instead: %s", self.url, self.url.hide(str(error)))
            return False
        state.subscription = subscription
        if self._route is None:  # closed meanwhile: nobody wakes us again
            self._unsubscribe(state)
            return False
        return True

    @staticmethod
    def _unsubscribe(state: _Group) -> None:
        subscription, state.subscription = state.subscription, None
        if subscription is not None:
            subscription.close()

    # -- one operation -------------------------------------------------------------------------

    def _group(self, group: str) -> _Group:
        with self._lock:
            if group not in self._groups:
                self._groups[group] = _Group(self.settings["namespace"], group)
            return self._groups[group]

    def _call(
        self,
        doing: str,
        group: str,
        operation: str,
        *arguments: Any,
        vouched: bool = False,
        deadline: Deadline | None = None,
    ) -> _Reply:
        """Run one operation, again where that is safe and there is time, and return its reply.

        Every operation may run twice: a write has its sequence number, and the second run of the
        same number changes nothing.
        """
        state = self._group(group)
        end = deadline or self._deadline()

        def run(route: Route) -> _Reply:
            node = route.find(state.key, end)
            own = self._leases(group)
            reply = self._run(state, node, [operation, *arguments], own, vouched, end)
            self._judge(group, state, reply, own)
            if state.doubtful:
                reply.since = self._run(state, node, ["doubt"], {}, False, end).since
                state.doubtful = False
            return reply

        return self._trying(doing, state.key, end, run)

    def _trying(
        self, doing: str, key: bytes, deadline: Deadline, action: Callable[[Route], _Result]
    ) -> _Result:
        """Try until it succeeds, the tries or the time are used up, or it is no use."""
        route = self._opened()
        failures = redirections = 0
        telling: Exception | None = None
        while True:
            try:
                return action(route)
            except redis.AuthenticationError as error:  # to redis-py a ConnectionError
                raise self.unavailable(doing, error) from error
            except redis.exceptions.MovedError as error:
                redirections += 1
                if redirections > _REDIRECTIONS:
                    raise self.unavailable(doing, error) from error
                try:
                    route.moved(key, (error.host, error.port))
                except redis.RedisError as wrong:
                    raise self.unavailable(doing, wrong) from wrong
            except _PASSING as error:
                route.forget(key)
                pause = min(self.settings["backoff"] * 2.0**failures, self.settings["backoff_max"])
                pause *= 1 - self.settings["jitter"] * random.random()  # noqa: S311
                if isinstance(error, NotVouched) or telling is None:
                    telling = error  # says more than that there was no time for another try
                if failures >= self.settings["retries"] or deadline.comes_within(pause):
                    raise self.unavailable(doing, telling) from telling
                failures += 1
                time.sleep(pause)
            except redis.RedisError as error:
                raise self.unavailable(doing, error) from error

    def _run(
        self,
        state: _Group,
        node: Node,
        command: list[Any],
        own: dict[str, _Own],
        vouched: bool,
        deadline: Deadline,
    ) -> _Reply:
        """Run the script once; where it counts, have others vouch for the server."""
        operation, *arguments = command
        named = "\0".join(f"{lease.token} {member}" for member, lease in own.items())
        known = (*self._knowledge(state, node.most), named)
        command = [*state.keys, operation, int(self.ttl * 1e6), *known, *arguments]
        wanted = self._wanted(node) if vouched else 0
        waited = wanted if wanted <= node.replicas else 0  # who is not there is not waited for
        reply, acks = self._evaluate(node, command, waited, deadline)
        own_ends = reply.own  # before anything was done about them
        node.replicas, node.most = reply.online, max(node.most, reply.most)
        if not vouched:
            return reply
        wanted = max(wanted, self._wanted(node))
        if waited < wanted <= node.replicas:
            # There are more replicas than at the last time. Twice is as good as once.
            reply, acks = self._evaluate(node, command, wanted, deadline)
            reply.own = own_ends
        acked = acks >= wanted
        if not wanted and self.settings["replicas"] is None:
            self._opened().vouch(state.key, node, None, deadline)
        else:
            self._opened().vouch(state.key, node, acked, deadline)
        return reply

    def _wanted(self, node: Node) -> int:
        """Return how many replicas must confirm: with the server itself, more than half.

        Where nobody else can tell that a server was replaced, more than half of all that it ever
        listed: to one that was, the others are gone, or follow another.
        """
        configured: int | None = self.settings["replicas"]
        if configured is not None:
            return configured
        listed = node.most if isinstance(self._route, PlainRoute) else node.replicas
        return (listed + 1) // 2

    def _evaluate(
        self, node: Node, command: list[Any], replicas: int, deadline: Deadline
    ) -> tuple[_Reply, int]:
        # Half of what is left, so that there is an answer even where the replicas have none.
        milliseconds = max(1, int(deadline.left() * 500))
        wait = [("WAIT", replicas, milliseconds)] if replicas else []
        began = boottime()
        answers = node.ask([("EVALSHA", SHA1, len(PARTS), *command), *wait], deadline)
        if isinstance(answers[0], redis.exceptions.NoScriptError):
            began = boottime()
            answers = node.ask([("EVAL", SCRIPT, len(PARTS), *command), *wait], deadline)
        for answer in answers:
            if isinstance(answer, redis.RedisError):
                raise answer
        status, epoch, version, now, since, online, most, ends, mark, back, own, *rest = answers[0]
        reply = _Reply(
            node, status.decode(), epoch, version, now, since, online, most, ends, mark, back,
            own, rest, began, boottime(),
        )  # fmt: skip
        return reply, answers[1] if replicas else 0

    # -- what this driver remembers ------------------------------------------------------------

    def _leases(self, group: str) -> dict[str, _Own]:
        """Return copies of this driver's leases in a group, as they were confirmed by now."""
        with self._lock:
            return {
                member: dataclasses.replace(lease)
                for (of, member), lease in self._own.items()
                if of == group
            }

    def _judge(self, group: str, state: _Group, reply: _Reply, own: dict[str, _Own]) -> None:
        """Compare an answer with what was known before, and doubt the store where they part."""
        if reply.back:
            _log.warning(
                "%s: the group %r went back in time: somebody put an older copy of its keys back. "
                "Its members stand still for one ttl, then go on",
                self.url,
                group,
            )
        elif shortened := self._shortened(group, reply, own):
            state.doubtful = True
            _log.warning(
                "%s: the store lost a part of the lease of %r in group %r, which it had confirmed: "
                "an older copy of the keys was put back, or the server's clock was set back. The "
                "members stand still for one ttl, then go on",
                self.url,
                shortened,
                group,
            )
        if gained := self._gained(state, reply):
            state.doubtful = True
            if boottime() - self._warned > _SILENCE:
                self._warned = boottime()
                _log.warning(
                    "%s: the server's clock gained %.2f s on ours within a lease of %g s: it was "
                    "stepped forward, or runs more than 10%% fast. Waiting one ttl",
                    self.url,
                    gained,
                    self.ttl,
                )

    def _shortened(self, group: str, reply: _Reply, own: dict[str, _Own]) -> str | None:
        """Return whose confirmed lease the store had not, or not for so long, before it ran out."""
        for (member, then), ends in zip(own.items(), reply.own, strict=True):
            if ends < then.ends and reply.now < then.ends:
                with self._lock:
                    now = self._own.get((group, member))
                    # One that this driver has left or joined anew meanwhile says nothing.
                    if now is not None and self._same_lease(now, then):
                        now.ends = 0  # said once
                        return member
        return None

    def _gained(self, state: _Group, reply: _Reply) -> float:
        """Return by how many seconds the server's clock gained too much; note what is known now."""
        with self._lock:
            known = state.known
            same = reply.epoch == known.epoch
            if reply.version >= known.version if same else reply.began >= known.at:
                state.known = _Known(reply.epoch, reply.version, reply.mark, reply.began)
            if state.clock is None or state.clock[0] != reply.epoch:
                state.clock = reply.epoch, ServerClock(self.ttl)
            return state.clock[1].gained(reply.now / 1e6, reply.began, reply.ended)

    def _knowledge(self, state: _Group, most: int) -> tuple[bytes, int, int, int, bytes]:
        """Return what the script is told: the epoch, the latest that its server's time may be now,

        the most replicas ever listed, a version of that epoch, and its mark.
        """
        with self._lock:
            known, clock = state.known, state.clock
            latest = -math.inf
            if clock is not None and clock[0] == known.epoch:
                latest = clock[1].latest(boottime())
        microseconds = int(latest * 1e6) if latest > -math.inf else 0
        return known.epoch, microseconds, most, known.version, known.mark

    # -- the server ----------------------------------------------------------------------------

    def _opened(self) -> Route:
        route = self._route
        if route is None:
            raise StoreUnavailable(f"{self.url} is not open: call open() first")
        return route

    def _new_route(self) -> Route:
        settings, connections = self.settings, self._connections
        within = settings["connect_timeout"]
        make = link(connections, tls=self._tls)
        if settings["sentinel"] is not None:
            login = {
                "db": 0,
                "username": settings["sentinel_username"],
                "password": settings["sentinel_password"],
            }
            tls = self._tls if settings["sentinel_ssl"] is None else settings["sentinel_ssl"]
            files = {name: value for name, value in self._tls_options().items() if tls}
            make_sentinel = link(login | files, tls=tls)
            return SentinelRoute(settings["sentinel"], self._hosts, make_sentinel, make, within)
        if self.url.scheme.endswith("+cluster"):
            return ClusterRoute(self._hosts, make, within)
        return PlainRoute(Node(self._hosts[0], make, within))

    def _check_files(self) -> None:
        for option in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"):
            path = self._connections.get(option)
            if path is not None and not Path(path).is_file():
                raise StoreUnusable(f"{self.url}: there is no file {path}, given for TLS")

    def _check_server(self) -> None:
        settings = self.settings
        deadline = Deadline(max(settings["timeout"], settings["connect_timeout"]))

        def look(route: Route) -> list[Any]:
            node = route.find(b"hashring", deadline)
            answers = node.ask([("INFO", "server"), ("INFO", "memory")], deadline)
            for answer in answers:
                if isinstance(answer, redis.RedisError):
                    raise answer
            return answers

        try:
            server, memory = map(_info, self._trying("connecting", b"hashring", deadline, look))
        except StoreUnavailable as error:
            if isinstance(
                error.__cause__, (redis.AuthenticationError, redis.exceptions.NoPermissionError)
            ):
                why = self.url.hide(str(error.__cause__))
                raise StoreUnusable(
                    f"{self.url}: the server refused the user or password: {why}"
                ) from error.__cause__
            raise
        version = server.get("redis_version", "")
        numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
        if numbers < _OLDEST:
            raise StoreUnusable(
                f"{self.url}: the server is Redis {version or 'of an unknown version'}; "
                f"{_OLDEST[0]}.{_OLDEST[1]} or later is needed"
            )
        if numbers < _TESTED:
            _log.warning(
                "%s: Redis %s is older than any that is tested; update to %d.%d or later",
                self.url, version, *_TESTED,
            )  # fmt: skip
        policy = memory.get("maxmemory_policy", "noeviction")
        if memory.get("maxmemory", "0") != "0" and policy != "noeviction":
            _log.warning(
                "%s: the server evicts keys when its memory is full (maxmemory-policy %s), and "
                "the group then stands still for one ttl; set maxmemory-policy noeviction",
                self.url,
                policy,
            )


def _spelled(incarnation: str | None) -> str:
    """Return an incarnation as the store has it: none differs from every text."""
    return "-" if incarnation is None else f"={incarnation}"


def _on_our_clock(reply: _Reply) -> float:
    """Return when the next lease may run out."""
    return math.inf if reply.ends < 0 else reply.ended + (reply.ends - reply.now) / 1e6


def _info(reply: bytes) -> dict[str, str]:
    lines = (line.partition(":") for line in reply.decode(errors="replace").splitlines())
    return {name: value for name, colon, value in lines if colon}
