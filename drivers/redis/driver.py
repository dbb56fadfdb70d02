"""``redis://``, ``rediss://``, ``redis+unix://``, ``redis+cluster://``: processes of many hosts.

Redis and Valkey, alone, under Sentinel or in a Cluster. What must hold, and what keeps it:

* Every operation is one Lua script on the server's own ``TIME`` (``script.lua``).
* Writes carry this driver's sequence number, and the script refuses one older than the last it
  applied: what was cut off on its way never lands after a later write was confirmed.
* Redis forgets: all in a restart without persistence, the last writes in a restart with it or in
  a failover, anything in an eviction or a flush. The script keeps the server's identity (run id
  and replication id) and the time at which it was first seen, and :attr:`Reading.memory_age` is
  the time since. The memory starts anew with each identity, and when part of a group is missing.
* A record that the server lost although it had confirmed it is written again before a heartbeat
  is confirmed: the group never judges by an older record for longer than the memory is young.
* A primary that was replaced may not know it. Joins, publishes and heartbeats count only when
  someone else vouches for the server afterwards (``routes``).
* A server whose clock stepped forward would end leases early. Each driver compares the server's
  time with its own boot-time clock (``clock``), and makes the memory young where they part.
  Where the step ended all leases before such a driver called, the script itself makes it young.
* An older copy of the group may be put back under a running server. Each call names the history
  that its driver knows, and the script compares; each driver compares its own leases' ends.

This module knows one store, and nothing of rings, views or the hand-off.
"""

from __future__ import annotations

import contextlib
import logging
import re
import threading
from collections.abc import Iterator
from typing import Any

from hashring.clock import boottime
from hashring.driver import (
    Changes,
    Driver,
    DriverURL,
    Reading,
    Traffic,
    check_names,
    check_record,
    incarnation_of,
)
from hashring.errors import MissingDependency, StoreUnavailable, StoreUnusable

try:
    import redis
except ImportError as error:
    raise MissingDependency("the redis:// driver", "redis", "redis") from error

from .._net import tell_limits, within_the_lease
from . import looking
from .address import OPTIONS, Place
from .calls import Calls
from .nodes import Deadline
from .patches import Torn, patch_of, records_of
from .routes import Route
from .state import NOWHERE, Own
from .waiting import Waiting

__all__ = ["RedisDriver"]

_log = logging.getLogger(__name__)

_OLDEST = (5, 0)  # the first whose scripts may write after they have asked for the time
_TESTED = (6, 2)
_JOINS = 5  # tries of a join that learns each time that the group has a newer history


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
    epochs = (
        "a counter, and the server's time where it forgot; falls if that was set back by over ttl"
    )
    interrupts = True
    options = OPTIONS

    def __init__(self, url: DriverURL, *, ttl: float) -> None:
        super().__init__(url, ttl=ttl)
        self.settings = within_the_lease(self)
        self.traffic = Traffic()
        self._place = Place(self)
        self._calls = Calls(self)
        self._waiting = Waiting(self, self._calls)
        self._writing = threading.Lock()
        self._sequence = 0

    def open(self) -> None:
        """Connect, and check that the server can be a store.

        Raises:
            StoreUnusable: it refused the user or password, is too old, or a TLS file is missing.
            StoreUnavailable: it did not answer, or not as Redis does.
        """
        with self._calls.lock:
            if self._calls.route is not None:
                return
            tell_limits(self)
            self._calls.route = self._place.route()
        try:
            self._check_server()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close all connections; a :meth:`wait` in another thread returns. Leases run on."""
        with self._calls.lock:
            route, self._calls.route = self._calls.route, None
            groups = list(self._calls.groups.values())
        for state in groups:
            subscription = state.subscription
            if subscription is not None:
                subscription.wake()
            # Whoever waits lets go now, and the connection is ours to close.
            with state.waiting:
                self._waiting.unsubscribe(state)
        if route is not None:
            route.close()

    def join(self, group: str, member: str, record: bytes) -> None:
        """See :meth:`hashring.driver.Driver.join`."""
        check_names(group, member)
        check_record(record)
        self._take("join", f"join of {member!r}", group, member, record)

    def seize(self, group: str, member: str, record: bytes) -> None:
        """See :meth:`hashring.driver.Driver.seize`."""
        check_names(group, member)
        check_record(record)
        self._take("seize", f"seizing the lease of {member!r}", group, member, record)

    def _take(self, operation: str, doing: str, group: str, member: str, record: bytes) -> None:
        """Begin a lease: a new one, or in the place of another's."""
        token, incarnation = self.token, _spelled(incarnation_of(record))
        deadline = self._calls.deadline()
        with self._writes(deadline):
            sequence = self._next()
            for _ in range(_JOINS):
                reply = self._calls.call(
                    doing,
                    group,
                    operation,
                    *(token, sequence, member, incarnation, record),
                    vouched=True,
                    deadline=deadline,
                )
                if reply.status != "stale":
                    break
                # It knew too little of the group. That answer told the rest.
            if reply.status == "exists":
                other, left = reply.rest
                until = f"its lease runs for {left / 1e6:.1f} s more"
                raise self.member_exists(group, member, _incarnation(other), until)
            if reply.status == "lost":
                raise self.lease_lost((group, member))
            if reply.status != "ok":
                raise StoreUnavailable(
                    f"{self.url}: {doing} was overtaken by other writes: try again"
                )
            ends = reply.now + int(self.ttl * 1e6)
            with self._calls.lock:
                self._calls.own[group, member] = Own(token, incarnation, sequence, record, ends)

    def publish(self, group: str, member: str, record: bytes) -> int:
        """See :meth:`hashring.driver.Driver.publish`."""
        check_names(group, member)
        check_record(record)
        deadline = self._calls.deadline()
        with self._writes(deadline):
            incarnation = _spelled(incarnation_of(record))
            return self._publish(group, member, incarnation, record, deadline)

    def heartbeat(self) -> None:
        """See :meth:`hashring.driver.Driver.heartbeat`.

        A record that the store has lost, though it had confirmed it, is written again first.
        """
        self._calls.opened()
        lost = self._renew(self._calls.deadline())
        if lost:
            raise self.lease_lost(*lost)

    def read(self, group: str) -> Reading:
        """See :meth:`hashring.driver.Driver.read`."""
        changes = self.read_since(group, None)
        return Reading(changes.changed, changes.memory_age)

    def read_since(self, group: str, cursor: bytes | None) -> Changes:
        """See :meth:`hashring.driver.Driver.read_since`.

        One call of the script. Of a record that this driver read at the cursor, it brings only
        what is other now.
        """
        check_names(group)
        state = self._calls.group(group)
        with state.lock:
            while True:
                known = state.place_of(cursor)
                patches = known is not None and known == state.place
                asked = (known or NOWHERE).spelled
                reply = self._calls.call("read", group, "read", *asked, int(patches))
                size, whole, *rest = reply.rest
                complete = reply.status == "all"
                found = {
                    member.decode(): record
                    for member, record in zip(whole[::2], whole[1::2], strict=True)
                    if member
                }
                changed = {name: record for name, record in found.items() if record is not None}
                state.place, records = NOWHERE, {} if complete else state.records
                with contextlib.suppress(Torn):
                    if not complete:
                        changed |= records_of(records, *rest)
                    gone = found.keys() - changed.keys()
                    state.records = records = {**records, **changed}
                    for name in gone:
                        records.pop(name, None)
                    if len(records) == size:
                        break
                if complete:
                    raise StoreUnavailable(
                        f"{self.url}: the keys of group {group!r} contradict each other: another "
                        "program writes them"
                    )
                cursor = None
            state.read_up_to(reply)
            age = max(0, reply.now - reply.since) / 1e6
            return Changes(changed, gone, state.place.cursor, age, size, complete=complete)

    def wait(self, group: str, timeout: float) -> None:
        """See :meth:`hashring.driver.Driver.wait`. A lease that runs out is a change, too."""
        check_names(group)
        self._calls.opened()
        state = self._calls.group(group)
        deadline = boottime() + timeout
        if not state.waiting.acquire(timeout=max(0.0, timeout)):
            return
        try:
            self._waiting.until_changed(group, state, deadline)
        except StoreUnavailable:
            # It was neither close() that cut us off, nor the end of the time.
            if self._calls.route is not None and boottime() < deadline:
                raise
        finally:
            state.waiting.release()

    def interrupt(self) -> None:
        """See :meth:`hashring.driver.Driver.interrupt`."""
        self._waiting.waker.set()

    def leave(self, group: str, member: str) -> None:
        """See :meth:`hashring.driver.Driver.leave`."""
        check_names(group, member)
        self._calls.opened()
        with self._calls.lock:
            self._calls.own.pop((group, member), None)
        deadline = self._calls.deadline()
        with self._writes(deadline):
            doing, sequence = f"leave of {member!r}", self._next()
            self._calls.call(doing, group, "leave", self.token, sequence, member, deadline=deadline)

    def groups(self) -> list[str]:
        """See :meth:`hashring.driver.Driver.groups`."""
        return list(looking.groups(self._calls, self.settings["namespace"]))

    def leases(self, group: str) -> dict[str, float]:
        """See :meth:`hashring.driver.Driver.leases`."""
        check_names(group)
        return looking.leases(self._calls, group)

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
    ) -> int:
        token, sequence = self.token, self._next()
        with self._calls.lock:
            own = self._calls.own.get((group, member))
        patch = (patch_of(own.record, record) if own is not None else None) or ()
        reply = self._calls.call(
            f"publish of {member!r}",
            group,
            "publish",
            *(token, sequence, member, incarnation, record, *patch),
            vouched=True,
            deadline=deadline,
        )
        if reply.status != "ok":
            raise self.lease_lost((group, member))
        with self._calls.lock:
            if (before := self._calls.own.get((group, member))) is not None:
                ends = before.ends  # not renewed by this
                self._calls.own[group, member] = Own(token, incarnation, sequence, record, ends)
        (number,) = reply.rest
        return int(number)

    def _renew(self, deadline: Deadline) -> list[tuple[str, str]]:
        with self._calls.lock:
            own = dict(self._calls.own)
        lost = []
        for group in sorted({group for group, _ in own}):
            members = {member: lease for (of, member), lease in own.items() if of == group}
            gone, behind = self._renew_group(group, members, deadline)
            if behind:
                for member in behind:
                    self._restore(group, member, deadline)
                gone, behind = self._renew_group(group, members, deadline)
            lost += [(group, member) for member in gone]
        with self._calls.lock:
            # What the other thread left or joined anew meanwhile is not lost.
            return [
                key for key in lost if self._calls.same_lease(self._calls.own.get(key), own[key])
            ]

    def _renew_group(
        self, group: str, members: dict[str, Own], deadline: Deadline
    ) -> tuple[list[str], list[str]]:
        arguments: list[Any] = []
        for member, lease in members.items():
            arguments += [member, lease.incarnation, lease.sequence]
        arguments = [self.token, *arguments]
        reply = self._calls.call(
            "heartbeat", group, "heartbeat", *arguments, vouched=True, deadline=deadline
        )
        lost, behind = ([name.decode() for name in names] for names in reply.rest)
        with self._calls.lock:
            for member, lease in members.items():
                now = self._calls.own.get((group, member))
                if member not in lost and now is not None and self._calls.same_lease(now, lease):
                    now.ends = max(now.ends, reply.now + int(self.ttl * 1e6))
        return lost, behind

    def _restore(self, group: str, member: str, deadline: Deadline) -> None:
        with self._writes(deadline):
            with self._calls.lock:
                lease = self._calls.own.get((group, member))
            if lease is not None:
                self._publish(group, member, lease.incarnation, lease.record, deadline)

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
            server, memory = map(
                _info, self._calls.trying("connecting", b"hashring", deadline, look)
            )
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


def _incarnation(spelled: bytes) -> str | None:
    return None if spelled == b"-" else spelled[1:].decode()


def _info(reply: bytes) -> dict[str, str]:
    lines = (line.partition(":") for line in reply.decode(errors="replace").splitlines())
    return {name: value for name, colon, value in lines if colon}
