"""Aodh's API on our server: alarms, states, histories; who may do what; what is refused."""

from __future__ import annotations

import base64
import json

import bcrypt
import pytest
import sqlalchemy as sa
from werkzeug.test import Client

from hashring import clock
from hashring.alarms.actions.catalogue import Catalogue
from hashring.alarms.api.application import Application
from hashring.alarms.api.settings import APISettings
from hashring.alarms.database.definitions import id_of, sync
from hashring.alarms.database.evaluations import Evaluations, Outcome, Step
from hashring.alarms.database.stored import Stored
from hashring.alarms.errors import DatabaseUnavailable
from hashring.alarms.model import State, alarm_of
from hashring.alarms.settings import Settings

MEMBER = {"X-User-Id": "u1", "X-Project-Id": "p1", "X-Roles": "member,reader"}
READER = {"X-User-Id": "u2", "X-Project-Id": "p1", "X-Roles": "reader"}
OTHER = {"X-User-Id": "u3", "X-Project-Id": "p2", "X-Roles": "member,reader"}
ADMIN = {"X-User-Id": "root", "X-Project-Id": "ops", "X-Roles": "admin"}

RULE = {"query": "up", "comparison_operator": "lt", "threshold": 1.0}
ALARM = {"name": "down", "type": "prometheus", "prometheus_rule": RULE}


class API:
    """A client of an application on a database."""

    def __init__(self, database, asked=None, **settings):
        self.actions = Catalogue(Settings(database="", backend_url="", member="m"))
        found = APISettings(**{"auth_mode": "noauth"} | settings)
        self._client = Client(Application(database, found, self.actions, asked))

    def ask(self, method, path, body=None, who=MEMBER, **more):
        answer = self._client.open(path, method=method, json=body, headers=who, **more)
        return answer.status_code, answer.get_json(silent=True)

    def made(self, who=MEMBER, **fields):
        status, alarm = self.ask("POST", "/v2/alarms", ALARM | fields, who)
        assert status == 201, alarm
        return alarm

    def refused(self, *request, **more):
        status, body = self.ask(*request, **more)
        return status, body["error_message"]["faultstring"]


@pytest.fixture
def api(database):
    found = API(database)
    yield found
    found.actions.close()


def test_an_alarm_is_made_shown_listed_changed_and_removed(api):
    made = api.made(severity="critical", ok_actions=["http://x/y", "http://x/y"])
    path = f"/v2/alarms/{made['alarm_id']}"
    assert (made["state"], made["state_reason"]) == ("insufficient data", "Not evaluated yet")
    assert (made["project_id"], made["user_id"], made["ok_actions"]) == ("p1", "u1", ["http://x/y"])
    assert made["prometheus_rule"] == RULE
    assert made["description"] == "prometheus alarm rule"
    assert api.ask("GET", path) == (200, made)
    assert api.ask("GET", "/v2/alarms") == (200, [made])
    status, changed = api.ask("PUT", path, made | {"enabled": False, "description": "d"})
    assert (status, changed["enabled"], changed["description"]) == (200, False, "d")
    assert api.ask("GET", path) == (200, changed)
    assert api.ask("DELETE", path) == (204, None)
    assert api.refused("GET", path) == (404, f"Alarm {made['alarm_id']} not found")


def test_a_state_that_is_set_by_hand_stands_in_the_history_with_all_other_changes(api):
    alarm = api.made()
    path = f"/v2/alarms/{alarm['alarm_id']}"
    assert api.ask("PUT", f"{path}/state", "alarm") == (200, "alarm")
    assert api.ask("GET", f"{path}/state") == (200, "alarm")
    assert api.refused("PUT", f"{path}/state", "bad") == (400, "state invalid")
    api.ask("PUT", path, ALARM | {"prometheus_rule": RULE | {"threshold": 2}})
    _, history = api.ask("GET", f"{path}/history")
    assert [one["type"] for one in history] == ["rule change", "state transition", "creation"]
    assert json.loads(history[1]["detail"]) == {
        "state": "alarm",
        "state_reason": "Manually set via API",
    }
    assert list(json.loads(history[0]["detail"])) == ["rule"]
    newest = history[0]
    assert (newest["user_id"], newest["project_id"], newest["on_behalf_of"]) == ("u1", "p1", "p1")
    _, first = api.ask("GET", f"{path}/history?limit=1&sort=timestamp:asc")
    assert first == history[2:]
    _, rest = api.ask("GET", f"{path}/history?marker={newest['event_id']}")
    assert rest == history[1:]
    _, some = api.ask("GET", f"{path}/history?q.field=type&q.value=creation")
    assert some == history[2:]


def test_a_client_that_writes_back_what_it_has_read_does_not_undo_what_an_evaluator_found(
    api, database
):
    read = api.made()
    evaluations = Evaluations(database, 120.0)
    evaluations.begin()
    [standing] = evaluations.standing()
    [definition] = evaluations.definitions([read["alarm_id"]])
    now = clock.wall()
    step = Step(standing, now, ("",), 0, State.ALARM, "too low", (), definition)
    assert evaluations.change(step, now) is Outcome.DONE
    path = f"/v2/alarms/{read['alarm_id']}"
    _, changed = api.ask("PUT", path, read | {"description": "new"})
    assert (changed["description"], changed["state"]) == ("new", "alarm")
    assert changed["state_reason"] == "too low"
    # What the evaluator has read before the change is not written over it.
    again = Step(standing, now + 60, ("",), 0, State.OK, "high again", (), definition)
    assert evaluations.change(again, now + 60) is Outcome.CHANGED
    # Whoever has read the state may set it.
    _, changed = api.ask("PUT", path, changed | {"state": "ok"})
    assert (changed["state"], changed["state_reason"]) == ("ok", "Manually set via API")


def test_what_is_secret_in_an_action_is_shown_nowhere_and_kept_by_who_writes_it_back(api, database):
    secret = "http://u:s3cret@x/y?token=t0ken"
    alarm = api.made(alarm_actions=[secret, "http://u:0ther@x/y?token=t0ken"])
    path = f"/v2/alarms/{alarm['alarm_id']}"
    assert alarm["alarm_actions"] == ["http://u:***@x/y?token=***"] * 2
    api.ask("PUT", path, alarm | {"description": "new"})
    [definition] = Evaluations(database, 1.0).definitions([alarm["alarm_id"]])
    assert definition.fields["alarm_actions"] == [secret, "http://u:0ther@x/y?token=t0ken"]
    _, history = api.ask("GET", f"{path}/history")
    assert "s3cret" not in json.dumps(history)
    status, why = api.refused("POST", "/v2/alarms", ALARM | {"ok_actions": ["http://u:***@new/"]})
    assert (status, "give the whole URL" in why) == (400, True)


def test_a_row_that_was_cut_off_costs_no_list_and_shows_no_secret(api, database):
    api.made(name="good")
    bad = api.made(name="bad", ok_actions=["https://app:s3cret@hooks.example/in"])
    with database.writing() as connection:
        connection.execute(
            sa.text(
                "UPDATE alarm SET rule = substr(rule, 1, 9), ok_actions = substr(ok_actions, 1, 30)"
                " WHERE alarm_id = :id"
            ),
            {"id": bad["alarm_id"]},
        )
    status, found = api.ask("GET", "/v2/alarms?sort=name:asc")
    assert (status, [one["name"] for one in found]) == (200, ["bad", "good"])
    assert found[0]["ok_actions"] == ["***"]
    assert "s3cret" not in str(found)
    assert api.ask("DELETE", f"/v2/alarms/{bad['alarm_id']}")[0] == 204


def test_who_is_not_an_owner_sees_nothing_and_a_reader_changes_nothing(api):
    alarm = api.made()
    path = f"/v2/alarms/{alarm['alarm_id']}"
    for method, at, body in (
        ("GET", path, None),
        ("PUT", path, ALARM),
        ("DELETE", path, None),
        ("GET", f"{path}/state", None),
        ("PUT", f"{path}/state", "ok"),
        ("GET", f"{path}/history", None),
    ):
        assert api.refused(method, at, body, who=OTHER)[0] == 404
        expected = 200 if method == "GET" else 403
        assert api.ask(method, at, body, who=READER)[0] == expected
    assert api.ask("GET", "/v2/alarms", who=OTHER) == (200, [])
    everything = "/v2/alarms?q.field=all_projects&q.op=eq&q.value=true"
    assert api.refused("GET", everything) == (403, "RBAC Authorization Failed")
    assert api.ask("GET", everything, who=ADMIN) == (200, [alarm])
    assert api.ask("GET", "/v2/alarms", who=ADMIN) == (200, [])
    named = "/v2/alarms?q.field=project_id&q.op=eq&q.value=p1"
    assert api.refused("GET", named, who=OTHER) == (401, "Not Authorized to access project p1")
    assert api.refused("POST", "/v2/alarms", ALARM | {"project_id": "p2"})[0] == 401
    assert api.made(who=ADMIN, project_id="p2", user_id="u3")["project_id"] == "p2"
    nobody = {"X-User-Id": "u", "X-Project-Id": "p1", "X-Roles": ""}
    assert api.refused("GET", "/v2/alarms", who=nobody)[0] == 403


def test_the_query_of_a_tenant_is_narrowed_to_its_project_and_the_rule_does_not_show_it(
    api, database
):
    both = {"and": [RULE | {"type": "prometheus"}, {"or": [RULE | {"type": "prometheus"}]}]}
    alarm = api.made(type="composite", prometheus_rule=None, composite_rule=both)
    assert alarm["composite_rule"] == both
    [definition] = Evaluations(database, 1.0).definitions([alarm["alarm_id"]])
    parsed = alarm_of(definition.fields).parsed()
    assert [leaf.rule.scope_to_project for leaf in parsed.leaves()] == ["p1", "p1"]
    status, why = api.refused(
        "POST", "/v2/alarms", ALARM | {"prometheus_rule": RULE | {"query": "up{"}}
    )
    assert (status, "attribute query" in why, "narrowed" in why) == (400, True, True)
    mine = api.made(who=ADMIN)
    [definition] = Evaluations(database, 1.0).definitions([mine["alarm_id"]])
    assert definition.fields["rule"]["scope_to_project"] is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": None}, "name. Value: 'None'. Mandatory field missing."),
        ({"name": 5}, "name. Value: '5'. must be a text"),
        ({"name": "a\0"}, "may have neither NUL"),
        ({"description": "\ud800"}, "half of a character"),
        ({"user_id": "u" * 129}, "user_id. Value: 'u"),
        ({"type": "nope"}, "type. Value: 'nope'. Value should be one of: prometheus"),
        ({"type": "event"}, "event_rule must be set for event type alarm"),
        ({"bogus": 1}, "Unknown attribute for argument data: bogus"),
        ({"enabled": "x"}, "enabled. Value: 'x'"),
        ({"severity": "x"}, "severity. Value: 'x'. Value should be one of: low"),
        ({"state": "x"}, "state. Value: 'x'. Value should be one of: ok"),
        ({"ok_actions": ["nope://x"]}, "Unsupported action 'nope://x'"),
        ({"ok_actions": ["log://"]}, "You are not authorized to create action: log://"),
        ({"ok_actions": ["http://[x"]}, "Unable to parse action"),
        ({"ok_actions": 5}, "ok_actions. Value: '5'"),
        ({"prometheus_rule": {"threshold": 1}}, "query. Value: 'None'. Mandatory field missing."),
        ({"prometheus_rule": RULE | {"threshold": "x"}}, "threshold. Value: 'x'"),
        (
            {"prometheus_rule": RULE | {"comparison_operator": "z"}},
            "comparison_operator. Value: 'z'",
        ),
        ({"prometheus_rule": RULE | {"bogus": 1}}, "argument data.prometheus_rule: bogus"),
        ({"event_rule": {"event_type": "x"}}, "cannot be set at the same time"),
        ({"time_constraints": [{"name": "a"}]}, "start. Value: 'None'. Mandatory field missing."),
        (
            {"time_constraints": [{"name": "a", "start": "x", "duration": 1}]},
            "time_constraints.0.start. must be a time as cron writes it",
        ),
        (
            {"time_constraints": [{"name": "a", "start": "0 0 30 2 *", "duration": 1}]},
            "time_constraints.0.start. there is no such time in any year",
        ),
        ({"time_constraints": [{"name": "a", "start": "0 1 * * *", "duration": -1}]}, "duration"),
        (
            {"type": "loadbalancer_member_health"},
            "type. Value: 'loadbalancer_member_health'. No alarm of it can be made here.",
        ),
    ],
)
def test_what_is_wrong_with_an_alarm_is_said_by_the_name_of_its_field(api, change, words):
    status, why = api.refused("POST", "/v2/alarms", ALARM | change)
    assert status in (400, 401)
    assert words in why
    assert api.ask("GET", "/v2/alarms") == (200, [])


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"xor": []}, 'Threshold rules should be combined with "and" or "or"'),
        ({"and": {}}, "Invalid input composite rule"),
        ({"and": [{"query": "a", "threshold": 1}]}, "type must be set in every rule"),
        (
            {"and": [{"type": "event", "threshold": 1}]},
            "Unsupported sub-rule type :event in composite rule",
        ),
        ({"and": []}, "must be a list of rules"),
    ],
)
def test_what_is_wrong_with_a_composite_rule_is_said(api, rule, words):
    fields = {"type": "composite", "prometheus_rule": None, "composite_rule": rule}
    status, why = api.refused("POST", "/v2/alarms", ALARM | fields)
    assert (status, words in why) == (400, True), why


def test_what_is_no_request_for_us_is_answered_as_one(api):
    assert api.refused("POST", "/v2/alarms", data=b"{bad", content_type="application/json") == (
        *(400, "Request is not in valid JSON format"),
    )
    assert api.refused("POST", "/v2/alarms") == (400, 'Missing argument: "data"')
    assert api.refused("POST", "/v2/alarms", [1])[0] == 400
    assert api.refused("POST", "/v2/alarms", data=b" " * 2**21)[0] == 413
    assert api.ask("GET", "/v2/nope")[0] == 404
    assert api.ask("PATCH", "/v2/alarms")[0] == 405
    status, found = api.ask("GET", "/")
    assert (status, found["versions"]["values"][0]["id"]) == (200, "v2")
    assert api.ask("GET", "/healthcheck") == (200, {"detailed": False, "reasons": []})
    assert api.ask("GET", "/v2/capabilities/")[1]["api"]["alarms:query:complex"] is True
    assert api.refused("GET", "/v2/metrics") == (403, "metrics endpoint is disabled")
    assert api.ask("POST", "/v1/samples", [])[0] == 200


def test_an_alarm_of_a_file_is_changed_in_its_file(api, database):
    sync(database, [alarm_of({"name": "f", "type": "prometheus", "rule": RULE})], 0.0)
    path = f"/v2/alarms/{id_of('f')}"
    for method, body in (("PUT", ALARM), ("DELETE", None)):
        status, why = api.refused(method, path, body, who=ADMIN)
        assert (status, "comes from a file" in why) == (409, True)
    assert api.ask("PUT", f"{path}/state", "ok", who=ADMIN) == (200, "ok")
    status, found = api.ask("GET", "/v2/alarms", who={})  # an administrator of this host
    assert [alarm["name"] for alarm in found] == ["f"]


def test_quotas_are_set_shown_obeyed_and_removed(database):
    api = API(database, project_quota=2)
    quota = {"project_id": "p1", "quotas": [{"resource": "alarms", "limit": 1}]}
    default = {"project_id": "p1", "quotas": [{"resource": "alarms", "limit": 2}]}
    assert api.ask("GET", "/v2/quotas") == (200, default)
    assert api.refused("POST", "/v2/quotas", quota)[0] == 403
    assert api.ask("POST", "/v2/quotas", quota, who=ADMIN) == (201, quota)
    assert api.ask("GET", "/v2/quotas") == (200, quota)
    api.made()
    exceeded = "Alarm quota exceeded for user u1 on project p1"
    assert api.refused("POST", "/v2/alarms", ALARM) == (403, exceeded)
    wrong = {"project_id": "p1", "quotas": [{"resource": "alarms", "limit": -2}]}
    assert api.refused("POST", "/v2/quotas", wrong, who=ADMIN)[0] == 400
    assert api.ask("DELETE", "/v2/quotas?project_id=p1", who=ADMIN)[0] == 204
    api.made()
    assert api.refused("POST", "/v2/alarms", ALARM) == (403, exceeded)
    api.ask("POST", "/v2/quotas", wrong | {"quotas": [{"resource": "alarms", "limit": -1}]}, ADMIN)
    api.made()  # -1: any number
    api.actions.close()


def test_with_passwords_each_user_has_a_project_of_their_own(database, tmp_path):
    def line(name, password):
        return f"{name}:{bcrypt.hashpw(password, bcrypt.gensalt(4)).decode()}\n"

    path = tmp_path / "passwords"
    path.write_text(line("ann", b"a:b") + line("root", b"r"))
    api = API(database, auth_mode="basic", password_file=path, admins=frozenset({"root"}))

    def who(name, password):
        coded = base64.b64encode(f"{name}:{password}".encode()).decode()
        return {"Authorization": f"Basic {coded}", "X-Roles": "admin", "X-Project-Id": "ann"}

    for wrong in ({}, who("ann", "x"), who("bob", "a:b"), {"Authorization": "Basic %%%"}):
        assert api.refused("GET", "/v2/alarms", who=wrong)[0] == 401
    alarm = api.made(who=who("ann", "a:b"))
    assert (alarm["user_id"], alarm["project_id"]) == ("ann", "ann")
    everything = "/v2/alarms?q.field=all_projects&q.op=eq&q.value=true"
    assert api.refused("GET", everything, who=who("ann", "a:b"))[0] == 403
    assert api.ask("GET", everything, who=who("root", "r")) == (200, [alarm])
    assert api.ask("POST", "/v1/samples", [])[0] == 404  # nobody could say who they are
    path.write_text(line("root", b"r"))
    assert api.refused("GET", "/v2/alarms", who=who("ann", "a:b"))[0] == 401
    api.actions.close()


def test_while_the_database_is_away_aodhs_client_can_show_what_is_said(api, monkeypatch):
    def away(self, *asked):
        raise DatabaseUnavailable("away")

    monkeypatch.setattr(Stored, "alarms", away)
    answer = api._client.get("/v2/alarms", headers=MEMBER)
    assert answer.status_code == 503
    assert "The database is away" in answer.get_json()["error_message"]["faultstring"]
    assert "Retry-After" not in answer.headers  # the client fails on it
