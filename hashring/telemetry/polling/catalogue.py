"""Catalogue: the resources that a group's finders have found, with their keys hashed once.

A finder is called in the pool of its source, within a time: one that hangs or fails costs what it
would have found anew, and nothing else.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

from hashring.ring.ring import Keys
from hashring.telemetry.config.plan import Finder, Group
from hashring.telemetry.model.resource import Resource
from hashring.telemetry.polling.pool import Call, Hangs
from hashring.telemetry.polling.shared import Shared

__all__ = ["Catalogue"]


class Catalogue:
    """The resources that a group's finders have found, with their keys hashed once."""

    def __init__(self, group: Group, shared: Shared, before: Catalogue | None = None) -> None:
        self._finders = group.finders
        self._pool = group.loops[0].tasks[0].source
        self._shared = shared
        self._lock = threading.Lock()
        self._last: dict[str, Iterable[Resource]] = {}  # as the finder returned them
        # Of each finder, by id. What a reload keeps is polled on, should the finder fail now.
        self._found: dict[str, Mapping[str, Resource]] = {}
        if before is not None:
            names = {finder.name for finder in self._finders}
            self._found = {name: one for name, one in before._found.items() if name in names}
        self._keys: Keys[str] = Keys(())
        self._resources: Mapping[str, Resource] = MappingProxyType({})
        if self._found:
            self._merge()

    def look(
        self, seconds: Callable[[], float], owner: object
    ) -> tuple[Keys[str], Mapping[str, Resource]]:
        """Return what there is now: its keys, and the resources by id.

        Args:
            seconds: how long a finder may take.
            owner: whom the finders are called for.
        """
        with self._lock:
            begun = []
            for finder in self._finders:
                try:
                    begun.append((finder, self._begin(finder, seconds, owner)))
                except Hangs as error:
                    self._shared.failures.add(finder.description, error)
            changed = False
            for finder, call in begun:
                try:
                    changed |= call.result()
                except Exception as error:
                    # What was found last is polled on: a discovery that fails is no empty cloud.
                    self._shared.failures.add(finder.description, error)
            if changed:
                self._merge()
            return self._keys, self._resources

    def _begin(self, finder: Finder, seconds: Callable[[], float], owner: object) -> Call[bool]:
        return self._shared.pool(self._pool).submit(
            ("discover", finder.name),
            lambda call: self._discover(call, finder),
            seconds,
            share=finder.name,
            owner=owner,
        )

    def _discover(self, call: Call[bool], finder: Finder) -> bool:
        found = finder.discover()
        if found is self._last.get(finder.name):
            return False
        only = self._shared.settings.only
        by_id: dict[str, Resource] = {}
        for resource in found:
            if only is None or resource.id in only:
                by_id.setdefault(resource.id, resource)
        if not call.claim():
            return False
        # What can be iterated only once cannot be recognized either.
        if isinstance(found, Sequence):
            self._last[finder.name] = found
        self._found[finder.name] = by_id
        return True

    def _merge(self) -> None:
        resources: dict[str, Resource] = {}
        for finder in self._finders:
            for id_, resource in self._found.get(finder.name, {}).items():
                resources.setdefault(id_, resource)
        if list(resources) != list(self._resources):
            self._keys = Keys(resources)
        self._resources = resources
