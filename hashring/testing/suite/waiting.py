"""What the conformance suite asks of waiting for a change, and of calls beside each other.

Part of :class:`hashring.testing.DriverSuite`. How these tests stay right on a slow machine is said
in :mod:`hashring.testing.suite.suite`.
"""

# ruff: noqa: D102 - a test's name is its documentation

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable

import pytest

from hashring.driver import Driver
from hashring.testing.suite.base import SuiteBase, record

__all__ = ["WaitingTests"]


class WaitingTests(SuiteBase):
    """A wait ends in time, and holds nobody up."""

    def test_wait_ends_at_its_timeout_where_nothing_changes(
        self, driver: Callable[..., Driver], group: str
    ) -> None:
        a = driver()
        a.read(group)
        took: list[float] = []

        def ends(timeout: float, late: float) -> bool:
            began = time.monotonic()
            a.wait(group, timeout)
            took.append(time.monotonic() - began)
            return took[-1] <= timeout + late

        # A busy machine may hold one call up; a driver that is late is late each time.
        for timeout in (0.0, 0.05, 0.3):
            in_time = functools.partial(ends, timeout, 0.3)
            self.eventually(f"wait({timeout}) ends within {timeout + 0.3} s", in_time)
        # It may also end early, but one that never blocks has a member read without a pause.
        self.eventually(
            "a wait(0.3) lasts for 0.2 s", lambda: ends(0.3, self.patience) and took[-1] >= 0.2
        )

    def test_wait_wakes_for_what_changed_before_it_was_called(
        self, driver: Callable[..., Driver], group: str
    ) -> None:
        a, b = driver(), driver()
        b.read(group)
        a.join(group, "a", record("1"))
        self._returns_early(b, group)
        assert b.read(group).records.keys() == {"a"}
        a.leave(group, "a")
        self._returns_early(b, group)

    @pytest.mark.parametrize("change", ["join", "publish", "leave"])
    def test_wait_wakes_for_a_change_while_it_waits(
        self, driver: Callable[..., Driver], group: str, change: str
    ) -> None:
        a, b = driver(), driver()
        a.join(group, "a", record("1"))
        b.read(group)
        # Each change on its own; a wait may also return early without one, so the lasting
        # effect is what is awaited: the group as it is after the change.
        done = threading.Event()

        def act() -> None:
            if change == "join":
                a.join(group, "b", record("1"))
            elif change == "publish":
                a.publish(group, "a", record("1", applied="x"))
            else:
                a.leave(group, "a")
            done.set()

        before = dict(b.read(group).records)
        timer = threading.Timer(0.1, act)
        timer.start()
        began = time.monotonic()
        while dict(b.read(group).records) == before:
            b.wait(group, self.patience)
            assert time.monotonic() - began < self.patience / 2
        timer.join()
        assert done.is_set()

    def test_a_wait_is_ended_by_an_interrupt(
        self, driver: Callable[..., Driver], group: str
    ) -> None:
        a = driver()
        a.interrupt()  # whatever a driver offers, this says nothing at any time
        a.join(group, "a", record("1"))
        a.read(group)
        if not a.interrupts:
            a.interrupt()
            a.wait(group, 0.01)
            return
        waits = [threading.Event() for _ in range(3)]

        def wait() -> None:
            for returned in waits:
                a.wait(group, self.patience)
                returned.set()

        # A wait may also return early without one: each of these must, well before its time.
        began = time.monotonic()
        thread = threading.Thread(target=wait)
        thread.start()
        for returned in waits:
            a.interrupt()
            assert returned.wait(self.patience)
        thread.join()
        assert time.monotonic() - began < self.patience
        a.close()
        a.interrupt()

    def _returns_early(self, driver: Driver, group: str) -> None:
        began = time.monotonic()
        driver.wait(group, self.patience)
        assert time.monotonic() - began < self.patience / 2

    def test_heartbeats_run_beside_everything_else(
        self, driver: Callable[..., Driver], group: str
    ) -> None:
        a, watcher = driver(), driver()
        a.join(group, "a", record("1"))
        stop = threading.Event()
        beats: list[float] = []
        failures: list[BaseException] = []

        def beat() -> None:
            try:
                while not stop.is_set():
                    a.heartbeat()
                    beats.append(time.monotonic())
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=beat)
        thread.start()
        try:
            for turn in range(50):
                a.publish(group, "a", record("1", turn=turn))
                assert a.read(group).records["a"] == record("1", turn=turn)
                a.wait(group, 0.001)
                a.join(group, "b", record("2"))
                a.leave(group, "b")
                assert watcher.read(group).records.keys() == {"a"}
        finally:
            stop.set()
            thread.join()
        assert failures == []
        assert beats

    def test_a_long_wait_does_not_hold_up_heartbeats(
        self, driver: Callable[..., Driver], group: str
    ) -> None:
        a = driver()
        a.join(group, "a", record("1"))
        waiting = threading.Event()
        done: list[bool] = []
        failures: list[BaseException] = []

        def wait() -> None:
            until = time.monotonic() + self.patience / 2
            try:
                while not done and (left := until - time.monotonic()) > 0:
                    a.read(group)
                    waiting.set()
                    a.wait(group, left)
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        assert waiting.wait(self.patience)
        for _ in range(5):
            a.heartbeat()
        in_time = thread.is_alive()
        done.append(True)
        a.leave(group, "a")
        thread.join()
        assert failures == []
        assert in_time, "a heartbeat had to wait for the wait"
