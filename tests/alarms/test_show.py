"""The guided show of alarms: what it promises, and that nothing is left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess

import psutil
import pytest

from hashring.alarms.show import ALARMS, Told, verdict
from tests.begun import Begun
from tests.servers.process import wait_until

pytestmark = pytest.mark.slow


@pytest.fixture
def show(tmp_path):
    """Start the show with a temporary folder of its own."""
    process = Begun(
        ["alarm", "show"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"TMPDIR": str(tmp_path), "COLUMNS": "120"},
        start_new_session=True,
    )
    yield process
    if process.poll() is None:
        process.kill()
    process.communicate()


def evaluators_in(folder):
    """The processes whose command line names a folder."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess):
            if any(str(folder) in word for word in process.cmdline()):
                found.append(process)
    return found


def test_alarms_fire_and_clear_once_each_while_an_evaluator_is_killed(show, tmp_path):
    said, _ = show.communicate(timeout=250)
    assert show.returncode == 0, said
    assert "As promised" in said
    assert list(tmp_path.iterdir()) == []
    assert evaluators_in(tmp_path) == []


def test_a_show_that_is_interrupted_leaves_nothing_behind(show, tmp_path):
    for line in show.stdout:
        if "start" in line:
            break
    wait_until(lambda: evaluators_in(tmp_path), what="an evaluator runs")
    show.send_signal(signal.SIGINT)
    said = show.stdout.read()
    assert show.wait(60) == 130
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []
    wait_until(lambda: not evaluators_in(tmp_path), what="the last evaluator has ended")


def told(*states, number=0):
    return [
        Told(float(place), f"{number}-{place}", f"disk {number} almost full", state)
        for place, state in enumerate(states)
    ]


def test_the_account_finds_what_is_told_twice_in_disorder_or_never():
    well = [one for n in range(ALARMS) for one in told("ok", "alarm", "ok", number=n)]
    assert verdict(well) == []
    assert verdict([*well, well[1]]) == []  # the same key: the same notification
    assert verdict([*well, Told(9.0, "another", well[1].name, "alarm")]) == [
        "disk 0 almost full: ok, alarm, ok, alarm was told"
    ]
    assert verdict(well[:-1]) == [f"disk {ALARMS - 1} almost full: ok, alarm was told"]
    assert len(verdict(well[3:])) == 1
