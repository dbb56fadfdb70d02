"""Want: one pollster of a loop, made to serve every source that wants what it tells."""

from __future__ import annotations

import dataclasses
import functools
from collections import defaultdict

from hashring.telemetry.config.plan import Loop, Task
from hashring.telemetry.plugin import AsyncPollster, Pollster

__all__ = ["Want", "wants_of"]


@dataclasses.dataclass(frozen=True, eq=False)
class Want:
    """One pollster of a loop, and the sources that want what it tells."""

    pollster: Pollster
    tasks: tuple[Task, ...]
    sources: dict[str, str | None] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def waits_on_loop(self) -> bool:
        """Whether its polls wait on the event loop; those of others have a thread each."""
        return isinstance(self.pollster, AsyncPollster)

    def source_of(self, meter: str) -> str | None:
        """Return the first source that wants a meter."""
        try:
            return self.sources[meter]
        except KeyError:
            wanting = (task.source for task in self.tasks if task.meters.allows(meter))
            return self.sources.setdefault(meter, next(wanting, None))


def wants_of(loop: Loop) -> tuple[Want, ...]:
    """Return a loop's pollsters, each once however many sources want it."""
    tasks: dict[Pollster, list[Task]] = defaultdict(list)
    for task in loop.tasks:
        for pollster in task.pollsters:
            tasks[pollster].append(task)
    return tuple(Want(pollster, tuple(found)) for pollster, found in tasks.items())
