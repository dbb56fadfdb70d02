"""The loops over windows of one member: what they owe together, and what may be left to its heirs.

Pure, as `windows.py`, which is about one of them. A claim tells the next owner one moment for each
slot, from which on the windows of all his loops are his. So what one loop leaves unworked, no other
loop of this member may have gone past.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from hashring.protocol.windows import Stream
from hashring.ring.ring import SlotSet

__all__ = [
    "follow_clock",
    "given_up_windows",
    "label_time",
    "leave_begun",
    "newest_start",
    "pending_windows",
]


def pending_windows(
    streams: Iterable[Stream], wall: float, losing: SlotSet
) -> list[tuple[float, SlotSet]]:
    """Return the begun windows of slots being lost that some open stream has yet to start."""
    if not losing:
        return []
    return [
        piece
        for stream in streams
        if stream.opened and not stream.closed
        for piece in stream.begun(wall, losing)
    ]


def given_up_windows(
    streams: Sequence[Stream], wall: float, losing: SlotSet
) -> list[tuple[float, SlotSet]]:
    """Return the begun windows that nobody here will start any more: they were left, or their
    streams are closed.
    """
    return [
        (start, kept)
        for stream in streams
        for start, slots in (
            *stream.begun(wall, losing, left=True),
            *(stream.begun(wall, losing) if stream.closed else ()),
        )
        if (kept := _free_of_others(stream, streams, start, slots))
    ]


def leave_begun(
    stream: Stream,
    streams: Sequence[Stream],
    wall: float,
    usable: Callable[[float], SlotSet],
    losing: SlotSet,
) -> bool:
    """Leave what has begun and is not started to the next owner, as far as it can be: this stream
    is about to close.

    What is being lost is worked here: others wait for it. So are windows of slots of which another
    stream here has done a later one, or is yet to work one that has begun: one number tells the
    next owner where to begin in all its streams, so he would go past what this one leaves. Each
    slot counts by itself: were one that can be left worked with those that cannot, another stream's
    window of it, left before, would be lost.

    Args:
        stream: about to close.
        streams: all of this member, this one among them.
        wall: wall-clock time now, after :meth:`Stream.due` was asked.
        usable: the slots that a window with this start may pin.
        losing: the slots that the view took away.

    Returns:
        Whether nothing that has begun is owed here any more.
    """
    nothing = losing - losing
    leaves, owes = nothing, nothing
    for start, slots in stream.begun(wall, usable(-math.inf)):
        mine = slots & usable(start)
        free = _free_of_others(stream, streams, start, mine) - losing
        for other in streams:
            if other is not stream and other.opened and not other.closed:
                for _, part in other.begun(wall, free):
                    free = free - part
        leaves, owes = leaves | free, owes | (mine - free)
    stream.leave(leaves)
    return not owes


def _free_of_others(
    stream: Stream, streams: Iterable[Stream], start: float, slots: SlotSet
) -> SlotSet:
    """Return the slots of which no other stream has done a window from ``start`` on.

    One number tells the next owner where to begin, in all its streams: what another stream here
    has done must not be worked again.
    """
    for other in streams:
        if other is not stream:
            for done, part in other.done(slots):
                if done >= start:
                    slots = slots - part
    return slots


def newest_start(streams: Iterable[Stream]) -> float:
    """Return the start of the newest window that any stream has started; ``-inf`` for none."""
    return max((stream.newest_start for stream in streams), default=-math.inf)


def follow_clock(streams: Sequence[Stream], wall: float) -> None:
    """Let all streams of a member go on where the clock has stepped back by too much to wait.

    One number tells the next owner where to begin in all of them: where one stream has gone back,
    a window that another one had started later may be worked again. Rather that than a gap.
    """
    have_gone_back = [stream.follow(wall) for stream in streams]
    if any(have_gone_back):
        for stream in streams:
            stream.forget_after(wall)


def label_time(streams: Sequence[Stream], wall: float) -> float:
    """Return the time for labels: the wall clock, but not before a window that was started.

    The clock may have stepped back a little; where it was more, :func:`follow_clock` goes along.
    """
    follow_clock(streams, wall)
    return max(wall, math.nextafter(newest_start(streams), math.inf))
