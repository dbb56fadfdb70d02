"""What a user changes by the API while the alarm is evaluated stays: a real server, real requests.

Aodh's evaluator writes the whole row as it has read it: whatever comes meanwhile is undone. One
that does the same, put in the place of ours, must fail here.
"""

from __future__ import annotations

import contextlib
import json
import threading
import urllib.error
import urllib.request

import pytest
import sqlalchemy as sa

import hashring
from hashring.alarms.actions.catalogue import Catalogue
from hashring.alarms.api.application import Application
from hashring.alarms.api.serving import Serving
from hashring.alarms.api.settings import APISettings
from hashring.alarms.database.evaluations import Evaluations, Outcome
from hashring.alarms.database.tables import ALARM, HISTORY
from hashring.alarms.settings import Settings
from tests.alarms.fleet import vector
from tests.alarms.test_evaluator import API, Windows
from tests.servers.http import Answer, HTTPServer

RULE = {"query": "up", "comparison_operator": "gt", "threshold": 1.0}
USER = {"X-User-Id": "u", "X-Project-Id": "p", "X-Roles": "member,reader"}


class Server:
    """Aodh's API on a port, over a database."""

    def __init__(self, stack, database):
        actions = Catalogue(Settings(database="", backend_url="", member="m"))
        stack.callback(actions.close)
        application = Application(database, APISettings(auth_mode="noauth"), actions)
        self._port = stack.enter_context(Serving(application, "127.0.0.1:0", 2)).port

    def ask(self, method, path, body=None):
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._port}/v2/alarms{path}",
            None if body is None else json.dumps(body).encode(),
            USER | {"Content-Type": "application/json"},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def made(self, name, query="up"):
        rule = RULE | {"query": query}
        alarm = {"name": name, "type": "prometheus", "prometheus_rule": rule}
        alarm |= {"alarm_actions": ["http://127.0.0.1:9/in"], "repeat_actions": True}
        return self.ask("POST", "", alarm)


@pytest.fixture
def world(database):
    """The API, an evaluator's windows, and the Prometheus that it asks."""
    with contextlib.ExitStack() as stack:
        prometheus = stack.enter_context(HTTPServer())
        partition = stack.enter_context(hashring.join("memory://", "alarms", "a", ttl=30.0))
        assert partition.wait_settled(60)
        windows = stack.enter_context(
            contextlib.closing(Windows(partition, database, prometheus.url))
        )
        yield Server(stack, database), windows, prometheus


CHANGES = [
    {"prometheus_rule": RULE | {"threshold": 99.0}},
    {"enabled": False},
    {"description": "by its user", "severity": "critical", "alarm_actions": []},
]


def change_in_a_window(world, change):
    """Let a user change an alarm while it is asked about; return it as it is after the window."""
    server, windows, prometheus = world
    alarm = server.made("x")
    path = f"/{alarm['alarm_id']}"
    changed = []

    def answer(asked):
        if not changed:
            changed.append(server.ask("PUT", path, alarm | change))
        return Answer(vector(5))

    prometheus.answer_with(API, answer)
    windows.work()
    found = server.ask("GET", path)
    for field, value in change.items():
        assert found[field] == value, field
    assert found["timestamp"] == changed[0]["timestamp"]
    return found


@pytest.mark.parametrize("change", CHANGES)
def test_what_a_user_puts_while_the_alarm_is_evaluated_stays_and_counts(world, change):
    found = change_in_a_window(world, change)
    # It was evaluated anew, as it is now: 5 is not above 99, and what is disabled has no state.
    wanted = {"prometheus_rule": "ok", "enabled": "insufficient data", "description": "alarm"}
    assert found["state"] == wanted[next(iter(change))]


def as_aodh_does(self, connection, step, now):
    """Write the whole row as it was read, and the state."""
    seen = step.definition
    row = {**seen.fields, "timestamp": seen.seen, "state": str(step.state)}
    connection.execute(ALARM.update().where(ALARM.c.alarm_id == seen.alarm_id).values(**row))
    return Outcome.DONE


@pytest.mark.parametrize("change", CHANGES)
def test_an_evaluator_that_writes_whole_rows_is_found_out(world, change, monkeypatch):
    monkeypatch.setattr(Evaluations, "_changed", as_aodh_does)
    with pytest.raises(AssertionError, match=next(iter(change))):
        change_in_a_window(world, change)


def test_an_alarm_that_its_user_deletes_meanwhile_stays_deleted(world, database):
    server, windows, prometheus = world
    alarm = server.made("x")

    def answer(asked):
        if len(prometheus.log) == 1:
            server.ask("DELETE", f"/{alarm['alarm_id']}")
        return Answer(vector(5))

    prometheus.answer_with(API, answer)
    windows.work()
    with pytest.raises(urllib.error.HTTPError, match="404"):
        server.ask("GET", f"/{alarm['alarm_id']}")
    with database.reading() as connection:
        assert connection.execute(sa.select(HISTORY.c.alarm_id)).all() == []


def test_of_many_changes_in_many_windows_none_is_undone(world):
    server, windows, prometheus = world
    alarms = [server.made(f"{number}", f"q{number}") for number in range(10)]
    value, last, ended = [5], {}, threading.Event()
    prometheus.answer_with(API, lambda asked: Answer(vector(value[0])))

    def change():
        number = 0
        while not ended.is_set():
            alarm = alarms[number % len(alarms)]
            number += 1
            body = alarm | {"description": f"change {number}"}
            last[alarm["alarm_id"]] = server.ask("PUT", f"/{alarm['alarm_id']}", body)

    user = threading.Thread(target=change)
    user.start()
    try:
        for number in range(12):
            value[0] = 5 * (number % 2)  # so each of them changes in each window
            windows.work()
    finally:
        ended.set()
        user.join()
    assert len(last) == len(alarms)
    for alarm_id, put in last.items():
        found = server.ask("GET", f"/{alarm_id}")
        assert (found["description"], found["timestamp"]) == (put["description"], put["timestamp"])
    assert windows.evaluator.counts.changes >= len(alarms)
