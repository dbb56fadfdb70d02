"""The README's program and commands are real. Its ``>>>`` examples run as doctests of their own."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

TREE = Path(__file__).resolve().parent.parent
README = (TREE / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
PROGRAMS = [block for language, block in BLOCKS if language == "python"]


class EnoughError(Exception):
    """Ends a loop that would run for ever."""


def test_the_loop_stands_in_the_first_screen():
    screen = "\n".join(README.splitlines()[:50])
    assert "hashring.join(" in screen
    assert "partition.cycles(interval=60)" in screen
    assert "make run" in screen
    assert "make test" in screen


def test_the_loop_that_a_user_writes_polls_every_key_once_in_a_window(tmp_path):
    keys = [f"host-{number}" for number in range(200)]
    polled = []

    def poll(key):
        polled.append(key)
        if len(polled) == len(keys):
            raise EnoughError

    (loop,) = [program for program in PROGRAMS if "hashring.join(" in program]
    # The same lines with a file and a window that a test can afford.
    loop = loop.replace("sqlite:////var/lib/pollers/group.db", f"sqlite:///{tmp_path}/group.db")
    loop = loop.replace("interval=60", "interval=1")
    assert str(tmp_path) in loop
    with pytest.raises(EnoughError):
        exec(compile(loop, "README.md", "exec"), {"keys": keys, "poll": poll})
    assert sorted(polled) == sorted(keys)


@pytest.mark.parametrize("target", sorted(set(re.findall(r"^make (\S+)", README, re.MULTILINE))))
def test_every_make_command_of_the_readme_exists(target):
    plan = ["make", "--dry-run", "--silent", target]
    done = subprocess.run(plan, cwd=TREE, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
