"""What a record says that can change within one lease: the value that is sent, and confirmed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from hashring.protocol.freezing import Freeze
from hashring.protocol.record import Parked
from hashring.protocol.request import Answer
from hashring.protocol.view import View
from hashring.ring.ring import SlotSet

__all__ = ["Statement"]


@dataclasses.dataclass(frozen=True, slots=True)
class Statement:
    """What a member says of itself.

    A member keeps two of them: the one that was *sent* and is not confirmed, and the one that is
    *confirmed*. It must publish where what it wants to say differs from what is confirmed, and
    where something sent may or may not have arrived.

    Attributes:
        applied: the view that it has acked; ``None``: it holds nothing.
        took: the slots of that view which it has taken over, as far as its mark counts.
        draining: it is leaving with hand-over.
        founded: the wall-clock second at which its group's parameters were founded, if it knows.
        meta: what the user publishes; compared by identity, as each change makes a new one.
        parked: the places that it keeps for others.
        answer: to the latest request.
        freeze: the latest word on whether the group is frozen, and whether this member stays.
    """

    applied: View | None
    took: SlotSet
    draining: bool
    founded: float | None
    meta: Mapping[str, Any]
    parked: tuple[Parked, ...] = ()
    answer: Answer | None = None
    freeze: tuple[Freeze | None, bool] = (None, False)
