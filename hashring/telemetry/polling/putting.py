"""Putting: the way of a poll's samples into the outlet, alone or together with other polls'.

The last look at the lease is taken here: samples that were measured before it ran out and would go
out after it may be another member's by now. Knows cycles and outlets, but no thread or pollster's
work.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from hashring.errors import BadArgument
from hashring.partition.cycle import Cycle
from hashring.telemetry.delivery.items import BatchItem
from hashring.telemetry.delivery.outlet import Outlet
from hashring.telemetry.errors import OutputClosed
from hashring.telemetry.model.batch import Batch, Measured
from hashring.telemetry.model.resource import Resource
from hashring.telemetry.model.sample import Measurement
from hashring.telemetry.polling.parts import parted
from hashring.telemetry.polling.pool import Call
from hashring.telemetry.polling.tally import Tally
from hashring.telemetry.polling.wants import Want

if TYPE_CHECKING:
    from hashring.telemetry.polling.shared import Shared

__all__ = ["Fenced", "Found", "NotTaken", "Origin", "put", "put_together"]


class Fenced(Exception):
    """The lease ran out between a poll and its samples' way out."""


class NotTaken(Exception):
    """The outlet did not take samples; `cause` says why."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Origin:
    """Where the samples of one cycle come from, and who counts them.

    Attributes:
        shared: for where a meter's samples go.
        tally: of the group.
        cycle: in which they are measured.
        window: its number.
        interval: seconds between two polls.
        member: who polls.
        token: the cycle's, as samples tell it.
    """

    shared: Shared
    tally: Tally
    cycle: Cycle
    window: int
    interval: float
    member: str
    token: tuple[Any, ...]


class Found(NamedTuple):
    """What one poll has measured.

    Attributes:
        origin: in which cycle.
        want: of the pollster.
        resource: of what.
        measured: as the pollster returned it.
        at: when, in wall-clock seconds.
    """

    origin: Origin
    want: Want
    resource: Resource
    measured: Measured | list[Measurement]
    at: float

    def items(self) -> list[BatchItem]:
        """Return what goes into the outlet.

        Raises:
            NotTaken: a measurement cannot be written as JSON.
        """
        origin, found = self.origin, self.measured
        try:
            measured = found if type(found) is Measured else Measured.of(found, self.resource.id)
        except BadArgument as error:
            raise NotTaken(error) from error
        return [
            (
                Batch(
                    part.series,
                    part.volumes,
                    self.at,
                    origin.window,
                    origin.interval,
                    origin.member,
                    origin.token,
                    sources,
                ),
                urls,
            )
            for part, sources, urls in parted(measured, self.want.source_of, origin.shared.targets)
        ]

    def check(self, count: int) -> None:
        """Take the last look before samples go out.

        Raises:
            Fenced: the fence has passed since they were measured, so that another member may have
                polled the same resource: better a gap than a repeat.
        """
        if not self.origin.cycle.valid:
            raise Fenced(
                f"the lease ran out within window {self.origin.window}: "
                f"{count} samples of {self.resource.id} are dropped"
            )

    def taken(self, count: int) -> None:
        """Count what the outlet has taken."""
        self.origin.tally.add(self.origin.window, self.resource.id, count)


def put(found: Found, outlet: Outlet) -> int:
    """Put one poll's samples; return how many.

    Raises:
        Fenced: the lease has run out.
        NotTaken: the outlet did not take them.
    """
    items = found.items()
    if not items:
        return 0
    count = _count(items)
    found.check(count)
    try:
        outlet.put(items)
    except Exception as error:
        raise NotTaken(error) from error
    found.taken(count)
    return count


def put_together(calls: Sequence[Call[Any]], outlet: Outlet) -> None:
    """Put several polls' samples at once; note in each call's ``error`` why it is not taken.

    Args:
        calls: each with a :class:`Found` for its value, which is let go of.
        outlet: takes all of them or none, but for one that is closed.
    """
    ready: list[tuple[Call[Any], Found, list[BatchItem]]] = []
    for call in calls:
        found, call.value = call.value, None
        assert isinstance(found, Found)
        try:
            items = found.items()
            if items:
                found.check(_count(items))
                ready.append((call, found, items))
        except Exception as error:
            call.error = error
    if not ready:
        return
    try:
        outlet.put([item for _, _, items in ready for item in items])
    except Exception as error:
        _put_each(ready, outlet, error)
    else:
        for _, found, items in ready:
            found.taken(_count(items))


def _put_each(
    ready: Sequence[tuple[Call[Any], Found, list[BatchItem]]], outlet: Outlet, error: Exception
) -> None:
    """None was taken together: one of them may be at fault, or there is room for some."""
    # An outlet that is closed may have served some of its publishers: once is enough.
    is_final = len(ready) == 1 or isinstance(error, OutputClosed)
    for call, found, _ in ready:
        if is_final:
            call.error = NotTaken(error)
            continue
        try:
            put(found, outlet)
        except Exception as refused:
            call.error = refused


def _count(items: Sequence[BatchItem]) -> int:
    return sum(len(batch) for batch, _ in items)
