"""The guided show, whole: what it promises, and that nothing is left behind."""

import contextlib
import os
import re
import signal
import subprocess

import psutil
import pytest

from tests.begun import Begun

pytestmark = pytest.mark.slow


@pytest.fixture
def show(tmp_path):
    """Start the show with a temporary folder of its own."""
    started = []

    def start():
        process = Begun(
            ["show"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"TMPDIR": str(tmp_path), "COLUMNS": "120"},
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def processes_of_session(leader):
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            of_session = os.getsid(process.pid) == leader
            if of_session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


@pytest.mark.timeout(900)
def test_the_show_keeps_its_promise_and_leaves_nothing_behind(show, tmp_path, until):
    for _ in range(3):  # a machine too busy for its windows and leases may be given another try
        process = show()
        said, _ = process.communicate(timeout=250)
        assert "were repeated" not in said
        assert list(tmp_path.iterdir()) == []
        if process.returncode == 0:
            break

    assert process.returncode == 0, said
    rows = dict(re.findall(r"[│|] (start|kill -9|join|stop) +[│|](.+)[│|]", said))
    figures = {name: [cell.strip() for cell in re.split("[│|]", row)] for name, row in rows.items()}
    assert set(figures) == {"start", "kill -9", "join", "stop"}
    for name, (windows, due, made, missed, repeated, *_) in figures.items():
        assert int(windows) >= 2
        assert int(due.replace(",", "")) > 0
        assert repeated == "0"
        if name != "kill -9":
            assert (missed, made) == ("0", due)
    assert "As promised" in said
    until(lambda: not processes_of_session(process.pid), "the last process has ended")


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.long)]
)
def test_a_show_that_is_interrupted_leaves_nothing_behind(show, tmp_path, number, until):
    process = show()
    for line in process.stdout:
        if "settled" in line:
            break

    os.killpg(process.pid, number)  # as a terminal does

    said = process.stdout.read()
    assert process.wait(60) == 130
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []
    until(lambda: not processes_of_session(process.pid), "the last process has ended")


def test_a_show_whose_agents_die_says_so_and_fails(show, tmp_path):
    process = show()
    for line in process.stdout:
        if "a: settled" in line:
            break
    [status] = list(tmp_path.glob("*/a.json"))
    pid = re.search(r'"pid": (\d+)', status.read_text())[1]

    os.kill(int(pid), signal.SIGKILL)

    said = process.stdout.read()
    assert process.wait(60) == 1
    assert "agent a ended by itself" in said
    assert list(tmp_path.iterdir()) == []
