"""The conformance suite: what every driver must do, as one pytest base class.

A driver's author subclasses :class:`DriverSuite` and gives it the URL of a running store. The tests
go through the public interface alone (:mod:`hashring.driver`), so that our own drivers pass them as
outsiders would. This module knows no store and no ring.

Times: nothing here fails because a machine is slow. A lower bound (a lease may not end early) is
measured from before the call that began it; what may not be late (a lease that ran out) is looked
at by the moment at which a reading *began*; everything else waits for a condition, for up to
``patience`` seconds. What is asked of leases and time limits alone stands in
:mod:`hashring.testing.suite.time`.
"""

# ruff: noqa: D102 - a test's name is its documentation

from __future__ import annotations

import contextlib
import functools
import json
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from hashring.driver import COMMON_OPTIONS, MAX_RECORD, Driver, DriverURL, Reading, load
from hashring.errors import (
    BadName,
    BadRecord,
    BadURL,
    HashringError,
    LeaseLost,
    MemberExists,
    StoreUnavailable,
)
from hashring.testing.suite.base import record
from hashring.testing.suite.time import TimeTests

__all__ = ["DriverSuite", "record"]

ODD_IDS = (
    "with space",
    " leading and trailing ",
    "a/b",
    "/",
    "//",
    ".",
    "..",
    "../../etc/passwd",
    "a:b",
    "{a}",
    "*",
    "a?b[c]",
    "quote'\"`",
    "back\\slash",
    "per%20cent",
    "tab\tnew\nline\r",
    "semi;colon,comma",
    "MiXeD",
    "mixed",
    "caf\N{LATIN SMALL LETTER E WITH ACUTE}",
    "cafe\N{COMBINING ACUTE ACCENT}",
    "\N{RIGHTWARDS BLACK ARROW}\N{SNOWMAN} \N{CJK UNIFIED IDEOGRAPH-6F22}",
    "\N{GRINNING FACE}" * 500,
    "x" * 500,
    "x" * 499 + "y",
    "zookeeper",
    "0",
    "-1",
    "null",
)
"""Ids that a careless driver confuses, cuts or refuses; each is a group's and a member's here."""


class DriverSuite(TimeTests):
    """The tests that every driver passes. Subclass it in a test file of yours::

        import pytest
        from hashring.testing import DriverSuite

        class TestMyDriver(DriverSuite):
            @pytest.fixture
            def url(self, my_server):          # any fixtures of yours
                return f"mystore://127.0.0.1:{my_server.port}"

    The driver must be installed (or its project, in editable mode), since it is loaded by its
    entry point. Where the store has a server of its own, add::

            def stop_server(self): ...         # returns once nobody can connect
            def start_server(self): ...        # on the same address; returns once it serves

            def pause_server(self): ...        # freeze it: kill -STOP, docker pause
            def resume_server(self): ...       # let it run on

    They are called on the instance whose ``url`` fixture ran: keep the server on ``self``.

    Attributes:
        ttl: the lease in seconds where a test waits for its end. Raise it for a store whose clock
            is coarse.
        lateness: the most seconds for which a member may still be read after its lease ran out.
            Raise it for a store that counts in ticks or whole seconds, and say so in the driver's
            page: for so long nobody takes over.
        long_ttl: the lease in seconds of every other test; a slow machine must not reach its end.
        patience: the longest wait in seconds for what must happen at some time.
        crowd: the members in the test of a large group. Lower it only for a store on which a
            membership is dear.
        wakes: ``wait`` returns early on a change. False for a driver whose ``wait`` only sleeps.
    """

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        # A test that cannot apply is no test of that store: pytest does not collect a None.
        served = cls.stop_server is not DriverSuite.stop_server
        fits = {"test_server_": served, "test_wait_wakes_": cls.wakes}
        for name in dir(DriverSuite):
            for prefix, fit in fits.items():
                if name.startswith(prefix) and name not in vars(cls):
                    setattr(cls, name, getattr(DriverSuite, name) if fit else None)

    # -- joining

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
        assert dict(watcher.read(group).records) == {"a": record("1", weight=2)}
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

    # -- leases

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
        began = time.monotonic()
        a.join(group, "a", record("1"))
        self.eventually(
            "a third of the lease has passed", lambda: time.monotonic() > began + self.ttl / 3
        )
        began = time.monotonic()
        a.heartbeat()
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
                with contextlib.suppress(LeaseLost):
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
        a.join(group, "a", record("2"))
        a.heartbeat()
        a.publish(group, "a", record("2", applied="x"))
        assert dict(watcher.read(group).records) == {"a": record("2", applied="x")}

    def test_another_takes_the_id_over_once_the_lease_ran_out_and_not_before(
        self, driver: Callable[..., Driver], group: str
    ) -> None:
        dead, heir = driver(self.ttl), driver(self.ttl)
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
        began = time.monotonic()
        a.join(group, "new", record("1"))
        self.eventually(
            "a third of the lease has passed", lambda: time.monotonic() > began + self.ttl / 3
        )
        began = time.monotonic()
        with pytest.raises(LeaseLost, match="old"):
            a.heartbeat()
        assert self.until_gone(watcher, group, "new") - began >= self.ttl
        a.leave(group, "old")
        a.leave(group, "new")
        a.heartbeat()

    def test_a_lease_outlives_the_driver_that_closes_without_leaving(
        self, driver: Callable[..., Driver], group: str
    ) -> None:
        a, watcher = driver(self.ttl), driver()
        a.join(group, "a", record("1"))
        began = time.monotonic()
        a.heartbeat()
        a.close()
        assert self.until_gone(watcher, group, "a") - began >= self.ttl

    # -- publishing and reading

    def test_what_was_published_is_what_the_next_read_shows(
        self, driver: Callable[..., Driver], group: str
    ) -> None:
        a, b = driver(), driver()
        a.join(group, "a", record("1"))
        b.join(group, "b", record("2"))
        for turn in range(25):
            a.heartbeat()
            a.publish(group, "a", record("1", turn=turn))
            assert b.read(group).records["a"] == record("1", turn=turn)
            b.heartbeat()
            b.publish(group, "b", record("2", turn=turn))
            assert a.read(group).records["b"] == record("2", turn=turn)

    def test_one_drivers_writes_are_seen_in_the_order_of_its_calls(
        self, driver: Callable[..., Driver], group: str
    ) -> None:
        a, watcher = driver(), driver()
        a.join(group, "a", record("1", turn=-1))
        failures: list[BaseException] = []

        def write() -> None:
            try:
                for turn in range(100):
                    a.heartbeat()
                    a.publish(group, "a", record("1", turn=turn))
            except BaseException as error:
                failures.append(error)

        writer = threading.Thread(target=write)
        writer.start()
        seen = []
        while writer.is_alive():
            seen.append(json.loads(watcher.read(group).records["a"])["turn"])
        writer.join()
        assert failures == []
        assert seen == sorted(seen)
        assert watcher.read(group).records["a"] == record("1", turn=99)

    def test_only_a_member_that_joined_can_publish(
        self, driver: Callable[..., Driver], group: str
    ) -> None:
        a, stranger = driver(), driver()
        a.join(group, "a", record("1"))
        with pytest.raises(LeaseLost):
            stranger.publish(group, "a", record("1", applied="forged"))
        with pytest.raises(LeaseLost):
            stranger.publish(group, "b", record("1"))
        with pytest.raises(LeaseLost):
            a.publish(group, "a", record("2"))
        assert dict(a.read(group).records) == {"a": record("1")}

    def test_a_record_is_any_bytes_up_to_the_limit(
        self, driver: Callable[..., Driver], group: str
    ) -> None:
        a, b = driver(), driver()
        whole = record("1", meta="")
        largest = record("1", meta="x" * (MAX_RECORD - len(whole)))
        assert len(largest) == MAX_RECORD
        a.join(group, "largest", record("1"))
        a.publish(group, "largest", largest)
        a.join(group, "bytes", bytes(range(256)))
        a.publish(group, "bytes", bytes(range(255, -1, -1)) * 2)
        a.join(group, "empty", b"")
        a.join(group, "joined large", largest)
        assert dict(b.read(group).records) == {
            "largest": largest,
            "bytes": bytes(range(255, -1, -1)) * 2,
            "empty": b"",
            "joined large": largest,
        }

    def test_a_record_above_the_limit_is_refused_and_changes_nothing(
        self, driver: Callable[..., Driver], group: str
    ) -> None:
        a = driver()
        a.join(group, "a", record("1"))
        whole = record("1", meta="")
        too_large = record("1", meta="x" * (MAX_RECORD - len(whole) + 1))
        with pytest.raises(BadRecord, match=str(MAX_RECORD)):
            a.publish(group, "a", too_large)
        with pytest.raises(BadRecord, match=str(MAX_RECORD)):
            a.join(group, "b", too_large)
        assert dict(a.read(group).records) == {"a": record("1")}

    def test_a_crowd_of_members_on_four_drivers(
        self, driver: Callable[..., Driver], group: str
    ) -> None:
        expected: dict[str, bytes] = {}
        made = [driver() for _ in range(4)]
        for index in range(self.crowd):
            for each in made:
                each.heartbeat()
            member = f"member-{index:03}"
            expected[member] = record(f"i{index}", meta="x" * 300)
            made[index % 4].join(group, member, expected[member])
        for each in made:
            each.heartbeat()
            assert dict(each.read(group).records) == expected
        for index, member in enumerate(expected):
            made[index % 4].leave(group, member)
        assert dict(made[0].read(group).records) == {}

    def test_odd_ids_are_kept_apart_and_come_back_as_they_were(
        self, driver: Callable[..., Driver], group: str
    ) -> None:
        a, b = driver(), driver()
        for index, member in enumerate(ODD_IDS):
            a.heartbeat()
            a.join(group, member, record("1", index=index))
        a.heartbeat()
        expected = {member: record("1", index=index) for index, member in enumerate(ODD_IDS)}
        assert dict(b.read(group).records) == expected
        for member in ODD_IDS:
            a.leave(group, member)
        assert dict(b.read(group).records) == {}

    def test_groups_with_odd_ids_do_not_touch_each_other(
        self, driver: Callable[..., Driver], group: str
    ) -> None:
        a, b = driver(), driver()
        # The groups of one test, and of one another: some are prefixes or parents of others.
        groups = [group, f"{group}/a", f"{group}/a/b", *(f"{odd}{group}" for odd in ODD_IDS)]
        for index, name in enumerate(groups):
            a.heartbeat()
            a.join(name, "same", record("1", index=index))
        a.heartbeat()
        for index, name in enumerate(groups):
            assert dict(b.read(name).records) == {"same": record("1", index=index)}
        a.leave(groups[1], "same")
        assert dict(b.read(groups[1]).records) == {}
        assert dict(b.read(groups[2]).records) == {"same": record("1", index=2)}
        assert dict(b.read(groups[0]).records) == {"same": record("1", index=0)}
        for name in groups:
            a.leave(name, "same")

    @pytest.mark.parametrize("name", ["", "nul\0", "\ud800", "x" * 3000, 7])
    def test_an_id_that_cannot_be_carried_is_refused(
        self, driver: Callable[..., Driver], group: str, name: Any
    ) -> None:
        a = driver()
        for attempt in (
            lambda: a.join(group, name, record("1")),
            lambda: a.join(name, "a", record("1")),
            lambda: a.publish(group, name, record("1")),
            lambda: a.read(name),
            lambda: a.leave(group, name),
            lambda: a.wait(name, 0.0),
        ):
            with pytest.raises(BadName):
                attempt()
        assert dict(a.read(group).records) == {}

    # -- waiting

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

    def _returns_early(self, driver: Driver, group: str) -> None:
        began = time.monotonic()
        driver.wait(group, self.patience)
        assert time.monotonic() - began < self.patience / 2

    # -- leaving and closing

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
        made = [load(url, ttl=self.ttl) for _ in range(3)]
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

    # -- threads

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
            until = time.monotonic() + 4 * self.ttl
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

    # -- options

    def test_an_unknown_option_is_refused_with_the_known_ones(self, url: str) -> None:
        joint = "&" if "?" in url else "?"
        with pytest.raises(BadURL, match="no_such_option") as caught:
            load(f"{url}{joint}no_such_option=1", ttl=self.ttl)
        kind = type(load(url, ttl=self.ttl))
        for option in (*COMMON_OPTIONS, *kind.options):
            assert option.name in str(caught.value)

    def test_the_driver_says_what_it_promises_and_explains_its_options(self, url: str) -> None:
        kind = type(load(url, ttl=self.ttl))
        assert kind.promise
        assert "\n" not in kind.promise
        names = [option.name for option in (*COMMON_OPTIONS, *kind.options)]
        assert len(set(names)) == len(names)
        assert all(option.help and "\n" not in option.help for option in kind.options)

    def test_the_common_options_are_typed_and_known(self, url: str) -> None:
        joint = "&" if "?" in url else "?"
        typed = load(f"{url}{joint}backoff=0.25&retries=3", ttl=self.ttl)
        assert typed.settings["backoff"] == 0.25
        assert typed.settings["retries"] == 3
        with pytest.raises(BadURL, match="retries"):
            load(f"{url}{joint}retries=many", ttl=self.ttl)

    def test_a_secret_is_shown_nowhere(
        self, url: str, driver: Callable[..., Driver], group: str
    ) -> None:
        made, rival = driver(), driver()
        shown = [f"{made.url} {made.url!r} {made.unavailable('x', OSError('y'))}"]
        made.join(group, "a", record("1"))
        refusals: tuple[Callable[[], None], ...] = (
            lambda: rival.join(group, "a", record("2")),
            lambda: rival.publish(group, "b", record("2")),
        )
        for refused in refusals:
            with pytest.raises(HashringError) as caught:
                refused()
            shown.append(str(caught.value))
        self._show_no_secret(url, shown)

    def _show_no_secret(self, url: str, shown: Iterable[object]) -> None:
        parsed = DriverURL.parse(url)
        secrets = [parsed.secret] if parsed.secret else []
        secrets += [
            value
            for name, value in parsed.options.items()
            if any(
                option.name == name and option.secret
                for option in type(load(url, ttl=self.ttl)).options
            )
        ]
        assert not [text for text in map(str, shown) if any(secret in text for secret in secrets)]

    # -- a server that goes away (where there is one: see stop_server)

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
            return works(a, "a", "1") and works(b, "b", "2")

        self.eventually("both members work again", both)
        assert a.read(group).records["b"] == record("2", back=True)
