"""Windows: which slots are due in which window, so that each is worked exactly once.

Pure: the time, the usable slots and the gains come in as arguments. This module knows no store, no
view and no thread; `partition.py` feeds it from the hand-off, the simulator does the same.

A window ``k`` of a stream with interval ``i`` starts at ``k * i`` on the wall clock. Only these
labels are compared between members, never two readings of clocks. Each :class:`Stream` keeps, for
the slots that its member holds, the first window that has not been started: one number for most of
them, and one for each gain of late, whose windows begin where the previous owner's claim
ends (``Gain.through``). A window that had already begun when its slots were gained comes up again
with those slots alone.

The wall clock may step. Forth: a stream skips the windows in between. Back, by little: it waits
until the clock has caught up, and works no window twice. Back, by more than :func:`patience`: it
goes on with the present window of the new time (:meth:`Stream.follow`), because labels that repeat
are better than silence.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence

from hashring.errors import BadArgument
from hashring.protocol.custody import Gain
from hashring.ring.ring import SlotSet

__all__ = [
    "SKEW",
    "Due",
    "Stream",
    "checked_interval",
    "checked_on_crash",
    "patience",
]

SKEW = 0.1
"""How far apart, in parts of a window, members' wall clocks may be. Under ``on_crash="skip"`` a
window is skipped where the crashed member could have begun it by such a clock."""


_MOST_AHEAD = 2
"""The most windows after the present one that a previous owner is believed to have worked."""

_PATIENCE = 3
"""For how many windows at most a loop waits for a clock that has stepped back."""


def patience(interval: float, ttl: float) -> float:
    """Return for how many seconds at most a loop waits for a clock that has stepped back.

    >>> patience(1.0, 10.0), patience(60.0, 10.0)
    (10.0, 180.0)
    """
    return max(_PATIENCE * interval, ttl)


@dataclasses.dataclass(frozen=True, slots=True)
class Due:
    """A piece of work: one window, and the slots to work in it."""

    window: int
    start: float
    slots: SlotSet
    late: bool


@dataclasses.dataclass(slots=True)
class _Late:
    window: int  # the first window not started
    slots: SlotSet
    is_left: bool = False  # to the next owner: see `Stream.leave`


class Stream:
    """One loop over windows of one interval.

    The loop that a runner writes::

        stream.gain(handoff.take_gains())
        due = stream.due(wall(), usable)
        if due is not None:
            ...work due.slots...         # pinned before started() is called
            stream.started(due)

    Args:
        interval: seconds, positive and finite.
        wall: wall-clock time now.
        gains: those that still matter (:attr:`Handoff.remembered_gains`).
        on_crash: ``"repeat"``: where a custodian crashed, the current window is worked (again);
            ``"skip"``: work begins with the first window that the crashed one cannot have begun.
        catch_up: a window handed over late is still worked if it started no longer ago than this
            many seconds; the one that runs always is.
        ttl: the group's lease in seconds, for :func:`patience`.

    Attributes:
        catch_up: as above; may be raised.
        opened: somebody iterates it; before, it has no work.
        ending: whoever iterates it is to stop after the piece of work in hand.
        closed: nobody will iterate it any more.
        missed: windows of this member's base share that an overrun skipped.
        given_up: windows that were too old to be worked late once slots had been handed over.
    """

    def __init__(
        self,
        interval: float,
        *,
        wall: float,
        gains: Sequence[Gain],
        on_crash: str = "repeat",
        catch_up: float = 0.0,
        ttl: float = 0.0,
    ) -> None:
        self.interval = checked_interval(interval)
        self._on_crash = checked_on_crash(on_crash)
        self.catch_up = catch_up
        self._next = self.window_of(wall)
        self._late: list[_Late] = []
        self._newest = -math.inf  # the start of the newest window started
        self._ttl = ttl
        self._reach = 0.0  # how far ahead a longer interval has put the next window
        self.opened = False
        self.ending = False
        self.closed = False
        self.missed = self.given_up = 0
        # A window that ended before this stream began is nobody's duty, unless it was handed over
        # a short while ago.
        self.gain((self._recent(gain, wall) for gain in gains), wall)

    def _recent(self, gain: Gain, wall: float) -> Gain:
        if max(gain.through, gain.at) >= wall - self.catch_up and gain.is_claimed:
            return gain  # of its windows, `due` gives up those that are too old
        if gain.through >= wall:
            return gain
        return Gain(gain.slots, self.start_of(self.window_of(wall)), gain.is_claimed)

    def open(self, wall: float, on_crash: str | None = None) -> None:
        """Somebody begins to iterate, for the first time or again."""
        if on_crash is not None:
            self._on_crash = checked_on_crash(on_crash)
        missed = self.missed
        self.follow(wall)
        self._skip_to(self.window_of(wall))
        self.missed = missed  # nobody was late while it was closed
        oldest = self._oldest(wall, self.window_of(wall))
        for late in self._late:
            late.is_left = False
            late.window = max(late.window, oldest)  # nobody gave up what passed meanwhile
        self.opened, self.ending, self.closed = True, False, False

    def follow(self, wall: float) -> bool:
        """Go on with the present window where the clock has stepped back by too much to wait.

        Returns:
            Whether it had: windows of the stream come again under their old labels.
        """
        limit = wall + max(patience(self.interval, self._ttl), self._reach)
        present = self.window_of(wall)
        stepped = self.start_of(self._next) > limit
        if stepped:
            self._next = present
            self.forget_after(self.start_of(present - 1))
        for late in self._late:
            if self.start_of(late.window) > limit or (stepped and late.window > present):
                late.window = present
        if stepped:
            self._merge()
        return stepped

    def forget_after(self, moment: float) -> None:
        """Forget that windows which start after this moment were started: see :meth:`follow`."""
        self._newest = min(self._newest, moment)

    def window_of(self, wall: float) -> int:
        """Return the number of the window that ``wall`` lies in."""
        window = math.floor(wall / self.interval)
        # Division rounds: k * interval, as start_of() computes it, decides.
        if self.start_of(window + 1) <= wall:
            return window + 1
        return window if self.start_of(window) <= wall else window - 1

    def start_of(self, window: int) -> float:
        """Return the wall-clock second at which a window starts."""
        return window * self.interval

    def too_old(self, since: float, until: float) -> int:
        """Return how many windows that nobody worked from then to then are not worked late.

        Args:
            since: wall-clock seconds: windows that start earlier were worked.
            until: wall-clock seconds at which somebody was there again to work them.
        """
        return max(0, self._oldest(until, self.window_of(until)) - self._first_from(since))

    def _first_from(self, moment: float) -> int:
        window = self.window_of(moment)
        return window if self.start_of(window) >= moment else window + 1

    @property
    def newest_start(self) -> float:
        """The start of the newest window that was started; ``-inf`` before the first."""
        return self._newest

    def gain(self, gains: Iterable[Gain], wall: float) -> None:
        """Take note of slots gained: from which window on they are this member's."""
        self.follow(wall)
        if not self.closed:
            # What has begun since a stream was closed is the next owner's: see `given_up_windows`.
            self._skip_to(self.window_of(wall))
        for gain in gains:
            if gain.is_claimed:
                # A member whose clock was far ahead may have claimed windows that are yet to
                # come. It is wrong about them: rather a repeat than an hour without polls.
                first = min(self._first_from(gain.through), self.window_of(wall) + _MOST_AHEAD)
            elif self._on_crash == "repeat":
                first = self.window_of(gain.through)
            else:
                first = self._first_from(gain.through + SKEW * self.interval)
            # What was known of these slots is void: they come with the history of their last
            # owner. (If that was this member, its own claim told where it stopped.)
            self._forget(gain.slots)
            # Also where the first is the base's next: should that pass unstarted, the base share
            # is late by itself and skips, but these slots have been handed over late.
            self._late.append(_Late(first, gain.slots))

    def _skip_to(self, present: int) -> None:
        """Skip the base share's windows that are over: this member was late itself."""
        if self._next < present:
            if self._newest > -math.inf:
                self.missed += present - self._next
            self._next = present

    def _forget(self, slots: SlotSet) -> None:
        for late in self._late:
            late.slots = late.slots - slots
        self._drop_empty()

    def due(self, wall: float, usable: Callable[[float], SlotSet]) -> Due | None:
        """Return the next piece of work, or ``None`` where nothing has begun that is not started.

        Late windows come first, oldest first; then the present one. An overrun skips to it.

        Args:
            wall: wall-clock time now.
            usable: the slots that a window with this start may pin (:meth:`Handoff.usable`).
        """
        self.follow(wall)
        present = self.window_of(wall)
        self._skip_to(present)
        oldest = min(self._oldest(wall, present), self._next)
        behind = [
            late
            for late in self._late
            if late.window < min(self._next, present + 1) and not late.is_left
        ]
        self.given_up += max([0, *(oldest - late.window for late in behind)])
        for late in behind:
            late.window = max(late.window, oldest)
        for window in sorted({late.window for late in behind if late.window < self._next}):
            start = self.start_of(window)
            allowed = usable(start)
            slots = allowed - allowed
            for late in behind:
                if late.window == window:
                    slots = slots | (late.slots & allowed)
            if slots:
                return Due(window, start, slots, late=True)
            for late in behind:
                if late.window == window:
                    # Lost since: a later window would find no more of it.
                    late.slots = slots
        self._drop_empty()
        if self._next > present:
            return None
        start = self.start_of(present)
        slots = usable(start)
        for late in self._late:
            if late.window > present or late.is_left:
                slots = slots - late.slots
        return Due(present, start, slots, late=False)

    def _oldest(self, wall: float, present: int) -> int:
        """Return the oldest window that is still worth working late."""
        return min(present, self._first_from(wall - self.catch_up))

    def started(self, due: Due) -> None:
        """The slots of what :meth:`due` returned have been pinned: its work begins."""
        if due.late:
            for late in self._working():
                if late.window == due.window and not late.slots.isdisjoint(due.slots):
                    late.window += 1
                    late.slots = late.slots & due.slots
        else:
            self._next = due.window + 1
            self._reach = 0.0
            for late in self._working():
                late.window = max(late.window, self._next)
            # Only now: had they joined the base while its next window was yet to be started, they
            # would skip it with the base, should this piece of work outlast it.
            self._merge()
        self._newest = max(self._newest, due.start)

    def _merge(self) -> None:
        """Let those that have caught up join the base share."""
        self._late = [
            late
            for late in self._late
            if late.slots and (late.window != self._next or late.is_left)
        ]

    def _working(self) -> list[_Late]:
        return [late for late in self._late if not late.is_left]

    def _drop_empty(self) -> None:
        self._late = [late for late in self._late if late.slots]

    def next_start(self) -> float:
        """Return when the next window that is not started starts."""
        return self.start_of(min([self._next, *(late.window for late in self._working())]))

    def leave(self, slots: SlotSet) -> None:
        """Leave the first windows of these slots that are not started to the next owner.

        Neither :meth:`due` nor :meth:`begun`, unless it is asked for them, names them from now on.
        """
        rest = slots
        for late in list(self._late):
            part = late.slots & slots
            rest = rest - late.slots
            if part and not late.is_left:
                late.slots = late.slots - part
                self._late.append(_Late(late.window, part, is_left=True))
        if rest:
            self._late.append(_Late(self._next, rest, is_left=True))
        self._drop_empty()

    def begun(
        self, wall: float, held: SlotSet, *, left: bool = False
    ) -> list[tuple[float, SlotSet]]:
        """Return ``(start, slots)`` of the first windows that have begun and are not started.

        Args:
            wall: wall-clock time now.
            held: the slots to look at.
            left: those that are left to the next owner (:meth:`leave`), or else all others.
        """
        present = self.window_of(wall)
        oldest = self._oldest(wall, present)
        pieces: list[tuple[float, SlotSet]] = []
        base = held
        for late in self._late:
            base = base - late.slots
            window = max(late.window, oldest) if late.window < self._next else late.window
            part = late.slots & held
            # A late window too old to work joins the base, whose next may not have begun.
            if late.window < self._next <= window and not late.is_left:
                base = base | part
            elif part and window <= present and late.is_left is left:
                pieces.append((self.start_of(window), part))
        if base and self._next <= present and not left:
            pieces.append((self.start_of(self._next), base))
        return pieces

    def done(self, slots: SlotSet) -> list[tuple[float, SlotSet]]:
        """Return ``(start, slots)`` of the newest windows that are started, by whomever."""
        pieces: list[tuple[float, SlotSet]] = []
        for late in self._late:
            part = late.slots & slots
            if part:
                pieces.append((self.start_of(late.window - 1), part))
                slots = slots - part
        if slots and self._newest > -math.inf:
            pieces.append((self.start_of(self._next - 1), slots))
        return pieces

    def change_interval(self, interval: float, wall: float) -> None:
        """Go on with windows of another length, from the end of the last one started."""
        self.follow(wall)
        edges = [(self.start_of(late.window), late.slots, late.is_left) for late in self._late]
        edge = self.start_of(self._next)
        self.interval = checked_interval(interval)
        present = self.window_of(wall)
        self._next = (
            max(self._first_from(edge), present) if edge <= wall else self._first_from(edge)
        )
        self._late = [
            _Late(self._first_from(start), slots, is_left) for start, slots, is_left in edges
        ]
        # The last window of the former length may reach far beyond those of this one.
        self._reach = max(0.0, max([edge, *(start for start, *_ in edges)]) - wall + interval)
        self._merge()


def checked_interval(interval: float) -> float:
    """Return the interval as a float, or raise :class:`BadArgument`."""
    if isinstance(interval, bool) or not isinstance(interval, int | float):
        raise BadArgument(f"interval must be a number of seconds, not {interval!r}")
    if not 1e-3 <= interval <= 1e9:
        raise BadArgument(
            f"interval must be a positive number of seconds, from 0.001 to 1e9, not {interval!r}"
        )
    return float(interval)


def checked_on_crash(on_crash: str) -> str:
    """Return the rule, or raise :class:`BadArgument`."""
    if on_crash not in ("repeat", "skip"):
        raise BadArgument(f"on_crash must be 'repeat' or 'skip', not {on_crash!r}")
    return on_crash
