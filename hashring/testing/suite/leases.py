"""What the conformance suite asks of a lease: how long it lasts, and what its end means.

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

from hashring.driver import Driver
from hashring.errors import LeaseLost, MemberExists, StoreUnavailable
from hashring.testing.suite.base import SuiteBase, record

__all__ = ["LeaseTests"]


class LeaseTests(SuiteBase):
    """A lease lasts as long as was promised; what ran out does not come back."""

    def test_a_member_that_does_not_heartbeat_is_gone_after_its_lease_and_not_before(
        self, driver: Callable[..., Driver], group: str
    ) -> None:
        a, watcher = driver(self.ttl), driver()
        began = time.monotonic()
        a.join(group, "a", record("1"))
        assert self.until_gone(watcher, group, "a") - began >= self.ttl

    def test_a_heartbeat_that_returns_keeps_the_lease_for_ttl_from_its_call(
        self, driver: Callable[..., Driver], group: str
    ) -> None:
        a, watcher = driver(self.ttl), driver()
        began = 0.0

        def renews() -> bool:
            nonlocal began
            joined = time.monotonic()
            a.join(group, "a", record("1"))
            self.eventually(
                "a third of the lease has passed", lambda: time.monotonic() > joined + self.ttl / 3
            )
            began = time.monotonic()
            try:
                a.heartbeat()
            except LeaseLost:
                # Only where this process was held up for longer than a lease: begin again.
                assert time.monotonic() - joined >= self.ttl
                return False
            return True

        self.eventually("a heartbeat in the second third of a lease", renews)
        assert self.until_gone(watcher, group, "a") - began >= self.ttl

    def test_a_member_that_heartbeats_lives_on(
        self, driver: Callable[..., Driver], group: str
    ) -> None:
        a, watcher = driver(self.ttl), driver()
        began = renewed = time.monotonic()
        a.join(group, "a", record("1"))
        watcher.read(group)
        while renewed - began < 1.5 * self.ttl:
            watcher.wait(group, self.ttl / 5)
            called = time.monotonic()
            try:
                a.heartbeat()
            except LeaseLost:
                # Only where this process was held up for longer than a lease: begin again.
                assert time.monotonic() - renewed >= self.ttl
                began = renewed = time.monotonic()
                a.join(group, "a", record("1"))
                continue
            renewed = called
            alive = "a" in watcher.read(group).records
            assert alive or time.monotonic() - renewed >= self.ttl

    def test_a_lease_that_ran_out_is_reported_and_does_not_come_back(
        self, driver: Callable[..., Driver], group: str
    ) -> None:
        a, watcher = driver(self.ttl), driver()
        a.join(group, "a", record("1"))
        self.until_gone(watcher, group, "a")
        with pytest.raises(LeaseLost):
            a.publish(group, "a", record("1", applied="x"))
        with pytest.raises(LeaseLost):
            a.heartbeat()
        with pytest.raises(LeaseLost):
            a.heartbeat()
        assert dict(watcher.read(group).records) == {}

    def test_a_heartbeat_in_the_last_moment_revives_nobody_who_was_read_as_gone(
        self, driver: Callable[..., Driver], group: str
    ) -> None:
        watcher = driver()
        made = [driver(self.ttl) for _ in range(8)]
        failures: list[BaseException] = []

        def beat(each: Driver, at: float) -> None:
            try:
                while (left := at - time.monotonic()) > 0:
                    time.sleep(left)
                # Eight ask at once: no answer in time revives nobody either.
                with contextlib.suppress(LeaseLost, StoreUnavailable):
                    each.heartbeat()
            except BaseException as error:
                failures.append(error)

        threads = []
        for index, each in enumerate(made):
            each.join(group, f"m{index}", record("1"))
            # From 10 ms before the end of the lease to 25 ms after it.
            at = time.monotonic() + self.ttl + (index - 2) * 0.005
            threads.append(threading.Thread(target=beat, args=(each, at)))
            threads[-1].start()
        present, gone = {f"m{index}" for index in range(len(made))}, set[str]()
        while any(thread.is_alive() for thread in threads):
            read = watcher.read(group).records.keys()
            assert not read & gone
            gone |= present - read
        for thread in threads:
            thread.join()
        assert not watcher.read(group).records.keys() & gone
        assert failures == []

    def test_after_its_lease_ran_out_a_member_joins_anew(
        self, driver: Callable[..., Driver], group: str
    ) -> None:
        a, watcher = driver(self.ttl), driver()
        a.join(group, "a", record("1"))
        self.until_gone(watcher, group, "a")

        def lives() -> bool:
            began = time.monotonic()
            a.join(group, "a", record("2"))
            try:
                a.heartbeat()
                a.publish(group, "a", record("2", applied="x"))
            except LeaseLost:
                # Only where this process was held up for longer than a lease: begin again.
                assert time.monotonic() - began >= self.ttl
                return False
            read = dict(watcher.read(group).records)
            is_there = read == {"a": record("2", applied="x")}
            assert is_there or time.monotonic() - began >= self.ttl
            return is_there

        self.eventually("it joins, heartbeats, publishes and is read", lives)

    def test_another_takes_the_id_over_once_the_lease_ran_out_and_not_before(
        self, driver: Callable[..., Driver], group: str
    ) -> None:
        dead, heir = driver(self.ttl), driver()
        began = time.monotonic()
        dead.join(group, "a", record("1"))

        def joined() -> bool:
            try:
                heir.join(group, "a", record("2"))
            except MemberExists:
                return False
            return True

        self.eventually("the heir joins", joined)
        assert time.monotonic() - began >= self.ttl
        assert dict(heir.read(group).records) == {"a": record("2")}
        # From now on the id is the heir's; the dead one, should it wake up, touches nothing.
        with pytest.raises(LeaseLost):
            dead.heartbeat()
        with pytest.raises(LeaseLost):
            dead.publish(group, "a", record("1"))
        dead.leave(group, "a")
        heir.join(group, "a", record("2"))
        with pytest.raises(MemberExists):
            dead.join(group, "a", record("1"))
        assert dict(heir.read(group).records) == {"a": record("2")}

    def test_a_lost_lease_does_not_keep_the_others_from_being_renewed(
        self, driver: Callable[..., Driver], group: str
    ) -> None:
        a, watcher = driver(self.ttl), driver()
        a.join(group, "old", record("1"))
        self.until_gone(watcher, group, "old")
        began = 0.0

        def renews() -> bool:
            nonlocal began
            joined = time.monotonic()
            a.join(group, "new", record("1"))
            self.eventually(
                "a third of the lease has passed", lambda: time.monotonic() > joined + self.ttl / 3
            )
            began = time.monotonic()
            with pytest.raises(LeaseLost, match="old"):
                a.heartbeat()
            # Where this process was held up for longer than a lease, it is lost as well.
            return time.monotonic() - joined < self.ttl

        self.eventually("a heartbeat in the second third of a lease", renews)
        assert self.until_gone(watcher, group, "new") - began >= self.ttl
        a.leave(group, "old")
        a.leave(group, "new")
        a.heartbeat()

    def test_a_lease_outlives_the_driver_that_closes_without_leaving(
        self, driver: Callable[..., Driver], group: str
    ) -> None:
        a, watcher = driver(self.ttl), driver()
        began = time.monotonic()
        a.join(group, "a", record("1"))
        a.close()
        assert self.until_gone(watcher, group, "a") - began >= self.ttl
