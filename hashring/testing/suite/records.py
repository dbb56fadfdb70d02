"""What the conformance suite asks of records and ids: what was written is what is read.

Part of :class:`hashring.testing.DriverSuite`. How these tests stay right on a slow machine is said
in :mod:`hashring.testing.suite.suite`.
"""

# ruff: noqa: D102 - a test's name is its documentation

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest

from hashring.driver import MAX_RECORD, Driver
from hashring.errors import BadName, BadRecord, LeaseLost
from hashring.testing.suite.base import SuiteBase, record

__all__ = ["RecordTests"]

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


class RecordTests(SuiteBase):
    """What was published is what everybody reads, whatever it is called."""

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
