"""`Leading` and `Term`: exactly one of all members acts for a name, for as long as a block runs.

The leader for a name is who holds the key of that name. `following.py` pins its slot.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from hashring import clock
from hashring.errors import BadArgument
from hashring.partition.following import Follower
from hashring.partition.loops import Loops
from hashring.partition.membership import Membership
from hashring.ring.ring import HashRing, SlotSet

__all__ = ["Leading", "Term", "TermFacts", "follower_of"]


def follower_of(member: Membership, loops: Loops, name: str) -> Follower:
    """Return what follows the one slot of a name.

    Raises:
        BadArgument: it is no ``str``, or empty.
    """
    if not isinstance(name, str) or not name:
        raise BadArgument(f"what there is to lead for must be a non-empty str, not {name!r:.100}")
    table = HashRing.from_spec({}, member.handoff.spec)
    return Follower(member, loops, SlotSet.of([table.slot(name)], table.universe))


class TermFacts:
    """What both faces of a term, for threads and for an event loop, answer at once.

    Attributes:
        name: what it is to lead for.
        incarnation: the member's unbroken membership, for sinks that tell leaders apart.
        epoch: a number that is greater for each leader than for the one before it, as
            :attr:`hashring.Token.epoch`; ``None`` too where the wait ended without the lead.
    """

    def __init__(self, name: str, member: Membership, follower: Follower) -> None:
        self.name = name
        self.incarnation = member.handoff.incarnation
        self._member = member
        self._follower = follower
        self._pin = follower.pin
        self.epoch = None if follower.pin is None else follower.pin.epoch

    @property
    def valid(self) -> bool:
        """Whether this member may act for the name: false for good once the fence has passed, or
        the block has ended. False from the start where the wait ended without the lead.
        """
        return self._pin is not None and self._pin.valid

    @property
    def over(self) -> bool:
        """Whether the term is to end: it is not valid any more, the group gives the name to
        another member, who waits for the end of this block, or this one is to stop.
        """
        if not self.valid:
            return True
        self._follower.look()
        return not self._follower.followed

    def __bool__(self) -> bool:
        return self.valid

    def __repr__(self) -> str:
        state = "valid" if self.valid else "over"
        return f"<{type(self).__name__} for {self.name!r} of {self._member.member!r}: {state}>"


class Term(TermFacts):
    """The lead, while the ``with`` block of :meth:`hashring.Partition.leading` runs."""

    def wait(self, timeout: float | None = None) -> bool:
        """Wait at most so many seconds until the term is to end; return whether it is.

        Args:
            timeout: seconds; ``None``: for as long as it takes.
        """
        until = None if timeout is None else clock.boottime() + timeout
        return _wait(self._member, self._follower, lambda: self.over, until)


class Leading:
    """What :meth:`hashring.Partition.leading` returns: waits for the lead, and keeps it."""

    def __init__(
        self, partition: object, member: Membership, loops: Loops, name: str, timeout: float | None
    ) -> None:
        self._partition = partition
        self._member = member
        self._follower = follower_of(member, loops, name)
        self._name = name
        self._timeout = timeout
        self._begun = False

    def __enter__(self) -> Term:
        if self._begun:
            raise BadArgument("this lead has been waited for before: ask the partition again")
        self._begun = True
        follower = self._follower
        until = None if self._timeout is None else clock.boottime() + self._timeout

        def is_decided() -> bool:
            follower.look()
            return bool(follower.followed) or follower.is_over

        try:
            _wait(self._member, follower, is_decided, until)
        except BaseException:
            follower.close()
            raise
        if follower.pin is not None:
            follower.pin.thread = threading.get_ident()
        return Term(self._name, self._member, follower)

    def __exit__(self, *_: object) -> None:
        self._follower.close()

    def __del__(self) -> None:
        follower = getattr(self, "_follower", None)
        if follower is not None:
            follower.close()


def _wait(
    member: Membership, follower: Follower, condition: Callable[[], bool], until: float | None
) -> bool:
    if member.is_child:
        return condition()
    with member.lock:
        while not condition():
            pause = follower.pause
            if until is not None:
                left = until - clock.boottime()
                if left <= 0:
                    return False
                pause = min(pause, left)
            member.changed.wait(pause)
        return True
