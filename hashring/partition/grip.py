"""`Grip`: what a member holds, kept for some seconds and not for the length of a block.

For who answers "is it mine?" to somebody that acts on the answer later and never says when it has
done. The rules stand in `hashring.protocol.grips`; this module knows no store and no thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Self, TypeVar, overload

from hashring import clock
from hashring.errors import BadKey
from hashring.partition.arguments import checked_number
from hashring.partition.cycle import FencedKeys
from hashring.partition.keys import explained
from hashring.partition.membership import Membership
from hashring.partition.token import Token
from hashring.protocol.grips import Gripped
from hashring.ring.ring import SlotSet

__all__ = ["Grip", "take_grip"]

K = TypeVar("K")

_SHORTEST = 0.001
"""The shortest grip in seconds."""


class Grip:
    """What :meth:`hashring.Partition.grip` returns: slots that nobody else gains before it ends.

    It ends when its seconds are over, by :meth:`release`, and at the end of a ``with`` block over
    it. One that is dropped lasts for its seconds all the same: somebody may act on its word. At
    the fence it is not valid any more, as everything. Methods may be called from any thread.

    Attributes:
        token: for idempotent sinks; its window is ``None``.
    """

    def __init__(self, partition: object, member: Membership, gripped: Gripped) -> None:
        self._partition = partition  # lives as long as its grips: see `membership.py`
        self._member = member
        self._gripped = gripped
        self._fenced = False
        handoff = member.handoff
        view = "" if handoff.applied is None else handoff.applied.id
        self.token = Token(view, handoff.incarnation, None, epoch=handoff.epoch)

    @property
    def slots(self) -> SlotSet:
        """What is pinned."""
        return self._gripped.slots

    @property
    def valid(self) -> bool:
        """Whether the slots are still in hand: false for good from its end or the fence on."""
        if self._fenced:
            return False
        gripped = self._gripped
        if gripped.released or clock.boottime() >= gripped.until:
            return False
        self._fenced = not self._member.has_lease(gripped.lease)
        return not self._fenced

    @property
    def over(self) -> bool:
        """Whether it is time for another grip: this one is not valid any more, or the group gives
        some of its slots to another member, who waits for its end.
        """
        return not self.valid or not self.slots <= self._member.held

    @property
    def remaining(self) -> float:
        """Seconds for which it surely lasts: to its end, or to the fence as it stands now."""
        if not self.valid:
            return 0.0
        until = min(self._gripped.until, self._member.handoff.deadline)
        return max(0.0, until - clock.boottime())

    @overload
    def owns(self, item: str | bytes, /) -> bool: ...
    @overload
    def owns(self, item: K, /, *, key: Callable[[K], str | bytes]) -> bool: ...
    def owns(self, item: K, /, *, key: Callable[[K], str | bytes] | None = None) -> bool:
        """Whether a key is this member's by this grip, now.

        Args:
            item: the key; or any object, with ``key``.
            key: what gives an object's key.

        Raises:
            BadKey: the key is neither ``str`` nor ``bytes``.
        """
        try:
            owned = self.slots.owns(item if key is None else key(item))  # type: ignore[arg-type]
        except BadKey as error:
            raise explained(error) from None
        return owned and self.valid

    def owned(
        self, keys: Iterable[K], *, key: Callable[[K], str | bytes] | None = None
    ) -> Sequence[K]:
        """Return those of ``keys`` that this grip pins, in order; iteration stops at its end.

        Args:
            keys: ``str`` or ``bytes``, any iterable, or :class:`Keys`.
            key: for other objects: what gives an object's key.

        Raises:
            BadKey: a key is neither ``str`` nor ``bytes``.
        """
        try:
            found = self.slots.owned(keys, key=key)
        except BadKey as error:
            raise explained(error) from None
        return FencedKeys(self, found if self.valid else [])

    def renew(self, seconds: float) -> bool:
        """Keep the same slots for at least so many seconds from now; return whether it does.

        False where it has ended: what it pinned may be another member's by now. Others wait for
        what the group has given them meanwhile, so who goes on for ever looks at :attr:`over`, and
        takes another grip in place of this one.

        Raises:
            BadArgument: the number of seconds is out of range.
        """
        seconds = checked_number("seconds", seconds, least=_SHORTEST)
        if self._member.is_child:
            return False
        with self._member.lock:
            return self.valid and self._member.grips.renew(self._gripped, clock.boottime(), seconds)

    def release(self) -> None:
        """End it now: nobody here acts on its slots any more. Takes no lock. Idempotent."""
        self._gripped.released = True
        if not self._member.is_child:
            self._member.notes.wake.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def __repr__(self) -> str:
        state = f"{self.remaining:.1f} s more" if self.valid else "over"
        return f"<Grip on {len(self.slots)} slots of {self._member.member!r}: {state}>"


def take_grip(partition: object, member: Membership, seconds: float) -> Grip:
    """Pin what is held now. See :meth:`hashring.Partition.grip`."""
    seconds = checked_number("seconds", seconds, least=_SHORTEST)
    member.check_parent()
    with member.lock:
        return Grip(partition, member, member.grips.take(clock.boottime(), seconds))
