"""Alarms on Gnocchi by the API: what it asks Gnocchi, what a tenant's search may see."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

import pytest

from hashring.alarms.api.asked_rules import Asked
from hashring.alarms.api.gnocchi_rules import GnocchiRules
from hashring.alarms.sources.gnocchi import Gnocchi, Place
from tests.alarms.test_api import ADMIN, API
from tests.alarms.test_gnocchi import KINDS, SEARCH
from tests.servers.http import Answer, HTTPServer

METHODS = ["mean", "rate:mean"]
OF_P1 = {"=": {"created_by_project_id": "p1"}}
ASKED = {"=": {"host": "a"}}


def an_alarm(kind, **change):
    return {"name": "g", "type": kind, f"{kind}_rule": {**KINDS[kind], **change}}


@pytest.fixture
def gnocchi():
    with HTTPServer() as server:
        server.answer("/v1/capabilities", {"aggregation_methods": METHODS})
        server.answer("/v1/aggregates", {"measures": {"aggregated": []}})
        yield server


@pytest.fixture
def owner():
    """Who makes resources in Gnocchi for others: a list, of which the last one counts."""
    return [None]


@pytest.fixture
def api(database, gnocchi, owner):
    place = Place(gnocchi.url.replace("//", "//admin:s3cret@"))
    rules = GnocchiRules(Gnocchi(place, 2), lambda deadline: owner[-1], 20.0)
    found = API(database, Asked(rules))
    yield found
    found.actions.close()
    rules.close()


def searches(gnocchi):
    asked = [one for one in gnocchi.log if urlsplit(one.path).path == "/v1/aggregates"]
    return [json.loads(one.body)["search"] for one in asked]


@pytest.mark.parametrize("kind", KINDS)
def test_an_alarm_on_gnocchi_is_made_changed_and_read(api, kind):
    status, made = api.ask("POST", "/v2/alarms", an_alarm(kind), ADMIN)
    assert status == 201, made
    rule = made[f"{kind}_rule"]
    assert rule == {**KINDS[kind], "granularity": 60, "evaluation_periods": 1}
    path = f"/v2/alarms/{made['alarm_id']}"
    changed = made | {f"{kind}_rule": rule | {"threshold": 7.0, "granularity": 300}}
    status, found = api.ask("PUT", path, changed, ADMIN)
    assert (status, found[f"{kind}_rule"]) == (200, changed[f"{kind}_rule"])
    assert api.ask("GET", path, who=ADMIN) == (200, found)


@pytest.mark.parametrize("kind", KINDS)
def test_a_method_that_gnocchi_does_not_know_is_refused(api, kind):
    alarm = an_alarm(kind, aggregation_method="bogus")
    status, why = api.refused("POST", "/v2/alarms", alarm)
    assert (status, why) == (400, f"aggregation_method should be in {METHODS} not bogus")


def test_a_tenants_search_is_narrowed_once_however_often_it_is_written_back(api, gnocchi, owner):
    kind = "gnocchi_aggregation_by_resources_threshold"
    field = f"{kind}_rule"
    status, made = api.ask("POST", "/v2/alarms", an_alarm(kind))
    assert status == 201, made
    narrowed = {"and": [OF_P1, ASKED]}
    assert json.loads(made[field]["query"]) == narrowed
    path = f"/v2/alarms/{made['alarm_id']}"
    made[field]["threshold"] = 9.0
    _, made = api.ask("PUT", path, made)
    assert json.loads(made[field]["query"]) == narrowed
    assert searches(gnocchi) == [narrowed, narrowed]
    made[field]["query"] = json.dumps(ASKED)  # as its user wrote it
    _, made = api.ask("PUT", path, made)
    assert json.loads(made[field]["query"]) == narrowed


def test_what_a_service_has_made_for_a_project_is_seen_by_it(api, owner):
    owner.append("of-ceilometer")
    kind = "gnocchi_aggregation_by_resources_threshold"
    _, made = api.ask("POST", "/v2/alarms", an_alarm(kind))
    theirs = [{"=": {"created_by_project_id": "of-ceilometer"}}, {"=": {"project_id": "p1"}}]
    seen = {"or": [OF_P1, {"and": theirs}]}
    assert json.loads(made[f"{kind}_rule"]["query"]) == {"and": [seen, ASKED]}


def test_a_search_in_a_composite_rule_is_narrowed_too_and_its_method_checked(api, gnocchi):
    leaf = {"type": "gnocchi_aggregation_by_resources_threshold", **SEARCH}
    rule = {"or": [{"and": [leaf]}, {"type": "prometheus", "query": "up", "threshold": 1}]}
    alarm = {"name": "c", "type": "composite", "composite_rule": rule}
    status, made = api.ask("POST", "/v2/alarms", alarm)
    assert status == 201, made
    found = made["composite_rule"]["or"][0]["and"][0]
    assert json.loads(found["query"]) == {"and": [OF_P1, ASKED]}
    leaf["aggregation_method"] = "bogus"
    status, why = api.refused("POST", "/v2/alarms", alarm)
    assert (status, why) == (400, f"aggregation_method should be in {METHODS} not bogus")


def test_a_search_that_gnocchi_refuses_is_refused_with_its_reason(api, gnocchi):
    kind = "gnocchi_aggregation_by_resources_threshold"
    gnocchi.answer_with(
        "/v1/aggregates", lambda asked: Answer("Invalid operator\nadmin:s3cret", 400)
    )
    status, why = api.refused("POST", "/v2/alarms", an_alarm(kind), who=ADMIN)
    assert status == 400
    assert "attribute query." in why
    assert "Gnocchi refuses it: Invalid operator" in why
    assert "s3cret" not in why
    status, why = api.refused("POST", "/v2/alarms", an_alarm(kind, query="[1]"))
    assert status == 400
    assert "query. Value: '[1]'. must be a search" in why


@pytest.mark.parametrize("status", [404, 400])
def test_a_metric_that_is_not_there_yet_can_have_an_alarm(api, gnocchi, status):
    said = {"cause": "Metrics not found", "detail": ["cpu"]}
    gnocchi.answer("/v1/aggregates", said, status=status)
    kind = "gnocchi_aggregation_by_resources_threshold"
    assert api.ask("POST", "/v2/alarms", an_alarm(kind))[0] == 201


@pytest.mark.parametrize("status", [500, 403])
def test_while_gnocchi_is_away_no_rule_is_made_and_what_is_there_can_be_switched_off(
    api, gnocchi, status
):
    kind = "gnocchi_aggregation_by_resources_threshold"
    _, made = api.ask("POST", "/v2/alarms", an_alarm(kind))
    gnocchi.answer("/v1/aggregates", "s3cret out of order", status=status)
    found, why = api.refused("POST", "/v2/alarms", an_alarm(kind))
    assert found == 503
    assert "admin:***@127.0.0.1" in why
    assert "s3cret" not in why
    path = f"/v2/alarms/{made['alarm_id']}"
    found, changed = api.ask("PUT", path, made | {"enabled": False})
    assert (found, changed["enabled"]) == (200, False)


def test_a_change_asks_gnocchi_once_and_not_while_it_holds_the_row(api, gnocchi, database):
    kind = "gnocchi_aggregation_by_resources_threshold"
    _, made = api.ask("POST", "/v2/alarms", an_alarm(kind))
    path = f"/v2/alarms/{made['alarm_id']}"
    written = []

    def answer(asked):
        with database.writing() as connection:  # waits, and fails, while another one writes
            connection.exec_driver_sql("DELETE FROM quota")
        written.append(asked)
        return Answer({"measures": {"aggregated": []}})

    gnocchi.answer_with("/v1/aggregates", answer)
    made[f"{kind}_rule"]["threshold"] = 9.0
    assert api.ask("PUT", path, made)[0] == 200
    assert len(written) == 1


def test_another_projects_alarm_is_not_found_before_gnocchi_is_asked(api, gnocchi):
    kind = "gnocchi_aggregation_by_resources_threshold"
    _, made = api.ask("POST", "/v2/alarms", an_alarm(kind), ADMIN)
    asked = len(gnocchi.log)
    path = f"/v2/alarms/{made['alarm_id']}"
    status, _ = api.refused("PUT", path, made)
    assert (status, len(gnocchi.log)) == (404, asked)


@pytest.mark.parametrize("kind", [*KINDS, "composite"])
def test_without_a_gnocchi_a_rule_on_it_is_refused_with_the_option(database, kind):
    found = API(database)
    alarm = an_alarm("gnocchi_resources_threshold")
    if kind == "composite":
        leaf = {"type": "gnocchi_resources_threshold", **KINDS["gnocchi_resources_threshold"]}
        alarm = {"name": "c", "type": kind, "composite_rule": {"or": [leaf]}}
    status, why = found.refused("POST", "/v2/alarms", alarm)
    assert status == 400
    assert "set [alarm] gnocchi_url or [service_credentials]" in why
    found.actions.close()
