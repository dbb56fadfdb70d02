"""Audit: from samples alone, which polls were due, made, missed and repeated, event by event.

Pure: samples and times come in as values. It trusts no agent's word on what it owned: a poll is
due once for each resource in each window, and made when a sample of it is there.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Event", "Period", "audit", "read_samples"]


class Event(NamedTuple):
    """Something that happened to the group.

    Attributes:
        name: what happened.
        at: when: wall-clock seconds since the epoch.
    """

    name: str
    at: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Period:
    """The polls from one event to the next.

    Attributes:
        event: what happened at its beginning, in or before its first window.
        windows: how many windows it has.
        due: polls that were due: resources x windows.
        made: of those, the polls that were made at least once.
        missed: of those, the polls that were not made; ``due - made``.
        repeated: polls made beyond the first of a resource in a window.
        late: polls made, for the first time, after their window had ended.
        last_missed_end: when the last window with a missed poll ended, in seconds after the
            event; 0 where none was missed.
        longest_gap: the most windows in a row that one resource was missed.
    """

    event: Event
    windows: int
    due: int
    made: int
    missed: int
    repeated: int
    late: int
    last_missed_end: float
    longest_gap: int


def read_samples(path: Path) -> Iterator[Mapping[str, Any]]:
    """Iterate over the samples in a file of JSON lines; lines that are not samples are skipped.

    A line can be torn: by a full disk, or because it is being written right now.
    """
    with path.open("rb") as lines:
        for line in lines:
            try:
                found = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(found, dict) and _is_sample(found):
                yield found


def _is_sample(found: Mapping[str, Any]) -> bool:
    texts = (found.get("id"), found.get("resource_id"), found.get("timestamp"))
    return type(found.get("window")) is int and all(isinstance(text, str) for text in texts)


def audit(
    samples: Iterable[Mapping[str, Any]],
    *,
    resources: Iterable[str],
    interval: float,
    events: Sequence[Event],
    until: float,
) -> list[Period]:
    """Return the account of each period: from an event to the next, the last one to ``until``.

    Args:
        samples: as in the JSON lines: mappings with ``id``, ``resource_id``, ``window`` and
            ``timestamp``.
        resources: the ids of what was to be polled all the time.
        interval: the length of a window in seconds.
        events: in the order of time; the first one begins the account.
        until: wall-clock seconds: windows that end later are not looked at.

    Example:
        >>> polls = [("x", 10), ("x", 11), ("x", 11), ("x", 13), ("y", 10), ("y", 13)]
        >>> samples = [
        ...     {"id": f"{r}{w}", "resource_id": r, "window": w,
        ...      "timestamp": "1970-01-01T00:00:12.500000+00:00"}
        ...     for r, w in polls
        ... ]
        >>> [calm, crash] = audit(
        ...     samples, resources=["x", "y"], interval=1.0, until=14.0,
        ...     events=[Event("start", 10.0), Event("crash", 11.5)],
        ... )
        >>> calm.due, calm.made, calm.missed, calm.repeated
        (2, 2, 0, 0)
        >>> crash.due, crash.made, crash.missed, crash.repeated, crash.longest_gap
        (6, 3, 3, 1, 2)
        >>> crash.late
        1
        >>> crash.last_missed_end
        1.5
    """
    wanted = sorted(set(resources))
    times, firsts_made = _polls(samples, set(wanted))
    firsts = [math.floor(event.at / interval) for event in events]
    ends = [*firsts[1:], math.floor(until / interval)]
    return [
        _period(event, range(first, max(first, end)), wanted, interval, times, firsts_made)
        for event, first, end in zip(events, firsts, ends, strict=True)
    ]


def _period(
    event: Event,
    windows: range,
    wanted: Sequence[str],
    interval: float,
    times: Mapping[tuple[str, int], int],
    firsts_made: Mapping[tuple[str, int], float],
) -> Period:
    """Return the account of the windows from an event to the next."""
    missed: dict[str, list[int]] = defaultdict(list)
    repeated = late = 0
    for resource in wanted:
        for window in windows:
            made = times.get((resource, window), 0)
            if made == 0:
                missed[resource].append(window)
            else:
                repeated += made - 1
                late += firsts_made[resource, window] >= (window + 1) * interval
    gaps = [window for found in missed.values() for window in found]
    due = len(wanted) * len(windows)
    return Period(
        event=event,
        windows=len(windows),
        due=due,
        made=due - len(gaps),
        missed=len(gaps),
        repeated=repeated,
        late=late,
        last_missed_end=(max(gaps) + 1) * interval - event.at if gaps else 0.0,
        longest_gap=max((_longest_run(found) for found in missed.values()), default=0),
    )


def _polls(
    samples: Iterable[Mapping[str, Any]], wanted: set[str]
) -> tuple[Counter[tuple[str, int]], dict[tuple[str, int], float]]:
    """How often, and when first, each resource was polled in each window.

    As often as its most frequent sample: a poll gives several, and may fail to give some.
    """
    seen: Counter[str] = Counter()
    times: Counter[tuple[str, int]] = Counter()
    firsts: dict[tuple[str, int], float] = {}
    for sample in samples:
        poll = sample["resource_id"], sample["window"]
        if poll[0] in wanted:
            seen[sample["id"]] += 1
            times[poll] = max(times[poll], seen[sample["id"]])
            taken = datetime.fromisoformat(sample["timestamp"]).timestamp()
            firsts[poll] = min(firsts.get(poll, math.inf), taken)
    return times, firsts


def _longest_run(windows: Sequence[int]) -> int:
    longest = run = 0
    before = None
    for window in windows:
        run = run + 1 if before is not None and window == before + 1 else 1
        longest = max(longest, run)
        before = window
    return longest
