"""The script that runs tests on the machine's other Pythons, on Pythons that only play at it."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from tests.house import TREE

# Says its version; as an environment's Python, "tests" until the other's have begun as well.
PYTHON = """#!/bin/sh
version=%s
case $1 in
-c) echo $version ;;
-m)
    touch "$TREE/$version.began"
    tries=0
    until [ -e "$TREE/3.12.began" ] && [ -e "$TREE/3.13.began" ]; do
        tries=$((tries + 1)); [ $tries -lt 600 ] || exit 9
        sleep 0.1
    done
    echo "tested on $version"
    [ "$version" != "$BROKEN" ] ;;
esac
"""


@pytest.fixture
def other_pythons(tmp_path):
    """The script in a tree with two other Pythons, whose environments are ready."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "bin").mkdir()
    for tool in (
        "cat",
        "mktemp",
        "rm",
        "sh",
        "sleep",
        "touch",
    ):  # and none of the machine's Pythons
        (tmp_path / "bin" / tool).symlink_to(str(shutil.which(tool)))
    shutil.copy(TREE / "tests" / "other_pythons.sh", tmp_path / "tests")
    for version in ("3.11", "3.12", "3.13"):
        for folder in (tmp_path / "pyenv" / "versions" / version, tmp_path / f".venv-py{version}"):
            (folder / "bin").mkdir(parents=True)
            (folder / "bin" / "python").write_text(PYTHON % version)
            (folder / "bin" / "python").chmod(0o755)
            (folder / ".ready").touch()

    def run(*ours, **variables):
        return subprocess.run(
            [tmp_path / "bin" / "sh", "tests/other_pythons.sh", *ours],
            cwd=tmp_path,
            env=os.environ
            | {
                "TREE": str(tmp_path),
                "PYENV_ROOT": str(tmp_path / "pyenv"),
                "PATH": str(tmp_path / "bin"),
            }
            | variables,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


def test_all_other_versions_are_tested_beside_each_other_and_shown_in_order(other_pythons):
    done = other_pythons("3.11")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "Python 3.12",
        "tested on 3.12",
        "Python 3.13",
        "tested on 3.13",
    ]


def test_a_version_that_fails_is_named_and_the_others_are_still_shown(other_pythons):
    done = other_pythons("3.11", BROKEN="3.12")
    assert done.returncode == 1
    assert "tested on 3.13" in done.stdout
    assert done.stderr.strip() == "the tests failed on Python 3.12"


def test_a_machine_without_other_pythons_has_nothing_to_do(other_pythons, tmp_path):
    done = other_pythons("3.11", PYENV_ROOT=str(tmp_path / "none"))
    assert (done.returncode, done.stdout) == (0, "")
