"""What every store's fault tests do: run a plan, and keep the logs where it went wrong."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hashring.testing.faults.faults import Step, Store, fault_plan, reference_plan, run_plan
from hashring.testing.faults.history import Event, History
from hashring.testing.faults.report import figures, table
from hashring.testing.faults.verdict import Verdict, check
from tests.faults.stores import STORES


def judged(
    plan: Sequence[Step], store: Store, folder: Path, *, ttl: float = 3.0
) -> tuple[History, Verdict]:
    """Carry the plan out and judge it; where something is wrong, fail with all that is known."""
    history = run_plan(plan, store, folder, ttl=ttl)
    verdict = check(history)
    told = f"{figures(history, verdict)}\n\n{table(history, verdict)}\n\nlogs: {folder}"
    assert not verdict.violations, told
    return history, verdict


def assert_planned_changes_cost_nothing(
    store: str, folder: Path, *, amid: str = "store restarted"
) -> None:
    """Run the reference plan on a store; ``amid`` happens to it in the middle of the plan."""
    with STORES[store]() as running:
        history, verdict = judged(reference_plan(1, short=True, amid=[amid]), running, folder)
    assert_exact(history, verdict)


def assert_no_slot_is_held_twice_in_any_fault(
    store: str, folder: Path, *, seconds: float = 1.2
) -> None:
    """Let each thing happen to a store that can, for so many seconds at least."""
    with STORES[store]() as running:
        faults = list(running.faults())
        history, verdict = judged(fault_plan(faults, seconds=seconds), running, folder)
    happened = [event.kind for event in history.events if event.kind in faults]
    assert happened == faults, f"{happened} happened, not {faults}"
    assert verdict.repeated == 0, figures(history, verdict)
    assert_whole_in_the_end(history, verdict)


def assert_whole_in_the_end(history: History, verdict: Verdict) -> None:
    """When it is over, all is as before: a ttl later some window is whole.

    Not each: a busy machine may make a member late in any of them.
    """
    since = max((event.end for event in history.events), default=0.0) + history.ttl
    whole = [
        window
        for window, counts in history.polls.items()
        if all(counts) and history.window_start(window) >= since
    ]
    assert whole, f"no window was whole in the end: {figures(history, verdict)}"


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
