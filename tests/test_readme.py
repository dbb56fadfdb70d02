"""The README's commands are real. Its program is run by ``test_examples``."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

TREE = Path(__file__).resolve().parent.parent
README = (TREE / "README.md").read_text(encoding="utf-8")


def test_the_loop_stands_in_the_first_screen():
    screen = "\n".join(README.splitlines()[:50])
    assert "hashring.join(" in screen
    assert "partition.cycles(interval=60)" in screen
    assert "make run" in screen
    assert "make test" in screen


@pytest.mark.parametrize("target", sorted(set(re.findall(r"^make (\S+)", README, re.MULTILINE))))
def test_every_make_command_of_the_readme_exists(target):
    plan = ["make", "--dry-run", "--silent", target]
    done = subprocess.run(plan, cwd=TREE, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
