"""What is tried again, and what is not."""

import os
import signal
import time

import pytest

from hashring.errors import LeaseLost, StoreUnavailable
from tests import reruns


@pytest.fixture
def watch(monkeypatch):
    monkeypatch.setenv("HASHRING_TEST_GAPS", "")  # the run's own comes back after the test
    watch = reruns.Watch()
    yield watch
    watch.end()


@pytest.mark.parametrize(
    ("error", "inconclusive"),
    [
        (StoreUnavailable("no answer"), True),
        (TimeoutError(), True),
        (LeaseLost("gone"), False),
        (AssertionError("held twice"), False),
    ],
)
def test_only_a_failure_to_answer_is_tried_again_on_a_machine_that_runs(watch, error, inconclusive):
    assert reruns.Attempt().is_inconclusive(error) is inconclusive


def test_whatever_fails_while_nothing_runs_is_tried_again(watch):
    attempt = reruns.Attempt()
    deadline = time.monotonic() + 60

    while not attempt.is_inconclusive(AssertionError()):
        assert time.monotonic() < deadline, "the gap was not seen"
        os.kill(watch.process.pid, signal.SIGSTOP)
        time.sleep(reruns.LONGEST + 0.5)
        os.kill(watch.process.pid, signal.SIGCONT)

    assert not reruns.Attempt().is_inconclusive(AssertionError())


def test_the_watch_ends_with_the_run(watch):
    watch.end()

    assert watch.process.returncode == 0
    assert not watch.gaps.exists()
