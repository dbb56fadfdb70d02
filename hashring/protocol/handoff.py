"""The hand-off: what one member is to do next, by a table of which the first row counts.

This is the protocol (``docs/protocol.md``) as a state machine with no clock, no I/O and no thread
in it. Readings and times come in as arguments; what to do comes out as a value (:class:`Join`,
:class:`Publish`, :class:`Wait`, :class:`Leave`). `Partition` runs it on a driver, the simulator on
a simulated store, both by the steps of `runner.py`.

What is known is in `state.py`, what changes it in `events.py`; slots and claims are in
`custody.py`, the lease in `lease.py`, the other members in `roster.py`, and what one of them may
still hold in `gate.py`.

The rules that the rows below name are in the docstring of the package, in `__init__.py`.
"""

from __future__ import annotations

import math

from hashring.protocol import gate
from hashring.protocol.actions import TRANSITIONS, Action, Join, Leave, Publish, Wait
from hashring.protocol.claims import Claim
from hashring.protocol.custody import Gain, Windows
from hashring.protocol.events import Events
from hashring.protocol.founding import earliest, mismatch
from hashring.protocol.lease import FENCE
from hashring.protocol.reading import Reading, is_young
from hashring.protocol.record import MAX_PARKED, Member
from hashring.ring.ring import SlotSet

__all__ = [
    "FENCE",
    "TRANSITIONS",
    "Action",
    "Gain",
    "Handoff",
    "Join",
    "Leave",
    "Publish",
    "Wait",
    "mismatch",
]

_SETTLED = Wait("settled")


class Handoff(Events):
    """One member's part in the hand-off of one group.

    The loop that a caller writes is in `runner.py`, which `Partition` and the simulator drive::

        perform(handoff.start())                       # a Join
        while not handoff.has_left:
            token = handoff.reading_begins()
            reading = driver.read(group)
            action = handoff.step(reading, token, now=boottime(), wall=time())
            perform(action)                            # driver call, then joined() / published()

    and, in another thread, ``heartbeat_begins`` / ``driver.heartbeat()`` / ``heartbeat_confirmed``.
    Calls must be serialised by the caller (one lock). The arguments are those of
    :class:`~hashring.protocol.state.State`.
    """

    def step(self, reading: Reading, token: int, *, now: float, wall: float) -> Action:
        """Return what to do, given a reading: :meth:`observe`, then :meth:`decide`, for a member
        without streams of windows.
        """
        self.observe(reading, token, now=now, wall=wall)
        return self.decide(now=now, wall=wall)

    def decide(
        self, *, now: float, wall: float, pending: Windows = (), given_up: Windows = ()
    ) -> Action:
        """Return what to do about the reading that :meth:`observe` took in.

        Args:
            now: local time in seconds.
            wall: wall-clock time in seconds.
            pending: ``(start, slots)``: begun windows, of slots in :attr:`losing`, that no cycle
                has started yet and one will.
            given_up: the same for windows that this member will not work (their stream was
                closed).

        Returns:
            The action of the first row below that applies.
        """
        if self._custody.gaining and self._lease.is_too_old_to_gain(now):
            # The mark's outcome is unknown, and it may not be repeated on a lease this old.
            self._stop_gaining()
        action = (
            self._stay_away()
            or self._come_back(now)
            or self._stand_still()
            or self._work_what_is_lost(pending, given_up)
            or self._stand_aside()
            or self._ack(wall)
            or self._go()
            or self._gain(now, wall)
            or self._tell_meta()
            or _SETTLED
        )
        # Whoever asks without the lock must not see what is only about to be found out.
        self._waited_for = self._waiting_for
        return self._gathered(action, now) if self._gathers else action

    def _stay_away(self) -> Action | None:
        return Leave() if self.has_left else None

    def _come_back(self, now: float) -> Action | None:
        """Rule 4: the record is gone. Did the store forget it, or did the lease end?"""
        lease = self._lease
        if lease.in_store:
            return None
        resumes = is_young(self._reading, self.ttl) and not lease.is_fenced(now)
        if self._draining and not resumes:
            # Nothing left to hand over: whoever comes finds no record of ours.
            return Leave()
        if self.applied is None and lease.number == 0 and not self._has_settled:
            return self._join()  # The very first join, whose outcome was unknown.
        lease.resumes = resumes
        if not resumes:
            self._expire()
            lease.new_incarnation()
        return self._join()

    @property
    def _must_tell_at_once(self) -> bool:
        """Whether its record lacks what waits for no hand-over: that it drains, what it weighs,
        which places it keeps for others, its answer, or that the group is frozen.
        """
        confirmed = self._confirmed
        is_said = confirmed.draining or not self._says_that_it_drains
        return (
            not is_said
            or self._told_weight != confirmed.weight
            or self._parking.kept != confirmed.parked
            or self.answer not in (None, confirmed.answer)
            or (self.freeze, self.stays) != confirmed.freeze
        )

    def _stand_still(self) -> Action | None:
        """Rule 4: while the store may have forgotten somebody, say no more than what we must."""
        if self._must_wait is None:
            return None
        return self._publish(self.applied) if self._must_tell_at_once else self._must_wait

    def _work_what_is_lost(self, pending: Windows, given_up: Windows) -> Action | None:
        """Rule 1: nothing is acked while something that the view took away is in hand."""
        self._custody.give_up_windows(given_up)
        self._custody.finish_losing(pending)
        if not self._custody.losing:
            return None
        missing = self._missing()
        self._waiting_for = {self.member: missing} if missing else {}
        if self._must_tell_at_once:
            return self._publish(self.applied)
        return Wait("a cycle or window in hand still works what is lost", local=True)

    def _stand_aside(self) -> Action | None:
        """Rule 6: nothing is in hand any more. Have the store say so, and wait for the strangers'
        end.
        """
        if not self._stands_aside:
            return None
        if self.applied is not None or self._sent is not None or self._must_tell_at_once:
            return self._publish(None)
        if self._draining:
            return Leave()
        if self.meta is not self._confirmed.meta:
            return self._publish(None)
        return Wait(self._stands_aside)

    def _ack(self, wall: float) -> Action | None:
        """Rule 1: publish the view, now that nothing is held that it does not give.

        What was sent and not confirmed is sent again: until then the store may show either view,
        and what is held is a subset of what both allow.
        """
        is_said = self.applied == self._target and self._sent is None
        if is_said and not self._must_tell_at_once:
            return None
        # Not with the first view: a null must mean for strangers that nothing is held.
        if self.mode == "eager" and self.applied is not None and not self.strangers:
            self._gain_eagerly(wall)
        return self._publish(self._target)

    def _go(self) -> Action | None:
        """Leave once the rest have gained what this draining member gave up."""
        if not self._draining:
            return None
        custody = self._custody
        own = (self.member, self.incarnation)
        if self._back is not None and not self._roster.is_over(own):
            is_safe = self._parking.are_safe(self._roster, own)
            if is_safe is False:
                return Wait("waiting for others to keep this member's place")
            return Leave(handed_over=bool(is_safe))
        if self._parking.are_safe(self._roster, None) is False:
            return None
        is_awaited = bool(custody.claims or custody.held or custody.losing)
        if self._target is not None and self._target.members and is_awaited:
            return None
        return Leave(handed_over=True)

    def _gathered(self, action: Action, now: float) -> Action:
        """Wait no longer than changes are gathered for."""
        if not isinstance(action, Wait) or action.local:
            return action
        reason = "more members may be coming or going" if action is _SETTLED else action.reason
        rest = self._gathering.rest(now)
        return Wait(reason, seconds=rest if action.seconds is None else min(rest, action.seconds))

    def _tell_meta(self) -> Action | None:
        """Last of all: it delays no hand-over, and the record says nothing new but this."""
        return None if self.meta is self._confirmed.meta else self._publish(self._target)

    # ---- rule 2: gain last -----------------------------------------------------------------

    def _gain(self, now: float, wall: float) -> Action | None:
        """Let in what nobody else may hold, and mark it."""
        custody, view, missing = self._custody, self._target, self._missing()
        if self._settled == view and not custody.gaining and not missing and not self._is_awaited():
            return None
        assert view is not None
        if missing:
            self._waiting_for = self._holders_of(missing)
            if self._lease.is_too_old_to_gain(now):
                return Wait("the lease is too old to gain on: a heartbeat must be confirmed first")
            if not self._is_fresh(self._token):
                return Wait("the reading began before the view was acked", seconds=0.0)
        gain = missing
        for slots in self._waiting_for.values():
            gain = gain - slots
        # Before the view counts as settled: whoever asks without the lock must not see it so.
        custody.begin_gaining(gate.gains(self._roster, self._claims(), gain, wall))
        self._note_away(gain, wall)
        if not self._waiting_for:
            self._settle(wall)
        is_told = self._founding == self._confirmed.founded
        if not gain and not custody.gaining and is_told and not self._is_awaited():
            return self._wait_for_others() if self._waiting_for else _SETTLED
        if self._lease.is_too_old_to_gain(now):
            return Wait("the lease is too old to mark on: a heartbeat must be confirmed first")
        self._took = custody.held
        for gained in custody.gaining:
            self._took = self._took | gained.slots
        return self._publish(view)

    def _gain_eagerly(self, wall: float) -> None:
        assert self._target is not None
        gain = self._target.slots(self.member) - self._custody.held
        if self._back is not None:
            gain = self._nothing
        self._custody.gain_at_once(list(gate.gains(self._roster, self._claims(), gain, wall)))
        self._took = self._custody.held
        self._settle(wall)

    def _note_away(self, gain: SlotSet, wall: float) -> None:
        """Keep in mind since when nobody has worked slots whose member was away."""
        for place in self._roster.places() if gain else ():
            since = min(
                (
                    claim.through
                    for claim in place.claims
                    if claim.through > -math.inf and not claim.slots.isdisjoint(gain)
                ),
                default=wall,
            )
            if since < wall:
                known, _ = self._away.pop(place.name, (since, wall))
                self._away[place.name] = (min(since, known), wall)
                if len(self._away) > MAX_PARKED:
                    del self._away[next(iter(self._away))]

    def _claims(self) -> list[Claim]:
        return [*self._custody.claims, *self._parking.claims]

    def _settle(self, wall: float) -> None:
        """Everything that the view gives is let in. Say when these parameters were founded: now,
        if nobody knows better.
        """
        self._settled = self._target
        self._has_settled = True
        known = earliest(self.members.values(), self._roster.parameters)
        if self.founded is not None:
            known = min(known, self.founded)
        if known < math.inf:
            self.founded = self._founding = known
        elif self._target is not None and self._target.slots(self.member):
            self._founding = wall

    def _missing(self) -> SlotSet:
        """Return what the view gives us and we neither hold nor are about to."""
        if self._target is None:  # pragma: no cover - who has no view says so in an earlier row
            return self._nothing
        return self._custody.missing(self._target.slots(self.member))

    def _is_fresh(self, token: int) -> bool:
        """Whether a reading began after the publish of ``applied`` had returned."""
        return token > self._acked_at

    def _holders_of(self, wanted: SlotSet) -> dict[str, SlotSet]:
        """Return who may still hold some of the slots, by the latest reading, and which."""
        found = dict.fromkeys(self.problems if self.mode != "eager" else (), wanted)
        for member in self.members.values():
            if member.id != self.member:
                held = self._may_hold(member, wanted)
                if held:
                    found[member.id] = held
        return found

    def _may_hold(self, member: Member, wanted: SlotSet) -> SlotSet:
        assert self._target is not None
        return gate.may_hold(self._roster, member, wanted, self._target, eager=self.mode == "eager")

    def _is_awaited(self) -> bool:
        """Whether some member carries a claim on what we hold, and so awaits a mark of ours."""
        held = self._custody.held - self._confirmed.took
        return bool(gate.claimed_by_others(self._roster, held))

    def _wait_for_others(self) -> Wait:
        foreign = sorted(self._waiting_for.keys() & self.strangers.keys())
        if foreign:
            return Wait(
                f"waiting for {len(foreign)} members that differ to leave: "
                f"{', '.join(foreign[:5])} ({self.strangers[foreign[0]]})"
            )
        if self.problems:
            names = ", ".join(sorted(self.problems))
            return Wait(f"members whose records cannot be read may hold anything: {names:.500}")
        names = ", ".join(sorted(self._waiting_for)[:5])
        return Wait(f"waiting for what {len(self._waiting_for)} members may still hold: {names}")
