"""``zookeeper://host,host/path``: groups on an Apache ZooKeeper ensemble.

A group is a node under the URL's path, a member an ephemeral child of it that carries the record
and nothing else, and the lease is the session that made the child. What must hold, and how:

* *Only a heartbeat renews the lease.* The session has no thread of its own (see
  ``_zookeeper_session.py``), so a process that hangs loses it like one that is dead.
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
  before is applied by the server before it answers that. ``sync`` proves less: a leader answers it
  at once, with commits in hand that it has not applied and its followers have, and a leader that
  was cut off answers it until it notices. ZooKeeper sends the watch event of a change before any
  answer that shows a later state, so a record read earlier, on the same connection, with no event
  since, is still the record after that transaction.

* *A store that went back in time has forgotten.* ZooKeeper loses nothing that it confirmed, but
  whoever runs it can rebuild it from nothing, or restore an older copy. Each reading says for how
  long that has surely not happened (``_zookeeper_history.py``), and a heartbeat fails where the
  node of the lease is older than the last write of ours that was confirmed.

This module knows nothing of what is in a record but its incarnation.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import os
import random
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar
from urllib.parse import quote, unquote

from hashring.clock import boottime
from hashring.driver import (
    Driver,
    DriverURL,
    Option,
    Reading,
    boolean,
    check_names,
    check_node_path,
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

from ._net import tell_limits, within_the_lease
from ._zookeeper_history import History
from ._zookeeper_session import Credentials, Failed, Refused, Servers, Session, SessionGone

try:
    from kazoo.exceptions import (
        BadVersionError,
        EphemeralOnLocalSessionError,
        NoAuthError,
        NodeExistsError,
        NoNodeError,
        SessionClosedRequireSaslError,
        UnimplementedError,
        ZookeeperError,
    )
    from kazoo.protocol.serialization import (
        CheckVersion,
        Create,
        Create2,
        Delete,
        Exists,
        GetChildren,
        GetData,
        SetData,
        Transaction,
    )
    from kazoo.security import (
        ACL,
        CREATOR_ALL_ACL,
        OPEN_ACL_UNSAFE,
        READ_ACL_UNSAFE,
        Id,
    )
except ImportError as error:
    raise MissingDependency("the zookeeper:// driver", "kazoo", "zookeeper") from error

__all__ = ["ZooKeeperDriver"]

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

_PORT = 2181
_ROOT = "/hashring"
_PERSISTENT, _EPHEMERAL, _CONTAINER = 0, 1, 4
_ANY_VERSION = -1
_MARK_AGAIN = 1 / 20
"""Part of the ttl between two readings of a mark that says too little: a newcomer waits for no
longer than those who were there before."""

_MARK = "+history"  # below the path; no group's node has this name, since "+" is escaped there
_LINGER = 0.25  # seconds for which a burst of changes is gathered at most


class _CreateContainer(Create2):  # type: ignore[misc]
    """A node that the servers remove some time after its last child; kazoo has no such request."""

    type = 19


def _mechanism(text: str) -> str:
    known = ("DIGEST-MD5", "GSSAPI", "PLAIN")
    if text.upper() not in known:
        raise ValueError(f"must be one of {', '.join(known)}")
    return text.upper()


_ACLS: dict[str, list[ACL] | None] = {
    "auto": None,
    "open": OPEN_ACL_UNSAFE,
    "creator": CREATOR_ALL_ACL,
    "creator-read": CREATOR_ALL_ACL + READ_ACL_UNSAFE,
}


def _acl(text: str) -> list[ACL] | None:
    if text in _ACLS:
        return _ACLS[text]
    entries = []
    for entry in text.split(","):
        scheme, _, rest = entry.partition(":")
        name, _, letters = rest.rpartition(":")
        rights = {"r": 1, "w": 2, "c": 4, "d": 8, "a": 16}
        if not (scheme and name and letters) or set(letters) - set(rights):
            raise ValueError(f"must be {', '.join(_ACLS)}, or a list of scheme:id:cdrwa")
        entries.append(ACL(sum(rights[letter] for letter in set(letters)), Id(scheme, name)))
    return entries


@dataclasses.dataclass
class _Lease:
    """What we know of a node of ours.

    Attributes:
        session: the number of the session that made it.
        incarnation: as it is in the record.
        version: the node's version, which the next write expects.
        is_behind: the store has gone back in time, behind the last write that it confirmed.
    """

    session: int
    incarnation: str | None
    version: int
    is_behind: bool = False


class _Group:
    """What the reading connection has seen of a group since it began to watch it."""

    def __init__(self) -> None:
        self.records: dict[str, bytes] = {}  # by node name
        self.stale_list = True
        self.stale: set[str] = set()

    @property
    def changed(self) -> bool:
        """A watch has told of something that the records do not show."""
        return self.stale_list or bool(self.stale)


class ZooKeeperDriver(Driver):
    """Groups on a ZooKeeper ensemble, with sessions as leases.

    The URL is ``zookeeper://user:password@host:port,host:port/path?option=value``; the port is
    2181 and the path ``/hashring`` where they are left out. ``kazoo://`` is another name for it.
    """

    promise = "a session as the lease; survives the loss of a minority; tells when it was restored"
    options = (
        Option("acl", _acl, None, "auto, open, creator, creator-read, or scheme:id:cdrwa,..."),
        Option("sasl", _mechanism, "", "log in by SASL: DIGEST-MD5, PLAIN or GSSAPI"),
        Option("sasl_service", str, "zookeeper", "the first part of the servers' principal"),
        Option("tls", boolean, False, "encrypt, and check the servers' certificates"),
        Option("ca", str, None, "file with the authorities to trust; default: the system's"),
        Option("cert", str, None, "file with our own certificate"),
        Option("key", str, None, "file with its key, where it is not in the same file"),
        Option("key_password", str, None, "the key's password", secret=True),
        Option("check_hostname", boolean, True, "the certificate must name the host in the URL"),
    )

    def __init__(self, url: DriverURL, *, ttl: float) -> None:
        super().__init__(url, ttl=ttl)
        self.settings = within_the_lease(self)
        self._root = _root(url)
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
            self._try("connecting", self._reading, self._look)
        except BaseException:
            self.close()
            raise
        if self._watcher.granted > self.ttl * 1.01:
            _log.warning(
                "%s grants no session shorter than %g s: a dead member of this group (ttl %g s) is "
                "noticed that late; lower minSessionTimeout (and tickTime) on the servers",
                self.url,
                self._watcher.granted,
                self.ttl,
            )

    def _begin(self) -> None:
        """Make what belongs to one process: sessions, locks, and what is known of leases."""
        hosts = [(host, port or _PORT) for host, port in self.url.hosts or (("localhost", None),)]
        random.shuffle(hosts)  # so that a group spreads over the ensemble
        tls = self._tls()

        def session(on_event: Callable[[int, str], None] = lambda kind, path: None) -> Session:
            servers = Servers(hosts, self.settings["connect_timeout"], tls)
            return Session(servers, self.ttl, self._credentials, on_event)

        self._new_session = session
        self._closed = threading.Event()
        self._closed.set()
        # The session that is the lease, and all that writes. One thread beats, another publishes.
        self._writing = threading.Lock()
        self._owner = session()
        self._leases: dict[tuple[str, str], _Lease] = {}
        self._ended: set[int] = set()
        # The session that reads and watches.
        self._reading = threading.Lock()
        self._watcher = session(self._on_event)
        self._groups: dict[str, _Group] = {}
        self._history = History()
        self._mark_again = 0.0  # when a mark that says too little is read again
        self._mark_version: int | None = None
        self._may_mark = True
        self._told = -math.inf
        self._read_took = 0.0

    def close(self) -> None:
        """See :meth:`hashring.driver.Driver.close`. The lease runs on until it expires."""
        if self._closed.is_set():
            return
        self._closed.set()
        if self._opened_in != os.getpid():
            return  # a fork has its parent's sockets, but must not speak on them
        for session, lock in ((self._watcher, self._reading), (self._owner, self._writing)):
            if not lock.acquire(blocking=False):
                session.interrupt()
                lock.acquire()
            with contextlib.ExitStack() as stack:
                stack.callback(lock.release)
                if session is self._watcher and session.connected:
                    with contextlib.suppress(OSError, SessionGone):
                        session.end(boottime() + min(1.0, self.settings["timeout"]))
                session.drop()
        self._groups.clear()

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
        request = Create(path, record, self._acl, _EPHEMERAL)
        while True:
            made = self._write(request, deadline)
            if isinstance(made, NoNodeError):
                self._make_group(group, deadline)
            elif isinstance(made, NodeExistsError):
                # It may be ours: from a call whose answer was lost, or to be renewed.
                found = self._write(GetData(path, None), deadline)
                if isinstance(found, NoNodeError):
                    continue
                data, stat = found
                if stat.ephemeralOwner == self._owner.id:
                    if incarnation_of(data) == incarnation:
                        changed = self._write(SetData(path, record, stat.version), deadline)
                        if isinstance(changed, ZookeeperError):
                            continue
                        self._leases[group, member] = _Lease(
                            self._owner.id, incarnation, changed.version
                        )
                        return
                    known = self._leases.get((group, member))
                    # It was left by a join that failed, or has come back from an older copy.
                    ours = known is None or known.is_behind
                else:
                    ours = stat.ephemeralOwner in self._ended
                if stat.ephemeralOwner == 0:
                    raise StoreUnusable(
                        f"{self.url}: {path} is a persistent node that is nobody's lease: delete it"
                    )
                if not ours:
                    raise MemberExists(
                        f"{self.url}: member {member!r} of group {group!r} is alive in another "
                        f"incarnation ({incarnation_of(data)}), in session "
                        f"{stat.ephemeralOwner:#x}"
                    )
                self._write(Delete(path, stat.version), deadline)
            else:
                self._leases[group, member] = _Lease(self._owner.id, incarnation, 0)
                return

    def _make_group(self, group: str, deadline: float) -> None:
        """Make a group's node, and the path that leads to it where somebody tidied it away."""
        path = self._path(group)
        made = self._write(_CreateContainer(path, b"", self._acl, _CONTAINER), deadline)
        if isinstance(made, UnimplementedError):  # ZooKeeper before 3.5
            made = self._write(Create(path, b"", self._acl, _PERSISTENT), deadline)
        if isinstance(made, NoNodeError):
            parts = self._root.split("/")
            for length in range(2, len(parts) + 1):
                parent = "/".join(parts[:length])
                if self._write(Exists(parent, None), deadline) is None:
                    self._write(Create(parent, b"", self._acl, _PERSISTENT), deadline)

    def publish(self, group: str, member: str, record: bytes) -> None:
        """See :meth:`hashring.driver.Driver.publish`."""
        check_names(group, member)
        check_record(record)
        path = self._path(group, member)

        def step(deadline: float) -> None:
            lease = self._lease(group, member, incarnation_of(record))
            if not self._owner.connected:
                try:
                    self._renew(deadline)
                except SessionGone:
                    raise self._lost((group, member)) from None
            while True:
                changed = self._write(SetData(path, record, lease.version), deadline)
                if isinstance(changed, BadVersionError):
                    found = self._write(GetData(path, None), deadline)
                    if isinstance(found, NoNodeError) or not self._stands(lease, found[1]):
                        raise self._lost((group, member))
                    # A write of ours that was given up for lost has landed; now it cannot again.
                    lease.version = found[1].version
                elif isinstance(changed, NoNodeError):
                    raise self._lost((group, member))
                else:
                    lease.version = changed.version
                    return

        self._try(f"publishing for member {member!r} of group {group!r}", self._writing, step)

    def heartbeat(self) -> None:
        """See :meth:`hashring.driver.Driver.heartbeat`."""

        def step(deadline: float) -> None:
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
                        if stat is None or not self._stands(self._leases[names], stat):
                            lost.add(names)
            if lost:
                raise self._lost(*sorted(lost))

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
        self._check_granted(owner.granted)

    def _check_granted(self, granted: float) -> None:
        if granted < self.ttl:
            raise StoreUnusable(
                f"{self.url} grants no session longer than {granted:g} s, which is less than the "
                f"ttl of {self.ttl:g} s: lower ttl, or raise maxSessionTimeout on the servers"
            )

    def _lease(self, group: str, member: str, *incarnation: str | None) -> _Lease:
        lease = self._leases.get((group, member))
        if lease is None or lease.session != self._owner.id or lease.is_behind:
            raise self._lost((group, member))
        if incarnation and lease.incarnation != incarnation[0]:
            raise self._lost((group, member))
        return lease

    def _stands(self, lease: _Lease, stat: Any) -> bool:
        """Whether the node is the lease's, with what was last confirmed or something later."""
        if stat.ephemeralOwner == lease.session and stat.version < lease.version:
            if not lease.is_behind:
                self._tell_of_going_back(
                    f"our record had version {lease.version}, and has {stat.version}"
                )
            lease.is_behind = True
        return stat.ephemeralOwner == lease.session and not lease.is_behind

    def _lost(self, *names: tuple[str, str]) -> LeaseLost:
        who = ", ".join(f"{member!r} in group {group!r}" for group, member in names)
        return LeaseLost(f"{self.url}: the lease of {who} is gone")

    def _write(self, request: Any, deadline: float) -> Any:
        (answer,) = self._owner.call(request, deadline=deadline)
        self._refuse(answer)
        return answer

    # -- what reads: on the session that watches

    def _look(self, deadline: float) -> None:
        """Find out at the start whether we may read at all, and how long a session lasts."""
        self._watch(deadline)
        self._check_granted(self._watcher.granted)
        (answer,) = self._watcher.call(GetChildren(self._root, None), deadline=deadline)
        self._refuse(answer)

    def _watch(self, deadline: float) -> None:
        """Begin a watching session, and find out what has become of the store meanwhile.

        Watches end with a connection, so what they kept is old. The session is a new one each time:
        its number tells one life of a server from the next (see ``_zookeeper_history.py``).
        """
        watcher, history = self._watcher, self._history
        self._groups.clear()
        seen = max(history.newest, watcher.seen, self._owner.seen)
        watcher.forget()
        watcher.seen = 0
        watcher.attach(deadline)
        _, mark = watcher.call(
            Transaction([CheckVersion(self._root, _ANY_VERSION)]),  # whatever its result
            GetData(self._mark_path, None),
            deadline=deadline,
        )
        known, history.newest = self._mark_version, seen
        self._may_mark = True
        data = self._mark(mark)
        rewound = known is not None and (self._mark_version is None or self._mark_version < known)
        if history.connected(watcher.seen, watcher.id, data, boottime(), rewound=rewound):
            self._owner.seen = 0
            self._tell_of_going_back(
                f"it was at transaction {seen:#x}, and is at {watcher.seen:#x}"
            )

    def _tell_of_going_back(self, evidence: str) -> None:
        """Tell the operator, once for all that shows it."""
        now = boottime()
        if now >= self._told + self.ttl:
            _log.error(
                "%s has gone back in time (%s): it was rebuilt, or restored from an older copy; "
                "members join anew, and nobody gains anything for %g s",
                self.url,
                evidence,
                self.ttl,
            )
        self._told = now

    @property
    def _mark_path(self) -> str:
        return f"{self._root}/{_MARK}"

    def _mark(self, answer: Any) -> bytes | None:
        """Return what stands in the mark, and remember its version for whoever replaces it."""
        if isinstance(answer, ZookeeperError):
            self._mark_version = None
            return None
        data, stat = answer
        self._mark_version = stat.version
        return bytes(data or b"")

    def _remember(self, deadline: float) -> None:
        """Write into the store since when it has forgotten nothing, for those who come later.

        Who came later reads what the others have written since, until it is enough.
        """
        now = boottime()
        data = self._history.due(now, self.ttl)
        if data is None and self._history.age(now) < self.ttl and now >= self._mark_again:
            self._mark_again = now + _MARK_AGAIN * self.ttl
            (mark,) = self._watcher.call(GetData(self._mark_path, None), deadline=deadline)
            self._history.adopt(self._mark(mark))
        if data is None or not self._may_mark:
            return
        if self._mark_version is None:
            write = Create(self._mark_path, data, self._acl, _PERSISTENT)
        else:
            write = SetData(self._mark_path, data, self._mark_version)
        made, mark = self._watcher.call(write, GetData(self._mark_path, None), deadline=deadline)
        # Where another was quicker, what it wrote counts.
        self._history.adopt(self._mark(mark))
        self._may_mark = not isinstance(made, NoAuthError)

    def read(self, group: str) -> Reading:
        """See :meth:`hashring.driver.Driver.read`."""
        check_names(group)

        def step(deadline: float) -> Reading:
            try:
                if not self._watcher.connected:
                    self._watch(deadline)
                began = boottime()
                seen = self._groups.setdefault(self._path(group), _Group())
                self._refresh(self._path(group), seen, deadline)
                self._read_took = boottime() - began
                if self._leases:
                    self._remember(deadline)
            except SessionGone as gone:
                self._watcher.forget()
                raise Failed(str(gone)) from gone
            except BaseException:
                self._watcher.drop()  # a watch whose answer was not seen may or may not be set
                raise
            # What the store put back of us is no record of ours: whoever reads this joins anew.
            behind = {
                _node(names[1])
                for names, lease in list(self._leases.items())
                if lease.is_behind and names[0] == group
            }
            records = {
                _name(node): data for node, data in seen.records.items() if node not in behind
            }
            return Reading(records, self._history.age(began))

        return self._try(f"reading group {group!r}", self._reading, step)

    def _refresh(self, path: str, seen: _Group, deadline: float) -> None:
        """Bring what was seen of a group up to a moment after this call began.

        A commit is answered after the events of all earlier changes. So whatever is marked stale
        by then is read again, the list first; what is marked later is newer than the call.
        """
        listing = GetChildren(path, True)
        commit = Transaction([CheckVersion(self._root, _ANY_VERSION)])  # whatever its result
        if seen.stale_list:
            self._exchange([commit, listing], path, seen, deadline)
        else:
            self._exchange([commit, *self._stale(path, seen)], path, seen, deadline)
            if seen.stale_list:
                self._exchange([listing], path, seen, deadline)
        self._exchange(self._stale(path, seen), path, seen, deadline)

    def _stale(self, path: str, seen: _Group) -> list[Any]:
        return [GetData(f"{path}/{node}", True) for node in sorted(seen.stale)]

    def _exchange(self, requests: list[Any], path: str, seen: _Group, deadline: float) -> None:
        answers = self._watcher.exchange(requests, deadline=deadline)
        absent = False
        with contextlib.closing(answers):
            # Events are marked as they come, between the answers. One that comes before an answer
            # is accounted for by it, one that comes after is not: so an answer takes its mark away
            # when it is read, and not when all have been.
            for request, answer in zip(requests, answers, strict=True):
                if isinstance(request, GetData):
                    node = request.path[len(path) + 1 :]
                    seen.stale.discard(node)
                    if isinstance(answer, NoNodeError):
                        seen.records.pop(node, None)
                        continue
                    self._refuse(answer)
                    seen.records[node] = answer[0] or b""
                elif isinstance(request, GetChildren):
                    seen.stale_list = False
                    absent = isinstance(answer, NoNodeError)
                    if not absent:
                        self._refuse(answer)
                    nodes = set() if absent else set(answer)
                    for node in seen.records.keys() - nodes:
                        del seen.records[node]
                    seen.stale = (seen.stale & nodes) | (nodes - seen.records.keys())
        if absent:
            # No watch is left on the children of nothing: watch for the group itself.
            (stat,) = self._watcher.call(Exists(path, True), deadline=deadline)
            self._refuse(stat)
            if stat is not None:
                self._exchange([GetChildren(path, True)], path, seen, deadline)

    def _on_event(self, kind: int, path: str) -> None:
        seen = self._groups.get(path)
        if seen is not None:
            seen.stale_list = True
            return
        parent, _, node = path.rpartition("/")
        seen = self._groups.get(parent)
        if seen is not None:
            seen.stale.add(node)

    def wait(self, group: str, timeout: float) -> None:
        """See :meth:`hashring.driver.Driver.wait`."""
        check_names(group)
        self._check_open()
        until = boottime() + timeout
        if not self._reading.acquire(timeout=max(0.0, timeout)):
            return
        try:
            path = self._path(group)
            gathering = False
            while not self._closed.is_set():
                seen = self._groups.get(path)
                if seen is None:
                    break
                if seen.changed and not gathering:
                    # Changes come in bursts, and each reading of them costs the servers something:
                    # gather for twice as long as a reading takes. That is little in a small group,
                    # and in a large one the readers leave the servers two thirds of the time.
                    gathering = True
                    until = min(until, boottime() + min(_LINGER, 2 * self._read_took))
                left = until - boottime()
                if left <= 0:
                    return
                self._watcher.pump(left)
        except OSError:
            self._groups.clear()
            return  # the connection broke: who knows what has changed
        finally:
            self._reading.release()
        # Nothing is watched, because the last reading failed: no need to hurry.
        self._closed.wait(min(max(0.0, until - boottime()), self.settings["backoff_max"]))

    # -- what both share

    def _try(self, doing: str, lock: threading.Lock, step: Callable[[float], _T]) -> _T:
        """Run a step that may be repeated, under a lock, until it is done or time is up."""
        deadline = boottime() + self.settings["timeout"]
        if not lock.acquire(timeout=self.settings["timeout"]):
            raise StoreUnavailable(f"{self.url}: {doing} failed: an earlier call still waits")
        try:
            for pause in self._pauses():
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

    def _pauses(self) -> Iterator[float]:
        """Yield how long to wait after each try; the last time, for ever."""
        pause: float = self.settings["backoff"]
        for _ in range(self.settings["retries"]):
            yield pause * (1 - self.settings["jitter"] * random.random())  # noqa: S311
            pause = min(pause * 2, self.settings["backoff_max"])
        yield math.inf

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise StoreUnavailable(f"{self.url} is not open: call open() first")
        if self._opened_in != os.getpid():
            raise StoreUnusable(
                f"{self.url} was opened in process {self._opened_in}, and this is its fork "
                f"{os.getpid()}: open a driver of its own there"
            )

    def _refuse(self, answer: Any) -> None:
        """Raise what no caller expects to see as an answer."""
        if isinstance(answer, NoAuthError | SessionClosedRequireSaslError):
            # A user without a password may be a token.
            who = f"user {self.url.user!r}" if self.url.secret else "this user"
            raise StoreUnusable(
                f"{self.url}: {who} may not do this under {self._root}: check the user, the "
                "password, and the ACL of that path"
            )
        if isinstance(answer, EphemeralOnLocalSessionError):
            raise StoreUnusable(
                f"{self.url} gives local sessions only: set localSessionsUpgradingEnabled=true"
            )
        expected = NoNodeError | NodeExistsError | BadVersionError | UnimplementedError
        if isinstance(answer, ZookeeperError) and not isinstance(answer, expected):
            raise StoreUnusable(f"{self.url}: the server refused: {type(answer).__name__} {answer}")

    def _path(self, *names: str) -> str:
        return "/".join((self._root, *map(_node, names)))

    def _tls(self) -> ssl.SSLContext | None:
        settings = self.settings
        if not settings["tls"]:
            return None
        try:
            context = ssl.create_default_context(cafile=settings["ca"])
            if settings["cert"]:
                context.load_cert_chain(
                    settings["cert"], settings["key"], settings["key_password"] or ""
                )
        except OSError as error:
            raise BadURL(
                f"{self.url}: the TLS files cannot be used (ca={settings['ca']}, "
                f"cert={settings['cert']}, key={settings['key']}): {error.strerror or error}"
            ) from error
        context.check_hostname = settings["check_hostname"]
        return context


def _root(url: DriverURL) -> str:
    check_node_path(url)
    root = url.path.rstrip("/") or _ROOT
    if any(part in {"", ".", ".."} for part in root.split("/")[1:]) or root == "/zookeeper":
        raise BadURL(f"{url}: the path {root!r} cannot be the name of a ZooKeeper node")
    return root


def _node(name: str) -> str:
    """Turn any id into a legal node name.

    >>> _node("host 1/cpu"), _node(".."), _node("a.b")
    ('host%201%2Fcpu', '%2E%2E', 'a.b')
    """
    escaped = quote(name, safe="")
    return escaped if escaped.strip(".") else escaped.replace(".", "%2E")


def _name(node: str) -> str:
    """Return the id of a node name.

    >>> _name("host%201%2Fcpu")
    'host 1/cpu'
    """
    return unquote(node)
