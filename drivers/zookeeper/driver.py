"""``zookeeper://host,host/path``: groups on an Apache ZooKeeper ensemble.

A group is a node under the URL's path, a member an ephemeral child of it that carries the record
and nothing else, and the lease is the session that made the child. What must hold, and how:

* *Only a heartbeat renews the lease.* The session has no thread of its own (see
  ``session.py``), so a process that hangs loses it like one that is dead.
* *A heartbeat that returns has renewed it.* It connects anew, which makes the leader renew the
  session before the server answers, and then commits a transaction that changes nothing but fails
  where a lease's node is gone. A write alone proves less: sent through a follower, it does not
  renew the session at the leader. A new connection alone proves less, too: a leader that has been
  cut off from its ensemble answers until it notices; but a commit takes a majority, and a leader
  that is elected later grants every session its whole timeout again.
* *A late write lands nowhere.* Writes go through the session that owns the node, so that they fail
  once the lease is gone, whoever has the member's name by then; and each expects the node's
  version, so that one that was given up for lost cannot overtake the next.
* *A reading is of now.* It begins with a transaction that changes nothing: what was committed
  before is applied by the server before it answers that. ``sync`` proves less (``watching.py``).
* *A store that went back in time has forgotten.* ZooKeeper loses nothing that it confirmed, but
  whoever runs it can rebuild it from nothing, or restore an older copy. Each reading says since
  when that has not happened (``history.py``); a heartbeat fails on a node that is older than our
  last confirmed write.

Of a record it knows nothing but its incarnation.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import os
import random
import threading
from collections.abc import Callable
from typing import Any, TypeVar

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
from hashring.errors import BadURL, MissingDependency, StoreUnavailable, StoreUnusable

try:
    from kazoo.exceptions import BadVersionError, NodeExistsError, NoNodeError, ZookeeperError
    from kazoo.protocol.serialization import (
        CheckVersion,
        Create,
        Delete,
        Exists,
        GetData,
        Transaction,
    )
    from kazoo.security import CREATOR_ALL_ACL, OPEN_ACL_UNSAFE
except ImportError as error:
    raise MissingDependency("the zookeeper:// driver", "kazoo", "zookeeper") from error

from .._net import tell_limits, within_the_lease
from .address import OPTIONS, PORT, node_of, root_of, tls_of
from .answers import refuse, refuse_persistent, refuse_short
from .lease import Lease
from .nodes import answer_of, made_group, overwriting, replacing, version_after
from .servers import Credentials, Failed, Refused, Servers
from .session import Session, SessionGone
from .watching import Watching

__all__ = ["ZooKeeperDriver"]

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

_EPHEMERAL, _ANY_VERSION = 1, -1


class ZooKeeperDriver(Driver):
    """Groups on a ZooKeeper ensemble, with sessions as leases.

    The URL is ``zookeeper://user:password@host:port,host:port/path?option=value``; the port is
    2181 and the path ``/hashring`` where they are left out. ``kazoo://`` is another name for it.
    """

    promise = "a session as the lease; survives the loss of a minority; tells when it was restored"
    epochs = "ZooKeeper's zxid; falls only where its data are removed or an old copy is restored"
    interrupts = True
    options = OPTIONS

    def __init__(self, url: DriverURL, *, ttl: float) -> None:
        super().__init__(url, ttl=ttl)
        self.settings = within_the_lease(self)
        self.traffic = Traffic()
        self._root = root_of(url)
        self._credentials = Credentials(
            url.user, url.secret, self.settings["sasl"], self.settings["sasl_service"]
        )
        if url.secret is not None and url.user is None:
            raise BadURL(f"{url}: a password needs a user before it: user:password@host")
        self._acl = self.settings["acl"]
        if self._acl is None:
            self._acl = CREATOR_ALL_ACL if self._credentials.given else OPEN_ACL_UNSAFE
        self._opened_in = os.getpid()
        self._begin()

    def open(self) -> None:
        """See :meth:`hashring.driver.Driver.open`. Opened again, the driver still has its lease."""
        forked = self._opened_in != os.getpid()
        if not self._closed.is_set() and not forked:
            return
        if forked:
            self._begin()
        self._opened_in = os.getpid()
        self._closed.clear()
        tell_limits(self)
        try:
            self._try("connecting", self._watching.lock, self._look)
        except BaseException:
            self.close()
            raise
        if self._watching.session.granted > self.ttl * 1.01:
            _log.warning(
                "%s grants no session shorter than %g s: a dead member of this group (ttl %g s) is "
                "noticed that late; lower minSessionTimeout (and tickTime) on the servers",
                self.url,
                self._watching.session.granted,
                self.ttl,
            )

    def _begin(self) -> None:
        """Make what belongs to one process: sessions, locks, and what is known of leases."""
        hosts = [(host, port or PORT) for host, port in self.url.hosts or (("localhost", None),)]
        random.shuffle(hosts)  # so that a group spreads over the ensemble
        tls = tls_of(self)

        def session(on_event: Callable[[int, str], None] = lambda kind, path: None) -> Session:
            servers = Servers(hosts, self.settings["connect_timeout"], tls)
            return Session(servers, self.ttl, self._credentials, on_event, self.traffic)

        self._new_session = session
        self._closed = threading.Event()
        self._closed.set()
        # The session that is the lease, and all that writes. One thread beats, another publishes.
        self._writing = threading.Lock()
        self._owner = session()
        self._leases: dict[tuple[str, str], Lease] = {}
        self._ended: set[int] = set()
        self._formers: dict[str, int] = {}  # by path, the version of the node that ours replaced
        self._watching = Watching(self, self._root, self._acl, session, self._owner, self._refuse)

    def close(self) -> None:
        """See :meth:`hashring.driver.Driver.close`. The lease runs on until it expires."""
        if self._closed.is_set():
            return
        self._closed.set()
        if self._opened_in != os.getpid():
            return  # a fork has its parent's sockets, but must not speak on them
        watcher = self._watching.session
        for session, lock in (
            (watcher, self._watching.lock),
            (self._owner, self._writing),
        ):
            if not lock.acquire(blocking=False):
                session.interrupt()
                lock.acquire()
            with contextlib.ExitStack() as stack:
                stack.callback(lock.release)
                if session is watcher and session.connected:
                    with contextlib.suppress(OSError, SessionGone):
                        session.end(boottime() + min(1.0, self.settings["timeout"]))
                session.drop()
        self._watching.groups.clear()

    # -- what writes: on the session that is the lease

    def join(self, group: str, member: str, record: bytes) -> None:
        """See :meth:`hashring.driver.Driver.join`."""
        check_names(group, member)
        check_record(record)
        who = f"member {member!r} of group {group!r}"

        def step(deadline: float) -> None:
            try:
                self._renew(deadline)
            except SessionGone:
                self._renew(deadline)  # begins another
            self._join(group, member, record, deadline)

        self._try(f"joining as {who}", self._writing, step)

    def _join(self, group: str, member: str, record: bytes, deadline: float) -> None:
        path, incarnation = self._path(group, member), incarnation_of(record)
        began = boottime()
        request = Create(path, record, self._acl, _EPHEMERAL)
        while True:
            made = self._write(request, deadline)
            if isinstance(made, NoNodeError):
                parent = self._path(group)
                made_group(lambda one: self._write(one, deadline), self._root, parent, self._acl)
            elif isinstance(made, NodeExistsError):
                # It may be ours: from a call whose answer was lost, or to be renewed.
                found = self._write(GetData(path, None), deadline)
                if isinstance(found, NoNodeError):
                    continue
                data, stat = found
                if stat.ephemeralOwner == self._owner.id:
                    if incarnation_of(data) == incarnation:
                        changed = self._overwrite(path, record, stat.version, deadline)
                        if isinstance(changed, ZookeeperError):
                            continue
                        self._leases[group, member] = Lease(
                            self._owner.id, incarnation, changed.version, began
                        )
                        return
                    known = self._leases.get((group, member))
                    # It was left by a join that failed, or has come back from an older copy.
                    ours = known is None or known.is_behind
                else:
                    ours = stat.ephemeralOwner in self._ended
                refuse_persistent(self, path, stat)
                if not ours:
                    where = f"its lease is session {stat.ephemeralOwner:#x}"
                    raise self.member_exists(group, member, incarnation_of(data), where)
                self._write(Delete(path, stat.version), deadline)
            else:
                self._leases[group, member] = Lease(self._owner.id, incarnation, 0, began)
                return

    def seize(self, group: str, member: str, record: bytes) -> None:
        """See :meth:`hashring.driver.Driver.seize`."""
        check_names(group, member)
        check_record(record)
        path = self._path(group, member)

        def step(deadline: float) -> None:
            try:
                self._renew(deadline)
            except SessionGone:
                self._renew(deadline)  # begins another
            while True:
                began, found = boottime(), self._write(GetData(path, None), deadline)
                if isinstance(found, NoNodeError):
                    raise self.lease_lost((group, member))
                data, stat = found
                version = stat.version
                if stat.ephemeralOwner != self._owner.id or data != record:  # else it is done
                    refuse_persistent(self, path, stat)
                    self._formers[path], version = version, version_after(version)
                    request = replacing(path, record, self._acl, stat.version)
                    if isinstance(self._write(request, deadline), ZookeeperError):
                        continue  # it has changed, or gone, meanwhile
                lease = Lease(self._owner.id, incarnation_of(record), version, began)
                self._leases[group, member] = lease
                return

        self._try(f"seizing the lease of {member!r} of group {group!r}", self._writing, step)

    def publish(self, group: str, member: str, record: bytes) -> int:
        """See :meth:`hashring.driver.Driver.publish`."""
        check_names(group, member)
        check_record(record)
        path = self._path(group, member)

        def step(deadline: float) -> int:
            lease = self._lease(group, member, incarnation_of(record))
            began, told = boottime(), self._watching.rewinds
            if not self._owner.connected:
                try:
                    self._renew(deadline)
                except SessionGone:
                    raise self.lease_lost((group, member)) from None
            while True:
                changed = self._overwrite(path, record, lease.version, deadline)
                if isinstance(changed, BadVersionError):
                    found = self._write(GetData(path, None), deadline)
                    if isinstance(found, NoNodeError) or not lease.stands(found[1], began, told):
                        raise self.lease_lost((group, member))
                    # A write of ours that was given up for lost has landed; now it cannot again.
                    lease.version = found[1].version
                elif isinstance(changed, NoNodeError):
                    raise self.lease_lost((group, member))
                else:
                    lease.version, lease.sound = changed.version, began
                    return int(changed.mzxid)

        doing = f"publishing for member {member!r} of group {group!r}"
        return self._try(doing, self._writing, step)

    def heartbeat(self) -> None:
        """See :meth:`hashring.driver.Driver.heartbeat`."""

        def step(deadline: float) -> None:
            began, told = boottime(), self._watching.rewinds
            paths = {
                names: self._path(*names)
                for names, lease in self._leases.items()
                if lease.session == self._owner.id
            }
            lost = set(self._leases) - paths.keys()
            if paths:
                try:
                    self._renew(deadline)
                    _, *stats = self._owner.call(
                        Transaction([CheckVersion(path, _ANY_VERSION) for path in paths.values()]),
                        *(Exists(path, None) for path in paths.values()),
                        deadline=deadline,
                    )
                except SessionGone:
                    lost = set(self._leases)
                else:
                    for names, stat in zip(paths, stats, strict=True):
                        self._refuse(stat)
                        if stat is None or not self._leases[names].stands(stat, began, told):
                            lost.add(names)
            if lost:
                raise self.lease_lost(*sorted(lost))

        self._try("the heartbeat", self._writing, step)

    def leave(self, group: str, member: str) -> None:
        """See :meth:`hashring.driver.Driver.leave`."""
        check_names(group, member)
        path = self._path(group, member)

        def step(deadline: float) -> None:
            self._leases.pop((group, member), None)
            if not self._owner.id:
                return
            if not self._owner.connected:
                try:
                    self._renew(deadline, path)
                except SessionGone:
                    return
            if not self._leases:
                # The servers remove what a session made in one step with its end.
                self._owner.end(deadline)
                return
            while True:
                stat = self._write(Exists(path, None), deadline)
                if stat is None or stat.ephemeralOwner != self._owner.id:
                    return
                self._write(Delete(path, stat.version), deadline)

        self._try(f"member {member!r} leaving group {group!r}", self._writing, step)

    def _renew(self, deadline: float, *paths: str) -> None:
        """Attach the lease's session anew, which renews it for ``ttl`` seconds from now on.

        A server says of a session that it has ended. It may be wrong: a leader that slept through
        the election of another takes all sessions for ended when it wakes up. So the ensemble is
        asked whether any node of the session is left.

        Args:
            deadline: on the boot-time clock.
            paths: nodes that may be the session's, beside those of our leases.

        Raises:
            SessionGone: it has ended, and the ensemble agrees; the next call begins another.
        """
        owner = self._owner
        try:
            owner.attach(deadline)
        except SessionGone:
            witness = self._new_session()
            # Only a majority can begin a session, and this one begins after the other's end.
            witness.attach(deadline)
            ours = [self._path(*names) for names in self._leases]
            stats = witness.call(
                *(Exists(path, None) for path in {*ours, *paths}), deadline=deadline
            )
            with contextlib.suppress(OSError, SessionGone):
                witness.end(deadline)
            if any(getattr(stat, "ephemeralOwner", 0) == owner.id for stat in stats):
                raise Failed(
                    "a server that has fallen behind takes our session for ended"
                ) from None
            # Another try of an earlier write could still be told that the node is there.
            self._ended.add(owner.id)
            owner.forget()
            raise
        refuse_short(self, owner.granted)

    def _lease(self, group: str, member: str, *incarnation: str | None) -> Lease:
        lease = self._leases.get((group, member))
        if lease is None or lease.session != self._owner.id or lease.is_behind:
            raise self.lease_lost((group, member))
        if incarnation and lease.incarnation != incarnation[0]:
            raise self.lease_lost((group, member))
        return lease

    def _write(self, request: Any, deadline: float) -> Any:
        (found,) = self._owner.call(request, deadline=deadline)
        answer = answer_of(found)
        self._refuse(answer)
        return answer

    def _overwrite(self, path: str, record: bytes, version: int, deadline: float) -> Any:
        return self._write(overwriting(path, record, version, self._formers.get(path)), deadline)

    # -- what reads: on the session that watches

    def _look(self, deadline: float) -> None:
        """Find out at the start whether we may read at all, and how long a session lasts."""
        self._watching.look(deadline)
        refuse_short(self, self._watching.session.granted)

    def read(self, group: str) -> Reading:
        """See :meth:`hashring.driver.Driver.read`."""
        changes = self.read_since(group, None)
        return Reading(changes.changed, changes.memory_age)

    def read_since(self, group: str, cursor: bytes | None) -> Changes:
        """See :meth:`hashring.driver.Driver.read_since`."""
        check_names(group)

        def behind() -> set[str]:
            # What the store put back of us is no record of ours: whoever reads it joins anew.
            return {
                node_of(names[1])
                for names, lease in list(self._leases.items())
                if lease.is_behind and names[0] == group
            }

        def step(deadline: float) -> Changes:
            marks = bool(self._leases)
            path = self._path(group)
            return self._watching.read(path, cursor, behind, deadline, marks=marks)

        return self._try(f"reading group {group!r}", self._watching.lock, step)

    def wait(self, group: str, timeout: float) -> None:
        """See :meth:`hashring.driver.Driver.wait`."""
        check_names(group)
        self._check_open()
        until = boottime() + timeout
        watching = self._watching
        if not watching.lock.acquire(timeout=max(0.0, timeout)):
            return
        path = self._path(group)
        try:
            until = watching.wait(path, until, self._closed)
            if path in watching.groups:
                return
        except OSError:
            watching.groups.clear()
            return  # the connection broke: who knows what has changed
        finally:
            watching.lock.release()
        # Nothing is watched, because the last reading failed: no need to hurry.
        self._closed.wait(min(max(0.0, until - boottime()), self.settings["backoff_max"]))

    def interrupt(self) -> None:
        """See :meth:`hashring.driver.Driver.interrupt`."""
        self._watching.waker.set()

    def groups(self) -> list[str]:
        """See :meth:`hashring.driver.Driver.groups`."""
        return self._try("listing the groups", self._watching.lock, self._watching.list_groups)

    # -- what both share

    def _try(self, doing: str, lock: threading.Lock, step: Callable[[float], _T]) -> _T:
        """Run a step that may be repeated, under a lock, until it is done or time is up."""
        deadline = boottime() + self.settings["timeout"]
        if not lock.acquire(timeout=self.settings["timeout"]):
            raise StoreUnavailable(f"{self.url}: {doing} failed: an earlier call still waits")
        try:
            for pause in itertools.chain(self.delays(), [math.inf]):
                self._check_open()
                try:
                    return step(deadline)
                except Refused as refused:
                    why = self.url.hide(str(refused))
                    raise StoreUnusable(f"{self.url}: {doing} failed: {why}") from refused
                except (OSError, SessionGone) as error:
                    failure = error  # a session that ends under a call is looked at by the next try
                if boottime() + pause >= deadline or self._closed.wait(pause):
                    break
            raise self.unavailable(doing, failure) from failure
        finally:
            lock.release()

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise self.not_open()
        if self._opened_in != os.getpid():
            raise self.forked(self._opened_in)

    def _refuse(self, answer: Any) -> None:
        refuse(self, self._root, answer)

    def _path(self, *names: str) -> str:
        return "/".join((self._root, *map(node_of, names)))
