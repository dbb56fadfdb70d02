"""A process of the tests that is forked is as one that was started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.begun import Begun, run
from tests.servers.process import wait_until

ENDLESS = ("agent", "--backend-url", "memory://", "--output", "-", "--interval", "0.5")


def test_it_says_what_the_command_says_and_ends_with_its_code() -> None:
    for arguments in (["--version"], ["agent", "--color", "red"]):
        command = [sys.executable, "-m", "hashring", *arguments]
        started = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
        forked = run(*arguments)

        said = (forked.returncode, forked.stdout, forked.stderr)
        assert said == (started.returncode, started.stdout, started.stderr)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_it_is_a_child_in_a_session_of_its_own_and_hears_signals(number: int) -> None:
    with Begun(ENDLESS, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        assert int(fields[1]) == os.getpid()
        assert os.getsid(process.pid) == process.pid

        os.killpg(process.pid, number)

        process.communicate(timeout=60)  # it writes more than a pipe holds
        assert process.returncode == (0 if number == signal.SIGTERM else -number)


def test_it_has_the_folder_the_environment_and_the_files_that_it_is_given(tmp_path: Path) -> None:
    variables = os.environ | {"XDG_STATE_HOME": str(tmp_path / "state")}
    with (tmp_path / "said").open("w") as said:
        options = ("--cycles", "1", "--interval", "1", "--output", "samples")
        with Begun(("agent", *options), cwd=tmp_path, env=variables, stderr=said) as process:
            assert process.wait(60) == 0

    assert (tmp_path / "samples").stat().st_size
    assert (tmp_path / "state" / "hashring" / "agents.db").is_file()


def test_what_python_looks_at_when_it_begins_starts_a_new_one() -> None:
    variables = os.environ | {"PYTHONVERBOSE": "1"}
    assert "import 'hashring.cli'" in run("--version", env=variables).stderr


def test_no_orphan_is_adopted_but_those_that_are_forked() -> None:
    run("--version")
    with subprocess.Popen(
        ["sh", "-c", "sleep 60 >&- & echo $!"], stdout=subprocess.PIPE, text=True
    ) as shell:
        assert shell.stdout is not None
        orphan = int(shell.stdout.readline())
    try:
        fields = Path(f"/proc/{orphan}/stat").read_text().rpartition(")")[2].split()
        assert int(fields[1]) != os.getpid()
    finally:
        os.kill(orphan, signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{orphan}").exists(), what="the end of the orphan")
