"""Histories written by hand, for those who judge and draw them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from hashring.ring.ring import HashRing, SlotSet
from hashring.testing.faults.history import History, Log, key_names
from hashring.testing.faults.verdict import Verdict, check

KEYS = 64
SLOTS = 256
RING = HashRing({"a": 1, "b": 1}, slots=SLOTS)
OWNED = {
    member: {number for number, key in enumerate(key_names(KEYS)) if RING.owner(key) == member}
    for member in ("a", "b")
}


class Story:
    """Logs written by hand: two members, windows of one second, and a ttl of three."""

    def __init__(self, folder: Path, *, memory_lateness: float = 0.0) -> None:
        self.folder = folder
        self._now = 0.0
        self._files: dict[str, Log] = {}
        self._harness = Log(folder / "harness.jsonl", clock=self._clock)
        self._harness.write(
            "plan",
            wall=1000.0,
            ttl=3.0,
            interval=1.0,
            keys=KEYS,
            slots=SLOTS,
            memory_lateness=memory_lateness,
        )  # window 1000 starts at 0
        self._events = 0

    def _clock(self) -> float:
        return self._now

    def log(self, member: str) -> Log:
        if member not in self._files:
            self._files[member] = Log(self.folder / f"{member}.jsonl", clock=self._clock)
            self._files[member].write("start", member=member)
        return self._files[member]

    def holds(self, member: str, begin: float, end: float, slots: SlotSet | None = None) -> None:
        """The member looks at what it holds, from one moment to another."""
        log = self.log(member)
        number = log.set_id(RING.slots(member) if slots is None else slots)
        while begin < end:
            until = min(end, begin + 0.1)
            log.write("hold", t=begin, until=until, set=number, checks=5)
            begin = until

    def works(self, member: str, second: int, keys: set[int] | None = None, **begin: int) -> None:
        """The member works the window that starts at this second."""
        log = self.log(member)
        window = 1000 + second
        slots = RING.slots(member)
        log.write(
            "begin",
            t=second + 0.1,
            window=window,
            late=False,
            set=log.set_id(slots),
            **{"missed": 0, **begin},
        )
        polled = sorted(OWNED[member] if keys is None else keys)
        log.write("poll", t=second + 0.1, until=second + 0.2, window=window, keys=polled)
        log.write("end", t=second + 0.2, valid=True)

    def event(
        self, kind: str, *members: str, begin: float, end: float | None = None, reach: float = 0.0
    ) -> None:
        self._events += 1
        self._harness.write(
            "event", t=begin, id=self._events, kind=kind, members=members, reach=reach
        )
        self._harness.write("over", t=begin if end is None else end, id=self._events)

    def read(self, end: float) -> History:
        self._harness.write("end", t=end)
        for log in (self._harness, *self._files.values()):
            log.close()
        return History.load(self.folder)

    def judged(self, end: float) -> Verdict:
        return check(self.read(end))


def both_work(story: Story, seconds: Iterable[int]) -> None:
    for second in seconds:
        for member in ("a", "b"):
            story.works(member, second)
