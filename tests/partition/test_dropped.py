"""What a partition does that nobody ends: it is dropped, or its interpreter exits."""

from __future__ import annotations

import contextlib
import gc
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import hashring
from tests.partition.conftest import TTL, records, threads_of_ours
from tests.servers.process import wait_until

KEYS = [f"resource-{number}" for number in range(500)]


def test_a_partition_that_is_dropped_hands_over_and_says_so(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with hashring.join(url, "group", "stays", ttl=TTL) as stays:
        dropped = hashring.join(url, "group", "dropped", ttl=TTL)
        wait_until(lambda: len(stays.members) == 2 and stays.state == "settled")
        assert dropped.wait_settled(60)

        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            del dropped
            wait_until(lambda: set(stays.records) == {"stays"}, what="the end of the dropped one")

        assert [one.category for one in warned] == [ResourceWarning]
        wait_until(lambda: len(stays.held) == 65536)
        assert warned[0].filename == __file__
        assert "use `with hashring.join" in caplog.text


def test_a_join_that_replaces_its_name_ends_the_one_before(url: str) -> None:
    # As where the cell of a notebook is run again.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        for _ in range(3):
            partition = hashring.join(url, "group", ttl=TTL)
        wait_until(lambda: len(records(url)) == 1, what="the end of those before")
    wait_until(lambda: len(partition.held) == 65536)
    partition.leave()


def test_a_partition_lives_as_long_as_its_loop_or_its_cycle(url: str) -> None:
    windows = hashring.join(url, "group", "a", ttl=TTL).cycles(3600)
    cycle = next(windows)
    gc.collect()

    assert list(cycle.owned(KEYS)) == KEYS
    assert records(url) == {"a"}

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        del windows, cycle
        wait_until(lambda: not records(url), what="the end of the dropped partition")


def test_a_partition_that_has_left_is_dropped_without_a_word(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        partition = hashring.join(url, "group", "a", ttl=TTL)
        partition.leave()
        del partition
        gc.collect()

    assert threads_of_ours() == []
    assert "dropped" not in caplog.text


def test_a_forked_child_may_drop_what_its_parent_has(url: str) -> None:
    with hashring.join(url, "group", "a", ttl=TTL) as a:
        assert a.wait_settled(60)
        child = os.fork()
        if child == 0:
            with contextlib.suppress(BaseException):
                del a
                gc.collect()
                os._exit(0)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert a.state == "settled"
        assert len(a.held) == 65536


# ---- an interpreter that exits ---------------------------------------------------------------

_EXITS = {
    "the end of the program": "",
    "sys.exit": "sys.exit(3)",
    "an exception": "raise ZeroDivisionError",
    "sys.exit in a cycle": "for cycle in partition.cycles(3600): sys.exit(3)",
    "a loop in a daemon thread": (
        "def work():\n"
        "    for cycle in partition.cycles(3600): begun.set()\n"
        "threading.Thread(target=work, daemon=True).start()\n"
        "begun.wait(60)\n"
        "sys.exit(3)\n"
    ),
    "sys.exit in a daemon thread, then the end": (
        "def work():\n"
        "    for cycle in partition.cycles(3600): begun.set(); sys.exit(3)\n"
        "threading.Thread(target=work, daemon=True).start()\n"
        "begun.wait(60)\n"
    ),
    "a block in a daemon thread": (
        "def work():\n"
        "    with partition:\n"
        "        begun.set()\n"
        "        for cycle in partition.cycles(3600): pass\n"
        "threading.Thread(target=work, daemon=True).start()\n"
        "begun.wait(60)\n"
    ),
}


@pytest.mark.parametrize("exits", _EXITS.values(), ids=_EXITS.keys())
def test_an_interpreter_that_exits_hands_over_what_nobody_left(tmp_path: Path, exits: str) -> None:
    url = f"sqlite://{tmp_path}/group.db"
    program = (
        "import hashring, sys, threading\n"
        "begun = threading.Event()\n"
        f"partition = hashring.join({url!r}, 'group', 'goes', ttl=60)\n"
        "while len(partition.members) < 2 or not partition.wait_settled(60): pass\n"
        f"{exits}\n"
    )
    with hashring.join(url, "group", "stays", ttl=60) as stays:
        assert stays.wait_settled(60)
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, timeout=150, check=False
        )

        assert b"goes" not in done.stderr, done.stderr
        wait_until(
            lambda: set(stays.records) == {"stays"} and len(stays.held) == 65536,
            within=35,  # of the lease are 40 left at least
            what="the hand-over",
        )


def test_a_forked_child_that_exits_leaves_nothing_of_its_parents(tmp_path: Path) -> None:
    url = f"sqlite://{tmp_path}/group.db"
    program = (
        "import hashring, os, sys\n"
        f"partition = hashring.join({url!r}, 'group', 'a', ttl=60)\n"
        "partition.wait_settled(60)\n"
        "child = os.fork()\n"
        "if child == 0: sys.exit(0)\n"  # runs what is registered for the exit, in the child too
        "assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0\n"
        "assert partition.records.keys() == {'a'} and partition.state == 'settled'\n"
        "assert len(partition.held) == 65536\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=150, check=False
    )

    assert done.returncode == 0, done.stderr
    with hashring.join(url, "group", "a", ttl=60) as again:  # the parent's exit has left
        assert again.wait_settled(60)
