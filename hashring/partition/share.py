"""`Share`: what both faces of a partition, for threads and for an event loop, answer at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, NoReturn, TypeVar, overload

from hashring.errors import BadArgument, BadKey
from hashring.partition.facts import Facts
from hashring.partition.grip import Grip, take_grip
from hashring.partition.keys import explained
from hashring.ring.ring import SlotSet

__all__ = ["Share"]

K = TypeVar("K")


class Share(Facts):
    """What a member holds, and what it can be told without waiting. From any thread."""

    group: str
    member: str
    ttl: float

    @property
    def held(self) -> SlotSet:
        """The slots that may be acted on now; empty past the fence."""
        return self._membership.held

    @overload
    def owns(self, item: str | bytes, /) -> bool: ...
    @overload
    def owns(self, item: K, /, *, key: Callable[[K], str | bytes]) -> bool: ...
    def owns(self, item: K, /, *, key: Callable[[K], str | bytes] | None = None) -> bool:
        """Whether this member holds a key now.

        An answer is about this instant. Where acting takes time, use :meth:`cycle`: it pins what
        it says until the block ends.

        Args:
            item: the key; or any object, with ``key``.
            key: what gives an object's key.

        Raises:
            BadKey: the key is neither ``str`` nor ``bytes``.
        """
        self._membership.check()
        try:
            return self.held.owns(item if key is None else key(item))  # type: ignore[arg-type]
        except BadKey as error:
            raise explained(error) from None

    def owned(self, keys: Iterable[K], *, key: Callable[[K], str | bytes] | None = None) -> list[K]:
        """Return those of ``keys`` that this member holds now, in order. See :meth:`owns`.

        Args:
            keys: ``str`` or ``bytes``, any iterable, or :class:`Keys`.
            key: for other objects: what gives an object's key.

        Raises:
            BadKey: a key is neither ``str`` nor ``bytes``.
        """
        self._membership.check()
        try:
            return self.held.owned(keys, key=key)
        except BadKey as error:
            raise explained(error) from None

    def mask(
        self, keys: Iterable[K], *, key: Callable[[K], str | bytes] | None = None
    ) -> bytearray:
        """Return 1 for each of ``keys`` that this member holds now, 0 for the others.

        Arguments and errors are those of :meth:`owned`.
        """
        self._membership.check()
        try:
            return self.held.mask(keys, key=key)
        except BadKey as error:
            raise explained(error) from None

    def publish_meta(self, meta: Mapping[str, Any]) -> None:
        """Replace the ``meta`` in this member's record, without delaying any hand-over.

        Returns at once. It goes out with the next record of this member, or in one of its own
        once it has settled; a record that the store has lost comes back with it. Of several in a
        row only the last need be seen by others.

        Args:
            meta: a JSON object of at most 64 KiB; copied, not deeply.

        Raises:
            BadArgument: it is no mapping.
            BadRecord: it is no JSON object, too large, or has the key ``"hashring"``, which is
                the hand-off's own. What stood before stays.

        Example:
            >>> import hashring
            >>> with hashring.join("memory://doc", "pollers", "a", meta={"polls": 1}) as partition:
            ...     partition.publish_meta({"polls": 2})
        """
        if not isinstance(meta, Mapping):
            raise BadArgument(f"meta must be a mapping, not {meta!r:.200}")
        self._membership.check_parent()
        with self._membership.lock:
            self._membership.handoff.change_meta(MappingProxyType(dict(meta)))
        self._membership.interrupt()

    def leads(self, name: str) -> bool:
        """Whether this member is the one of all members that may act for this name, now.

        The leader for a name is who holds the key of that name: exclusive and fenced as every
        key, and handed over as every key is. :meth:`Facts.owner` tells who it is. Where acting
        takes time, take a term: ``leading``.

        Args:
            name: what there is to be one leader for.

        Raises:
            BadKey: it is no ``str``.
        """
        return self.owns(name)

    def grip(self, seconds: float) -> Grip:
        """Keep what is held now for so many seconds, without a block around the work.

        ::

            grip = partition.grip(30)
            for key in grip.owned(keys):
                queue.put(key)              # worked by others, within half a minute

        For who is told "it is yours" and acts on that later, where nothing marks the end. Nobody
        else gains these slots before the grip ends: when its seconds are over, or by
        :meth:`Grip.release`. Each may last for so long after it was told of a change, and others
        wait that long, so choose the seconds as long as the work takes, and not longer. A drain
        waits for the grips that have not ended.

        Args:
            seconds: at least 0.001.

        Raises:
            BadArgument: the number of seconds is out of range.
            LeaseLost: this is a forked child.
            GroupMismatch, MemberExists: this member cannot take part.
        """
        return take_grip(self, self._membership, seconds)

    def stop(self) -> None:
        """Ask the loops over :meth:`cycles` to end; safe in a signal handler: it takes no lock.

        Each loop finishes the cycle in hand, and ends within a fifth of a second where it waits
        for the next window. Leaving the ``with`` block then drains.
        """
        self._membership.stopping = True

    # ---- for both faces --------------------------------------------------------------------

    def _is_settled(self) -> bool | None:
        """Return whether it is settled, or never will be; ``None``: it may yet be."""
        self._membership.check()
        state = self.state
        if state == "settled":
            return True
        return False if state == "left" else None

    def _facts(self) -> tuple[str, SlotSet, Mapping[str, float]]:
        return self.state, self.held, dict(self.members)

    def _drain_seconds(self, timeout: float | None) -> float:
        return 2 * self.ttl if timeout is None else min(max(0.0, timeout), threading.TIMEOUT_MAX)

    def __reduce__(self) -> NoReturn:
        raise BadArgument(
            "a Partition cannot be pickled or copied: it is one process's membership. Hand the "
            "store's URL and the group's name to the other process and join there, or hand it the "
            "keys: list(cycle.owned(keys))"
        )

    def __repr__(self) -> str:
        return (
            f"<Partition {self.member!r} of group {self.group!r} at {self._membership.driver.url}: "
            f"{self.state}, {len(self.held)} slots>"
        )
