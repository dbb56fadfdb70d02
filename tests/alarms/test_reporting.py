"""How an evaluator is seen: its page, its metrics, its status file, and the numbers behind them."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import urllib.error
import urllib.request

import jsonschema
import pytest
import sqlalchemy as sa

import hashring.page
from hashring.alarms.database.definitions import id_of, sync
from hashring.alarms.database.engine import microseconds
from hashring.alarms.database.notifications import Notifications
from hashring.alarms.database.survey import survey
from hashring.alarms.database.tables import ALARM, SIDE
from hashring.alarms.metrics import ALARM_METRICS
from hashring.alarms.model import alarm_of
from tests.alarms.fleet import Squares, evaluators, square_alarms, told
from tests.alarms.test_outbox import write
from tests.servers.http import HTTPServer
from tests.servers.process import free_port, wait_until

RULE = {"query": "up", "comparison_operator": "gt", "threshold": 1}
NOW, INTERVAL = 1_700_000_040.0, 60.0


def define(database, *alarms, now=NOW - 3600):
    rules = [alarm_of({"type": "prometheus", "rule": RULE, **one}) for one in alarms]
    sync(database, rules, now)


def reach(database, name, start):
    with database.writing() as connection:
        connection.execute(
            SIDE.update()
            .where(SIDE.c.alarm_id == id_of(name))
            .values(window_start=microseconds(start))
        )


def test_an_alarm_is_overdue_once_no_window_of_two_has_reached_it(database):
    define(database, {"name": "fresh"}, {"name": "old"}, {"name": "never"})
    reach(database, "fresh", NOW - INTERVAL)
    reach(database, "old", NOW - 3 * INTERVAL)
    assert survey(database, NOW, INTERVAL).overdue == 2


def test_what_is_new_disabled_or_out_of_its_time_is_not_overdue(database):
    night = {"name": "n", "start": "0 0 1 1 *", "duration": 1}
    define(
        database,
        {"name": "new"},
        {"name": "off", "enabled": False},
        {"name": "night", "time_constraints": [night]},
        now=NOW - INTERVAL,
    )
    reach(database, "off", NOW - 3600)
    reach(database, "night", NOW - 3600)
    found = survey(database, NOW, INTERVAL)
    assert found.overdue == 0
    assert survey(database, NOW + 2 * INTERVAL, INTERVAL).overdue == 1  # "new" by then


def test_alarms_are_counted_by_state_and_unknown_texts_as_insufficient_data(database):
    define(database, *({"name": name} for name in "abcd"))
    with database.writing() as connection:
        for name, state in (("a", "ok"), ("b", "alarm"), ("c", "strange")):
            connection.execute(
                ALARM.update().where(ALARM.c.alarm_id == id_of(name)).values(state=state)
            )
    assert survey(database, NOW, INTERVAL).states == {"ok": 1, "alarm": 1, "insufficient data": 2}


def test_what_waits_and_what_was_given_up_is_told_without_secrets(database):
    outbox = Notifications(database)
    write(database, "a", 60, "http://user:s3cret@sink/in", created=NOW - 90)
    write(database, "b", 60, "http://sink/in", created=NOW - 5)
    write(database, "c", 60, "http://user:s3cret@dead/in", created=NOW - 5)
    [letter] = [one for one in outbox.heads([], NOW) if one.alarm_id == "c"]
    outbox.given_up(letter, "answered 410", NOW)
    found = survey(database, NOW, INTERVAL)
    assert (found.waiting, found.waiting_since, found.dead_letters) == (2, NOW - 90, 1)
    [problem] = found.problems
    assert "given up: answered 410" in problem
    assert "s3cret" not in problem


def get(port, path, **headers):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """One evaluator of ten alarms, and where it listens."""
    port, folder = free_port(), tmp_path_factory.mktemp("evaluator")
    with HTTPServer() as prometheus, HTTPServer() as sink:
        squares = Squares(prometheus, 1.0)
        sink.answer("/in", b"")
        options = ["--interval", "1", "--prometheus-url", prometheus.url]
        options += ["--listen", f"127.0.0.1:{port}"]
        with evaluators(folder, *options) as fleet:
            fleet.write(square_alarms(10, f"{sink.url}/in"))
            fleet.start("a")
            fleet.settle("a")
            wait_until(lambda: len(told(sink)) > 10, what="each alarm was told of")
            yield fleet, port, squares


def test_systemd_is_told_when_it_is_up_and_when_it_hands_over(tmp_path, monkeypatch):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(60)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        with evaluators(tmp_path, "--interval", "1") as fleet:
            fleet.start("a")
            assert systemd.recv(500).startswith(b"READY=1\nSTATUS=evaluates alarms as a")
            fleet.stop("a")
            assert systemd.recv(500).startswith(b"STOPPING=1")


def status(port):
    code, body = get(port, "/ring", Accept="application/json")
    assert code == 200
    return json.loads(body)


def test_the_page_says_how_the_alarms_stand_and_keeps_to_the_schema(watched):
    fleet, port, _ = watched
    wait_until(lambda: sum(status(port)["alarms"]["states"].values()) == 10, what="all are counted")
    for found in (status(port), fleet.status("a")):
        jsonschema.validate(found, hashring.page.schema())
        assert found["groups"]["alarms"]["state"] == "settled"
    alarms = status(port)["alarms"]
    assert alarms["owned"] == 10
    assert alarms["evaluated"] >= 10
    assert alarms["delivered"] > 10
    assert alarms["took"] >= 0
    assert not alarms["database_is_away"]


def test_a_browser_gets_the_page_and_probes_are_answered(watched):
    _, port, _ = watched
    assert get(port, "/livez") == (200, b"alive\n")
    assert get(port, "/readyz") == (200, b"ready\n")
    assert b'id="alarms"' in get(port, "/ring", Accept="text/html")[1]
    code, body = get(port, f"/ring?group=alarms&key={id_of('alarm 3')}")
    assert (code, json.loads(body)["owner"]) == (200, "a")


def test_promtool_accepts_the_metrics_and_all_are_there(watched):
    _, port, _ = watched
    promtool = shutil.which("promtool")
    assert promtool is not None, "tests/servers/install.sh installs prometheus"
    wait_until(lambda: b"hashring_alarm_states{" in get(port, "/metrics")[1])
    code, text = get(port, "/metrics")
    done = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, timeout=60, check=False
    )
    assert (code, done.returncode, done.stderr) == (200, 0, b""), done.stdout + done.stderr
    for metric in ALARM_METRICS:
        assert f"\n{metric.name}".encode() in text
    assert b"hashring_alarm_owned 10.0" in text
    assert b'hashring_slots_held{group="alarms"} 65536.0' in text


def test_an_address_that_is_taken_ends_an_evaluator_with_what_to_do(watched):
    fleet, port, _ = watched
    fleet.start("b")
    assert fleet.processes["b"].wait(60) != 0
    assert f"listen = 127.0.0.1:{port}" in fleet.said("b")


def test_no_address_that_is_none_is_taken(tmp_path, capsys):
    from hashring.cli import main

    arguments = ["alarm", "evaluator", "--state-dir", str(tmp_path), "--listen", "9466"]
    assert main(arguments) == 2
    assert "--listen = '9466': must be HOST:PORT" in capsys.readouterr().err


def test_an_evaluator_is_drained_by_whoever_sends_the_token_of_its_file(watched):
    fleet, _, _ = watched
    port, token = free_port(), fleet.folder / "token"
    token.write_text("correct-horse-battery\n")
    fleet.start("t", "--listen", f"127.0.0.1:{port}", "--token-file", str(token))
    fleet.settle("a", "t")
    wait_until(lambda: is_served(port), what="t serves its page")
    wanted = {"group": "alarms", "member": "t", "by": "alice"}

    assert post(port, "/ring/acts/drain", wanted, "a-wrong-one-of-length")[0] in (401, 403)
    assert fleet.processes["t"].poll() is None
    code, said = post(port, "/ring/acts/drain", wanted, "correct-horse-battery")

    assert code in (200, 202), said
    assert fleet.processes["t"].wait(60) == 0, fleet.said("t")
    fleet.settle("a")
    assert "by 'alice, by the page from 127.0.0.1'" in fleet.said("t")
    assert "correct-horse" not in fleet.said("t")


def is_served(port):
    try:
        return get(port, "/livez")[0] == 200
    except OSError:
        return False


def post(port, path, body, token):
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", json.dumps(body).encode(), headers
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_the_survey_needs_no_more_than_the_tables(database):
    """What it asks is answered by every database: it is plain SQL, without a function of one."""
    define(database, {"name": "a"})
    with database.writing() as connection:
        connection.execute(ALARM.update().values(timestamp=None, state=None))
        connection.execute(sa.delete(SIDE))
    found = survey(database, NOW, INTERVAL)
    assert found.overdue == 1
    assert found.states["insufficient data"] == 1
