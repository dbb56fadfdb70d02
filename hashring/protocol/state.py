"""What one member knows, and what a caller may ask of it. :class:`State` decides nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from hashring.protocol.actions import Wait
from hashring.protocol.custody import DEFAULT_CLAIMS, Custody, Gain
from hashring.protocol.founding import Parameters
from hashring.protocol.freezing import Freeze
from hashring.protocol.gathering import Gathering
from hashring.protocol.lease import Lease
from hashring.protocol.parking import Parking
from hashring.protocol.reading import Reading
from hashring.protocol.record import Member
from hashring.protocol.request import Answer, Request
from hashring.protocol.roster import Roster
from hashring.protocol.statement import Statement
from hashring.protocol.view import View
from hashring.ring.ring import HashRing, SlotSet

__all__ = ["State"]


class State:
    """One member's part in one group, as it stands.

    Args:
        member: this member's id.
        incarnations: unique strings: one for this membership, and one more after each expiry.
        spec: the ring's parameters.
        ttl: the lease in seconds.
        weight: 0 holds nothing.
        mode: ``"exclusive"``, or ``"eager"``: take slots without waiting for the others.
        meta: what the user publishes; :meth:`Handoff.change_meta` replaces it.
        max_claims: the most claims to publish, from 2 to 64. More are merged, which may repeat a
            window and loses none.
        gather: seconds in which this member turns to two views at most: see `gathering.py`.

    Attributes:
        weight: may be set: it is told at once, and is a new view for all, this member included,
            once the store has it.
        has_left: the member has left: it holds nothing, for good.
        founded: the wall-clock second at which the group's parameters were founded, if this
            process has ever settled under them.
        requests: what operators ask, of whichever member, at the latest reading.
        answer: what its record is to say to the latest request.
        freeze: the latest word that it knows on whether the group is frozen.
        stays: that freeze keeps it in the view: what it owns stays its own.
        epoch: the store's number of this member's latest mark (rule 7): whoever holds one of its
            slots later has a greater one, and whoever held one before had a lesser one. ``None``
            where the store gives no numbers, and in eager groups, where two may hold one slot.
    """

    def __init__(
        self,
        member: str,
        *,
        incarnations: Iterable[str],
        spec: str,
        ttl: float,
        weight: float = 1.0,
        mode: str = "exclusive",
        meta: Mapping[str, Any] = MappingProxyType({}),
        max_claims: int = DEFAULT_CLAIMS,
        gather: float = 0.0,
    ) -> None:
        self.member = member
        self.spec = spec
        self.ttl = ttl
        self.weight = weight
        self.mode = mode
        self.meta = meta
        self._nobody = View((), spec, ttl)  # what a member that stands aside turns to
        nothing = SlotSet.empty(HashRing.from_spec({}, spec).universe)
        self._nothing = nothing

        self._lease = Lease(ttl, incarnations)
        self._roster = Roster(member, Parameters(spec, ttl, mode))
        self._custody = Custody(nothing, max_claims)
        self._parking = Parking(member)
        self._gathering = Gathering(gather)
        self._gathers = False  # the reading at hand has a view that we have not turned to yet

        self._target: View | None = None
        self._turned_at: float | None = None  # the wall-clock second; for people who look on
        self._settled: View | None = None
        self._took = nothing  # what the next mark names
        self._sent: Statement | None = None  # asked for, and not known to have arrived
        self._confirmed = Statement(None, nothing, False, None, meta, weight)
        self.epoch: int | None = None
        self._acked_at = 0  # the event number at which the publish of `applied` returned
        self._events = 0
        self._waiting_for: Mapping[str, SlotSet] = {}
        self._waited_for: Mapping[str, SlotSet] = {}  # by the latest decision: others ask for it

        self._has_settled = False  # in any lease: from then on no stranger's parameters end us
        self.founded: float | None = None
        self._founding: float | None = None  # what the next record says
        self._stands_aside = ""  # why, where strangers define the group
        self._draining = False
        self._away: dict[tuple[str, str], tuple[float, float]] = {}
        self._back: float | None = None  # it drains, and is back within so many seconds
        self.has_left = False
        self.requests: Sequence[Request] = ()
        self.answer: Answer | None = None
        self.freeze: Freeze | None = None
        self.stays = False
        self._until_thaw = False  # it drains in a frozen group

        self._reading = Reading({}, 0.0)
        self._token = 0
        self._must_wait: Wait | None = None

    # ---- slots -----------------------------------------------------------------------------

    def held(self, now: float) -> SlotSet:
        """Return the slots that may be acted on at local time ``now``; empty past the fence."""
        return self._nothing if self._lease.is_fenced(now) else self._custody.held

    def in_hand(self, now: float) -> SlotSet:
        """Return :meth:`held` and what running cycles and begun windows still keep: the set that
        the invariant speaks of.
        """
        return self._nothing if self._lease.is_fenced(now) else self._custody.in_hand

    def usable(self, now: float, window_start: float) -> SlotSet:
        """Return the slots that a cycle of the window that starts at ``window_start`` may pin:
        those held, and those that are being lost but whose window this still is.
        """
        return self._nothing if self._lease.is_fenced(now) else self._custody.usable(window_start)

    @property
    def losing(self) -> SlotSet:
        """The slots that the latest view took away and that are not dropped yet."""
        return self._custody.losing

    @property
    def waiting_for(self) -> Mapping[str, SlotSet]:
        """Whose act must end before this member gains what the view gives it, and of which slots.

        By the latest reading. This member itself is named where its own cycle keeps it from
        acking; one whose record cannot be read, or whose view is unknown, may hold all of them.
        """
        return self._waited_for

    @property
    def remembered_gains(self) -> Sequence[Gain]:
        """The gains that still matter, for a stream of windows that begins now."""
        return self._custody.remembered

    def take_gains(self) -> tuple[Gain, ...]:
        """Return what was gained since the last call, once."""
        return self._custody.take_gains()

    def pin(self, cycle: int, slots: SlotSet) -> None:
        """A cycle begins that acts on these slots until :meth:`unpin`."""
        self._custody.pin(cycle, slots)

    def unpin(self, cycle: int) -> None:
        """The cycle has ended, however it ended."""
        self._custody.unpin(cycle)

    @property
    def is_pinned(self) -> bool:
        """Whether a cycle acts on slots."""
        return self._custody.is_pinned

    # ---- the lease, and the view -----------------------------------------------------------

    @property
    def incarnation(self) -> str:
        """This membership's identity; a new one after each expiry."""
        return self._lease.incarnation

    @property
    def lease_number(self) -> int:
        """The number of this lease; it changes when everything held was dropped at once."""
        return self._lease.number

    @property
    def deadline(self) -> float:
        """The fence: the local time in seconds at which this member holds nothing any more."""
        return self._lease.deadline

    @property
    def view(self) -> View | None:
        """The view of the latest reading."""
        return self._target

    @property
    def applied(self) -> View | None:
        """The view that the store is known to have in this member's record."""
        return self._confirmed.applied

    def state(self, now: float) -> str:
        """Return joining, settling, settled, fenced, draining or left."""
        if self.has_left:
            return "left"
        if self._draining:
            return "draining"
        if not self._lease.in_store or self.applied is None:
            return "joining"
        if self._lease.is_fenced(now):
            return "fenced"
        return "settled" if self.is_settled else "settling"

    @property
    def back(self) -> float | None:
        """Within how many seconds it is back, where it drains and its share stays its own."""
        return self._back

    @property
    def away(self) -> Mapping[tuple[str, str], tuple[float, float]]:
        """For how long slots that this member has gained were nobody's, since a member was away.

        By member (this one itself, or one that did not come back in time) and incarnation: the
        wall-clock seconds from which on and until which.
        """
        return self._away

    @property
    def is_settled(self) -> bool:
        """Whether everything that the latest view gives this member is held."""
        return (
            self._lease.in_store
            and self.applied is not None
            and self.applied == self._target == self._settled
            and not self._custody.losing
            and not self._custody.gaining
        )

    # ---- the others ------------------------------------------------------------------------

    @property
    def members(self) -> Mapping[str, Member]:
        """All live members' records at the latest reading, those that drain included."""
        return self._roster.members

    @property
    def problems(self) -> Mapping[str, str]:
        """Why the records of some members could not be read, by id."""
        return self._roster.problems

    @property
    def strangers(self) -> Mapping[str, str]:
        """How those members differ that have another ring, ttl or mode, by id."""
        return self._roster.strangers

    @property
    def strangers_in_the_way(self) -> Mapping[str, str]:
        """The strangers that keep this member from what it should hold, and how each differs."""
        if self._stands_aside:
            return self.strangers
        return {id: self.strangers[id] for id in self._waited_for if id in self.strangers}

    @property
    def stands_aside(self) -> bool:
        """Whether strangers define the group, so that this member waits and holds nothing."""
        return bool(self._stands_aside)
