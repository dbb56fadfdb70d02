"""Custody: which slots one member has, in which part of their life, and from which window on.

Set algebra. This module knows no record, no view, no store and no clock. The life of a slot here::

    gaining -> held -> losing -> claimed -> (dropped)

*Gaining*: the gate let it in, and the mark that says so is on its way. *Held*: new cycles get it.
*Losing*: the view took it away, and cycles or windows in hand still work it. *Claimed*: given up;
the next owner is told from which window on it is his, until his mark is seen.

The parts gaining, held and losing are disjoint, and so are held, losing and claimed. Their union
grows by :meth:`Custody.begin_gaining` and :meth:`Custody.gain_at_once` alone, and shrinks by
:meth:`Custody.drop_claims`, :meth:`Custody.see_claims` and :meth:`Custody.drop_all` alone;
``tests/protocol/test_custody.py`` says so of every order of calls.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence

from hashring.protocol.claims import Claim, checked_most, merged, oldest_pair
from hashring.ring.ring import SlotSet

__all__ = ["DEFAULT_CLAIMS", "Custody", "Gain", "Windows"]

DEFAULT_CLAIMS = 32
"""The most claims that a member publishes, and gains that it remembers, where it is not told. More
are merged, and what is merged may be worked twice."""

Windows = Sequence[tuple[float, SlotSet]]
"""Begun windows as ``(start, slots)``; starts are wall-clock seconds."""


@dataclasses.dataclass(frozen=True, slots=True)
class Gain:
    """Slots gained together.

    Attributes:
        slots: which.
        through: windows that start at or after this wall-clock second are this member's.
        is_claimed: a live member claimed so. Otherwise the custodian crashed, or there never was
            one, and ``through`` is the time of the gain.
        at: the wall-clock second of the gain; ``-inf``: it is not known.
    """

    slots: SlotSet
    through: float
    is_claimed: bool
    at: float = -math.inf


@dataclasses.dataclass(frozen=True, slots=True)
class _Loss:
    """Slots that the view took away; windows that start before ``through`` are still ours."""

    slots: SlotSet
    through: float


class Custody:
    """The slots of one member.

    Args:
        nothing: the empty set of the group's slots.
        max_claims: the most claims to keep, and gains to remember, from 2 to 64.

    Attributes:
        held: what new cycles get.
        gaining: let in by the gate, and not yet held.
        claims: given up, and not known to be taken over yet.
        through: every window that starts before this wall-clock second is this member's own;
            ``None``: it has worked none.
        has_lowered: a ``through`` of ours was lowered by merging: it no longer tells which of two
            claims is the later.
    """

    def __init__(self, nothing: SlotSet, max_claims: int = DEFAULT_CLAIMS) -> None:
        self.nothing = nothing
        self._max_claims = checked_most(max_claims)
        self.held = nothing
        self.gaining: tuple[Gain, ...] = ()
        self._losses: list[_Loss] = []
        self.claims: list[Claim] = []
        self.through: float | None = None
        self.has_lowered = False
        self._remembered: list[Gain] = []
        self._untold: list[Gain] = []
        self._pins: dict[int, SlotSet] = {}

    # ---- what there is ---------------------------------------------------------------------

    @property
    def losing(self) -> SlotSet:
        """The slots that the view took away and that are not given up yet."""
        slots = self.nothing
        for loss in self._losses:
            slots = slots | loss.slots
        return slots

    @property
    def in_hand(self) -> SlotSet:
        """Held or losing: what this member may act on."""
        return self.held | self.losing

    @property
    def remembered(self) -> Sequence[Gain]:
        """The gains of slots that are still here: from which window on each is this member's."""
        return tuple(self._remembered)

    def usable(self, window_start: float) -> SlotSet:
        """Return the slots that a cycle of the window that starts then may pin: those held, and
        those that are being lost but whose window this still is.
        """
        slots = self.held
        for loss in self._losses:
            if window_start < loss.through:
                slots = slots | loss.slots
        return slots

    def missing(self, mine: SlotSet) -> SlotSet:
        """Return those of the slots that are neither held nor being gained."""
        missing = mine - self.held
        for gain in self.gaining:
            missing = missing - gain.slots
        return missing

    # ---- cycles ----------------------------------------------------------------------------

    def pin(self, cycle: int, slots: SlotSet) -> None:
        """A cycle begins that acts on these slots until :meth:`unpin`."""
        self._pins[cycle] = slots

    def unpin(self, cycle: int) -> None:
        """The cycle has ended, however it ended."""
        self._pins.pop(cycle, None)

    @property
    def is_pinned(self) -> bool:
        """Whether a cycle acts on slots."""
        return bool(self._pins)

    # ---- losing, and giving up -------------------------------------------------------------

    def keep_only(self, mine: SlotSet, wall: float, worked: bool) -> None:
        """Begin to lose what is held and not among these slots.

        Args:
            mine: what the new view gives this member.
            wall: wall-clock time in seconds: windows that start later are somebody else's.
            worked: this member has started a window of some loop. One that never did passes on
                what it was told, and promises no more.
        """
        self.through = wall if worked else None
        lost = self.held - mine
        if not lost:
            return
        self.held = self.held & mine
        # Somebody else's from now on; or from later on, where they were gained with a `through`
        # that is yet to come (the previous owner's clock is ahead).
        for gain in self._remembered:
            part = lost & gain.slots
            if part and gain.is_claimed and (gain.through > wall or not worked):
                self._losses.append(_Loss(part, gain.through))
                lost = lost - part
        if lost:
            self._losses.append(_Loss(lost, wall if worked else -math.inf))

    def give_up_windows(self, given_up: Windows) -> None:
        """Leave begun windows to the next owner: nobody here will start them any more."""
        for start, slots in given_up:
            pieces: list[_Loss] = []
            for loss in self._losses:
                part = loss.slots & slots
                if part and start < loss.through:
                    if self.through is not None:
                        self.through = min(self.through, start)
                    pieces.append(_Loss(part, start))
                    rest = loss.slots - part
                    if rest:
                        pieces.append(_Loss(rest, loss.through))
                else:
                    pieces.append(loss)
            self._losses = pieces

    def finish_losing(self, pending: Windows) -> None:
        """Claim what is being lost and is busy no more.

        Args:
            pending: begun windows that some loop here has yet to start.
        """
        if not self._losses:
            return
        pinned = self.nothing
        for slots in self._pins.values():
            pinned = pinned | slots
        done: list[Claim] = []
        rest: list[_Loss] = []
        for loss in self._losses:
            busy = pinned
            for start, slots in pending:
                if start < loss.through:
                    busy = busy | slots
            free = loss.slots - busy
            if free:
                done.append(Claim(loss.through, free))
            kept = loss.slots & busy
            if kept:
                rest.append(_Loss(kept, loss.through))
        self._losses = rest
        self.keep_claims(done)

    # ---- claims ----------------------------------------------------------------------------

    def keep_claims(self, claims: Iterable[Claim]) -> None:
        """Claim slots, in place of what was claimed of them before."""
        for claim in claims:
            self.drop_claims(claim.slots)
            self.claims.append(claim)
            self._forget(claim.slots)
        self.merge_claims(self._max_claims)

    def merge_claims(self, most: int) -> None:
        """Keep so many claims at most: the oldest ones become one."""
        known = len({claim.through for claim in self.claims if claim.slots})
        self.claims = merged(self.claims, most)
        self.has_lowered = self.has_lowered or len(self.claims) < known

    def drop_claims(self, slots: SlotSet) -> None:
        """Drop what is claimed of these slots: they have a new custodian."""
        self.claims = [
            Claim(claim.through, claim.slots - slots)
            for claim in self.claims
            if not claim.slots <= slots
        ]

    def see_claims(self, theirs: Iterable[Claim]) -> None:
        """Drop what another member claims and has worked for longer.

        It has been the custodian since. That is no evidence where a claim of ours was lowered: the
        other may be older, and about to be dropped, and both would go.
        """
        for other in () if self.has_lowered else theirs:
            for ours in self.claims:
                if ours.through < other.through:
                    self.drop_claims(ours.slots & other.slots)

    # ---- gaining ---------------------------------------------------------------------------

    def begin_gaining(self, gains: Iterable[Gain]) -> None:
        """Let slots in; they are held once :meth:`finish_gaining` says that the mark is there."""
        self.gaining += tuple(gains)

    def finish_gaining(self) -> None:
        """Hold what is being gained: custody has changed hands."""
        for gain in self.gaining:
            self.held = self.held | gain.slots
            self.drop_claims(gain.slots)
            self._remember(gain)
        self._untold.extend(self.gaining)
        self.gaining = ()

    def stop_gaining(self) -> SlotSet:
        """Claim what was being gained; return it.

        The mark may or may not have landed; whoever saw it has dropped its own claim. So the claim
        is ours to carry, unworked as it is.
        """
        stopped = self.nothing
        for gain in self.gaining:
            stopped = stopped | gain.slots
        if self.gaining:
            self.keep_claims(
                Claim(gain.through if gain.is_claimed else -math.inf, gain.slots)
                for gain in self.gaining
            )
            self.gaining = ()
        return stopped

    def gain_at_once(self, gains: Iterable[Gain]) -> None:
        """Hold slots without a mark, and claim nothing any more: for eager groups."""
        for gain in gains:
            self.held = self.held | gain.slots
            self._remember(gain)
            self._untold.append(gain)
        self.claims.clear()

    def take_gains(self) -> tuple[Gain, ...]:
        """Return what was gained since the last call, once."""
        gained, self._untold = tuple(self._untold), []
        return gained

    # ---- the rest --------------------------------------------------------------------------

    def drop_all(self) -> None:
        """Have nothing: the lease ended, and others may hold what was held here."""
        self.held = self.nothing
        self.gaining = ()
        self._losses.clear()
        self.claims.clear()
        self.has_lowered = False
        self._remembered.clear()
        self._untold.clear()
        self._pins.clear()

    def _remember(self, gain: Gain) -> None:
        self._forget(gain.slots)
        self._remembered.append(gain)
        if len(self._remembered) > self._max_claims:
            known = self._remembered
            first, second = (
                known[place]
                for place in oldest_pair([(gain.through, gain.is_claimed) for gain in known])
            )
            both = dataclasses.replace(first, slots=first.slots | second.slots)
            rest = [gain for gain in known if gain is not first and gain is not second]
            self._remembered = [both, *rest]
            self.has_lowered = True

    def _forget(self, slots: SlotSet) -> None:
        self._remembered = [
            dataclasses.replace(gain, slots=gain.slots - slots)
            for gain in self._remembered
            if not gain.slots <= slots
        ]
