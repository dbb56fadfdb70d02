"""One member's process in a simulated group: its clocks, its hand-off, and what its threads do.

Only time, threads and the network are simulated. What a member does next is said by
:class:`~hashring.protocol.runner.Runner`, as in production; its processes are generators that yield
the calls and the sleeps of a thread.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any

from hashring.errors import GroupMismatch, HashringError, MemberExists, StoreUnavailable
from hashring.protocol.actions import Join, Leave, Publish, Wait
from hashring.protocol.grips import Gripped, Grips
from hashring.protocol.reading import Reading
from hashring.protocol.runner import Read, Step
from hashring.protocol.streams import follow_clock, leave_begun
from hashring.protocol.windows import Due, Stream
from hashring.ring.ring import SlotSet
from hashring.testing.simulation.profiles import INTERVAL, SPEC, STRANGE, TTL

if TYPE_CHECKING:
    from hashring.testing.simulation.world import World

__all__ = ["Call", "Process", "SimulatedMember", "Sleep"]

_MOST_GRIPS = 3
"""The most grips of one member at once."""


class Sleep:
    """Yielded by a process: go on after this long, or when it is woken."""

    def __init__(self, seconds: float, *, wakes: bool = False) -> None:
        self.seconds = seconds
        self.wakes = wakes


class Call:
    """Yielded by a process: a request to the store."""

    def __init__(self, function: Callable[[float], Any]) -> None:
        self.function = function


Process = Generator[Any, Any, None]


class SimulatedMember:
    """One member's process.

    Args:
        world: the run that it is part of.
        name: its id.
        weight: its share.
        is_stranger: it has another ring.
    """

    def __init__(
        self, world: World, name: str, weight: float, *, is_stranger: bool = False
    ) -> None:
        self.world = world
        self.name = name
        self.alive = True
        self.paused_until = 0.0
        self.last_landing = 0.0
        self.writes_read = 0
        self.state = "joining"
        random_ = world.random
        drift = world.profile.drift
        self.rate = 1.0 + random_.uniform(-drift, drift)
        self.wall_offset = random_.uniform(-world.profile.skew, world.profile.skew) / 2
        bound = world.profile.max_claims
        self.handoff = world.make_handoff(
            name,
            incarnations=(f"{name}.{next(world.numbers)}" for _ in itertools.count()),
            spec=STRANGE if is_stranger else SPEC,
            ttl=TTL,
            weight=weight,
            gather=world.profile.gather,
            **({"max_claims": bound} if bound else {}),
        )
        self.runner = world.make_runner(self.handoff)
        self.grips = Grips(self.handoff)
        self.gripped: list[Gripped] = []  # those that this member's user acts on
        self.last_grip: Gripped | None = None  # to be renewed, also where it has ended
        self.is_stranger = is_stranger
        self.has_settled = False
        self.seen: set[str] = set()  # every member of which it has read a record or a place
        self.reweighed = False  # it has been given another weight than it began with
        self.publishing = False  # what it sent last may still be on its way
        self.streams: list[Stream] = []
        self.stopping = False
        self.handed_over = False  # it has left, and others have what was its own, or keep it
        self.back: float | None = None  # it leaves, and is to come back within so many seconds
        self.ending = False  # the loops end, and the member drains a while later
        self.reconciling: Process | None = None
        self.beating: Process | None = None
        self.cycling: list[Process] = []
        self.waiting: dict[float, SlotSet] = {}  # by loop that does: what it could begin
        self.numbers = itertools.count()
        self.running: dict[int, tuple[SlotSet, int]] = {}  # by cycle: its slots and the lease

    # ---- clocks ---------------------------------------------------------------------------

    def local(self) -> float:
        """Return this member's clock that never steps."""
        return self.world.now * self.rate

    def wall(self) -> float:
        """Return this member's wall clock."""
        return 1000.0 + self.world.now + self.wall_offset

    # ---- the thread that reconciles -------------------------------------------------------

    def reconcile(self) -> Process:
        """Go through the choreography until this member leaves."""
        runner, random_ = self.runner, self.world.random
        while True:
            self.grips.end_due(self.local())
            step = runner.next()
            if isinstance(step, Leave):
                self.handed_over = step.handed_over
                break
            try:
                yield from self._perform(step)
            except GroupMismatch as error:
                if self.has_settled or not self.world.profile.strangers:
                    raise self.world.violation(f"{self.name} ends: {error}") from error
                self.world.refused(self)
                break
            except HashringError as error:
                runner.fail(error)
                if isinstance(error, MemberExists):
                    yield Sleep(random_.uniform(0.1, 0.5))
                elif isinstance(error, StoreUnavailable):
                    yield Sleep(random_.uniform(0.02, 0.3))
        incarnation, store = self.handoff.incarnation, self.world.store
        self.handoff.left()
        self.world.say(f"left {self.name}")
        self.world.has_left(self)
        try:
            yield Call(lambda now: store.leave(now, self.name, incarnation))
        except HashringError:
            return

    def _perform(self, step: Step) -> Process:
        """Do one step, as ``Partition`` does on a driver."""
        store = self.world.store
        if isinstance(step, Read):
            reading = yield Call(self._read)
            self._learn(reading)
        elif isinstance(step, Join):
            yield Call(functools.partial(store.join, member=self.name, record=step.record))
            self._confirm()
            self.world.wake(self.beating)
        elif isinstance(step, Publish):
            self.publishing = True
            number = yield Call(
                functools.partial(store.publish, member=self.name, record=step.record)
            )
            self.publishing = False
            self._confirm(number)
            self.wake_loops()
        elif isinstance(step, Wait):
            yield from self._wait(step)

    def _wait(self, wait: Wait) -> Process:
        if wait.local:
            yield Sleep(0.2, wakes=True)
        elif wait.seconds is None:
            # As the partition does: wait for a change, and look for the expired.
            if self.writes_read == self.world.store.writes:
                quiet = self.handoff.is_settled and not self.stopping
                yield Sleep(0.8 if quiet else 0.2, wakes=True)
        elif wait.seconds > 0:
            yield Sleep(min(wait.seconds, 0.3), wakes=True)

    def _read(self, now: float) -> Reading:
        reading = self.world.store.read(now)
        self.writes_read = self.world.store.writes
        return reading

    def _learn(self, reading: Reading) -> None:
        handoff = self.handoff
        was_settled = handoff.is_settled
        gained = self.runner.learn(
            reading, now=self.local(), wall=self.wall(), streams=self.streams
        )
        for id, one in handoff.members.items():
            self.seen.add(id)
            self.seen.update(name for name, _ in (place.name for place in one.parked))
        if handoff.view is not None:
            self.world.judge.views[handoff.view.id] = handoff.view
        self._count(gained)
        if handoff.is_settled and not was_settled:
            self.wake_loops()

    def _confirm(self, number: int | None = None) -> None:
        gained = self.runner.confirm(
            now=self.local(), wall=self.wall(), streams=self.streams, number=number
        )
        self._count(gained)

    def _count(self, gained: bool) -> None:
        if gained and self.handoff.view is not None:
            self.world.judge.gained(self, self.handoff.view)
        if gained and self.streams:
            self.world.result.gains += 1
            self.wake_loops()

    # ---- the thread that heartbeats -------------------------------------------------------

    def heartbeats(self) -> Process:
        """Renew the lease for as long as this member takes part."""
        handoff, store, runner = self.handoff, self.world.store, self.runner
        while not handoff.has_left:
            beat = runner.beat(self.local())
            try:
                yield Call(
                    functools.partial(
                        store.heartbeat, member=self.name, incarnation=beat.incarnation
                    )
                )
                runner.confirm_beat(beat)
            except HashringError as error:
                runner.fail_beat(beat, error)
                if isinstance(error, StoreUnavailable):
                    yield Sleep(0.1)
                    continue
            pause = beat.began + TTL / 3 - self.local() if beat.token >= 0 else 0.3
            yield Sleep(max(0.001, pause), wakes=True)

    # ---- a loop over windows --------------------------------------------------------------

    def cycles(self, interval: float) -> Process:
        """Work each window of one loop."""
        handoff, world = self.handoff, self.world
        while handoff.state(self.local()) in ("joining", "fenced"):
            yield Sleep(0.3, wakes=True)
        if world.profile.late_loops and world.random.random() < 0.5:
            begin = world.now + world.random.uniform(0.0, world.profile.late_loops)
            while world.now < begin:
                yield Sleep(min(0.3, begin - world.now))
                if self.stopping or handoff.has_left:
                    return
        if not self.streams:
            # All loops begin together: what one has worked is handed over for all of them.
            self._open_streams()
        (stream,) = (stream for stream in self.streams if stream.interval == interval)
        span = 0.9 if world.random.random() < 0.2 else 0.3
        while True:
            due = self._next_due(stream)
            while not isinstance(due, Due):
                if due is None:
                    return
                yield Sleep(due, wakes=True)
                due = self._next_due(stream)
            yield from self._work(stream, due, span)

    def _next_due(self, stream: Stream) -> Due | float | None:
        """Return the next piece of work; seconds to wait for it; or ``None``: there is no more."""
        handoff = self.handoff
        self.waiting.pop(stream.interval, None)
        if handoff.has_left:
            return None
        if self.ending and not self.stopping:
            self._close(stream)
            return None
        wall = self.wall()
        follow_clock(self.streams, wall)
        if handoff.state(self.local()) not in ("joining", "fenced"):
            usable = functools.partial(handoff.usable, self.local())
            due = stream.due(wall, usable)
            if self.stopping:
                if leave_begun(stream, self.streams, wall, usable, handoff.losing):
                    self._close(stream)
                    return None
                due = stream.due(wall, usable)
            if due is not None and (due.slots or handoff.is_settled):
                return due
        elif self.stopping:
            self._close(stream)
            return None
        self.waiting[stream.interval] = handoff.usable(self.local(), math.inf)
        pause = stream.next_start() - wall
        if pause <= 0:  # fenced, or an empty share that may yet grow
            pause = 0.4
        return min(0.5, max(0.002, pause))

    def _work(self, stream: Stream, due: Due, span: float) -> Process:
        handoff, random_, world = self.handoff, self.world.random, self.world
        number = next(self.numbers)
        handoff.pin(number, due.slots)
        stream.started(due)
        self.running[number] = (due.slots, handoff.lease_number)
        # Late work is a few slots: it takes a part of the time that a share takes.
        busy = random_.uniform(0.0, 0.05 if due.late else span) * INTERVAL
        if self._is_slow():
            busy = random_.uniform(INTERVAL, world.profile.longest)
        yield Sleep(busy / 2)
        if self.is_valid(number):
            world.judge.work(self, stream.interval, due)
        yield Sleep(busy / 2)
        del self.running[number]
        handoff.unpin(number)
        world.wake(self.reconciling)

    def _is_slow(self) -> bool:
        profile = self.world.profile
        return (
            profile.overruns > 0
            and self.world.now < self.world.faults_until
            and self.world.random.random() < profile.overruns
        )

    def _open_streams(self) -> None:
        self.handoff.take_gains()
        for interval in self.world.profile.loops:
            stream = Stream(
                interval,
                wall=self.wall(),
                gains=self.handoff.remembered_gains,
                on_crash=self.world.profile.on_crash,
                catch_up=self.world.profile.catch_up,
                ttl=TTL,
            )
            stream.open(self.wall())
            self.streams.append(stream)

    def _close(self, stream: Stream) -> None:
        stream.closed = True
        self.world.wake(self.reconciling)

    # ---- grips ----------------------------------------------------------------------------

    def grip(self) -> Process:
        """Take grips, one after the other or several at once, and let them end or not."""
        random_, longest = self.world.random, self.world.profile.grips
        while not self.stopping and not self.handoff.has_left:
            yield Sleep(random_.uniform(0.0, 0.3))
            kept = self.gripped = [one for one in self.gripped if self.is_gripping(one)]
            if kept and random_.random() < 0.3:
                random_.choice(kept).released = True
                self.world.wake(self.reconciling)
            elif self.last_grip is not None and random_.random() < 0.5:
                # Also one that has ended: it must stay so.
                self.grips.renew(self.last_grip, self.local(), random_.uniform(0.1, longest))
                self.gripped = [*(one for one in kept if one is not self.last_grip), self.last_grip]
            elif len(kept) < _MOST_GRIPS and self.handoff.held(self.local()):
                self.last_grip = self.grips.take(self.local(), random_.uniform(0.1, longest))
                self.gripped.append(self.last_grip)
                self.world.result.grips += 1

    def is_gripping(self, grip: Gripped) -> bool:
        """Return whether this member may act on what a grip pins."""
        return self.grips.is_valid(grip, self.local())

    # ---- what the world asks --------------------------------------------------------------

    def is_valid(self, cycle: int) -> bool:
        """Return whether a running cycle may still act."""
        in_lease = self.running[cycle][1] == self.handoff.lease_number
        return in_lease and self.local() < self.handoff.deadline

    def wake_loops(self) -> None:
        """Let the loops look for work."""
        for loop in self.cycling:
            self.world.wake(loop)

    def in_hand(self) -> SlotSet:
        """Return what it may act on now."""
        return self.handoff.in_hand(self.local())

    def ready(self, interval: float) -> SlotSet:
        """Return the slots of which a loop that waits would begin a window that starts now."""
        slots = self.handoff.usable(self.local(), math.inf)
        seen = self.waiting.get(interval) if self.alive else None
        return slots - slots if seen is None else slots & seen

    def processes(self) -> Iterator[tuple[float, Process]]:
        """Return what its threads do, each with the seconds after which it begins."""
        self.reconciling, self.beating = self.reconcile(), self.heartbeats()
        yield 0.0, self.reconciling
        yield 0.001, self.beating
        if self.world.profile.grips:
            yield 0.003, self.grip()
        if self.world.profile.windows:
            for interval in self.world.profile.loops:
                loop = self.cycles(interval)
                self.cycling.append(loop)
                yield 0.002, loop
