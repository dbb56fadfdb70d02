"""Parts: what a poll has measured, divided by where it goes.

Knows meters and publishers' URLs, but neither a cycle nor an outlet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from hashring.telemetry.model.batch import Measured

__all__ = ["parted"]


def parted(
    measured: Measured,
    source_of: Callable[[str], str | None],
    targets: Callable[[str], tuple[str, ...]],
) -> Iterator[tuple[Measured, tuple[str, ...], tuple[str, ...]]]:
    """Iterate over the parts of what was measured that go to the same publishers.

    Args:
        measured: one poll's.
        source_of: by a meter's name, the source that wants it; ``None``: nobody does.
        targets: by a meter's name, its publishers' URLs.

    Returns:
        Each part, by its meters the names of their sources, and its publishers' URLs.
    """
    if not len(measured):
        return
    if len(measured.series.meters) == 1:  # as of most polls of one value
        name = measured.series.meters[0].name
        source = source_of(name)
        if source is not None:
            yield measured, (source,), targets(name)
        return
    names = [meter.name for meter in measured.series.meters]
    sources = [source_of(name) for name in names]
    groups: dict[tuple[str, ...], list[int]] = {}
    for number, (name, source) in enumerate(zip(names, sources, strict=True)):
        if source is not None:
            groups.setdefault(targets(name), []).append(number)
    told = tuple(source or "" for source in sources)
    for urls, meters in groups.items():
        if len(meters) == len(names):
            yield measured, told, urls
            continue
        rows, series = measured.series.of_meters(tuple(meters))
        if rows:
            yield Measured(series, [measured.volumes[row] for row in rows]), told, urls
