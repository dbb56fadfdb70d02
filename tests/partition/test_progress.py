"""What a member says in the log of what it goes through: one line a change, and none without."""

from __future__ import annotations

import datetime
import io
import json
import logging
import uuid
from types import SimpleNamespace

import pytest

import hashring
from hashring import clock
from hashring.errors import StoreUnavailable
from hashring.logs import JSONFormatter
from hashring.partition.progress import Progress
from hashring.ring.ring import SlotSet
from tests.servers.process import wait_until

TTL = 20.0
SHORT = 3.0  # longer than a busy machine stands still


@pytest.fixture
def url():
    return f"memory://{uuid.uuid4().hex}"


@pytest.fixture
def told(caplog):
    """A function: the lines of one member since the last call, as (event, text)."""
    caplog.set_level(logging.INFO, "hashring")
    taken = 0

    def take(member=None):
        nonlocal taken
        lines = caplog.records[taken:]
        taken = len(caplog.records)
        return [
            (getattr(line, "event", ""), line.getMessage())
            for line in lines
            if member is None or f": {member}: " in line.getMessage()
        ]

    return take


def events(lines):
    return [event for event, _ in lines]


def test_a_member_tells_of_its_join_of_who_comes_and_goes_and_what_moves(url, told):
    with hashring.join(url, "group", "a", ttl=TTL) as a:
        assert a.wait_settled(60)
        lines = []
        wait_until(lambda: lines.extend(told()) or len(lines) == 3)
        assert events(lines) == ["joined", "view", "settled"]
        assert "the group has 1 member" in lines[1][1]
        assert "gained 65536 and lost 0 slots" in lines[2][1]

        with hashring.join(url, "group", "b", ttl=TTL) as b:
            assert b.wait_settled(60)
            mine = []
            wait_until(lambda: mine.extend(told("a")) or len(mine) == 2)
            assert events(mine) == ["view", "settled"]
            assert "'b' has come; it has 2 members now" in mine[0][1]
            assert f"gained 0 and lost {len(b.held)} slots" in mine[1][1]
        mine = []
        wait_until(lambda: mine.extend(told("a")) or len(mine) == 2)
        assert events(mine) == ["view", "settled"]
        assert "'b' drains; it has 1 member now" in mine[0][1]
    assert events(told("a"))[-1] == "left"


def both_have_settled(lines):
    """Whether the last thing that each of two members told is that it has its share of two."""
    last = {text.split(": ")[1]: text for event, text in lines if event == "settled"}
    shares = [int(text.split(" it has ")[1].split()[0]) for text in last.values()]
    return len(shares) == 2 and sum(shares) == 65536


def test_a_group_in_which_nothing_changes_says_nothing(url, told):
    with (
        # Leases that a busy machine keeps, with the heartbeats of short ones.
        hashring.join(url, "group", "a", ttl=TTL, heartbeat=SHORT / 3) as a,
        hashring.join(url, "group", "b", ttl=TTL, heartbeat=SHORT / 3) as b,
    ):
        settled = []  # the slots are in hand a moment before the line is written
        wait_until(lambda: settled.extend(told()) or both_have_settled(settled))
        until = clock.boottime() + 4 * SHORT  # a dozen heartbeats, and as many readings
        for number, cycle in enumerate(a.cycles(interval=0.2)):
            cycle.owned([str(number)])
            if clock.boottime() > until:
                break
        assert told() == []
        b.leave()


def test_who_is_waited_for_is_told_after_two_ttl_and_once(url, told):
    with hashring.join(url, "group", "a", ttl=SHORT) as a:
        assert a.wait_settled(60)
        with a.cycle():
            began = clock.boottime()
            b = hashring.join(url, "group", "b", ttl=SHORT)
            lines = []
            wait_until(lambda: lines.extend(told("b")) or "waits" in events(lines))
            assert clock.boottime() - began >= 2 * SHORT
            (text,) = [text for event, text in lines if event == "waits"]
            assert "for 'a', " in text
            assert "slots" in text
            wait_until(lambda: clock.boottime() - began > 3 * SHORT)
            assert told("b") == []
        lines = []
        wait_until(lambda: lines.extend(told("b")) or "waited" in events(lines))
        b.leave()


def test_a_member_that_is_fenced_says_so_once_and_that_it_has_recovered(url, told, monkeypatch):
    with hashring.join(url, "group", "a", ttl=SHORT) as a:
        assert a.wait_settled(60)
        driver = a._membership.driver._driver
        is_away = True
        real = driver.heartbeat

        def heartbeat():
            if is_away:
                raise StoreUnavailable("a cut cable")
            real()

        monkeypatch.setattr(driver, "heartbeat", heartbeat)
        monkeypatch.setattr(driver, "join", lambda *_: heartbeat())
        told()
        lines = []
        wait_until(lambda: lines.extend(told()) or "fenced" in events(lines))
        wait_until(lambda: clock.boottime() > a.deadline + 2 * SHORT)
        lines += told()
        assert events(lines).count("fenced") == 1
        assert len(lines) <= 6, lines
        is_away = False
        monkeypatch.undo()
        wait_until(lambda: a.state == "settled" and len(a.held) == 65536)


def test_one_whose_drain_was_not_yet_gone_along_with_as_it_left_is_said_to_have_left(told):
    # Changes that come together are gathered: the view may still have who drains.
    nothing = SlotSet.of([], 65536)
    here, goes = SimpleNamespace(draining=False), SimpleNamespace(draining=True)

    def reading(**members):
        view = SimpleNamespace(members=[(name, "i", 1.0) for name in ("a", *members)])
        return SimpleNamespace(
            member="a", members={"a": here, **members}, view=view, lease_number=1, waiting_for={},
            is_settled=False, held=lambda now: nothing, state=lambda now: "settling",
        )  # fmt: skip

    progress = Progress("group", "a", TTL)
    progress.look(reading(b=goes))
    progress.look(reading())
    assert told("a")[-1] == (
        "view", "group: a: the group has changed: 'b' has left; it has 1 member now",
    )  # fmt: skip


def test_a_line_of_json_has_the_text_and_whom_it_is_about(url):
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(JSONFormatter())
    logger = logging.getLogger("hashring")
    level, _ = logger.level, logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        with hashring.join(url, "group", "a", ttl=TTL) as a:
            assert a.wait_settled(60)
            logger.error("two\nlines", exc_info=ValueError("why"))
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    lines = [json.loads(line) for line in written.getvalue().splitlines()]

    joined = next(line for line in lines if line.get("event") == "joined")
    assert (joined["group"], joined["member"], joined["level"]) == ("group", "a", "info")
    assert joined["message"].startswith("group: a: has joined")
    assert datetime.datetime.fromisoformat(joined["time"]).utcoffset() == datetime.timedelta(0)
    (failed,) = [line for line in lines if line["level"] == "error"]
    assert failed["message"] == "two\nlines"
    assert "ValueError: why" in failed["exception"]
