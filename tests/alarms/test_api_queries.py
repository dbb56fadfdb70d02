"""Simple and complex queries, sorted and in pages, on SQLite and PostgreSQL."""

from __future__ import annotations

import json
from urllib.parse import urlencode

import pytest

from hashring.alarms.database import migrations
from hashring.alarms.database.engine import Database
from tests.alarms.test_api import ADMIN, API, MEMBER, OTHER, RULE
from tests.servers.postgresql import PostgreSQLServer

SEVERITIES = ("low", "critical", "moderate", "low")


@pytest.fixture(scope="module")
def postgresql():
    with PostgreSQLServer() as server:
        found = Database(server.url)
        migrations.migrate(found)
        yield found
        found.close()


@pytest.fixture(scope="module")
def on_sqlite(tmp_path_factory, made):
    path = tmp_path_factory.mktemp("queries") / "alarms.db"
    path.write_bytes(made)
    found = Database(f"sqlite:///{path}")
    yield found
    found.close()


@pytest.fixture(scope="module", params=["on_sqlite", "postgresql"])
def api(request):
    """Alarms ``0`` to ``3`` of one project, and one of another."""
    found = API(request.getfixturevalue(request.param))
    for number, severity in enumerate(SEVERITIES):
        found.made(name=f"{number}", severity=severity, enabled=number != 3, description="a.b")
    found.made(who=OTHER, name="theirs")
    yield found
    found.actions.close()


def simple(api, *queries, who=MEMBER, **more):
    asked = [
        (f"q.{name}", value)
        for query in queries
        for name, value in zip(("field", "op", "value"), query, strict=True)
    ]
    return api.ask("GET", f"/v2/alarms?{urlencode([*asked, *more.items()])}", who=who)


def names(answer):
    status, found = answer
    assert status == 200, found
    return "".join(alarm["name"] for alarm in found)


@pytest.mark.parametrize(
    ("queries", "wanted"),
    [
        ([("name", "eq", "1")], "1"),
        ([("severity", "eq", "low"), ("enabled", "eq", "true")], "0"),
        ([("enabled", "eq", "False")], "3"),
        ([("state", "eq", "ok")], ""),
        ([("project_id", "eq", "p1"), ("type", "eq", "prometheus")], "3210"),
    ],
)
def test_a_simple_query_finds_what_is_equal_the_newest_first(api, queries, wanted):
    assert names(simple(api, *queries)) == wanted


def test_a_list_is_sorted_by_what_a_severity_means_and_cut_into_pages(api):
    whole = names(simple(api, sort="severity:desc"))  # of the two low ones, either comes first
    assert whole in ("1203", "1230")
    assert names(simple(api, sort="enabled:asc", limit=1)) == "3"
    seen, marker = "", {}
    while True:
        status, page = simple(api, sort="severity:desc", limit=1, **marker)
        assert status == 200
        if not page:
            break
        seen += page[0]["name"]
        marker = {"marker": page[0]["alarm_id"]}
    assert seen == whole


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"sort": "bogus"}, "the supported sort keys are: ('alarm_id'"),
        ({"sort": "name:up"}, "sort dir"),
        ({"limit": "-1"}, "it should be a positive integer."),
        ({"limit": "x"}, "unable to convert to int."),
        ({"marker": "nope"}, "marker. Value: 'nope'"),
        ({"bogus": "1"}, 'Unknown argument: "bogus"'),
        ({"q.field": "name"}, "each q.field needs a q.value"),
        ({"q.field": "bogus", "q.value": "1"}, "only fields {'all_projects'"),
        ({"q.field": "name", "q.op": "ne", "q.value": "1"}, "only operations {'eq'} are allowed"),
        ({"q.field": "enabled", "q.value": "x"}, "enabled. Value: 'x'. must be true or false"),
        ({"q.field": "timestamp", "q.value": "x"}, "timestamp. Value: 'x'. must be a time"),
        ({"q.field": "name", "q.value": "x", "q.type": "integer"}, "Unable to convert the value x"),
        ({"q.field": "name", "q.value": "x", "q.type": "odd"}, "The data type odd is not support"),
    ],
)
def test_what_is_wrong_with_a_simple_query_is_said(api, more, words):
    status, why = api.refused("GET", f"/v2/alarms?{urlencode(more)}")
    assert (status, words in why) == (400, True), why


def complex_query(api, expression, who=MEMBER, of="alarms", **more):
    body = {"filter": json.dumps(expression)} | {
        name: json.dumps(one) if name == "orderby" else one for name, one in more.items()
    }
    return api.ask("POST", f"/v2/query/{of}", body, who=who)


@pytest.mark.parametrize(
    ("expression", "wanted"),
    [
        ({"=": {"name": "1"}}, "1"),
        ({"=": {"name": 1.0}}, "1"),
        ({"!=": {"severity": "low"}}, "21"),
        ({"in": {"name": ["0", "2", "x"]}}, "20"),
        ({"AND": [{">=": {"name": "1"}}, {"<": {"name": "3"}}]}, "21"),
        ({"or": [{"=": {"name": "0"}}, {"not": {"=": {"enabled": True}}}]}, "30"),
        ({"=~": {"name": "^[12]$"}}, "21"),
        ({"=~": {"rule": '"query": "up"'}}, "3210"),
        ({"=": {"enabled": "True"}}, "210"),
        ({">": {"timestamp": "2020-01-01T00:00:00+02:00"}}, "3210"),
        ({"<=": {"state_timestamp": "2020-01-01"}}, ""),
        ({"=": {"project": "p1"}}, "3210"),
        ({"=": {"user": "u1"}}, "3210"),
    ],
)
def test_a_complex_query_finds_what_it_asks_for_of_ones_own(api, expression, wanted):
    assert names(complex_query(api, expression)) == wanted


def test_a_complex_query_has_an_order_and_a_limit(api):
    order = [{"severity": "DESC"}, {"name": "asc"}]
    assert names(complex_query(api, {"=": {"user": "u1"}}, orderby=order)) == "1203"
    assert names(complex_query(api, {"=": {"user": "u1"}}, orderby=order, limit=2)) == "12"
    status, found = api.ask("POST", "/v2/query/alarms", {}, who=ADMIN)
    assert (status, len(found)) == (200, 5)


def test_nobody_finds_what_is_another_projects(api):
    everything = {"or": [{"=~": {"name": ""}}, {"!=": {"name": ""}}]}
    assert names(complex_query(api, everything)) == "3210"
    assert names(complex_query(api, {"not": everything})) == ""
    for expression in ({"=": {"project": "p2"}}, {"not": {"in": {"project_id": ["p1", "p2"]}}}):
        status, body = complex_query(api, expression)
        assert status == 401
        assert "Not Authorized to access project p2" in body["error_message"]["faultstring"]
    status, found = complex_query(api, {"=": {"type": "creation"}}, of="alarms/history")
    assert status == 200
    assert {one["on_behalf_of"] for one in found} == {"p1"}
    assert len(found) == 4


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"filter": "{bad"}, "Filter expression not valid: "),
        ({"filter": "{}"}, "must have one operator"),
        ({"filter": '{"zz": {"name": "1"}}'}, "'zz' is no operator; there are: ="),
        ({"filter": '{"=": {"nope": "1"}}'}, "'nope' is no field; there are: "),
        ({"filter": '{"=": {"name": null}}'}, "must be a text, a number or a boolean"),
        ({"filter": '{"and": [{"=": {"name": "1"}}]}'}, "a list of two or more"),
        ({"filter": '{"in": {"name": []}}'}, "in needs a list of values"),
        ({"filter": '{"=~": {"name": "("}}'}, "must be a regular expression"),
        ({"filter": '{"=~": {"enabled": "t"}}'}, "a boolean has no pattern"),
        ({"filter": '{">": {"timestamp": "zz"}}'}, "Failed to parse the timestamp value zz"),
        ({"filter": '{"not": ' * 30 + "1" + "}" * 30}, "it has more than 20 levels"),
        ({"orderby": '[{"name": "up"}]'}, "'up' must be asc or desc"),
        ({"orderby": '[{"nme": "asc"}]'}, "'nme' is no field"),
        ({"limit": 0}, "Limit should be positive"),
        ({"bogus": 1}, "Unknown attribute for argument body: bogus"),
    ],
)
def test_what_is_wrong_with_a_complex_query_is_said(api, body, words):
    status, why = api.refused("POST", "/v2/query/alarms", body)
    assert (status, words in why) == (400, True), why


def test_a_rule_is_shown_as_it_was_given(api):
    _, found = complex_query(api, {"=": {"name": "0"}})
    assert found[0]["prometheus_rule"] == RULE
