"""What the ZooKeeper driver sees: groups under watch, and for how long nothing was forgotten.

It has a session of its own, beside the one that is the lease. It must not know how leases are kept.

A reading begins with a transaction that changes nothing: what was committed before is applied by
the server before it answers that. ``sync`` proves less: a leader answers it at once, with commits
in hand that it has not applied and its followers have, and a leader that was cut off answers it
until it notices. ZooKeeper sends the watch event of a change before any answer that shows a later
state, so a record read earlier, on the same connection, with no event since, is still the record
after that transaction.

One watch is on a group and all below it, and stays (ZooKeeper 3.6): its events name what changed,
and that alone is read, many records by one request. On older servers each record has a watch of
its own, which its event ends and its next reading sets again.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
from collections.abc import Callable, Collection
from typing import Any

from kazoo.exceptions import NoAuthError, NoNodeError, UnimplementedError, ZookeeperError
from kazoo.protocol.serialization import (
    CheckVersion,
    Create,
    Exists,
    GetChildren,
    GetData,
    SetData,
    Transaction,
)
from kazoo.security import ACL

from hashring.clock import boottime
from hashring.driver import Changes, Driver

from .._journal import Journal
from .._waker import Waker
from .address import name_of
from .history import History
from .requests import AddWatch, MultiRead
from .rewinds import Rewinds
from .servers import Failed
from .session import Session, SessionGone

__all__ = ["Group", "Watching"]

_log = logging.getLogger(__name__)

_PERSISTENT = 0
_ANY_VERSION = -1
_MARK_AGAIN = 1 / 20
"""Part of the ttl between two readings of a mark that says too little: a newcomer waits for no
longer than those who were there before."""

_DELETED, _CHILDREN = 2, 4  # types of events
_AT_ONCE = 128
"""Records that one request reads: an answer has this many times the largest record at most."""

_MARK = "+history"  # below the path; no group's node has this name, since "+" is escaped there
_LARGE_GROUP = 16
"""Above this many members a reading asks twice, one after the other: fewer requests while many
publish at once, and half a millisecond later where one does."""
_LINGER = 0.25  # seconds for which a burst of changes is gathered at most


class Group:
    """What the reading connection has seen of a group since it began to watch it."""

    def __init__(self) -> None:
        self.records: dict[str, bytes] = {}  # by node name
        self.stale_list = True
        self.stale: set[str] = set()
        self.lost: set[str] = set()  # nodes that an event told to be gone, since the last reading
        self.is_watched = False  # with all below it, by one watch that stays
        self.shown: dict[str, bytes] = {}  # by member, what the last reading showed
        self.journal = Journal()

    @property
    def changed(self) -> bool:
        """A watch has told of something that the last reading did not show."""
        return self.stale_list or bool(self.stale or self.lost)

    def show(self, hidden: Collection[str]) -> dict[str, bytes]:
        """Return the records by member, less those hidden, and note what is other than before."""
        self.lost.clear()
        before = self.shown
        now = {name_of(node): data for node, data in self.records.items() if node not in hidden}
        differing = [member for member, data in now.items() if before.get(member) != data]
        differing += before.keys() - now.keys()
        if differing:
            self.journal.note(differing, now)
        self.shown = now
        return now


class Watching:
    """The groups that one driver reads. For one thread, which has :attr:`lock`.

    Args:
        driver: for its URL, its settings and the words of its errors.
        root: the node under which all groups are.
        acl: the rights on what is written.
        new_session: makes a session, given whom to tell of events.
        owner: the session that is the lease; what it saw of the store counts, too.
        refuse: raises what no caller expects as an answer.

    Attributes:
        lock: of the thread that reads or waits.
        waker: ends a wait, from another thread.
        session: that reads and watches.
        groups: what was seen, by the path of the group.
        rewinds: tells where the store went back in time.
    """

    def __init__(
        self,
        driver: Driver,
        root: str,
        acl: list[ACL],
        new_session: Callable[..., Session],
        owner: Session,
        refuse: Callable[[Any], None],
    ) -> None:
        self._driver = driver
        self._root = root
        self._acl = acl
        self._owner = owner
        self._refuse = refuse
        self.lock = threading.Lock()
        self.waker = Waker()
        self.session = new_session(self._on_event)
        self.groups: dict[str, Group] = {}
        self.rewinds = Rewinds(driver)
        self._history = History()
        self._mark_again = 0.0  # when a mark that says too little is read again
        self._mark_version: int | None = None
        self._may_mark = True
        self._sound = -math.inf  # when this connection last saw the store as it had to be
        self._read_took = 0.0
        self._may_watch_all = True  # the server knows watches that stay

    def look(self, deadline: float) -> None:
        """Find out at the start whether we may read at all."""
        self._watch(deadline)
        (answer,) = self.session.call(GetChildren(self._root, None), deadline=deadline)
        self._refuse(answer)

    def read(
        self,
        path: str,
        cursor: bytes | None,
        behind: Callable[[], Collection[str]],
        deadline: float,
        *,
        marks: bool,
    ) -> Changes:
        """Return what changed in a group since a cursor, as it is now.

        Args:
            path: of the group.
            cursor: ``None``: all records are read again, where one watch is on all of them.
            behind: tells the nodes that an older copy put back: they are no records.
            deadline: on the boot-time clock.
            marks: whether to write down since when nothing was forgotten.
        """
        try:
            if not self.session.connected:
                self._watch(deadline)
            began = boottime()
            seen = self.groups.setdefault(path, Group())
            if cursor is None and seen.is_watched:
                seen.stale_list = True
                seen.stale |= seen.records.keys()
            self._refresh(path, seen, deadline)
            self._read_took = boottime() - began
            self._sound = began
            if marks:
                self._remember(deadline)
        except SessionGone as gone:
            self.session.forget()
            raise Failed(str(gone)) from gone
        except BaseException:
            self.session.drop()  # a watch whose answer was not seen may or may not be set
            raise
        records = seen.show(behind())
        return seen.journal.since(cursor, records, self._history.age(began))

    def list_groups(self, deadline: float) -> list[str]:
        """Return the groups that have members, as they are now.

        Args:
            deadline: on the boot-time clock.
        """
        try:
            if not self.session.connected:
                self._watch(deadline)
            _, nodes = self.session.call(
                Transaction([CheckVersion(self._root, _ANY_VERSION)]),  # whatever its result
                GetChildren(self._root, None),
                deadline=deadline,
            )
            self._refuse(nodes)
            found: list[str] = []
            there = [] if isinstance(nodes, NoNodeError) else [one for one in nodes if one != _MARK]
            for start in range(0, len(there), _AT_ONCE):
                some = there[start : start + _AT_ONCE]
                asked = (Exists(f"{self._root}/{node}", None) for node in some)
                for node, stat in zip(
                    some, self.session.call(*asked, deadline=deadline), strict=True
                ):
                    self._refuse(stat)
                    if stat is not None and stat.numChildren:
                        found.append(name_of(node))
        except SessionGone as gone:
            self.session.forget()
            raise Failed(str(gone)) from gone
        except BaseException:
            self.session.drop()  # an answer that was not seen would be taken for the next one
            raise
        return found

    def wait(self, path: str, until: float, closed: threading.Event) -> float:
        """Wait until a group has changed, ``until``, or closed; return when to end at the latest.

        Also until the :attr:`waker` is set.

        Raises:
            OSError: the connection broke.
        """
        gathering = False
        while not (closed.is_set() or self.waker.taken()):
            seen = self.groups.get(path)
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
                break
            self.session.pump(left, self.waker)
        return until

    def _watch(self, deadline: float) -> None:
        """Begin a watching session, and find out what has become of the store meanwhile.

        Watches end with a connection, so what they kept is old. The session is a new one each time:
        its number tells one life of a server from the next (see ``history.py``).
        """
        watcher, history = self.session, self._history
        self.groups.clear()
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
            evidence = f"it was at transaction {seen:#x}, and is at {watcher.seen:#x}"
            self.rewinds.tell(evidence, sound=self._sound, now=boottime())
        self._sound = boottime()  # with what the store has become since, it is at one from here on

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
        now, ttl = boottime(), self._driver.ttl
        data = self._history.due(now, ttl)
        if data is None and self._history.age(now) < ttl and now >= self._mark_again:
            self._mark_again = now + _MARK_AGAIN * ttl
            (mark,) = self.session.call(GetData(self._mark_path, None), deadline=deadline)
            self._history.adopt(self._mark(mark))
        if data is None or not self._may_mark:
            return
        if self._mark_version is None:
            write = Create(self._mark_path, data, self._acl, _PERSISTENT)
        else:
            write = SetData(self._mark_path, data, self._mark_version)
        made, mark = self.session.call(write, GetData(self._mark_path, None), deadline=deadline)
        # Where another was quicker, what it wrote counts.
        self._history.adopt(self._mark(mark))
        self._may_mark = not isinstance(made, NoAuthError)

    def _refresh(self, path: str, seen: Group, deadline: float) -> None:
        """Bring what was seen of a group up to a moment after this call began.

        A commit is answered after the events of all earlier changes. So whatever is marked stale
        by then is read again, the list first; what is marked later is newer than the call.
        """
        commit = Transaction([CheckVersion(self._root, _ANY_VERSION)])  # whatever its result
        if not seen.is_watched and self._may_watch_all:
            self._watch_all(path, seen, deadline)
        listing = GetChildren(path, None if seen.is_watched else True)
        if seen.stale_list:
            self._exchange([commit, listing], path, seen, deadline)
        elif seen.is_watched and len(seen.records) > _LARGE_GROUP:
            # There, some event comes with the answer to nearly every commit: what the earlier ones
            # named is read with what it names, by one request and not by two.
            self._exchange([commit], path, seen, deadline)
            if seen.stale_list:
                self._exchange([listing], path, seen, deadline)
        else:
            self._exchange([commit, *self._stale(path, seen)], path, seen, deadline)
            if seen.stale_list:
                self._exchange([listing], path, seen, deadline)
        self._exchange(self._stale(path, seen), path, seen, deadline)

    def _watch_all(self, path: str, seen: Group, deadline: float) -> None:
        """Set the one watch on a group and all below it, whether it is there yet or not.

        A server that does not know it is not asked again: others of its ensemble are as old.
        """
        (answer,) = self.session.call(AddWatch(path), deadline=deadline)
        if isinstance(answer, UnimplementedError):
            self._may_watch_all = False
            _log.info(
                "%s: the server is older than ZooKeeper 3.6, so each record has a watch of its own "
                "and is read by a request of its own",
                self._driver.url,
            )
            self._watch(deadline)  # a server hangs up on a request that it does not know
            self.groups[path] = seen
            return
        self._refuse(answer)
        seen.is_watched = True

    def _stale(self, path: str, seen: Group) -> list[Any]:
        nodes = sorted(seen.stale)
        if not seen.is_watched:
            return [GetData(f"{path}/{node}", True) for node in nodes]
        paths = [f"{path}/{node}" for node in nodes]
        return [MultiRead(paths[i : i + _AT_ONCE]) for i in range(0, len(paths), _AT_ONCE)]

    def _exchange(self, requests: list[Any], path: str, seen: Group, deadline: float) -> None:
        answers = self.session.exchange(requests, deadline=deadline)
        absent = False
        with contextlib.closing(answers):
            # Events are marked as they come, between the answers. One that comes before an answer
            # is accounted for by it, one that comes after is not: so an answer takes its mark away
            # when it is read, and not when all have been.
            for request, answer in zip(requests, answers, strict=True):
                if isinstance(request, GetData):
                    found = answer if isinstance(answer, ZookeeperError) else answer[0]
                    self._take(seen, request.path[len(path) + 1 :], found)
                elif isinstance(request, MultiRead):
                    self._refuse(answer)
                    for at, found in zip(request.paths, answer, strict=True):
                        self._take(seen, at[len(path) + 1 :], found)
                elif isinstance(request, GetChildren):
                    seen.stale_list = False
                    absent = isinstance(answer, NoNodeError)
                    if not absent:
                        self._refuse(answer)
                    nodes = set() if absent else set(answer)
                    for node in seen.records.keys() - nodes:
                        del seen.records[node]
                    seen.stale = (seen.stale & nodes) | (nodes - seen.records.keys())
        if absent and not seen.is_watched:
            # No watch is left on the children of nothing: watch for the group itself.
            (stat,) = self.session.call(Exists(path, True), deadline=deadline)
            self._refuse(stat)
            if stat is not None:
                self._exchange([GetChildren(path, True)], path, seen, deadline)

    def _take(self, seen: Group, node: str, found: Any) -> None:
        """Take in what the server says that a node has now."""
        seen.stale.discard(node)
        if isinstance(found, NoNodeError):
            seen.records.pop(node, None)
            return
        self._refuse(found)
        seen.records[node] = found or b""

    def _on_event(self, kind: int, path: str) -> None:
        seen = self.groups.get(path)
        if seen is not None:
            # The watch that stays tells of each child by itself.
            seen.stale_list = seen.stale_list or not seen.is_watched
            return
        parent, _, node = path.rpartition("/")
        seen = self.groups.get(parent)
        if seen is None or (seen.is_watched and kind == _CHILDREN):
            return
        if seen.is_watched and kind == _DELETED:
            seen.lost.add(node)
            seen.stale.discard(node)
            seen.records.pop(node, None)
        else:
            seen.stale.add(node)
