"""The judge: looks at every member after every step, and counts who worked which window."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from hashring.protocol.actions import TRANSITIONS
from hashring.protocol.freezing import Freeze, latest
from hashring.protocol.record import Member
from hashring.protocol.view import View
from hashring.protocol.windows import Due
from hashring.ring.ring import SlotSet
from hashring.testing.simulation.epochs import Epochs
from hashring.testing.simulation.gaps import Gaps
from hashring.testing.simulation.profiles import INTERVAL, TTL

if TYPE_CHECKING:
    from hashring.testing.simulation.members import SimulatedMember
    from hashring.testing.simulation.world import World

__all__ = ["Judge"]

_SLOTS = 64

_HEARD = 1.0
"""Seconds after which every member has heard what an operator said, where nothing fails."""


class Judge:
    """What must hold in one run.

    Attributes:
        views: every view that a member has seen, by its id.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.views: dict[str, View] = {}
        self.empty, self.full = SlotSet.empty(_SLOTS), SlotSet.full(_SLOTS)
        self._once: dict[tuple[float, int], SlotSet] = {}  # by interval and window
        self._twice: dict[tuple[float, int], SlotSet] = {}
        self._said: dict[bytes, tuple[str, SlotSet]] = {}  # record: incarnation, what it allows
        self._disturbed: list[tuple[float, float]] = []
        self._away: dict[str, tuple[float, float]] = {}  # since when, and for how long at least
        self._there: frozenset[str] | None = None  # when it was frozen; ``None``: it is not
        self._left: set[str] = set()  # in a frozen group
        self._said_at = -math.inf
        self._epochs = Epochs()
        exactly = world.profile.loops if world.profile.exactly else ()
        self._gaps = {interval: Gaps(interval, self.full) for interval in exactly}
        self._last_worked: dict[int, float] = {}  # by slot, from when all have been

    def disturbed(self, until: float) -> None:
        """Let windows be missed from now to a moment: a member crashed, or stands still."""
        self._disturbed.append((self._world.now, until))

    # ---- those that come back --------------------------------------------------------------

    def leaves_for(self, name: str, now: float, back: float) -> None:
        """A member is asked to leave; its share is its own for so long, and unworked."""
        self._away[name] = now, now + back
        self._disturbed.append((now, now + back + TTL))

    def is_back(self, name: str) -> None:
        """It has been started again."""
        self._away.pop(name, None)

    def is_not_kept(self, name: str) -> None:
        """Nobody was there who could keep its place."""
        since, _ = self._away[name]
        self._away[name] = since, since

    @property
    def somebody_is_away(self) -> bool:
        """Whether a member is to come back yet."""
        return bool(self._away)

    # ---- a group that is frozen ------------------------------------------------------------

    def said(self, word: Freeze, known: Freeze | None) -> None:
        """An operator has frozen or thawed the group, where another word was known before."""
        self._said_at = self._world.now
        if known is None or not known.on or not word.on:
            self._there = None
            self._left.clear()
        if word.on and self._there is None:
            self._there = frozenset(member.name for member in self._world.members) | {*self._away}

    def leaves_frozen(self, name: str) -> None:
        """A member drains in a frozen group: its share stays its own."""
        if self._there is not None and self._world.now > self._said_at + _HEARD:
            self._left.add(name)

    def left_to_nobody(self, name: str) -> None:
        """It has left, and nobody was there who could keep its place."""
        self._left.discard(name)

    def _gained_frozen(self, member: SimulatedMember, view: View) -> None:
        word = latest(one.handoff.freeze for one in self._world.live())
        if self._there is None or word is None or not word.on:
            return  # or it has ended: none of those that it kept is left
        if member.name not in self._there:
            raise self._world.violation(f"{member.name} gains, and came to a frozen group")
        # Whose drain has seen the group thawed hands over.
        self._left -= {one.name for one in self._world.live() if not one.handoff.is_frozen}
        for name in self._left - view.weights.keys():
            raise self._world.violation(f"{member.name} takes over from {name} in a frozen group")

    def gained(self, member: SimulatedMember, view: View) -> None:
        """A member has gained slots: nobody may have those of one that is to come back."""
        if self._world.profile.loss:
            return  # its keepers may have crashed
        self._gained_frozen(member, view)
        for name, (_, until) in self._away.items():
            is_kept = self._world.now < until and name in member.seen
            if is_kept and name != member.name and name not in view.weights:
                raise self._world.violation(
                    f"{member.name} takes over from {name}, which is away until {until:.3f}"
                )

    # ---- after every step -----------------------------------------------------------------

    def check(self, member: SimulatedMember) -> None:
        """Check what holds at any time, for the member that has just done something."""
        for gaps in self._gaps.values():
            gaps.look(member, self._world.now)
        if not member.alive:
            return
        self._check_state(member)
        mine = member.in_hand()
        for cycle, (pinned, _) in member.running.items():
            if member.is_valid(cycle) and not pinned <= mine:
                raise self._world.violation(
                    f"{member.name}: a running cycle lost slots that it had pinned"
                )
        for grip in member.gripped:
            if member.is_gripping(grip) and not grip.slots <= mine:
                raise self._world.violation(
                    f"{member.name}: a grip that has not ended lost slots that it had pinned"
                )
        if not mine:
            return
        for other in self._world.holders():
            if other is not member and not mine.isdisjoint(other.in_hand()):
                both = sorted(mine & other.in_hand())
                raise self._world.violation(
                    f"{member.name} and {other.name} both hold slots {both}"
                )
        self._check_epoch(member, mine)
        record = self._world.store.record(member.name, self._world.now)
        if record is None:
            return  # Forgotten or expired: the fence and rule 4 answer for it.
        incarnation, allowed = self._says(member.name, record)
        if incarnation != member.handoff.incarnation:
            raise self._world.violation(f"{member.name} holds slots while another has its place")
        if not mine <= allowed:
            raise self._world.violation(f"{member.name} holds more than its applied view allows")

    def _check_epoch(self, member: SimulatedMember, mine: SlotSet) -> None:
        # Strangers hold slots of another ring: a key is in two of them.
        if not self._world.profile.strangers:
            wrong = self._epochs.look(member, mine)
            if wrong is not None:
                raise self._world.violation(wrong)

    def _check_state(self, member: SimulatedMember) -> None:
        state = member.handoff.state(member.local())
        if state != member.state:
            change = (member.state, state)
            if change not in TRANSITIONS and state != "left":
                raise self._world.violation(f"{member.name} went from {member.state} to {state}")
            self._world.result.transitions[change] += 1
            member.state = state
        member.has_settled = member.has_settled or state == "settled"

    def _says(self, name: str, record: bytes) -> tuple[str, SlotSet]:
        said = self._said.get(record)
        if said is None:
            member = Member.from_json(name, record)
            applied = member.applied
            allowed = self.empty if applied is None else self.views[applied].slots(name)
            said = self._said[record] = (member.incarnation, allowed)
        return said

    # ---- windows --------------------------------------------------------------------------

    def work(self, member: SimulatedMember, interval: float, due: Due) -> None:
        """Note that a member works slots of a window."""
        world, profile = self._world, self._world.profile
        world.say(f"{member.name} works {len(due.slots)} slots of {_named(interval, due.window)}")
        place = interval, due.window
        before = self._once.get(place, self.empty)
        repeated = before & due.slots
        if repeated:
            self._twice[place] = self._twice.get(place, self.empty) | repeated
            if profile.exactly or profile.at_most_once or profile.on_crash == "skip":
                raise world.violation(
                    f"{member.name} repeats slots {sorted(repeated)} of "
                    f"{_named(interval, due.window)}"
                )
        self._once[place] = before | due.slots
        if profile.silence:
            self._last_worked |= dict.fromkeys(due.slots, world.now)

    def check_silence(self) -> None:
        """No slot may go unworked for long, whatever the clocks show."""
        world = self._world
        if len(self._last_worked) < len(self.full) or not world.profile.silence:
            return
        slot, last = min(self._last_worked.items(), key=lambda item: item[1])
        if world.now - last > world.profile.silence:
            raise world.violation(f"slot {slot} has been silent since {last:.3f}")

    # ---- at the end -----------------------------------------------------------------------

    def finish(self) -> None:
        """Check that the group has settled and holds everything, and count the windows."""
        self.check_silence()
        world = self._world
        world.result.successions = self._epochs.successions
        world.result.without_epoch = self._epochs.missing
        defining = world.defining()
        for member in world.live():
            state = member.handoff.state(member.local())
            if member not in defining:
                if member.in_hand():
                    raise world.violation(
                        f"{member.name} differs, and does not stand aside: {state}"
                    )
                continue
            if member.stopping:
                raise world.violation(f"{member.name} has not left: {state}")
            if state != "settled":
                raise world.violation(f"{member.name} does not settle: {state}")
            told, weight = member.handoff.members[member.name].weight, member.handoff.weight
            if told != weight:
                raise world.violation(f"{member.name} weighs {weight} and is told to weigh {told}")
        if not self.everything_is_held():
            raise world.violation("settled, and yet nobody holds some slots")
        for interval in world.profile.loops:
            self._count_windows(interval, world.now)

    def everything_is_held(self) -> bool:
        """Return whether each slot is held, or nobody is there who could."""
        live = self._world.defining()
        held = self.empty
        for member in live:
            held = held | member.in_hand()
        return held == self.full or not any(member.handoff.weight > 0 for member in live)

    def _count_windows(self, interval: float, end: float) -> None:
        profile, result = self._world.profile, self._world.result
        worked = {
            window: once for (length, window), once in self._once.items() if length == interval
        }
        last = int((1000 + end - 3 * INTERVAL) // interval)
        if profile.late_loops:
            first = min(worked, default=last + 1)
        else:
            # From the first window in which somebody could own every slot.
            full = (window for window, once in worked.items() if once == self.full)
            first = min(full, default=last + 1)
        known = self.empty
        for window in range(first, last + 1):
            once = worked.get(window, self.empty)
            known = known | once
            result.worked += len(once)
            result.repeated += len(self._twice.get((interval, window), self.empty))
            missing = (known if profile.late_loops else self.full) - once
            result.missed += len(missing)
            if missing and profile.exactly:
                given_up = self._given_up(missing, window, interval)
                result.given_up += len(given_up)
                missing = missing - given_up
            if missing and not self._may_miss(window * interval - 1000):
                raise self._world.violation(
                    f"{_named(interval, window)} was missed for slots {sorted(missing)}"
                )

    def _given_up(self, slots: SlotSet, window: int, interval: float) -> SlotSet:
        """Return those slots of a window that were handed over too late: nobody could begin it
        from its end, before which it may be left to an heir, until it was too old by the clock
        that is furthest ahead.
        """
        profile = self._world.profile
        end = (window + 1) * interval - 1000
        last = window * interval - 1000 + profile.catch_up - profile.skew
        spans = self._gaps[interval].spans
        return SlotSet.of((slot for slot in slots if spans(slot, end, last)), _SLOTS)

    def _may_miss(self, start: float) -> bool:
        profile = self._world.profile
        if profile.exactly:
            return False
        if profile.steps:
            return True  # Labels that are skipped, and others that repeat: silence is judged.
        if profile.freezes:
            return True  # What drains in a frozen group is worked by nobody.
        if profile.loss or profile.forgetful:
            return True  # Chaos: 4.1 is what those runs are about.
        if profile.at_most_once:
            return True  # Where one of several loops ends early, the others may go on past it.
        return any(begin - 1.5 <= start <= end for begin, end in self._disturbed)


def _named(interval: float, window: int) -> str:
    return f"window {window}" if interval == INTERVAL else f"window {window} of {interval:g} s"
