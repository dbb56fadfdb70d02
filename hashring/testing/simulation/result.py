"""What a run did, and the error for a rule that does not hold."""

from __future__ import annotations

import dataclasses
from collections import Counter

__all__ = ["Result", "Violation"]


class Violation(AssertionError):
    """A rule of the protocol does not hold; the message names the seed and the moment."""


@dataclasses.dataclass
class Result:
    """What a run did.

    Attributes:
        steps: how many events were played; each was followed by the checks.
        events: how often each fault or change happened.
        transitions: how often a member's state changed, by (from, to).
        gains: how often slots changed hands.
        successions: how often a slot was seen in another one's hands than before.
        without_epoch: how often slots were seen in the hands of a member without an epoch.
        worked: (slot, window) pairs worked.
        missed: (slot, window) pairs not worked.
        given_up: those of them that were too old to be worked late once their slot was handed
            over, where every window must be worked exactly once.
        repeated: (slot, window) pairs worked more than once.
        grips: how often what was held was kept for a time.
    """

    steps: int = 0
    events: Counter[str] = dataclasses.field(default_factory=Counter)
    transitions: Counter[tuple[str, str]] = dataclasses.field(default_factory=Counter)
    gains: int = 0
    successions: int = 0
    without_epoch: int = 0
    worked: int = 0
    missed: int = 0
    given_up: int = 0
    repeated: int = 0
    grips: int = 0

    def add(self, other: Result) -> None:
        """Add another run's figures."""
        self.steps += other.steps
        self.events += other.events
        self.transitions += other.transitions
        self.gains += other.gains
        self.successions += other.successions
        self.without_epoch += other.without_epoch
        self.worked += other.worked
        self.missed += other.missed
        self.given_up += other.given_up
        self.repeated += other.repeated
        self.grips += other.grips
