"""Runs of the real hand-off on a simulated store, one by one or many in several processes."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable

from hashring.protocol.handoff import Handoff
from hashring.protocol.runner import Runner
from hashring.testing.simulation.profiles import PROFILES, Profile
from hashring.testing.simulation.result import Result, Violation
from hashring.testing.simulation.world import World

__all__ = ["run", "run_many"]


def run(
    seed: int,
    profile: Profile | str = "chaos",
    *,
    make_handoff: Callable[..., Handoff] = Handoff,
    make_runner: Callable[[Handoff], Runner] = Runner,
    trace: Callable[[str], None] | None = None,
) -> Result:
    """Play one run and check it after every step.

    Args:
        seed: the same seed and profile play the same run.
        profile: one of :data:`PROFILES`, or your own.
        make_handoff: another hand-off to judge: the tests plant known mistakes here.
        make_runner: another choreography to judge.
        trace: is called with a line for each event.

    Raises:
        Violation: a rule does not hold.

    Example:
        >>> run(1, "planned").repeated
        0
    """
    found = PROFILES[profile] if isinstance(profile, str) else profile
    world = World(seed, found, make_handoff=make_handoff, make_runner=make_runner, trace=trace)
    return world.play()


def _share(job: tuple[int, int, str]) -> tuple[Result, list[str]]:
    first, runs, profile = job
    total, violations = Result(), []
    for seed in range(first, first + runs):
        try:
            total.add(run(seed, profile))
        except Violation as violation:
            violations.append(f"{profile}: {violation}")
    return total, violations


def run_many(
    runs: int, profile: str = "chaos", *, first: int = 0, processes: int | None = None
) -> tuple[Result, list[str]]:
    """Play many runs in several processes; return their sum and the violations."""
    size = max(1, min(250, runs // 8 or 1))
    jobs = [
        (start, min(size, first + runs - start), profile)
        for start in range(first, first + runs, size)
    ]
    total, violations = Result(), []
    context = multiprocessing.get_context("spawn")
    with context.Pool(processes) as pool:
        for result, found in pool.imap_unordered(_share, jobs):
            total.add(result)
            violations.extend(found)
    return total, violations
