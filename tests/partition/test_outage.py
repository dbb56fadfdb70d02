"""What is said of a store that is away: a line at its beginning, one a minute, one at its end."""

from __future__ import annotations

import pytest

from hashring.errors import StoreUnavailable
from hashring.partition.outage import SUMMARY, Outage, of_store

DOWN = StoreUnavailable("refused")


class Clock:
    """A clock that the test turns on, in seconds."""

    def __init__(self) -> None:
        self.now = 1000.0

    def boottime(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("hashring.partition.outage.clock", made)
    return made


def test_an_outage_that_goes_on_is_told_of_once_a_minute_with_what_has_failed(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    outage = Outage("redis://x")
    for _ in range(int(SUMMARY) + 1):
        outage.failed("a: no reading", DOWN)
        clock.now += 1.0
    outage.worked("a: no reading")

    assert caplog.messages == [
        "redis://x: the store is away: a: no reading: refused",
        "redis://x: the store is away, for 60 s now: 61 calls failed; "
        "the latest: a: no reading: refused",
        "redis://x: is back after 61.0 s: 61 calls had failed",
    ]


def test_a_store_that_comes_and_goes_is_told_of_twice_a_minute_and_the_rest_is_counted(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    outage = Outage("redis://x")

    def comes_and_goes() -> int:
        before = len(caplog.messages)
        outage.failed("a", DOWN)
        clock.now += 1.0
        outage.worked("a")
        return len(caplog.messages) - before

    assert [comes_and_goes() for _ in range(7)] == [2, 2, 0, 0, 0, 0, 0]
    clock.now += SUMMARY
    assert comes_and_goes() == 2, "of the next one again"
    assert caplog.messages[1] == "redis://x: is back after 1.0 s: 1 call had failed"
    assert caplog.messages[-1] == "redis://x: is back after 1.0 s: 6 calls had failed"


def test_an_outage_whose_beginning_was_not_told_of_is_named_where_it_lasts(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    outage = Outage("redis://x")
    for _ in range(2):
        outage.failed("a", DOWN)
        outage.worked("a")
    caplog.clear()
    for _ in range(4):
        outage.failed("a", DOWN)
        clock.now += SUMMARY / 3
    outage.worked("a")

    still, over = caplog.messages
    assert "the store is away, for 60 s now: 4 calls failed" in still
    assert "is back after 80.0 s" in over


def test_a_store_is_back_when_nobodys_calls_fail_any_more(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    outage = Outage("redis://x")
    for source in ("a", "b", "c"):
        outage.failed(source, DOWN)
    caplog.clear()
    outage.worked("a")
    outage.worked("unknown")
    outage.forget("b", "unknown")  # b has left
    assert [outage.is_failing(source) for source in "abc"] == [False, False, True]
    assert caplog.messages == []
    outage.worked("c")
    assert caplog.messages == ["redis://x: is back after 0.0 s: 3 calls had failed"]


def test_a_defect_is_told_of_with_where_it_was_raised(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    outage = Outage("group: a", "a defect of the driver", "works again")
    outage.failed("heartbeat", ZeroDivisionError("by zero"), trace=True)

    assert caplog.messages == ["group: a: a defect of the driver: heartbeat: by zero"]
    assert caplog.records[0].exc_info is not None


def test_all_members_of_a_process_share_what_it_knows_of_a_store() -> None:
    first = of_store("memory://shared-by-all")
    assert of_store("memory://shared-by-all") is first
    assert of_store("memory://another") is not first
