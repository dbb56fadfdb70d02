"""What the conformance suite asks of the numbers of writes, where a driver says that it has them.

Part of :class:`hashring.testing.DriverSuite`. A driver without them returns ``None`` from
``publish`` and says so by an empty ``epochs``.
"""

# ruff: noqa: D102 - a test's name is its documentation

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

from hashring.driver import Driver
from hashring.errors import LeaseLost, StoreUnavailable
from hashring.testing.suite.base import SuiteBase, record

__all__ = ["EpochTests"]


class EpochTests(SuiteBase):
    """Of two publishes, one after the other, the second has the greater number."""

    def test_publish_returns_a_number_where_the_driver_says_so_and_none_where_not(
        self, driver: Callable[..., Driver], group: str
    ) -> None:
        a = driver()
        a.join(group, "a", record("1"))
        number = a.publish(group, "a", record("1", applied="x"))
        assert isinstance(number, int) is bool(a.epochs), (number, a.epochs)
        assert number is None or 0 < number < 2**63  # a column of 64 bits has room for it

    def test_each_publish_has_a_greater_number_than_those_before_whoever_made_them(
        self, driver: Callable[..., Driver], group: str
    ) -> None:
        made = {"a": driver(), "b": driver()}
        if not made["a"].epochs:
            return
        for member, each in made.items():
            each.join(group, member, record(member))
        numbers = [
            made[member].publish(group, member, record(member, applied=applied))
            # The same record twice, too: it is another write.
            for applied, member in enumerate("abbaabab")
            for _ in range(2)
        ]
        assert numbers == sorted(set(numbers))  # type: ignore[type-var]

    def test_numbers_grow_on_when_a_group_was_empty_and_its_members_have_other_drivers(
        self, driver: Callable[..., Driver], group: str
    ) -> None:
        numbers = []
        for life in range(3):
            each = driver()
            if not each.epochs:
                return
            each.join(group, "a", record(str(life)))
            for applied in range(4):
                numbers.append(each.publish(group, "a", record(str(life), applied=applied)))
            each.leave(group, "a")
        assert numbers == sorted(set(numbers))  # type: ignore[type-var]

    def test_numbers_of_publishes_at_once_are_all_different(
        self, driver: Callable[..., Driver], group: str
    ) -> None:
        made = [driver() for _ in range(3)]
        if not made[0].epochs:
            return
        for number, each in enumerate(made):
            each.join(group, f"m{number}", record(str(number)))
        found: list[list[int | None]] = [[] for _ in made]

        def publish(number: int) -> None:
            for applied in range(10):
                text = record(str(number), applied=applied)
                found[number].append(made[number].publish(group, f"m{number}", text))

        threads = [threading.Thread(target=publish, args=[number]) for number in range(len(made))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for numbers in found:
            assert numbers == sorted(numbers)  # type: ignore[type-var]
        assert len({number for numbers in found for number in numbers}) == 30

    def test_server_back_gives_greater_numbers_than_before(
        self, driver: Callable[..., Driver], group: str
    ) -> None:
        a = driver(self.ttl)
        if not a.epochs:
            return
        a.join(group, "a", record("1"))

        def renew() -> None:
            try:
                a.heartbeat()
            except LeaseLost:  # this process was held up for longer than a lease
                a.join(group, "a", record("1"))

        def remembers() -> bool:
            renew()
            return a.read(group).memory_age >= self.ttl

        self.eventually("the store's memory is a ttl old: from then on numbers count", remembers)
        before: list[int | None] = []

        def publishes_often() -> bool:
            renew()
            with contextlib.suppress(LeaseLost):
                before.append(a.publish(group, "a", record("1", applied=len(before))))
            return len(before) == 20

        self.eventually("twenty publishes", publishes_often)
        self.stop_server()
        self.start_server()
        after: list[int | None] = []

        def publishes() -> bool:
            try:
                after.append(a.publish(group, "a", record("1", back=True)))
            except LeaseLost:
                with contextlib.suppress(StoreUnavailable):
                    a.join(group, "a", record("1"))
            except StoreUnavailable:
                pass
            return bool(after)

        self.eventually("the driver publishes again", publishes)
        assert after[0] is not None
        assert after[0] > max(number or 0 for number in before)
