"""Members on Redis under faults: the reference plan, and all that may happen to the store."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.plans import (
    assert_no_slot_is_held_twice_in_any_fault,
    assert_planned_changes_cost_nothing,
)

pytestmark = pytest.mark.faults


def test_planned_changes_cost_nothing_and_a_loss_only_its_lease(tmp_path: Path) -> None:
    # In the middle of the plan: a restart of the server.
    assert_planned_changes_cost_nothing("redis", tmp_path)


@pytest.mark.parametrize(
    ("name", "seconds"),
    [("redis", 1.2), pytest.param("redis-sentinel", 2.5, marks=pytest.mark.long)],
)
def test_whatever_happens_to_the_store_no_slot_is_held_twice(
    tmp_path: Path, name: str, seconds: float
) -> None:
    assert_no_slot_is_held_twice_in_any_fault(name, tmp_path, seconds=seconds)
