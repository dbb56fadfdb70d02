"""Rules on a real Gnocchi: made through the API as through Aodh's, evaluated, told."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import urllib.request
from datetime import UTC, datetime

import pytest

from hashring import clock
from hashring.alarms.actions.catalogue import Catalogue
from hashring.alarms.api.application import Application
from hashring.alarms.api.asked_rules import Asked
from hashring.alarms.api.gnocchi_rules import GnocchiRules
from hashring.alarms.api.serving import Serving
from hashring.alarms.api.settings import APISettings
from hashring.alarms.model import RULES
from hashring.alarms.settings import Settings
from hashring.alarms.sources.gnocchi import Gnocchi, GnocchiSource, Place
from tests.alarms.fleet import evaluators, told
from tests.alarms.test_aodh_clients import answers, check_that_both_print_the_same, opened
from tests.servers import openstack
from tests.servers.aodh import HEADERS, AodhAPI
from tests.servers.gnocchi import GnocchiServer
from tests.servers.postgresql import PostgreSQLServer
from tests.servers.process import wait_until

RESOURCE = "5a301761-aaaa-46e2-8900-8b4f6fe6675a"
OF_RESOURCE = f"/v1/resource/generic/{RESOURCE}/metric/cpu/measures"
SEARCH = '{"=": {"project_id": "p1"}}'
COMMON = {
    **{"comparison_operator": "gt", "threshold": 5, "aggregation_method": "mean"},
    **{"evaluation_periods": 2, "granularity": 60},
}

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def gnocchi():
    with PostgreSQLServer() as database, GnocchiServer(database) as server:
        definition = [{"granularity": 60, "points": 1000}]
        policy = {
            "name": "minute",
            "definition": definition,
            "aggregation_methods": ["mean", "max"],
        }
        server.ask("POST", "/v1/archive_policy", policy)
        yield server


def moment(seconds):
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat()


@pytest.fixture(scope="module")
def metric(gnocchi):
    """The id of a metric of the resource, which a project p1 has."""
    policy = {"cpu": {"archive_policy_name": "minute"}}
    resource = {"id": RESOURCE, "project_id": "p1", "metrics": policy}
    return gnocchi.ask("POST", "/v1/resource/generic", resource)["metrics"]["cpu"]


def measured(gnocchi, *measures):
    """Post measures, pairs of seconds and values, and have them aggregated, as metricd does."""
    found = [{"timestamp": moment(when), "value": value} for when, value in measures]
    gnocchi.ask("POST", OF_RESOURCE, found)
    gnocchi.ask("GET", f"{OF_RESOURCE}?refresh=true")


def rules(metric):
    """The fields of a rule of each type."""
    one = {"metric": "cpu", "resource_id": RESOURCE, "resource_type": "generic"}
    search = {"metric": "cpu", "resource_type": "generic", "query": SEARCH}
    return {
        "gnocchi_resources_threshold": COMMON | one,
        "gnocchi_aggregation_by_metrics_threshold": COMMON | {"metrics": [metric]},
        "gnocchi_aggregation_by_resources_threshold": COMMON | search,
    }


def test_the_newest_complete_granules_are_what_a_rule_gets(gnocchi, metric):
    then = math.floor(clock.wall() / 60) * 60 - 86_400  # a day before the other tests' measures
    after = ((-160, 1), (-100, 6), (-90, 8), (-40, 9), (1, 99))
    measured(gnocchi, *((then + seconds, value) for seconds, value in after))
    source = GnocchiSource(Place(gnocchi.url), 2)

    def ask(kind, **change):
        rule = RULES[kind].model_validate(rules(metric)[kind] | change)
        return source.values(rule, then + 30.0, clock.boottime() + 60)

    with contextlib.closing(source):
        for kind in rules(metric):
            assert ask(kind) == [7.0, 9.0], kind
        assert ask("gnocchi_resources_threshold", metric="none") == []
        assert ask("gnocchi_resources_threshold", resource_id="nobody") == []


@contextlib.contextmanager
def served(gnocchi, database):
    """Serve our API on a database; give its URL."""
    actions = Catalogue(Settings(database="", backend_url="", member="m"))
    checks = GnocchiRules(Gnocchi(Place(gnocchi.url), 2), lambda deadline: None, 60.0)
    application = Application(database, APISettings(auth_mode="noauth"), actions, Asked(checks))
    serving = Serving(application, "127.0.0.1:0", 2)
    with contextlib.closing(actions), contextlib.closing(checks), serving:
        yield f"http://127.0.0.1:{serving.port}"


def commands(metric):
    """Who asks, and what: each type of rules made, changed, read and removed."""
    common = [*("--aggregation-method", "mean", "--threshold", "5", "-f", "json")]
    create = ["alarm", "create", *common, "--comparison-operator", "gt"]
    of_one = [*("--metric", "cpu", "--resource-type", "generic", "--resource-id", RESOURCE)]
    search = [*("--metric", "cpu", "--resource-type", "generic", "--query", SEARCH)]
    leaf = {"type": "gnocchi_resources_threshold", "metric": "cpu", "resource_id": RESOURCE}
    leaf |= {"resource_type": "generic", "aggregation_method": "mean", "threshold": 5}
    kinds = [f"gnocchi_{one}_threshold" for one in ("resources", "aggregation_by_metrics")]
    by_search = "gnocchi_aggregation_by_resources_threshold"
    return [
        ["u1", *create, "-t", kinds[0], "--name", "a", *of_one, "--granularity", "300"],
        ["u1", *create, "-t", kinds[1], "--name", "b", "--metric", metric, "--metric", metric],
        ["u1", *create, "-t", by_search, "--name", "c", *search],
        ["admin", *create, "-t", by_search, "--name", "d", *search, "--evaluation-periods", "3"],
        ["u1", *create, "-t", kinds[0], "--name", "e", *of_one, "--aggregation-method", "bogus"],
        ["u1", *create, "-t", kinds[0], "--name", "e", *of_one, "--granularity", "0"],
        ["u1", *create, "-t", by_search, "--name", "e", "--metric", "cpu"],
        [
            *("u1", "alarm", "create", "-t", "composite", "--name", "f", "-f", "json"),
            *("--composite-rule", json.dumps({"or": [leaf, {"and": [leaf]}]})),
        ],
        *(["u1", "alarm", "show", f"{{{name}}}", "-f", "json"] for name in "abcf"),
        ["admin", "alarm", "show", "{d}", "-f", "json"],
        ["u1", "alarm", "list", "--sort", "name:asc", "-f", "json"],
        ["u1", "alarm", "list", "--filter", f"type={kinds[1]}", "-f", "json"],
        ["u1", "alarm", "update", "{a}", "--threshold", "9", "--granularity", "60", "-f", "json"],
        ["u1", "alarm", "update", "{b}", "--evaluation-periods", "2", "-f", "json"],
        ["admin", "alarm", "update", "{d}", "--aggregation-method", "max", "-f", "json"],
        ["u1", "alarm", "update", "{a}", "--aggregation-method", "bogus"],
        *(["u1", "alarm-history", "show", f"{{{name}}}", "-f", "json"] for name in "ab"),
        *(["u1", "alarm", "delete", f"{{{name}}}"] for name in "abcf"),
        ["admin", "alarm", "delete", "{d}"],
        ["u1", "alarm", "list", "-f", "value"],
    ]


def test_aodhs_client_prints_the_same_of_both_servers_for_rules_on_gnocchi(
    gnocchi, metric, tmp_path
):
    place = f"http://{gnocchi.address}"
    credentials = (
        f"[service_credentials]\nauth_type = gnocchi-basic\nuser = admin\nendpoint = {place}\n"
    )
    with AodhAPI(configuration=credentials) as theirs:
        shutil.copy(theirs.as_made, tmp_path / "ours.db")
        database = opened(f"sqlite:///{tmp_path}/ours.db")
        asked = commands(metric)
        python = openstack.python_with_services()
        with contextlib.closing(database), served(gnocchi, database) as ours:
            found = answers(python, asked, theirs, ours, tmp_path)
    failed = check_that_both_print_the_same(asked, found)
    assert len(failed) == 4, failed


def posted(url, alarm):
    headers = HEADERS | {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{url}/v2/alarms", json.dumps(alarm).encode(), headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.status == 201


def test_alarms_that_are_made_through_the_api_are_evaluated_and_told(
    gnocchi, metric, database, sink, tmp_path
):
    now = math.floor(clock.wall() / 60) * 60
    # For an hour to come, so that each window sees them however slow the machine is.
    measured(gnocchi, *((now + 60 * minute, 9) for minute in range(-5, 60)))
    (tmp_path / "aodh.conf").write_text(
        f"[database]\nconnection = sqlite:///{database.file}\n"
        f"[evaluator]\nevaluation_interval = 1\n[alarm]\ngnocchi_url = {gnocchi.url}\n"
    )
    with served(gnocchi, database) as url:
        for kind, rule in rules(metric).items():
            alarm = {"name": kind, "type": kind, f"{kind}_rule": rule}
            posted(url, alarm | {"alarm_actions": [f"{sink.url}/in"]})
    with evaluators(tmp_path, "--config-file", str(tmp_path / "aodh.conf")) as running:
        running.start("one")
        wait_until(lambda: len(told(sink)) == 3, within=120, what="three notifications")
        running.stop("one")
    names = {(body["alarm_name"], body["current"]) for _, body in told(sink)}
    assert names == {(kind, "alarm") for kind in rules(metric)}
