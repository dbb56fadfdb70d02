"""The whole plan, on a real Prometheus: hundreds of alarms through joins, ends, kills and restarts.

Judged by what a counting proxy before Prometheus has answered and by what the sink was told: each
alarm is asked about once in each window, and the sink gets the changes that follow from the
answers, each once and in order. ``-o log_cli=true`` shows the figures, which the docs report.
"""

from __future__ import annotations

import json
import logging
import math
import time
import urllib.request
from collections import Counter, defaultdict
from contextlib import ExitStack
from urllib.parse import parse_qs, urlsplit

import pytest

from hashring.alarms.database import migrations
from hashring.alarms.database.definitions import id_of
from hashring.alarms.database.engine import Database, default_url
from hashring.alarms.database.notifications import Notifications
from tests.alarms.fleet import evaluators, square_alarms, told
from tests.alarms.test_exactly_once import changes_in
from tests.servers.http import Answer, HTTPServer
from tests.servers.postgresql import PostgreSQLServer
from tests.servers.process import free_port, wait_until
from tests.servers.prometheus import PrometheusServer
from tests.servers.redis import RedisServer

log = logging.getLogger(__name__)

INTERVAL, TTL, ALARMS, LAG = 5.0, 6.0, 500, 2.0

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]


def window_of(at):
    return math.floor((at + LAG) / INTERVAL + 1e-6)


class Waves:
    """A target whose series are square waves, a Prometheus that scrapes it, a proxy that counts."""

    def __init__(self, stack):
        self.target = stack.enter_context(HTTPServer())
        self.target.answer_with(
            "/metrics", lambda asked: Answer(self._exposition(), 200, "text/plain")
        )
        self.prometheus = PrometheusServer.scraping(
            {"waves": self.target.url.removeprefix("http://") + "/metrics"}
        )
        path = self.prometheus.folder / "prometheus.yml"
        found = json.loads(path.read_text())
        found["global"] |= {"scrape_interval": "500ms", "scrape_timeout": "400ms"}
        path.write_text(json.dumps(found))
        stack.enter_context(self.prometheus)
        self.proxy = stack.enter_context(HTTPServer())
        self.proxy.answer_with("/api/v1/query", self._ask)
        self.asked = Counter()  # by alarm and window
        self.answers = {}  # the first answer of each
        wait_until(lambda: len(self._values("square")) == ALARMS, what="all series are scraped")

    @staticmethod
    def _exposition():
        window = math.floor(time.time() / INTERVAL)
        lines = ["# TYPE square gauge"]
        lines += [
            f'square{{number="{n}"}} {(window + n) // (2 + n % 3) % 2}' for n in range(ALARMS)
        ]
        return "\n".join([*lines, ""])

    def _values(self, query):
        return self.prometheus.ask("query", query=query)["result"]

    def _ask(self, asked):
        form = parse_qs(urlsplit(asked.path).query)
        number = int(form["query"][0].partition('"')[2].rstrip('"}'))
        url = f"http://{self.prometheus.address}{asked.path}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            body = answer.read()
        one = number, window_of(float(form["time"][0]))
        result = json.loads(body)["data"]["result"]
        self.asked[one] += 1
        self.answers.setdefault(one, float(result[0]["value"][1]) if result else None)
        return Answer(body)


def pass_windows(number):
    """Wait until so many full windows have passed; return the last one."""
    last = math.floor(time.time() / INTERVAL) + number
    wait_until(
        lambda: time.time() >= (last + 1) * INTERVAL + 1.0,
        within=60 + number * INTERVAL,
        what="some windows",
    )
    return last


class Judge:
    """What is due, and what came of it.

    Attributes:
        figures: windows times alarms that were due, missed, and asked about twice, by the part of
            the plan.
    """

    def __init__(self, waves, fleet):
        self.waves, self.fleet = waves, fleet
        self.figures = {}

    def count(self, part, first, last):
        due = [(n, window) for window in range(first, last + 1) for n in range(ALARMS)]
        asked = Counter(self.waves.asked)
        missed = [one for one in due if not asked[one]]
        twice = [one for one in due if asked[one] > 1]
        self.figures[part] = len(due), len(missed), len(twice)
        return missed, twice

    def is_exact(self, part, first, last):
        missed, twice = self.count(part, first, last)
        assert twice == []
        # Windows that an evaluator says it had no time for, on a busy machine, may be missed.
        if not any(self.fleet.status(name).get("missed") for name in self.fleet.processes):
            assert missed == []


def due_changes(waves, number, left_out=None):
    """The states that an alarm enters, by the answers that were given about it."""
    state, found = "insufficient data", []
    for window in sorted(w for n, w in waves.answers if n == number and w != left_out):
        value = waves.answers[number, window]
        entered = "insufficient data" if value is None else "alarm" if value > 0.5 else "ok"
        if entered != state:
            found.append((state, entered))
            state = entered
    return found


def judge_the_sink(waves, sink, database, killed):
    """Compare what was told with what was answered; return how many were told, and told again.

    Whoever is killed in a window may have got an answer about it, and have committed nothing.
    """
    arrived = told(sink)
    bodies = {}
    for key, body in arrived:
        assert bodies.setdefault(key, body) == body
    found = defaultdict(list)
    for body in bodies.values():
        found[body["alarm_id"]].append((body["previous"], body["current"]))
    recorded = changes_in(database)
    for number in range(ALARMS):
        alarm_id = id_of(f"alarm {number}")
        states = recorded[alarm_id]
        changes = list(zip(["insufficient data", *states], states, strict=False))
        assert found[alarm_id] == changes
        assert changes in (due_changes(waves, number), due_changes(waves, number, killed))
    return len(bodies), len(arrived) - len(bodies)


def play(waves, fleet, sink, database_url, restart_store):
    """Three evaluators; a join, a drain, a rolling restart, a store restart, a kill."""
    judge = Judge(waves, fleet)
    for name in "abc":
        fleet.start(name)
    fleet.settle("a", "b", "c")
    first = pass_windows(1) + 1

    fleet.start("d")
    fleet.settle("a", "b", "c", "d")
    pass_windows(1)
    fleet.stop("a")
    fleet.settle("b", "c", "d")
    last = pass_windows(1)
    judge.is_exact("a join and a drain", first, last)

    for old, new in zip("bcd", "efg", strict=True):  # a restart is another member
        fleet.start(new)
        wait_until(lambda new=new: fleet.status(new).get("state") == "settled", within=240)
        fleet.stop(old)
    fleet.settle("e", "f", "g")
    first, last = last + 1, pass_windows(1)
    judge.is_exact("a rolling restart", first, last)

    if restart_store is not None:
        restart_store()
        fleet.settle("e", "f", "g")
        first, last = last + 1, pass_windows(2)
        judge.is_exact("a restart of the store", first, last)
    keys = [key for key, _ in told(sink)]
    assert len(keys) == len(set(keys))

    fleet.kill("e")
    killed = time.time()
    fleet.settle("f", "g")
    back = math.ceil((killed + TTL + INTERVAL) / INTERVAL)
    wait_until(lambda: time.time() >= back * INTERVAL, what="the lease's end")
    judge.count("a kill, ttl and a window", last + 1, back - 1)
    last = pass_windows(2)
    judge.is_exact("after that", back, last)

    for name in "fg":
        fleet.stop(name)
    database = Database(database_url)
    outbox = Notifications(database)
    fleet.start("z")  # delivers what the last one wrote as it was stopped
    wait_until(lambda: outbox.waiting().pending == 0, what="that all are told")
    while True:
        fleet.stop("z")
        if not outbox.waiting().pending:
            break
        fleet.start("z")
        wait_until(lambda: outbox.waiting().pending == 0, what="that all are told")
    told_of, again = judge_the_sink(waves, sink, database, window_of(killed - LAG))
    database.close()
    report(judge, told_of, again)


def report(judge, told_of, again):
    for part, (due, missed, twice) in judge.figures.items():
        log.warning(f"{part}: {due:,} due, {missed:,} missed, {twice:,} asked about twice")
    log.warning(f"{told_of:,} changes were told; {again} requests came again, with the same key")


def squares(sink):
    alarms = square_alarms(ALARMS, sink)
    for number, alarm in enumerate(alarms):
        alarm["rule"]["query"] = f'square{{number="{number}"}}'
    return alarms


def conf(folder):
    path = folder / "aodh.conf"
    path.write_text(f"[DEFAULT]\nadditional_ingestion_lag = {LAG}\n")
    return str(path)


@pytest.mark.parametrize("kind", ["redis and postgresql", "sqlite on one host"])
def test_the_plan(kind, tmp_path):
    with ExitStack() as stack:
        sink = stack.enter_context(HTTPServer())
        sink.answer("/in", b"")
        waves = Waves(stack)
        options = ["--config-file", conf(tmp_path), "--prometheus-url", waves.proxy.url]
        options += ["--interval", str(INTERVAL), "--ttl", str(TTL)]
        url, restart = default_url(tmp_path / "state"), None
        if "redis" in kind:
            postgresql = stack.enter_context(PostgreSQLServer())
            redis = stack.enter_context(RedisServer(persist=True))
            database = Database(postgresql.url)
            migrations.migrate(database)
            database.close()
            url = postgresql.url
            options += ["--database", url, "--backend-url", redis.url]

            def restart():
                redis.stop()
                redis.start()

        fleet = stack.enter_context(evaluators(tmp_path, *options))
        fleet.write(squares(f"{sink.url}/in"))
        log.warning(f"{kind}: {ALARMS} alarms, windows of {INTERVAL:g} s, ttl {TTL:g} s")
        play(waves, fleet, sink, url, restart)


def test_a_sink_is_away_for_a_minute_and_an_evaluator_is_killed_meanwhile(tmp_path):
    port = free_port()
    with ExitStack() as stack:
        waves = Waves(stack)
        options = ["--config-file", conf(tmp_path), "--prometheus-url", waves.proxy.url]
        options += ["--interval", str(INTERVAL), "--ttl", str(TTL)]
        fleet = stack.enter_context(evaluators(tmp_path, *options))
        fleet.write(squares(f"http://127.0.0.1:{port}/in"))
        for name in "abc":
            fleet.start(name)
        fleet.settle("a", "b", "c")
        pass_windows(6)
        fleet.kill("b")
        killed = window_of(time.time() - LAG)
        fleet.settle("a", "c")
        pass_windows(5)
        database = Database(default_url(tmp_path / "state"))
        outbox = Notifications(database)
        waited = outbox.waiting().pending
        with HTTPServer(port) as sink:
            sink.answer("/in", b"")
            back = time.time()
            wait_until(lambda: outbox.waiting().pending < waited / 2, within=120)
            fleet.stop("a")
            fleet.stop("c")
            fleet.start("z")
            wait_until(lambda: outbox.waiting().pending == 0, within=120, what="that all are told")
            fleet.stop("z")
            keys = [key for key, _ in told(sink)]
            told_of, again = judge_the_sink(waves, sink, database, killed)
            took = max(asked.at for asked in sink.log) - back
        database.close()
        assert len(keys) == len(set(keys))
        assert waited > ALARMS
        log.warning(
            f"the sink was away for a minute: {waited:,} waited; all {told_of:,} arrived in "
            f"order, {again} twice, the last one {took:.0f} s after it was back"
        )
