"""What becomes of evaluators through a plan, and how that is judged.

Judged are the log of a proxy before Prometheus, and what the sink was told: each alarm is asked
about once in each window, and the sink gets the changes that follow from the answers, each once and
in order.
"""

from __future__ import annotations

import itertools
import math
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

from hashring.alarms.database.definitions import id_of
from hashring.alarms.database.engine import Database
from hashring.alarms.database.notifications import Notifications
from tests.alarms.fleet import Evaluators, changes_in, square_alarms, told
from tests.alarms.waves import Waves
from tests.servers.http import HTTPServer
from tests.servers.process import wait_until
from tests.standstill import Excusable

INTERVAL, TTL, ALARMS, LAG = 5.0, 6.0, 500, 2.0


class Figure(NamedTuple):
    """What was due in a part of the plan: alarms times windows; and how many of them were not so.

    Attributes:
        part: of the plan.
        due: how many.
        missed: how many nobody asked about.
        twice: how many somebody asked about again.
    """

    part: str
    due: int
    missed: int
    twice: int


def pass_windows(number: int) -> int:
    """Wait until so many full windows have passed; return the last one."""
    last = math.floor(time.time() / INTERVAL) + number
    wait_until(
        lambda: time.time() >= (last + 1) * INTERVAL + 1.0,
        within=60 + number * INTERVAL,
        what="some windows",
    )
    return last


def squares(sink: str) -> list[dict[str, Any]]:
    """Return the alarms: each tells the sink of every state."""
    alarms = square_alarms(ALARMS, sink)
    for number, alarm in enumerate(alarms):
        alarm["rule"]["query"] = f'square{{number="{number}"}}'
    return alarms


class Judge:
    """Compares what was due with what came of it.

    Attributes:
        figures: of each part of the plan.
    """

    def __init__(self, waves: Waves, sink: HTTPServer) -> None:
        self._waves, self._sink = waves, sink
        self.figures: list[Figure] = []

    def is_exact(self, part: str, first: int, last: int) -> None:
        """Each alarm was asked about once in each of these windows."""
        due = {(n, window) for window in range(first, last + 1) for n in range(ALARMS)}
        try:  # the last one may be begun late
            wait_until(lambda: not due - self._waves.asked().keys(), within=15, what=part)
        except AssertionError as error:
            missing = due - self._waves.asked().keys()
            windows = sorted({window for _, window in missing})
            raise Excusable(f"{part}: {len(missing)} were missed, in {windows}") from error
        finally:
            figure = self._count(part, first, last)
        assert figure.twice == 0, figure

    def count(self, part: str, first: int, last: int) -> None:
        """Note what was missed in windows in which some may be."""
        assert self._count(part, first, last).twice == 0

    def _count(self, part: str, first: int, last: int) -> Figure:
        asked = self._waves.asked()
        counts = [asked[n, window] for window in range(first, last + 1) for n in range(ALARMS)]
        twice = sum(count > 1 for count in counts)
        self.figures.append(Figure(part, len(counts), counts.count(0), twice))
        return self.figures[-1]

    def told_once(self) -> None:
        """No key came twice so far."""
        keys = [key for key, _ in told(self._sink)]
        assert len(keys) == len(set(keys))

    def told_all(self, database: Database, killed: int | None) -> tuple[int, int]:
        """Compare what was told with what was recorded, and that with what was answered.

        Args:
            database: has the history.
            killed: the window in which an evaluator was killed: it may have got an answer about it,
                or still about the one before, and have committed nothing.

        Returns:
            how many changes were told; how many requests came again, with the same key.
        """
        arrived = told(self._sink)
        bodies: dict[str, dict[str, Any]] = {}
        for key, body in arrived:
            assert bodies.setdefault(key, body) == body
        found = defaultdict(list)
        for body in bodies.values():
            found[body["alarm_id"]].append((body["previous"], body["current"]))
        recorded = changes_in(database)
        amiss = []
        for number in range(ALARMS):
            alarm_id = id_of(f"alarm {number}")
            states = recorded[alarm_id]
            changes = list(itertools.pairwise(["insufficient data", *states]))
            assert found[alarm_id] == changes, number
            possible = [self._due(number, set())]
            if killed is not None:
                lost = ({killed}, {killed - 1}, {killed - 1, killed})
                possible += [self._due(number, one) for one in lost]
            if changes not in possible:
                amiss.append(number)
        if amiss:
            raise Excusable(f"the states of {len(amiss)} alarms do not follow from the answers")
        return len(bodies), len(arrived) - len(bodies)

    def _due(self, number: int, left_out: set[int]) -> list[tuple[str, str]]:
        """Return the changes of an alarm, by the answers that were given about it."""
        states = ["insufficient data"]
        for window in sorted(w for n, w in self._waves.answers if n == number):
            if window in left_out:
                continue
            value = self._waves.answers[number, window]
            now = "insufficient data" if value is None else "alarm" if value > 0.5 else "ok"
            if now != states[-1]:
                states.append(now)
        return list(itertools.pairwise(states))


def deliver_the_rest(fleet: Evaluators, outbox: Notifications) -> None:
    """Have one more deliver what waits, and stop it between two windows."""
    name = ""

    def is_quiet() -> bool:
        # It has evaluated the window that runs, all of it is told, and the next one is not near.
        window, part = divmod(time.time(), INTERVAL)
        is_done = fleet.status(name).get("window") == window and part < INTERVAL - 0.5
        return is_done and outbox.waiting().pending == 0

    for number in range(5):
        name = f"z{number}"
        fleet.start(name)
        wait_until(is_quiet, within=180, what="that all are told")
        fleet.stop(name)
        if outbox.waiting().pending == 0:
            return
    raise AssertionError("what the last one writes is never told")


def play(
    judge: Judge, fleet: Evaluators, database: Database, restart_store: Callable[[], object] | None
) -> tuple[int, int]:
    """Let evaluators go through a join, a drain, rolling and store restart, and a kill.

    Returns:
        see :meth:`Judge.told_all`.
    """
    for name in "abc":
        fleet.start(name)
    fleet.settle("a", "b", "c")
    first = pass_windows(1) + 1

    fleet.start("d")
    fleet.settle("a", "b", "c", "d")
    pass_windows(1)
    fleet.stop("a")
    fleet.settle("b", "c", "d")
    last = pass_windows(1)
    judge.is_exact("a join and a drain", first, last)

    for old, new in zip("bcd", "efg", strict=True):  # a restart is another member
        fleet.start(new)
        fleet.settle(*sorted({*"bcd"[("bcd").index(old) :], *"efg"[: "efg".index(new) + 1]}))
        fleet.stop(old)
    fleet.settle("e", "f", "g")
    first, last = last + 1, pass_windows(1)
    judge.is_exact("a rolling restart", first, last)

    if restart_store is not None:
        restart_store()
        fleet.settle("e", "f", "g")
        first, last = last + 1, pass_windows(2)
        judge.is_exact("a restart of the store", first, last)
    judge.told_once()

    fleet.kill("e")
    killed = time.time()
    fleet.settle("f", "g")
    back = math.ceil((killed + TTL + INTERVAL) / INTERVAL)
    last_calm, last = last, max(back, pass_windows(1)) + 2
    wait_until(lambda: time.time() >= (last + 1) * INTERVAL + 1.0, what="windows after the kill")
    judge.count("a kill: up to ttl and a window", last_calm + 1, back - 1)
    judge.is_exact("after that", back, last)

    for name in "fg":
        fleet.stop(name)
    deliver_the_rest(fleet, Notifications(database))
    return judge.told_all(database, math.floor(killed / INTERVAL))
