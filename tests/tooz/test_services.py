"""Real OpenStack services on our backend: through a join, a stop, a kill and a pause."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hashring import clock
from tests.servers.postgresql import PostgreSQLServer
from tests.servers.process import wait_until
from tests.servers.redis import RedisServer
from tests.tooz import aodh, gnocchi, pages
from tests.tooz.ceilometer import Poll
from tests.tooz.cinder import Attachers
from tests.tooz.designate import Producers
from tests.tooz.gnocchi import Work
from tests.tooz.service import Services

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="module")
def database() -> Iterator[PostgreSQLServer]:
    with PostgreSQLServer() as server:
        yield server


@pytest.mark.long
def test_gnocchis_workers_never_have_one_sack_at_once(
    tmp_path: Path, redis: RedisServer, database: PostgreSQLServer
) -> None:
    url = f"hashring+{redis.url}?timeout=10"
    with RedisServer() as incoming:
        metricd = gnocchi.Metricd(tmp_path, url, database, incoming, metrics=50)

        pages.check_settings("gnocchi", tmp_path / "gnocchi.conf")
        account = gnocchi.play(metricd, meanwhile=lambda: pages.run_commands("gnocchi", redis.url))

    metricd.check_log()
    assert account.at_once == 0
    # Who was stopped with a sack in hand goes on with it: Gnocchi does not ask its lock.
    assert account.lost == 0 or account.beside_paused > 0, account
    assert account.work > 100


@pytest.mark.long
def test_aodhs_evaluators_share_alarms(
    tmp_path: Path, redis: RedisServer, database: PostgreSQLServer
) -> None:
    url = f"hashring+{redis.url}?timeout=10"
    evaluators = aodh.Evaluators(tmp_path, url, database, alarms=300, interval=3)

    pages.check_settings("aodh", tmp_path / "aodh.conf")
    account = aodh.play(
        evaluators,
        meanwhile=lambda: pages.run_commands("aodh", redis.url, shares=False),
    )

    # Each has a ring of its own, so two may have an alarm for a moment: that is not promised.
    evaluators.check_log()
    assert account.evaluations > 300
    assert account.notifications > 0


@pytest.mark.long
def test_aodhs_evaluators_log_no_error_where_redis_does_not_answer_for_five_seconds(
    tmp_path: Path, database: PostgreSQLServer
) -> None:
    with RedisServer() as server:
        url = f"hashring+{server.url}?timeout=10"
        evaluators = aodh.Evaluators(tmp_path, url, database, alarms=50, interval=2)
        try:
            evaluators.start()
            evaluators.start()
            for _ in range(3):
                evaluators.wait_for_shares(2, surely=True)
                server.pause()
                paused = clock.boottime()
                wait_until(lambda: clock.boottime() - paused > 5, what="5 s")  # noqa: B023
                server.resume()
            evaluators.wait_for_shares(2, surely=True)
        finally:
            evaluators.stop()
    evaluators.check_log()


@pytest.mark.long
def test_designates_producers_cut_all_partitions_into_ranges_of_their_own(
    tmp_path: Path, redis: RedisServer
) -> None:
    producers = Producers(tmp_path, f"hashring+{redis.url}?timeout=5")
    try:
        first, second = producers.start(), producers.start()
        producers.wait_for_shares(2)
        producers.start()
        producers.wait_for_shares(3)
        producers.tell_to_stop(first)
        producers.wait_for_shares(2)
        producers.signal(second, signal.SIGKILL)
        producers.wait_for_shares(1)
    finally:
        producers.stop()
    producers.check_log()


def at_work(attachers: Attachers, since: int) -> bool:
    return len({one.worker for one in attachers.work[since:]}) == 2


@pytest.mark.long
@pytest.mark.parametrize("native", [True, False], ids=["threads", "greenlets"])
def test_cinders_locks_exclude_processes_and_threads_over_a_redis_that_comes_back_empty(
    tmp_path: Path, native: bool
) -> None:
    with RedisServer() as server:
        url = f"hashring+{server.url}?timeout=3" + ("" if native else "&greenlets=allow")
        attachers = Attachers(tmp_path, url)
        processes = [attachers.start(native=native), attachers.start(native=native)]
        try:
            for _ in range(2):
                since = len(attachers.work)
                wait_until(lambda: at_work(attachers, since), what="both at work")  # noqa: B023
                pages.run_commands("locks", server.url, shares=False)
                server.kill()
                server.start()
            attachers.end()
            assert [process.wait(60) for process in processes] == [0, 0]
        finally:
            attachers.stop()
    work = attachers.work
    assert len({one.worker for one in work}) == 2
    ends: dict[str, float] = {}
    for one in work:
        assert ends.get(one.sack, 0.0) <= one.began
        ends[one.sack] = one.ended


@pytest.mark.long
def test_cinder_as_it_comes_is_refused_and_told_of_both_ways(
    tmp_path: Path, redis: RedisServer
) -> None:
    attachers = Attachers(tmp_path, f"hashring+{redis.url}?timeout=3")
    try:
        assert attachers.start(native=False).wait(60) == 1
    finally:
        attachers.stop()
    assert "OS_CINDER_DISABLE_EVENTLET_PATCHING=true" in attachers.log
    assert "greenlets=allow" in attachers.log


def test_the_text_of_every_error_in_a_services_log_is_told(tmp_path: Path) -> None:
    services = Services(tmp_path, Path(sys.executable))
    (tmp_path / "log").write_text(
        "2026-11-30 10:00:00.1 7 INFO a: begins\n"
        "2026-11-30 10:00:01.1 7 ERROR a: failed\n"
        "Traceback (most recent call last):\n"
        "ValueError: why\n"
        "2026-11-30 10:00:02.1 7 INFO a: goes on\n"
        "2026-11-30 10:00:03.1 7 ERROR stevedore: Could not load it\n"
    )
    assert services.complaints == (
        "2026-11-30 10:00:01.1 7 ERROR a: failed\n"
        "Traceback (most recent call last):\n"
        "ValueError: why"
    )
    with pytest.raises(AssertionError, match="ValueError: why"):
        services.check_log()


def test_the_judges_of_the_services_tell_what_went_wrong() -> None:
    one, other = Work(0.0, 2.0, 1, "sack"), Work(1.0, 1.5, 2, "sack")
    assert gnocchi.at_once([one, other, Work(1.8, 2.5, 1, "sack")]) == [(one, other)]
    assert gnocchi.at_once([one, Work(2.0, 2.5, 2, "sack"), Work(1.0, 1.5, 2, "other")]) == []
    assert gnocchi.slow([one, other, Work(9.0, 9.1, 2, "sack")], 7.0) == 1

    evaluations = [Poll(0.0, 1, "alarm"), Poll(1.0, 2, "alarm"), Poll(6.0, 2, "alarm")]
    assert aodh.close(evaluations, 1.5) == 1
    assert aodh.gaps(evaluations, 4.0) == 1
    assert aodh.repeats([(0.0, "a", "ok"), (1.0, "b", "ok"), (2.0, "a", "ok")]) == 1
