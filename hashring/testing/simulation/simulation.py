"""The real hand-off on a simulated store, under a seeded scheduler: thousands of runs a minute.

A run is one group's life: members join, crash, drain, pause past their lease, heartbeat slowly and
read late; requests and answers are lost and delayed; the store goes away, comes back, and forgets.
Only time, threads and the network are simulated: :class:`~hashring.protocol.handoff.Handoff` and
:class:`~hashring.protocol.windows.Stream` are the very objects that run in production.

After every step a run checks that

* no two live members have one slot in hand, and each has a subset of ``table(applied)[itself]``,
  where ``applied`` is what the *store* has ("Why no slot is held twice" in ``docs/protocol.md``);
* what a running cycle has pinned is in hand for as long as the cycle is valid;

and, once the faults have stopped, that the group settles and holds every slot. With windows it
counts, for each loop, slot and window, how often it was worked ("Windows: exactly once").

Run it: ``python -m hashring.testing.simulation --runs 20000``. A violation prints its seed;
``--seed N --runs 1 --trace`` shows that run step by step.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import heapq
import itertools
import multiprocessing
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

from hashring.driver import Reading, incarnation_of
from hashring.errors import (
    GroupMismatch,
    HashringError,
    LeaseLost,
    MemberExists,
    StoreUnavailable,
)
from hashring.protocol.handoff import TRANSITIONS, Handoff, Join, Leave, Publish
from hashring.protocol.view import Member, View
from hashring.protocol.windows import (
    Due,
    Stream,
    can_yield,
    follow_clock,
    label_time,
    newest_start,
    owed_by,
    patience,
    yielded_by,
)
from hashring.ring.ring import HashRing, SlotSet

__all__ = ["PROFILES", "Profile", "Result", "SimulatedStore", "Violation", "run", "run_many"]

# Few virtual nodes and no slack: a change moves many slots among those that stay, too, which is
# what mistakes in the protocol need to show.
SPEC = HashRing(slots=64, vnodes=3, load_bound=1.0).spec
STRANGE = HashRing(slots=64, vnodes=5, load_bound=1.0).spec
"""The ring of strangers: of the same slots, so that one held twice is seen."""
TTL = 3.0
INTERVAL = 1.0


class Violation(AssertionError):
    """A rule of the protocol does not hold; the message names the seed and the moment."""


class SimulatedStore:
    """A store as the driver contract describes it, on simulated time.

    Args:
        forgetful: its memory began at time 0; else it never forgets anything.
    """

    def __init__(self, *, forgetful: bool) -> None:
        self._leases: dict[str, tuple[bytes, str | None, float]] = {}
        self._memory_since: float | None = 0.0 if forgetful else None
        self.writes = 0

    def _live(self, member: str, now: float) -> tuple[bytes, str | None, float] | None:
        lease = self._leases.get(member)
        if lease is not None and lease[2] <= now:
            del self._leases[member]
            self.writes += 1
            return None
        return lease

    def record(self, member: str, now: float) -> bytes | None:
        """Return a member's live record."""
        lease = self._live(member, now)
        return None if lease is None else lease[0]

    def join(self, now: float, member: str, record: bytes) -> None:
        """Begin a lease."""
        incarnation = incarnation_of(record)
        lease = self._live(member, now)
        if lease is not None and lease[1] != incarnation:
            raise MemberExists(member)
        self._leases[member] = (record, incarnation, now + TTL)
        self.writes += 1

    def publish(self, now: float, member: str, record: bytes) -> None:
        """Replace a record."""
        lease = self._live(member, now)
        if lease is None or lease[1] != incarnation_of(record):
            raise LeaseLost(member)
        self._leases[member] = (record, lease[1], lease[2])
        self.writes += 1

    def heartbeat(self, now: float, member: str, incarnation: str) -> None:
        """Renew a lease."""
        lease = self._live(member, now)
        if lease is None or lease[1] != incarnation:
            raise LeaseLost(member)
        self._leases[member] = (lease[0], lease[1], now + TTL)

    def read(self, now: float) -> Reading:
        """Return the live records."""
        records = {
            member: lease[0]
            for member in list(self._leases)
            if (lease := self._live(member, now)) is not None
        }
        age = float("inf") if self._memory_since is None else now - self._memory_since
        return Reading(records, age)

    def leave(self, now: float, member: str, incarnation: str) -> None:
        """End a lease."""
        lease = self._live(member, now)
        if lease is not None and lease[1] == incarnation:
            del self._leases[member]
            self.writes += 1

    def forget(self, now: float) -> None:
        """Lose everything, as a server that restarts without persistence does."""
        self._leases.clear()
        self._memory_since = now
        self.writes += 1


@dataclasses.dataclass(frozen=True)
class Profile:
    """What a run may do.

    Attributes:
        members: the least and the most members at the start.
        length: seconds of simulated time in which things happen; ttl is 3 s, a window 1 s.
        rates: the expected number of each event in a run.
        loss: the probability that a request, or its answer, is lost.
        slow: the probability that a request, or its answer, takes long.
        slowest: how long, in seconds.
        windows: members work windows, and each slot's are counted.
        loops: the intervals, in seconds, of the loops that each member has.
        catch_up: how many seconds ago a window may have begun to be worked late. Where members
            end one after the other they hand windows on for longer than a ttl.
        exactly: every window of every slot must be worked exactly once.
        at_most_once: no window of a slot may be worked twice.
        forgetful: the store may forget.
        on_crash: ``"repeat"`` or ``"skip"``.
        drift: the most by which the rate of a member's clock differs from the store's.
        skew: the most by which members' wall clocks differ, in seconds.
        overruns: the probability that a cycle takes longer than its window.
        longest: the most seconds that such a cycle takes.
        max_claims: the bound on a member's claims; 0: its default.
        late_loops: half of the members begin to work up to so many seconds after they have joined.
            A slot's windows then count from the first one in which that slot was worked.
        steps: the most by which the wall clocks step in one event, in seconds.
        silence: no slot may go unworked for longer than so many seconds; 0: not judged.
        strangers: members with another ring come, and retry where they are refused.
    """

    members: tuple[int, int] = (2, 5)
    length: float = 8.0
    rates: tuple[tuple[str, float], ...] = ()
    loss: float = 0.0
    slow: float = 0.0
    slowest: float = 0.0
    windows: bool = False
    loops: tuple[float, ...] = (INTERVAL,)
    catch_up: float = TTL
    exactly: bool = False
    at_most_once: bool = False
    forgetful: bool = False
    on_crash: str = "repeat"
    drift: float = 0.0
    skew: float = 0.0
    overruns: float = 0.0
    longest: float = 0.0
    max_claims: int = 0
    late_loops: float = 0.0
    steps: float = 0.0
    silence: float = 0.0
    strangers: bool = False


PROFILES: dict[str, Profile] = {
    "chaos": Profile(
        rates=(
            ("join", 4.0),
            ("crash", 2.0),
            ("drain", 2.0),
            ("pause", 3.0),
            ("flap", 1.5),
            ("away", 1.0),
            ("restart", 1.5),
        ),
        loss=0.03,
        slow=0.1,
        slowest=1.5,
        drift=0.04,
        skew=0.1,
        windows=True,
    ),
    "forgetful": Profile(
        rates=(
            ("join", 3.0),
            ("crash", 1.5),
            ("drain", 1.5),
            ("pause", 2.5),
            ("forget", 2.5),
            ("away", 1.0),
            ("restart", 1.0),
        ),
        loss=0.03,
        slow=0.1,
        slowest=1.5,
        drift=0.04,
        skew=0.1,
        windows=True,
        forgetful=True,
    ),
    "planned": Profile(
        rates=(("join", 4.0), ("drain", 3.0), ("restart", 4.0), ("flap", 1.0), ("roll", 0.5)),
        slow=0.02,
        slowest=0.3,
        skew=0.1,
        windows=True,
        exactly=True,
    ),
    "ending": Profile(
        rates=(("join", 5.0), ("end", 4.0), ("stop", 2.0), ("drain", 2.0), ("restart", 1.0)),
        slow=0.02,
        slowest=0.3,
        skew=0.1,
        windows=True,
        catch_up=4 * TTL,
        exactly=True,
    ),
    "two-loops": Profile(
        rates=(("join", 4.0), ("drain", 3.0), ("restart", 4.0), ("flap", 1.0), ("stop", 3.0)),
        slow=0.02,
        slowest=0.3,
        skew=0.1,
        windows=True,
        loops=(INTERVAL, 2.5 * INTERVAL),
        catch_up=2.5 * INTERVAL + TTL,
        exactly=True,
    ),
    "two-loops-ending": Profile(
        rates=(("join", 5.0), ("end", 5.0), ("drain", 2.0), ("restart", 1.0)),
        slow=0.02,
        slowest=0.3,
        skew=0.1,
        windows=True,
        loops=(INTERVAL, 2.5 * INTERVAL),
        at_most_once=True,
    ),
    "crash-skip": Profile(
        rates=(("join", 1.0), ("crash", 1.0), ("restart", 1.0)),
        skew=0.1,
        windows=True,
        on_crash="skip",
    ),
    "crash-repeat": Profile(
        rates=(("join", 1.0), ("crash", 1.0), ("restart", 1.0)),
        skew=0.1,
        windows=True,
        on_crash="repeat",
    ),
    # Nothing fails: where claims are merged, a window may be worked again and none may be lost.
    "few-claims": Profile(
        rates=(("join", 5.0), ("drain", 3.0), ("restart", 4.0), ("flap", 3.0), ("roll", 0.5)),
        slow=0.05,
        slowest=0.5,
        skew=0.1,
        windows=True,
        catch_up=4 * TTL,
        max_claims=2,
    ),
    # Who has not worked yet knows of some slots which windows are left, and of others nothing: the
    # one must not swallow the other where claims are merged.
    "late-loops": Profile(
        members=(3, 6),
        length=6.0,
        rates=(("join", 6.0), ("flap", 6.0), ("restart", 2.0)),
        slow=0.1,
        slowest=0.5,
        skew=0.1,
        windows=True,
        catch_up=4 * TTL,
        max_claims=2,
        late_loops=2.5,
    ),
    "clock-steps": Profile(
        rates=(("join", 2.0), ("drain", 1.0), ("restart", 2.0), ("step", 3.0), ("step all", 1.0)),
        slow=0.02,
        slowest=0.3,
        windows=True,
        steps=60.0,
        # The wait for a small step, what is left out after a hand-over, and its own time.
        silence=patience(INTERVAL, TTL) + 5 * INTERVAL,
    ),
    "strangers": Profile(
        rates=(
            ("join", 2.0),
            ("crash", 1.0),
            ("drain", 1.0),
            ("pause", 1.0),
            ("outage", 1.0),
            ("away", 0.5),
            ("stranger", 3.0),
        ),
        loss=0.02,
        slow=0.05,
        slowest=0.5,
        drift=0.04,
        skew=0.1,
        windows=True,
        strangers=True,
    ),
    "pause-skip": Profile(
        rates=(("join", 1.0), ("pause", 1.0), ("restart", 1.0)),
        skew=0.1,
        windows=True,
        on_crash="skip",
    ),
    "slow": Profile(
        rates=(("join", 5.0), ("drain", 3.0), ("restart", 3.0), ("flap", 1.5)),
        slow=0.1,
        slowest=2.0,
        skew=0.1,
        windows=True,
        at_most_once=True,
        overruns=0.2,
        longest=2.0 * TTL,
    ),
    "slow-crash": Profile(
        rates=(("join", 4.0), ("crash", 2.0), ("pause", 1.0), ("drain", 2.0), ("flap", 1.5)),
        slow=0.1,
        slowest=0.3,  # a mark is seen by all that read within 0.4 ttl
        skew=0.1,
        windows=True,
        catch_up=3 * TTL,  # what a stale claim would repeat must be young enough to be worked
        on_crash="skip",
        at_most_once=True,
        overruns=0.2,
        longest=2.0 * TTL,
    ),
}
"""The kinds of run; ``chaos`` and ``forgetful`` are for 4.1, the others for windows too."""


@dataclasses.dataclass
class Result:
    """What a run did.

    Attributes:
        steps: how many events were played; each was followed by the checks.
        events: how often each fault or change happened.
        transitions: how often a member's state changed, by (from, to).
        gains: how often slots changed hands.
        worked: (slot, window) pairs worked.
        missed: (slot, window) pairs not worked.
        repeated: (slot, window) pairs worked more than once.
    """

    steps: int = 0
    events: Counter[str] = dataclasses.field(default_factory=Counter)
    transitions: Counter[tuple[str, str]] = dataclasses.field(default_factory=Counter)
    gains: int = 0
    worked: int = 0
    missed: int = 0
    repeated: int = 0

    def add(self, other: Result) -> None:
        """Add another run's figures."""
        self.steps += other.steps
        self.events += other.events
        self.transitions += other.transitions
        self.gains += other.gains
        self.worked += other.worked
        self.missed += other.missed
        self.repeated += other.repeated


class _Sleep:
    """Yielded by a process: go on after this long, or when the store changed."""

    def __init__(self, seconds: float, *, wakes: bool = False) -> None:
        self.seconds = seconds
        self.wakes = wakes


class _Call:
    """Yielded by a process: a request to the store."""

    def __init__(self, function: Callable[[float], Any]) -> None:
        self.function = function


_Process = Generator[Any, Any, None]
_TIMEOUT = 1.0


class _Actor:
    """One member's process: its clocks, its hand-off, and what its threads do."""

    def __init__(
        self, world: _World, name: str, weight: float, *, is_stranger: bool = False
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
            **({"max_claims": bound} if bound else {}),
        )
        self.is_stranger = is_stranger
        self.has_settled = False
        self.streams: list[Stream] = []
        self.stopping = False
        self.ending = False  # the loops end, and the member drains a while later
        self.reconciling: _Process | None = None
        self.beating: _Process | None = None
        self.cycling: list[_Process] = []
        self.numbers = itertools.count()
        self.running: dict[int, tuple[SlotSet, int]] = {}  # by cycle: its slots and the lease
        self.incarnations_seen = {self.handoff.incarnation}

    # ---- clocks ---------------------------------------------------------------------------

    def local(self) -> float:
        return self.world.now * self.rate

    def wall(self) -> float:
        return 1000.0 + self.world.now + self.wall_offset

    def label(self) -> float:
        return label_time(self.streams, self.wall())

    # ---- the threads ----------------------------------------------------------------------

    def reconcile(self) -> _Process:
        handoff, store, random_ = self.handoff, self.world.store, self.world.random
        action: Any = handoff.start()
        while True:
            try:
                if isinstance(action, Join):
                    record = action.record
                    yield _Call(functools.partial(store.join, member=self.name, record=record))
                    handoff.joined(self.local())
                    self.world.wake(self.beating)
                elif isinstance(action, Publish):
                    record = action.record
                    yield _Call(functools.partial(store.publish, member=self.name, record=record))
                    handoff.published()
                    self.take_gains()
                    self.wake_loops()
                elif isinstance(action, Leave):
                    break
                elif action is not None:
                    if action.local:
                        yield _Sleep(0.2, wakes=True)
                    elif action.seconds is None:
                        # As the partition does: wait for a change, and look for the expired.
                        if self.writes_read == store.writes:
                            quiet = handoff.is_settled and not self.stopping
                            yield _Sleep(0.8 if quiet else 0.2, wakes=True)
                    elif action.seconds > 0:
                        yield _Sleep(min(action.seconds, 0.3), wakes=True)
                token = handoff.reading_begins()
                reading = yield _Call(self.read)
                streams = self.streams
                wall = self.label()
                handoff.observe(
                    reading,
                    token,
                    now=self.local(),
                    wall=wall,
                    worked=newest_start(streams) > -float("inf"),
                )
                if handoff.view is not None:
                    self.world.views[handoff.view.id] = handoff.view
                was_settled = handoff.is_settled
                losing = handoff.losing
                action = handoff.decide(
                    now=self.local(),
                    wall=wall,
                    owed=owed_by(streams, wall, losing),
                    yielded=yielded_by(streams, wall, losing),
                )
                self.take_gains()
                if handoff.is_settled and not was_settled:
                    self.wake_loops()
            except LeaseLost:
                handoff.lease_lost()
                action = None
            except MemberExists:
                action = None
                yield _Sleep(random_.uniform(0.1, 0.5))
            except StoreUnavailable:
                action = None
                yield _Sleep(random_.uniform(0.02, 0.3))
            except GroupMismatch as error:
                if self.has_settled or not self.world.profile.strangers:
                    raise self.world.violation(f"{self.name} ends: {error}") from error
                self.world.refused(self)
                break
        incarnation = handoff.incarnation
        handoff.left()
        self.world.left(self)
        try:
            yield _Call(lambda now: store.leave(now, self.name, incarnation))
        except HashringError:
            return

    def read(self, now: float) -> Reading:
        reading = self.world.store.read(now)
        self.writes_read = self.world.store.writes
        return reading

    def heartbeats(self) -> _Process:
        handoff, store = self.handoff, self.world.store
        while not handoff.has_left:
            token, incarnation = handoff.heartbeat_begins(), handoff.incarnation
            started = self.local()
            try:
                yield _Call(
                    functools.partial(store.heartbeat, member=self.name, incarnation=incarnation)
                )
                handoff.heartbeat_confirmed(token, started)
            except LeaseLost:
                handoff.lease_lost(token)
            except StoreUnavailable:
                yield _Sleep(0.1)
                continue
            pause = started + TTL / 3 - self.local() if token >= 0 else 0.3
            yield _Sleep(max(0.001, pause), wakes=True)

    def cycles(self, interval: float) -> _Process:
        handoff, random_, world = self.handoff, self.world.random, self.world
        while handoff.state(self.local()) in ("joining", "fenced"):
            yield _Sleep(0.3, wakes=True)
        if world.profile.late_loops and random_.random() < 0.5:
            begin = world.now + random_.uniform(0.0, world.profile.late_loops)
            while world.now < begin:
                yield _Sleep(min(0.3, begin - world.now))
                if self.stopping or handoff.has_left:
                    return
        if not self.streams:
            # All loops begin together: what one has worked is handed over for all of them.
            self.open_streams()
        (stream,) = (stream for stream in self.streams if stream.interval == interval)
        lazy = random_.random() < 0.2
        while True:
            while True:
                if handoff.has_left:
                    return
                if self.ending and not self.stopping:
                    self.close(stream)
                    return
                wall = self.wall()
                follow_clock(self.streams, wall)
                due: Due | None = None
                if handoff.state(self.local()) not in ("joining", "fenced"):
                    due = stream.due(wall, lambda start: handoff.usable(self.local(), start))
                    if self.stopping and (
                        due is None
                        or (
                            due.slots.isdisjoint(handoff.losing)
                            and can_yield(stream, self.streams, due, wall)
                        )
                    ):
                        self.close(stream)
                        return
                    if due is not None and (due.slots or handoff.is_settled):
                        break
                elif self.stopping:
                    self.close(stream)
                    return
                pause = stream.next_start() - wall
                if pause <= 0:  # fenced, or an empty share that may yet grow
                    pause = 0.4
                yield _Sleep(min(0.5, max(0.002, pause)), wakes=True)
            assert due is not None
            number = next(self.numbers)
            handoff.pin(number, due.slots)
            stream.started(due)
            self.running[number] = (due.slots, handoff.lease)
            span = 0.9 if lazy else 0.3
            # Late work is a few slots: it takes a part of the time that a share takes.
            busy = random_.uniform(0.0, 0.05 if due.late else span) * INTERVAL
            if self.is_slow():
                busy = random_.uniform(INTERVAL, world.profile.longest)
            yield _Sleep(busy / 2)
            if self.is_valid(number):
                world.work(self, interval, due)
            yield _Sleep(busy / 2)
            del self.running[number]
            handoff.unpin(number)
            world.wake(self.reconciling)

    def is_slow(self) -> bool:
        profile = self.world.profile
        return (
            profile.overruns > 0
            and self.world.now < self.world.faults_until
            and self.world.random.random() < profile.overruns
        )

    def open_streams(self) -> None:
        self.handoff.take_gains()
        for interval in self.world.profile.loops:
            stream = Stream(
                interval,
                wall=self.wall(),
                since=self.handoff.since,
                on_crash=self.world.profile.on_crash,
                catch_up=self.world.profile.catch_up,
                ttl=TTL,
            )
            stream.open(self.wall())
            self.streams.append(stream)

    def close(self, stream: Stream) -> None:
        stream.closed = True
        self.world.wake(self.reconciling)

    def is_valid(self, cycle: int) -> bool:
        return self.running[cycle][1] == self.handoff.lease and self.local() < self.handoff.deadline

    def take_gains(self) -> None:
        gains = self.handoff.take_gains()
        if self.streams and gains:
            for stream in self.streams:
                stream.gain(gains, self.wall())
            self.world.result.gains += 1
            self.wake_loops()

    def wake_loops(self) -> None:
        for loop in self.cycling:
            self.world.wake(loop)

    def in_hand(self) -> SlotSet:
        return self.handoff.in_hand(self.local())


class _World:
    """The scheduler: one run."""

    def __init__(
        self,
        seed: int,
        profile: Profile,
        make_handoff: Callable[..., Handoff],
        trace: Callable[[str], None] | None,
    ) -> None:
        self.seed = seed
        self.random = random.Random(seed)  # noqa: S311 - a reproducible run, no secret
        self.profile = profile
        self.make_handoff = make_handoff
        self.trace = trace
        self.now = 0.0
        self.numbers = itertools.count()
        self.store = SimulatedStore(forgetful=profile.forgetful)
        self.actors: list[_Actor] = []
        self.views: dict[str, View] = {}
        self.result = Result()
        self.faults_until = profile.length
        self.away_until = 0.0
        self._heap: list[tuple[float, int, _Actor | None, Any, Any, Any]] = []
        self._order = itertools.count()
        self._writes_seen = 0
        self._sleepers: dict[_Process, tuple[int, _Actor]] = {}
        self._cancelled: set[int] = set()
        self._names = itertools.count()
        self._empty = SlotSet.empty(64)
        self._full = SlotSet.full(64)
        self._once: dict[tuple[float, int], SlotSet] = {}  # by interval and window
        self._twice: dict[tuple[float, int], SlotSet] = {}
        self._said: dict[bytes, tuple[str, SlotSet]] = {}  # record: incarnation, what it allows
        self._disturbed: list[tuple[float, float]] = []
        self._last_worked: dict[int, float] = {}  # by slot, from when all have been

    def violation(self, text: str) -> Violation:
        return Violation(f"seed {self.seed}, t={self.now:.4f}: {text}")

    def say(self, text: str) -> None:
        if self.trace is not None:
            self.trace(f"{self.now:9.4f}  {text}")

    # ---- time -----------------------------------------------------------------------------

    def _push(self, at: float, actor: _Actor | None, what: Any, value: Any = None) -> int:
        number = next(self._order)
        heapq.heappush(self._heap, (at, number, actor, what, value, None))
        return number

    def _latency(self) -> float:
        random_, profile = self.random, self.profile
        if self.now < self.faults_until and random_.random() < profile.slow:
            return random_.uniform(0.0, profile.slowest)
        return random_.uniform(0.0005, 0.01)

    def _lost(self) -> bool:
        if self.now >= self.faults_until:
            return False
        return self.now < self.away_until or self.random.random() < self.profile.loss

    def _resume(self, actor: _Actor, process: _Process, value: Any) -> None:
        try:
            if isinstance(value, BaseException):
                request = process.throw(value)
            else:
                request = process.send(value)
        except StopIteration:
            return
        if isinstance(request, _Sleep):
            number = self._push(self.now + request.seconds, actor, process)
            if request.wakes:
                self._sleepers[process] = (number, actor)
        else:
            self._request(actor, process, request.function)

    def _request(self, actor: _Actor, process: _Process, function: Callable[..., Any]) -> None:
        deadline = self.now + _TIMEOUT
        if self._lost():
            self._push(deadline, actor, process, StoreUnavailable("request lost"))
            return
        # One member's requests reach the store in the order in which they were sent.
        landing = max(self.now + self._latency(), actor.last_landing)
        actor.last_landing = landing
        self._push(landing, None, (actor, process, function, deadline))

    def _land(
        self, actor: _Actor, process: _Process, function: Callable[..., Any], deadline: float
    ) -> None:
        answer: Any
        try:
            answer = function(self.now)
        except HashringError as error:
            answer = error
        if self._lost():
            self._push(max(self.now, deadline), actor, process, StoreUnavailable("answer lost"))
        else:
            arrival = self.now + self._latency()
            if arrival > deadline:
                self._push(deadline, actor, process, StoreUnavailable("too late"))
            else:
                self._push(arrival, actor, process, answer)
        if self.store.writes != self._writes_seen:
            self._writes_seen = self.store.writes
            for sleeper in self.actors:
                self.wake(sleeper.reconciling)

    def wake(self, process: _Process | None) -> None:
        """End a sleep early."""
        if process is None:
            return
        found = self._sleepers.pop(process, None)
        if found is not None:
            number, actor = found
            self._cancelled.add(number)
            self._push(self.now + self._latency(), actor, process)

    # ---- one run --------------------------------------------------------------------------

    def play(self) -> Result:
        profile, random_ = self.profile, self.random
        for _ in range(random_.randint(*profile.members)):
            self.start()
        moments: list[float] = []
        for kind, expected in profile.rates:
            count = int(expected) + (random_.random() < expected % 1)
            if expected > 1:
                count = random_.randint(0, 2 * count)
            for _ in range(count):
                # Half of them close to another one: what overlaps is what breaks protocols.
                moment = random_.uniform(2.0, profile.length)
                if moments and random_.random() < 0.5:
                    moment = random_.choice(moments) + random_.uniform(0.0, 0.3)
                moments.append(moment)
                self._push(moment, None, ("event", kind))
        end = profile.length + 5 * TTL
        look_again = profile.length + TTL
        while self._heap:
            at, number, actor, what, value, _ = heapq.heappop(self._heap)
            if number in self._cancelled:
                self._cancelled.discard(number)
                continue
            if at > end:
                break
            if at > look_again:
                self._check_silence()
                # Settled for good: what is left would be the same window over and over.
                if self._is_quiet():
                    break
                look_again = at + 1.0
            if actor is not None:
                if not actor.alive:
                    continue
                if actor.paused_until > at:
                    heapq.heappush(
                        self._heap, (actor.paused_until, number, actor, what, value, None)
                    )
                    continue
            self.now = max(self.now, at)
            self.result.steps += 1
            if actor is not None:
                self._sleepers.pop(what, None)
                self._resume(actor, what, value)
                self._check(actor)
            elif what[0] == "event":
                self._event(what[1])
                self._check_silence()
            elif what[0] == "drain":
                if self._can_spare(what[1]):
                    self.drain(what[1])
                else:
                    self._push(self.now + 0.3, None, what)
            elif what[0] == "ended":
                self.drain(what[1])
            else:
                self._land(*what)
                self._check(what[0])
        self._finish(self.now)
        return self.result

    def _is_quiet(self) -> bool:
        coming = any(actor is None and what[0] == "event" for _, _, actor, what, *_ in self._heap)
        return (
            not coming
            and self._everything_is_held()
            and all(
                actor.paused_until <= self.now
                and not actor.stopping
                and not actor.ending
                and actor.handoff.state(actor.local()) == "settled"
                for actor in self._defining()
            )
        )

    def _everything_is_held(self) -> bool:
        live = self._defining()
        held = self._empty
        for actor in live:
            held = held | actor.in_hand()
        return held == self._full or not any(actor.handoff.weight > 0 for actor in live)

    def start(self, name: str | None = None, *, is_stranger: bool = False) -> _Actor:
        weight = self.random.choice((1.0, 1.0, 1.0, 2.0, 0.5))
        if self.profile.exactly is False and self.random.random() < 0.05:
            weight = 0.0
        if name is None:
            # Some strangers' names sort before all others.
            prefix = self.random.choice(("a", "z")) if is_stranger else "m"
            name = f"{prefix}{next(self._names)}"
        actor = _Actor(self, name, weight, is_stranger=is_stranger)
        self.actors.append(actor)
        actor.reconciling = actor.reconcile()
        self._push(self.now, actor, actor.reconciling)
        actor.beating = actor.heartbeats()
        self._push(self.now + 0.001, actor, actor.beating)
        if self.profile.windows:
            for interval in self.profile.loops:
                loop = actor.cycles(interval)
                actor.cycling.append(loop)
                self._push(self.now + 0.002, actor, loop)
        self.say(f"start {actor.name} weight {weight}")
        return actor

    def live(self) -> list[_Actor]:
        return [actor for actor in self.actors if actor.alive and not actor.handoff.has_left]

    def _event(self, kind: str) -> None:
        random_ = self.random
        candidates = [
            actor
            for actor in self.live()
            if not (actor.stopping or actor.ending or actor.is_stranger)
        ]
        self.result.events[kind] += 1
        if kind == "join":
            if len(candidates) < 8:
                self.start()
            return
        if kind in ("stranger", "strange retry"):
            if self.now < self.profile.length:
                self.start(is_stranger=True)
            return
        if kind == "step all":
            self._step(candidates)
            return
        if kind == "outage":
            # Longer than the ttl: every lease ends, and a stranger may be the first one back.
            self.away_until = self.now + random_.uniform(1.0, 1.5) * TTL
            self.say(f"the store is away until {self.away_until:.3f}")
            self._push(self.away_until, None, ("event", "stranger"))
            return
        if kind == "forget":
            self.say("the store forgets")
            self.store.forget(self.now)
            return
        if kind == "away":
            self.away_until = self.now + random_.uniform(0.1, 1.5 * TTL)
            self.say(f"the store is away until {self.away_until:.3f}")
            return
        actor = random_.choice(candidates) if candidates else None
        if actor is None or not self._can_spare(actor):
            return
        if kind == "step":
            self._step([actor])
        elif kind == "crash":
            self.say(f"crash {actor.name}")
            actor.alive = False
            self._disturbed.append((self.now, self.now + 2 * TTL))
        elif kind == "pause":
            length = random_.choice(
                (random_.uniform(0.05, 0.8), random_.uniform(0.8, 1.1), random_.uniform(1.1, 3.5))
            )
            actor.paused_until = self.now + length * TTL
            self.say(f"pause {actor.name} until {actor.paused_until:.3f}")
            self._disturbed.append((self.now, actor.paused_until + 2 * TTL))
        elif kind == "flap":
            # Comes and goes at once: views that some see and others skip.
            flapping = self.start()
            self._push(self.now + random_.uniform(0.0, 0.2), None, ("drain", flapping))
        elif kind == "drain":
            self.drain(actor)
        elif kind in ("end", "stop"):
            # As `break` and `stop` do, and a drain after it: at once, or some windows later.
            self.say(f"{kind} the loops of {actor.name}")
            actor.ending, actor.stopping = True, kind == "stop"
            actor.wake_loops()
            linger = random_.choice((0.0, random_.uniform(0.0, 1.0), random_.uniform(1.0, 2.0)))
            self._push(self.now + linger, None, ("ended", actor))
        elif kind == "restart":
            self.drain(actor)
            self._push(self.now + random_.uniform(0.0, 1.0), None, ("event", "join"))
        elif kind == "roll":
            for place, member in enumerate(candidates):
                self._push(self.now + 1.5 * place, None, ("event", "restart"))
                del member

    def _step(self, actors: Sequence[_Actor]) -> None:
        """Step the wall clocks of these by one amount, back or forth."""
        most = self.profile.steps
        step = self.random.choice((1.0, 0.1)) * self.random.uniform(-most, most)
        for actor in actors:
            self.say(f"the clock of {actor.name} steps by {step:.3f}")
            actor.wall_offset += step
            actor.wake_loops()

    def refused(self, actor: _Actor) -> None:
        """One that has never settled is told that it differs: its supervisor starts it again."""
        self.say(f"{actor.name} is refused")
        self.result.events["refused"] += 1
        kind = "strange retry" if actor.is_stranger else "join"
        self._push(self.now + self.random.uniform(0.2, 1.5), None, ("event", kind))

    def _defining(self) -> list[_Actor]:
        """Return the live members of those whose parameters were founded first."""
        live = self.live()
        if not self.profile.strangers:
            return live
        known = {
            spec: min(
                (a.handoff.founded for a in live if a.handoff.spec == spec and a.handoff.founded),
                default=float("inf"),
            )
            for spec in (SPEC, STRANGE)
        }
        first = min(known, key=known.__getitem__)
        return [actor for actor in live if actor.handoff.spec == first]

    def _can_spare(self, actor: _Actor) -> bool:
        """Whether somebody stays who can own slots: an empty group works none, by its own wish."""
        return any(
            other is not actor
            and not other.stopping
            and not other.ending
            and other.handoff.weight > 0
            and other.handoff.is_settled
            for other in self.live()
        )

    def drain(self, actor: _Actor) -> None:
        self.say(f"drain {actor.name}")
        actor.stopping = True
        actor.handoff.drain()
        self.wake(actor.reconciling)
        actor.wake_loops()

    def left(self, actor: _Actor) -> None:
        self.say(f"left {actor.name}")

    # ---- the checks -----------------------------------------------------------------------

    def _check(self, actor: _Actor) -> None:
        if not actor.alive:
            return
        state = actor.handoff.state(actor.local())
        if state != actor.state:
            change = (actor.state, state)
            if change not in TRANSITIONS and state != "left":
                raise self.violation(f"{actor.name} went from {actor.state} to {state}")
            self.result.transitions[change] += 1
            actor.state = state
        actor.has_settled = actor.has_settled or state == "settled"
        mine = actor.in_hand()
        for cycle, (pinned, _) in actor.running.items():
            if actor.is_valid(cycle) and not pinned <= mine:
                raise self.violation(f"{actor.name}: a running cycle lost slots that it had pinned")
        if not mine:
            return
        for other in self._holders():
            if other is not actor and not mine.isdisjoint(other.in_hand()):
                both = sorted(mine & other.in_hand())
                raise self.violation(f"{actor.name} and {other.name} both hold slots {both}")
        record = self.store.record(actor.name, self.now)
        if record is None:
            return  # Forgotten or expired: the fence and rule 4 answer for it.
        said = self._said.get(record)
        if said is None:
            member = Member.from_json(actor.name, record)
            said = self._said[record] = (
                member.incarnation,
                self._empty
                if member.applied is None
                else self.views[member.applied].slots(actor.name),
            )
        incarnation, allowed = said
        if incarnation != actor.handoff.incarnation:
            raise self.violation(f"{actor.name} holds slots while another has its place")
        if not mine <= allowed:
            raise self.violation(f"{actor.name} holds more than its applied view allows")

    def _holders(self) -> list[_Actor]:
        if any(not actor.alive or actor.handoff.has_left for actor in self.actors):
            self.actors = [
                actor for actor in self.actors if actor.alive and not actor.handoff.has_left
            ]
        return self.actors

    def work(self, actor: _Actor, interval: float, due: Due) -> None:
        self.say(f"{actor.name} works {len(due.slots)} slots of {_named(interval, due.window)}")
        place = interval, due.window
        before = self._once.get(place, self._empty)
        repeated = before & due.slots
        if repeated:
            self._twice[place] = self._twice.get(place, self._empty) | repeated
            profile = self.profile
            if profile.exactly or profile.at_most_once or profile.on_crash == "skip":
                raise self.violation(
                    f"{actor.name} repeats slots {sorted(repeated)} of "
                    f"{_named(interval, due.window)}"
                )
        self._once[place] = before | due.slots
        if self.profile.silence:
            self._last_worked |= dict.fromkeys(due.slots, self.now)

    def _check_silence(self) -> None:
        """No slot may go unworked for long, whatever the clocks show."""
        if len(self._last_worked) < len(self._full) or not self.profile.silence:
            return
        slot, last = min(self._last_worked.items(), key=lambda item: item[1])
        if self.now - last > self.profile.silence:
            raise self.violation(f"slot {slot} has been silent since {last:.3f}")

    def _finish(self, end: float) -> None:
        self._check_silence()
        defining = self._defining()
        for actor in self.live():
            state = actor.handoff.state(actor.local())
            if actor not in defining:
                if actor.in_hand():
                    raise self.violation(f"{actor.name} differs, and does not stand aside: {state}")
                continue
            if actor.stopping:
                raise self.violation(f"{actor.name} has not left: {state}")
            if state != "settled":
                raise self.violation(f"{actor.name} does not settle: {state}")
        if not self._everything_is_held():
            raise self.violation("settled, and yet nobody holds some slots")
        self._count_windows(end)

    def _count_windows(self, end: float) -> None:
        for interval in self.profile.loops:
            self._count_windows_of(interval, end)

    def _count_windows_of(self, interval: float, end: float) -> None:
        worked = {
            window: once for (length, window), once in self._once.items() if length == interval
        }
        last = int((1000 + end - 3 * INTERVAL) // interval)
        if self.profile.late_loops:
            first = min(worked, default=last + 1)
        else:
            # From the first window in which somebody could own every slot.
            full = (window for window, once in worked.items() if once == self._full)
            first = min(full, default=last + 1)
        known = self._empty
        for window in range(first, last + 1):
            once = worked.get(window, self._empty)
            known = known | once
            self.result.worked += len(once)
            self.result.repeated += len(self._twice.get((interval, window), self._empty))
            missing = (known if self.profile.late_loops else self._full) - once
            self.result.missed += len(missing)
            if missing and not self._may_miss(window * interval - 1000):
                raise self.violation(
                    f"{_named(interval, window)} was missed for slots {sorted(missing)}"
                )

    def _may_miss(self, start: float) -> bool:
        if self.profile.exactly:
            return False
        if self.profile.steps:
            return True  # Labels that are skipped, and others that repeat: silence is judged.
        if self.profile.loss or self.profile.forgetful:
            return True  # Chaos: 4.1 is what those runs are about.
        if self.profile.at_most_once:
            return True  # Where one of several loops ends early, the others may go on past it.
        return any(begin - 1.5 <= start <= end for begin, end in self._disturbed)


def _named(interval: float, window: int) -> str:
    return f"window {window}" if interval == INTERVAL else f"window {window} of {interval:g} s"


def run(
    seed: int,
    profile: Profile | str = "chaos",
    *,
    make_handoff: Callable[..., Handoff] = Handoff,
    trace: Callable[[str], None] | None = None,
) -> Result:
    """Play one run and check it after every step.

    Args:
        seed: the same seed and profile play the same run.
        profile: one of :data:`PROFILES`, or your own.
        make_handoff: another hand-off to judge: the tests plant known mistakes here.
        trace: is called with a line for each event.

    Raises:
        Violation: a rule does not hold.

    Example:
        >>> run(1, "planned").repeated
        0
    """
    found = PROFILES[profile] if isinstance(profile, str) else profile
    return _World(seed, found, make_handoff, trace).play()


def _seeds(first: int, runs: int) -> Iterator[int]:
    return iter(range(first, first + runs))


def _batch(job: tuple[int, int, str]) -> tuple[Result, list[str]]:
    first, runs, profile = job
    total, violations = Result(), []
    for seed in _seeds(first, runs):
        try:
            total.add(run(seed, profile))
        except Violation as violation:
            violations.append(f"{profile}: {violation}")
    return total, violations


def run_many(
    runs: int, profile: str = "chaos", *, first: int = 0, processes: int | None = None
) -> tuple[Result, list[str]]:
    """Play many runs in several processes; return their sum and the violations."""
    size = max(1, min(250, runs // 8 or 1))
    jobs = [
        (start, min(size, first + runs - start), profile)
        for start in range(first, first + runs, size)
    ]
    total, violations = Result(), []
    context = multiprocessing.get_context("spawn")
    with context.Pool(processes) as pool:
        for result, found in pool.imap_unordered(_batch, jobs):
            total.add(result)
            violations.extend(found)
    return total, violations


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; exit with 1 on a violation."""
    parser = argparse.ArgumentParser(
        prog="python -m hashring.testing.simulation", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--runs", type=int, default=20000, help="in all, over the profiles")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument(
        "--profile", action="append", choices=sorted(PROFILES), help="default: all of them"
    )
    parser.add_argument("--processes", type=int, default=None)
    parser.add_argument("--trace", action="store_true", help="print every event (few runs only)")
    options = parser.parse_args(arguments)
    profiles = options.profile or list(PROFILES)
    failed = False
    for profile in profiles:
        runs = max(1, options.runs // len(profiles))
        began = time.perf_counter()
        if options.trace:
            total, violations = Result(), []
            for seed in _seeds(options.seed, runs):
                try:
                    total.add(run(seed, profile, trace=_print))
                except Violation as violation:
                    violations.append(f"{profile}: {violation}")
        else:
            total, violations = run_many(
                runs, profile, first=options.seed, processes=options.processes
            )
        seconds = time.perf_counter() - began
        events = ", ".join(f"{count} {kind}" for kind, count in sorted(total.events.items()))
        _print(
            f"{profile}: {runs} runs from seed {options.seed}, {total.steps} steps, "
            f"{total.gains} hand-overs; {events}; windows worked {total.worked}, "
            f"missed {total.missed}, repeated {total.repeated}; "
            f"{len(violations)} violations; {seconds:.0f} s"
        )
        for line in violations[:20]:
            _print(line)
        failed = failed or bool(violations)
    return 1 if failed else 0


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
