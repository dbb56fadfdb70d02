"""What the conformance suite asks of `read_since`, where a driver offers it.

Whoever puts together what changed must come to what a reading of everything shows, whatever has
happened in between and whatever the cursor is. Of a driver that does not offer it nothing is asked
but to say so each time. Part of :class:`hashring.testing.DriverSuite`.
"""

# ruff: noqa: D102 - a test's name is its documentation

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Mapping

import pytest

from hashring.driver import MAX_RECORD, Changes, Driver
from hashring.errors import BadName, HashringError, LeaseLost, StoreUnavailable
from hashring.testing.suite.base import SuiteBase, record

__all__ = ["ChangesTests", "Follower"]

_STEPS = 80  # of a random history
_CHURN = 150  # members that come and go while somebody does not read


class Follower:
    """Puts readings together from what changed, and keeps all cursors that it was given."""

    def __init__(self, driver: Driver, group: str) -> None:
        self.driver = driver
        self.group = group
        self.records: Mapping[str, bytes] = {}
        self.cursor: bytes | None = None
        self.past: list[tuple[bytes, Mapping[str, bytes]]] = []

    def read(self) -> Changes:
        """Bring the records up to date; return what changed."""
        changes = self.driver.read_since(self.group, self.cursor)
        assert changes is not None, "a driver that offers read_since() must do so each time"
        if self.cursor is None:
            assert changes.complete, "without a cursor, everything must come"
        self.records = changes.applied_to(self.records)
        self.cursor = changes.cursor
        assert isinstance(self.cursor, bytes), "a cursor is bytes"
        assert {type(each) for each in changes.changed.values()} <= {bytes}
        assert len(self.records) == changes.size, "size is the number of live members"
        self.past.append((self.cursor, self.records))
        return changes


class ChangesTests(SuiteBase):
    """What changed since a cursor, put together, is what a reading shows."""

    def _follower(self, driver: Driver, group: str) -> Follower | None:
        """Return one that has read the group once; ``None`` where this driver does not offer it."""
        if driver.read_since(group, None) is None:
            assert driver.read_since(group, b"a cursor") is None, "not offered is not offered"
            return None
        follower = Follower(driver, group)
        follower.read()
        return follower

    def test_changes_put_together_are_what_a_reading_shows(
        self, driver: Callable[..., Driver], group: str
    ) -> None:
        a, b, reader = driver(), driver(), driver()
        if (follower := self._follower(reader, group)) is None:
            return
        steps: list[Callable[[], object]] = [
            lambda: a.join(group, "a", record("1")),
            lambda: b.join(group, "b", record("2")),
            lambda: a.publish(group, "a", record("1", applied="x")),
            lambda: a.heartbeat(),
            lambda: a.publish(group, "a", record("1", applied="y")),
            lambda: a.join(group, "a", record("1", applied="z")),
            lambda: b.leave(group, "b"),
            lambda: b.join(group, "b", record("3")),
            lambda: a.leave(group, "a"),
            lambda: b.leave(group, "b"),
        ]
        for step in steps:
            step()
            follower.read()
            assert dict(follower.records) == dict(reader.read(group).records)

    def test_changes_bring_what_changed_and_nothing_else(
        self, driver: Callable[..., Driver], group: str
    ) -> None:
        a, reader = driver(), driver()
        for member in ("a", "b", "c"):
            a.join(group, member, record("1"))
        if (follower := self._follower(reader, group)) is None:
            return
        follower.read()
        a.heartbeat()
        quiet = follower.read()
        a.publish(group, "b", record("1", applied="x"))
        a.leave(group, "c")
        some = follower.read()
        again = follower.read()
        for changes in (quiet, again):
            assert not changes.complete
            assert not changes.changed
            assert not changes.gone
        assert not some.complete
        assert dict(some.changed) == {"b": record("1", applied="x")}
        assert {*some.gone} == {"c"}

    def test_changes_of_a_random_history_are_what_a_reading_shows_at_each_step(
        self, driver: Callable[..., Driver], group: str
    ) -> None:
        made, readers = [driver() for _ in range(3)], [driver() for _ in range(2)]
        if self._follower(readers[0], group) is None:
            return
        seed = random.randrange(1 << 32)  # noqa: S311 - told with a failure
        chance = random.Random(seed)  # noqa: S311 - no secret depends on it
        followers = [Follower(reader, group) for reader in readers]
        text = "".join(chance.choices("abc", k=2000))
        for number in range(_STEPS):
            one = made[who := chance.randrange(len(made))]
            member = f"m{who}-{chance.randrange(3)}"
            size, at = chance.choice([0, 10, 300, 2000]), chance.randrange(500)
            fields = {"step": number, "meta": text[at : at + size], "end": chance.random()}
            content = record(f"i{who}", **fields)
            what = chance.choice(["join", "publish", "publish", "leave", "heartbeat"])
            with contextlib.suppress(LeaseLost):
                if what == "join":
                    one.join(group, member, content)
                elif what == "publish":
                    one.publish(group, member, content)
                elif what == "leave":
                    one.leave(group, member)
                else:
                    one.heartbeat()
            for follower in followers:
                if chance.random() < 0.5 and number < _STEPS - 1:
                    continue
                if follower.past and chance.random() < 0.2:
                    # An answer that was lost on its way: the same cursor again, or an older one.
                    follower.cursor, follower.records = chance.choice(follower.past)
                follower.read()
                whole = dict(readers[chance.randrange(len(readers))].read(group).records)
                assert dict(follower.records) == whole, f"step {number} of seed {seed}"

    def test_changes_show_a_lease_that_ran_out(
        self, driver: Callable[..., Driver], group: str
    ) -> None:
        dying, living, reader = driver(self.ttl), driver(), driver()
        living.join(group, "living", record("1"))
        dying.join(group, "dying", record("2"))
        if (follower := self._follower(reader, group)) is None:
            return
        assert follower.records.keys() == {"living", "dying"}
        # A lease may end late, but not by more than this driver may be late in any reading.
        until = time.monotonic() + self.ttl

        def gone() -> bool:
            begun = time.monotonic()
            follower.read()
            late = begun > until + self.patience
            assert not late, "a lease that ran out is never told of"
            return "dying" not in follower.records

        self.eventually("the lease that ran out is told of", gone)
        assert follower.records.keys() == reader.read(group).records.keys() == {"living"}

    def test_changes_since_a_cursor_that_is_not_of_this_store_are_everything(
        self, driver: Callable[..., Driver], group: str
    ) -> None:
        a, reader = driver(), driver()
        a.join(group, "a", record("1"))
        if self._follower(reader, group) is None:
            return
        whole = dict(a.read(group).records)
        for cursor in (
            b"",
            b"\0",
            b"7",
            b"0 0",
            b"-1",
            b"x" * 5000,
            "\u00e9 1".encode(),
            b"a:b:c:d",
        ):
            changes = reader.read_since(group, cursor)
            assert changes is not None
            assert changes.complete, f"the cursor {cursor!r:.40} is nobody's"
            assert dict(changes.changed) == whole

    def test_changes_since_a_cursor_of_another_driver_are_right_or_everything(
        self, driver: Callable[..., Driver], group: str
    ) -> None:
        a, first, second = driver(), driver(), driver()
        a.join(group, "a", record("1"))
        a.join(group, "b", record("1"))
        if (follower := self._follower(first, group)) is None:
            return
        a.publish(group, "a", record("1", applied="x"))
        a.leave(group, "b")
        follower.driver = second
        follower.read()
        assert dict(follower.records) == {"a": record("1", applied="x")}
        # A driver that was closed meanwhile, too.
        first.close()
        first.open()
        a.publish(group, "a", record("1", applied="y"))
        follower.driver = first
        follower.read()
        assert dict(follower.records) == {"a": record("1", applied="y")}

    def test_changes_since_a_cursor_that_is_too_old_are_everything_or_right(
        self, driver: Callable[..., Driver], group: str
    ) -> None:
        a, reader = driver(), driver()
        a.join(group, "stays", record("1"))
        a.join(group, "goes", record("1"))
        if (follower := self._follower(reader, group)) is None:
            return
        a.leave(group, "goes")
        for number in range(_CHURN):
            if number % 50 == 0:
                a.heartbeat()
            a.join(group, f"passing-{number}", record("2", meta="x" * 200))
            a.leave(group, f"passing-{number}")
        a.publish(group, "stays", record("1", applied="x"))
        follower.read()
        assert dict(follower.records) == {"stays": record("1", applied="x")}

    def test_changes_carry_large_records_and_odd_bytes(
        self, driver: Callable[..., Driver], group: str
    ) -> None:
        a, reader = driver(), driver()
        a.join(group, "a", b"")
        if (follower := self._follower(reader, group)) is None:
            return
        whole = record("1", meta="")
        for content in (
            bytes(range(256)),
            bytes(range(255, -1, -1)) * 2,
            b"",
            record("1", meta="x" * (MAX_RECORD - len(whole))),
            record("1", meta="y" + "x" * (MAX_RECORD - len(whole) - 1)),
            record("1", meta="x" * (MAX_RECORD - len(whole) - 1) + "y"),
            b"\0",
        ):
            a.leave(group, "a")
            a.join(group, "a", content)
            follower.read()
            assert dict(follower.records) == {"a": content}

    def test_changes_are_of_now_and_from_no_cache(
        self, driver: Callable[..., Driver], group: str
    ) -> None:
        a, reader = driver(), driver()
        a.join(group, "a", record("1"))
        if (follower := self._follower(reader, group)) is None:
            return
        for turn in range(25):
            if turn % 10 == 0:
                a.heartbeat()
            a.publish(group, "a", record("1", turn=turn))
            follower.read()
            assert follower.records["a"] == record("1", turn=turn)

    def test_changes_and_readings_tell_the_same_memory_age(
        self, driver: Callable[..., Driver], group: str
    ) -> None:
        reader = driver()
        if (follower := self._follower(reader, group)) is None:
            return
        before = reader.read(group).memory_age
        between = follower.read().memory_age
        after = reader.read(group).memory_age
        assert before <= between <= after

    def test_changes_wake_a_wait_as_readings_do(
        self, driver: Callable[..., Driver], group: str
    ) -> None:
        a, reader = driver(), driver()
        if (follower := self._follower(reader, group)) is None or not self.wakes:
            return
        a.join(group, "a", record("1"))
        began = time.monotonic()
        while "a" not in follower.records:
            reader.wait(group, self.patience)
            follower.read()
            assert time.monotonic() - began < self.patience / 2
        took: list[float] = []

        def lasts() -> bool:
            follower.read()
            begun = time.monotonic()
            reader.wait(group, 0.3)
            took.append(time.monotonic() - begun)
            return took[-1] >= 0.2

        self.eventually("a wait(0.3) after the last change lasts for 0.2 s", lasts)

    def test_changes_of_a_group_or_a_driver_that_cannot_be_asked_are_refused(
        self, driver: Callable[..., Driver], group: str
    ) -> None:
        reader = driver()
        if self._follower(reader, group) is None:
            return
        for name in ("", "nul\0", "x" * 3000):
            with pytest.raises(BadName):
                reader.read_since(name, None)
        reader.close()
        with pytest.raises(HashringError):
            reader.read_since(group, None)

    def test_server_restarted_brings_everything_or_what_changed(
        self, driver: Callable[..., Driver], group: str
    ) -> None:
        a, reader = driver(), driver()
        a.join(group, "a", record("1"))
        if (follower := self._follower(reader, group)) is None:
            return
        follower.read()
        self.stop_server()
        try:
            with pytest.raises(StoreUnavailable):
                self.until_it_fails(follower.read)
        finally:
            self.start_server()

        def back() -> bool:
            with contextlib.suppress(HashringError):
                follower.read()
                return True
            return False

        self.eventually("the store is back", back)
        with contextlib.suppress(HashringError):
            a.heartbeat()

        def joined() -> bool:
            with contextlib.suppress(HashringError):
                a.leave(group, "a")
                a.join(group, "a", record("2"))
                return True
            return False

        self.eventually("the member joins anew", joined)

        def same() -> bool:
            with contextlib.suppress(HashringError):
                follower.read()
                whole = reader.read(group).records
                return dict(follower.records) == dict(whole) == {"a": record("2")}
            return False

        self.eventually("what is put together is what a reading shows", same)
