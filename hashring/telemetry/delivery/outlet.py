"""Outlet: where an agent puts its samples, and the counts of what became of them."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from hashring.telemetry.delivery.items import Item
from hashring.telemetry.plugin import Publisher
from hashring.url import masked

__all__ = ["Counts", "Outlet", "Tally", "close_publisher", "counts_of"]

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Counts:
    """What became of one publisher's samples.

    Attributes:
        sent: samples that it has taken.
        waiting: samples that wait for it in the spool.
        failed: calls of it that failed; their samples are tried again, but for ``Direct``.
        dropped: samples that it will never get.
    """

    sent: int = 0
    waiting: int = 0
    failed: int = 0
    dropped: int = 0


class Outlet(Protocol):
    """Where an agent puts its samples."""

    def put(self, items: Sequence[Item]) -> None:
        """Hand over samples or batches, each with the URLs of its publishers. From any thread.

        Raises:
            SpoolFull: the spool's bound would be passed: none of them was kept.
            SpoolBroken: the spool cannot be written: none of them was kept.
            OutputClosed: nobody will take any more.
        """

    def keep(self, urls: Collection[str]) -> None:
        """Let go of all publishers but these, each once nothing waits for it.

        A publisher that is let go of is made anew should samples come for it.
        """

    def flush(self, timeout: float) -> bool:
        """Wait until nothing waits any more, at most so many seconds; whether that is so."""

    def close(self, timeout: float) -> None:
        """Take no more, deliver what can be delivered within so many seconds, and end."""

    @property
    def counts(self) -> Mapping[str, Counts]:
        """What became of the samples, by publisher; secrets in URLs are masked."""

    @property
    def closed(self) -> frozenset[str]:
        """The publishers that will never take any more; secrets in URLs are masked."""

    @property
    def finished(self) -> bool:
        """Whether all publishers that were used so far will never take any more."""


@dataclasses.dataclass
class Tally:
    """The counts of one publisher while they are being made."""

    sent: int = 0
    failed: int = 0
    dropped: int = 0
    is_closed: bool = False


def close_publisher(publisher: Publisher, name: str) -> None:
    """Close a publisher; an error of its own is logged, and ends there."""
    try:
        publisher.close()
    except Exception:
        log.exception("%s cannot be closed", name)


def counts_of(tallies: Mapping[str, Tally], waiting: Mapping[str, int]) -> dict[str, Counts]:
    """Return counts by masked URL; two that differ only in a secret are counted together."""
    found: dict[str, Counts] = {}
    for url in {**tallies, **waiting}:
        tally = tallies.get(url, Tally())
        before = found.get(masked(url), Counts())
        found[masked(url)] = Counts(
            before.sent + tally.sent,
            before.waiting + waiting.get(url, 0),
            before.failed + tally.failed,
            before.dropped + tally.dropped,
        )
    return found
