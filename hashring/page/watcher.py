"""`Watcher`: what a process's partitions do, remembered for a page. It asks no store anything.

It looks at the partitions four times a second, from a thread of its own, and describes a group from
the records that its member has read already, once a second at most: however many browsers look, a
store and a hand-over are never held up by them.
"""

from __future__ import annotations

import dataclasses
import logging
import socket
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple, Self

from hashring import clock
from hashring.observe import describe, owner
from hashring.observe.description import GroupDescription, Ownership
from hashring.observe.records import Records
from hashring.page.history import Glance, glance, happened
from hashring.page.status import Event, GroupStatus, ProcessStatus, group_status, worst
from hashring.partition.partition import Partition
from hashring.protocol.view import View

__all__ = ["Watcher"]

log = logging.getLogger("hashring")

_LOOK = 0.25
"""Seconds between two looks at the partitions: events are told with this accuracy."""

_DESCRIBE = 1.0
"""Seconds between two descriptions of a group, at least: each costs work for each member of it."""

_EVENTS = 200
"""Events that are remembered."""

_KNOWN = 64
"""Views that are remembered, to tell what a member holds that still shows one of them."""


_RANGES = 50
"""Runs of slots that a description names of each wait: thousands would make the page slow."""


class _Described(NamedTuple):
    """A description, and when it was made, in seconds on the boottime clock."""

    at: float
    value: GroupDescription


class _Watched:
    """What is remembered of one partition."""

    def __init__(self) -> None:
        self.glance: Glance | None = None
        self.known: dict[str, View] = {}
        self.seen: dict[tuple[str, str], float] = {}
        self.described: _Described | None = None


class Watcher:
    """Watches partitions for as long as the block runs. From any thread.

    Args:
        partitions: returns those that there are now; called four times a second. They are not kept
            alive.

    Example:
        >>> import hashring
        >>> with (
        ...     hashring.join("memory://doc-watcher", "pollers", "a") as partition,
        ...     Watcher(lambda: [partition]) as watcher,
        ... ):
        ...     _ = partition.wait_settled(10)
        ...     status = watcher.status()
        ...     owner = watcher.owner("pollers", "web1").owner
        >>> status.state, list(status.groups), owner
        ('settled', ['pollers'], 'a')
    """

    def __init__(self, partitions: Callable[[], Iterable[Partition]]) -> None:
        self._partitions = partitions
        self._lock = threading.Lock()
        self._watched: weakref.WeakKeyDictionary[Partition, _Watched] = weakref.WeakKeyDictionary()
        self._events: deque[Event] = deque(maxlen=_EVENTS)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hashring-page", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the thread. Idempotent."""
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join()

    @property
    def events(self) -> tuple[Event, ...]:
        """What has happened, the newest last."""
        with self._lock:
            return tuple(self._events)

    def status(self) -> ProcessStatus:
        """Return what there is to say of the process now."""
        groups = {
            name: group_status(partition, self.description(partition))
            for name, partition in self.named().items()
        }
        return ProcessStatus(
            written_at=clock.wall(),
            host=socket.gethostname(),
            state=worst(groups),
            groups=groups,
            events=self.events,
        )

    def group(self, partition: Partition) -> GroupStatus:
        """Return what there is to say of one partition."""
        return group_status(partition, self.description(partition))

    def named(self) -> dict[str, Partition]:
        """Return the partitions by group; a second one of a group by group and member."""
        found: dict[str, Partition] = {}
        for partition in self._partitions():
            taken = partition.group in found
            found[f"{partition.group} {partition.member}" if taken else partition.group] = partition
        return found

    def description(self, partition: Partition) -> GroupDescription | None:
        """Return the group as of the latest reading; ``None`` before the first."""
        with self._lock:
            return self._description(partition)

    def owner(self, name: str, key: str) -> Ownership:
        """Say whose a key is.

        Args:
            name: of :meth:`named`.
            key: the key.

        Raises:
            KeyError: there is no such group.
            EmptyRing: nobody owns anything.
            BadKey: the key cannot be encoded as UTF-8.
        """
        partition = self.named()[name]
        with self._lock:
            return owner.owner(_records(partition, self._of(partition).known), key)

    def _of(self, partition: Partition) -> _Watched:
        return self._watched.setdefault(partition, _Watched())

    def _description(self, partition: Partition) -> GroupDescription | None:
        watched, now = self._of(partition), clock.boottime()
        before = watched.described
        if before is not None and now - before.at < _DESCRIBE:
            return before.value
        if not partition.records and not partition.problems:
            return None
        found = describe.describe(
            _records(partition, watched.known),
            url=partition.store_url,
            group=partition.group,
            wall=clock.wall(),
            seen=watched.seen,
        )
        waits = tuple(
            dataclasses.replace(wait, ranges=wait.ranges[:_RANGES]) for wait in found.waits
        )
        found = dataclasses.replace(found, waits=waits)
        watched.described = _Described(now, found)
        return found

    def _run(self) -> None:
        failed = False
        while True:
            try:
                self._look()
            except Exception:
                # The page goes on without its events; once is enough to say so.
                if not failed:
                    log.exception("the page cannot look at its partitions")
                failed = True
            if self._ended.wait(_LOOK):
                return

    def _look(self) -> None:
        for partition in self._partitions():
            now = glance(partition)
            with self._lock:
                watched = self._of(partition)
                for kind, text, is_fault in happened(watched.glance, now):
                    self._events.append(
                        Event(round(clock.wall(), 3), partition.group, kind, text, is_fault)
                    )
                watched.glance = now


def _records(partition: Partition, known: dict[str, View]) -> Records:
    unreadable = {id: why for id, why in partition.problems.items() if id not in partition.records}
    found = Records.of(dict(partition.records), unreadable, partition.memory_age, known)
    while len(known) > _KNOWN:
        del known[next(iter(known))]
    return found
