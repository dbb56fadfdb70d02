"""`Loops`: a member's streams of windows by name, its running cycles, the next piece of work.

What a user's ``for cycle in partition.cycles(...)`` waits for and pins is decided here, under the
member's lock. This module knows no store; `cycle.py` makes of it what the user holds in hand.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import math
import random
import threading
import weakref

from hashring import clock
from hashring.partition.membership import Membership
from hashring.partition.pins import Pin
from hashring.protocol.streams import follow_clock, leave_begun
from hashring.protocol.windows import Due, Stream, checked_interval, checked_on_crash
from hashring.ring.ring import SlotSet

__all__ = ["Beginning", "Loop", "Loops", "Work"]

_LOOK = 0.2
"""The longest wait in seconds between two looks at whether a loop has work, or is to end."""

_SHORTEST_WAIT = 0.001
"""The shortest wait in seconds: a window about to begin does not keep the processor busy."""

_GATHER_PART, _GATHER_TTL = 0.1, 0.2
"""Parts of the interval and of the ttl: the first member of a group begins its first cycle no
sooner than the shorter of them after it has joined, but before the last tenth of the window. Who
joins meanwhile gets a share of that window."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Label:
    """What tells the loops of one member apart.

    Attributes:
        name: what the user called it; of one without a name, its interval.
        copy: 0, or a number of its own for a second loop beside an open one of the same name.
    """

    name: str | float
    copy: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Work:
    """What one cycle is about.

    Attributes:
        pin: keeps the slots.
        slots: those to act on.
        view_id: the view under which they are held; empty before the first.
        incarnation: the member's.
        start: the wall-clock second at which the window starts; without one, now.
        window: its number, or ``None``.
        interval: its length in seconds, or ``None``.
        late: only slots that were handed over after this member had begun the window.
    """

    pin: Pin
    slots: SlotSet
    view_id: str
    incarnation: str
    start: float
    window: int | None = None
    interval: float | None = None
    late: bool = False


class Loop:
    """One loop over a stream of windows, as the member keeps it.

    Args:
        member: its lock guards the stream.
        stream: the windows.
        jitter: the part of the interval by which each window's work is delayed at random.

    Attributes:
        thread: who iterates: a thread, or a task; ``None`` before the first.
        pin: of the cycle in hand.
        closed: nobody iterates it any more.
        finishing: it is to end after the cycle in hand.
    """

    def __init__(self, member: Membership, stream: Stream, jitter: float) -> None:
        self._member = member
        self.stream = stream
        self.jitter = jitter
        self.thread: object = None
        self.pin: Pin | None = None
        self.closed = False
        self.finishing = False

    def open(self) -> None:
        """Somebody begins to iterate."""
        if not self._member.is_child:
            with self._member.lock:
                self.stream.open(clock.wall())

    def change_interval(self, interval: float) -> None:
        """Go on with windows of another length, from the end of the one in hand."""
        with self._member.lock:
            self.stream.change_interval(interval, clock.wall())

    def started_through(self) -> int | None:
        """Return the newest begun window if it and all before it were started, else ``None``."""
        with self._member.lock:
            wall = clock.wall()
            self.stream.follow(wall)
            return self.stream.window_of(wall) if self.stream.next_start() > wall else None

    def finish(self) -> None:
        """Let it end after the cycle in hand. From any thread."""
        self.finishing = True
        self.stream.ending = True

    def end_cycle(self) -> None:
        """End the cycle in hand. Takes no lock."""
        if self.pin is not None:
            self.pin.end()
            self.pin = None

    def close(self) -> None:
        """End the cycle in hand and stop. Takes no lock and does not wait."""
        self.end_cycle()
        if not self.closed:
            self._member.notes.close(self.stream)
            self.closed = True


@dataclasses.dataclass(slots=True)
class Beginning:
    """When the work of the window that a loop waits for is to begin."""

    start: float = math.nan  # the window's, in wall-clock seconds
    moment: float = 0.0


class Loops:
    """All loops and cycles of one member.

    Args:
        member: whose they are.

    Attributes:
        on_time: how many windows were begun.
        late: how many pieces of windows were begun that had been handed over late.
    """

    def __init__(self, member: Membership) -> None:
        self._member = member
        self._streams: dict[_Label, Stream] = {}
        self._copies = itertools.count(1)
        # Weakly, as all here that leads to the user's: what nobody has in hand is over.
        self._loops: weakref.WeakSet[Loop] = weakref.WeakSet()
        self._running: dict[int, weakref.ref[Pin]] = {}
        self._began: dict[int, float] = {}  # when each of them began, on the boottime clock
        self._numbers = itertools.count(1)
        self._missed_before = self._given_up_before = 0  # by streams that are forgotten
        self.on_time = 0
        self.late = 0

    # ---- streams ---------------------------------------------------------------------------

    def add(self, interval: float, *, on_crash: str, jitter: float, name: str | None) -> Loop:
        """Return a loop over the windows of an interval. See :meth:`Partition.cycles`."""
        interval, on_crash = checked_interval(interval), checked_on_crash(on_crash)
        member = self._member
        wall = clock.wall()
        label = _Label(name if name is not None else interval)
        with member.lock:
            self.read_notes()
            self.share_gains()
            known = self._streams.get(label)
            if known is not None and not known.closed:
                # A second loop of its own: never the same object in two hands. Those of before
                # that are closed, and whose last window is long worked, are forgotten.
                self._forget_copies(wall)
                label = dataclasses.replace(label, copy=next(self._copies))
                known = None
            if known is not None:
                if known.interval != interval:
                    known.change_interval(interval, wall)
                known.open(wall, on_crash)
                known.opened = False  # not before it is iterated
                stream = known
            else:
                stream = Stream(
                    interval,
                    wall=wall,
                    gains=member.handoff.remembered_gains,
                    on_crash=on_crash,
                    catch_up=max(interval, member.ttl),
                    ttl=member.ttl,
                )
                self._streams[label] = stream
            self._allow_catching_up()
            loop = Loop(member, stream, jitter)
            self._loops.add(loop)
        return loop

    def _allow_catching_up(self) -> None:
        """Let every loop work what a slower one's cycle has held up, on whichever member."""
        intervals = {stream.interval for stream in self._streams.values()}
        if len(intervals) > 1:
            for stream in self._streams.values():
                stream.catch_up = max(stream.catch_up, max(intervals) + self._member.ttl)

    def _forget_copies(self, wall: float) -> None:
        ttl = self._member.ttl
        for label, stream in list(self._streams.items()):
            over = stream.next_start() + max(stream.interval, ttl) < wall
            if label.copy and stream.closed and over:
                self._missed_before += stream.missed
                self._given_up_before += stream.given_up
                del self._streams[label]

    def share_gains(self) -> None:
        """Tell all streams of the slots that the hand-off has gained; the caller has the lock."""
        self._member.runner.share_gains(clock.wall(), self._streams.values())

    @property
    def streams(self) -> list[Stream]:
        """All streams, for the member's runner; the caller has the lock."""
        return list(self._streams.values())

    @property
    def unworked(self) -> tuple[int, int]:
        """How many windows this member skipped because it was late itself, and how many were too
        old to be worked once slots had been handed over.
        """
        streams = list(self._streams.values())
        missed = sum(stream.missed for stream in streams)
        given_up = sum(stream.given_up for stream in streams)
        return self._missed_before + missed, self._given_up_before + given_up

    @property
    def away(self) -> int:
        """How many windows nobody worked whose member was away: see :class:`Stats`."""
        return sum(
            stream.too_old(since, until)
            for stream in list(self._streams.values())
            for since, until in list(self._member.handoff.away.values())
        )

    # ---- cycles ----------------------------------------------------------------------------

    def next_work(self, loop: Loop) -> Work | None:
        """Wait for a loop's next piece of work and pin it; ``None``: there will be no more."""
        member = self._member
        beginning = Beginning()
        with contextlib.nullcontext() if member.is_child else member.lock:
            while isinstance(found := self.try_next(loop, beginning), float):
                member.changed.wait(found)
        return found

    def try_next(self, loop: Loop, beginning: Beginning) -> Work | float | None:
        """Pin a loop's next piece of work, or return for how many seconds at most to wait for it;
        ``None``: there will be no more.
        """
        member = self._member
        if member.is_child:
            return None
        with member.lock:
            member.check()
            found = self._look(loop, beginning)
            if isinstance(found, Due):
                return self._begin_window(loop, found)
            return None if found is None else max(_SHORTEST_WAIT, found)

    def _look(self, loop: Loop, beginning: Beginning) -> Due | float | None:
        """Return what to begin now, or else how many seconds to wait; ``None``: no more comes."""
        member, stream = self._member, loop.stream
        handoff = member.handoff
        member.clock_watch.look()
        now, wall = clock.boottime(), clock.wall()
        follow_clock(list(self._streams.values()), wall)
        state = handoff.state(now)
        if state == "left" or stream.ending:
            return None
        if state in ("joining", "fenced"):
            return None if member.stopping else _LOOK
        self.share_gains()
        usable = functools.partial(handoff.usable, now)
        due = stream.due(wall, usable)
        if member.stopping:
            streams = list(self._streams.values())
            if leave_begun(stream, streams, wall, usable, handoff.losing):
                return None
            due = stream.due(wall, usable)
        if due is None:
            return min(_LOOK, stream.next_start() - wall)
        if not due.slots and not handoff.is_settled:
            # An empty share is only worth a cycle once it is known to be one.
            return _LOOK
        if beginning.start != due.start:
            beginning.start = due.start
            beginning.moment = self._moment_to_begin(loop, due, now=now, wall=wall)
        if (
            wall >= beginning.moment
            or due.late
            or member.stopping
            or not due.slots.isdisjoint(handoff.losing)  # others wait for us
        ):
            return due
        return min(_LOOK, beginning.moment - wall)

    def _moment_to_begin(self, loop: Loop, due: Due, *, now: float, wall: float) -> float:
        """Return the wall-clock second at which the work of a window is to begin."""
        stream = loop.stream
        # From the window's start: a delay may not outlast the window.
        moment = due.start + random.random() * loop.jitter * stream.interval  # noqa: S311
        gathered = self._member.joined_at + self._gathering(stream)
        if self._may_be_joined(stream) and now < gathered:
            # Before the window's end, whatever the clock does.
            last = due.start + (1 - _GATHER_PART) * stream.interval
            moment = max(moment, min(wall + gathered - now, last))
        return moment

    def _gathering(self, stream: Stream) -> float:
        return min(_GATHER_PART * stream.interval, _GATHER_TTL * self._member.ttl)

    def _may_be_joined(self, stream: Stream) -> bool:
        """Whether this member is new in a group where nobody has worked yet: others may be about
        to join, and would wait for the whole of its first cycle.
        """
        return stream.newest_start == -math.inf and not any(
            gain.is_claimed for gain in self._member.handoff.remembered_gains
        )

    def _begin_window(self, loop: Loop, due: Due) -> Work:
        work = self._begin(
            due.slots,
            start=due.start,
            window=due.window,
            interval=loop.stream.interval,
            late=due.late,
        )
        loop.stream.started(due)
        loop.pin = work.pin
        if due.late:
            self.late += 1
        else:
            self.on_time += 1
        return work

    def begin_plain(self) -> Work:
        """Pin what is held, for a cycle without a window."""
        self._member.check_parent()
        with self._member.lock:
            return self._begin(self._member.held, start=clock.wall())

    def _begin(
        self,
        slots: SlotSet,
        *,
        start: float,
        window: int | None = None,
        interval: float | None = None,
        late: bool = False,
    ) -> Work:
        handoff = self._member.handoff
        pin = self.pin(slots)
        self._began[pin.number] = clock.boottime()
        view = handoff.applied
        return Work(
            pin,
            slots,
            "" if view is None else view.id,
            handoff.incarnation,
            start,
            window=window,
            interval=interval,
            late=late,
        )

    def pin(self, slots: SlotSet) -> Pin:
        """Pin slots that are held; the caller has the lock."""
        handoff = self._member.handoff
        pin = Pin(next(self._numbers), handoff.lease_number, self._member, handoff.epoch)
        # Before the slots are pinned: should this thread be interrupted in between, the pin is
        # found to be in nobody's hands.
        self._running[pin.number] = weakref.ref(pin)
        handoff.pin(pin.number, slots)
        return pin

    def pin_other(self, pin: Pin, slots: SlotSet) -> None:
        """Let a pin that has not ended keep other slots; the caller has the lock."""
        handoff = self._member.handoff
        handoff.pin(pin.number, slots)
        pin.epoch = handoff.epoch
        pin.wake()

    def read_notes(self) -> None:
        """Act on what ended without the lock; the caller has it, and is no finaliser."""
        member, notes = self._member, self._member.notes
        ended = member.grips.end_due(clock.boottime())
        # What is noted is done first, and crossed out then: a Ctrl-C in between loses nothing.
        for pin in list(notes.pins):
            if not pin.runs_calls:  # else it is looked at again when the last of them has ended
                self._unpin(pin.number)
                notes.pins.remove(pin)
                ended = True
        for number, found in list(self._running.items()):
            if found() is None:
                # In nobody's hands, and never ended: Ctrl-C came before its block had begun.
                self._unpin(number)
                ended = True
        while notes.streams:
            notes.streams[0].closed = True
            notes.streams.popleft()
            ended = True
        if ended:
            member.changed.notify_all()

    def _unpin(self, number: int) -> None:
        self._running.pop(number, None)
        began = self._began.pop(number, None)
        if began is not None:
            self._member.cycles.add(clock.boottime() - began)
        self._member.handoff.unpin(number)

    @property
    def is_running(self) -> bool:
        """Whether a cycle runs here, or something is gripped."""
        return bool(self._running) or bool(self._member.grips)

    def end_own(self, thread: object = None) -> None:
        """End the cycles and loops of the calling thread, or of a task: it cannot be working them.

        Args:
            thread: the task, as their pins have it; ``None``: the calling thread.
        """
        thread = threading.get_ident() if thread is None else thread
        for loop in list(self._loops):
            if loop.thread == thread:
                loop.close()
        for found in list(self._running.values()):
            pin = found()
            if pin is not None and pin.thread == thread:
                pin.end()
