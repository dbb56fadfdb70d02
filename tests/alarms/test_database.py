"""The transaction of an alarm and a window: all or nothing, once, over no change of a user's."""

from __future__ import annotations

import json
import threading

import pytest
import sqlalchemy as sa

from hashring.alarms.database import migrations
from hashring.alarms.database.definitions import Synced, id_of, sync
from hashring.alarms.database.engine import Database, default_url
from hashring.alarms.database.evaluations import Evaluations, Outcome, Step, utc
from hashring.alarms.database.notifications import Intention, Notifications, key_of
from hashring.alarms.database.tables import ALARM, HISTORY, OUTBOX, SIDE
from hashring.alarms.errors import DatabaseUnusable
from hashring.alarms.model import State, alarm_of
from hashring.errors import MissingDependency

NOW = 1_700_000_000.0
RULE = {"query": "up", "comparison_operator": "lt", "threshold": 1}


def an_alarm(name="down", **fields):
    return alarm_of({"name": name, "type": "prometheus", "rule": RULE, **fields})


@pytest.fixture
def either(empty):
    """The database on SQLite, on PostgreSQL, and on MariaDB."""
    found = Database(empty)
    migrations.migrate(found)
    yield found
    found.close()


def rows(database, table):
    with database.reading() as connection:
        return [row._mapping for row in connection.execute(sa.select(table))]


def step_to(evaluations, state, window, *, alarm="down", past=("a",)):
    """A step of the alarm as it stands now, which tells one sink."""
    alarm_id = id_of(alarm)
    [standing] = evaluations.standing(alarm_id)
    [definition] = evaluations.definitions([alarm_id])
    key = key_of(alarm_id, window, "http://s/in")
    intention = Intention(key, "http://s", "http://s/in", {"sent": {"current": state}})
    return Step(standing, window, past, 0, state, "because", [intention], definition)


@pytest.fixture
def evaluations(either):
    sync(either, [an_alarm()], NOW)
    return Evaluations(either, 120.0)


def test_state_history_and_the_intention_to_notify_are_one_commit(either, evaluations):
    assert evaluations.change(step_to(evaluations, State.ALARM, NOW), NOW) is Outcome.DONE
    [alarm] = rows(either, ALARM)
    assert (alarm["state"], alarm["state_reason"]) == ("alarm", "because")
    kinds = sorted(row["type"] for row in rows(either, HISTORY))  # MariaDB has them by their ids
    assert kinds == ["creation", "state transition"]
    [outgoing] = Notifications(either).heads([], NOW)
    assert outgoing.body == {"sent": {"current": "alarm"}}
    [standing] = evaluations.standing()
    assert (standing.state, standing.past) == ("alarm", ("a",))


def test_where_the_intention_cannot_be_written_nothing_is(either, evaluations):
    step = step_to(evaluations, State.ALARM, NOW)
    with either.writing() as connection:  # its key is taken
        connection.execute(
            OUTBOX.insert(),
            {
                **{"key": step.intentions[0].key, "alarm_id": "x", "window_start": 0, "sink": "x"},
                **{"action": "x", "body": {}, "created": 0, "attempts": 0, "next_try": 0},
                "gave_up": False,
            },
        )
    with pytest.raises(sa.exc.IntegrityError):
        evaluations.change(step, NOW)
    assert rows(either, ALARM)[0]["state"] == "insufficient data"
    assert len(rows(either, HISTORY)) == 1
    assert evaluations.standing()[0].window_start == 0


def test_a_window_that_was_evaluated_is_not_evaluated_again_nor_is_an_older_one(
    either, evaluations
):
    late = step_to(evaluations, State.OK, NOW - 60)
    same = step_to(evaluations, State.OK, NOW)
    assert evaluations.change(step_to(evaluations, State.ALARM, NOW), NOW) is Outcome.DONE
    assert evaluations.change(same, NOW) is Outcome.REPEATED
    assert evaluations.change(late, NOW) is Outcome.REPEATED
    evaluations.keep([late], NOW)
    assert rows(either, ALARM)[0]["state"] == "alarm"
    assert evaluations.standing()[0].window_start == NOW * 1_000_000
    assert len(Notifications(either).heads([], NOW)) == 1


def test_a_window_far_ahead_of_now_was_a_wrong_clocks_and_holds_up_nothing(either, evaluations):
    assert evaluations.change(step_to(evaluations, State.ALARM, NOW + 9000), NOW) is Outcome.DONE
    assert evaluations.change(step_to(evaluations, State.OK, NOW), NOW) is Outcome.DONE


@pytest.mark.parametrize(
    "change",
    [
        {"rule": {**RULE, "threshold": 99}, "timestamp": utc(NOW + 1)},
        {"state": "ok"},
        {"enabled": False},
    ],
)
def test_what_a_user_changes_meanwhile_is_never_undone(either, evaluations, change):
    step = step_to(evaluations, State.ALARM, NOW)
    with either.writing() as connection:
        connection.execute(ALARM.update().values(**change))
    assert evaluations.change(step, NOW) is Outcome.CHANGED
    [alarm] = rows(either, ALARM)
    assert {name: alarm[name] for name in change} == change
    assert alarm["state"] != "alarm"
    assert Notifications(either).heads([], NOW) == []
    assert rows(either, SIDE)[0]["window_start"] == 0


def test_of_several_who_commit_one_window_at_once_one_does(either, evaluations):
    steps = [step_to(evaluations, State.ALARM, NOW) for _ in range(6)]
    outcomes = []
    start = threading.Barrier(len(steps))

    def commit(step):
        start.wait()
        outcomes.append(evaluations.change(step, NOW))

    threads = [threading.Thread(target=commit, args=(step,)) for step in steps]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcome.name for outcome in outcomes) == ["DONE"] + ["REPEATED"] * 5
    assert len(rows(either, HISTORY)) == 2


def test_what_was_counted_belongs_to_the_definition_that_it_was_counted_for(either, evaluations):
    evaluations.keep([step_to(evaluations, State.ALARM, NOW)], NOW)
    assert evaluations.standing()[0].past == ("a",)
    sync(either, [an_alarm(rule={**RULE, "threshold": 2})], NOW + 1)
    assert evaluations.standing()[0].past == ()


def test_an_ok_is_not_handed_out_before_the_alarm_that_it_follows(either, evaluations):
    for number, state in enumerate((State.ALARM, State.OK)):
        step = step_to(evaluations, state, NOW + 60 * number)
        assert evaluations.change(step, NOW + 60 * number) is Outcome.DONE
    outbox = Notifications(either)
    [first] = outbox.heads([], NOW + 60)
    assert first.body["sent"]["current"] == "alarm"
    outbox.failed(first.key, "no answer", NOW + 90)
    assert outbox.heads([], NOW + 60) == []
    [again] = outbox.heads([], NOW + 90)
    assert (again.key, again.attempts) == (first.key, 1)
    assert outbox.heads(["http://s"], NOW + 90) == []
    outbox.delivered([first.key], NOW + 91)
    [second] = outbox.heads([], NOW + 91)
    assert second.body["sent"]["current"] == "ok"
    outbox.given_up(second, "refused", NOW + 92)
    assert outbox.waiting() == (0, 1, 1)
    # Of a type that Aodh's server knows: it would refuse to show a history with another one.
    told = [row["detail"] for row in rows(either, HISTORY) if row["type"] == "state transition"]
    assert any("Not told to http://s/" in json.loads(one)["transition_reason"] for one in told)


def test_alarms_of_files_come_change_and_go_with_them_and_others_stay(either):
    with either.writing() as connection:
        connection.execute(ALARM.insert(), {"alarm_id": "by api", "enabled": True, "type": "x"})
    assert sync(either, [an_alarm("a"), an_alarm("b")], NOW) == Synced(2, 0, 0)
    before = {row["alarm_id"]: row["timestamp"] for row in rows(either, ALARM)}
    assert sync(either, [an_alarm("a"), an_alarm("b")], NOW + 9) == Synced(0, 0, 0)
    assert sync(either, [an_alarm("b", severity="critical")], NOW + 9) == Synced(0, 1, 1)
    after = {row["alarm_id"]: row["timestamp"] for row in rows(either, ALARM)}
    assert after == {"by api": None, id_of("b"): utc(NOW + 9)}
    assert before[id_of("b")] == utc(NOW)


def test_the_tables_can_be_made_twice_and_are_those_that_the_code_knows(either):
    migrations.migrate(either)
    assert migrations.problem(either) is None
    with either.reading() as connection:
        found = sa.inspect(connection)
        for table in migrations.tables.metadata.tables.values():
            columns = {column["name"] for column in found.get_columns(table.name)}
            assert columns == {column.name for column in table.columns}


def test_a_database_without_tables_says_what_to_do(tmp_path):
    database = Database(default_url(tmp_path))
    try:
        assert "hashring alarm migrate" in migrations.problem(database)
        with pytest.raises(DatabaseUnusable, match="hashring alarm migrate"):
            Evaluations(database, 1.0).standing()
    finally:
        database.close()


@pytest.mark.parametrize(
    "change",
    ["ALTER TABLE alarm DROP COLUMN evaluate_timestamp", "DROP TABLE alarm_counter"],
)
def test_the_tables_of_an_older_aodh_are_left_alone(tmp_path, change):
    database = Database(default_url(tmp_path))
    try:
        with database.writing() as connection:
            migrations.tables.metadata.create_all(connection, tables=migrations.tables.THEIRS)
            connection.exec_driver_sql(change)
        assert migrations.problem(database) is not None
        with pytest.raises(DatabaseUnusable, match=r"before release 23: run its aodh-dbsync"):
            migrations.migrate(database)
        with database.reading() as connection:
            assert "hashring_alarm" not in sa.inspect(connection).get_table_names()
    finally:
        database.close()


def test_a_database_that_a_newer_release_has_changed_is_left_alone(either):
    with either.writing() as connection:
        connection.exec_driver_sql("UPDATE hashring_alembic SET version_num = '9999'")
    assert "newer hashring" in migrations.problem(either)
    with pytest.raises(DatabaseUnusable, match="newer hashring"):
        migrations.migrate(either)


@pytest.mark.parametrize(
    ("url", "error", "words"),
    [
        ("nonsense", DatabaseUnusable, "not a URL"),
        ("oracle9://u:s3cret@h/x", DatabaseUnusable, "no database of this scheme"),
        ("sqlite://", DatabaseUnusable, "need a file"),
        ("mysql+oursql://u:s3cret@h/x", DatabaseUnusable, "no database of this scheme"),
        ("postgresql+pg8001://u:s3cret@h/x", DatabaseUnusable, "no database of this scheme"),
        ("postgresql+psycopg2://u:s3cret@h/x", MissingDependency, "psycopg2"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_its_password(url, error, words):
    with pytest.raises(error, match=words) as caught:
        Database(url)
    assert "s3cret" not in str(caught.value)


def test_thousands_of_alarms_of_files_are_written_with_few_statements(database):
    """The one transaction holds up the evaluators: it took seven milliseconds for each alarm."""
    rule = {"query": "up", "threshold": 1}
    alarms = [alarm_of({"name": f"{n}", "type": "prometheus", "rule": rule}) for n in range(400)]
    statements = []

    def count(*arguments):
        statements.append(arguments[2])

    sa.event.listen(database._engine, "before_cursor_execute", count)
    assert sync(database, alarms, 0.0).made == 400
    assert sync(database, [], 0.0).removed == 400
    assert len(statements) < 40
