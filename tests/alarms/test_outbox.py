"""The outbox: each notification arrives, in order, with one key, whatever its sink does."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import threading
import time

import pytest
import sqlalchemy as sa

import hashring
from hashring import clock
from hashring.alarms.actions.catalogue import Catalogue
from hashring.alarms.database.definitions import id_of, sync
from hashring.alarms.database.notifications import Notifications, key_of, sink_of
from hashring.alarms.database.tables import HISTORY, OUTBOX
from hashring.alarms.model import alarm_of
from hashring.alarms.outbox import Outbox
from hashring.alarms.settings import Settings
from tests.alarms.fleet import told
from tests.servers.http import Answer, HTTPServer
from tests.servers.process import SilentServer, free_port, wait_until


@pytest.fixture
def partition():
    with hashring.join("memory://", "alarms", "a", ttl=30.0) as found:
        assert found.wait_settled(60)
        yield found


@contextlib.contextmanager
def delivering(partition, database, **settings):
    found = Settings(
        database="", backend_url="", member="a", **{"action_timeout": 60.0, **settings}
    )
    actions = Catalogue(found)
    with contextlib.closing(actions), Outbox(partition, database, actions, found) as outbox:
        yield outbox


def write(database, alarm_id, window, action, current="alarm", created=None):
    key = key_of(alarm_id, window, action)
    sent = {"alarm_id": alarm_id, "alarm_name": alarm_id, "current": current, "previous": "ok"}
    sent |= {"severity": "low", "reason": "because", "reason_data": {}}
    with database.writing() as connection:
        connection.execute(
            OUTBOX.insert(),
            {
                **{"key": key, "alarm_id": alarm_id, "window_start": window * 1_000_000},
                **{"sink": sink_of(action), "action": action, "attempts": 0, "next_try": 0},
                "body": {"sent": sent, "interval": 60.0, "project_id": "p"},
                "created": round((clock.wall() if created is None else created) * 1e6),
                "gave_up": False,
            },
        )
    return key


def waits(database):
    return Notifications(database).waiting().pending


def test_notifications_arrive_in_the_order_of_their_windows_each_once(database, partition, sink):
    keys = {
        name: [write(database, name, window, f"{sink.url}/in") for window in (60, 120, 180)]
        for name in ("x", "y", "z")
    }
    with delivering(partition, database):
        wait_until(lambda: waits(database) == 0)
    arrived = told(sink)
    assert len(arrived) == 9
    for name, wanted in keys.items():
        assert [key for key, body in arrived if body["alarm_id"] == name] == wanted


def test_the_body_is_aodhs_and_is_signed_with_the_operators_key(database, partition, sink):
    key = write(database, "x", 60, f"{sink.url}/in")
    with delivering(partition, database, signing_key="k3y"):
        wait_until(lambda: waits(database) == 0)
    [asked] = sink.log
    names = ["alarm_name", "alarm_id", "severity", "previous", "current", "reason", "reason_data"]
    assert sorted(json.loads(asked.body)) == sorted(names)
    wanted = hmac.new(b"k3y", asked.body, hashlib.sha256).hexdigest()
    assert asked.headers["x-hashring-signature"] == f"sha256={wanted}"
    assert asked.headers["idempotency-key"] == f'"{key}"'
    assert asked.headers["x-openstack-request-id"] == f"req-{key}"


def test_what_was_accepted_is_not_sent_again_because_the_answer_is_cut_off(
    database, partition, sink
):
    sink.answer("/in", "accepted, and a long story", cut=True)
    write(database, "x", 60, f"{sink.url}/in")
    with delivering(partition, database) as outbox:
        wait_until(lambda: waits(database) == 0)
        assert outbox.failed == 0
    assert len(sink.log) == 1


def test_what_a_sink_does_not_take_yet_is_sent_again_with_the_same_key(database, partition, sink):
    answers = iter([503, 429, 500, 200])
    sink.answer_with("/in", lambda asked: Answer("wait", next(answers)))
    key = write(database, "x", 60, f"{sink.url}/in")
    with delivering(partition, database):
        wait_until(lambda: waits(database) == 0)
    assert [found for found, _ in told(sink)] == [key] * 4


def test_a_refusal_is_no_reason_to_try_again_and_stands_in_the_history(database, partition, sink):
    alarm = {"name": "x", "type": "prometheus", "rule": {"query": "up", "threshold": 1}}
    sync(database, [alarm_of(alarm)], 0.0)
    sink.answer("/in", "no such hook", status=404)
    write(database, id_of("x"), 60, f"{sink.url}/in?token=s3cret")
    write(database, "y", 60, f"{sink.url}/moved")
    sink.answer("/moved", b"", status=307, headers=(("Location", "/other"),))
    with delivering(partition, database) as outbox:
        wait_until(lambda: waits(database) == 0)
        wait_until(lambda: outbox.given_up == 2)
        assert outbox.delivered == 0
    assert len(sink.log) == 2
    with database.reading() as connection:
        details = list(connection.execute(sa.select(HISTORY.c.type, HISTORY.c.detail)))
    [detail] = [detail for kind, detail in details if kind == "state transition"]
    assert "404" in detail
    assert "s3cret" not in detail


def test_a_notification_that_is_too_old_is_given_up(database, partition):
    write(database, "x", 60, f"http://127.0.0.1:{free_port()}/", created=clock.wall() - 7200)
    with delivering(partition, database):
        wait_until(lambda: waits(database) == 0)
    assert Notifications(database).waiting().given_up == 1


def test_a_sink_that_hangs_holds_up_its_own_alarms_alone(database, partition, sink):
    with SilentServer() as silent:
        for number in range(30):
            write(database, f"hangs {number}", 60, f"http://127.0.0.1:{silent.port}/")
        for number in range(30):
            write(database, f"flows {number}", 60, f"{sink.url}/in")
        with delivering(partition, database, threads=4, action_timeout=2.0) as outbox:
            # Some may come again: a busy machine may see an answer too late.
            wait_until(lambda: len({key for key, _ in told(sink)}) == 30)
            wait_until(lambda: outbox.delivered == 30)
            wait_until(lambda: outbox.failed >= 2)
    assert waits(database) == 30


def test_what_another_member_owns_is_not_delivered(database, sink):
    write(database, "x", 60, f"{sink.url}/in")
    write(database, "y", 60, f"{sink.url}/in")
    with (
        hashring.join("memory://two", "alarms", "a", ttl=30.0) as first,
        hashring.join("memory://two", "alarms", "b", ttl=30.0) as second,
    ):
        assert first.wait_settled(60)
        assert second.wait_settled(60)
        mine = [name for name in ("x", "y") if first.owns(name)]
        with delivering(first, database):
            wait_until(lambda: waits(database) == 2 - len(mine))
    assert sorted(body["alarm_id"] for _, body in told(sink)) == mine


def test_an_alarm_fires_at_alertmanager_and_ends_there(database, partition, sink):
    sink.answer("/api/v2/alerts", b"")
    for window, current in ((60, "alarm"), (120, "ok")):
        write(database, "x", window, f"alertmanager+{sink.url}", current)
    with delivering(partition, database):
        wait_until(lambda: waits(database) == 0)
    fired, resolved = [json.loads(asked.body)[0] for asked in sink.log]
    assert fired["labels"] == {
        **{"alertname": "x", "alarm_id": "x", "severity": "low", "project_id": "p"}
    }
    assert fired["endsAt"] > fired["startsAt"]
    assert resolved["endsAt"] == resolved["startsAt"] == "1970-01-01T00:02:00.000+00:00"


def test_many_notifications_of_a_slow_sink_do_not_hide_those_of_another(
    database, partition, sink, monkeypatch
):
    """Only so many are read at once, the oldest first: all of these are the slow sink's."""
    monkeypatch.setattr("hashring.alarms.database.notifications.MOST", 4)
    monkeypatch.setattr("hashring.alarms.outbox.MOST", 4)
    held = threading.Event()
    with HTTPServer() as slow:

        def answer(asked):
            assert held.wait(60)
            return Answer(b"")

        slow.answer_with("/in", answer)
        for number in range(40):
            write(database, f"slow {number}", 60, f"{slow.url}/in")
        write(database, "x", 120, f"{sink.url}/in")
        with delivering(partition, database, action_timeout=30.0):
            try:
                wait_until(lambda: told(sink))
                assert waits(database) >= 40
            finally:
                held.set()
            wait_until(lambda: waits(database) == 0)
            assert len({key for key, _ in told(slow)}) == len(told(slow)) == 40


def test_a_storm_is_delivered_with_few_looks_into_the_database(
    database, partition, sink, monkeypatch
):
    looks = []
    heads = Notifications.heads

    def counted(self, *arguments):
        looks.append(1)
        return heads(self, *arguments)

    monkeypatch.setattr(Notifications, "heads", counted)
    for number in range(200):
        write(database, f"alarm {number}", 60, f"{sink.url}/in")
    began = time.monotonic()
    with delivering(partition, database):
        wait_until(lambda: waits(database) == 0)
        assert len(told(sink)) == 200
    # Once there was a look for each that was delivered. One is taken each second in any case.
    assert len(looks) < 50 + time.monotonic() - began


def test_a_storm_is_delivered_with_few_calls_of_the_database(
    database, partition, sink, monkeypatch
):
    """Once each of them was looked for and noted by itself: two calls for each."""
    monkeypatch.setattr("hashring.alarms.outbox._BRIEF", 60.0)  # however busy the machine is
    for number in range(200):
        write(database, f"alarm {number}", 60, f"{sink.url}/in")
    calls = []
    sa.event.listen(database._engine, "begin", calls.append)
    with delivering(partition, database) as outbox:
        wait_until(lambda: outbox.delivered == 200)
    assert waits(database) == 0
    keys = [key for key, _ in told(sink)]
    assert len(set(keys)) == len(keys) == 200
    assert len(calls) < 150


def test_what_a_slow_sink_leaves_no_time_for_is_sent_by_the_next_who_has(
    database, partition, sink, monkeypatch
):
    monkeypatch.setattr("hashring.alarms.outbox._BRIEF", 0.0)  # any sink takes longer
    keys = [
        write(database, f"alarm {number}", window, f"{sink.url}/in")
        for window in (60, 120)
        for number in range(20)
    ]
    with delivering(partition, database, threads=4):
        wait_until(lambda: waits(database) == 0)
    arrived = [key for key, _ in told(sink)]
    assert sorted(arrived) == sorted(keys)
    for one in range(20):
        assert arrived.index(keys[one]) < arrived.index(keys[20 + one])


def test_what_is_found_again_while_it_waits_is_sent_once(database, partition, sink, monkeypatch):
    """A look may find what a thread gives back at this moment."""
    heads = Notifications.heads
    monkeypatch.setattr(Notifications, "heads", lambda *asked: [*heads(*asked), *heads(*asked)])
    keys = [write(database, f"alarm {number}", 60, f"{sink.url}/in") for number in range(5)]
    with delivering(partition, database, threads=4):
        wait_until(lambda: waits(database) == 0)
    assert sorted(key for key, _ in told(sink)) == sorted(keys)


def test_of_those_that_are_sent_together_a_refusal_and_a_failure_cost_themselves_alone(
    database, partition, sink
):
    answers = {"refused": [404], "fails once": [500, 200]}

    def answer(asked):
        found = answers.get(json.loads(asked.body)["alarm_id"])
        return Answer(b"", found.pop(0) if found else 200)

    sink.answer_with("/in", answer)
    names = ["a", "refused", "b", "fails once", "c"]
    for name in names:
        write(database, name, 60, f"{sink.url}/in")
    with delivering(partition, database, threads=4) as outbox:
        wait_until(lambda: waits(database) == 0)
        assert (outbox.delivered, outbox.failed, outbox.given_up) == (4, 1, 1)
    arrived = [body["alarm_id"] for _, body in told(sink)]
    assert sorted(arrived) == sorted([*names, "fails once"])


def test_a_sink_that_says_our_own_secret_back_does_not_have_it_shown(
    database, partition, sink, caplog
):
    sink.answer("/in", "no such user ann:t0ps3cret", status=404)
    write(database, "x", 60, f"{sink.url}/in".replace("//", "//ann:t0ps3cret@"))
    with delivering(partition, database) as outbox:
        wait_until(lambda: outbox.given_up)
        wait_until(lambda: waits(database) == 0)
    [problem] = Notifications(database).problems()
    assert "no such user" in problem
    assert "t0ps3cret" not in problem + caplog.text
