"""The unit files in the documentation: systemd accepts them, and so does our command line."""

import configparser
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from hashring.cli.front import hashring
from hashring.exit_codes import USAGE
from hashring.telemetry.model.settings import Settings

DOCS = Path(__file__).resolve().parents[2] / "docs" / "agents"
UNITS = sorted((DOCS / "systemd").glob("*.service"))


def parsed(unit):
    parser = configparser.ConfigParser(interpolation=None, comment_prefixes="#", delimiters="=")
    parser.optionxform = str
    parser.read_string(unit.read_text())  # an option that stands twice is an error here
    return parser


def seconds(text):
    assert text.isdigit(), text
    return int(text)


def test_all_three_units_are_there_and_on_the_page():
    assert [unit.name for unit in UNITS] == [
        "hashring-central.service",
        "hashring-central@.service",
        "hashring-compute.service",
    ]
    page = (DOCS / "systemd.md").read_text()
    assert re.findall(r"literalinclude\} systemd/(\S+)", page) == [
        "hashring-central.service",
        "hashring-compute.service",
        "hashring-central@.service",
    ]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_what_a_unit_starts_is_a_command_of_ours_with_options_that_it_has(unit):
    program, *words = shlex.split(parsed(unit)["Service"]["ExecStart"])
    assert Path(program).is_absolute()
    assert Path(program).name == "hashring"

    command = hashring
    while words and not words[0].startswith("-"):
        assert isinstance(command, click.Group)
        command = command.get_command(click.Context(command), words.pop(0))
        assert command is not None
    assert command.name == ("compute" if "compute" in unit.name else "central")
    # Parsed and not run: an option that it does not have, or that lacks its value, is an error.
    given, rest, _ = command.make_parser(click.Context(command)).parse_args(words)
    assert given.keys() >= {"config_files"}
    assert rest == []


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_speaks_the_agents_protocol_and_leaves_time_to_drain(unit):
    service = parsed(unit)["Service"]

    assert service["Type"] == "notify"
    assert seconds(service["WatchdogSec"]) > 0
    assert service["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert service["KillSignal"] == "SIGTERM"
    assert seconds(service["TimeoutStopSec"]) > Settings.drain_timeout
    assert service["Restart"] == "on-failure"
    assert int(service["RestartPreventExitStatus"]) == USAGE


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_itself_accepts_a_unit(unit, tmp_path):
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        # Where systemd is not installed: sections and options that it knows, by name.
        assert parsed(unit).sections() == ["Unit", "Service", "Install"]
        return
    # It looks whether the program is there: ours is, under another path.
    text = unit.read_text().replace("/usr/bin/hashring", sys.executable)
    copy = tmp_path / unit.name
    copy.write_text(text)

    done = subprocess.run(
        [analyze, "verify", "--man=no", copy], capture_output=True, text=True, timeout=90
    )

    assert (done.returncode, done.stderr) == (0, "")
