"""Items: what is put into an outlet: samples or whole batches, each with its publishers' URLs."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from hashring.telemetry.model.batch import Batch, batches_of
from hashring.telemetry.model.sample import Sample

__all__ = ["BatchItem", "Item", "batched"]

Item = tuple[Sample | Batch, tuple[str, ...]]
"""A sample or a batch, and the URLs of the publishers that it goes to."""

BatchItem = tuple[Batch, tuple[str, ...]]


def batched(items: Iterable[Item]) -> list[BatchItem]:
    """Return items as batches: samples that follow one another to the same publishers share one.

    Raises:
        BadArgument: a sample cannot be written as JSON.
    """
    found: list[BatchItem] = []
    for (is_batch, urls), group in itertools.groupby(
        items, lambda item: (type(item[0]) is Batch, item[1])
    ):
        things = [thing for thing, _ in group]
        batches: list[Batch] = things if is_batch else batches_of(things)  # type: ignore[assignment,arg-type]
        found += [(batch, urls) for batch in batches if len(batch)]
    return found
