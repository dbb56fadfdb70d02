"""`Steering`: what the page was asked to do with its groups, done in threads of its own.

It does what `hashring group` does, by the same code: :class:`hashring.steer.Operator`. It knows no
HTTP and no token.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import uuid
from collections.abc import Callable, Mapping
from typing import Literal

from hashring import clock
from hashring.errors import BadArgument, HashringError
from hashring.partition.partition import Partition
from hashring.steer.operator import Operator
from hashring.steer.outcome import Outcome

__all__ = ["ACTS", "OF_A_MEMBER", "Act", "Steering"]

log = logging.getLogger("hashring")

OF_A_MEMBER = ("drain", "evict")
ACTS = (*OF_A_MEMBER, "freeze", "thaw")
"""What can be asked: the first two of a member, the others of a whole group."""

_AT_ONCE = 4
"""Acts under way at once: each has connections to the store, and a thread."""

_REMEMBERED = 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Act:
    """Something that the page was asked to do.

    Attributes:
        id: of the act.
        at: the wall-clock second at which it was asked.
        what: one of :data:`ACTS`.
        group: the name of the group on the page.
        member: whom it is about; empty: the whole group.
        by: who asked, by their own account.
        state: ``running``, ``done``, or ``not done``.
        reason: why, in a sentence; empty while it runs.
    """

    id: str
    at: float
    what: str
    group: str
    member: str
    by: str
    state: Literal["running", "done", "not done"] = "running"
    reason: str = ""


class Steering:
    """Acts on the groups of a process's partitions. From any thread.

    Args:
        named: returns the partitions by the names of their groups on the page; see
            :meth:`hashring.page.Watcher.named`.
    """

    def __init__(self, named: Callable[[], Mapping[str, Partition]]) -> None:
        self._named = named
        self._changed = threading.Condition()
        self._acts: dict[str, Act] = {}
        self._running: dict[str, tuple[threading.Thread, Operator]] = {}
        self._closed = False

    def begin(self, what: str, name: str, member: str, *, by: str, force: bool = False) -> Act:
        """Begin an act in a thread of its own.

        Args:
            what: one of :data:`ACTS`.
            name: the group's, on the page.
            member: the member's id; empty for a whole group.
            by: who asks: each member's log says so.
            force: evict a member that heartbeats, too.

        Raises:
            KeyError: there is no such group here.
            BadArgument: so many acts run already, or the page ends.
        """
        partition = self._named()[name]
        operator = Operator(partition.new_driver(), by=by)
        act = Act(
            id=uuid.uuid4().hex,
            at=round(clock.wall(), 3),
            what=what,
            group=name,
            member=member,
            by=operator.by,
        )

        def do(operator: Operator) -> Outcome:
            if what == "drain":
                return operator.drain(partition.group, member)
            if what == "evict":
                return operator.evict(partition.group, member, force=force)
            return (
                operator.freeze(partition.group)
                if what == "freeze"
                else operator.thaw(partition.group)
            )

        thread = threading.Thread(
            target=self._run, args=(act, operator, do), name=f"hashring-page-{what}", daemon=True
        )
        with self._changed:
            if self._closed or len(self._running) >= _AT_ONCE:
                raise BadArgument(
                    "this process ends" if self._closed else f"{_AT_ONCE} acts are under way: wait"
                )
            self._acts[act.id] = act
            while len(self._acts) > _REMEMBERED:
                old = next(id for id in self._acts if id not in self._running)
                del self._acts[old]
            self._running[act.id] = thread, operator
            thread.start()
        return act

    def wait(self, id: str, seconds: float) -> Act:
        """Return an act, once it is over or after so many seconds."""
        with self._changed:
            self._changed.wait_for(lambda: id not in self._running, seconds)
            return self._acts[id]

    @property
    def acts(self) -> tuple[Act, ...]:
        """What was asked of late, the newest last."""
        with self._changed:
            return tuple(self._acts.values())

    def close(self) -> None:
        """End what runs: what members were asked may have been heard. Idempotent."""
        with self._changed:
            self._closed = True
            running = list(self._running.values())
        for _, operator in running:
            operator.end()
        for thread, _ in running:
            thread.join()

    def _run(self, act: Act, operator: Operator, do: Callable[[Operator], Outcome]) -> None:
        done, reason = False, "it failed: the log says why"
        try:
            with operator:
                outcome = do(operator)
            done, reason = outcome.done, outcome.reason
        except HashringError as error:
            reason = str(error)
        except Exception:  # a third party's driver
            log.exception("the page could not %s in %s", act.what, act.group)
        state: Literal["done", "not done"] = "done" if done else "not done"
        log.info("%s: %s: %s: %s", act.group, _told(act), state, reason)
        with self._changed:
            del self._running[act.id]
            self._acts[act.id] = dataclasses.replace(act, state=state, reason=reason)
            self._changed.notify_all()


def _told(act: Act) -> str:
    whom = f" {act.member!r:.200}" if act.member else ""
    return f"{act.what}{whom}, asked by {act.by!r}"
