"""Aodh's and OpenStack's own clients on our server and on Aodh's; and both servers on one database.

The servers run on tables that aodh-dbsync made, which ours then opens.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import sqlalchemy as sa

from hashring import clock
from hashring.alarms.actions.catalogue import Catalogue
from hashring.alarms.api.application import Application
from hashring.alarms.api.serving import Serving
from hashring.alarms.api.settings import APISettings
from hashring.alarms.database import migrations
from hashring.alarms.database.engine import Database
from hashring.alarms.database.evaluations import Evaluations, Outcome, Step
from hashring.alarms.database.notifications import Notifications, Outgoing
from hashring.alarms.model import State
from hashring.alarms.settings import Settings
from tests.alarms.fleet import evaluators, told, vector
from tests.alarms.test_api import API
from tests.servers import openstack
from tests.servers.aodh import HEADERS, AodhAPI
from tests.servers.http import HTTPServer
from tests.servers.process import wait_until

pytestmark = pytest.mark.long  # pip installs services first

A_RULE = ["--query", "up", "--threshold", "1", "--comparison-operator", "lt"]
OFFICE = "name=office;start=0 8 * * 1-5;duration=36000;timezone=Europe/Berlin"

# Who asks, and what: each line is run against both servers.
COMMANDS = [
    ["u1", "alarm", "create", "-t", "prometheus", "--name", "a", *A_RULE, "-f", "json"],
    [
        *("u1", "alarm", "create", "-t", "prometheus", "--name", "b", *A_RULE, "-f", "json"),
        *("--severity", "critical", "--enabled", "False", "--description", "words"),
        *("--ok-action", "http://x/ok", "--alarm-action", "http://x/alarm"),
        *("--repeat-actions", "True", "--time-constraint", OFFICE),
    ],
    [
        *("u1", "alarm", "create", "-t", "event", "--name", "e", "--event-type", "compute.*"),
        *("--query", "traits.state=string::error;traits.size>integer::5", "-f", "json"),
    ],
    [
        *("u1", "alarm", "create", "-t", "composite", "--name", "c", "-f", "json"),
        *("--composite-rule", '{"or": [{"threshold": 1, "query": "up"}]}'),
    ],
    ["u2", "alarm", "create", "-t", "prometheus", "--name", "theirs", *A_RULE, "-f", "json"],
    ["u1", "alarm", "show", "{a}", "-f", "json"],
    ["u1", "alarm", "show", "b", "-f", "json"],
    ["u1", "alarm", "show", "--name", "e", "-f", "json"],
    ["u1", "alarm", "show", "nobody"],
    ["u1", "alarm", "show", "{theirs}"],
    ["u1", "alarm", "list", "--sort", "name:asc", "-f", "json"],
    ["u1", "alarm", "list", "--sort", "bogus"],
    ["u1", "alarm", "list", "--filter", "enabled=True", "--sort", "name:desc", "-f", "json"],
    ["u1", "alarm", "list", "--filter", "name=a", "--filter", "severity=low", "-f", "json"],
    ["u1", "alarm", "list", "--sort", "name:asc", "--limit", "1", "-f", "json"],
    ["u1", "alarm", "list", "--sort", "name:asc", "--marker", "{a}", "-f", "json"],
    ["u1", "alarm", "list", "--filter", "all_projects=true"],
    ["admin", "alarm", "list", "--filter", "all_projects=true", "--sort", "name:asc", "-f", "json"],
    ["admin", "alarm", "list", "-f", "json"],
    ["u1", "alarm", "list", "--query", "severity=low and enabled=true", "-f", "json"],
    ["u1", "alarm", "list", "--query", "name=a or not state=ok", "-f", "json"],
    ["u1", "alarm", "list", "--query", "project_id=p2"],
    ["u1", "alarm", "update", "{a}", "--threshold", "3", "--severity", "moderate", "-f", "json"],
    ["u1", "alarm", "update", "b", "--enabled", "True", "--ok-action", "", "-f", "json"],
    ["u1", "alarm", "update", "{theirs}", "--threshold", "3"],
    ["u1", "alarm", "state", "get", "{a}", "-f", "json"],
    ["u1", "alarm", "state", "set", "--state", "alarm", "{a}", "-f", "json"],
    ["u1", "alarm", "state", "get", "--name", "a", "-f", "json"],
    ["u1", "alarm-history", "show", "{a}", "-f", "json"],
    ["u1", "alarm-history", "show", "{a}", "--limit", "1", "--sort", "timestamp:asc", "-f", "json"],
    ["u1", "alarm-history", "show", "{theirs}"],
    ["u1", "alarm-history", "search", "--query", "alarm_id={b}", "-f", "json"],
    ["u1", "alarm-history", "search", "--query", "type=creation", "-f", "json"],
    ["u1", "alarm", "metrics"],
    ["u1", "capabilities", "list", "-f", "json"],
    ["u1", "alarm", "delete", "{a}"],
    ["u1", "alarm", "delete", "b"],
    ["u1", "alarm", "delete", "{theirs}"],
    ["u1", "alarm", "delete", "nobody"],
    ["u1", "alarm", "list", "-f", "value"],
]

# The same alarms, asked for by the other client.
OPENSTACK = [
    ["admin", "openstack", "alarm", "show", "{b}", "-f", "json"],
    ["admin", "openstack", "alarm", "list", "--filter", "project_id=p2", "-f", "json"],
    ["admin", "openstack", "alarm", "state", "set", "--state", "ok", "b", "-f", "json"],
    ["admin", "openstack", "alarm-history", "show", "{b}", "-f", "json"],
    ["admin", "openstack", "alarm", "quota", "set", "p1", "--alarm", "3", "-f", "json"],
    ["admin", "openstack", "alarm", "quota", "show", "--project", "p1", "-f", "json"],
    ["u1", "alarm", "create", "-t", "prometheus", "--name", "d", *A_RULE],
]


@pytest.fixture(scope="module")
def theirs():
    with AodhAPI() as server:
        yield server


def opened(url):
    found = Database(url)
    assert "hashring alarm migrate" in migrations.problem(found)
    migrations.migrate(found)
    assert migrations.problem(found) is None
    return found


@pytest.fixture(scope="module")
def ours(theirs, tmp_path_factory):
    """The URL of our server, on another database that aodh-dbsync made."""
    path = tmp_path_factory.mktemp("ours") / "aodh.db"
    shutil.copy(theirs.as_made, path)
    database = opened(f"sqlite:///{path}")
    actions = Catalogue(Settings(database="", backend_url="", member="m"))
    application = Application(database, APISettings(auth_mode="noauth"), actions)
    with Serving(application, "127.0.0.1:0", 2) as serving:
        yield f"http://127.0.0.1:{serving.port}"
    actions.close()
    database.close()


def answers(python, commands, theirs, ours, folder):
    """Return what the clients print, for each command: from Aodh's server, and from ours."""
    path = folder / "commands.json"
    path.write_text(json.dumps(commands))
    script = Path(__file__).with_name("aodh_clients.py")
    running = [
        subprocess.Popen(
            [str(python), "-W", "ignore", script, path, url],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=path.parent,
            env={"HOME": str(path.parent), "PATH": "/usr/bin:/bin"},
        )
        for url in (theirs.url, ours)
    ]
    found = []
    for process in running:
        try:
            out, err = process.communicate(timeout=240)
        finally:
            process.kill()
        assert process.returncode == 0, err
        found.append(json.loads(out.splitlines()[-1]))
    return list(zip(*found, strict=True))


class Names:
    """Ids by the order in which they first appear; times as one word; lists of words sorted."""

    def __init__(self):
        self._ids = {}

    def plain(self, text):
        text = re.sub(
            r"\b(req-)?[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b",
            lambda one: "(req)" if one[1] else self._ids.setdefault(one[0], f"({len(self._ids)})"),
            text,
        )
        return re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?", "(time)", text)


def compared(names, answer):
    code, out, err = answer
    out, err = names.plain(out), names.plain(err)
    try:
        found = json.loads(out)
    except ValueError:
        return code, out, err
    if isinstance(found, dict):
        # Aodh forgets it when a client leaves it out; ours is the evaluator's alone.
        found.pop("evaluate_timestamp", None)
        if "composite_rule" in found:  # a text, which they print in their order of fields
            found["composite_rule"] = json.loads(found["composite_rule"])
    for row in found if isinstance(found, list) else []:
        if "detail" in row:
            row["detail"] = json.loads(row["detail"])
    return code, found, err


def check_that_both_print_the_same(commands, found):
    """Return the commands that failed, on both."""
    names = Names(), Names()
    for command, (of_aodh, of_ours) in zip(commands, found, strict=True):
        assert compared(names[1], of_ours) == compared(names[0], of_aodh), command
    return [command for command, ((code, *_), _) in zip(commands, found, strict=True) if code]


def test_each_command_of_aodhs_client_prints_the_same_of_both_servers(theirs, ours, tmp_path):
    found = answers(openstack.python_with_services(), COMMANDS, theirs, ours, tmp_path)
    failed = check_that_both_print_the_same(COMMANDS, found)
    assert len(failed) == 11, failed


@pytest.mark.long
@pytest.mark.timeout(900)
def test_openstacks_client_prints_the_same_of_both_servers(theirs, ours, tmp_path, new_environment):
    environment = new_environment()
    environment.install("aodhclient==3.12.0", "python-openstackclient>=7.0")
    commands = [*(command for command in COMMANDS if "create" in command), *OPENSTACK]
    found = answers(environment.python, commands, theirs, ours, tmp_path)
    failed = check_that_both_print_the_same(commands, found)
    assert len(failed) == 2, failed


def alarms(server):
    everything = "/v2/alarms?q.field=all_projects&q.op=eq&q.value=true&sort=name:asc"
    return server("GET", everything)


@pytest.fixture
def on_either(empty):
    """Aodh's server on tables that it has made in each kind of database."""
    with AodhAPI(empty) as server:
        yield server


def test_both_servers_and_an_evaluator_share_the_database_that_aodh_made(on_either):
    theirs = on_either
    rule = {"query": "up", "comparison_operator": "lt", "threshold": 1.0}
    alarm = {"name": "shared", "type": "prometheus", "prometheus_rule": rule}
    made = theirs.ask("POST", "/v2/alarms", alarm)
    database = opened(theirs.database)
    api = API(database)

    def ask(method, path, body=None):
        status, found = api.ask(method, path, body, who=HEADERS)
        assert status < 300, found
        return found

    assert alarms(ask) == alarms(theirs.ask)
    evaluations = Evaluations(database, 120.0)
    evaluations.begin()

    def step(state, at):
        [standing] = evaluations.standing(made["alarm_id"])
        [definition] = evaluations.definitions([made["alarm_id"]])
        return Step(standing, at, ("",), 0, state, "because", (), definition)

    now = clock.wall()
    assert evaluations.change(step(State.ALARM, now), now) is Outcome.DONE
    path = f"/v2/alarms/{made['alarm_id']}"
    assert theirs.ask("GET", f"{path}/state") == "alarm"
    # A change that is made by Aodh's server during a cycle is not undone.
    during = step(State.OK, now + 60)
    theirs.ask("PUT", path, theirs.ask("GET", path) | {"description": "by Aodh"})
    assert evaluations.change(during, now + 60) is Outcome.CHANGED
    ask("PUT", path, ask("GET", path) | {"severity": "critical"})
    changed = theirs.ask("GET", path)
    assert (changed["description"], changed["severity"]) == ("by Aodh", "critical")
    assert changed["state"] == "alarm"
    # Its server shows the history that we have written, also of what could not be told.
    sink = "http://sink", "http://sink/"
    gone = Outgoing("k", made["alarm_id"], *sink, {}, 0, now, 0, 0.0)
    with database.writing() as connection:
        row = gone._asdict() | {"created": 0, "next_try": 0, "gave_up": False}
        connection.execute(migrations.tables.OUTBOX.insert(), row)
    Notifications(database).given_up(gone, "refused", now + 1)
    history = theirs.ask("GET", f"{path}/history")
    assert ask("GET", f"{path}/history") == history
    assert "Not told to http://sink/: refused" in str(history)
    assert [one["type"] for one in history].count("state transition") == 2
    ask("DELETE", path)
    assert "shared" not in [one["name"] for one in alarms(theirs.ask)]
    assert alarms(ask) == alarms(theirs.ask)
    api.actions.close()
    database.close()


def test_an_evaluator_takes_over_from_aodhs_on_its_configuration(theirs, sink, tmp_path):
    told_at = f"{sink.url}/in"
    rule = {"query": "sum(up)", "comparison_operator": "lt", "threshold": 1.0}
    made = theirs.ask(
        "POST",
        "/v2/alarms",
        {"name": "theirs", "type": "prometheus", "prometheus_rule": rule, "project_id": "p1"}
        | {"alarm_actions": [told_at]},
    )
    with HTTPServer() as prometheus:
        prometheus.answer("/api/v1/query", vector(0))
        (tmp_path / "aodh.conf").write_text(
            (theirs.folder / "aodh.conf").read_text()
            + "[evaluator]\nevaluation_interval = 1\nworkers = 4\n"
            + f"[alarm]\nprometheus_url = {prometheus.url}\n"
        )
        with evaluators(tmp_path, "--config-file", str(tmp_path / "aodh.conf")) as running:
            running.start("one")
            wait_until(lambda: told(sink), what="the notification")
            path = f"/v2/alarms/{made['alarm_id']}"
            assert theirs.ask("GET", f"{path}/state") == "alarm"
            newest = theirs.ask("GET", f"{path}/history")[0]
            assert newest["type"] == "state transition"
            running.stop("one")
        queries = {parse_qs(urlsplit(one.path).query)["query"][0] for one in prometheus.log}
    # As Aodh scopes it, to whose alarm it is; other tests may have left alarms without a sum.
    assert {query for query in queries if "sum" in query} == {'sum(up{project="p1"})'}
    [(_, body)] = told(sink)
    assert (body["alarm_id"], body["current"]) == (made["alarm_id"], "alarm")
    theirs.ask("DELETE", path)


def test_aodh_goes_on_with_tables_that_we_have_made(empty):
    database = Database(empty)
    migrations.migrate(database)
    api = API(database)
    made = api.made(who=HEADERS)
    with AodhAPI(empty) as server:  # after its dbsync
        assert alarms(server.ask) == [made]
        server.ask("PUT", f"/v2/alarms/{made['alarm_id']}/state", "ok")
    assert api.ask("GET", f"/v2/alarms/{made['alarm_id']}/state", who=HEADERS) == (200, "ok")
    assert migrations.problem(database) is None
    with database.reading() as connection:
        found = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
    assert found == migrations.AODH_HEAD
    api.actions.close()
    database.close()
