"""What a group did, read back from its members' logs.

Every process of a run appends lines of JSON to a file of its own (:class:`Log`), all on one clock
(``CLOCK_BOOTTIME`` of the host): what it held, from when until when; each cycle it worked; each
key it polled. The harness logs what it did to them. :class:`History` reads those files back;
:mod:`hashring.testing.faults.verdict` judges it. This module knows no process, no store and no
fault but by name.

What a member logs is what it knows, never what it hopes. A hold from ``begin`` to ``end`` was seen
to be held at both ends, a few milliseconds apart; a cycle counts until the last moment at which it
was seen to be valid; a poll has the moment *before* its key was handed out, when it was still held.
"""

from __future__ import annotations

import base64
import bisect
import dataclasses
import itertools
import math
import zlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hashring.ring.ring import HashRing, SlotSet
from hashring.testing.faults.calls import Call
from hashring.testing.faults.log import Log, key_names, lines_of

__all__ = [
    "CLOCK_STEPS",
    "LOSSES",
    "PLANNED",
    "Event",
    "History",
    "Hold",
    "Log",
    "Still",
    "key_names",
]

PLANNED = frozenset({"start", "join", "double join", "leave", "restart", "flood"})
"""Events that may cost nothing."""

CLOCK_STEPS = "clock steps"
"""The event in which members' wall clocks step, and at its end go back to the true time: labels of
windows are skipped, and others come again."""

LOSSES = frozenset({"kill", "pause"})
"""Events that cost at most ``ttl`` and two windows, of the member's share."""


@dataclasses.dataclass(frozen=True, slots=True)
class Hold:
    """Slots that one process held from ``begin`` to ``end``, at every instant.

    Attributes:
        member: whose.
        process: which of its lives: the number of its log.
        begin: seconds on the host's clock.
        end: the same.
        slots: a bit for each slot.
        checks: how often the process looked.
        cycle: a cycle's pins, and not all that was held.
    """

    member: str
    process: int
    begin: float
    end: float
    slots: int
    checks: int = 1
    cycle: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Event:
    """What the harness did.

    Attributes:
        kind: ``join``, ``leave``, ``kill`` ...; a store's fault has its own name.
        members: to whom.
        begin: when.
        end: when it was over (a paused process runs on, a store is back).
        reach: by how many seconds a clock was wrong.
    """

    kind: str
    members: tuple[str, ...]
    begin: float
    end: float
    reach: float = 0.0

    @property
    def name(self) -> str:
        """One phrase for tables."""
        return " ".join([self.kind, ", ".join(self.members)]).strip()


@dataclasses.dataclass(frozen=True, slots=True)
class Still:
    """A time in which a process did not run: it was stopped, or got no processor.

    Attributes:
        member: whose process.
        begin: seconds on the host's clock.
        end: the same.
    """

    member: str
    begin: float
    end: float

    @property
    def seconds(self) -> float:
        """For how long."""
        return self.end - self.begin


@dataclasses.dataclass(slots=True)
class _Cycle:
    window: int
    begin: float
    slots: int
    late: bool
    valid_until: float


class History:
    """A run, read back from its logs.

    Attributes:
        interval: seconds a window.
        ttl: the lease in seconds.
        memory_lateness: the store's: see :attr:`hashring.testing.faults.Store.memory_lateness`.
        keys: how many.
        slots: how many the ring has; 0 where the members log no holds.
        holds: what was held, and what cycles worked, sorted by ``begin``.
        events: what the harness did, sorted.
        polls: for each window, how often each key was polled.
        worked: for each member, how many polls it made in each window.
        behind: by how many seconds each cycle began after its window.
        stills: when members' processes did not run, for half a second or more.
    """

    def __init__(self) -> None:
        self.interval = 1.0
        self.ttl = 3.0
        self.memory_lateness = 0.0
        self.keys = 0
        self.slots = 0
        self.offset = 0.0  # wall clock less the logs' clock
        self.begin = math.inf
        self.end = -math.inf  # when the harness began to end the run
        self.holds: list[Hold] = []
        self.events: list[Event] = []
        self.polls: dict[int, bytearray] = {}
        self.pollers: dict[tuple[int, int], list[str]] = defaultdict(list)
        self.worked: dict[str, Counter[int]] = defaultdict(Counter)
        self.behind: list[float] = []
        self.skipped: dict[str, set[int]] = defaultdict(set)
        self.cut: dict[int, int] = defaultdict(int)  # window: slots of cycles that a fence ended
        self.states: dict[str, list[tuple[float, str]]] = defaultdict(list)
        self.errors: list[tuple[float, str, str]] = []
        self.lives: list[tuple[str, float, float]] = []  # member, from, until
        self.strays: list[str] = []
        self.calls: list[Call] = []  # on a driver, that a worker saw to last too long
        self.stills: list[Still] = []
        self.slot_of: list[int] = []

    @classmethod
    def load(cls, folder: Path) -> History:
        """Read all logs in a folder.

        Raises:
            ValueError: no log is there, or a line in the middle of one is not JSON.
        """
        history = cls()
        logs = [lines_of(path) for path in sorted(folder.glob("*.jsonl"))]
        if not any(logs):
            raise ValueError(f"{folder} has no logs of a run (*.jsonl)")
        workers = []
        for lines in logs:
            if lines and lines[0]["e"] == "plan":
                history._read_harness(lines)
            elif lines:
                workers.append(lines)
        if history.slots:
            ring = HashRing({}, slots=history.slots)
            history.slot_of = [ring.slot(key) for key in key_names(history.keys)]
        for process, lines in enumerate(workers):
            history._read_worker(process, lines)
        history.holds.sort(key=lambda hold: hold.begin)
        history.events.sort(key=lambda event: event.begin)
        return history

    def _read_harness(self, lines: Sequence[Mapping[str, Any]]) -> None:
        plan = lines[0]
        self.begin = plan["t"]
        self.end = lines[-1]["t"]
        self.interval, self.ttl = plan["interval"], plan["ttl"]
        self.keys, self.slots = plan["keys"], plan["slots"]
        self.memory_lateness = plan.get("memory_lateness", 0.0)
        self.offset = plan["wall"] - plan["t"]
        ends = {line["id"]: line["t"] for line in lines if line["e"] == "over"}
        for line in lines:
            if line["e"] == "event":
                end = ends.get(line["id"], lines[-1]["t"])
                members, reach = tuple(line["members"]), line.get("reach", 0.0)
                self.events.append(Event(line["kind"], members, line["t"], end, reach))
            elif line["e"] == "end":
                self.end = line["t"]

    def _read_worker(self, process: int, lines: Sequence[Mapping[str, Any]]) -> None:
        member: str = lines[0]["member"]
        sets: dict[int, int] = {}
        cycle: _Cycle | None = None
        missed = 0
        previous: int | None = None
        states = self.states[member]

        def close(cycle: _Cycle) -> None:
            self.holds.append(
                Hold(member, process, cycle.begin, cycle.valid_until, cycle.slots, cycle=True)
            )

        for line in lines:
            kind = line["e"]
            if kind == "set":
                slots = SlotSet.frombytes(
                    zlib.decompress(base64.b64decode(line["slots"])), self.slots
                )
                sets[line["id"]] = int.from_bytes(slots.tobytes(), "little")
            elif kind == "hold":
                slots_held = sets[line["set"]]
                self.holds.append(
                    Hold(member, process, line["t"], line["until"], slots_held, line["checks"])
                )
            elif kind == "begin":
                slots_pinned = sets[line["set"]] if "set" in line else 0
                cycle = _Cycle(line["window"], line["t"], slots_pinned, line["late"], line["t"])
                if not cycle.late:
                    # By the member's own clock, where it says what that showed.
                    wall = line.get("wall", line["t"] + self.offset)
                    self.behind.append(wall - cycle.window * self.interval)
                    if line["missed"] > missed and previous is not None:
                        self.skipped[member].update(range(previous + 1, cycle.window))
                    # Only here: a late cycle may come between the skipped window and the next.
                    previous, missed = cycle.window, line["missed"]
            elif kind == "poll":
                self._read_polls(member, line, cycle)
            elif kind == "end" and cycle is not None:
                if line["valid"]:
                    cycle.valid_until = line["t"]
                else:
                    self.cut[cycle.window] |= cycle.slots
                if self.slots:
                    close(cycle)
                cycle = None
            elif kind == "state":
                states.append((line["t"], line["state"]))
            elif kind == "error":
                self.errors.append((line["t"], member, line["text"]))
            elif kind == "call":
                self.calls.append(Call.of(member, line))
            elif kind == "still":
                self.stills.append(Still(member, line["t"], line["until"]))
        if cycle is not None and self.slots:
            close(cycle)  # the process was killed in the middle of it
        until = max(map(_last_moment, lines))
        states.append((until, ""))
        states.sort()
        self.lives.append((member, lines[0]["t"], until))

    def _read_polls(self, member: str, line: Mapping[str, Any], cycle: _Cycle | None) -> None:
        counts = self.polls.setdefault(line["window"], bytearray(self.keys))
        self.worked[member][line["window"]] += len(line["keys"])
        for key in line["keys"]:
            counts[key] = min(255, counts[key] + 1)
            if counts[key] > 1 or (line["window"], key) in self.pollers:
                self.pollers[line["window"], key].append(member)
            if self.slots and (cycle is None or not cycle.slots >> self.slot_of[key] & 1):
                self.strays.append(f"{member} polled key {key} outside of its cycle's slots")
        if cycle is not None:
            cycle.valid_until = max(cycle.valid_until, line["until"])

    # ---- windows and times -----------------------------------------------------------------

    def window_start(self, window: int) -> float:
        """Return when a window starts, on the logs' clock."""
        return window * self.interval - self.offset

    def window_at(self, moment: float) -> int:
        """Return the window that a moment of the logs' clock lies in."""
        return math.floor((moment + self.offset) / self.interval)

    def drained(self, member: str, begin: float, end: float) -> float | None:
        """Return when a member was draining between two moments, or ``None``."""
        states = self.states[member]
        for (since, state), (until, _) in itertools.pairwise(states):
            if state == "draining" and since < end and until > begin:
                return until
        return None

    def starved(self) -> Still | None:
        """Return the longest time in which a member got no processor though nobody had paused it.

        A run with such a time judges the machine: what was missed in it need be no fault of ours.
        ``None``: each ran all the time.
        """
        pauses = [event for event in self.events if event.kind == "pause"]
        found = [
            still
            for still in self.stills
            if not any(
                still.member in pause.members
                and pause.begin < still.end
                and still.begin < pause.end
                for pause in pauses
            )
        ]
        return max(found, key=lambda still: still.seconds, default=None)

    def share(self, member: str, moment: float) -> int:
        """Return the slots that a member was last seen to hold before a moment."""
        pinned = 0
        last = bisect.bisect_right(self.holds, moment, key=lambda hold: hold.begin)
        for hold in reversed(self.holds[:last]):
            if hold.member != member:
                continue
            if not hold.cycle:
                return hold.slots | pinned
            pinned |= hold.slots
        return pinned


def _last_moment(line: Mapping[str, Any]) -> float:
    return float(line.get("until", line["t"]))
