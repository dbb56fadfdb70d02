"""What is to be done to a group and its store, step by step: plans, written down or drawn.

This module does nothing to anybody; :func:`hashring.testing.faults.run_plan` carries a plan out.
"""

from __future__ import annotations

import dataclasses
import itertools
import random
import time
from collections.abc import Iterator, Mapping, Sequence

from hashring.testing.faults.history import CLOCK_STEPS
from hashring.testing.faults.store import FROZEN, Fault

__all__ = ["Step", "fault_plan", "random_plan", "reference_plan"]

_FROZEN_FOR = 2.5
"""The least seconds for which a fault plan freezes a store: more than 0.57 of a ttl of 3 s."""

_FARTHEST_STEP = 8.0
"""Seconds: the most by which a random plan steps a clock. A step of more excuses more windows."""


@dataclasses.dataclass(frozen=True)
class Step:
    """One thing to do.

    Attributes:
        act: ``start``, ``join``, ``leave``, ``restart`` (drain, then start again), ``kill``,
            ``pause``, ``flood`` (many join and leave again), ``garbage`` (a record that nobody can
            read), ``clock steps`` (their wall clocks, and at the end back to the true time),
            ``rest``, or the name of a store's fault.
        members: to whom.
        wait: seconds before it, after the step before was done.
        seconds: how long a pause or a fault lasts; ``rest`` and everything else: nothing.
        abide: wait for the end of it before the next step.
        amount: seconds by which clocks step, back where it is negative.
    """

    act: str
    members: tuple[str, ...] = ()
    wait: float = 0.0
    seconds: float = 0.0
    abide: bool = True
    amount: float = 0.0


def reference_plan(
    seed: int, *, losses: bool = True, amid: Sequence[str] = (), short: bool = False
) -> list[Step]:
    """Return the plan that every store must pass; the seed shifts it against the windows.

    Four members start together; one joins; two join at once; one leaves; all are restarted, one
    after the other. That must cost nothing. Then, with ``losses``, one is killed, started again,
    and one is paused for 10 s.

    Args:
        seed: which members, and at which moments.
        losses: with the kill and the pause.
        amid: faults of the store, each once, between the leave and the restarts.
        short: restart two members only, and pause for 5 s.
    """
    chance = random.Random(seed)  # noqa: S311 - a plan, no secret
    first = [f"m{number}" for number in range(4)]
    members = [*first, "m4", "m5", "m6"]

    def shift() -> float:
        return chance.uniform(1.0, 2.0) if short else chance.uniform(2.0, 4.0)

    leaving = chance.choice(members)
    plan = [
        Step("start", tuple(first)),
        Step("join", ("m4",), wait=shift()),
        Step("double join", ("m5", "m6"), wait=shift()),
        Step("leave", (leaving,), wait=shift()),
    ]
    members.remove(leaving)
    for fault in amid:
        # A store that forgot has the group stand still for a ttl; then it may change again.
        plan += [Step(fault, wait=shift(), seconds=0.5), Step("rest", wait=4.5)]
    chance.shuffle(members)
    for member in members[:2] if short else members:
        plan.append(Step("restart", (member,), wait=chance.uniform(0.0, 1.0)))
    if losses:
        killed, paused = chance.sample(members, 2)
        plan += [
            Step("kill", (killed,), wait=shift()),
            Step("join", (killed,), wait=5.0 if short else 6.5),
            Step("pause", (paused,), wait=shift(), seconds=5.0 if short else 10.0),
            Step("rest", wait=2.0 if short else 5.0),
        ]
    plan.append(Step("rest", wait=2.0))
    return plan


def fault_plan(faults: Sequence[str], *, seconds: float = 1.2) -> list[Step]:
    """Return a plan that has each of these faults of a store once, and two joins among them.

    Each lasts so many seconds; ``store paused`` long enough to tell a call without a time limit.
    """
    plan = [Step("start", ("m0", "m1", "m2"))]
    joining = {len(faults) // 3: "m3", 2 * len(faults) // 3: "m4"}
    for number, fault in enumerate(faults):
        if number in joining:
            plan.append(Step("join", (joining[number],), wait=0.2))
        lasts = max(seconds, _FROZEN_FOR) if fault == FROZEN else seconds
        plan.append(Step(fault, wait=0.6, seconds=lasts))
    return [*plan, Step("rest", wait=6.0)]


def random_plan(
    seed: int, seconds: float, faults: Mapping[str, Fault], *, clock_steps: bool = False
) -> Iterator[Step]:
    """Draw faults of every kind for about so many seconds; some run while others begin.

    Args:
        seed: of the draw.
        seconds: how long.
        faults: the store's own (:meth:`Store.faults`).
        clock_steps: a third of what happens are steps of clocks, and not one in twenty. They
            excuse misses and repeats, so that such a run tells of overlaps alone.
    """
    chance = random.Random(seed)  # noqa: S311 - a plan, no secret
    names = (f"r{number}" for number in itertools.count(4))
    members = [f"r{number}" for number in range(4)]
    end = time.monotonic() + seconds
    yield Step("start", tuple(members))
    own = ["join", "leave", "restart", "kill", "pause", "short pause", "flood", "garbage", "roll"]
    own.append(CLOCK_STEPS)
    decks: list[tuple[list[str], list[str]]] = [(own, [])]
    if faults:
        decks.append((sorted(faults), []))
    if clock_steps:
        decks.append(([CLOCK_STEPS], []))
    while time.monotonic() < end:
        # As much is done to members as to the store; each kind in its turn.
        deck = decks[chance.randrange(len(decks))]
        if not deck[1]:
            deck[1].extend(chance.sample(deck[0], len(deck[0])))
        kind = deck[1].pop()
        wait = chance.choice([0.0, chance.uniform(0.0, 1.0), chance.uniform(1.0, 6.0)])
        one = chance.choice(members)
        if kind == "join" and len(members) < 7:
            members.append(next(names))
            yield Step("join", (members[-1],), wait=wait, abide=chance.random() < 0.5)
        elif kind == "leave" and len(members) > 3:
            members.remove(one)
            yield Step("leave", (one,), wait=wait, abide=chance.random() < 0.5)
        elif kind == "restart":
            yield Step("restart", (one,), wait=wait)
        elif kind == "roll":
            for member in chance.sample(members, len(members)):
                yield Step("restart", (member,))
        elif kind == "kill":
            yield Step("kill", (one,), wait=wait)
            # Sometimes it comes back within its lease, under the same name.
            yield Step("join", (one,), wait=chance.uniform(0.0, 6.0), abide=False)
        elif kind == "pause":
            yield Step("pause", (one,), wait, chance.uniform(3.5, 10.0), chance.random() < 0.5)
        elif kind == "short pause":
            yield Step("pause", (one,), wait, chance.uniform(0.1, 2.5), chance.random() < 0.5)
        elif kind == "flood":
            flood = tuple(next(names) for _ in range(chance.randint(3, 6)))
            yield Step("flood", flood, wait=wait)
        elif kind == "garbage":
            yield Step("garbage", (next(names),), wait=wait)
        elif kind == CLOCK_STEPS:
            whose = (one,) if chance.random() < 0.5 else tuple(members)
            amount = chance.choice((-1.0, 1.0)) * chance.uniform(0.5, _FARTHEST_STEP)
            seconds = chance.uniform(0.5, 6.0)
            yield Step(kind, whose, wait, seconds, chance.random() < 0.5, amount)
        elif kind in faults:
            least, most = faults[kind].seconds
            yield Step(kind, (), wait, chance.uniform(least, most), chance.random() < 0.7)
    yield Step("rest", wait=8.0)
