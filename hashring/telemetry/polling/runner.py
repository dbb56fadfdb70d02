"""Runner: one agent's membership in one group, and its loops there: own, poll, check, put.

The loop is the one that any user of :func:`hashring.join` writes. Who owns what, and in which
window, is the Partition's to say; what is polled, the plan's; where samples go, the outlet's.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import os
import queue
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from hashring import backoff, clock
from hashring.errors import HashringError, MemberExists, StoreUnavailable
from hashring.partition.cycle import Cycle, Cycles
from hashring.partition.partition import Partition, join
from hashring.ring.ring import Keys
from hashring.telemetry.config.plan import Finder, Group, Loop, Plan, Task
from hashring.telemetry.delivery.delivery import Outlet
from hashring.telemetry.model.resource import Resource
from hashring.telemetry.model.sample import Sample
from hashring.telemetry.model.settings import Settings
from hashring.telemetry.overlap.peer import Peer
from hashring.telemetry.polling.done import DoneWindows
from hashring.telemetry.polling.flights import Flights
from hashring.telemetry.polling.poller import Backoff, Call, Failures, Hangs, Pool, TimedOut
from hashring.telemetry.polling.set_aside import SetAside, from_meta, to_meta
from hashring.telemetry.publishers import OutputClosed
from hashring.telemetry.sources.host.machine import Gone
from hashring.telemetry.sources.host.pollsters import Pollster

__all__ = ["Runner", "Shared", "Tally"]

log = logging.getLogger(__name__)

_RETRY_JOIN = 0.25
"""Seconds between two tries to join while a former agent's lease runs out."""

_LOOK = 0.05
"""Seconds between two looks for room that others may have made."""

_HAND_OVER = 2.0
"""Seconds that a hand-over gets at least, though the polls in hand have taken all the time."""

_LEAST = 0.1
"""The part of a window that a poll is given at least: one that begins later has half a window."""

_ASIDE_LEASES = 10
_ASIDE_WINDOWS = 4
"""Leases, and windows, for which a resource that stopped an agent is set aside the first time: the
longer of the two. Each further try may cost its agent the lease."""


class Tally:
    """What the loops have done, for the agent's status. For several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._polled: set[str] = set()
        self.polls = 0
        self.samples = 0
        self.window: int | None = None
        self.last_poll: float | None = None

    @property
    def resources(self) -> int:
        """How many resources have been polled in the newest window."""
        return len(self._polled)

    def begin(self, window: int) -> None:
        """A window begins somewhere; one can come in several cycles.

        Of loops with several intervals, the shortest has the highest numbers, so it counts.
        """
        with self._lock:
            if self.window is None or window > self.window:
                self.window, self._polled = window, set()

    def restart(self) -> None:
        """The clock has stepped: the next window to begin is the newest, whatever its number."""
        with self._lock:
            self.window, self._polled = None, set()

    def add(self, window: int, id_: str, samples: int) -> None:
        """A resource was polled and its samples were put."""
        with self._lock:
            self.polls += 1
            self.samples += samples
            if window == self.window:
                self._polled.add(id_)
            self.last_poll = clock.wall()


class Shared:
    """What all runners of an agent have in common.

    Args:
        settings: what the agent is told to do.
        plan: for where a meter's samples go; :meth:`replace` takes a newer one.
        outlet: takes samples.
        closed: called when nobody will take samples any more.
        flights: where polls in hand are noted for this agent's witness; ``None``: nowhere.
    """

    def __init__(
        self,
        settings: Settings,
        plan: Plan,
        outlet: Outlet,
        closed: Callable[[str], None],
        flights: Flights | None = None,
    ) -> None:
        self.flights = flights
        self.settings = settings
        self.outlet = outlet
        self.closed = closed
        self.done = (
            None if settings.state_dir is None else DoneWindows(settings.state_dir / "windows")
        )
        self.failures = Failures()
        self._lock = threading.Lock()
        self._pools: dict[str, Pool] = {}
        self.replace(settings, plan)

    def replace(self, settings: Settings, plan: Plan) -> None:
        """Take what a reload has read; polls that run are finished by what was before."""
        self.settings = settings
        # One value, so that no thread notes what the plan of before said as the new one's word.
        self._routes: tuple[Plan, dict[str, tuple[str, ...]]] = (plan, {})

    def pool(self, source: str) -> Pool:
        """Return the pool of a source's polls."""
        with self._lock:
            if source not in self._pools:
                self._pools[source] = Pool(self.settings.threads, f"polls-{source}")
            return self._pools[source]

    def targets(self, meter: str) -> tuple[str, ...]:
        """Return the URLs of the publishers that a meter's samples go to."""
        plan, known = self._routes
        found = known.get(meter)
        if found is None:
            found = known[meter] = plan.publishers_for(meter)
        return found

    def keep_pools(self, sources: Collection[str]) -> None:
        """End the pools of sources that are no more."""
        with self._lock:
            ended = [self._pools.pop(name) for name in set(self._pools) - set(sources)]
        for pool in ended:
            pool.close()

    def give_up(self, owner: object) -> None:
        """Give up the calls that are made for somebody now."""
        with self._lock:
            pools = list(self._pools.values())
        for pool in pools:
            pool.give_up(owner)

    @property
    def hanging(self) -> int:
        """How many calls have been given up and are not back."""
        with self._lock:
            return sum(pool.hanging for pool in self._pools.values())

    def close(self) -> None:
        """End the pools' threads."""
        with self._lock:
            pools = list(self._pools.values())
        for pool in pools:
            pool.close()


class _Catalogue:
    """The resources that a group's finders have found, with their keys hashed once."""

    def __init__(self, group: Group, shared: Shared, before: _Catalogue | None = None) -> None:
        self._finders = group.finders
        self._pool = group.loops[0].tasks[0].source
        self._shared = shared
        self._lock = threading.Lock()
        self._last: dict[str, Iterable[Resource]] = {}  # as the finder returned them
        # Of each finder, by id. What a reload keeps is polled on, should the finder fail now.
        self._found: dict[str, Mapping[str, Resource]] = {}
        if before is not None:
            names = {finder.name for finder in self._finders}
            self._found = {name: one for name, one in before._found.items() if name in names}
        self._keys: Keys[str] = Keys(())
        self._resources: Mapping[str, Resource] = MappingProxyType({})
        if self._found:
            self._merge()

    def look(
        self, seconds: Callable[[], float], owner: object
    ) -> tuple[Keys[str], Mapping[str, Resource]]:
        """Return what there is now: its keys, and the resources by id.

        Args:
            seconds: how long a finder may take.
            owner: whom the finders are called for.
        """
        with self._lock:
            begun = []
            for finder in self._finders:
                try:
                    begun.append((finder, self._begin(finder, seconds, owner)))
                except Hangs as error:
                    self._shared.failures.add(finder.description, error)
            changed = False
            for finder, call in begun:
                try:
                    changed |= call.result()
                except Exception as error:
                    # What was found last is polled on: a discovery that fails is no empty cloud.
                    self._shared.failures.add(finder.description, error)
            if changed:
                self._merge()
            return self._keys, self._resources

    def _begin(self, finder: Finder, seconds: Callable[[], float], owner: object) -> Call[bool]:
        return self._shared.pool(self._pool).submit(
            ("discover", finder.name),
            lambda call: self._discover(call, finder),
            seconds,
            share=finder.name,
            owner=owner,
        )

    def _discover(self, call: Call[bool], finder: Finder) -> bool:
        found = finder.discover()
        if found is self._last.get(finder.name):
            return False
        only = self._shared.settings.only
        by_id: dict[str, Resource] = {}
        for resource in found:
            if only is None or resource.id in only:
                by_id.setdefault(resource.id, resource)
        if not call.claim():
            return False
        # What can be iterated only once cannot be recognized either.
        if isinstance(found, Sequence):
            self._last[finder.name] = found
        self._found[finder.name] = by_id
        return True

    def _merge(self) -> None:
        resources: dict[str, Resource] = {}
        for finder in self._finders:
            for id_, resource in self._found.get(finder.name, {}).items():
                resources.setdefault(id_, resource)
        if list(resources) != list(self._resources):
            self._keys = Keys(resources)
        self._resources = resources


@dataclasses.dataclass(frozen=True, eq=False)
class _Want:
    """One pollster of a loop, and the sources that want what it tells."""

    pollster: Pollster
    tasks: tuple[Task, ...]
    sources: dict[str, str | None] = dataclasses.field(default_factory=dict)

    def source_of(self, meter: str) -> str | None:
        """Return the first source that wants a meter."""
        try:
            return self.sources[meter]
        except KeyError:
            wanting = (task.source for task in self.tasks if task.meters.allows(meter))
            return self.sources.setdefault(meter, next(wanting, None))


def _wants(loop: Loop) -> tuple[_Want, ...]:
    """Return a loop's pollsters, each once however many sources want it."""
    tasks: dict[Pollster, list[Task]] = defaultdict(list)
    for task in loop.tasks:
        for pollster in task.pollsters:
            tasks[pollster].append(task)
    return tuple(_Want(pollster, tuple(found)) for pollster, found in tasks.items())


class _Loop:
    """One interval of one group: a thread, from the first window to the last.

    Args:
        runner: the group's.
        loop: what to poll.
        after: the loop of this interval that a reload has ended: its last cycle comes first, or
            the window in hand would be worked by both.
    """

    def __init__(self, runner: Runner, loop: Loop, after: _Loop | None = None) -> None:
        self.runner = runner
        self.shared = runner.shared
        self.interval = loop.interval
        self.backoff = Backoff()
        self.update(loop)
        self._after = after
        self._in_hand: tuple[_Want, ...] = ()  # of the cycle that is worked now
        self._cycles: Cycles | None = None
        self._done_before: int | None = None  # the newest window that was worked whole by then
        self._clock_steps = 0
        self._ending = False
        self.missed = 0
        self._thread = threading.Thread(
            target=self._run, name=f"poll-{runner.group.name}-{loop.interval:g}", daemon=True
        )

    def start(self) -> None:
        self._thread.start()

    def update(self, loop: Loop) -> None:
        """Poll what a newer plan says, from the next cycle on."""
        self._wants = wants = _wants(loop)
        pollsters = {want.pollster for want in wants}
        self.backoff.keep_only(lambda key: key[0] in pollsters)

    def works_with(self, pollsters: Collection[Pollster]) -> bool:
        """Whether the cycle in hand uses one of these."""
        return any(want.pollster in pollsters for want in self._in_hand)

    def end(self) -> None:
        """Let the loop end after the cycle in hand."""
        self._ending = True
        cycles = self._cycles
        if cycles is not None:
            cycles.finish()

    def join(self, timeout: float | None = None) -> bool:
        """Wait for its end; return whether it has come."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            if self._after is not None:
                self._after.join()
                self._after = None
            self._iterate()
        except HashringError as error:
            self.runner.fail(error)
        except Exception as error:
            log.exception("polling %s every %g s failed", self.runner.group.name, self.interval)
            self.runner.fail(HashringError(f"{type(error).__name__}: {error}"))

    def _iterate(self) -> None:
        settings = self.shared.settings
        partition = self.runner.partition
        assert partition is not None
        windows: set[int] = set()
        self._done_before = self._look_what_was_done()
        with partition.cycles(self.interval, on_crash=settings.on_crash) as cycles:
            self._cycles = cycles
            if self._ending:
                return
            for cycle in cycles:
                assert cycle.window is not None
                self.missed = cycles.missed
                self._follow_clock()
                if cycle.start < self.runner.since or self._was_done(cycle.window):
                    continue
                self.runner.look_for_strangers()
                self.runner.look_what_is_set_aside()
                self._work(cycle, cycle.window)
                self._in_hand = ()
                if cycle.valid:
                    self._note_done(cycles)
                windows.add(cycle.window)
                if settings.cycles is not None and len(windows) >= settings.cycles:
                    return
            # What others had worked may be this member's by now, and so the window is whole.
            self._note_done(cycles)

    def _follow_clock(self) -> None:
        """After a step of the clock numbers of windows from before it say nothing any more."""
        steps = self.runner.clock_steps
        if steps != self._clock_steps:
            self._clock_steps = steps
            self._done_before = None
            self.runner.follow_clock(steps)

    def _was_done(self, window: int) -> bool:
        """Whether a window was worked whole before this agent joined, by one of this host's."""
        return self._done_before is not None and window <= self._done_before

    def _note_done(self, cycles: Cycles) -> None:
        """Note the newest window if it is done: nobody else holds a slot, and nothing waits."""
        done, partition = self.shared.done, self.runner.partition
        if done is None or partition is None:
            return
        held, window = partition.held, cycles.started_through
        if len(held) == held.slots and window is not None:
            done.note(self.runner.group.name, self.interval, window)

    def _look_what_was_done(self) -> int | None:
        if self.shared.done is None:
            return None
        window = self.shared.done.newest(self.runner.group.name, self.interval)
        # A number from the future was noted while the clock was wrong: it says nothing.
        if window is None or window > clock.wall() / self.interval:
            return None
        return window

    def _work(self, cycle: Cycle, window: int) -> None:
        shared = self.shared
        self._in_hand = wants = self._wants
        self.runner.tally.begin(window)

        def seconds() -> float:
            return self._seconds(cycle)

        def half() -> float:
            # Should a discovery hang, there is still time to poll what was found before.
            return min(self._left(cycle) / 2, seconds())

        keys, resources = self.runner.catalogue.look(half, self.runner)
        polls = _Polls(self, cycle, window, seconds)
        by_kind: dict[str, list[_Want]] = defaultdict(list)
        for want in wants:
            polls.read(want)
            for kind in want.pollster.kinds:
                by_kind[kind].append(want)
        for id_ in cycle.owned(keys, spread=shared.settings.spread):
            resource = resources[id_]
            for want in by_kind.get(resource.kind, ()):
                polls.add(want, resource)
        polls.finish()
        self.backoff.keep_only(lambda key: key[1] in resources)

    def _seconds(self, cycle: Cycle) -> float:
        """How long a call that begins now may take: it should not outlast its window."""
        return min(
            self._left(cycle), self.shared.settings.poll_timeout, self.runner.seconds_to_end()
        )

    def _left(self, cycle: Cycle) -> float:
        # No more than a window, should the clock have stepped back in this one.
        left = min(cycle.start + self.interval - clock.wall(), self.interval)
        return left if left >= _LEAST * self.interval else self.interval / 2


class _Polls:
    """The polls of one cycle: begun as soon as there is room, and all over at its end."""

    def __init__(
        self, loop: _Loop, cycle: Cycle, window: int, seconds: Callable[[], float]
    ) -> None:
        self._runner = loop.runner
        self._shared = loop.shared
        self._backoff = loop.backoff
        self._interval = loop.interval
        self._tally = loop.runner.tally
        self._member = loop.runner.member
        self._cycle = cycle
        self._window = window
        self._seconds = seconds
        self._token = tuple(cycle.token)
        self._begun = 0
        self._over: queue.SimpleQueue[Call[Any]] = queue.SimpleQueue()
        # What one pollster has no room for, or has not read the whole for, waits here, and keeps
        # no other pollster waiting.
        self._later: dict[_Want, deque[Resource]] = {}
        self._readings: dict[Pollster, Call[None]] = {}  # that are not over
        self._broken: set[Pollster] = set()  # whose readings are not of this cycle

    def read(self, want: _Want) -> None:
        """Let a pollster read the whole; its polls wait for that, others' do not."""
        pollster = want.pollster
        if type(pollster).observe is Pollster.observe:
            return
        try:
            self._readings[pollster] = self._pool(want).submit(
                ("observe", pollster),
                lambda _: pollster.observe(),
                self._seconds,
                share=pollster,
                over=self._over.put,
                owner=self._runner,
            )
        except Hangs as error:
            self._broken.add(pollster)
            self._shared.failures.add(f"reading of {_name(pollster)}", error)

    def add(self, want: _Want, resource: Resource) -> None:
        """Poll a resource, at once or later in this cycle."""
        self._collect()
        if want.pollster in self._broken:
            return
        if not self._runner.aside.is_due(resource.id, clock.boottime()):
            self._shared.failures.count(f"pollster {_name(want.pollster)}", "set aside")
        elif not self._backoff.is_due((want.pollster, resource.id), self._window):
            self._shared.failures.count(f"pollster {_name(want.pollster)}", "left out")
        elif want in self._later or not self._has_room(want):
            self._later.setdefault(want, deque()).append(resource)
        else:
            self._begin(want, resource)

    def finish(self) -> None:
        """Wait until all have been polled, or the agent must end."""
        while self._begun or self._later or self._readings:
            # What waits for room may get it from another loop's polls, of which nobody tells.
            with contextlib.suppress(queue.Empty):
                self._end(self._over.get(timeout=_LOOK))
            self._collect()
            if self._later and self._runner.seconds_to_end() <= 0:
                self._give_up()

    def _collect(self) -> None:
        """Take note of the polls that are over, and begin those that there is room for now."""
        while not self._over.empty():
            self._end(self._over.get())
        for want in list(self._later):
            waiting = self._later[want]
            if want.pollster in self._broken:
                waiting.clear()
            while waiting and self._has_room(want):
                # What waited until the fence has passed is another member's to poll.
                if self._cycle.valid:
                    self._begin(want, waiting.popleft())
                else:
                    waiting.clear()
            if not waiting:
                del self._later[want]

    def _give_up(self) -> None:
        """Poll no more: the time in which an agent is to end is over."""
        count = sum(map(len, self._later.values()))
        self._later.clear()
        error = TimedOut(f"{count} polls of window {self._window} are left out")
        self._shared.failures.add("ending in time", error)

    def _has_room(self, want: _Want) -> bool:
        return want.pollster not in self._readings and self._pool(want).has_room(want.pollster)

    def _pool(self, want: _Want) -> Pool:
        return self._shared.pool(want.tasks[0].source)

    def _begin(self, want: _Want, resource: Resource) -> None:
        try:
            self._pool(want).submit(
                (want.pollster, resource.id),
                lambda call: self._poll(call, want, resource),
                self._seconds,
                share=want.pollster,
                over=self._over.put,
                owner=self._runner,
            )
        except Hangs as error:
            self._shared.failures.add(f"pollster {_name(want.pollster)}", error)
        else:
            self._begun += 1

    def _poll(self, call: Call[int], want: _Want, resource: Resource) -> int:
        """Poll one resource and put its samples; in a thread of the pool."""
        shared, runner, flights = self._shared, self._runner, self._shared.flights
        if flights is None:
            measured = list(want.pollster.poll(resource))
        else:
            began = clock.boottime()
            place = flights.begin(runner.group.name, resource.id)
            try:
                measured = list(want.pollster.poll(resource))
            finally:
                flights.end(place)
            runner.aside.worked(resource.id, began)
        if not call.claim():
            return 0
        now = clock.wall()
        items = []
        for found in measured:
            source = want.source_of(found.meter.name)
            if source is None:
                continue
            sample = Sample(
                meter=found.meter,
                volume=found.volume,
                resource_id=resource.id if found.resource_id is None else found.resource_id,
                timestamp=now,
                window=self._window,
                interval=self._interval,
                member=self._member,
                token=self._token,
                metadata=found.metadata,
                project_id=found.project_id,
                user_id=found.user_id,
                source=source,
            )
            items.append((sample, shared.targets(found.meter.name)))
        if not items:
            return 0
        # The last look before the samples go out. If the fence has passed since they were taken,
        # another member may have polled the same resource: better a gap than a repeat.
        if not self._cycle.valid:
            raise _Fenced(
                f"the lease ran out within window {self._window}: "
                f"{len(items)} samples of {resource.id} are dropped"
            )
        try:
            shared.outlet.put(items)
        except Exception as error:
            raise _NotTaken(error) from error
        self._tally.add(self._window, resource.id, len(items))
        return len(items)

    def _end(self, call: Call[Any]) -> None:
        """Take note of how a poll ended, or a reading."""
        shared = self._shared
        for pollster in [one for one, reading in self._readings.items() if reading is call]:
            del self._readings[pollster]
            if call.error is not None:
                self._broken.add(pollster)
                shared.failures.add(f"reading of {_name(pollster)}", call.error)
            return
        self._begun -= 1
        key: tuple[Pollster, str] = call.key  # type: ignore[assignment]
        name = f"pollster {_name(key[0])}"
        try:
            call.result()
        except Gone:
            shared.failures.count(name, "Gone")
        except _Fenced as error:
            shared.failures.add("the lease", error)
        except _NotTaken as error:
            # No reason to leave the resource out.
            if isinstance(error.cause, OutputClosed):
                shared.closed(str(error.cause))
            else:
                shared.failures.add("publishing", error.cause)
        except Exception as error:
            shared.failures.add(name, error, of=key[1])
            self._backoff.failed(key, self._window)
        else:
            self._backoff.worked(key)


class _Fenced(Exception):
    """The lease ran out between a poll and its samples' way out."""


class _NotTaken(Exception):
    """The outlet did not take samples; `cause` says why."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


def _name(pollster: Pollster) -> str:
    return type(pollster).__name__


class Runner:
    """One group of an agent: joins it, runs its loops, hands over when told to stop.

    Args:
        settings: what the agent is told to do.
        group: what to join, and what to poll there.
        shared: what all runners have in common.
        woken: called when something has ended.
        after: join only when these have ended.
        since: work only windows that start at or after this wall-clock second.
    """

    def __init__(
        self,
        settings: Settings,
        group: Group,
        shared: Shared,
        woken: Callable[[], None],
        *,
        after: Sequence[Runner] = (),
        since: float = 0.0,
    ) -> None:
        self.group = group
        self.member = settings.member
        self.shared = shared
        self.since = since
        self.tally = Tally()
        self.partition: Partition | None = None
        self.error: HashringError | None = None
        self.catalogue = _Catalogue(group, shared)
        longest = max(loop.interval for loop in group.loops)
        self.aside = SetAside(max(_ASIDE_LEASES * settings.ttl, _ASIDE_WINDOWS * longest))
        self._told_aside = 0  # how many resources this member's record says are set aside
        self._settings = settings
        self._woken = woken
        self._after = after
        self._lock = threading.Lock()
        self._loops: dict[float, _Loop] = {}
        self._ended_loops: list[_Loop] = []
        self._clock_steps = 0  # those that were followed
        self._stopping = threading.Event()
        self._end_by = math.inf  # on CLOCK_BOOTTIME: when polls are given up
        self._joined = threading.Event()
        self._strangers: frozenset[str] = frozenset()
        self._unjoined = "it has yet to join"
        self._thread = threading.Thread(target=self._run, name=f"group-{group.name}", daemon=True)

    def start(self) -> None:
        """Begin to join."""
        self._thread.start()

    def stop(self) -> None:
        """Let it end after the cycles in hand. From any thread; idempotent."""
        self._end_by = min(self._end_by, clock.boottime() + self._settings.drain_timeout)
        self._stopping.set()
        partition = self.partition
        if partition is not None:
            partition.stop()

    def fail(self, error: HashringError) -> None:
        """End, because of this; the first reason counts."""
        if self.error is None:
            self.error = error
        self.stop()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for its end; return whether it has come."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def seconds_to_end(self) -> float:
        """How long its calls may still take; infinite while it is not told to stop."""
        return self._end_by - clock.boottime()

    def works_with(self, pollsters: Collection[Pollster]) -> bool:
        """Whether a cycle in hand uses one of these."""
        with self._lock:
            loops = [*self._loops.values(), *self._ended_loops]
        return any(loop.works_with(pollsters) for loop in loops)

    @property
    def is_joined(self) -> bool:
        """Whether it has joined its group, now or before."""
        return self._joined.is_set()

    @property
    def missed(self) -> int:
        """How many windows this member skipped because it was late itself."""
        with self._lock:
            return sum(loop.missed for loop in (*self._loops.values(), *self._ended_loops))

    @property
    def clock_steps(self) -> int:
        """How often the wall clock has stepped since it joined."""
        return 0 if self.partition is None else self.partition.clock_steps

    @property
    def clock_step(self) -> float | None:
        """By how many seconds it stepped last; ``None``: never."""
        return None if self.partition is None else self.partition.clock_step

    def follow_clock(self, steps: int) -> None:
        """Take part in so many steps of the clock; one loop is enough to say so."""
        with self._lock:
            if steps == self._clock_steps:
                return
            self._clock_steps = steps
            self.since = 0.0
        self.tally.restart()

    @property
    def state(self) -> str:
        """The partition's state; ``joining`` before there is one, ``left`` in the end."""
        partition = self.partition
        if not self._thread.is_alive() and self._thread.ident is not None:
            return "left"
        return "joining" if partition is None else partition.state

    @property
    def reason(self) -> str:
        """Why it is not settled, in a sentence; empty where it is, or has left."""
        partition, state = self.partition, self.state
        if state in ("settled", "left"):
            return ""
        return self._unjoined if partition is None else partition.reason

    def update(self, group: Group) -> None:
        """Poll what a newer plan says; the membership and its lease stay as they are."""
        with self._lock:
            self.group = group
            self.catalogue = _Catalogue(group, self.shared, self.catalogue)
            wanted = {loop.interval: loop for loop in group.loops}
            for interval in set(self._loops) - set(wanted):
                ended = self._loops.pop(interval)
                ended.end()
                self._ended_loops.append(ended)
            for interval, loop in wanted.items():
                if interval in self._loops:
                    self._loops[interval].update(loop)
                elif self._joined.is_set() and not self._stopping.is_set():
                    self._start_loop(loop)

    def look_for_strangers(self) -> None:
        """Say so where agents of other hosts share a local group: they own what they cannot see."""
        if not self.group.is_local or self.partition is None:
            return
        here = self._settings.host
        hosts = {Peer.of(record.meta).host for record in self.partition.records.values()}
        strangers = frozenset(host for host in hosts if host is not None and host != here)
        if strangers - self._strangers:
            log.error(
                "agents on %s share the group %r: what they own of %s's resources nobody polls; "
                "give each host a group of its own",
                ", ".join(sorted(strangers)),
                self.group.name,
                here,
            )
        self._strangers = strangers

    def look_what_is_set_aside(self) -> None:
        """Take what others' records say stopped an agent, and say it in this member's own."""
        if self.partition is None:
            return
        now = clock.boottime()
        told = [case for one in self.partition.records.values() for case in from_meta(one.meta)]
        is_new = self.aside.take(told, now)
        cases = self.aside.cases(now)
        if is_new or len(cases) != self._told_aside:
            self._told_aside = len(cases)
            self.partition.publish_meta({**self._meta(), **to_meta(cases)})

    def _meta(self) -> dict[str, Any]:
        return {"role": "agent", "host": self._settings.host, "pid": os.getpid()}

    def _run(self) -> None:
        try:
            for runner in self._after:
                runner.wait()
            self._after = ()
            partition = self._join()
            if partition is None:
                return
            with partition:
                with self._lock:
                    # In one piece: a reload starts loops only where these have been started.
                    for loop in self.group.loops:
                        self._start_loop(loop)
                    self._joined.set()
                self._woken()
                self._wait_for_loops()
                if not partition.drain(self._seconds_to_drain()):
                    log.warning(
                        "%s: the others have not taken over in time: leaving all the same",
                        self.group.name,
                    )
            log.info("%s has left %s", self.member, self.group.name)
        except HashringError as error:
            self.error = self.error or error
        except Exception as error:
            log.exception("the group %s failed", self.group.name)
            self.error = self.error or HashringError(f"{type(error).__name__}: {error}")
        finally:
            self._woken()

    def _start_loop(self, loop: Loop) -> None:
        before = [ended for ended in self._ended_loops if ended.interval == loop.interval]
        after = before[-1] if before else None
        started = self._loops[loop.interval] = _Loop(self, loop, after)
        started.start()

    def _seconds_to_drain(self) -> float:
        """How long the hand-over may take: what the cycles in hand have left, or a little."""
        seconds = self._settings.drain_timeout
        return max(min(seconds, _HAND_OVER), min(seconds, self.seconds_to_end()))

    def _wait_for_loops(self) -> None:
        while True:
            with self._lock:
                loops = [*self._loops.values(), *self._ended_loops]
            if all(loop.join(0) for loop in loops):
                return
            if self.seconds_to_end() <= 0:
                self.shared.give_up(self)
            for loop in loops:
                loop.join(0.05)

    def _join(self) -> Partition | None:
        """Join the group; wait for a former agent's lease, and for a store that is away."""
        settings = self._settings
        patience = clock.boottime() + settings.patience
        pauses = backoff.Backoff(settings.retry_backoff, settings.max_retry_interval)
        while not self._stopping.is_set():
            try:
                partition = join(
                    settings.backend_url,
                    self.group.name,
                    member=settings.member,
                    ttl=settings.ttl,
                    heartbeat=settings.heartbeat,
                    meta=self._meta(),
                )
            except MemberExists as error:
                if clock.boottime() >= patience:
                    raise
                self._unjoined = str(error)
                self._stopping.wait(_RETRY_JOIN)
                continue
            except StoreUnavailable as error:
                if not settings.retry_backoff:
                    raise
                self._unjoined = str(error)
                self.shared.failures.add(f"joining {self.group.name}", error)
                self._stopping.wait(next(pauses))
                continue
            log.info("%s joins %s", settings.member, self.group.name)
            self.partition = partition
            if self._stopping.is_set():
                partition.stop()
            return partition
        return None
