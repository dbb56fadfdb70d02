"""One group's life as values: members that run the real hand-off, their requests, and the store.

For the exhaustive search, which takes every turn that such a life can take: each event makes new
values and leaves the old ones as they are. Time goes in ticks; a lease is three of them. A
request, its effect on the store, and its answer are three events, so that anything may come
between. What a member does next is said by :class:`~hashring.protocol.runner.Runner`, as in
``Partition``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable
from typing import NamedTuple

from hashring.driver import incarnation_of
from hashring.errors import HashringError, LeaseLost, MemberExists, StoreUnavailable
from hashring.protocol.handoff import Handoff, Join, Leave, Publish
from hashring.protocol.reading import Reading
from hashring.protocol.record import Member
from hashring.protocol.runner import Beat, Read, Runner
from hashring.protocol.view import View
from hashring.ring.ring import HashRing, SlotSet
from hashring.testing.simulation.values import copied, frozen

__all__ = ["NAMES", "OVERWRITTEN", "TTL", "Life", "Request", "Store", "shown_slots", "spec"]

TTL = 3
"""A lease, in ticks: a fence passes with the third tick after the heartbeat began, and the lease
ends with the same one, in whatever order the events around it come."""

NAMES = "abc"

OVERWRITTEN = frozenset({"_reading", "members", "problems", "_parsed", "_view", "_must_wait"})
"""What the next reading overwrites before anything looks at it: lives that differ in no more than
this go on alike. A hand-off that looks back at an older reading must not be compared so."""

_COUNTERS = frozenset({"_events", "_token", "token", "_acked_at"})
"""Event numbers, which only ever grow: which of them is greater matters, and nothing else."""

_ERRORS: dict[str, type[HashringError]] = {
    "LeaseLost": LeaseLost,
    "MemberExists": MemberExists,
}

_WALL = 0.0
_BACK = 2.0
_MOST_LATE = 2


def spec(slots: int) -> str:
    """Return a ring in which a change moves slots among those that stay, too."""
    return HashRing(slots=slots, vnodes=3, load_bound=1.0).spec


class Request(NamedTuple):
    """A write on its way to the store: ``"join"``, ``"publish"`` or ``"leave"``."""

    kind: str
    incarnation: str
    record: bytes = b""


class _Lease(NamedTuple):
    member: str
    incarnation: str
    record: bytes
    left: int  # ticks


@dataclasses.dataclass(frozen=True, slots=True)
class Store:
    """A store as the driver contract describes it, at one moment.

    Attributes:
        leases: the live ones, by member's id.
        memory: ticks for which nothing was forgotten, up to a lease; ``None``: for ever.
    """

    leases: tuple[_Lease, ...] = ()
    memory: int | None = None

    def _lease(self, member: str) -> _Lease | None:
        return next((lease for lease in self.leases if lease.member == member), None)

    def _with(self, member: str, lease: _Lease | None) -> Store:
        kept = [other for other in self.leases if other.member != member]
        return dataclasses.replace(self, leases=tuple(sorted([*kept, *([lease] if lease else [])])))

    def record(self, member: str) -> tuple[str, bytes] | None:
        """Return a member's incarnation and record, if its lease lives."""
        lease = self._lease(member)
        return None if lease is None else (lease.incarnation, lease.record)

    def take(self, member: str, request: Request) -> tuple[Store, str]:
        """Return the store after a write, and the answer: ``""`` or the name of an error."""
        lease = self._lease(member)
        mine = lease is not None and lease.incarnation == request.incarnation
        if request.kind == "join":
            if lease is not None and not mine:
                return self, "MemberExists"
            return self._with(member, _Lease(member, *request[1:], TTL)), ""
        if request.kind == "leave":
            return (self._with(member, None) if mine else self), ""
        if lease is None or not mine:
            return self, "LeaseLost"
        return self._with(member, lease._replace(record=request.record)), ""

    def heartbeat(self, member: str, incarnation: str) -> tuple[Store, str]:
        """Return the store after a heartbeat, and the answer."""
        lease = self._lease(member)
        if lease is None or lease.incarnation != incarnation:
            return self, "LeaseLost"
        return self._with(member, lease._replace(left=TTL)), ""

    def reading(self) -> Reading:
        """Return what a reading that begins now shows."""
        age = float("inf") if self.memory is None else float(self.memory)
        return Reading({lease.member: lease.record for lease in self.leases}, age)

    def later(self) -> Store:
        """Return the store a tick later."""
        leases = [lease._replace(left=lease.left - 1) for lease in self.leases if lease.left > 1]
        memory = None if self.memory is None else min(TTL, self.memory + 1)
        return Store(tuple(leases), memory)

    def forgetting(self) -> Store:
        """Return the store after it lost everything."""
        return Store((), 0)


class _Numbers:
    """Incarnations of one member, as an iterator that can be copied."""

    def __init__(self, name: str, life: int) -> None:
        self.name, self.life, self.number = name, life, 0

    def __iter__(self) -> _Numbers:
        return self

    def __next__(self) -> str:
        self.number += 1
        return f"{self.name}{self.life}.{self.number}"


def shown_slots(slots: SlotSet) -> str:
    """Return slots as a person reads them.

    Example:
        >>> shown_slots(SlotSet.of([0, 3], 4))
        '0,3'
    """
    return ",".join(map(str, sorted(slots))) or "nothing"


class Life:
    """One member's process at one moment. Never changed once it is known: see :meth:`after`.

    Attributes:
        name: the member's id.
        runner: the choreography; ``None`` before the process starts and after it ended.
        life: how many times it was started.
        now: its clock, in ticks.
        reading: one that the store has answered and this member has not seen.
        sent: a write that the store has not taken yet, and that this member waits for.
        answer: what the store said to the last write, on its way here: kind, and error or ``""``.
        late: writes that this member waits for no longer and the store may still take, in order.
        beat: a heartbeat's answer on its way here: the heartbeat, and error or ``""``.
        running: a cycle: its slots, and the lease that it began in.
        worked: a cycle has run.
        leaving: it was asked to drain.
        number: given by the search, which keeps one object for each state.
    """

    __slots__ = (
        "answer", "beat", "in_hand", "late", "leaving", "life", "name", "now", "number",
        "reading", "runner", "running", "sent", "valid", "worked",
    )  # fmt: skip

    def __init__(self, name: str, empty: SlotSet) -> None:
        self.name = name
        self.runner: Runner | None = None
        self.life = 0
        self.now = 0
        self.reading: Reading | None = None
        self.sent: Request | None = None
        self.answer: tuple[str, str] | None = None
        self.late: tuple[Request, ...] = ()
        self.beat: tuple[Beat, str] | None = None
        self.running: tuple[SlotSet, int] | None = None
        self.worked = self.leaving = False
        self.number = -1
        self.in_hand = empty
        self.valid = True

    def after(self, change: Callable[[Life], None]) -> Life:
        """Return this life after a change; what it was stays."""
        made: Life = object.__new__(Life)
        for name in Life.__slots__:
            setattr(made, name, getattr(self, name))
        made.runner = copied(self.runner)
        change(made)
        made._look()
        return made

    def _look(self) -> None:
        handoff = self.handoff
        if handoff is None:
            self.in_hand = self.in_hand - self.in_hand
            self.valid = True
            return
        self.in_hand = handoff.in_hand(self.now)
        self.valid = not self.is_running or self.running[0] <= self.in_hand  # type: ignore[index]

    @property
    def handoff(self) -> Handoff | None:
        """The protocol; ``None`` before the process starts and after it ended."""
        return None if self.runner is None else self.runner.handoff

    @property
    def is_running(self) -> bool:
        """Whether a cycle runs and is valid."""
        return (
            self.running is not None
            and self.handoff is not None
            and self.running[1] == self.handoff.lease_number
            and self.now < self.handoff.deadline
        )

    @property
    def is_idle(self) -> bool:
        """Whether the reconciling thread waits for no answer."""
        return self.reading is None and self.sent is None and self.answer is None

    def key(self, overwritten: frozenset[str]) -> Hashable:
        """Return what tells this state from others: times only relative to its clock."""
        found = None
        if self.runner is not None:
            handoff, step = self.runner.handoff, self.runner.step
            ends = handoff._parking._ends
            found = (
                type(handoff),
                max(-1.0, handoff.deadline - self.now),
                not isinstance(step, Read) or step.token > handoff._acked_at,
                tuple(sorted((name, max(0.0, end - self.now)) for name, end in ends.items())),
                frozen(self.runner, overwritten | _COUNTERS | {"deadline", "_ends"}),
            )
        reading = None
        if self.reading is not None:
            reading = (tuple(sorted(self.reading.records.items())), self.reading.memory_age)
        beat = None
        if self.beat is not None:
            asked, error = self.beat
            beat = (asked.token, min(TTL, self.now - asked.began), error)
        running = None if self.running is None else (self.running[0].tobytes(), self.running[1])
        rest = (self.sent, self.answer, self.late, beat, running, self.worked, self.leaving)
        return (self.name, self.life, found, reading, rest)

    # ---- what happens to it ------------------------------------------------------------------

    def start(
        self,
        make_handoff: Callable[..., Handoff],
        make_runner: Callable[[Handoff], Runner],
        ring: str,
    ) -> None:
        """The process starts, and asks to join."""
        self.life += 1
        self.worked = self.leaving = False
        handoff = make_handoff(
            self.name, incarnations=_Numbers(self.name, self.life), spec=ring, ttl=float(TTL)
        )
        self.runner = make_runner(handoff)
        self._act()

    def _act(self) -> None:
        """Do the next step, up to where the store is asked."""
        assert self.runner is not None
        step = self.runner.next()
        if isinstance(step, Join | Publish):
            kind = "join" if isinstance(step, Join) else "publish"
            incarnation = incarnation_of(step.record)
            assert incarnation is not None
            self.sent = Request(kind, incarnation, step.record)
        elif isinstance(step, Leave):
            self.end()

    def read(self, store: Store) -> None:
        """A reading begins, and the store answers it."""
        assert self.runner is not None
        self.runner.next()
        self.reading = store.reading()

    def learn(self) -> None:
        """The reading arrives: the hand-off decides."""
        assert self.runner is not None
        assert self.reading is not None
        reading, self.reading = self.reading, None
        self.runner.learn(reading, now=self.now, wall=_WALL, worked=self.worked)
        self._act()

    def hear(self) -> None:
        """The answer to the last write arrives."""
        assert self.runner is not None
        assert self.answer is not None
        (_, error), self.answer = self.answer, None
        if error:
            self.runner.fail(_ERRORS[error]())
        else:
            self.runner.confirm(now=self.now, wall=_WALL)

    def give_up(self) -> None:
        """Wait for the last write no longer; the store may take it yet."""
        assert self.sent is not None
        self.late = (*self.late, self.sent)
        self.lose()

    def lose(self) -> None:
        """The last write, or the answer to it, is lost."""
        assert self.runner is not None
        self.sent = self.answer = None
        self.runner.fail(StoreUnavailable())

    def beats(self, error: str) -> None:
        """A heartbeat is sent, and the store answers it."""
        assert self.runner is not None
        self.beat = (self.runner.beat(self.now), error)

    def hear_heartbeat(self) -> None:
        """The answer to a heartbeat arrives."""
        assert self.runner is not None
        assert self.beat is not None
        (beat, error), self.beat = self.beat, None
        if error:
            self.runner.fail_beat(beat, _ERRORS[error]())
        else:
            self.runner.confirm_beat(beat)

    def pin(self) -> None:
        """A cycle begins."""
        assert self.handoff is not None
        held = self.handoff.held(self.now)
        self.running = (held, self.handoff.lease_number)
        self.handoff.pin(0, held)
        self.worked = True

    def unpin(self) -> None:
        """The cycle ends."""
        assert self.handoff is not None
        self.running = None
        self.handoff.unpin(0)

    def drain(self) -> None:
        """It is asked to leave with hand-over."""
        assert self.handoff is not None
        self.leaving = True
        self.handoff.drain()

    def park(self) -> None:
        """It is asked to leave for a while: it will be back."""
        assert self.handoff is not None
        self.leaving = True
        self.handoff.drain(_BACK)

    def end(self) -> None:
        """It holds nothing from here on, and asks the store to let it go."""
        assert self.handoff is not None
        incarnation = self.handoff.incarnation
        self.handoff.left()
        self.crash()
        self.late = (*self.late, Request("leave", incarnation))

    def crash(self) -> None:
        """The process is gone; what it sent may still be taken."""
        if self.sent is not None:
            self.give_up()
        self.runner = None
        self.reading = self.answer = self.beat = self.running = None
        self.worked = self.leaving = False

    def tick(self) -> None:
        """Time passes."""
        self.now += 1

    def can_be_late(self) -> bool:
        """Whether one more write may be under way unawaited."""
        return len(self.late) < _MOST_LATE

    def allowed(self, record: bytes, views: dict[str, View], empty: SlotSet) -> SlotSet:
        """Return what a record lets this member hold."""
        member = Member.from_json(self.name, record)
        return empty if member.applied is None else views[member.applied].slots(self.name)
