"""Polls: the polls of one cycle: begun as soon as there is room, and all over at its end.

Those of pollsters that wait without a thread run on the agent's event loop, all others in the pool
of their source. A poll's samples go out only while the member's lease holds. What a failure costs
(a turn left out, a count, a line in the log) is decided here; which resources are due, and until
when, is not.
"""

from __future__ import annotations

import contextlib
import functools
import queue
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hashring import clock
from hashring.partition.cycle import Cycle
from hashring.telemetry.errors import Gone, OutputClosed
from hashring.telemetry.model.batch import Measured
from hashring.telemetry.model.resource import Resource
from hashring.telemetry.model.sample import Measurement
from hashring.telemetry.plugin import AsyncPollster, Pollster
from hashring.telemetry.polling.loop_pool import LoopPool
from hashring.telemetry.polling.pool import Call, Hangs, Pool, TimedOut
from hashring.telemetry.polling.putting import Fenced, Found, NotTaken, Origin, put
from hashring.telemetry.polling.wants import Want

if TYPE_CHECKING:
    from hashring.telemetry.polling.loops import PollingLoop

__all__ = ["Polls"]

_LOOK = 0.05
"""Seconds between two looks for room that others may have made."""


class Polls:
    """The polls of one cycle: begun as soon as there is room, and all over at its end."""

    def __init__(
        self, loop: PollingLoop, cycle: Cycle, window: int, seconds: Callable[[], float]
    ) -> None:
        self._runner = loop.runner
        self._shared = loop.shared
        self._backoff = loop.backoff
        self._cycle = cycle
        self._window = window
        self._seconds = seconds
        self._origin = Origin(
            loop.shared,
            loop.runner.tally,
            cycle,
            window,
            loop.interval,
            loop.runner.member,
            tuple(cycle.token),
        )
        self._begun = 0
        self._over: queue.SimpleQueue[Call[Any]] = queue.SimpleQueue()
        # What one pollster has no room for, or has not read the whole for, waits here, and keeps
        # no other pollster waiting.
        self._later: dict[Want, deque[Resource]] = {}
        self._readings: dict[Pollster, Call[None]] = {}  # that are not over
        self._broken: set[Pollster] = set()  # whose readings are not of this cycle
        self._wants: dict[Pollster, Want] = {}  # of the polls that were begun

    def read(self, want: Want) -> None:
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

    def add(self, want: Want, resource: Resource) -> None:
        """Poll a resource, at once or later in this cycle."""
        self._collect()
        if want.pollster in self._broken:
            return
        if not self._runner.aside.is_due(resource.id, clock.boottime()):
            self._shared.failures.count(f"pollster {_name(want.pollster)}", "set aside")
            self._count(want, "set_aside")
        elif not self._backoff.is_due((want.pollster, resource.id), self._window):
            self._shared.failures.count(f"pollster {_name(want.pollster)}", "left out")
            self._count(want, "left_out")
        elif want in self._later or not self._has_room(want):
            self._later.setdefault(want, deque()).append(resource)
        else:
            self._begin(want, resource)

    def finish(self) -> None:
        """Wait until all have been polled, or the agent must end."""
        while self._begun or self._later or self._readings:
            # What waits for room may get it from another loop's polls, of which nobody tells; of
            # what was begun each tells when it is over.
            with contextlib.suppress(queue.Empty):
                self._end(self._over.get(timeout=_LOOK if self._later else None))
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

    def _has_room(self, want: Want) -> bool:
        if want.pollster in self._readings:
            return False
        if want.waits_on_loop:
            return self._loop.has_room(want.pollster)
        return self._pool(want).has_room(want.pollster)

    def _count(self, want: Want, outcome: str) -> None:
        self._shared.counts.add(self._runner.group.name, want.tasks[0].source, outcome)

    @functools.cached_property
    def _loop(self) -> LoopPool:
        return self._shared.loop

    def _pool(self, want: Want) -> Pool:
        return self._shared.pool(want.tasks[0].source)

    def _begin(self, want: Want, resource: Resource) -> None:
        key = want.pollster, resource.id
        try:
            if want.waits_on_loop:
                self._loop.submit(
                    key,
                    lambda _: self._poll_on_loop(want, resource),
                    self._seconds,
                    share=want.pollster,
                    over=self._over.put,
                    owner=self._runner,
                )
            else:
                self._pool(want).submit(
                    key,
                    lambda call: self._poll(call, want, resource),
                    self._seconds,
                    share=want.pollster,
                    over=self._over.put,
                    owner=self._runner,
                )
        except Hangs as error:
            self._shared.failures.add(f"pollster {_name(want.pollster)}", error)
            self._count(want, "hanging")
        else:
            self._begun += 1
            self._wants[want.pollster] = want

    def _poll(self, call: Call[int], want: Want, resource: Resource) -> int:
        """Poll one resource and put its samples; in a thread of the pool."""
        started = time.perf_counter()
        try:
            measured = self._measure(want, resource)
        finally:
            self._took(want, time.perf_counter() - started)
        if not call.claim():
            return 0
        found = Found(self._origin, want, resource, measured, clock.wall())
        return put(found, self._shared.outlet)

    async def _poll_on_loop(self, want: Want, resource: Resource) -> Found:
        """Poll one resource, and return what is then put in another thread."""
        assert isinstance(want.pollster, AsyncPollster)
        began, started = clock.boottime(), time.perf_counter()
        try:
            measured = await want.pollster.measure(resource)
            if type(measured) is not Measured:
                measured = list(measured)
        finally:
            self._took(want, time.perf_counter() - started)
        self._runner.aside.worked(resource.id, began)
        return Found(self._origin, want, resource, measured, clock.wall())

    def _took(self, want: Want, seconds: float) -> None:
        """Count the time that a pollster took, whether it failed or not."""
        self._shared.counts.took(self._runner.group.name, want.tasks[0].source, seconds)

    def _measure(self, want: Want, resource: Resource) -> Measured | list[Measurement]:
        """Ask the pollster, noted as in hand for this agent's witness."""
        flights, runner = self._shared.flights, self._runner
        if flights is None:
            return _measured(want, resource)
        began = clock.boottime()
        place = flights.begin(runner.group.name, resource.id)
        try:
            found = _measured(want, resource)
        finally:
            flights.end(place)
        runner.aside.worked(resource.id, began)
        return found

    def _end_reading(self, call: Call[Any]) -> bool:
        """Take note of how a reading ended; return whether this call is one."""
        readings = self._readings.items()
        pollster = next((one for one, reading in readings if reading is call), None)
        if pollster is None:
            return False
        del self._readings[pollster]
        if call.error is not None:
            self._broken.add(pollster)
            self._shared.failures.add(f"reading of {_name(pollster)}", call.error)
        return True

    def _end(self, call: Call[Any]) -> None:
        """Take note of how a poll ended, or a reading."""
        shared = self._shared
        if self._readings and self._end_reading(call):
            return
        self._begun -= 1
        key: tuple[Pollster, str] = call.key  # type: ignore[assignment]
        name = f"pollster {_name(key[0])}"
        outcome = "failed"
        try:
            call.result()
        except Gone:
            outcome = "gone"
            shared.failures.count(name, "Gone")
        except Fenced as error:
            outcome = "fenced"
            shared.failures.add("the lease", error)
        except NotTaken as error:
            # No reason to leave the resource out.
            outcome = "not_taken"
            if isinstance(error.cause, OutputClosed):
                shared.closed(str(error.cause))
            else:
                shared.failures.add("publishing", error.cause)
        except Exception as error:
            outcome = "timed_out" if isinstance(error, TimedOut) else "failed"
            shared.failures.add(name, error, of=key[1])
            self._backoff.failed(key, self._window)
        else:
            outcome = "ok"
            self._backoff.worked(key)
        self._count(self._wants[key[0]], outcome)


def _measured(want: Want, resource: Resource) -> Measured | list[Measurement]:
    found = want.pollster.poll(resource)
    return found if type(found) is Measured else list(found)


def _name(pollster: Pollster) -> str:
    return type(pollster).__name__
