"""Each alarm once a window, each change told once and in order, whoever joins, leaves and dies."""

from __future__ import annotations

import math
import time
from collections import defaultdict

import pytest

from hashring.alarms.database import migrations
from hashring.alarms.database.definitions import id_of
from hashring.alarms.database.engine import Database, default_url
from hashring.alarms.database.notifications import Notifications
from tests.alarms.fleet import Squares, changes_in, evaluators, square_alarms, told
from tests.servers.http import HTTPServer
from tests.servers.postgresql import PostgreSQLServer
from tests.servers.process import free_port, wait_until
from tests.servers.redis import RedisServer

pytestmark = pytest.mark.slow

INTERVAL, TTL, ALARMS = 2.0, 8.0, 40


def pass_windows(number):
    """Wait until so many full windows have passed; return the last one."""
    last = math.floor(time.time() / INTERVAL) + number
    wait_until(lambda: time.time() >= (last + 1) * INTERVAL + 0.3, what="some windows")
    return last


def missed_and_repeated(squares, first, last):
    counts = squares.asked()
    due = [(number, window) for window in range(first, last + 1) for number in range(ALARMS)]
    return [one for one in due if not counts[one]], [one for one in due if counts[one] > 1]


def check_what_was_asked(fleet, squares, first, last):
    """Each alarm once a window; windows that an evaluator says it had no time for may be missed."""

    def is_whole():
        # On a busy machine the last window is begun late, and what was missed is told late.
        missed, _ = missed_and_repeated(squares, first, last)
        return not missed or any(fleet.status(name).get("missed") for name in fleet.processes)

    wait_until(is_whole, within=60, what="that each alarm has been asked about in each window")
    assert missed_and_repeated(squares, first, last)[1] == []


def check_what_was_told(sink, database):
    """Compare what the sink was told with the changes in the history, of each alarm, in order.

    What the last evaluator wrote as it was stopped waits for the next one.
    """
    bodies = {}
    for key, body in told(sink):
        assert bodies.setdefault(key, body) == body
    found = defaultdict(list)
    for body in bodies.values():
        found[body["alarm_id"]].append((body["previous"], body["current"]))
    changes = changes_in(database)
    for number in range(ALARMS):
        alarm_id = id_of(f"alarm {number}")
        states = changes[alarm_id]
        wanted = list(zip(["insufficient data", *states], states, strict=False))
        assert found[alarm_id] == wanted[: len(found[alarm_id])]
    pending = Notifications(database).waiting().pending
    assert len(bodies) + pending == sum(map(len, changes.values()))


def play(fleet, squares, sink, database_url):
    """Three start; one joins, one drains, one is killed."""
    for name in "abc":
        fleet.start(name)
    fleet.settle("a", "b", "c")
    first = pass_windows(1) + 1
    fleet.start("d")
    fleet.settle("a", "b", "c", "d")
    pass_windows(1)
    fleet.stop("a")
    fleet.settle("b", "c", "d")
    calm = pass_windows(1)
    check_what_was_asked(fleet, squares, first, calm)
    # Until here no key comes twice.
    keys = [key for key, _ in told(sink)]
    assert len(keys) == len(set(keys))
    assert len(keys) > ALARMS

    fleet.kill("b")
    killed = math.floor(time.time() / INTERVAL)
    fleet.settle("c", "d")
    back = killed + math.ceil((TTL + INTERVAL) / INTERVAL) + 1
    wait_until(lambda: time.time() >= back * INTERVAL, what="the lease's end")
    last = pass_windows(2)
    check_what_was_asked(fleet, squares, back, last)

    for name in "cd":
        fleet.stop(name)
    database = Database(database_url)
    check_what_was_told(sink, database)
    database.close()


@pytest.fixture
def square_waves():
    with HTTPServer() as server:
        yield Squares(server, INTERVAL)


def options(folder, squares, *more):
    # A sink that a busy machine keeps from answering is not told again, with the same key.
    path = folder / "aodh.conf"
    path.write_text("[alarm]\naction_timeout = 60\n")
    found = ("--config-file", str(path), "--interval", str(INTERVAL), "--ttl", str(TTL))
    return (*found, "--prometheus-url", squares.server.url, *more)


@pytest.mark.long
def test_on_one_host_with_sqlite_alone(tmp_path, square_waves, sink):
    with evaluators(tmp_path, *options(tmp_path, square_waves)) as fleet:
        fleet.write(square_alarms(ALARMS, f"{sink.url}/in"))
        play(fleet, square_waves, sink, default_url(tmp_path / "state"))


@pytest.mark.long
def test_on_redis_with_postgresql(tmp_path, square_waves, sink):
    with PostgreSQLServer() as postgresql, RedisServer() as redis:
        database = Database(postgresql.url)
        migrations.migrate(database)
        database.close()
        more = ("--database", postgresql.url, "--backend-url", redis.url)
        with evaluators(tmp_path, *options(tmp_path, square_waves, *more)) as fleet:
            fleet.write(square_alarms(ALARMS, f"{sink.url}/in"))
            play(fleet, square_waves, sink, postgresql.url)


def test_while_the_sink_is_away_and_an_evaluator_is_killed_nothing_is_lost(tmp_path, square_waves):
    port = free_port()
    with evaluators(tmp_path, *options(tmp_path, square_waves)) as fleet:
        fleet.write(square_alarms(ALARMS, f"http://127.0.0.1:{port}/in"))
        for name in "ab":
            fleet.start(name)
        fleet.settle("a", "b")
        pass_windows(2)
        fleet.kill("a")
        fleet.settle("b")
        database = Database(default_url(tmp_path / "state"))
        outbox = Notifications(database)
        with HTTPServer(port) as sink:
            sink.answer("/in", b"")
            fleet.stop("b")
            fleet.start("c")  # delivers what was left
            wait_until(lambda: len(told(sink)) > ALARMS, what="what had waited")
            wait_until(lambda: outbox.waiting().pending == 0, what="that all are told")
            fleet.stop("c")
            check_what_was_told(sink, database)
            keys = [key for key, _ in told(sink)]
    database.close()
    assert len(keys) == len(set(keys))
    assert len(keys) >= 2 * ALARMS
