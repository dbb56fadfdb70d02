"""What the conformance suite asks of time: leases, clocks, memory, and a server that is frozen.

Part of :class:`hashring.testing.DriverSuite`. How these tests stay right on a slow machine is said
in :mod:`hashring.testing.suite`.
"""

# ruff: noqa: D102 - a test's name is its documentation

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
import threading
import time
from collections.abc import Callable, Mapping

import pytest

from hashring.driver import Driver, load
from hashring.errors import LeaseLost, StoreUnavailable
from hashring.testing.suite.base import SuiteBase, record
from hashring.testing.suite.wall_clock import wrong_by

_TICK = 1.0
"""Seconds by which a memory age may be off, for a store's clock that counts whole seconds."""

_GAPS = (0.1, 0.25, 0.45)
"""Parts of a lease between two heartbeats: a driver that saves one within ttl / 2 is found."""


@dataclasses.dataclass
class _End:
    """What was seen of one lease's end.

    Attributes:
        shown: when the last reading that showed the member began.
        gone: when the first reading without it had returned.
    """

    shown: float = -math.inf
    gone: float = math.inf


class TimeTests(SuiteBase):
    """The tests of leases, clocks and time limits."""

    def ends(self, driver: Driver, group: str, *members: str) -> Mapping[str, _End]:
        """Read until none of the members is there; return what was seen of each lease's end."""
        seen = {member: _End() for member in members}

        def all_gone() -> bool:
            began = time.monotonic()
            read = driver.read(group).records.keys()
            done = time.monotonic()
            for member, end in seen.items():
                if member in read:
                    end.shown, end.gone = began, math.inf
                else:
                    end.gone = min(end.gone, done)
            return not read & set(members)

        self.eventually(f"the leases of {members} run out", all_gone)
        return seen

    # -- leases

    def test_a_heartbeat_soon_after_another_renews_the_lease_as_well(
        self, driver: Callable[..., Driver], group: str
    ) -> None:
        watcher = driver()
        made = {gap: driver(self.ttl) for gap in _GAPS}
        turns = itertools.count()
        self.eventually(
            "this machine is quick enough to see what two heartbeats do",
            lambda: self._two_heartbeats(watcher, made, group, f"in turn {next(turns)}"),
        )

    def _two_heartbeats(
        self, watcher: Driver, made: Mapping[float, Driver], group: str, turn: str
    ) -> bool:
        """Fail where the second had no effect; return whether it was seen to have one."""
        began = time.monotonic()
        first = began
        renewed: dict[float, float] = {}
        try:
            for gap, each in made.items():
                each.join(group, f"{gap} {turn}", record("1"))
            for each in made.values():
                each.heartbeat()
            first = time.monotonic()
            for gap, each in made.items():
                while (left := first + gap * self.ttl - time.monotonic()) > 0:
                    time.sleep(left)
                renewed[gap] = time.monotonic()
                each.heartbeat()
        except LeaseLost:
            # Only where this process was held up for longer than a lease.
            assert time.monotonic() - began >= self.ttl
        ends = self.ends(watcher, group, *(f"{gap} {turn}" for gap in made))
        for gap, each in made.items():
            each.leave(group, f"{gap} {turn}")
            if gap in renewed:
                assert ends[f"{gap} {turn}"].gone - renewed[gap] >= self.ttl, (
                    f"a second heartbeat after {gap} ttl did not renew the lease"
                )
        # By the first heartbeat alone the member would not have been read any more.
        longest = max(made)
        seen_until = ends[f"{longest} {turn}"].shown - first - self.ttl if renewed else 0.0
        return seen_until > longest * self.ttl / 3

    def test_a_lease_that_ran_out_is_gone_at_once(
        self, driver: Callable[..., Driver], group: str
    ) -> None:
        # No whole number: a driver may have rounded it.
        ttl = math.floor(self.ttl) + 0.5
        watcher = driver()
        made = {way: driver(ttl) for way in ("join", "join again", "heartbeat")}
        begun, returned = {}, {}
        for way, each in made.items():
            if way != "join":
                each.join(group, way, record("1"))
            begun[way] = time.monotonic()
            if way == "heartbeat":
                each.heartbeat()
            else:
                each.join(group, way, record("1"))
            returned[way] = time.monotonic()
        for way, end in self.ends(watcher, group, *made).items():
            assert end.gone - begun[way] >= ttl, f"a lease by {way} ended before its time"
            # The lease had begun when the call returned; a reading that begins after its end must
            # not show the member, however slow this machine is.
            assert end.shown <= returned[way] + ttl + self.lateness, (
                f"a lease by {way} was still read {end.shown - returned[way] - ttl:.2f} s after "
                f"its end (lateness is {self.lateness} s)"
            )

    def test_no_wall_clock_of_a_client_enters_a_lease(
        self, driver: Callable[..., Driver], group: str
    ) -> None:
        far = 4 * self.long_ttl
        a, watcher = driver(), driver()
        a.join(group, "a", record("1"))
        for seconds in (far, -far):
            with wrong_by(seconds):
                assert watcher.read(group).records.keys() == {"a"}
                a.heartbeat()
                a.publish(group, "a", record("1", wrong=seconds))
                assert watcher.read(group).records.keys() == {"a"}
            assert watcher.read(group).records.keys() == {"a"}
            with wrong_by(seconds):
                a.join(group, "a", record("1"))
            assert watcher.read(group).records.keys() == {"a"}
        brief = driver(self.ttl)
        with wrong_by(far):
            began = time.monotonic()
            brief.join(group, "brief", record("1"))
            brief.heartbeat()
        assert self.until_gone(watcher, group, "brief") - began >= self.ttl

    # -- memory

    def test_the_memory_age_grows_with_time_and_no_faster(
        self, driver: Callable[..., Driver], group: str
    ) -> None:
        both = (driver(), driver())
        began = time.monotonic()
        # Each may know of another time since when nothing was forgotten, but must go on from it.
        first = [each.read(group).memory_age for each in both]
        assert min(first) >= 0
        if math.isinf(min(first)):
            return
        # As long as it takes to tell a rate of 1 from one of 1.5, on a clock of whole seconds.
        last = list(first)
        while time.monotonic() < began + 2.5 * _TICK:
            for index, each in enumerate(both):
                each.wait(group, 0.05)
                age = each.read(group).memory_age
                passed = time.monotonic() - began
                assert last[index] <= age <= first[index] + passed + _TICK
                last[index] = age
        # One that does not grow has the group stand still for ever.
        self.eventually(
            "the store remembers for a lease",
            lambda: min(each.read(group).memory_age for each in both) >= self.ttl,
        )

    def test_the_memory_age_is_not_by_a_clients_wall_clock(
        self, driver: Callable[..., Driver], group: str
    ) -> None:
        a = driver()
        began = time.monotonic()
        first = a.read(group).memory_age
        for seconds in (4 * self.long_ttl, -4 * self.long_ttl):
            with wrong_by(seconds):
                age = a.read(group).memory_age
            passed = time.monotonic() - began
            assert first <= age <= first + passed + _TICK

    # -- a server that is frozen (where there is one: see stop_server)

    def test_server_frozen_keeps_no_call_for_ever(
        self, url: str, driver: Callable[..., Driver], group: str
    ) -> None:
        names = ("read", "heartbeat", "publish", "join", "leave", "wait", "close")
        made = {name: driver() for name in names}
        for name, each in made.items():
            each.join(group, name, record("1"))
            each.read(group)
        late = load(url, ttl=self.ttl)
        changed = record("1", frozen=True)
        calls: dict[str, Callable[[], object]] = {
            "read": lambda: made["read"].read(group),
            "heartbeat": lambda: made["heartbeat"].heartbeat(),
            "publish": lambda: made["publish"].publish(group, "publish", changed),
            "join": lambda: made["join"].join(group, "join", changed),
            "leave": lambda: made["leave"].leave(group, "leave"),
            "wait": lambda: made["wait"].wait(group, 0.2),
            "close": lambda: made["close"].close(),
            "open": late.open,
        }
        outcome: dict[str, BaseException | None] = {}

        def attempt(name: str) -> None:
            try:
                calls[name]()
            except BaseException as error:
                outcome[name] = error
            else:
                outcome[name] = None

        threads = [threading.Thread(target=attempt, args=(name,), daemon=True) for name in calls]
        self.pause_server()
        try:
            for thread in threads:
                thread.start()
            deadline = time.monotonic() + self.patience
            for thread in threads:
                thread.join(max(0.0, deadline - time.monotonic()))
            hung = calls.keys() - outcome.keys()
        finally:
            self.resume_server()
            for thread in threads:
                thread.join(self.patience)
            with contextlib.suppress(StoreUnavailable):
                late.close()
        assert not hung, f"the server was frozen for {self.patience} s, and these calls hung"
        told = {name: type(error).__name__ for name, error in outcome.items() if error is not None}
        unknown = (StoreUnavailable, LeaseLost)
        for name in ("read", "heartbeat", "publish", "join", "open"):
            assert isinstance(outcome[name], unknown), f"{name} did not fail: {told}"
        for name in ("leave", "wait"):
            assert isinstance(outcome[name], (*unknown, type(None))), f"{name} failed: {told}"
        assert outcome["close"] is None, f"close failed: {outcome['close']!r}"

    def test_server_frozen_and_thawed_serves_the_drivers_that_it_had(
        self, driver: Callable[..., Driver], group: str
    ) -> None:
        a = driver()
        a.join(group, "a", record("1"))
        self.pause_server()
        try:
            with pytest.raises((StoreUnavailable, LeaseLost)):
                a.publish(group, "a", record("1", turn=1))
        finally:
            self.resume_server()

        def works() -> bool:
            try:
                a.heartbeat()
                a.publish(group, "a", record("1", turn=2))
            except LeaseLost:
                with contextlib.suppress(StoreUnavailable):
                    a.join(group, "a", record("1"))
                return False
            except StoreUnavailable:
                return False
            return True

        self.eventually("the member works again", works)
        # What was under way when the server froze may not land on top of what came later.
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            assert a.read(group).records["a"] == record("1", turn=2)
