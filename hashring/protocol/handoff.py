"""The hand-off: which slots this member may act on now, and what to tell the store next.

This file is the protocol (``docs/protocol.md``) as a state machine with no clock, no I/O and no
thread in it. Readings and times come in as arguments; what to do comes out as a value
(:class:`Join`, :class:`Publish`, :class:`Wait`, :class:`Leave`). `Partition` runs it on a driver,
the simulator on a simulated store; both use the same lines below.

The rules
---------
*Invariant.* At every instant the slots that a live member holds are a subset of
``table(applied)[itself]``, where ``applied`` is what the **store** has in its record (null: it
holds nothing). A member past its fence holds nothing. So two members never hold one slot:
whoever gains it has seen that nobody else's record allows it.

1. **Drop before ack.** On a new view the slots that it takes away are *losing*: no new cycle
   gets them. Those that a running cycle pins, or that a begun window still owes work to, are
   dropped when that is done. Only then is the view published as ``applied``.
2. **Gain last, from those who held.** A slot is gained on one reading that began after the publish
   of ``applied`` returned, whose view is ``applied``, and in which every other live record, those
   that drain included, shows ``applied``, or null, or another view that this member *knows* (it
   has seen it, or can compute it from the records at hand) whose table does not give that slot to
   the record's member, with no claim on it. A view that nobody here knows may give its member
   anything: wait. Older evidence is worthless, a null seen earlier too.
   So slots are gained *in parts*: what is free now is gained now, and only what a slow member still
   holds waits for it.
3. **Fence.** ``deadline = start of the last confirmed heartbeat + 0.9 ttl``. At the deadline the
   held set reads as empty, for whoever asks. A heartbeat confirmed later un-fences, because it
   proves that the lease never ended; one from before a lost lease proves nothing and is ignored.
4. **A store that forgot** (``memory_age < ttl``): nobody acks, nobody gains. A member whose
   record is gone and whose fence has not passed rejoins with ``applied`` unchanged. Had the
   fence passed, or passes it before that join returns, it drops everything first.
5. **Custody** (windows, exactly once). A member that loses slots publishes a *claim*:
   "every window of these slots that starts before ``through`` is mine" (or that it has never
   worked one). It carries the claim, with the same ``through``, until it sees the new owner's
   *mark*: a list of the slots that it ``took``, or ``settled``, all that its view gives it. The
   mark is published, and confirmed, before the new owner acts, so custody changes hands in exactly
   one write. Whoever gains a slot takes the latest claim on it in the reading that let it gain.
   Views that some acked and others skipped need no special case: a member that never marked a slot
   never had custody, so the claim of the one before it stands. A claim that its author has dropped
   can still stand in its record, and an heir would believe it: hence "no claim" in rule 2. Where
   nobody live claims a slot its custodian crashed, and the gain says so.
6. **Strangers** (`founding.py` has the rule). Of members that differ in ring, ttl or mode, those
   whose parameters were founded first define the group. The others stand aside: one that has
   never settled raises :class:`GroupMismatch`; one that has drops everything, as for a view that
   gives it nothing, publishes null as ``applied``, and waits until the strangers are gone.
   Whoever defines the group gains only while no stranger shows anything but null: whatever a
   stranger has applied, it may hold slots by it.

Terms: *target*, the view of the latest reading; *acked*, the last view whose publish was confirmed.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from hashring.driver import Reading
from hashring.errors import BadRecord, GroupMismatch
from hashring.protocol.claims import checked_most, merged, oldest_pair
from hashring.protocol.founding import Parameters, earliest, judge
from hashring.protocol.view import Claim, Member, View, check_meta
from hashring.ring.ring import HashRing, SlotSet

__all__ = [
    "FENCE",
    "TRANSITIONS",
    "Action",
    "Batch",
    "Handoff",
    "Join",
    "Leave",
    "Publish",
    "Wait",
]

FENCE = 0.9
"""The part of the ttl after which a member no longer trusts its lease: the rest is for the
difference in rate between its clock and the store's."""

_LEASE_TO_GAIN = 0.4
"""The part of the ttl that must be left before the fence when slots are gained: the mark that
custody changed hands then stays in the store long enough for everybody to see it, even if the
member crashes the moment after."""

TRANSITIONS: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        ("joining", "settling"): "the first view is acked",
        ("joining", "settled"): "acked, and nothing to wait for",
        ("joining", "fenced"): "acked, but no heartbeat is confirmed",
        ("joining", "draining"): "asked to leave",
        ("settling", "settled"): "the gate let us gain",
        ("settling", "joining"): "the lease is lost, or strangers define the group",
        ("settling", "fenced"): "0.9 ttl without a heartbeat",
        ("settling", "draining"): "asked to leave",
        ("settled", "settling"): "a new view",
        ("settled", "joining"): "the lease is lost, or strangers define the group",
        ("settled", "fenced"): "0.9 ttl without a heartbeat",
        ("settled", "draining"): "asked to leave",
        ("fenced", "settled"): "a heartbeat: the lease never ended",
        ("fenced", "settling"): "a heartbeat, and a new view",
        ("fenced", "joining"): "the lease is lost",
        ("fenced", "draining"): "asked to leave",
        ("draining", "left"): "the heirs have gained, or the timeout",
    }
)
"""Every change of :meth:`Handoff.state`, with its cause. The simulator refuses any other, and the
diagram in the documentation is drawn from it. ``left`` can also follow each at once."""

MAX_CLAIMS = 32
"""The most claims that a member publishes, and gains that it remembers, where it is not told."""

_MAX_KNOWN = 64
"""Views that a member remembers, to tell what another holds who still shows one of them. One that
it no longer knows costs a wait and no safety."""


@dataclasses.dataclass(frozen=True, slots=True)
class Join:
    """Call ``driver.join`` with this record, then :meth:`Handoff.joined`."""

    record: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class Publish:
    """Call ``driver.publish`` with this record, then :meth:`Handoff.published`."""

    record: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do until something changes.

    Attributes:
        local: what must change is here (a running cycle, an owed window), not in the store.
        reason: for the log and the status page.
        seconds: the longest wait that makes sense, or ``None``: the caller's polling interval.
    """

    reason: str
    local: bool = False
    seconds: float | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Leave:
    """Nothing is left to do here: call ``driver.leave``, then :meth:`Handoff.left`.

    Attributes:
        handed_over: the rest have taken over what this member held.
    """

    handed_over: bool = False


Action = Join | Publish | Wait | Leave


@dataclasses.dataclass(frozen=True, slots=True)
class Batch:
    """Slots gained together.

    Attributes:
        slots: which.
        through: windows that start at or after this wall-clock second are this member's.
        certain: a live member claimed so. Otherwise the custodian crashed, or there never was
            one, and ``through`` is the time of the gain.
    """

    slots: SlotSet
    through: float
    certain: bool


_parsed_before = functools.lru_cache(maxsize=512)(Member.from_json)


def _member(id: str, record: bytes) -> Member:
    """Parse a record; members of one process read the same ones, so the small ones are kept."""
    if isinstance(record, bytes) and len(record) <= 8192:
        return _parsed_before(id, record)
    return Member.from_json(id, record)


@dataclasses.dataclass(slots=True)
class _Losing:
    slots: SlotSet
    through: float


class Handoff:
    """One member's part in the hand-off of one group.

    The life of a slot here: *gaining* (the gate let it in; the mark is on its way) -> *held* (what
    new cycles get) -> *losing* (the view took it away; cycles and windows in hand still work it) ->
    a *claim* (dropped; told to the next owner until its mark is seen). *In hand* is held or losing.

    The loop that a runner writes (``Partition`` is the full form)::

        perform(handoff.start())                       # a Join
        while not handoff.has_left:
            token = handoff.reading_begins()
            reading = driver.read(group)
            action = handoff.step(reading, token, now=boottime(), wall=time())
            perform(action)                            # driver call, then joined() / published()

    and, in another thread, ``heartbeat_begins`` / ``driver.heartbeat()`` / ``heartbeat_confirmed``.
    Calls must be serialised by the caller (one lock).

    Args:
        member: this member's id.
        incarnations: unique strings: one for this membership, and one more after each expiry.
        spec: the ring's parameters.
        ttl: the lease in seconds.
        weight: 0 holds nothing.
        mode: ``"exclusive"``, or ``"eager"``: take slots without waiting for the others.
        meta: what the user publishes; :meth:`change_meta` replaces it.
        max_claims: the most claims to publish, from 2 to 64. More are merged, which may repeat a
            window and loses none.
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
        max_claims: int = MAX_CLAIMS,
    ) -> None:
        self.member = member
        self._incarnations = iter(incarnations)
        self.incarnation = next(self._incarnations)
        self.spec = spec
        self.ttl = ttl
        self.weight = weight
        self.mode = mode
        self.meta = meta
        self._max_claims = checked_most(max_claims)
        self._parameters = Parameters(spec, ttl, mode)
        self._nobody = View((), spec, ttl)  # what a member that stands aside turns to
        self._nothing = SlotSet.empty(HashRing.from_spec({}, spec).universe)

        # The lease.
        self._in_store = False  # our record was there when we last knew
        self._lease = 0  # counts leases: a heartbeat from an earlier one proves nothing
        self._deadline = -math.inf
        self._rejoining = False  # the Join in hand follows a store that forgot

        # The view, and what is held under it.
        self._target: View | None = None
        self._acked: View | None = None
        self._acked_at = 0  # the event number at which the publish of `acked` returned
        self._settled: View | None = None
        self._known: dict[str, View] = {}  # the views that this member can tell the tables of
        self._candidates: tuple[View, ...] | None = None  # views computed from the last records
        self._held = self._nothing
        self._losing: list[_Losing] = []
        self._gaining: tuple[Batch, ...] = ()
        self._took = self._nothing  # the slots that the next record's mark names
        self._marked = self._nothing  # those that the record in the store is known to name
        self._waiting_for: Mapping[str, SlotSet] = {}
        self._since: list[Batch] = []
        self._claims: list[Claim] = []
        # A `through` of ours was lowered by merging: it no longer tells which claim is the later.
        self._has_lowered = False
        self._through: float | None = None
        self._gained: list[Batch] = []

        self._pins: dict[int, SlotSet] = {}
        self._events = 0
        self._publishing: View | None = None
        self._unconfirmed = False  # a publish was asked for and has not been confirmed
        self._has_settled = False  # in any lease: from then on no stranger's parameters end us
        self.founded: float | None = None
        self._founding: float | None = None  # what the next record says
        self._said_founding: float | None = None
        self._published_founding: float | None = None
        self._stands_aside = ""  # why, where strangers define the group
        self._draining = False
        self._drain_published = False
        self._said_draining = False  # the record in flight says so
        self._said_meta = meta  # what the record in flight has
        self._published_meta = meta  # what the store is known to have
        self.has_left = False

        self._reading = Reading({}, 0.0)
        self._token = 0
        self._must_wait: Wait | None = None
        self._view: tuple[bool, View] | None = None  # of the records last read, if we drain or not
        self._parsed: dict[str, tuple[bytes, Member | None]] = {}
        self.members: Mapping[str, Member] = {}
        self.problems: Mapping[str, str] = {}
        self.strangers: Mapping[str, str] = {}

    # ---- what a caller may ask -------------------------------------------------------------

    @property
    def deadline(self) -> float:
        """The fence: the local time in seconds at which this member holds nothing any more."""
        return self._deadline

    def held(self, now: float) -> SlotSet:
        """Return the slots that may be acted on at local time ``now``; empty past the fence."""
        return self._held if now < self._deadline else self._nothing

    def in_hand(self, now: float) -> SlotSet:
        """Return :meth:`held` and what running cycles and owed windows still keep: the set that
        the invariant speaks of.
        """
        if now >= self._deadline:
            return self._nothing
        return self._held | self.losing

    @property
    def strangers_in_the_way(self) -> Mapping[str, str]:
        """The strangers that keep this member from what it should hold, and how each differs."""
        if self._stands_aside:
            return self.strangers
        return {id: self.strangers[id] for id in self._waiting_for if id in self.strangers}

    @property
    def stands_aside(self) -> bool:
        """Whether strangers define the group, so that this member waits and holds nothing."""
        return bool(self._stands_aside)

    @property
    def losing(self) -> SlotSet:
        """The slots that the latest view took away and that are not dropped yet."""
        slots = self._nothing
        for losing in self._losing:
            slots = slots | losing.slots
        return slots

    def usable(self, now: float, window_start: float) -> SlotSet:
        """Return the slots that a cycle of the window that starts at ``window_start`` may pin:
        those held, and those that are being lost but whose window this still is.
        """
        if now >= self._deadline:
            return self._nothing
        slots = self._held
        for losing in self._losing:
            if window_start < losing.through:
                slots = slots | losing.slots
        return slots

    @property
    def lease(self) -> int:
        """The number of this lease; it changes when everything held was dropped at once."""
        return self._lease

    @property
    def view(self) -> View | None:
        """The view of the latest reading."""
        return self._target

    @property
    def applied(self) -> View | None:
        """The view that the store is known to have in this member's record."""
        return self._acked

    @property
    def waiting_for(self) -> Mapping[str, SlotSet]:
        """Whose act must end before this member gains what the view gives it, and of which slots.

        By the latest reading. This member itself is named where its own cycle keeps it from
        acking; one whose record cannot be read, or whose view is unknown, may hold all of them.
        """
        return self._waiting_for

    @property
    def since(self) -> Sequence[Batch]:
        """The gains that still matter, for a stream of windows that begins now."""
        return tuple(self._since)

    def state(self, now: float) -> str:
        """Return joining, settling, settled, fenced, draining or left."""
        if self.has_left:
            return "left"
        if self._draining:
            return "draining"
        if not self._in_store or self._acked is None:
            return "joining"
        if now >= self._deadline:
            return "fenced"
        return "settled" if self.is_settled else "settling"

    @property
    def is_settled(self) -> bool:
        """Whether everything that the latest view gives this member is held."""
        return (
            self._in_store
            and self._acked is not None
            and self._acked == self._target == self._settled
            and not self._losing
            and not self._gaining
        )

    def take_gains(self) -> tuple[Batch, ...]:
        """Return what was gained since the last call, once."""
        gained, self._gained = tuple(self._gained), []
        return gained

    # ---- cycles ----------------------------------------------------------------------------

    def pin(self, cycle: int, slots: SlotSet) -> None:
        """A cycle begins that acts on these slots until :meth:`unpin`."""
        self._pins[cycle] = slots

    def unpin(self, cycle: int) -> None:
        """The cycle has ended, however it ended."""
        self._pins.pop(cycle, None)

    # ---- the lease -------------------------------------------------------------------------

    def start(self) -> Join:
        """Return the first action: join with null."""
        return self._join()

    def joined(self, now: float) -> None:
        """``driver.join`` returned."""
        self._events += 1
        self._back_in_store(now)
        self._unconfirmed = False
        self._acked_at = self._events
        self._drain_published = self._said_draining
        self._published_meta = self._said_meta
        self._published_founding = self._said_founding

    def heartbeat_begins(self) -> int:
        """Return a token for :meth:`heartbeat_confirmed`."""
        return self._lease if self._in_store else -1

    def heartbeat_confirmed(self, token: int, started: float) -> None:
        """``driver.heartbeat()``, begun at local time ``started``, returned."""
        if self._in_store and token == self._lease:
            self._deadline = max(self._deadline, started + self.ttl * FENCE)

    def lease_lost(self, token: int | None = None) -> None:
        """The driver raised ``LeaseLost``; the next :meth:`step` finds out why."""
        if token is None or token == self._lease:
            self._in_store = False

    def _back_in_store(self, now: float) -> None:
        if self._rejoining and now >= self._deadline:
            # The fence passed while the join was under way: the others may have stopped
            # standing still before our record was back. Nothing may be resurrected.
            self._expire()
        self._give_up_gaining()
        self._rejoining = False
        self._in_store = True

    def _expire(self) -> None:
        """Drop everything: the lease ended, and others may hold what this member held."""
        self._held = self._nothing
        self._losing.clear()
        self._claims.clear()
        self._has_lowered = False
        self._gaining = ()
        self._took = self._marked = self._nothing
        self._waiting_for = {}
        self._since.clear()
        self._gained.clear()
        self._pins.clear()
        self._acked = self._settled = self._target = self._publishing = None
        self._unconfirmed = False
        self._founding = self.founded
        self._deadline = -math.inf
        self._lease += 1

    # ---- one step --------------------------------------------------------------------------

    def reading_begins(self) -> int:
        """Return a token for :meth:`step`: call it before ``driver.read``."""
        self._events += 1
        return self._events

    def step(
        self,
        reading: Reading,
        token: int,
        *,
        now: float,
        wall: float,
    ) -> Action:
        """Return what to do, given a reading: :meth:`observe`, then :meth:`decide`, for a member
        without streams of windows.
        """
        self.observe(reading, token, now=now, wall=wall)
        return self.decide(now=now, wall=wall)

    def observe(
        self, reading: Reading, token: int, *, now: float, wall: float, worked: bool = True
    ) -> None:
        """Take in a reading of the group; from here on no new cycle gets what it takes away.

        Args:
            reading: what the store said.
            token: from :meth:`reading_begins`, called before the reading began.
            now: local time in seconds (a clock that never steps).
            wall: wall-clock time in seconds, for labels only, and not before the start of any
                window that this member has started.
            worked: this member has started a window of some stream.

        Raises:
            GroupMismatch: this member's ring, ttl or mode differs from the group's, and it has
                never settled. It has never held anything then; the caller leaves.
        """
        self._events += 1
        self._reading, self._token = reading, token
        self._must_wait = None
        self._waiting_for = {}
        if self.has_left:
            return
        self._parse(reading)
        mine = self.members.get(self.member)
        if mine is None or mine.incarnation != self.incarnation:
            self._in_store = False
            return
        if not self._in_store:
            # A join whose outcome was unknown has landed; or the driver called the lease lost
            # before the store did. What counts is that our incarnation's record is there.
            self._back_in_store(now)
        young = _is_young(reading, self.ttl)
        if self._draining or young:
            self._give_up_gaining()
        self._look_at_strangers(young)
        if young:
            self._must_wait = Wait(
                "the store may have forgotten members: standing still",
                seconds=max(0.01, self.ttl - reading.memory_age),
            )
        self._see_marks()
        if self._must_wait is None:
            view = self._nobody if self._stands_aside else self._view_of_members()
            self._turn_to(view, wall, worked)

    def decide(
        self,
        *,
        now: float,
        wall: float,
        owed: Sequence[tuple[float, SlotSet]] = (),
        yielded: Sequence[tuple[float, SlotSet]] = (),
    ) -> Action:
        """Return what to do about the reading that :meth:`observe` took in.

        Args:
            now: local time in seconds.
            wall: wall-clock time in seconds.
            owed: ``(start, slots)``: begun windows, of slots in :attr:`losing`, that no cycle has
                started yet and one will.
            yielded: the same for windows that this member will not work (their stream was closed).
        """
        if self.has_left:
            return Leave()
        if self._gaining and self._is_old(now):
            # The mark's outcome is unknown, and it may not be repeated on a lease this old.
            self._give_up_gaining()
        if not self._in_store:
            return self._record_gone(self._reading, now)
        announce = self._draining and not self._drain_published
        if self._must_wait is not None:
            return self._publish(self._acked) if announce else self._must_wait
        self._lower_throughs(yielded)
        self._finish_losing(owed)
        target = self._target
        if self._losing:
            missing = self._missing()
            self._waiting_for = {self.member: missing} if missing else {}
            if announce:
                return self._publish(self._acked)
            return Wait("a cycle or window in hand still works what is lost", local=True)
        if self._stands_aside:
            return self._stand_aside(announce)
        # A publish whose outcome is unknown is repeated until one is confirmed: until then the
        # store may show either view, and what is held is a subset of what both allow.
        if self._acked != target or self._unconfirmed or announce:
            # Not with the first view: a null must mean for strangers that nothing is held.
            if self.mode == "eager" and self._acked is not None and not self.strangers:
                self._gain_eagerly(wall)
            return self._publish(target)
        if self._draining and self._nobody_awaits_us():
            return Leave(handed_over=True)
        if self._settled != target or self._gaining or self._missing() or self._is_awaited():
            return self._try_to_gain(self._token, now, wall)
        if self.meta is not self._published_meta:
            # Last of all: it delays no hand-over, and the record says nothing new but this.
            return self._publish(target)
        return Wait("settled")

    def published(self) -> None:
        """``driver.publish`` returned: the store has the record of the last :class:`Publish`."""
        self._events += 1
        self._drain_published = self._said_draining
        self._published_meta = self._said_meta
        self._published_founding = self._said_founding
        self._unconfirmed = False
        self._marked = self._took
        if self._publishing != self._acked:
            self._acked = self._publishing
            self._acked_at = self._events
        if self._settled is not None and self._settled == self._acked:
            self.founded = self._founding
        if self._gaining:
            # The mark is in the store: custody has changed hands, and the slots are ours.
            for batch in self._gaining:
                self._held = self._held | batch.slots
                self._without_claims(batch.slots)
                self._remember(batch)
            self._gained.extend(self._gaining)
            self._gaining = ()

    def change_meta(self, meta: Mapping[str, Any]) -> None:
        """Replace what the user publishes: with the next record that goes out, or in one of its
        own once this member has settled.

        Raises:
            BadRecord: it is not a JSON object or too large; what stood before stays.
        """
        check_meta(meta)
        self.meta = meta

    def drain(self) -> None:
        """Begin to leave with hand-over; :meth:`step` says :class:`Leave` when it is done."""
        self._draining = True

    def left(self) -> None:
        """``driver.leave`` was called, or the hand-over was given up: hold nothing."""
        self._expire()
        self._in_store = False
        self.has_left = True

    # ---- 4.5: the record is gone -----------------------------------------------------------

    def _record_gone(self, reading: Reading, now: float) -> Action:
        forgotten = _is_young(reading, self.ttl) and now < self._deadline
        if self._draining and not forgotten:
            # Nothing left to hand over: whoever comes finds no record of ours.
            return Leave()
        if self._acked is None and self._lease == 0 and not self._has_settled:
            return self._join()  # The very first join, whose outcome was unknown.
        self._rejoining = forgotten
        if not self._rejoining:
            self._expire()
            self.incarnation = next(self._incarnations)
        return self._join()

    # ---- the members -----------------------------------------------------------------------

    def _parse(self, reading: Reading) -> None:
        members: dict[str, Member] = {}
        problems: dict[str, str] = {}
        parsed: dict[str, tuple[bytes, Member | None]] = {}
        for id, record in reading.records.items():
            known = self._parsed.get(id)
            if known is not None and known[0] == record and known[1] is not None:
                parsed[id] = known
                members[id] = known[1]
                continue
            try:
                member = _member(id, record)
            except BadRecord as error:
                problems[id] = str(error)
                continue
            parsed[id] = (record, member)
            members[id] = member
        if parsed.keys() != self._parsed.keys() or members != self.members:
            self._view = self._candidates = None
        self._parsed = parsed
        self.members = members
        self.problems = problems

    def _look_at_strangers(self, young: bool) -> None:
        """Find out who defines the group; raise if that is a stranger and we never settled."""
        verdict = judge(self.members.values(), self._parameters)
        self.strangers = verdict.differences
        self._stands_aside = ""
        first = verdict.first
        if first is None:
            return
        difference = verdict.differences[first.id]
        if not self._has_settled and (verdict.is_founded or not young):
            raise mismatch(first.id, difference)
        self._stands_aside = (
            f"member {first.id!r:.200} has {difference} and defines the group: standing aside "
            "until it has left"
        )

    def _stand_aside(self, announce: bool) -> Action:
        """Nothing is in hand any more: have the store say so, and wait for the strangers' end."""
        if self._acked is not None or self._unconfirmed or announce:
            return self._publish(None)
        if self._draining:
            return Leave()
        if self.meta is not self._published_meta:
            return self._publish(None)
        return Wait(self._stands_aside)

    def _view_of_members(self) -> View:
        if self._view is not None and self._view[0] == self._draining:
            return self._view[1]
        same = [member for member in self.members.values() if member.id not in self.strangers]
        if self._draining:
            # Our own record may not say so yet.
            same = [member for member in same if member.id != self.member]
        view = View.of(same, self.spec, self.ttl)
        self._view = (self._draining, view)
        return view

    # ---- rule 1: drop before ack -----------------------------------------------------------

    def _turn_to(self, view: View, wall: float, worked: bool) -> None:
        if view == self._target:
            return
        self._target = view
        self._learn(view)
        # A view can come back (one member came and went): the mark of its first time is void.
        self._settled = None
        self._took = self._marked = self._nothing
        mine = view.slots(self.member)
        self._give_up_gaining()
        lost = self._held - mine
        self._through = wall if worked else None
        if not lost:
            return
        self._held = self._held & mine
        # From now on these slots' windows are somebody else's; or from later on, where they were
        # gained with a `through` that is yet to come (the previous owner's clock is ahead).
        # A member that never worked a window passes on what it was told, and promises no more.
        for batch in self._since:
            part = lost & batch.slots
            if part and batch.certain and (batch.through > wall or not worked):
                self._losing.append(_Losing(part, batch.through))
                lost = lost - part
        if lost:
            self._losing.append(_Losing(lost, wall if worked else -math.inf))

    def _give_up_gaining(self) -> None:
        if self._gaining:
            # The mark may or may not have landed; whoever saw it has dropped its own claim. So
            # the claim is ours to carry, unworked as it is.
            self._keep_claims(
                [
                    Claim(batch.through if batch.certain else -math.inf, batch.slots)
                    for batch in self._gaining
                ]
            )
            for batch in self._gaining:
                self._took = self._took - batch.slots
            self._gaining = ()
            self._settled = None

    def _lower_throughs(self, yielded: Sequence[tuple[float, SlotSet]]) -> None:
        """Hand over begun windows that nobody here will start any more."""
        for start, given_up in yielded:
            pieces: list[_Losing] = []
            for losing in self._losing:
                part = losing.slots & given_up
                if part and start < losing.through:
                    if self._through is not None:
                        self._through = min(self._through, start)
                    pieces.append(_Losing(part, start))
                    rest = losing.slots - part
                    if rest:
                        pieces.append(_Losing(rest, losing.through))
                else:
                    pieces.append(losing)
            self._losing = pieces

    def _finish_losing(self, owed: Sequence[tuple[float, SlotSet]]) -> None:
        if not self._losing:
            return
        pinned = self._nothing
        for slots in self._pins.values():
            pinned = pinned | slots
        done: list[Claim] = []
        rest: list[_Losing] = []
        for losing in self._losing:
            busy = pinned
            for start, slots in owed:
                if start < losing.through:
                    busy = busy | slots
            free = losing.slots - busy
            if free:
                done.append(Claim(losing.through, free))
            kept = losing.slots & busy
            if kept:
                rest.append(_Losing(kept, losing.through))
        self._losing = rest
        self._keep_claims(done)

    def _keep_claims(self, claims: Iterable[Claim]) -> None:
        for claim in claims:
            self._without_claims(claim.slots)
            self._claims.append(claim)
            self._since = [
                Batch(batch.slots - claim.slots, batch.through, batch.certain)
                for batch in self._since
                if not batch.slots <= claim.slots
            ]
        self._keep_merged(self._max_claims)

    def _keep_merged(self, most: int) -> None:
        known = len({claim.through for claim in self._claims if claim.slots})
        self._claims = merged(self._claims, most)
        self._has_lowered = self._has_lowered or len(self._claims) < known

    def _without_claims(self, slots: SlotSet) -> None:
        self._claims = [
            Claim(claim.through, claim.slots - slots)
            for claim in self._claims
            if not claim.slots <= slots
        ]

    def _remember(self, batch: Batch) -> None:
        self._since = [
            Batch(known.slots - batch.slots, known.through, known.certain)
            for known in self._since
            if not known.slots <= batch.slots
        ]
        self._since.append(batch)
        if len(self._since) > self._max_claims:
            pair = oldest_pair([(known.through, known.certain) for known in self._since])
            first, second = (self._since[place] for place in pair)
            both = Batch(first.slots | second.slots, first.through, first.certain)
            rest = [known for known in self._since if known is not first and known is not second]
            self._since = [both, *rest]
            self._has_lowered = True

    # ---- rule 2: gain last -----------------------------------------------------------------

    def _is_old(self, now: float) -> bool:
        """Whether too little of the lease is left to gain on it."""
        return now >= self._deadline - self.ttl * _LEASE_TO_GAIN

    def _is_fresh(self, token: int) -> bool:
        """Whether a reading began after the publish of ``applied`` had returned."""
        return token > self._acked_at

    def _learn(self, view: View) -> None:
        self._known.pop(view.id, None)
        self._known[view.id] = view
        while len(self._known) > _MAX_KNOWN:
            del self._known[next(iter(self._known))]

    def _view_named(self, id: str) -> View | None:
        """Return the view with this id: one seen before, or computed from the records at hand."""
        known = self._known.get(id)
        if known is not None:
            return known
        if self._candidates is None:
            self._candidates = self._computed_views()
        for view in self._candidates:
            if view.id == id:
                self._learn(view)
                return view
        return None

    def _computed_views(self) -> tuple[View, ...]:
        """Return what the others may have seen before: the group without us, without those that
        have acked nothing yet, and with those that drain.
        """
        everybody = [member for id, member in self.members.items() if id not in self.strangers]
        acked = [member for member in everybody if member.applied is not None]
        views = []
        for present in (everybody, acked):
            for others in (present, [member for member in present if member.id != self.member]):
                staying = [dataclasses.replace(member, draining=False) for member in others]
                views += [View.of(group, self.spec, self.ttl) for group in (others, staying)]
        return tuple(views)

    def _may_hold(self, member: Member, wanted: SlotSet) -> SlotSet:
        """Return those of the slots that this member may hold, by its record, or whose custody a
        claim in it leaves in doubt.
        """
        assert self._target is not None
        if member.applied is None:
            return self._nothing
        if member.id in self.strangers:
            # Its view is of another ring. All that is known is that without weight it owns nothing.
            return wanted if member.weight else self._nothing
        if member.applied == self._target.id or self.mode == "eager":
            return self._nothing
        view = self._view_named(member.applied)
        if view is None or not member.speaks_claims:
            return wanted
        held = view.slots(member.id) & wanted
        for claim in member.claims:
            held = held | (claim.slots & wanted)
        return held

    def _holders_of(self, wanted: SlotSet) -> dict[str, SlotSet]:
        """Return who may still hold some of the slots, by the latest reading, and which."""
        found = dict.fromkeys(self.problems if self.mode != "eager" else (), wanted)
        for member in self.members.values():
            if member.id != self.member:
                held = self._may_hold(member, wanted)
                if held:
                    found[member.id] = held
        return found

    def _missing(self) -> SlotSet:
        """Return what the view gives us and we neither hold nor are about to."""
        if self._target is None:
            return self._nothing
        missing = self._target.slots(self.member) - self._held
        for batch in self._gaining:
            missing = missing - batch.slots
        return missing

    def _try_to_gain(self, token: int, now: float, wall: float) -> Action:
        view = self._target
        assert view is not None
        missing = self._missing()
        if missing:
            self._waiting_for = self._holders_of(missing)
            if self._is_old(now):
                return Wait("the lease is too old to gain on: a heartbeat must be confirmed first")
            if not self._is_fresh(token):
                return Wait("the reading began before the view was acked", seconds=0.0)
        gain = missing
        for slots in self._waiting_for.values():
            gain = gain - slots
        # Before the view counts as settled: whoever asks without the lock must not see it so.
        self._gaining += tuple(self._batches(gain, wall))
        if not self._waiting_for:
            self._settled = view
            self._has_settled = True
            self._found(wall, owns=bool(view.slots(self.member)))
        is_told = self._founding == self._published_founding
        if not gain and not self._gaining and is_told and not self._is_awaited():
            return self._waiting() if self._waiting_for else Wait("settled")
        if self._is_old(now):
            return Wait("the lease is too old to mark on: a heartbeat must be confirmed first")
        self._took = self._held
        for batch in self._gaining:
            self._took = self._took | batch.slots
        return self._publish(view)

    def _waiting(self) -> Wait:
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

    def _found(self, wall: float, *, owns: bool) -> None:
        """Say with the mark when these parameters were founded: now, if nobody knows better."""
        known = earliest(self.members.values(), self._parameters)
        if self.founded is not None:
            known = min(known, self.founded)
        if known < math.inf:
            self.founded = self._founding = known
        elif owns:
            self._founding = wall

    def _others(self) -> list[Member]:
        """Return the other members of our parameters: a stranger's slots are none of this ring."""
        return [
            member
            for member in self.members.values()
            if member.id != self.member and member.id not in self.strangers
        ]

    def _batches(self, gain: SlotSet, wall: float) -> Iterable[Batch]:
        """Find each slot's latest claim among the live records and our own."""
        others = self._others()
        claims = [*self._claims, *(claim for member in others for claim in member.claims)]
        for claim in sorted(claims, key=lambda claim: claim.through, reverse=True):
            part = gain & claim.slots
            if part:
                told = claim.through > -math.inf
                yield Batch(part, claim.through if told else wall, certain=told)
                gain = gain - part
        # A member of another make may publish `through` alone: its slots by the table without us.
        plain = [
            member for member in others if not member.speaks_claims and member.through is not None
        ]
        if plain and gain:
            before = View.of(
                (dataclasses.replace(member, draining=False) for member in others),
                self.spec,
                self.ttl,
            )
            for member in plain:
                part = gain & before.slots(member.id)
                if part and member.through is not None:
                    yield Batch(part, member.through, certain=True)
                    gain = gain - part
        if gain:
            yield Batch(gain, wall, certain=False)

    def _is_awaited(self) -> bool:
        """Whether some member carries a claim on what we hold, and so awaits a mark of ours."""
        held = self._held - self._marked
        return any(
            not claim.slots.isdisjoint(held) for member in self._others() for claim in member.claims
        )

    def _see_marks(self) -> None:
        """Drop the claims on slots that another's mark names: they have a new custodian.

        A mark is never older than our claim: when we gained the slot, nobody's record gave it to
        anybody else. A mark can be gone before we look, where its author has lost the slot in
        turn; then its own claim, which begins later, is there. That is no evidence where a claim
        of ours was lowered: the other may be older, and about to be dropped, and both would go.
        """
        if not self._claims:
            return
        for member in self._others():
            self._without_claims(self._marked_by(member))
            for theirs in () if self._has_lowered else member.claims:
                for ours in self._claims:
                    if ours.through < theirs.through:
                        self._without_claims(ours.slots & theirs.slots)

    def _marked_by(self, member: Member) -> SlotSet:
        """Return the slots that a record marks as taken over."""
        if member.took is not None:
            return member.took
        if not member.speaks_claims:
            same = self._acked is not None and member.applied == self._acked.id
            return self._acked.slots(member.id) if same and self._acked else self._nothing
        if member.settled is None or member.settled != member.applied:
            return self._nothing
        view = self._view_named(member.settled)
        return self._nothing if view is None else view.slots(member.id)

    def _nobody_awaits_us(self) -> bool:
        """Whether the rest have gained what this draining member gave up."""
        if self._target is None or not self._target.members:
            return True
        return not self._claims and not self._held and not self._losing

    def _gain_eagerly(self, wall: float) -> None:
        assert self._target is not None
        gain = self._target.slots(self.member) - self._held
        if gain:
            batches = tuple(self._batches(gain, wall))
            for batch in batches:
                self._held = self._held | batch.slots
                self._remember(batch)
            self._gained.extend(batches)
        self._claims.clear()
        self._settled = self._target
        self._took = self._held
        self._has_settled = True
        self._found(wall, owns=bool(self._target.slots(self.member)))

    # ---- the record ------------------------------------------------------------------------

    def _record(self, applied: View | None) -> bytes:
        self._said_draining = self._draining
        self._said_meta = self.meta
        self._said_founding = self._founding
        while True:
            try:
                return self._record_with_claims(applied)
            except BadRecord:
                # Too large: with half of the claims it may fit. With none the next owners take
                # this member for one that crashed, which costs less than no hand-over at all.
                known = len(self._claims)
                if not known:
                    raise
                self._keep_merged(known // 2)
                if len(self._claims) == known:
                    self._claims = []

    def _record_with_claims(self, applied: View | None) -> bytes:
        settled = self._settled if self._settled == applied else None
        took = self._took if self._took and settled is None and applied == self._target else None
        return Member(
            id=self.member,
            incarnation=self.incarnation,
            weight=self.weight,
            ring=self.spec,
            ttl=self.ttl,
            applied=None if applied is None else applied.id,
            through=self._through,
            draining=self._draining,
            handoff=self.mode,
            settled=None if settled is None else settled.id,
            took=took,
            claims=tuple(self._claims),
            founded=self._founding,
            meta=self.meta,
        ).to_json()

    def _join(self) -> Join:
        return Join(self._record(self._acked))

    def _publish(self, applied: View | None) -> Publish:
        self._publishing = applied
        self._unconfirmed = True
        return Publish(self._record(applied))


def _is_young(reading: Reading, ttl: float) -> bool:
    """Whether the store may have forgotten members (an age that is no number is young)."""
    return not reading.memory_age >= ttl


def mismatch(id: str, difference: str) -> GroupMismatch:
    """Return the error for a member whose parameters are not the group's."""
    return GroupMismatch(
        f"member {id!r:.200} of the group has {difference}; all members of a "
        "group need the same ring, ttl and handoff: give this one the group's, or "
        "another group"
    )
