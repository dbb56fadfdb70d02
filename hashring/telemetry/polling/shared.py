"""Shared: what all runners of an agent have in common: pools, loop, outlet, failures, routes."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Collection
from typing import Any

from hashring.telemetry.config.plan import Plan
from hashring.telemetry.delivery.outlet import Outlet
from hashring.telemetry.model.settings import Settings
from hashring.telemetry.polling.counts import PollCounts
from hashring.telemetry.polling.descriptors import room_for
from hashring.telemetry.polling.done import DoneWindows
from hashring.telemetry.polling.failures import Failures
from hashring.telemetry.polling.flights import Flights
from hashring.telemetry.polling.loop_pool import LoopPool
from hashring.telemetry.polling.pool import Call, Pool
from hashring.telemetry.polling.putting import put_together

__all__ = ["Shared"]


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
        self.counts = PollCounts()
        self._lock = threading.Lock()
        self._pools: dict[str, Pool] = {}
        self._loop: LoopPool | None = None
        self.replace(settings, plan)

    def replace(self, settings: Settings, plan: Plan) -> None:
        """Take what a reload has read; polls that run are finished by what was before."""
        self.settings = settings
        # One value, so that no thread notes what the plan of before said as the new one's word.
        self._routes: tuple[Plan, dict[str, tuple[str, ...]]] = (plan, {})

    def pool(self, source: str) -> Pool:
        """Return the pool of a source's polls."""
        found = self._pools.get(source)  # as it is asked for thrice a poll
        if found is not None:
            return found
        with self._lock:
            if source not in self._pools:
                self._pools[source] = Pool(self.settings.threads, f"polls-{source}")
            return self._pools[source]

    @property
    def loop(self) -> LoopPool:
        """The pool of polls that wait without a thread: one for all sources."""
        with self._lock:
            if self._loop is None:
                flights = self.flights
                self._loop = LoopPool(
                    room_for(self.settings.max_in_flight),
                    functools.partial(put_together, outlet=self.outlet),
                    note=None if flights is None else functools.partial(_note, flights),
                    noted=_nothing if flights is None else flights.end,
                    name="polls-loop",
                )
            return self._loop

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
        for pool in self._all():
            pool.give_up(owner)

    @property
    def hanging(self) -> int:
        """How many calls have been given up and are not back."""
        return sum(pool.hanging for pool in self._all())

    def close(self) -> None:
        """End the pools' threads, and make no more calls. The loop turns until :meth:`end`."""
        for pool in self._all():
            pool.close()

    def _all(self) -> list[Pool | LoopPool]:
        with self._lock:
            return [*self._pools.values(), *([] if self._loop is None else [self._loop])]

    def end(self) -> None:
        """End the loop, once the pollsters have closed their connections."""
        with self._lock:
            loop = self._loop
        if loop is not None:
            loop.end()


def _note(flights: Flights, call: Call[Any]) -> int:
    """Note that a step of a poll begins in this thread: see ``Polls``, who makes such calls."""
    return flights.begin(call.owner.group.name, call.key[1])  # type: ignore[attr-defined,index]


def _nothing(place: int) -> None:
    """Nothing was noted."""
