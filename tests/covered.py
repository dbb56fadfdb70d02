"""A plug-in of pytest for ``make coverage``: nothing that was counted is lost without a word.

A process writes its counts when it ends. pytest-xdist gives its processes ten seconds to end, then
kills them; one that is killed takes the counts of half the suite with it. So each writes them when
its tests are over. And a test that calls ``sys.settrace`` ends the counting of its thread, for all
tests after it, unless it puts back what was there: such a test is an error here.
"""

from __future__ import annotations

import sys
from collections.abc import Generator

import coverage
import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None]:
    counts = sys.gettrace()
    try:
        return (yield)
    finally:
        if sys.gettrace() is not counts:
            sys.settrace(counts)
            pytest.fail("the test has ended the counting: put back what sys.gettrace() was before")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish() -> None:
    counting = coverage.Coverage.current()
    if counting is not None:
        counting.stop()
        counting.save()
