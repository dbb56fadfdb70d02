"""What the conformance suite asks of what a store may offer to people who look on.

Part of :class:`hashring.testing.DriverSuite`. A driver that offers none of it passes as well.
"""

# ruff: noqa: D102 - a test's name is its documentation

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Callable

import pytest

from hashring.driver import Driver
from hashring.errors import LeaseLost, MemberExists, NotOffered
from hashring.testing.suite.base import SuiteBase, record

__all__ = ["LookingTests"]

_ODD = (" a b ", "a/b", "a:b", "{a}", "*", "a?b[c]", "per%20cent", "tab\tnew\nline", "\N{SNOWMAN}")


class LookingTests(SuiteBase):
    """Groups can be listed, and leases measured, or the driver says that it does not offer it."""

    def test_the_groups_that_are_listed_are_those_with_members(
        self, driver: Callable[..., Driver], group: str
    ) -> None:
        a, onlooker = driver(), driver()
        with contextlib.suppress(NotOffered):
            onlooker.groups()
            there = {group, *(f"{group}{odd}" for odd in _ODD)}
            for name in there:
                a.join(name, "a", record("1"))
            assert {name for name in onlooker.groups() if group in name} == there
            for name in there:
                a.leave(name, "a")
            assert not {name for name in onlooker.groups() if group in name}

    def test_leases_that_are_told_are_those_of_members_and_no_longer_than_a_ttl(
        self, driver: Callable[..., Driver], group: str
    ) -> None:
        a, onlooker = driver(), driver()
        a.join(group, "a", record("1"))
        a.join(group, "b", record("1"))
        a.heartbeat()
        told = onlooker.leases(group)
        assert told.keys() <= {"a", "b"}
        slack = 3.0  # a store may count in whole seconds, and keep a lease for a little longer
        assert all(0.0 < left <= self.long_ttl + slack for left in told.values())
        a.leave(group, "a")
        assert onlooker.leases(group).keys() <= {"b"}

    def test_a_lease_that_is_seized_is_refused_to_whose_it_was_and_its_record_stands_on(
        self, driver: Callable[..., Driver], group: str
    ) -> None:
        a, seizes, onlooker = driver(), driver(), driver()
        a.join(group, "a", record("1"))
        try:
            seizes.seize(group, "a", record("2"))
        except NotOffered:
            a.heartbeat()
            return
        first = onlooker.read(group)
        assert dict(first.records) == {"a": record("2")}
        with pytest.raises(LeaseLost):
            a.heartbeat()
        with pytest.raises(LeaseLost):
            a.publish(group, "a", record("1"))
        # Nothing was forgotten: else the whole group would stand still.
        assert onlooker.read(group).memory_age >= first.memory_age
        seizes.heartbeat()
        a.leave(group, "a")
        assert dict(onlooker.read(group).records) == {"a": record("2")}
        seizes.leave(group, "a")
        assert not onlooker.read(group).records
        with pytest.raises(LeaseLost):
            seizes.seize(group, "a", record("2"))

    @pytest.mark.parametrize("publishes", [0, 1, 2, 5])
    def test_whose_lease_was_seized_never_writes_over_it_however_often_either_published(
        self, driver: Callable[..., Driver], group: str, publishes: int
    ) -> None:
        """A store may number the writes of a record: the numbers of two leases must not meet."""
        a, seizes, onlooker = driver(), driver(), driver()
        a.join(group, "a", record("1"))
        for number in range(publishes):
            a.publish(group, "a", record("1", number=number))
        onlooker.read(group)  # from now on it may read no more than what changed
        try:
            seizes.seize(group, "a", record("2"))
        except NotOffered:
            return
        for number in range(publishes + 3):
            assert "a" in onlooker.read(group).records
            with pytest.raises(LeaseLost):
                a.publish(group, "a", record("1", number=-1))
            seizes.publish(group, "a", record("2", number=number))
            assert dict(onlooker.read(group).records) == {"a": record("2", number=number)}
        with pytest.raises(MemberExists):
            a.join(group, "a", record("3"))
        seizes.leave(group, "a")
        a.join(group, "a", record("3"))
        a.heartbeat()
        assert dict(onlooker.read(group).records) == {"a": record("3")}

    def test_a_record_is_there_at_every_moment_in_which_its_lease_is_seized(
        self, driver: Callable[..., Driver], group: str
    ) -> None:
        a, onlooker, over = driver(), driver(), threading.Event()
        a.join(group, "a", record("0"))
        missing: list[object] = []

        def look() -> None:
            while not over.is_set():
                if (seen := onlooker.read(group)).records.keys() != {"a"}:
                    missing.append(seen)

        looking = threading.Thread(target=look)
        looking.start()
        try:
            for number in range(1, 11):
                with contextlib.suppress(NotOffered):
                    driver().seize(group, "a", record(str(number)))
        finally:
            over.set()
            looking.join()
        assert missing == []

    def test_bytes_that_are_told_are_at_least_those_of_the_records(
        self, driver: Callable[..., Driver], group: str
    ) -> None:
        a, onlooker = driver(), driver()
        told = a.traffic
        if told is None or onlooker.traffic is None:
            return
        a.join(group, "a", record("1"))
        long, sent = record("1", text=secrets.token_hex(20_000)), told.sent
        a.publish(group, "a", long)
        assert len(long) <= told.sent - sent <= 10 * len(long)
        received = onlooker.traffic.received
        assert dict(onlooker.read(group).records) == {"a": long}
        assert len(long) <= onlooker.traffic.received - received <= 10 * len(long)

    def test_a_store_is_looked_at_by_a_driver_that_has_joined_nothing(
        self, driver: Callable[..., Driver], group: str
    ) -> None:
        a = driver()
        a.join(group, "a", record("1"))
        onlooker = driver()
        onlooker.close()
        onlooker.open_to_look()
        assert dict(onlooker.read(group).records) == {"a": record("1")}
