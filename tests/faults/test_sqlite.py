"""Members on SQLite under faults: the reference plan, and all that may happen to the store."""

from __future__ import annotations

from pathlib import Path

import pytest

from hashring.testing.faults.faults import WORKER, Step, run_plan
from hashring.testing.faults.verdict import check
from tests.faults.plans import (
    assert_no_slot_is_held_twice_in_any_fault,
    assert_planned_changes_cost_nothing,
)
from tests.faults.stores import STORES

pytestmark = pytest.mark.faults


def test_planned_changes_cost_nothing_and_a_loss_only_its_lease(tmp_path: Path) -> None:
    # In the middle of the plan: a writer that keeps the file locked for half a second.
    assert_planned_changes_cost_nothing("sqlite", tmp_path, amid="store locked")


def test_whatever_happens_to_the_store_no_slot_is_held_twice(tmp_path: Path) -> None:
    assert_no_slot_is_held_twice_in_any_fault("sqlite", tmp_path)


def test_members_that_do_not_wait_for_each_other_are_caught(tmp_path: Path) -> None:
    # The same members without the gate: what nobody could fail would prove nothing.
    plan = [
        Step("start", ("m0", "m1")),
        *(Step("join", (member,), wait=0.7) for member in ("m2", "m3", "m4")),
        Step("rest", wait=2.0),
    ]
    eager = (*WORKER, "--handoff", "eager")
    for attempt in range(3):  # on a busy machine a newcomer may come between two cycles
        folder = tmp_path / str(attempt)
        folder.mkdir()
        with STORES["sqlite"]() as store:
            # Nearly always in a cycle: whoever takes its slots meanwhile holds them as well.
            verdict = check(run_plan(plan, store, folder, command=eager, work=0.8))
        if verdict.overlaps:
            break
    assert verdict.overlaps != []
    assert "at once" in verdict.violations[0]
