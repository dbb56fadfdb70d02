"""Batches in requests: as many samples as a sink takes at once, and halves of what it refused."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from hashring.telemetry.model.batch import Batch

__all__ = ["count_of", "halves", "requests"]


def count_of(batches: Iterable[Batch]) -> int:
    """Return how many samples batches have."""
    return sum(map(len, batches))


def requests(batches: Iterable[Batch], most: int) -> Iterator[list[Batch]]:
    """Iterate over batches in groups of so many samples at most; a batch is cut where it must be.

    Example:
        >>> from hashring.telemetry.model.batch import batches_of
        >>> from hashring.telemetry.model.sample import Meter, MeterType, Sample
        >>> load = Meter("load", MeterType.GAUGE, "")
        >>> samples = [Sample(load, n, "web1", 0.0, n // 3, 60.0, "a", ()) for n in range(7)]
        >>> [[len(part) for part in group] for group in requests(batches_of(samples), 4)]
        [[3, 1], [2, 1]]
    """
    group: list[Batch] = []
    room = most
    for batch in batches:
        start = 0
        while start < len(batch):
            part = batch[start : start + room]
            group.append(part)
            start += len(part)
            room -= len(part)
            if not room:
                yield group
                group, room = [], most
    if group:
        yield group


def halves(batches: Sequence[Batch]) -> tuple[list[Batch], list[Batch]]:
    """Return the first and the second half of the samples."""
    first, *rest = requests(batches, max(1, count_of(batches) // 2))
    return first, [batch for group in rest for batch in group]
