"""What every store's fault tests do: run a plan, and keep the logs where it went wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from hashring.testing.faults.faults import Step, fault_plan, reference_plan, run_plan
from hashring.testing.faults.history import Event, History
from hashring.testing.faults.report import figures, table
from hashring.testing.faults.verdict import Verdict, check
from tests.faults.stores import STORES

TRIES = 3
"""How often a plan is carried out where the machine gave a member no processor."""

Judge = Callable[[History, Verdict], None]


def judged(run: Callable[[Path], History], folder: Path, judge: Judge) -> None:
    """Carry a plan out and judge it; where something is wrong, fail with all that is known.

    Where a member got no processor, polls may be missed by no fault of ours: then the plan is
    carried out again. What is held or polled twice is an error on any machine.

    Args:
        run: carries the plan out on a store that nobody has used, with its logs in a folder.
        folder: for the logs.
        judge: asserts what is to hold beyond what :func:`check` looks at.
    """
    for number in range(1, TRIES + 1):
        logs = folder / f"run-{number}"
        history = run(logs)
        verdict = check(history)
        try:
            assert not verdict.violations
            judge(history, verdict)
        except AssertionError as error:
            error.add_note(f"{figures(history, verdict)}\n\n{table(history, verdict)}\n\n{logs}")
            is_certain = bool(verdict.overlaps or verdict.repeated)
            if is_certain or history.starved() is None or number == TRIES:
                raise
        else:
            return


def on(store: str, plan: Sequence[Step], *, ttl: float = 3.0) -> Callable[[Path], History]:
    """Return what carries a plan out on a new store of this name."""

    def run(folder: Path) -> History:
        with STORES[store]() as running:
            return run_plan(plan, running, folder, ttl=ttl)

    return run


def assert_planned_changes_cost_nothing(
    store: str, folder: Path, *, amid: str = "store restarted"
) -> None:
    """Run the reference plan on a store; ``amid`` happens to it in the middle of the plan."""
    judged(on(store, reference_plan(1, short=True, amid=[amid])), folder, assert_exact)


def assert_no_slot_is_held_twice_in_any_fault(
    store: str, folder: Path, *, seconds: float = 1.2
) -> None:
    """Let each thing happen to a store that can, for so many seconds at least."""
    faults: list[str] = []

    def run(logs: Path) -> History:
        with STORES[store]() as running:
            faults[:] = running.faults()
            return run_plan(fault_plan(faults, seconds=seconds), running, logs)

    def judge(history: History, verdict: Verdict) -> None:
        happened = [event.kind for event in history.events if event.kind in faults]
        assert happened == faults
        assert verdict.repeated == 0
        # When it is over, all is as before: the last windows were whole.
        last = verdict.windows[1]
        assert all(history.polls[last]), f"window {last} was not whole"

    judged(run, folder, judge)


def assert_exact(history: History, verdict: Verdict) -> None:
    """No repeat at all; and no miss but for the killed and the paused members' shares.

    A store that is away for longer than a lease leaves after its last heartbeat costs what the
    fence must cost: a busy machine may take so long to start a server again.

    A member that the machine gave no processor for a whole window is told apart: it is late by
    itself, and no hand-off is to blame.
    """
    assert verdict.overlaps == []
    assert verdict.repeated == 0
    assert verdict.holds_checked > 1000
    windows = history.ttl / history.interval + 2
    for cost in verdict.costs:
        if cost.event is not None and _outlasts_the_lease(cost.event, history):
            away = (cost.event.end - cost.event.begin) / history.interval
            assert cost.errors == 0, cost
            assert cost.most <= windows + away, cost
        elif cost.event is None or cost.event.kind not in {"kill", "pause"}:
            assert (cost.missed, cost.stalled, cost.errors) == (0, 0, 0), cost
        else:
            assert cost.share > 0
            assert cost.stalled == 0, cost
            assert cost.missed <= windows * cost.share, cost
            assert cost.most <= windows, cost


def _outlasts_the_lease(event: Event, history: History) -> bool:
    # Heartbeats are a third of the ttl apart, the fence is at 0.9 of it, and tries are a tenth of
    # it apart: 0.47 of the ttl is left, less what a few calls take.
    return event.kind == "store restarted" and event.end - event.begin > 0.4 * history.ttl
