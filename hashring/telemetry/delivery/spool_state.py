"""SpoolState: how full a spool is, and how old what waits in it. It takes nothing out."""

from __future__ import annotations

import contextlib
import dataclasses

from hashring.telemetry.delivery.spool import Spool
from hashring.telemetry.errors import SpoolBroken

__all__ = ["SpoolState", "state_of"]


@dataclasses.dataclass(frozen=True, slots=True)
class SpoolState:
    """How full a spool is.

    Attributes:
        bytes: of the samples that wait.
        max_bytes: the bound: more is refused.
        oldest_at: the wall-clock second at which the oldest of them was measured; ``None``: none
            waits.
    """

    bytes: int
    max_bytes: int
    oldest_at: float | None


def state_of(spool: Spool) -> SpoolState:
    """Return how full a spool is; of each publisher's samples it reads the first."""
    times = []
    # One that is closed, or broken, has nothing to say of its samples.
    with contextlib.suppress(SpoolBroken):
        for url in spool.waiting:
            parcel = spool.take(url, 1)
            if parcel is not None:
                times.append(parcel.batches[0].timestamp)
    return SpoolState(spool.bytes, spool.max_bytes, min(times, default=None))
