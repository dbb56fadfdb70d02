"""A real Prometheus: what its answers mean to a rule, and what it says of a wrong query."""

from __future__ import annotations

import contextlib
import time

import pytest

from hashring import clock
from hashring.alarms.api.asked_rules import Asked, PrometheusRules
from hashring.alarms.errors import SourceAway
from hashring.alarms.model import PrometheusRule
from hashring.alarms.sources.prometheus import PrometheusSource
from tests.alarms.test_api import ADMIN, ALARM, API, MEMBER, RULE
from tests.servers.http import HTTPServer
from tests.servers.process import free_port, wait_until
from tests.servers.prometheus import PrometheusServer

TEXT = 'queue_length{queue="b"} 7\nqueue_length{queue="a"} 3\nqueue_odd NaN\n'


@pytest.fixture(scope="module")
def prometheus():
    with HTTPServer() as target:
        target.answer("/metrics", TEXT, content_type="text/plain; version=0.0.4")
        address = target.url.removeprefix("http://")
        with PrometheusServer.scraping({"queues": f"{address}/metrics"}) as server:
            wait_until(lambda: server.series("queues"), what="the first scrape")
            # Here nothing is stale yet: a busy machine may answer a later scrape too late.
            server.seen_at = time.time()
            yield server


@pytest.fixture
def ask(prometheus):
    source = PrometheusSource(f"http://{prometheus.address}/", 4)

    def values(query, at=None):
        rule = PrometheusRule(query=query, threshold=1)
        moment = prometheus.seen_at if at is None else at
        return source.values(rule, moment, clock.boottime() + 60)

    yield values
    source.close()


def test_each_series_is_a_value_in_the_order_of_labels(ask):
    assert ask("queue_length") == [3.0, 7.0]
    assert ask("sum(queue_length)") == [10.0]
    assert ask("scalar(sum(queue_length))") == [10.0]
    assert ask("queue_length > 100") == []
    [odd] = ask("queue_odd")
    assert odd != odd


def test_a_query_is_asked_about_the_time_that_it_is_told(ask):
    assert ask("queue_length", time.time() - 86_400) == []


def test_a_long_query_is_asked_as_well(ask):
    assert ask(" + ".join(["sum(queue_length)"] * 400)) == [4000.0]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("sum(", "refuses the query: .*parse error"),
        ("queue_length[5m]", "gives a 'matrix'"),
        ('"text"', "gives a 'string'"),
        ("queue_length + on() queue_length", "refuses the query: .*many"),
    ],
)
def test_a_query_that_gives_no_values_is_told_and_is_no_lack_of_an_answer(ask, query, words):
    with pytest.raises(SourceAway, match=words) as caught:
        ask(query)
    assert caught.value.answered


@pytest.mark.parametrize("body", ["", "[]", "<html>", '{"status": "success", "data": 3}'])
def test_what_is_no_prometheus_is_told(body):
    with HTTPServer() as server:
        server.answer("/api/v1/query", body)
        source = PrometheusSource(server.url.replace("//", "//app:s3cret@"), 1)
        with pytest.raises(SourceAway, match=r"not as Prometheus does|damaged") as caught:
            source.values(PrometheusRule(query="up", threshold=1), 0.0, clock.boottime() + 60)
        source.close()
    assert "s3cret" not in str(caught.value)


def test_a_rule_that_is_scoped_to_a_project_is_asked_of_its_series_alone(prometheus):
    source = PrometheusSource(f"http://{prometheus.address}", 1, project_label="queue")

    def values(query):
        rule = PrometheusRule(query=query, threshold=1, scope_to_project="a")
        return source.values(rule, prometheus.seen_at, clock.boottime() + 60)

    assert values("queue_length") == [3.0]
    assert values(
        "sum by (job) (queue_length{job!=''}) + on (job) sum by (job) (queue_length)"
    ) == [6.0]
    assert values('queue_length{queue="b"}') == []
    with pytest.raises(SourceAway, match="cannot be narrowed to a project"):
        values("queue_length or info(queue_length)")
    source.close()


# ---- what it refuses is refused when an alarm is made


@contextlib.contextmanager
def made_at(database, url):
    """The API, which asks a Prometheus about each query."""
    rules = Asked(prometheus=PrometheusRules(PrometheusSource(url, 2)))
    with contextlib.closing(rules):
        found = API(database, rules)
        with contextlib.closing(found.actions):
            yield found


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("sum(", "parse error"),
        ("no_such_function(up)", "unknown function"),
        ("queue_length[5m]", "gives a 'matrix'"),
        ('"text"', "gives a 'string'"),
    ],
)
def test_a_query_that_can_never_give_values_is_refused_with_its_fields_name(
    prometheus, database, query, words
):
    rule = RULE | {"query": query}
    composite = {"or": [{"type": "prometheus", **RULE}, {"type": "prometheus", **rule}]}
    parts = {"name": "c", "type": "composite", "composite_rule": composite}
    with made_at(database, f"http://{prometheus.address}") as api:
        for alarm in (ALARM | {"prometheus_rule": rule}, parts):
            status, why = api.refused("POST", "/v2/alarms", alarm, ADMIN)
            assert (status, "attribute query. Value: " in why) == (400, True), why
            assert words in why
            assert prometheus.address not in why
        assert api.ask("GET", "/v2/alarms", who=ADMIN) == (200, [])


def test_a_query_that_may_give_values_later_is_taken(prometheus, database):
    """One without series, one whose series do not match now, one that is narrowed to a project."""
    with made_at(database, f"http://{prometheus.address}") as api:
        for query in ("nothing_there", "queue_length + on() queue_length"):
            made = api.made(ADMIN, prometheus_rule=RULE | {"query": query})
            assert made["prometheus_rule"]["query"] == query
        api.made(MEMBER, prometheus_rule=RULE | {"query": "sum(queue_length)"})


def test_while_prometheus_is_away_or_another_program_a_query_is_taken_as_it_is(database):
    alarm = {"prometheus_rule": RULE | {"query": "sum("}}
    with made_at(database, f"http://127.0.0.1:{free_port()}") as api:
        api.made(ADMIN, **alarm)
    with HTTPServer() as server:
        server.answer("/api/v1/query", "<html>")
        with made_at(database, server.url) as api:
            made = api.made(ADMIN, **alarm)
            # One that stays as it is can be switched off without being asked about.
            asked = len(server.log)
            path = f"/v2/alarms/{made['alarm_id']}"
            assert api.ask("PUT", path, made | {"enabled": False}, ADMIN)[0] == 200
            assert (asked, len(server.log)) == (1, 1)


def test_a_prometheus_that_says_nothing_is_waited_for_once_whatever_a_rule_has_in_it(database):
    class Silent:
        asked = 0

        def problem(self, rule, deadline):
            self.asked += 1
            raise SourceAway("no answer in time")

    rules = {"and": [{"type": "prometheus", **RULE, "query": f"up{n}"} for n in range(20)]}
    silent = Silent()
    api = API(database, Asked(prometheus=PrometheusRules(silent)))
    with contextlib.closing(api.actions):
        alarm = {"name": "c", "type": "composite", "composite_rule": rules}
        assert api.ask("POST", "/v2/alarms", alarm, ADMIN)[0] == 201
    assert silent.asked == 1
