"""Simulated time: whose turn it is, and when a request or its answer arrives, late or never."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Iterable
from typing import Any

from hashring.errors import HashringError, StoreUnavailable
from hashring.testing.simulation.members import Process, SimulatedMember, Sleep
from hashring.testing.simulation.profiles import Profile
from hashring.testing.simulation.store import SimulatedStore

__all__ = ["Entry", "Scheduler"]

_TIMEOUT = 1.0
"""Seconds after which a member waits for an answer no longer."""

Entry = tuple[float, int, SimulatedMember | None, Any, Any]
"""When, a number, and what: a process of a member with what to send it, or an event."""


class Scheduler:
    """What is to happen, in order, and the network between the members and the store.

    Args:
        random_: the run's only source of chance.
        profile: how often requests are lost or slow.
        store: what is asked.

    Attributes:
        now: simulated seconds.
        away_until: until then the store cannot be reached.
        faults_until: after that nothing fails any more.
    """

    def __init__(self, random_: random.Random, profile: Profile, store: SimulatedStore) -> None:
        self.random = random_
        self.profile = profile
        self.store = store
        self.now = 0.0
        self.away_until = 0.0
        self.faults_until = profile.length
        self._heap: list[Entry] = []
        self._order = itertools.count()
        self._writes_seen = 0
        self._sleepers: dict[Process, tuple[int, SimulatedMember]] = {}
        self._cancelled: set[int] = set()

    def push(self, at: float, member: SimulatedMember | None, what: Any, value: Any = None) -> int:
        """Let something happen at a moment."""
        number = next(self._order)
        heapq.heappush(self._heap, (at, number, member, what, value))
        return number

    def pop(self) -> Entry | None:
        """Return what happens next; ``None``: nothing does. What was cancelled is left out."""
        while self._heap:
            entry = heapq.heappop(self._heap)
            if entry[1] not in self._cancelled:
                return entry
            self._cancelled.discard(entry[1])
        return None

    def put_off(self, entry: Entry, until: float) -> None:
        """Let an entry happen later, before what comes then."""
        heapq.heappush(self._heap, (until, *entry[1:]))

    def events_to_come(self) -> bool:
        """Return whether a fault or a change is still to come."""
        return any(member is None and what[0] == "event" for _, _, member, what, _ in self._heap)

    def _latency(self) -> float:
        random_, profile = self.random, self.profile
        if self.now < self.faults_until and random_.random() < profile.slow:
            return random_.uniform(0.0, profile.slowest)
        return random_.uniform(0.0005, 0.01)

    def _lost(self) -> bool:
        if self.now >= self.faults_until:
            return False
        return self.now < self.away_until or self.random.random() < self.profile.loss

    def resume(self, member: SimulatedMember, process: Process, value: Any) -> None:
        """Let a process go on until its next call or sleep."""
        self._sleepers.pop(process, None)
        try:
            if isinstance(value, BaseException):
                request = process.throw(value)
            else:
                request = process.send(value)
        except StopIteration:
            return
        if isinstance(request, Sleep):
            number = self.push(self.now + request.seconds, member, process)
            if request.wakes:
                self._sleepers[process] = (number, member)
        else:
            self._request(member, process, request.function)

    def _request(
        self, member: SimulatedMember, process: Process, function: Callable[..., Any]
    ) -> None:
        deadline = self.now + _TIMEOUT
        if self._lost():
            self.push(deadline, member, process, StoreUnavailable("request lost"))
            return
        # One member's requests reach the store in the order in which they were sent.
        landing = max(self.now + self._latency(), member.last_landing)
        member.last_landing = landing
        self.push(landing, None, ("request", member, process, function, deadline))

    def land(
        self,
        member: SimulatedMember,
        process: Process,
        function: Callable[..., Any],
        deadline: float,
        watchers: Iterable[SimulatedMember],
    ) -> None:
        """Let the store take a request, and send the answer.

        Args:
            member: whose request it is.
            process: which waits for the answer.
            function: the request.
            deadline: when the process waits no longer.
            watchers: those that the store wakes where anything was written.
        """
        answer: Any
        try:
            answer = function(self.now)
        except HashringError as error:
            answer = error
        if self._lost():
            self.push(max(self.now, deadline), member, process, StoreUnavailable("answer lost"))
        else:
            arrival = self.now + self._latency()
            if arrival > deadline:
                self.push(deadline, member, process, StoreUnavailable("too late"))
            else:
                self.push(arrival, member, process, answer)
        if self.store.writes != self._writes_seen:
            self._writes_seen = self.store.writes
            for sleeper in watchers:
                self.wake(sleeper.reconciling)

    def wake(self, process: Process | None) -> None:
        """End a sleep early."""
        if process is None:
            return
        found = self._sleepers.pop(process, None)
        if found is not None:
            number, member = found
            self._cancelled.add(number)
            self.push(self.now + self._latency(), member, process)
