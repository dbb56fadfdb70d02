"""Members on event loops, in processes of their own on Redis: the plan that all must pass."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from hashring.testing.faults.faults import Step, reference_plan, run_plan
from hashring.testing.faults.history import History
from tests.faults.plans import assert_exact, judged
from tests.faults.stores import STORES

pytestmark = pytest.mark.faults

WORKER = [sys.executable, "-m", "tests.faults.loop_worker"]

# Three processes: all join, one leaves, one comes back, and two are restarted.
THREE = [
    Step("start", ("m0", "m1")),
    Step("join", ("m2",), wait=1.3),
    Step("leave", ("m0",), wait=1.7),
    Step("join", ("m0",), wait=1.1),
    Step("restart", ("m1",), wait=0.4),
    Step("restart", ("m2",), wait=0.7),
    Step("rest", wait=2.0),
]


@pytest.mark.parametrize(
    ("plan", "keys"),
    [
        pytest.param(THREE, 1000, id="planned"),
        pytest.param(reference_plan(3), 5000, id="reference", marks=pytest.mark.long),
    ],
)
def test_polls_on_event_loops_are_neither_missed_nor_repeated_in_planned_changes(
    tmp_path: Path, plan: list[Step], keys: int
) -> None:
    def run(logs: Path) -> History:
        with STORES["redis"]() as store:
            return run_plan(plan, store, logs, keys=keys, command=WORKER)

    judged(run, tmp_path, assert_exact)
