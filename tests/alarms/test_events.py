"""Event alarms: each event once for each alarm, in order, whoever posts twice and whoever dies."""

from __future__ import annotations

import contextlib
import json
import urllib.error
import urllib.request

import pytest
import sqlalchemy as sa

import hashring
from hashring.alarms.actions.catalogue import Catalogue
from hashring.alarms.database.definitions import id_of, sync
from hashring.alarms.database.engine import Database, default_url
from hashring.alarms.database.evaluations import Outcome, utc
from hashring.alarms.database.events import Events, Fired
from hashring.alarms.database.notifications import Notifications
from hashring.alarms.database.tables import ALARM, EVENT, HISTORY, NOTE
from hashring.alarms.errors import BadAlarm, BadEvents
from hashring.alarms.event import events_of, hits
from hashring.alarms.events import EventAlarms
from hashring.alarms.intake import Intake
from hashring.alarms.model import EventRule, alarm_of
from hashring.alarms.outbox import Outbox
from hashring.alarms.settings import Settings
from tests.alarms.fleet import evaluators, told
from tests.servers.process import wait_until

NOW = 1_700_000_000.0


def event(number=0, kind="compute.instance.end", *traits, **more):
    return {
        "message_id": f"m-{number}",
        "event_type": kind,
        "generated": "2026-11-30T08:00:00",
        "traits": [list(trait) for trait in traits],
        **more,
    }


def condition(field, op, value, kind="string"):
    return {"field": field, "op": op, "value": value, "type": kind}


def on(kind="*", *query, **more):
    return {"type": "event", "rule": {"event_type": kind, "query": list(query)}, **more}


def define(database, *alarms):
    sync(database, [alarm_of(one) for one in alarms], NOW)


def keep(database, *events, now=NOW):
    return Events(database).keep(events_of(list(events)), now)


def state(database, name):
    with database.reading() as connection:
        return connection.execute(
            sa.select(ALARM.c.state).where(ALARM.c.alarm_id == id_of(name))
        ).scalar()


def number_of(database, table):
    with database.reading() as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(table)).scalar()


@pytest.fixture
def partition():
    with hashring.join("memory://", "alarms", "a", ttl=30.0) as found:
        assert found.wait_settled(60)
        yield found


@contextlib.contextmanager
def evaluating(partition, database):
    settings = Settings(database="", backend_url="", member="a")
    actions = Catalogue(settings)
    with (
        contextlib.closing(actions),
        Outbox(partition, database, actions, settings) as outbox,
        EventAlarms(partition, database, outbox, settings) as found,
    ):
        yield found


# ---- whether an event hits


@pytest.mark.parametrize(
    ("query", "traits"),
    [
        (condition("traits.host", "eq", "web1"), [("host", 1, "web1")]),
        (condition("traits.host", "ne", "web2"), [("host", 1, "web1")]),
        (condition("traits.host", "ne", "web2"), []),
        (condition("traits.size", "gt", "9", "integer"), [("size", 2, "10")]),
        (condition("traits.size", "le", "1.5", "float"), [("size", 3, 1.5)]),
        (condition("traits.size", "eq", "10"), [("size", 1, 10)]),
        (
            condition("traits.at", "ge", "2026-11-30T09:00:00+01:00", "datetime"),
            [("at", 4, "2026-11-30T08:00:00")],
        ),
        (condition("event_type", "eq", "compute.instance.end"), []),
        (condition("raw.depth.value", "lt", 5, "integer"), []),
    ],
)
def test_an_event_hits_by_its_traits_and_fields(query, traits):
    [found] = events_of(event(0, "compute.instance.end", *traits, raw={"depth": {"value": 4}}))
    assert hits(EventRule(event_type="compute.*", query=[query]), found)


@pytest.mark.parametrize(
    "rule",
    [
        {"event_type": "network.*"},
        {"query": [condition("traits.size", "gt", "90", "integer")]},
        {"query": [condition("traits.size", "gt", "a text", "string")]},  # a number and a text
        {"query": [condition("traits.none", "eq", "x")]},
        {"query": [condition("traits.none", "lt", "5", "integer")]},
        {"query": [condition("raw.depth.none.more", "eq", "x")]},
        {"query": [condition("traits.size", "eq", "10", "integer"), condition("raw", "eq", "x")]},
    ],
)
def test_an_event_does_not_hit_what_it_lacks_or_what_cannot_be_compared(rule):
    [found] = events_of(event(0, "compute.instance.end", ("size", 2, "10"), raw={"depth": {}}))
    assert not hits(EventRule(**rule), found)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"event_typ": "x"}, r"rule\.event_typ: unknown field \(did you mean 'event_type'"),
        ({"query": [{"field": "traits.x"}]}, r"rule\.query\.0\.value: is missing"),
        ({"query": [condition("traits.x", "like", "y")]}, r"rule\.query\.0\.op: "),
        ({"query": [condition("traits x", "eq", "y")]}, r"rule\.query\.0\.field: "),
    ],
)
def test_a_wrong_rule_is_refused_with_the_fields_name(rule, words):
    with pytest.raises(BadAlarm, match=words):
        alarm_of({"name": "a", "type": "event", "rule": rule})


def test_an_event_is_no_part_of_a_composite_rule():
    rule = {"and": [{"type": "event", "event_type": "*"}]}
    with pytest.raises(BadAlarm, match="'event' is not evaluated here"):
        alarm_of({"name": "a", "type": "composite", "rule": rule})


@pytest.mark.parametrize(
    "value",
    [
        7,
        {"event_type": "x"},
        {"message_id": "", "event_type": "x"},
        {"message_id": "1", "event_type": "x" * 256},
        event(0) | {"traits": [["name", "value"]]},
        event(0) | {"traits": {}},
        event(0) | {"raw": "x" * 60_000},  # MySQL's columns of text end before
    ],
)
def test_what_is_no_event_is_refused_with_its_number(value):
    with pytest.raises(BadEvents, match="event 2"):
        events_of([event(1), value])


# ---- once


def test_an_event_that_comes_again_is_kept_and_fires_once(partition, database, sink):
    url = f"{sink.url}/in"
    define(database, {"name": "x", "repeat_actions": True, "alarm_actions": [url], **on("a.*")})
    assert keep(database, event(1, "a.b"), event(2, "a.b"), event(1, "a.b")) == 2
    with evaluating(partition, database) as alarms:
        wait_until(lambda: alarms.fired == 2 and number_of(database, NOTE) == 0)
        assert keep(database, event(1, "a.b"), now=NOW + 1) == 0
        assert keep(database, event(3, "a.c"), now=NOW + 2) == 1
        wait_until(lambda: len(told(sink)) == 3)
        wait_until(lambda: Notifications(database).waiting().pending == 0)
    ids = [body["reason_data"]["event"]["message_id"] for _, body in told(sink)]
    assert ids == ["m-1", "m-2", "m-3"]
    assert len({key for key, _ in told(sink)}) == 3
    body = told(sink)[0][1]
    assert (body["previous"], body["current"]) == ("insufficient data", "alarm")
    assert body["reason"] == "Event <id=m-1,event_type=a.b> hits the query <query=[]>."
    assert number_of(database, EVENT) == 3


def test_an_error_that_no_code_foresaw_keeps_no_other_alarm_waiting(
    partition, database, monkeypatch, caplog
):
    define(database, {"name": "bad", **on("a.b*")}, {"name": "good", **on("a.*")})

    def faulty(rule, found):
        if rule.event_type == "a.b*":
            raise ZeroDivisionError("a fault of ours")
        return hits(rule, found)

    monkeypatch.setattr("hashring.alarms.events.hits", faulty)
    keep(database, event(1, "a.b"), event(2, "a.b"))
    with evaluating(partition, database):
        wait_until(lambda: state(database, "good") == "alarm" and number_of(database, NOTE) == 0)
    assert state(database, "bad") == "insufficient data"
    assert f"alarm {id_of('bad')} does not see an event" in caplog.text


@pytest.mark.parametrize("rule", ["[1]", '{"event_type": "a'])
def test_a_wrong_alarm_in_the_database_keeps_no_event_from_the_others(partition, database, rule):
    define(database, {"name": "bad", **on("a.*")}, {"name": "good", **on("a.*")})
    with database.writing() as connection:
        connection.execute(
            sa.text("UPDATE alarm SET rule = :rule WHERE alarm_id = :bad"),
            {"rule": rule, "bad": id_of("bad")},
        )
    assert keep(database, event(1, "a.b")) == 1
    with evaluating(partition, database):
        wait_until(lambda: state(database, "good") == "alarm")
    assert state(database, "bad") == "insufficient data"


def test_without_repeated_actions_an_alarm_fires_until_somebody_resets_it(
    partition, database, sink
):
    define(database, {"name": "x", "alarm_actions": [f"{sink.url}/in"], **on()})
    keep(database, event(1), event(2))
    with evaluating(partition, database) as alarms:
        wait_until(lambda: number_of(database, NOTE) == 0)
        assert (alarms.fired, state(database, "x")) == (1, "alarm")
        with database.writing() as connection:
            connection.execute(ALARM.update().values(state="ok"))
        keep(database, event(3), now=NOW + 1)
        wait_until(lambda: alarms.fired == 2)
        wait_until(lambda: len(told(sink)) == 2)


def test_an_alarm_sees_events_of_its_project_alone_and_one_of_a_file_all(database):
    define(database, {"name": "file", **on()}, {"name": "theirs", **on()})
    with database.writing() as connection:
        connection.execute(
            ALARM.update().where(ALARM.c.alarm_id == id_of("theirs")).values(project_id="p1")
        )
    keep(database, event(1, "x", ("project_id", 1, "p1")), event(2, "x", ("tenant_id", 1, "p2")))
    keep(database, event(3), now=NOW + 1)
    noted = [(one.alarm_id, one.event.message_id) for one in Events(database).noted()]
    assert sorted(noted) == sorted(
        [*((id_of("file"), f"m-{n}") for n in (1, 2, 3)), (id_of("theirs"), "m-1")]
    )


def test_a_rule_that_its_user_changes_meanwhile_is_evaluated_as_it_is_now(
    partition, database, monkeypatch
):
    define(database, {"name": "x", **on("a.*")})
    keep(database, event(1, "a.b"))
    fire = Events.fire

    def overtaken(self, fired, now):
        changed = {"rule": {"event_type": "b.*", "query": []}, "timestamp": utc(NOW + 9)}
        with database.writing() as connection:
            connection.execute(ALARM.update().values(**changed))
        return fire(self, fired, now)

    monkeypatch.setattr(Events, "fire", overtaken)
    with evaluating(partition, database) as alarms:
        wait_until(lambda: number_of(database, NOTE) == 0)
        assert alarms.fired == 0
    assert state(database, "x") == "insufficient data"
    with database.reading() as connection:
        assert connection.execute(sa.select(ALARM.c.rule)).scalar()["event_type"] == "b.*"


def test_a_second_evaluation_of_one_event_writes_nothing(database):
    define(database, {"name": "x", "repeat_actions": True, **on()})
    keep(database, event(1))
    events = Events(database)
    [noted] = events.noted()
    definition, before = events.states([noted.alarm_id])[noted.alarm_id]
    fired = Fired(noted, definition, before, "because", True, [])
    assert events.fire(fired, NOW) is Outcome.DONE
    assert events.fire(fired._replace(before="alarm"), NOW) is Outcome.REPEATED
    assert number_of(database, HISTORY) == 2  # its creation, its change


def test_what_is_disabled_deleted_or_wrong_meanwhile_costs_nobody_else(
    partition, database, sink, caplog
):
    names = ("off", "gone", "wrong", "good")
    define(database, *({"name": n, "alarm_actions": [f"{sink.url}/in"], **on()} for n in names))
    keep(database, event(1))
    with database.writing() as connection:
        for name, values in (("off", {"enabled": False}), ("wrong", {"rule": {"query": 3}})):
            connection.execute(
                ALARM.update().where(ALARM.c.alarm_id == id_of(name)).values(**values)
            )
        connection.execute(HISTORY.delete().where(HISTORY.c.alarm_id == id_of("gone")))
        connection.execute(ALARM.delete().where(ALARM.c.alarm_id == id_of("gone")))
    with evaluating(partition, database):
        wait_until(lambda: number_of(database, NOTE) == 0 and told(sink))
    assert [body["alarm_name"] for _, body in told(sink)] == ["good"]
    assert f"alarm {id_of('wrong')} is not evaluated: rule.query" in caplog.text


def test_notes_of_others_alarms_do_not_hide_ones_own(database, monkeypatch):
    """Pages of notes, none of which is this member's, are passed over."""
    define(database, *({"name": f"{n}", **on()} for n in range(30)))
    keep(database, *(event(n) for n in range(3)))
    pages = Events.noted
    monkeypatch.setattr(Events, "noted", lambda self, after=(-1, ""): pages(self, after, 4))
    with hashring.join("memory://", "alarms-pages", "a", ttl=30.0) as one:
        assert one.wait_settled(60)
        mine = id_of("17")
        monkeypatch.setattr(one, "owns", lambda key: key == mine)
        with evaluating(one, database) as alarms:
            wait_until(lambda: alarms.evaluated >= 1)


def test_old_events_are_dropped_once_nobody_needs_them(database):
    define(database, {"name": "x", **on("a.*")})
    keep(database, event(1, "a.b"), event(2, "b.c"))
    events = Events(database)
    events.tidy(NOW + 100)
    assert number_of(database, EVENT) == 1  # it is noted for an alarm
    events.drop(events.noted())
    events.tidy(NOW - 100)
    assert number_of(database, EVENT) == 1
    events.tidy(NOW + 100)
    assert number_of(database, EVENT) == 0


# ---- over HTTP


def post(intake, body):
    request = urllib.request.Request(
        f"http://127.0.0.1:{intake.port}/v1/events", json.dumps(body).encode(), method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_posted_events_are_kept_once_and_wrong_ones_refused_with_a_reason(database):
    with Intake("127.0.0.1:0", database) as intake:
        assert post(intake, [event(1), event(2)]) == (200, "2 events, 2 new\n")
        assert post(intake, event(2)) == (200, "1 events, 0 new\n")
        code, text = post(intake, [event(3), {"message_id": "m-4"}])
        assert (code, text.startswith("event 2: event_type must be")) == (400, True)
    assert number_of(database, EVENT) == 2


def test_each_event_is_told_once_in_order_while_an_evaluator_is_killed(tmp_path, sink):
    alarms, numbers = 6, 12
    with evaluators(tmp_path, "--interval", "60", "--ttl", "3") as fleet:
        fleet.write(
            [
                {
                    **{"name": f"alarm {n}", "repeat_actions": True},
                    **on("t.*", condition("traits.of", "eq", str(n), "integer")),
                    "alarm_actions": [f"{sink.url}/in"],
                }
                for n in range(alarms)
            ]
        )
        for name in "ab":
            fleet.start(name)
        fleet.settle("a", "b")
        database = Database(default_url(tmp_path / "state"))
        wait_until(lambda: number_of(database, ALARM) == alarms, what="the files are read")
        with Intake("127.0.0.1:0", database) as intake:
            for number in range(numbers):
                batch = [event(f"{number}-{n}", "t.x", ("of", 2, n)) for n in range(alarms)]
                assert post(intake, batch)[0] == 200
                assert post(intake, batch[:3]) == (200, "3 events, 0 new\n")
                if number == numbers // 2:
                    fleet.kill("a")
        outbox = Notifications(database)
        wait_until(
            lambda: number_of(database, NOTE) == 0 and outbox.waiting().pending == 0,
            within=120,
            what="that all are told",
        )
        fleet.stop("b")
        database.close()
    arrived = {}
    for key, body in told(sink):
        assert arrived.setdefault(key, body) == body
    for n in range(alarms):
        of_one = [
            body["reason_data"]["event"]["message_id"]
            for body in arrived.values()
            if body["alarm_name"] == f"alarm {n}"
        ]
        assert of_one == [f"m-{number}-{n}" for number in range(numbers)]
