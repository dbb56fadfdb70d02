"""What the conformance suite asks of a membership: joining, leaving, and a closed driver.

Part of :class:`hashring.testing.DriverSuite`. How these tests stay right on a slow machine is said
in :mod:`hashring.testing.suite.suite`.
"""

# ruff: noqa: D102 - a test's name is its documentation

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from hashring.driver import Driver, Reading, load
from hashring.errors import HashringError, LeaseLost, MemberExists
from hashring.testing.suite.base import SuiteBase, record

__all__ = ["MembershipTests"]


class MembershipTests(SuiteBase):
    """A member comes, and is gone when it says so."""

    def test_a_member_that_joins_is_read_by_all(
        self, driver: Callable[..., Driver], group: str
    ) -> None:
        a, b = driver(), driver()
        a.join(group, "a", record("1"))
        b.join(group, "b", record("2", weight=3))
        expected = {"a": record("1"), "b": record("2", weight=3)}
        assert dict(a.read(group).records) == expected
        assert dict(b.read(group).records) == expected
        # A client library's view of bytes is equal to them, and no JSON parser takes it.
        assert {type(each) for each in a.read(group).records.values()} == {bytes}

    def test_a_group_that_nobody_joined_is_empty(
        self, driver: Callable[..., Driver], group: str
    ) -> None:
        reading = driver().read(group)
        assert isinstance(reading, Reading)
        assert dict(reading.records) == {}

    def test_a_second_driver_cannot_join_as_a_living_member(
        self, driver: Callable[..., Driver], group: str
    ) -> None:
        first, second = driver(), driver()
        first.join(group, "a", record("1"))
        with pytest.raises(MemberExists, match="'a'"):
            second.join(group, "a", record("2"))
        with pytest.raises(MemberExists):
            second.join(group, "a", record("1"))
        assert dict(second.read(group).records) == {"a": record("1")}
        first.heartbeat()
        first.publish(group, "a", record("1", applied="x"))

    def test_a_member_cannot_join_over_its_own_earlier_incarnation(
        self, driver: Callable[..., Driver], group: str
    ) -> None:
        only = driver()
        only.join(group, "a", record("1"))
        with pytest.raises(MemberExists):
            only.join(group, "a", record("2"))
        assert dict(only.read(group).records) == {"a": record("1")}
        only.heartbeat()

    def test_joining_again_renews_the_lease_and_the_record(
        self, driver: Callable[..., Driver], group: str
    ) -> None:
        a, watcher = driver(self.ttl), driver()
        began = time.monotonic()
        a.join(group, "a", record("1"))
        # A second try that only replaces the record would pass at once: let the lease run a while.
        self.eventually(
            "a third of the lease has passed", lambda: time.monotonic() > began + self.ttl / 3
        )
        began = time.monotonic()
        a.join(group, "a", record("1", weight=2))
        is_there = dict(watcher.read(group).records) == {"a": record("1", weight=2)}
        # But where this process was held up for longer than a lease.
        assert is_there or time.monotonic() - began >= self.ttl
        assert self.until_gone(watcher, group, "a") - began >= self.ttl

    def test_of_many_who_join_as_one_member_exactly_one_succeeds(
        self, driver: Callable[..., Driver], group: str
    ) -> None:
        rivals = [driver() for _ in range(4)]
        for attempt in range(10):
            member = f"m{attempt}"
            together = threading.Barrier(len(rivals))

            def rush(
                index: int, member: str = member, together: threading.Barrier = together
            ) -> bool:
                together.wait(self.patience)
                try:
                    rivals[index].join(group, member, record(f"i{index}"))
                except MemberExists:
                    return False
                return True

            with ThreadPoolExecutor(len(rivals)) as pool:
                joined = list(pool.map(rush, range(len(rivals))))
            assert joined.count(True) == 1
            winner = joined.index(True)
            assert driver().read(group).records[member] == record(f"i{winner}")
            rivals[winner].leave(group, member)

    def test_a_member_that_leaves_is_gone_at_once(
        self, driver: Callable[..., Driver], group: str
    ) -> None:
        a, b = driver(), driver()
        a.join(group, "a", record("1"))
        b.join(group, "b", record("2"))
        a.leave(group, "a")
        assert b.read(group).records.keys() == {"b"}
        with pytest.raises(LeaseLost):
            a.publish(group, "a", record("1"))
        a.heartbeat()
        b.join(group, "a", record("3"))
        assert a.read(group).records.keys() == {"a", "b"}

    def test_leaving_is_idempotent_and_only_for_oneself(
        self, driver: Callable[..., Driver], group: str
    ) -> None:
        a, b = driver(), driver()
        a.leave(group, "a")
        a.join(group, "a", record("1"))
        b.leave(group, "a")
        assert b.read(group).records.keys() == {"a"}
        a.leave(group, "a")
        a.leave(group, "a")
        assert b.read(group).records.keys() == set()

    def test_a_closed_driver_refuses_work_and_can_be_closed_again(
        self, url: str, driver: Callable[..., Driver], group: str
    ) -> None:
        never_opened = load(url, ttl=self.ttl)
        never_opened.close()
        a = driver()
        a.join(group, "a", record("1"))
        a.close()
        a.close()
        for each in (a, never_opened):
            with pytest.raises(HashringError):
                each.join(group, "b", record("1"))
            with pytest.raises(HashringError):
                each.publish(group, "a", record("1"))
            with pytest.raises(HashringError):
                each.read(group)
            with pytest.raises(HashringError):
                each.wait(group, self.patience)
            with pytest.raises(HashringError):
                each.leave(group, "a")
        with pytest.raises(HashringError):
            a.heartbeat()

    def test_a_closed_driver_opens_again(self, driver: Callable[..., Driver], group: str) -> None:
        a, b = driver(), driver()
        a.close()
        a.open()
        a.open()
        a.join(group, "a", record("1"))
        assert b.read(group).records.keys() == {"a"}

    def test_close_ends_every_thread(self, url: str, group: str) -> None:
        before = set(threading.enumerate())
        made = [load(url, ttl=self.long_ttl) for _ in range(3)]
        for index, each in enumerate(made):
            each.open()
            each.join(group, f"m{index}", record("1"))
            each.heartbeat()
            each.read(group)
            each.wait(group, 0.01)
        for index, each in enumerate(made):
            each.leave(group, f"m{index}")
            each.close()
        self.eventually("every thread has ended", lambda: not set(threading.enumerate()) - before)
