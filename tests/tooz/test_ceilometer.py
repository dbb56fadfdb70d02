"""The real ceilometer-polling on our backend: no two agents poll one resource in turns."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.redis import RedisServer
from tests.tooz import pages
from tests.tooz.ceilometer import Fleet, Gaps, Poll, gaps, interleaved, longest_of, play


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.mark.long
def test_ceilometers_agents_share_resources_through_a_join_and_a_stop(
    tmp_path: Path, redis: RedisServer
) -> None:
    url = f"hashring+{redis.url}?timeout=6&hold=1"
    fleet = Fleet(tmp_path, url, resources=40, interval=1)
    pages.check_settings("ceilometer", tmp_path / "ceilometer.conf")
    try:
        first, _ = fleet.start(), fleet.start()
        steady = fleet.wait_for_shares(2)
        pages.run_commands("ceilometer", redis.url)
        fleet.start()
        fleet.wait_for_shares(3)
        first.send_signal(signal.SIGTERM)
        fleet.wait_for_shares(2)
    finally:
        fleet.stop()
    polls = [poll for poll in fleet.polls if poll.moment >= steady]
    assert interleaved(polls, fleet.interval) == []
    fleet.check_log()


@pytest.mark.long
@pytest.mark.timeout(900)
def test_ceilometers_agents_on_redis_through_a_kill_and_a_pause_too(
    tmp_path: Path, redis: RedisServer
) -> None:
    url = f"hashring+{redis.url}?timeout=5&hold=2.5"
    fleet = Fleet(tmp_path, url, resources=1000, interval=5)

    account = play(fleet)

    assert account.polls > 10_000
    # Whose cycle takes longer than hold is on its list while an heir has begun.
    assert account.turns == 0 or account.longest > 25, account
    # Whom an agent that stops leaves its resources to hears of it at its next tick, an interval
    # after the last: no backend has a say in that.
    assert account.gaps._replace(stopped=0) == Gaps(0, 0, 0, 0)
    fleet.check_log()


def test_the_judge_tells_turns_from_a_hand_over() -> None:
    handed = [Poll(0.0, 1, "x"), Poll(1.0, 1, "x"), Poll(1.5, 2, "x"), Poll(2.5, 2, "x")]
    assert interleaved(handed, 1.0) == []
    turns = [*handed[:3], Poll(2.0, 1, "x")]
    assert len(interleaved(turns, 1.0)) == 1
    assert longest_of([Poll(moment, 1, "x") for moment in (0.0, 0.1, 1.0, 1.15, 1.3)], 1.0) == 3
    assert gaps(handed, 0.4) == Gaps(kept=2, joined=0, stopped=0, moved=0)
    assert gaps(handed, 0.2, stopped={1}) == Gaps(kept=2, joined=0, stopped=1, moved=0)
    assert gaps(handed, 0.24).joined == 1
    assert gaps([*handed[2:], Poll(4.0, 1, "x"), Poll(9.0, 2, "x")], 2.4).moved == 1
