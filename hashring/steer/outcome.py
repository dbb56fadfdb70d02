"""`Outcome`: what came of something that was asked. A value."""

from __future__ import annotations

import dataclasses

__all__ = ["Outcome"]


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a request.

    Attributes:
        group: the group's id.
        member: the id of the member that was asked; ``"*"`` where all were.
        what: what was asked: ``drain``, ``evict``, ``freeze`` or ``thaw``.
        done: it came about.
        reason: how it came about, or why not, in a sentence.
        seconds: how long that took.
    """

    group: str
    member: str
    what: str
    done: bool
    reason: str
    seconds: float
