"""Judgement: which of the polls in hand keeps an agent's threads from running, or takes its memory.

Pure rules over what a witness has measured (`witness`); they know no process, clock or store.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from hashring.telemetry.polling.flights import Flight

__all__ = ["Usage", "holders", "memory_takers"]

_WAITS = 20.0
"""Times per second that a thread goes to sleep, from which on it counts as one that waits for the
interpreter: CPython's waits 5 ms at a time, some 200 times a second. One that holds it in C, or
sits in a system call, does so hardly ever."""

_WORKS = 0.05
"""The part of a processor from which on a thread counts as working; on a crowded machine a thread
that holds the interpreter may get little."""

_TAKEN = 192 * 1024 * 1024
"""Bytes by which an agent must have grown during a poll that is to count as what took its memory:
three times what an answer may take (`answers`)."""

_MOST = 4
"""Polls that one standstill is put down to at most. If more remain, nothing tells them apart."""


class Usage(NamedTuple):
    """What a thread has used so far: seconds of processor, and how often it went to sleep."""

    seconds: float
    sleeps: int


def holders(
    flights: Iterable[Flight],
    before: Mapping[int, Usage],
    after: Mapping[int, Usage],
    seconds: float,
) -> list[Flight]:
    """Return which polls may hold the interpreter of an agent that stands still.

    Args:
        flights: the polls that are in hand, and have been since it stands still.
        before: what their threads had used at a first look within the standstill.
        after: the same at a second look.
        seconds: between the two.

    Returns:
        Those whose threads work, where there are any: a loop in C. Else those that neither work
        nor wait for the interpreter: a call in C that sleeps, or a good poll that waits for an
        answer. None, if there are too many of these.

    Example:
        >>> one, two = Flight("g", "web1", 1.0, 11), Flight("g", "web2", 1.0, 12)
        >>> before = {11: Usage(0.0, 0), 12: Usage(0.0, 0)}
        >>> after = {11: Usage(0.9, 2), 12: Usage(0.0, 190)}
        >>> [flight.id for flight in holders([one, two], before, after, 1.0)]
        ['web1']
    """
    working, still = [], []
    for flight in flights:
        first, second = before.get(flight.thread), after.get(flight.thread)
        if first is None or second is None:
            continue
        if second.sleeps - first.sleeps >= _WAITS * seconds:
            continue
        if second.seconds - first.seconds >= _WORKS * seconds:
            working.append(flight)
        else:
            still.append(flight)
    found = working or still
    return found if len(found) <= _MOST else []


def memory_takers(grown: Mapping[Flight, int]) -> list[Flight]:
    """Return which polls may have had an agent killed for its memory.

    Args:
        grown: the polls that were in hand when it died, and by how many bytes it had grown since
            each was first seen.

    An agent that an operator kills while it polls as always has grown by little: nothing follows.

    Example:
        >>> memory_takers({Flight("g", "web1", 1.0, 11): 900 << 20})
        [Flight(group='g', id='web1', began=1.0, thread=11)]
        >>> memory_takers({Flight("g", "web1", 1.0, 11): 5 << 20})
        []
    """
    found = [flight for flight, size in grown.items() if size >= _TAKEN]
    return found if len(found) <= _MOST else []
