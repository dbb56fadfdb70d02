"""``hashring alarm``: options from aodh.conf and the command line, and what check says."""

from __future__ import annotations

import urllib.request

import pytest

from hashring.alarms import options
from hashring.alarms.api import options as api_options
from hashring.alarms.database.definitions import id_of, sync
from hashring.alarms.database.tables import ALARM
from hashring.alarms.model import alarm_of
from hashring.alarms.prometheus_place import prometheus_place
from hashring.cli import main
from hashring.telemetry.errors import BadOption
from tests.alarms.fleet import vector
from tests.begun import Begun
from tests.servers.http import HTTPServer
from tests.servers.process import free_port, wait_until

GOOD = "- {name: a, type: prometheus, rule: {query: up, threshold: 1}, ok_actions: ['log://']}\n"


@pytest.fixture
def conf(tmp_path):
    def write(text):
        path = tmp_path / "aodh.conf"
        path.write_text(text)
        return path

    return write


def test_an_aodh_conf_is_understood_and_the_command_line_wins(conf, tmp_path):
    (tmp_path / "d").mkdir()
    path = conf(
        "[DEFAULT]\nadditional_ingestion_lag = 5\nrest_notifier_ssl_verify = false\n"
        "[evaluator]\nevaluation_interval = 30\nworkers = 4\n[keystone_authtoken]\nx = y\n"
        "[database]\nconnection = postgresql://u:p@h/aodh\n"
        "[coordination]\nbackend_url = sqlite:///tmp/x.db\nheartbeat_interval = 1\n"
        f"[alarm]\nttl = 6\nstate_dir = {tmp_path}\ndefinitions_dirs = {tmp_path / 'd'}\n"
    )
    found = options.load([path], interval=2.0, member="m")
    assert (found.lag, found.verify, found.interval, found.ttl) == (5.0, False, 2.0, 6.0)
    assert (found.database, found.member) == ("postgresql://u:p@h/aodh", "m")
    assert found.definitions == (tmp_path / "d",)
    assert found.heartbeat == 1.0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[alarm]\ntll = 3\n", r"aodh.conf:2: \[alarm\] tll: unknown option \(did you mean 'ttl'"),
        ("[alarm]\nttl = soon\n", r"aodh.conf:2: \[alarm\] ttl = 'soon': must be a number of sec"),
        ("[alarm]\nthreads = 0\n", r"\[alarm\] threads = '0'"),
        ("[alarm]\ndefinitions_dirs = /no/such\n", "there is no folder '/no/such'"),
        ("[hashring]\ntoken = short\n", r"aodh.conf:2: \[hashring\] token: a token must have 16"),
        ("[coordination]\nbackend_url = nothing://x\n", r"\[coordination\] backend_url"),
    ],
)
def test_a_wrong_option_is_told_with_its_line(conf, tmp_path, text, words):
    with pytest.raises(BadOption, match=words):
        options.load([conf(text)], state_dir=str(tmp_path))


def test_a_file_with_the_token_of_the_page_stands_in_place_of_what_the_files_say(conf, tmp_path):
    path, token = conf("[hashring]\ntoken = correct-horse-battery\n"), tmp_path / "token"
    token.write_text("another-one-of-sixteen\n")
    found = options.load([path], state_dir=str(tmp_path))
    assert (found.token, found.token_file) == ("correct-horse-battery", None)
    found = options.load([path], state_dir=str(tmp_path), token_file=token)
    assert (found.token, found.token_file) == ("", token)
    token.write_text("short\n")
    with pytest.raises(BadOption, match=r"^--token-file: .*16 characters"):
        options.load([path], state_dir=str(tmp_path), token_file=token)


def test_the_api_reads_aodhs_options_and_names_what_has_no_effect(conf):
    found, notes = api_options.load(
        [
            conf(
                "[api]\nauth_mode = basic\nproject_alarm_quota = 5\nadmins = a, b\n"
                "paste_config = x\n[DEFAULT]\nrecord_history = no\n"
                "[oslo_policy]\npolicy_file = p.yaml\n"
            )
        ]
    )
    assert (found.auth_mode, found.project_quota, found.admins) == ("basic", 5, {"a", "b"})
    assert found.record_history is False
    assert [note.partition("conf:")[2] for note in notes] == [
        "9: [oslo_policy] policy_file has no effect here: Aodh's default policies count"
    ]
    with pytest.raises(BadOption, match=r"aodh.conf:2: \[api\] auth_mode .* but found 'odd'"):
        api_options.load([conf("[api]\nauth_mode = odd\n")])


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, None),
        ({"HOST": "h", "PORT": "9090"}, ("http://h:9090", None)),
        (
            {"HOST": "::1", "PORT": "1", "CA_CERT": "/c.pem", "ROOT_PATH": "/a/"},
            ("https://[::1]:1/a", "/c.pem"),
        ),
    ],
)
def test_prometheus_is_looked_for_where_aodh_does(environment, wanted):
    named = {f"PROMETHEUS_{name}": value for name, value in environment.items()}
    assert prometheus_place(named) == wanted


def test_half_a_place_of_prometheus_is_refused():
    with pytest.raises(BadOption, match="both are needed"):
        prometheus_place({"PROMETHEUS_HOST": "h"})


def test_check_says_what_would_be_evaluated_and_writes_nothing(tmp_path, capsys):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a.yaml").write_text(GOOD)
    arguments = ["alarm", "check", "--state-dir", str(tmp_path), "--definitions"]
    arguments += [str(tmp_path / "d"), "--interval", "30", "--prometheus-url"]
    with HTTPServer() as prometheus:
        prometheus.answer("/api/v1/query", vector(1))
        assert main([*arguments, prometheus.url]) == 0
        told = capsys.readouterr().out
        assert "1 alarms, each evaluated once every 30 s" in told
        assert "a: prometheus, tells log://" in told
        prometheus.answer("/api/v1/query", {"status": "error", "error": "bad query"}, status=400)
        assert main([*arguments, prometheus.url]) == 1
        assert "WRONG  a: " in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


def test_check_tells_all_that_is_wrong_and_an_evaluator_does_not_start_with_it(tmp_path, capsys):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a.yaml").write_text(GOOD.replace("up", "") + GOOD.replace("query", "qery"))
    arguments = ["--state-dir", str(tmp_path), "--definitions", str(tmp_path / "d")]
    assert main(["alarm", "check", "--no-look", *arguments]) == 1
    assert capsys.readouterr().out.count("WRONG") == 2
    assert main(["alarm", "evaluator", "--backend-url", "memory://", *arguments]) == 2
    assert f"{tmp_path / 'd' / 'a.yaml'}:1: alarm 'a': " in capsys.readouterr().err


def test_check_names_a_wrong_event_alarm_of_the_database_too(database, tmp_path, capsys):
    rules = {"good": {"event_type": "a.*"}, "bad": {"event_type": "a.*"}}
    alarms = [{"name": name, "type": "event", "rule": rule} for name, rule in rules.items()]
    sync(database, [alarm_of(one) for one in alarms], 0.0)
    with database.writing() as connection:
        named = ALARM.update().where(ALARM.c.name == "bad")
        connection.execute(named.values(rule={"event_typ": "a.*"}))
    assert main(["alarm", "check", "--state-dir", str(tmp_path)]) == 1
    told = capsys.readouterr().out
    assert "good: event, tells nobody" in told
    assert f"WRONG  alarm {id_of('bad')} in the database: rule.event_typ: unknown field" in told


def test_the_api_is_served_until_it_is_told_to_end(tmp_path):
    url = f"http://127.0.0.1:{free_port()}"
    options = ["--state-dir", str(tmp_path), "--auth-mode", "noauth", "--listen", url[7:]]
    with (tmp_path / "log").open("w") as log:
        process = Begun(["alarm", "api", *options], stderr=log, start_new_session=True)

    def answers():
        assert process.poll() is None, (tmp_path / "log").read_text()
        try:
            with urllib.request.urlopen(f"{url}/v2/alarms", timeout=20) as answer:
                return answer.read() == b"[]"
        except OSError:
            return False

    try:
        wait_until(answers, what="an answer")
        process.terminate()
        assert process.wait(60) == 0, (tmp_path / "log").read_text()
    finally:
        process.kill()
        process.wait()


def test_migrate_makes_the_tables(tmp_path, capsys):
    for _ in range(2):
        assert main(["alarm", "migrate", "--state-dir", str(tmp_path)]) == 0
        assert "revision 0002" in capsys.readouterr().out
