"""Members on etcd under faults: the reference plan, and all that may happen to the store."""

from __future__ import annotations

from pathlib import Path

import pytest

from hashring.testing.faults.faults import fault_plan, reference_plan
from tests.faults.plans import assert_exact, judged
from tests.faults.stores import STORES

pytestmark = [pytest.mark.faults, pytest.mark.long]


def test_planned_changes_cost_nothing_and_a_loss_only_its_lease(tmp_path: Path) -> None:
    # In the middle of the plan: a restart of the server.
    with STORES["etcd"]() as store:
        history, verdict = judged(
            reference_plan(1, short=True, amid=["store restarted"]), store, tmp_path
        )
    assert_exact(history, verdict)


@pytest.mark.parametrize(
    ("name", "seconds"),
    [("etcd", 1.2), ("etcd-cluster", 2.5)],
)
def test_whatever_happens_to_the_store_no_slot_is_held_twice(
    tmp_path: Path, name: str, seconds: float
) -> None:
    with STORES[name]() as store:
        faults = list(store.faults())
        history, verdict = judged(fault_plan(faults, seconds=seconds), store, tmp_path)
    assert [event.kind for event in history.events if event.kind in faults] == faults
    assert verdict.repeated == 0
    # When it is over, all is as before: the last windows were whole.
    last = verdict.windows[1]
    assert all(history.polls[last])
