"""What a member says of what keeps it from its slots: when it begins and when it is over."""

from __future__ import annotations

import logging
import types
import uuid

import pytest

from hashring.partition.reports import Reports

TTL = 10.0
STORE = "redis://store"


@pytest.fixture
def reports() -> Reports:
    return Reports("group", "a", f"{STORE}-{uuid.uuid4().hex}", TTL)


def test_records_that_cannot_be_read_are_named_once_and_again_when_there_are_others(
    reports: Reports, caplog: pytest.LogCaptureFixture
) -> None:
    for found in ({"x": "x is garbage"}, {"x": "x is garbage"}, {}, {"y": "y too"}, {}):
        reports.problems(found)

    assert caplog.messages == [
        "group: nobody gains slots while these members live: x is garbage",
        "group: nobody gains slots while these members live: y too",
    ]
    assert {line.levelno for line in caplog.records} == {logging.ERROR}


def test_strangers_are_named_once_and_those_that_retry_under_new_names_not_at_each(
    reports: Reports, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(
        "hashring.partition.reports.clock", types.SimpleNamespace(boottime=lambda: now)
    )

    def look(*names: str, settled: bool = False) -> int:
        before = len(caplog.messages)
        reports.strangers(dict.fromkeys(names, "ttl 5 where this member has 10"), settled=settled)
        return len(caplog.messages) - before

    assert look("s1") == 1
    assert "a waits for 1 members that differ to leave: 's1' has ttl 5" in caplog.messages[-1]
    assert look("s1") == 0
    assert look("s2") == 0, "within half a minute"
    now += 60
    assert look(*(f"s{number}" for number in range(2, 10))) == 1
    assert "waits for 8 members" in caplog.messages[-1]
    assert caplog.messages[-1].count(" has ttl 5") == 5, "some of them"
    assert look() == 0, "they are gone, and it has not settled again"
    assert look(settled=True) == 1
    assert "goes on" in caplog.messages[-1]
    assert look(settled=True) == 0
    assert look("s2") == 1, "from the beginning"


def test_a_young_store_is_named_once_by_who_would_gain(
    reports: Reports, caplog: pytest.LogCaptureFixture
) -> None:
    reports.memory(1.0, gains=True)
    reports.memory(2.0, gains=True)
    reports.memory(TTL, gains=True)
    assert len(caplog.messages) == 1
    assert "has been known for 1.0 s only" in caplog.messages[0]
    assert "nobody gains slots for 9.0 s" in caplog.messages[0]
    reports.memory(float("nan"), gains=True)  # a store that does not know is young, too
    assert len(caplog.messages) == 2


def test_who_only_watches_a_young_store_says_nothing_of_it(
    reports: Reports, caplog: pytest.LogCaptureFixture
) -> None:
    reports.memory(1.0, gains=False)
    reports.memory(TTL, gains=False)
    assert caplog.messages == []


def test_it_is_said_once_of_each_absence_for_how_long_nobody_worked_a_share(
    reports: Reports, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        reports.away({("a", "1"): (100.0, 103.0), ("b", "2"): (100.0, 104.5)})

    assert caplog.messages == [
        "group: a is back: nobody worked its share for 3.0 s",
        "group: a takes over from 'b', which is away: nobody worked its share for 4.5 s",
    ]


def test_a_store_that_refuses_is_not_away(
    reports: Reports, caplog: pytest.LogCaptureFixture
) -> None:
    reports.heartbeat_failed(OSError("no route"))
    assert reports.store_is_away
    reports.heartbeat_refused(OSError("forgotten"))
    assert not reports.store_is_away
    reports.step_failed(OSError("no route"))
    assert reports.store_is_away
    reports.id_taken(OSError("by another"))
    assert not reports.store_is_away
    reports.step_failed(OSError("no route"))
    reports.lease_lost(OSError("forgotten"))
    assert not reports.store_is_away
    reports.step_worked()
    assert "is accepted again" in caplog.messages[-1]


def test_a_defect_of_a_driver_is_told_of_until_its_calls_work_again(
    reports: Reports, caplog: pytest.LogCaptureFixture
) -> None:
    reports.heartbeat_broke(ZeroDivisionError("in heartbeat()"))
    reports.step_broke(ZeroDivisionError("in read()"))
    assert "a defect of the driver: heartbeat: in heartbeat()" in caplog.messages[0]
    assert len(caplog.messages) == 1, "it goes on"
    assert not reports.heartbeat_worked(), "it was not away before"
    reports.step_worked()
    assert "works again after" in caplog.messages[-1]
