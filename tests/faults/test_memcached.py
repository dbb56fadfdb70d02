"""Members on Memcached under faults: the reference plan, and all that may happen to the store."""

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
    assert_planned_changes_cost_nothing("memcached", tmp_path)


def test_whatever_happens_to_the_store_no_slot_is_held_twice(tmp_path: Path) -> None:
    assert_no_slot_is_held_twice_in_any_fault("memcached", tmp_path)
