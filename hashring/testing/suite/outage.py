"""What the conformance suite asks where a server goes away and comes back.

Part of :class:`hashring.testing.DriverSuite`. How these tests stay right on a slow machine is said
in :mod:`hashring.testing.suite.suite`.
"""

# ruff: noqa: D102 - a test's name is its documentation

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

import pytest

from hashring.driver import Driver, Reading, load
from hashring.errors import LeaseLost, StoreUnavailable
from hashring.testing.suite.base import record
from hashring.testing.suite.options import OptionTests

__all__ = ["OutageTests"]


class OutageTests(OptionTests):
    """A server that is gone is an error in time; one that is back is used again."""

    def test_server_gone_is_an_error_in_time_and_no_reason_to_hang(
        self, url: str, driver: Callable[..., Driver], group: str
    ) -> None:
        a = driver(self.ttl)
        a.join(group, "a", record("1"))
        a.read(group)
        before = set(threading.enumerate())
        self.stop_server()
        try:
            began = time.monotonic()
            with pytest.raises(StoreUnavailable) as read:
                self.until_it_fails(lambda: a.read(group))
            with pytest.raises((StoreUnavailable, LeaseLost)):
                self.until_it_fails(a.heartbeat)
            with pytest.raises(StoreUnavailable):
                a.publish(group, "a", record("1", applied="x"))
            with contextlib.suppress(StoreUnavailable):
                a.wait(group, 0.2)
            late = load(url, ttl=self.ttl)
            with pytest.raises(StoreUnavailable) as opened:
                late.open()
            late.close()
            self._show_no_secret(url, (read.value, opened.value))
            assert time.monotonic() - began < self.patience
            a.close()
            self.eventually(
                "every thread has ended", lambda: not set(threading.enumerate()) - before
            )
        finally:
            self.start_server()

    def test_server_back_serves_the_drivers_that_it_had(
        self, driver: Callable[..., Driver], group: str
    ) -> None:
        a, b = driver(self.ttl), driver(self.ttl)
        a.join(group, "a", record("1"))
        b.join(group, "b", record("2"))
        a.read(group)
        gone = time.monotonic()
        self.stop_server()
        try:
            with pytest.raises(StoreUnavailable):
                self.until_it_fails(lambda: a.read(group))
        finally:
            self.start_server()

        readings: list[Reading] = []

        def reads() -> bool:
            with contextlib.suppress(StoreUnavailable):
                readings.append(a.read(group))
            return bool(readings)

        self.eventually("the driver reads again", reads)
        (reading,) = readings
        if time.monotonic() - gone < self.ttl and not reading.records.keys() >= {"a", "b"}:
            # It forgot leases that still run: then it must say so.
            assert reading.memory_age <= time.monotonic() - gone + 1.0

        def works(each: Driver, member: str, incarnation: str) -> bool:
            try:
                each.heartbeat()
                each.publish(group, member, record(incarnation, back=True))
            except LeaseLost:
                with contextlib.suppress(StoreUnavailable):
                    each.join(group, member, record(incarnation))
                return False
            except StoreUnavailable:
                return False
            return True

        def both() -> bool:
            if not (works(a, "a", "1") and works(b, "b", "2")):
                return False
            renewed = time.monotonic()
            found = a.read(group).records.get("b")
            # But where this process was held up for longer than a lease.
            is_there = found == record("2", back=True)
            assert is_there or time.monotonic() - renewed >= self.ttl / 2
            return is_there

        self.eventually("both members work again", both)
