"""Real processes, a real store, and what is done to them: the harness of the fault tests.

A :class:`Group` is the worker processes of one run (:mod:`hashring.testing.faults.worker`) on one
store; a plan is a list of :class:`Step`; :func:`run_plan` carries it out and returns the
:class:`~hashring.testing.faults.history.History` that the workers wrote. What is right or wrong is
judged elsewhere. This module does what a plan says, in order and in time; it knows no protocol.

The author of a driver gives his store as a :class:`Store`, and gets all of this::

    class MyStore(ServerStore): ...

    with MyStore(...) as store:
        history = run_plan(reference_plan(seed=1), store, folder)
        verdict = check(history)
        assert not verdict.violations, verdict.violations
"""

from __future__ import annotations

import dataclasses
import heapq
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from hashring.driver import load
from hashring.errors import HashringError
from hashring.testing.faults.group import WORKER, Group
from hashring.testing.faults.history import CLOCK_STEPS, History
from hashring.testing.faults.plans import Step, fault_plan, random_plan, reference_plan
from hashring.testing.faults.sqlite_store import SQLiteStore
from hashring.testing.faults.store import (
    BACK_IN_TIME,
    FROZEN,
    Fault,
    Server,
    ServerStore,
    Store,
)

__all__ = [
    "BACK_IN_TIME",
    "FROZEN",
    "WORKER",
    "Fault",
    "Group",
    "SQLiteStore",
    "Server",
    "ServerStore",
    "Step",
    "Store",
    "fault_plan",
    "random_plan",
    "reference_plan",
    "run_plan",
]


class _Runner:
    """Carries a plan out."""

    def __init__(self, group: Group, store: Store) -> None:
        self._group = group
        self._faults = store.faults()
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._is_broken = False
        self._clocks_are_wrong = False

    def run(self, plan: Sequence[Step] | Iterator[Step]) -> None:
        for step in plan:
            self._sleep(step.wait)
            self._group.check()
            self._do(step)
        # What is still broken is mended before the run ends.
        while self._later:
            self._sleep(max(0.0, self._later[0][0] - time.monotonic()))

    def _sleep(self, seconds: float) -> None:
        """Sleep, and mend meanwhile what is due."""
        until = time.monotonic() + seconds
        while self._later and self._later[0][0] <= until:
            time.sleep(max(0.0, self._later[0][0] - time.monotonic()))
            self._mend_due()
        time.sleep(max(0.0, until - time.monotonic()))

    def _mend_due(self) -> None:
        while self._later and self._later[0][0] <= time.monotonic():
            _, _, mend = heapq.heappop(self._later)
            mend()

    def _do(self, step: Step) -> None:
        group, members = self._group, step.members
        if step.act == "rest":
            return
        if step.act == CLOCK_STEPS:
            self._step_clocks(step)
            return
        while self._group.paused & set(members):
            # Nothing else is done to a paused process.
            self._sleep(max(0.0, self._later[0][0] - time.monotonic()))
        if step.act == "garbage":
            self._garbage(step)
            return
        if step.act in self._faults:
            self._break(step)
            return
        over = group.event(step.act, *members)
        if step.act in {"start", "join", "double join"}:
            group.start(*members)
            if step.abide:
                group.wait_ready(*members, meanwhile=self._mend_due)
            over()
        elif step.act == "leave":
            group.terminate(*members)
            if step.abide:
                group.wait_gone(*members, meanwhile=self._mend_due)
            over()
        elif step.act == "restart":
            group.terminate(*members)
            group.wait_gone(*members, meanwhile=self._mend_due)
            group.start(*members)
            group.wait_ready(*members, meanwhile=self._mend_due)
            over()
        elif step.act == "kill":
            group.kill(*members)
            over()
        elif step.act == "flood":
            group.start(*members)
            group.wait_ready(*members, meanwhile=self._mend_due)
            group.terminate(*members)
            group.wait_gone(*members, meanwhile=self._mend_due)
            over()
        elif step.act == "pause":
            group.pause(*members)
            self._mend_later(step, lambda: self._resume(members, over))
        else:
            raise ValueError(
                f"a plan has the step {step.act!r}; this store has: {', '.join(self._faults)}"
            )

    def _resume(self, members: tuple[str, ...], over: Callable[[], None]) -> None:
        self._group.resume(*members)
        over()

    def _mend_later(self, step: Step, mend: Callable[[], None]) -> None:
        heapq.heappush(self._later, (time.monotonic() + step.seconds, next(self._order), mend))
        if step.abide:
            self._sleep(step.seconds)

    def _break(self, step: Step) -> None:
        while self._is_broken:
            # One fault of the store at a time: mending one may mend another.
            self._sleep(max(0.0, self._later[0][0] - time.monotonic()))
        fault = self._faults[step.act]
        over = self._group.event(step.act)
        fault.begin()
        self._is_broken = True

        def mend() -> None:
            fault.end()
            self._is_broken = False
            over()

        self._mend_later(step, mend)

    def _step_clocks(self, step: Step) -> None:
        """Step clocks, those of paused members too, and at the end back to the true time."""
        while self._clocks_are_wrong:
            # One step at a time, so that its reach can be told.
            self._sleep(max(0.0, self._later[0][0] - time.monotonic()))
        over = self._group.event(step.act, *step.members, reach=abs(step.amount))
        self._group.step_clocks(step.amount, *step.members)
        self._clocks_are_wrong = True

        def correct() -> None:
            self._group.step_clocks(-step.amount, *step.members)
            self._clocks_are_wrong = False
            over()

        self._mend_later(step, correct)

    def _garbage(self, step: Step) -> None:
        """Put a record that nobody can read into the group; it goes with its lease."""
        over = self._group.event("garbage", *step.members)
        driver = load(self._group.url, ttl=self._group.ttl)
        try:
            driver.open()
            driver.join("faults", step.members[0], b"\xff no record of ours")
        except HashringError:
            pass
        finally:
            driver.close()
        self._mend_later(dataclasses.replace(step, seconds=self._group.ttl, abide=False), over)


def run_plan(
    plan: Sequence[Step] | Iterator[Step],
    store: Store,
    folder: Path,
    *,
    ttl: float = 3.0,
    interval: float = 1.0,
    keys: int = 2000,
    on_crash: str = "skip",
    work: float = 0.1,
    command: Sequence[str] = WORKER,
    slots: int | None = None,
) -> History:
    """Carry out a plan on a store that has been started, and return what happened.

    Args:
        plan: the steps.
        store: entered as a context manager.
        folder: for the logs; it is made where it is missing, and must be empty.
        ttl: the lease in seconds.
        interval: seconds a window.
        keys: how many.
        on_crash: see :meth:`hashring.Partition.cycles`.
        work: seconds that a window's work takes a worker.
        command: another worker, with the same options and log.
        slots: 0 for a worker that logs no holds.

    Raises:
        TimeoutError: a member has not joined or left in a minute.
        ChildProcessError: a member ended by itself.
        FileExistsError: the folder has logs of another run, which would be judged with this one's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if found := next(folder.glob("*.jsonl"), None):
        raise FileExistsError(f"{found} is of another run: give run_plan an empty folder")
    with Group(
        store.url,
        folder,
        ttl=ttl,
        interval=interval,
        keys=keys,
        on_crash=on_crash,
        work=work,
        command=command,
        slots=slots,
        memory_lateness=store.memory_lateness,
    ) as group:
        _Runner(group, store).run(plan)
        group.finish()
    return History.load(folder)
