"""The thread that writes: what comes meanwhile goes together, and nothing is left at the end."""

from __future__ import annotations

import threading

import pytest

from hashring.alarms.commits import Commits
from tests.servers.process import wait_until


def test_what_comes_while_one_is_written_is_written_together():
    written, free = [], threading.Event()

    def change(found):
        written.append(found)
        assert free.wait(60)

    with Commits(change, lambda found: None) as commits:
        commits.put(0, changes=True)
        wait_until(lambda: written)
        for number in range(1, 50):
            commits.put(number, changes=True)
        free.set()
    assert written == [[0], list(range(1, 50))]


def test_what_changes_nothing_waits_for_company_and_all_is_written_at_the_end():
    kept = []
    with Commits(lambda found: None, kept.append) as commits:
        for number in range(10):
            commits.put(number, changes=False)
        assert kept == []
    assert kept == [list(range(10))]


def test_an_error_is_raised_where_the_next_one_is_put_or_the_block_ends():
    def fail(found):
        raise ConnectionError("the database is away")

    commits = Commits(fail, fail)
    with pytest.raises(ConnectionError, match="is away"), commits:
        commits.put(1, changes=True)
    with pytest.raises(ConnectionError, match="is away"):
        commits.put(2, changes=True)


def test_a_block_that_is_left_by_an_error_still_writes_what_was_put():
    written = []

    def leave():
        with Commits(written.extend, written.extend) as commits:
            commits.put(1, changes=True)
            commits.put(2, changes=False)
            raise KeyError("of the block")

    with pytest.raises(KeyError):
        leave()
    assert written == [1, 2]
