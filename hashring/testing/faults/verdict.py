"""Whether what a group did was right: a history, judged alone, as Jepsen judges.

A hold, a cycle and a poll in a :class:`~hashring.testing.faults.history.History` are what a member
knew; so an overlap that :func:`check` finds has happened.

What counts
-----------
*Overlap*: a slot that two processes held or worked at one instant. Always an error.

*Repeat*: a key polled twice in one window, by whomever. All windows count.

*Miss*: a key that nobody polled in a window that counts: those that start after every slot had been
held for the first time and a tenth of a window had passed, by which clocks may differ (where no
holds are logged: from the first window in which every key was polled), and that ended before the
harness began to end the run. Where the harness steps wall clocks, labels are skipped and others
come again: both are excused for labels that the step reaches; an overlap never is.
A miss is *excused* by an event (a kill, a pause, a store that is away) if the window lies in what
the event may cost, and if the key's slot was held by nobody for a while around it, or its cycle was
cut short by the fence, or it was held by a member that had been told to leave and could not hand
over. A miss for which its own member was too late, because it got no processor, is counted apart,
as *late*.

A kill may cost a key the windows until the lease has ended, and two more. What stands at the same
time (a store that is away, a record that nobody can read) keeps others from taking over until it is
over and a lease has passed: so long a key may miss then, and two windows more.

*A call that outlasted the lease*: a call on the driver that lasted, while its process ran, for
longer than the lease leaves (:func:`hashring.testing.faults.calls.longest_call`). Always an error.

Everything else is an error.
"""

from __future__ import annotations

import bisect
import dataclasses
import math
from collections import Counter
from collections.abc import Sequence

from hashring.protocol.windows import SKEW
from hashring.testing.faults.calls import longest_call, outlasting
from hashring.testing.faults.history import CLOCK_STEPS, LOSSES, PLANNED, Event, History, Hold

__all__ = ["Cost", "Handover", "Overlap", "Verdict", "check"]

_GAP = 0.1
"""Seconds without a holder from which on a slot counts as held by nobody."""


@dataclasses.dataclass(frozen=True, slots=True)
class Overlap:
    """Slots that two processes had at one instant. ``begin`` to ``end``: for how long at least."""

    begin: float
    end: float
    members: tuple[str, str]
    slots: int


@dataclasses.dataclass(frozen=True, slots=True)
class Handover:
    """Slots that went from one process to another.

    Attributes:
        begin: the last moment at which the old owner was seen to hold them.
        end: the first at which the new one was.
        giver: the old owner's id.
        taker: the new one's.
        slots: how many.
    """

    begin: float
    end: float
    giver: str
    taker: str
    slots: int


@dataclasses.dataclass(slots=True)
class Cost:
    """What one event cost.

    Attributes:
        event: which; ``None`` collects what no event explains.
        share: how many keys the event's member held when it began.
        missed: misses that the event excuses, of its member's share.
        stalled: misses that it excuses, of slots that were changing hands or fenced meanwhile.
        most: the most windows that one key missed.
        late: misses of members that got no processor in time.
        repeated: repeats.
        errors: misses that nothing excuses.
    """

    event: Event | None
    share: int = 0
    missed: int = 0
    stalled: int = 0
    most: int = 0
    late: int = 0
    repeated: int = 0
    errors: int = 0


@dataclasses.dataclass(slots=True)
class Verdict:
    """What :func:`check` found.

    Attributes:
        due: polls due in the windows that count.
        made: polls made in them.
        missed: how many of those due nobody made.
        late: how many of ``missed`` were a member's own lateness, for want of a processor.
        repeated: polls beyond the first of a key in a window; all windows.
        relabelled: the same in windows whose label a step of the wall clock brought again; they
            are not in ``repeated``.
        overlaps: slots held twice.
        holds_checked: how often a process looked at what it held.
        handovers: slots that changed hands.
        longest_gap: the longest time in seconds that a slot was held by nobody.
        windows: the first and the last that count.
        costs: what each event cost, in order; the last entry collects what no event explains.
        violations: what must not be, in words; empty if all is well.
    """

    due: int = 0
    made: int = 0
    missed: int = 0
    late: int = 0
    repeated: int = 0
    relabelled: int = 0
    overlaps: list[Overlap] = dataclasses.field(default_factory=list)
    holds_checked: int = 0
    handovers: list[Handover] = dataclasses.field(default_factory=list)
    longest_gap: float = 0.0
    windows: tuple[int, int] = (0, -1)
    costs: list[Cost] = dataclasses.field(default_factory=list)
    missed_in: dict[int, int] = dataclasses.field(default_factory=dict)
    repeated_in: dict[int, int] = dataclasses.field(default_factory=dict)
    violations: list[str] = dataclasses.field(default_factory=list)


def check(history: History, *, on_crash: str = "skip") -> Verdict:
    """Judge a history.

    Args:
        history: of one run.
        on_crash: ``"skip"``: no key may be polled twice in a window. ``"repeat"``: it may, in
            the windows that a kill or a pause touches.
    """
    verdict = Verdict()
    verdict.holds_checked = sum(hold.checks for hold in history.holds)
    verdict.overlaps = _overlaps(history.holds)
    verdict.violations += [
        f"{overlap.slots} slots were held by {' and '.join(overlap.members)} at once, at "
        f"{overlap.begin - history.begin:.3f} s for {overlap.end - overlap.begin:.3f} s"
        for overlap in verdict.overlaps
    ]
    verdict.violations += history.strays
    verdict.violations += [
        f"a call outlasted the lease: {call.name}() of {call.member} lasted {call.seconds:.1f} s "
        f"at {call.begin - history.begin:.1f} s, and a ttl of {history.ttl:g} s leaves "
        f"{longest_call(history.ttl):.1f} s for a call"
        for call in outlasting(history.calls, history.ttl)
    ]
    gaps, covered = _gaps(history, verdict)
    verdict.windows = _counted(history, covered)
    judge = _Judge(history, verdict, gaps, on_crash)
    judge.count_repeats()
    judge.count_misses()
    verdict.costs = judge.costs
    return verdict


def _overlaps(holds: Sequence[Hold]) -> list[Overlap]:
    """Sweep over time; compare each hold with all that run when it begins."""
    found = []
    running: list[Hold] = []
    for hold in holds:
        running = [other for other in running if other.end > hold.begin]
        for other in running:
            if other.process == hold.process:
                continue
            common = other.slots & hold.slots
            if common and hold.end > hold.begin:
                end = min(other.end, hold.end)
                members = (other.member, hold.member)
                found.append(Overlap(hold.begin, end, members, common.bit_count()))
        running.append(hold)
    return found


@dataclasses.dataclass(slots=True)
class _Free:
    since: float
    process: int
    member: str
    slots: int


@dataclasses.dataclass(frozen=True, slots=True)
class _Gap:
    begin: float
    end: float
    slots: int


def _gaps(history: History, verdict: Verdict) -> tuple[list[_Gap], float]:
    """Follow each slot from holder to holder.

    Returns:
        The times for which slots had no holder, and when each had had one for the first time.
    """
    everything = (1 << history.slots) - 1
    seen, covered = 0, math.inf
    free: list[_Free] = []
    gaps: list[_Gap] = []
    running: dict[int, Hold] = {}
    moves: dict[tuple[str, str, float, float], int] = Counter()
    moments = sorted(
        [(hold.begin, 0, index) for index, hold in enumerate(history.holds)]
        + [(hold.end, 1, index) for index, hold in enumerate(history.holds)]
    )
    for moment, ends, index in moments:
        hold = history.holds[index]
        if ends:
            del running[index]
            rest = hold.slots
            for other in running.values():
                rest &= ~other.slots
            if rest:
                free.append(_Free(moment, hold.process, hold.member, rest))
            continue
        running[index] = hold
        if seen != everything:
            seen |= hold.slots
            if seen == everything:
                covered = moment
        for entry in free:
            part = entry.slots & hold.slots
            if part:
                entry.slots &= ~part
                if entry.process != hold.process:
                    move = (entry.member, hold.member, entry.since, moment)
                    moves[move] += part.bit_count()
                if moment - entry.since >= _GAP:
                    gaps.append(_Gap(entry.since, moment, part))
                if entry.since < history.end:
                    gap = min(moment, history.end) - entry.since
                    verdict.longest_gap = max(verdict.longest_gap, gap)
        free = [entry for entry in free if entry.slots]
    gaps += [_Gap(entry.since, math.inf, entry.slots) for entry in free]
    verdict.handovers = [
        Handover(begin, end, giver, taker, slots)
        for (giver, taker, begin, end), slots in moves.items()
    ]
    return gaps, covered


def _counted(history: History, covered: float) -> tuple[int, int]:
    last = history.window_at(history.end) - 1
    if history.slots:
        if covered == math.inf:
            return (last + 1, last)
        # A new group knows of no custodian: as after a crash, ``skip`` leaves out a window that one
        # whose clock is ahead could have begun.
        return (history.window_at(covered + SKEW * history.interval) + 1, last)
    whole = (window for window, counts in sorted(history.polls.items()) if all(counts))
    return (next(whole, last + 1), last)


class _Judge:
    """Gives each miss and each repeat to the event that explains it."""

    def __init__(
        self, history: History, verdict: Verdict, gaps: Sequence[_Gap], on_crash: str
    ) -> None:
        self._history = history
        self._verdict = verdict
        self._gaps = gaps
        self._on_crash = on_crash
        self._shares = [
            history.share(event.members[0], event.begin) if event.kind in LOSSES else 0
            for event in history.events
        ]
        self.costs = [
            Cost(event, share=self._keys_in(share))
            for event, share in zip(history.events, self._shares, strict=True)
        ]
        self.costs.append(Cost(None))
        self._begins = [event.begin for event in history.events]

    def _keys_in(self, slots: int) -> int:
        return sum(slots >> slot & 1 for slot in self._history.slot_of)

    def _period(self, event: Event) -> tuple[float, float]:
        """Return between which moments the windows start that an event may cost."""
        interval = self._history.interval
        # Of a step of the clock by the labels: those of a clock that was so far back or ahead.
        return event.begin - event.reach - interval, self._recovered(event) + 2 * interval

    def _recovered(self, event: Event) -> float:
        """Return when the last lease has ended that an event lets run on, or leaves in doubt."""
        ttl = self._history.ttl
        if event.kind == "kill":
            return event.begin + ttl
        if event.kind == "pause":
            # The last heartbeat may be a third of the lease old: a pause that is longer than the
            # rest may cost the lease.
            is_short = event.end - event.begin < ttl / 2
            return (event.end if is_short else min(event.end, event.begin + ttl)) + ttl
        if event.kind in (CLOCK_STEPS, "garbage"):
            return event.end + event.reach + ttl
        return event.end + ttl + self._history.memory_lateness

    def _allowed(self, kill: Event) -> int:
        """Return how many windows a kill may cost a key, with all that stood at the same time."""
        history = self._history
        end = self._recovered(kill)
        for event in history.events:  # by their begin: one more may begin while the last stands
            if event is not kill and event.kind not in PLANNED and event.begin < end:
                end = max(end, self._recovered(event))
        return math.ceil((end - kill.begin) / history.interval) + 2

    def _before(self, window: int) -> int:
        """Return the index of the latest event that began before a window was over."""
        end = self._history.window_start(window + 1)
        return bisect.bisect_left(self._begins, end) - 1

    def _excuses(self, window: int) -> list[int]:
        start = self._history.window_start(window)
        return [
            index
            for index, event in enumerate(self._history.events)
            if event.kind not in PLANNED
            if self._period(event)[0] < start <= self._period(event)[1]
        ]

    def _steps(self, window: int) -> list[int]:
        """Return the steps of clocks by which a window's label may be skipped, or come again."""
        events = self._history.events
        return [found for found in self._excuses(window) if events[found].kind == CLOCK_STEPS]

    def count_repeats(self) -> None:
        history, verdict = self._history, self._verdict
        for window, counts in sorted(history.polls.items()):
            repeated = sum(count - 1 for count in counts if count > 1)
            if not repeated:
                continue
            steps = self._steps(window)
            if steps:
                verdict.relabelled += repeated
                self.costs[steps[-1]].repeated += repeated
                continue
            verdict.repeated += repeated
            verdict.repeated_in[window] = repeated
            index = self._before(window)
            self.costs[index].repeated += repeated
            losses = [
                found for found in self._excuses(window) if history.events[found].kind in LOSSES
            ]
            if self._on_crash == "skip" or not losses:
                key = next(key for key, count in enumerate(counts) if count > 1)
                who = sorted(set(history.pollers[window, key]))
                verdict.violations.append(
                    f"{repeated} keys were polled again in window {window}, at "
                    f"{history.window_start(window) - history.begin:.1f} s (key {key}: again by "
                    f"{', '.join(who)})"
                )

    def count_misses(self) -> None:
        history, verdict = self._history, self._verdict
        first, last = verdict.windows
        if first > last:
            verdict.violations.append("no window counts: the group never covered every slot")
            return
        per_key: list[Counter[int]] = [Counter() for _ in self.costs]
        nothing = bytearray(history.keys)
        for window in range(first, last + 1):
            counts = history.polls.get(window, nothing)
            verdict.due += history.keys
            absent = [key for key, count in enumerate(counts) if not count]
            verdict.made += history.keys - len(absent)
            if not absent:
                continue
            verdict.missed += len(absent)
            verdict.missed_in[window] = len(absent)
            self._explain(window, absent, per_key)
        for cost, keys in zip(self.costs, per_key, strict=True):
            cost.most = max(keys.values(), default=0)
            if cost.event is not None and cost.event.kind == "kill":
                allowed = self._allowed(cost.event)
                if cost.most > allowed:
                    verdict.violations.append(
                        f"{cost.event.name}: a key missed {cost.most} windows, "
                        f"{allowed} are allowed"
                    )
            if cost.errors:
                when = cost.event.name if cost.event is not None else "no event"
                verdict.violations.append(f"{cost.errors} polls missed after {when}")

    def _explain(self, window: int, absent: Sequence[int], per_key: Sequence[Counter[int]]) -> None:
        """Give each miss of a window to an event, to a late member, or to nobody."""
        history = self._history
        if not history.slots:
            # Without holds nothing can be excused: the event before is all that can be said.
            self.costs[self._before(window)].errors += len(absent)
            return
        start = history.window_start(window)
        end = start + history.interval
        # A slot taken over in one window may be skipped in the next as well: the clock of its last
        # owner may have been ahead.
        recent = start - (1 + SKEW) * history.interval
        unheld = history.cut.get(window, 0)
        for gap in self._gaps:
            if gap.begin < end and gap.end > recent:
                unheld |= gap.slots
        for member in history.states:
            # It has worked its last window; while the store is away nobody can take over.
            drained = history.drained(member, recent, end)
            if drained is not None:
                unheld |= history.share(member, drained)
        skipping = {
            member: history.share(member, start)
            for member, windows in history.skipped.items()
            if window in windows
        }
        excuses = self._excuses(window)
        losses = [index for index in excuses if history.events[index].kind in LOSSES]
        steps = self._steps(window)
        for key in absent:
            slot = history.slot_of[key]
            mine = [index for index in losses if self._shares[index] >> slot & 1]
            late = [member for member, slots in skipping.items() if slots >> slot & 1]
            # A member that was paused in a cycle, for less than its lease, holds on and is late.
            paused = any(history.events[index].members[0] in late for index in mine)
            if mine and (unheld >> slot & 1 or paused):
                self.costs[mine[-1]].missed += 1
                per_key[mine[-1]][key] += 1
            elif unheld >> slot & 1 and excuses:
                self.costs[excuses[-1]].stalled += 1
                per_key[excuses[-1]][key] += 1
            elif steps:
                self.costs[steps[-1]].stalled += 1
                per_key[steps[-1]][key] += 1
            elif late:
                self.costs[self._before(window)].late += 1
                self._verdict.late += 1
            else:
                self.costs[self._before(window)].errors += 1
