"""Every state that a small group can reach, with the real hand-off: a search, not a sample.

The simulator plays lives at random; this takes *every* turn, breadth first: each order of reads,
writes, lost and delayed answers, heartbeats, cycles, joins, drains, crashes, expiry, and a store
that forgets. States are compared by value, so each distinct one is visited once. In each it checks
what the protocol promises (``docs/protocol.md``):

* no two live members have one slot in hand;
* each has a subset of ``table(applied)[itself]``, where ``applied`` is what the *store* has;
* what a valid cycle has pinned is in hand.

Run it: ``python -m hashring.testing.simulation.exhaustive --members 2 --depth 20``. A violation is
printed as the shortest conversation that leads to it, one line an event.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Callable, Sequence

from hashring.protocol.handoff import Handoff
from hashring.protocol.runner import Runner
from hashring.testing.simulation.lives import OVERWRITTEN, spec
from hashring.testing.simulation.states import (
    LIMITS,
    Counterexample,
    Event,
    Limits,
    Outcome,
    Place,
    States,
)

__all__ = ["Counterexample", "Limits", "Outcome", "search"]


def search(
    members: int = 2,
    *,
    depth: int,
    slots: int = 4,
    settled: int = 0,
    limits: Limits | None = None,
    make_handoff: Callable[..., Handoff] = Handoff,
    make_runner: Callable[[Handoff], Runner] = Runner,
    overwritten: frozenset[str] = OVERWRITTEN,
    most_states: int | None = None,
) -> Outcome:
    """Visit every state that can be reached in so many events, and check each.

    Args:
        members: how many processes there are, 1 to 3.
        depth: events from the first state.
        slots: of the ring; a power of two.
        settled: so many members have joined and settled in the first state; the others have yet
            to start.
        limits: how often faults may happen on one path.
        make_handoff: another hand-off to judge: the tests plant known mistakes here.
        make_runner: another choreography to judge.
        overwritten: attributes of the hand-off by which two states need not be told apart.
        most_states: stop, incomplete, once so many are known.

    Returns:
        What was found. The search ends with the first violation.

    Example:
        >>> search(2, depth=6).counterexample is None
        True
    """
    limits = limits if limits is not None else Limits()
    world = States(members, spec(slots), limits, (make_handoff, make_runner), overwritten)
    prefix = world.settle(world.first, settled)
    start = prefix[-1][1] if prefix else world.first
    came_from: dict[Place, tuple[Place, Event] | None] = {start: None}
    by_depth = [1]
    level = [start]
    early = _told_before(world, prefix)
    if early is not None:
        return Outcome(1, (1,), is_complete=False, counterexample=early)
    while level and len(by_depth) <= depth:
        fresh = []
        for before in level:
            for event in world.events(before):
                after = world.after(before, event)
                if after in came_from:
                    continue
                came_from[after] = (before, event)
                rule = world.violation(after)
                if rule is not None:
                    path = _path(came_from, after)
                    told = Counterexample(rule, world.told([*prefix, *path]))
                    return Outcome(len(came_from), tuple(by_depth), False, told)
                fresh.append(after)
            if most_states is not None and len(came_from) >= most_states:
                return Outcome(len(came_from), tuple(by_depth), is_complete=False)
        level = fresh
        by_depth.append(len(fresh))
    return Outcome(len(came_from), tuple(by_depth), is_complete=not level)


def _told_before(world: States, prefix: Sequence[tuple[Event, Place]]) -> Counterexample | None:
    """Return what is wrong while the first members settle."""
    for at, (_, reached) in enumerate(prefix, start=1):
        rule = world.violation(reached)
        if rule is not None:
            return Counterexample(rule, world.told(prefix[:at]))
    return None


def _path(
    came_from: dict[Place, tuple[Place, Event] | None], end: Place
) -> list[tuple[Event, Place]]:
    path: list[tuple[Event, Place]] = []
    while (found := came_from[end]) is not None:
        path.append((found[1], end))
        end = found[0]
    return path[::-1]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; exit with 1 on a violation."""
    parser = argparse.ArgumentParser(
        prog="python -m hashring.testing.simulation.exhaustive",
        description=__doc__.partition("\n")[0],
    )
    parser.add_argument("--members", type=int, choices=(1, 2, 3), default=2)
    parser.add_argument("--slots", type=int, choices=(2, 4, 8, 16), default=4)
    parser.add_argument("--depth", type=int, default=20, help="events (default: %(default)s)")
    parser.add_argument(
        "--settled", type=int, default=0, help="members that have settled before the first event"
    )
    parser.add_argument("--most-states", type=int, default=None, help="stop once so many are known")
    for field in dataclasses.fields(Limits):
        parser.add_argument(
            f"--{field.name}",
            type=int,
            default=field.default,
            help="the most on one path (default: %(default)s)",
        )
    options = parser.parse_args(arguments)
    if not 0 <= options.settled <= options.members:
        parser.error("--settled is more than there are members")
    limits = Limits(**{name: getattr(options, name) for name in LIMITS})
    began = time.process_time()
    outcome = search(
        options.members,
        depth=options.depth,
        slots=options.slots,
        settled=options.settled,
        limits=limits,
        most_states=options.most_states,
    )
    seconds = time.process_time() - began
    if outcome.counterexample is not None:
        sys.stdout.write(f"{outcome.counterexample}\n")
    end = "all that these limits allow" if outcome.is_complete else "more lie deeper"
    sys.stdout.write(
        f"{options.members} members, {options.settled} settled at first, {options.slots} slots: "
        f"{outcome.states} distinct states within {len(outcome.by_depth) - 1} events ({end}), "
        f"{0 if outcome.counterexample is None else 1} violations; {seconds:.1f} s of processor "
        f"time\n"
    )
    return 0 if outcome.counterexample is None else 1


if __name__ == "__main__":
    sys.exit(main())
