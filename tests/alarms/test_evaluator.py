"""One evaluator's windows: what it asks, what it commits, and what it leaves alone."""

from __future__ import annotations

import contextlib
import json
import logging

import pytest
import sqlalchemy as sa

import hashring
from hashring.alarms.actions.catalogue import Catalogue
from hashring.alarms.database.definitions import id_of, sync
from hashring.alarms.database.evaluations import utc
from hashring.alarms.database.notifications import Notifications
from hashring.alarms.database.samples import Samples, volumes_of
from hashring.alarms.database.tables import ALARM
from hashring.alarms.evaluator import Evaluator
from hashring.alarms.model import alarm_of
from hashring.alarms.settings import Settings
from hashring.alarms.sources.prometheus import PrometheusSource
from hashring.alarms.sources.samples import SampleSource
from tests.alarms.fleet import vector
from tests.servers.http import Answer, HTTPServer
from tests.servers.process import SilentServer, wait_until

RULE = {"query": "up", "comparison_operator": "gt", "threshold": 1}
API = "/api/v1/query"
WHERE = {"database": "", "backend_url": "", "member": "a"}


@pytest.fixture
def prometheus():
    with HTTPServer() as server:
        server.answer(API, vector(5))
        yield server


@pytest.fixture
def partition():
    with hashring.join("memory://", "alarms", "a", ttl=30.0) as found:
        assert found.wait_settled(60)
        yield found


class Windows:
    """Lets an evaluator work one window after the other, whatever the time."""

    def __init__(self, partition, database, url, **settings):
        self.settings = Settings(**{**WHERE, "interval": 60.0, "query_timeout": 60.0, **settings})
        self.database, self._partition, self._start = database, partition, 1_700_000_040.0
        self._actions = Catalogue(self.settings)
        source = PrometheusSource(url, 4)
        sources = {"prometheus": source, "hashring_threshold": SampleSource(Samples(database))}
        self.evaluator = Evaluator(database, sources, self._actions, self.settings)
        self._stack = contextlib.ExitStack()
        self._stack.callback(source.close)
        self._stack.callback(self._actions.close)
        self._stack.enter_context(self.evaluator)

    def close(self):
        self._stack.close()

    def work(self):
        """Work the next window, and return its start."""
        self._start += 60.0
        with self._partition.cycle() as cycle:
            cycle.window, cycle.start, cycle.late = int(self._start // 60), self._start, False
            self.evaluator.work(cycle)
        return self._start

    def state(self, name="x"):
        wanted = sa.select(ALARM.c.state, ALARM.c.state_reason)
        with self.database.reading() as connection:
            row = connection.execute(wanted.where(ALARM.c.alarm_id == id_of(name))).one()
        return tuple(row)


@pytest.fixture
def windows(partition, database, prometheus):
    found = Windows(partition, database, prometheus.url)
    yield found
    found.close()


def define(database, *alarms):
    sync(database, [alarm_of({"type": "prometheus", "rule": RULE, **one}) for one in alarms], 0.0)


def test_a_query_is_asked_about_the_windows_own_time_and_equal_ones_once(
    windows, database, prometheus
):
    define(database, *({"name": str(n), "rule": {**RULE, "threshold": n}} for n in range(9)))
    start = windows.work()
    [asked] = prometheus.log
    assert f"time={start:.3f}" in asked.path
    assert [windows.state(str(n))[0] for n in (0, 4, 5, 8)] == ["alarm", "alarm", "ok", "ok"]


def test_a_window_that_is_done_is_not_asked_about_again(windows, database, prometheus):
    define(database, {"name": "x"})
    windows.work()
    windows._start -= 60.0
    windows.work()
    assert len(prometheus.log) == 1


def test_a_query_that_is_refused_costs_its_alarm_alone(windows, database, prometheus):
    def answer(asked):
        if "bad" in asked.path:
            return Answer({"status": "error", "error": "parse error"}, 400)
        return Answer(vector(5))

    prometheus.answer_with(API, answer)
    bad = [{"name": f"bad {n}", "rule": {**RULE, "query": f"bad_{n}"}} for n in range(20)]
    define(
        database, *bad, *({"name": f"{n}", "rule": {**RULE, "query": f"q{n}"}} for n in range(9))
    )
    for _ in range(4):
        windows.work()
    assert {windows.state(str(n))[0] for n in range(9)} == {"alarm"}
    assert windows.state("bad 0")[0] == "insufficient data"
    assert windows.evaluator.counts.unanswered == 4 * 20


def test_a_source_that_is_away_is_no_lack_of_data_until_its_grace_is_over(
    windows, database, prometheus
):
    define(database, {"name": "x"})
    windows.work()
    prometheus.answer(API, cut=True)
    for _ in range(3):
        windows.work()
        assert windows.state()[0] == "alarm"
    windows.work()
    state, reason = windows.state()
    assert state == "insufficient data"
    assert reason.startswith(f"not evaluated: {prometheus.url}: ")
    prometheus.answer(API, vector(5))
    windows.work()
    assert windows.state()[0] == "alarm"


def test_a_source_that_hangs_is_not_waited_for_by_every_alarm(partition, database):
    define(database, *({"name": f"{n}", "rule": {**RULE, "query": f"q{n}"}} for n in range(200)))
    with SilentServer() as silent:
        windows = Windows(
            partition, database, f"http://127.0.0.1:{silent.port}", threads=4, query_timeout=1.0
        )
        try:
            windows.work()
        finally:
            windows.close()
    assert windows.evaluator.counts.unanswered == 200
    assert windows.evaluator.counts.questions <= 8 + 4


def test_no_series_is_insufficient_data_at_once(windows, database, prometheus):
    define(database, {"name": "x"})
    windows.work()
    prometheus.answer(API, vector())
    windows.work()
    assert windows.state() == ("insufficient data", "datapoints are unknown")


def test_the_count_of_windows_goes_on_with_the_next_owner(partition, database, prometheus):
    define(database, {"name": "x", "rule": {**RULE, "evaluation_periods": 3}})
    start = None
    for number in range(3):
        windows = Windows(partition, database, prometheus.url)  # as another process would
        windows._start = start or windows._start
        assert windows.state()[0] == "insufficient data", number
        start = windows.work()
        windows.close()
    assert windows.state()[0] == "alarm"


def test_an_alarm_that_its_user_changes_meanwhile_is_evaluated_anew(windows, database, prometheus):
    define(database, {"name": "x"})

    def answer(asked):
        if len(prometheus.log) == 1:
            with database.writing() as connection:
                changed = {"rule": {**RULE, "threshold": 99}, "timestamp": utc(1.0)}
                connection.execute(ALARM.update().values(**changed))
        return Answer(vector(5))

    prometheus.answer_with(API, answer)
    windows.work()
    assert windows.evaluator.counts.overtaken == 1
    assert windows.state()[0] == "ok"
    with database.reading() as connection:
        assert connection.execute(sa.select(ALARM.c.rule)).scalar()["threshold"] == 99


def test_of_many_changes_in_a_transaction_the_one_that_its_user_changes_is_evaluated_anew(
    windows, database, prometheus
):
    define(database, *({"name": f"{n}", "rule": {**RULE, "query": f"q{n}"}} for n in range(30)))

    def answer(asked):
        if "q7" in asked.path:
            with database.writing() as connection:
                changed = {"rule": {**RULE, "threshold": 99}, "timestamp": utc(1.0)}
                connection.execute(
                    ALARM.update().where(ALARM.c.alarm_id == id_of("7")).values(**changed)
                )
        return Answer(vector(5))

    prometheus.answer_with(API, answer)
    windows.work()
    states = {n: windows.state(f"{n}")[0] for n in range(30)}
    assert states.pop(7) == "ok"
    assert set(states.values()) == {"alarm"}
    assert windows.evaluator.counts.overtaken == 1
    assert windows.evaluator.counts.changes == 30
    assert windows.evaluator.counts.repeated == 0


def test_alarms_are_evaluated_while_others_are_committed_and_their_changes_go_together(
    windows, database, monkeypatch
):
    define(database, *({"name": str(n), "rule": {**RULE, "threshold": n}} for n in range(300)))
    counts, written = windows.evaluator.counts, []
    writing = database.writing

    def held():
        if not written:
            wait_until(lambda: counts.evaluated == 300, what="the others, while one is committed")
        written.append(1)
        return writing()

    monkeypatch.setattr(database, "writing", held)
    windows.work()
    assert counts.changes == 300
    assert len(written) <= 5  # the first one alone, perhaps; then hundreds together


def test_an_error_that_no_code_foresaw_costs_its_alarm_alone(
    windows, database, monkeypatch, caplog
):
    define(database, *({"name": n, "rule": {**RULE, "query": n}} for n in ("good", "bad")))
    values = PrometheusSource.values

    def faulty(self, rule, at, deadline):
        if rule.query == "bad":
            raise ZeroDivisionError("a fault of the source")
        return values(self, rule, at, deadline)

    monkeypatch.setattr(PrometheusSource, "values", faulty)
    windows.work()
    assert windows.state("good")[0] == "alarm"
    assert windows.state("bad")[0] == "insufficient data"
    assert f"alarm {id_of('bad')} is not evaluated" in caplog.text


@pytest.mark.parametrize(
    "rule", ['{"query": 3}', '{"query": "u', "[1]", "7", "[" * 9000 + "]" * 9000]
)
def test_a_wrong_alarm_in_the_database_costs_itself_alone_and_is_named(
    windows, database, caplog, rule
):
    """What is no JSON too: MySQL may have cut it off, and a hand may have written it."""
    define(database, {"name": "x"}, {"name": "y"})
    with database.writing() as connection:
        connection.execute(
            sa.text("UPDATE alarm SET rule = :rule WHERE alarm_id = :y"),
            {"rule": rule, "y": id_of("y")},
        )
    with caplog.at_level(logging.ERROR):
        windows.work()
        windows.work()
    assert windows.state()[0] == "alarm"
    assert windows.evaluator.counts.invalid == 1
    assert len([r for r in caplog.records if "is not evaluated" in r.message]) == 1


def test_repeated_actions_are_told_once_a_window_with_keys_of_their_own(windows, database):
    define(database, {"name": "x", "repeat_actions": True, "alarm_actions": ["log://", "log://"]})
    keys = set()
    for _ in range(3):
        windows.work()
        outbox = Notifications(database)
        heads = outbox.heads([], 9e9)
        assert {one.body["sent"]["current"] for one in heads} == {"alarm"}
        keys |= {one.key for one in heads}
        for one in heads:
            outbox.delivered([one.key], 0.0)
    assert len(keys) == 6


def test_alertmanager_is_told_in_every_window_while_the_alarm_lasts(windows, database, prometheus):
    url = "alertmanager+http://am:9093"
    define(database, {"name": "x", "alarm_actions": [url, "log://"], "ok_actions": [url]})
    for _ in range(3):
        windows.work()
    prometheus.answer(API, vector(0))
    windows.work()
    windows.work()
    outbox, found = Notifications(database), []
    while heads := outbox.heads([], 9e9):
        found += [(one.sink.partition(":")[0], one.body["sent"]["current"]) for one in heads]
        for one in heads:
            outbox.delivered([one.key], 0.0)
    assert [state for sink, state in found if sink != "log"] == ["alarm"] * 3 + ["ok"]
    assert [state for sink, state in found if sink == "log"] == ["alarm"]


def test_an_alarm_out_of_its_time_is_not_evaluated(windows, database, prometheus):
    night = {"name": "n", "start": "0 0 1 1 *", "duration": 1}
    define(database, {"name": "x", "time_constraints": [night]})
    windows.work()
    assert prometheus.log == []


@pytest.mark.parametrize("start", ["0 0 30 2 *", "0 0 1 1 * 0 2090"])
def test_a_time_that_never_was_costs_its_alarm_alone(windows, database, start):
    """Aodh takes both, so its tables may have them; and who makes one may be any tenant."""
    define(database, {"name": "x"}, {"name": "y"})
    never = [{"name": "n", "description": "", "start": start, "duration": 60, "timezone": ""}]
    with database.writing() as connection:
        named = ALARM.update().where(ALARM.c.alarm_id == id_of("y"))
        connection.execute(named.values(time_constraints=never))
    windows.work()
    assert windows.state("x")[0] == "alarm"
    assert windows.state("y")[0] == "insufficient data"


def test_our_agents_samples_are_enough_for_an_alarm(windows, database):
    define(
        database,
        {
            "name": "x",
            "type": "hashring_threshold",
            "rule": {
                **{"meter": "cpu", "resource": "web*", "comparison_operator": "ge"},
                **{"threshold": 80, "evaluation_periods": 2},
            },
        },
    )
    first = int((windows._start + 60) // 60)
    samples = [
        {"meter": "cpu", "resource_id": name, "volume": volume, "window": window, "interval": 60.0}
        for window in (first - 2, first - 1)
        for name, volume in (("web1", 70), ("web2", 90.0), ("db1", 0))
    ]
    Samples(database).keep(volumes_of(json.loads(json.dumps(samples))))
    windows.work()
    assert windows.state()[0] == "alarm"
    windows.work()  # one granule is looked at that is late
    windows.work()
    assert windows.state()[0] == "insufficient data"
