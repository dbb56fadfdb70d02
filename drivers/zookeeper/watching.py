"""What the ZooKeeper driver sees: groups under watch, and for how long nothing was forgotten.

It has a session of its own, beside the one that is the lease. It must not know how leases are kept.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
from collections.abc import Callable, Collection
from typing import Any

from kazoo.exceptions import NoAuthError, NoNodeError, ZookeeperError
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
from hashring.driver import Driver, Reading

from .address import name_of
from .history import History
from .servers import Failed
from .session import Session, SessionGone

__all__ = ["Group", "Watching"]

_log = logging.getLogger(__name__)

_PERSISTENT = 0
_ANY_VERSION = -1
_MARK_AGAIN = 1 / 20
"""Part of the ttl between two readings of a mark that says too little: a newcomer waits for no
longer than those who were there before."""

_MARK = "+history"  # below the path; no group's node has this name, since "+" is escaped there
_LINGER = 0.25  # seconds for which a burst of changes is gathered at most


class Group:
    """What the reading connection has seen of a group since it began to watch it."""

    def __init__(self) -> None:
        self.records: dict[str, bytes] = {}  # by node name
        self.stale_list = True
        self.stale: set[str] = set()

    @property
    def changed(self) -> bool:
        """A watch has told of something that the records do not show."""
        return self.stale_list or bool(self.stale)


class Watching:
    """The groups that one driver reads. For one thread, which has :attr:`lock`.

    Args:
        driver: for its URL, its settings and the words of its errors.
        root: the node under which all groups are.
        acl: the rights on what is written.
        new_session: makes a session, given whom to tell of events.
        owner: the session that is the lease; what it saw of the store counts, too.
        refuse: raises what no caller expects as an answer.
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
        self.session = new_session(self._on_event)
        self.groups: dict[str, Group] = {}
        """What was seen, by the path of the group."""
        self._history = History()
        self._mark_again = 0.0  # when a mark that says too little is read again
        self._mark_version: int | None = None
        self._may_mark = True
        self._told = -math.inf
        self._read_took = 0.0

    def look(self, deadline: float) -> None:
        """Find out at the start whether we may read at all."""
        self._watch(deadline)
        (answer,) = self.session.call(GetChildren(self._root, None), deadline=deadline)
        self._refuse(answer)

    def read(
        self, path: str, behind: Callable[[], Collection[str]], deadline: float, *, marks: bool
    ) -> Reading:
        """Return a group as it is now.

        Args:
            path: of the group.
            behind: tells the nodes that an older copy put back: they are no records.
            deadline: on the boot-time clock.
            marks: whether to write down since when nothing was forgotten.
        """
        try:
            if not self.session.connected:
                self._watch(deadline)
            began = boottime()
            seen = self.groups.setdefault(path, Group())
            self._refresh(path, seen, deadline)
            self._read_took = boottime() - began
            if marks:
                self._remember(deadline)
        except SessionGone as gone:
            self.session.forget()
            raise Failed(str(gone)) from gone
        except BaseException:
            self.session.drop()  # a watch whose answer was not seen may or may not be set
            raise
        hidden = behind()
        records = {name_of(node): data for node, data in seen.records.items() if node not in hidden}
        return Reading(records, self._history.age(began))

    def wait(self, path: str, until: float, closed: threading.Event) -> float:
        """Wait until a group has changed, ``until``, or closed; return when to end at the latest.

        Raises:
            OSError: the connection broke.
        """
        gathering = False
        while not closed.is_set():
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
            self.session.pump(left)
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
            self.tell_of_going_back(f"it was at transaction {seen:#x}, and is at {watcher.seen:#x}")

    def tell_of_going_back(self, evidence: str) -> None:
        """Tell the operator, once for all that shows it."""
        now = boottime()
        if now >= self._told + self._driver.ttl:
            _log.error(
                "%s has gone back in time (%s): it was rebuilt, or restored from an older copy; "
                "members join anew, and nobody gains anything for %g s",
                self._driver.url,
                evidence,
                self._driver.ttl,
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
        listing = GetChildren(path, True)
        commit = Transaction([CheckVersion(self._root, _ANY_VERSION)])  # whatever its result
        if seen.stale_list:
            self._exchange([commit, listing], path, seen, deadline)
        else:
            self._exchange([commit, *self._stale(path, seen)], path, seen, deadline)
            if seen.stale_list:
                self._exchange([listing], path, seen, deadline)
        self._exchange(self._stale(path, seen), path, seen, deadline)

    def _stale(self, path: str, seen: Group) -> list[Any]:
        return [GetData(f"{path}/{node}", True) for node in sorted(seen.stale)]

    def _exchange(self, requests: list[Any], path: str, seen: Group, deadline: float) -> None:
        answers = self.session.exchange(requests, deadline=deadline)
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
            (stat,) = self.session.call(Exists(path, True), deadline=deadline)
            self._refuse(stat)
            if stat is not None:
                self._exchange([GetChildren(path, True)], path, seen, deadline)

    def _on_event(self, kind: int, path: str) -> None:
        seen = self.groups.get(path)
        if seen is not None:
            seen.stale_list = True
            return
        parent, _, node = path.rpartition("/")
        seen = self.groups.get(parent)
        if seen is not None:
            seen.stale.add(node)
