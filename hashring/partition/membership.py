"""`Membership`: one member of one group, as every thread of this process sees it.

It has the hand-off, the lock over it, and the few facts that the user's threads and the member's
own share. It decides nothing and calls no store; `worker.py` and `loops.py` do.
"""

from __future__ import annotations

import math
import os
import threading

from hashring import clock
from hashring.driver import Driver
from hashring.errors import BadArgument, HashringError, LeaseLost
from hashring.partition.losses import Losses
from hashring.partition.notes import Flag, Notes
from hashring.partition.progress import Progress
from hashring.partition.reports import ClockWatch
from hashring.partition.stats import Tally
from hashring.partition.timings import Calls, Histogram, timed
from hashring.partition.wakeups import Changed
from hashring.protocol.grips import Grips
from hashring.protocol.handoff import Handoff
from hashring.protocol.request import Request
from hashring.protocol.runner import Runner
from hashring.ring.ring import SlotSet

__all__ = ["Membership"]


class Membership:
    """The hand-off of one member, its lock, and what all threads ask of both.

    Nothing here may refer to the user's `Partition`: that one is dropped while this lives on.

    Args:
        driver: the store. Its calls are counted from here on.
        group: the group's id.
        handoff: the rules; only to be called with ``lock`` held, but for its plain attributes.

    Attributes:
        runner: the order of the member's steps; to be called with ``lock`` held.
        grips: what is kept until a time; to be called with ``lock`` held.
        lock: over the hand-off and all streams of windows.
        changed: a condition on ``lock``; notified when the hand-off may have changed. It is not
            entered itself, but the lock, which is C: a Ctrl-C in between leaves nothing locked.
        notes: what finalisers have left behind.
        stopping: the user has asked all loops to end.
        leave_by: when a drain leaves all the same, in seconds on the boottime clock.
        resume: for so many seconds, once it drains, its share is to stay its own.
        ended: the member's threads are to end.
        gone: the store has been told, and the connections are closed.
        failure: why this member can never take part; raised wherever the user asks.
        memory_age: seconds for which the store had surely forgotten nothing, at the latest reading.
        joined_at: when the first join returned, in seconds on the boottime clock.
        clock_watch: names a step of the wall clock in the log.
        tally: counts hand-overs and the time past the fence.
        losses: counts the members that vanished without a word.
        calls: counts the calls on the store.
        settling: how long it took to settle after each change of the group.
        cycles: how long cycles lasted.
        progress: what it says in the log of what it goes through; under ``lock``.
        requests: what operators have asked of it, the latest one last.
    """

    def __init__(self, driver: Driver, group: str, handoff: Handoff) -> None:
        self.calls = Calls()
        self.driver = timed(driver, self.calls)
        self.handoff = handoff
        self.runner = Runner(handoff)
        self.grips = Grips(handoff)
        self.group = group
        self.member = handoff.member
        self.ttl = handoff.ttl
        self.lock = threading.RLock()
        self.changed = Changed(self.lock)
        self.notes = Notes()
        self.stopping = False
        self.leave_by = math.inf
        self.resume = 0.0
        self.ended = Flag()
        self.gone = Flag()
        self.failure: HashringError | None = None
        self.joined_at = math.inf
        self.memory_age = 0.0
        self.clock_watch = ClockWatch(group, handoff.member, handoff.ttl)
        self.settling = Histogram()
        self.cycles = Histogram()
        self.progress = Progress(group, handoff.member, handoff.ttl)
        self.requests: tuple[Request, ...] = ()
        self.tally = Tally(settled_within=self.settling.add)
        self.losses = Losses()
        self._fenced = 0.0  # seconds past the fence, at the latest count
        self._pid = os.getpid()

    @property
    def is_child(self) -> bool:
        """Whether this is a forked child: it has no threads and holds nothing, and its copy of
        the lock may be held for ever.
        """
        return os.getpid() != self._pid

    def check(self) -> None:
        """Raise why this member can never take part, if it cannot."""
        if self.failure is not None:
            raise self.failure

    def check_parent(self) -> None:
        """Raise the failure, or :class:`LeaseLost` in a forked child."""
        self.check()
        if self.is_child:
            raise LeaseLost("a forked child holds nothing: join again in the child")

    @property
    def held(self) -> SlotSet:
        """The slots that may be acted on now; empty past the fence and in a forked child."""
        return self.handoff.held(math.inf if self.is_child else clock.boottime())

    @property
    def state(self) -> str:
        """joining, settling, settled, fenced, draining or left."""
        return "left" if self.is_child else self.handoff.state(clock.boottime())

    def has_lease(self, lease: int) -> bool:
        """Whether the lease of this number runs, and its fence has not passed. Takes no lock."""
        # The deadline first: a deadline read after the lease could be the next lease's.
        deadline = self.handoff.deadline
        return (
            clock.boottime() < deadline and self.handoff.lease_number == lease and not self.is_child
        )

    def count(self) -> None:
        """Count what the hand-off has gone through since the last call."""
        with self.lock:
            view, target = self.handoff.applied, self.handoff.view
            self.tally.look(
                now=clock.boottime(),
                fence=self.handoff.deadline,
                view=None if view is None else view.id,
                target=None if target is None else target.id,
                is_settled=self.handoff.is_settled,
            )
            fenced = self.tally.fenced_seconds(clock.boottime())
            # After a fence of its own, or where the store has forgotten, nobody is called lost.
            is_sure = fenced == self._fenced and self.memory_age >= self.ttl
            self.losses.look(self.handoff.members, is_sure=is_sure)
            self._fenced = fenced

    def is_locked_here(self) -> bool:
        """Whether the calling thread holds the lock."""
        return bool(self.lock._is_owned())  # type: ignore[attr-defined]

    def change_weight(self, weight: float) -> None:
        """Let this member weigh something else from now on.

        Raises:
            BadArgument: it drains, or has left.
        """
        self.check_parent()
        with self.lock:
            if self.state in ("draining", "left"):
                raise BadArgument(
                    f"the weight of {self.member!r} cannot be set to {weight:g}: it is {self.state}"
                )
            self.handoff.weight = weight
        self.interrupt()

    def begin_drain(self) -> None:
        """Let the hand-off drain, unless it has left."""
        with self.lock:
            if not self.handoff.has_left:
                self.handoff.drain(self.resume)
            self.changed.notify_all()
        self.interrupt()

    def interrupt(self) -> None:
        """Let the thread that reconciles look again at once, also where it waits in the store."""
        self.notes.hurry()
        self.driver.interrupt()

    def __repr__(self) -> str:
        return f"<Membership of {self.member!r} in group {self.group!r}: {self.state}>"
