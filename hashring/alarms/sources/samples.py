"""Our agents' samples, which were posted to us: the newest complete granules before a time."""

from __future__ import annotations

import math

from hashring.alarms.database.samples import Samples
from hashring.alarms.errors import DatabaseUnavailable, SourceAway
from hashring.alarms.model import SampleRule

__all__ = ["SampleSource"]

_LOOK_BACK = 1
"""Granules more than the rule wants, for what arrives late; Aodh looks back as far."""


class SampleSource:
    """Reads the samples in the alarms' database.

    Args:
        samples: they.
    """

    def __init__(self, samples: Samples) -> None:
        self._samples = samples

    def values(self, rule: SampleRule, at: float, deadline: float) -> list[float]:
        """Return the aggregates of the newest granules, oldest first: at most as many as wanted.

        Args:
            rule: which samples, and what is made of them.
            at: granules that end later do not count; in wall-clock seconds.
            deadline: not looked at: the database has bounds of its own.

        Raises:
            SourceAway: the database did not answer.
        """
        end = math.floor(at / rule.granularity) * rule.granularity
        start = end - (rule.evaluation_periods + _LOOK_BACK) * rule.granularity
        try:
            found = self._samples.points(
                rule.meter, rule.resource, rule.aggregation, rule.granularity, start, end
            )
        except DatabaseUnavailable as error:
            raise SourceAway(str(error)) from None
        return found[-rule.evaluation_periods :]

    def close(self) -> None:
        """Do nothing: the database is another's to close."""
