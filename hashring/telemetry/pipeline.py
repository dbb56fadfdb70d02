"""Pipeline: discoveries and pollsters as one thing that finds resources and measures them.

A failure costs what failed and nothing else: a discovery its resources, a pollster its
measurements of one resource. Each cause is logged once, then counted. This room knows no
member, window or sink.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from hashring.telemetry.discovery import Discovery
from hashring.telemetry.machine import Gone
from hashring.telemetry.pollsters import Pollster
from hashring.telemetry.resource import Resource
from hashring.telemetry.sample import Measurement

__all__ = ["Pipeline"]

log = logging.getLogger(__name__)


class Pipeline:
    """Finds resources and measures them; used by one thread.

    Args:
        discoveries: what finds resources. Where two find the same id, the first one's counts.
        pollsters: what measures them; all that know a resource's kind do.
        only: ids; resources with other ids are as if they were not there. ``None``: all.

    Attributes:
        failures: how often each cause has cost something, by ``(what, kind of error)``;
            resources that ended between discovery and poll are under ``Gone``.

    Example:
        >>> from hashring.telemetry.discovery import HostDiscovery
        >>> from hashring.telemetry.pollsters import HostPollster
        >>> pipeline = Pipeline([HostDiscovery()], [HostPollster()])
        >>> [host] = pipeline.discover().values()
        >>> pipeline.observe()
        >>> "hardware.memory.used" in {found.meter.name for found in pipeline.poll(host)}
        True
    """

    def __init__(
        self,
        discoveries: Iterable[Discovery],
        pollsters: Iterable[Pollster],
        *,
        only: Sequence[str] | None = None,
    ) -> None:
        self._discoveries = tuple(discoveries)
        self._pollsters = tuple(pollsters)
        self._only = None if only is None else frozenset(only)
        self._by_kind: dict[str, list[Pollster]] = defaultdict(list)
        for pollster in self._pollsters:
            for kind in pollster.kinds:
                self._by_kind[kind].append(pollster)
        self._broken: set[Pollster] = set()
        self.failures: Counter[tuple[str, str]] = Counter()

    def discover(self) -> dict[str, Resource]:
        """Return the resources that there are now and that some pollster can measure, by id."""
        found: dict[str, Resource] = {}
        for discovery in self._discoveries:
            try:
                for resource in discovery.discover():
                    if resource.kind in self._by_kind:
                        found.setdefault(resource.id, resource)
            except Exception as error:
                self._failed(f"discovery {type(discovery).__name__}", error)
        if self._only is None:
            return found
        return {id_: resource for id_, resource in found.items() if id_ in self._only}

    def observe(self) -> None:
        """Let the pollsters take their readings of the whole; once a cycle, before its polls."""
        self._broken.clear()
        for pollster in self._pollsters:
            try:
                pollster.observe()
            except Exception as error:
                # Its readings are those of an earlier cycle: they must not pass for new ones.
                self._broken.add(pollster)
                self._failed(f"reading of {type(pollster).__name__}", error)

    def poll(self, resource: Resource) -> list[Measurement]:
        """Return what the pollsters measure of a resource; empty where all of them failed."""
        measured: list[Measurement] = []
        for pollster in self._by_kind[resource.kind]:
            if pollster in self._broken:
                continue
            try:
                measured.extend(pollster.poll(resource))
            except Gone as end:
                self.failures[f"poll by {type(pollster).__name__}", "Gone"] += 1
                log.debug("%s", end)
            except Exception as error:
                self._failed(f"poll by {type(pollster).__name__}", error, resource)
        return measured

    def _failed(self, what: str, error: Exception, resource: Resource | None = None) -> None:
        cause = what, type(error).__name__
        self.failures[cause] += 1
        if self.failures[cause] == 1:
            log.warning(
                "%s%s failed: %s: %s (further ones of this kind are counted, not logged)",
                what,
                f" of {resource.id}" if resource is not None else "",
                type(error).__name__,
                error,
                exc_info=log.isEnabledFor(logging.DEBUG),
            )
