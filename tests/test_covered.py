"""What ``make coverage`` must not lose: the plug-in that it runs the suite with."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import coverage

from tests.conftest import TREE

COUNTED = """\
def early(): return 1

def late(): return 2
"""

TESTS = """
import sys
import counted

def test_that_takes_the_counting_away():
    assert counted.early() == 1
    sys.settrace(None)

def test_that_comes_later():
    assert counted.late() == 2
"""


def test_a_test_that_ends_the_counting_is_an_error_and_costs_those_after_it_nothing(
    tmp_path: Path,
) -> None:
    (tmp_path / "counted.py").write_text(COUNTED)
    (tmp_path / "test_it.py").write_text(TESTS)
    ours = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{TREE}", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTEST_", "COVERAGE_"))
    }
    counting = ["-m", "coverage", "run", "--data-file=data", "--source=."]
    testing = ["-m", "pytest", "-q", "-rf", "-p", "tests.covered", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, *counting, *testing, "test_it.py"],
        cwd=tmp_path,
        env=inherited | ours | {"COVERAGE_CORE": "ctrace"},  # the one that settrace ends
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    assert "put back what sys.gettrace() was before" in done.stdout
    data = coverage.CoverageData(str(tmp_path / "data"))
    data.read()
    assert set(data.lines(str(tmp_path / "counted.py")) or ()) == {1, 3}
