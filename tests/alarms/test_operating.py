"""What the docs give to operators: unit files, alerts; they fit what there is."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import subprocess
import sys

import click
import pytest
import yaml

from hashring.alarms.metrics import ALARM_METRICS
from hashring.alarms.settings import Settings
from hashring.cli.front import hashring
from hashring.exit_codes import USAGE
from tests.conftest import TREE

DOCS = TREE / "docs" / "alarms"
RULES = DOCS / "prometheus" / "hashring-alarms.rules.yml"
UNITS = sorted((DOCS / "systemd").glob("*.service"))
PAGE = (DOCS / "operate.md").read_text("utf-8")


def service(unit):
    parser = configparser.ConfigParser(interpolation=None, comment_prefixes="#", delimiters="=")
    parser.optionxform = str
    parser.read_string(unit.read_text())  # an option that stands twice is an error here
    return parser["Service"]


def test_each_unit_is_on_the_page():
    assert len(UNITS) == 5
    assert sorted(re.findall(r"literalinclude\} systemd/(\S+)", PAGE)) == [u.name for u in UNITS]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_what_a_unit_starts_is_a_command_of_ours_with_options_that_it_has(unit):
    program, *words = shlex.split(service(unit)["ExecStart"])
    assert program == "/usr/bin/hashring"
    command = hashring
    while words and not words[0].startswith("-"):
        command = command.get_command(click.Context(command), words.pop(0))
        assert command is not None
    given, rest, _ = command.make_parser(click.Context(command)).parse_args(words)
    assert given.keys() >= {"config_files"}
    assert rest == []


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_leaves_time_to_hand_over_and_is_not_restarted_in_vain(unit):
    found = service(unit)
    assert found["KillSignal"] == "SIGTERM"
    assert int(found["TimeoutStopSec"]) > Settings.drain_timeout + Settings.action_timeout
    assert found["Restart"] == "on-failure"
    assert int(found["RestartPreventExitStatus"]) == USAGE
    if "evaluator" in unit.name:
        assert found["Type"] == "notify"
        assert found["ExecReload"] == "/bin/kill -HUP $MAINPID"


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_itself_accepts_a_unit(unit, tmp_path):
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        return  # the other tests read its options
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text().replace("/usr/bin/hashring", sys.executable))
    done = subprocess.run(
        [analyze, "verify", "--man=no", copy], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


def alerts():
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule for rule in group["rules"]}


def test_alerts_ask_for_metrics_that_there_are_and_each_is_explained_and_tested():
    series = {m.name + ("_total" if m.kind == "counter" else "") for m in ALARM_METRICS}
    tested = (RULES.parent / "hashring-alarms.test.yml").read_text()
    for name, rule in alerts().items():
        asked = set(re.findall(r"\bhashring_\w+", rule["expr"]))
        assert asked
        assert asked <= series, name
        assert f"| `{name}` |" in PAGE
        assert f'alertname="{name}"' in tested


@pytest.mark.parametrize("what", [("check", "rules"), ("test", "test")])
def test_promtool_is_content(what):
    promtool = shutil.which("promtool")
    assert promtool is not None, "tests/servers/install.sh installs prometheus"
    verb, kind = what
    done = subprocess.run(
        [promtool, verb, "rules", f"hashring-alarms.{kind}.yml"],
        cwd=RULES.parent,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
