"""What a member can be told to do next, and the states that it goes through. Values only."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["TRANSITIONS", "Action", "Join", "Leave", "Publish", "Wait"]

TRANSITIONS: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        ("joining", "settling"): "the first view is acked",
        ("joining", "settled"): "acked, and nothing to wait for",
        ("joining", "fenced"): "acked, but no heartbeat is confirmed",
        ("joining", "draining"): "asked to leave",
        ("settling", "settled"): "the gate let us gain",
        ("settling", "joining"): "the lease is lost, or strangers define the group",
        ("settling", "fenced"): "0.9 ttl without a heartbeat",
        ("settling", "draining"): "asked to leave",
        ("settled", "settling"): "a new view",
        ("settled", "joining"): "the lease is lost, or strangers define the group",
        ("settled", "fenced"): "0.9 ttl without a heartbeat",
        ("settled", "draining"): "asked to leave",
        ("fenced", "settled"): "a heartbeat: the lease never ended",
        ("fenced", "settling"): "a heartbeat, and a new view",
        ("fenced", "joining"): "the lease is lost",
        ("fenced", "draining"): "asked to leave",
        ("draining", "left"): "the heirs have gained, or the timeout",
    }
)
"""Every change of :meth:`Handoff.state`, with its cause. The simulator refuses any other, and the
diagram in the documentation is drawn from it. ``left`` can also follow each at once."""


@dataclasses.dataclass(frozen=True, slots=True)
class Join:
    """Call ``driver.join`` with this record, then :meth:`Handoff.joined`."""

    record: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class Publish:
    """Call ``driver.publish`` with this record, then :meth:`Handoff.published`."""

    record: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do until something changes.

    Attributes:
        local: what must change is here (a running cycle, a window yet to start), not in the
            store.
        reason: for the log and the status page.
        seconds: the longest wait that makes sense, or ``None``: the caller's polling interval.
        still: time alone changes this; a look at the store between brings nothing.
    """

    reason: str
    local: bool = False
    seconds: float | None = None
    still: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Leave:
    """Nothing is left to do here: call :meth:`Handoff.left`, then ``driver.leave``.

    Attributes:
        handed_over: the rest have taken over what this member held.
    """

    handed_over: bool = False


Action = Join | Publish | Wait | Leave
