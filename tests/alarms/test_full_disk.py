"""A full disk under the database and the group: said clearly, nothing lost, and on it goes."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import time
import urllib.error
import urllib.request

import pytest
import sqlalchemy as sa

import hashring
from hashring.alarms.database import migrations
from hashring.alarms.database.definitions import sync
from hashring.alarms.database.engine import Database, default_url
from hashring.alarms.database.notifications import Notifications
from hashring.alarms.database.tables import OUTBOX, SAMPLE
from hashring.alarms.errors import DatabaseUnavailable
from hashring.alarms.intake import Intake
from hashring.alarms.model import alarm_of
from hashring.testing.faults.sqlite_store import SQLiteStore
from tests.alarms.fleet import Squares, changes_in, evaluators, square_alarms, told, vector
from tests.alarms.test_evaluator import API, Windows
from tests.alarms.test_exactly_once import check_what_was_told
from tests.servers.http import HTTPServer
from tests.servers.process import wait_until

INTERVAL, TTL, ALARMS = 2.0, 8.0, 40

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]


@pytest.fixture
def disk():
    """A small disk of its own, and what fills it."""
    store = SQLiteStore()
    store.start()
    try:
        yield store.path.parent, store.faults()["disk full"]
    finally:
        store.stop()


def test_evaluators_on_a_full_disk_say_so_lose_nothing_and_go_on_when_there_is_room(
    tmp_path, disk, sink
):
    folder, full = disk
    with HTTPServer() as server:
        squares = Squares(server, INTERVAL)
        options = ("--interval", str(INTERVAL), "--ttl", str(TTL), "--prometheus-url", server.url)
        with evaluators(tmp_path, *options, "--state-dir", str(folder)) as fleet:
            fleet.write(square_alarms(ALARMS, f"{sink.url}/in"))
            for name in "ab":
                fleet.start(name)
            fleet.settle("a", "b")
            wait_until(lambda: len(told(sink)) > 2 * ALARMS, what="the first changes")

            full.begin()
            wait_until(
                lambda: all("is full" in fleet.said(name) for name in "ab"),
                what="that both say that the disk is full",
            )
            before = time.time()
            # Longer than the lease: with the default layout the group is on this disk as well.
            wait_until(lambda: time.time() > before + TTL + 2 * INTERVAL)
            full.end()

            fleet.settle("a", "b")
            here = math.floor(time.time() / INTERVAL)
            wait_until(lambda: (fleet.status("a")["window"] or 0) > here, what="a's next window")
            wait_until(lambda: (fleet.status("b")["window"] or 0) > here, what="b's next window")
            assert {one for one, window in squares.asked() if window > here} == set(range(ALARMS))
            for name in "ab":
                fleet.stop(name)
                assert "Traceback" not in fleet.said(name)
            database = Database(default_url(folder))
            outbox = Notifications(database)
            fleet.start("c")  # delivers what the last one wrote
            fleet.settle("c")
            wait_until(lambda: outbox.waiting().pending == 0, what="that all are told")
            fleet.stop("c")
            check_what_was_told(sink, database)
            assert min(map(len, changes_in(database).values())) > 1
            database.close()


def test_of_a_window_that_a_full_disk_ends_all_or_nothing_of_each_alarm_is_written(disk):
    folder, full = disk
    rule = {"query": "up", "comparison_operator": "gt", "threshold": 1}
    telling = {"ok_actions": ["http://127.0.0.1:9/in"], "alarm_actions": ["http://127.0.0.1:9/in"]}
    with contextlib.ExitStack() as stack:
        database = stack.enter_context(contextlib.closing(Database(default_url(folder))))
        migrations.migrate(database)
        alarms = [
            {"name": f"{n}", "type": "prometheus", "rule": rule, **telling} for n in range(50)
        ]
        sync(database, [alarm_of(one) for one in alarms], 0.0)
        prometheus = stack.enter_context(HTTPServer())
        partition = stack.enter_context(hashring.join("memory://", "alarms", "a", ttl=30.0))
        assert partition.wait_settled(60)
        windows = Windows(partition, database, prometheus.url)
        stack.enter_context(contextlib.closing(windows))

        def work(number):
            prometheus.answer(API, vector(5 * (number % 2)))  # so each changes in each window
            windows.work()

        def work_many():
            for number in range(1, 200):
                work(number)

        work(0)
        full.begin()
        with pytest.raises(DatabaseUnavailable, match="is full; make room there"):
            work_many()
        full.end()
        work(1)
        work(0)
        assert {windows.state(f"{n}")[0] for n in range(50)} == {"ok"}
        changes = changes_in(database)
        told_of = sa.select(OUTBOX.c.alarm_id, sa.func.count()).group_by(OUTBOX.c.alarm_id)
        with database.reading() as connection:
            waits = dict(connection.execute(told_of).all())
        # Each state that was entered stands in the history and waits to be told, and no other.
        assert waits == {alarm_id: len(states) for alarm_id, states in changes.items()}
        for states in changes.values():
            assert all(before != after for before, after in itertools.pairwise(states))


def samples_of(window):
    return [
        {"meter": "cpu", "resource_id": f"r{number}", "volume": 1, "interval": 60.0}
        | {"window": window}
        for number in range(1000)
    ]


def test_samples_that_come_while_the_disk_is_full_are_refused_so_their_sender_keeps_them(
    disk, caplog
):
    folder, full = disk
    database = Database(default_url(folder))
    migrations.migrate(database)
    taken = []

    def post(window):
        request = urllib.request.Request(
            f"http://127.0.0.1:{intake.port}/v1/samples",
            json.dumps(samples_of(window)).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60):
            taken.append(window)

    def post_all():
        for window in range(2, 200):
            post(window)

    with Intake("127.0.0.1:0", database) as intake:
        post(1)
        full.begin()
        with pytest.raises(urllib.error.HTTPError, match="503"):
            post_all()
        assert "database or disk is full" in caplog.text
        full.end()
        post(len(taken) + 1)  # as its sender does: the one that was refused
        kept = sa.select(SAMPLE.c.window_start, sa.func.count()).group_by(SAMPLE.c.window_start)
        with database.reading() as connection:
            found = dict(connection.execute(kept).all())
        assert found == {window * 60_000_000: 1000 for window in taken}
    database.close()
