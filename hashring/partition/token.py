"""`Token`: what a sample carries so that a sink can refuse the impossible. A value."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Token"]


class _Names(NamedTuple):
    view_id: str
    incarnation: str
    window: int | None


class Token(_Names):
    """What a sample carries so that a sink can refuse the impossible.

    A tuple of three, which is what equality compares; and, beside it, the number by which a late
    writer is told from the present one.

    Attributes:
        view_id: the view under which the keys were held.
        incarnation: the member's unbroken membership.
        window: the window's number, or ``None`` for a cycle without one.
        epoch: an int that is greater for each holder of a slot than for the holder before it,
            through crashes and restarts, and never falls while one holds it. A sink that keeps
            it with what is written can refuse who writes late: what carries a smaller one is of an
            earlier holder. It holds for all keys of the cycle; those of different slots are not to
            be compared. ``None``: this store gives no such number, or the group is eager. How long
            a store keeps the order, its driver says: see :attr:`hashring.driver.Driver.epochs`.

    Example:
        >>> token = Token("a view", "an incarnation", 7, epoch=12)
        >>> view_id, incarnation, window = token
        >>> token
        Token(view_id='a view', incarnation='an incarnation', window=7, epoch=12)
    """

    epoch: int | None = None

    def __new__(
        cls, view_id: str, incarnation: str, window: int | None, *, epoch: int | None = None
    ) -> Token:
        """Return a token."""
        made = super().__new__(cls, view_id, incarnation, window)
        made.epoch = epoch
        return made

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}, epoch={self.epoch})"
