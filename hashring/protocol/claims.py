"""Claims, and keeping few of them: several are merged where a record would carry too many.

Pure, and the same question for the gains that a member remembers. What is merged takes the earlier
``through``: the next owner then works a window again. It never loses a promise: a claim that
promises nothing stays by itself, because whoever gains on one begins with the present window, and
the windows that the other claim left to him would be worked by nobody.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from hashring.ring.ring import SlotSet

__all__ = ["FEWEST", "MAX_CLAIMS", "Claim", "checked_most", "merged", "oldest_pair"]

MAX_CLAIMS = 64
"""The most claims that a record may carry."""


@dataclasses.dataclass(frozen=True, slots=True)
class Claim:
    """A promise about slots that a member has lost: every window before ``through`` is worked.

    Attributes:
        through: seconds on the wall clock, compared with the starts of windows only; ``-inf``
            where the member never worked a window of them, and nothing is promised.
        slots: the slots it speaks of.
    """

    through: float
    slots: SlotSet


FEWEST = 2
"""The least bound: one claim with a promise, and one without."""


def checked_most(most: int) -> int:
    """Return a bound on claims, or raise ``ValueError``."""
    if not FEWEST <= most <= MAX_CLAIMS:
        raise ValueError(f"max_claims must lie between {FEWEST} and {MAX_CLAIMS}, not {most!r}")
    return most


def merged(claims: Sequence[Claim], most: int) -> list[Claim]:
    """Return at most so many claims on the same slots, oldest first.

    Those with one ``through`` are one. Beyond that the oldest promises become one.

    Args:
        claims: on slots of which no two have one.
        most: the bound, :data:`FEWEST` or more.

    Example:
        >>> one, two, three = (SlotSet.of([slot], 8) for slot in range(3))
        >>> few = merged([Claim(30.0, one), Claim(-math.inf, two), Claim(20.0, three)], 2)
        >>> [(claim.through, sorted(claim.slots)) for claim in few]
        [(-inf, [1]), (20.0, [0, 2])]
    """
    by_through: dict[float, SlotSet] = {}
    for claim in claims:
        if not claim.slots:
            continue
        known = by_through.get(claim.through)
        by_through[claim.through] = claim.slots if known is None else known | claim.slots
    nothing = by_through.pop(-math.inf, None)
    kept = [Claim(through, slots) for through, slots in sorted(by_through.items())]
    silent = [] if nothing is None else [Claim(-math.inf, nothing)]
    while len(kept) + len(silent) > max(most, FEWEST):
        first, second, *rest = kept
        kept = [Claim(first.through, first.slots | second.slots), *rest]
    return silent + kept


def oldest_pair(throughs: Sequence[tuple[float, bool]]) -> tuple[int, int]:
    """Return which two of at least three gains to merge: the oldest two of one kind.

    A gain that was claimed says which windows are left to its owner; another says nothing but
    that the present window may have been worked. One must not pass for the other.

    Args:
        throughs: ``(through, is_claimed)`` of each.

    Returns:
        Two places in it, the older first.
    """
    order = sorted(range(len(throughs)), key=lambda place: throughs[place][0])
    pairs = []
    for kind in (True, False):
        places = [place for place in order if throughs[place][1] is kind]
        if len(places) > 1:
            pairs.append((places[0], places[1]))
    return min(pairs, key=lambda pair: throughs[pair[1]][0])
