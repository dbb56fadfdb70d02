"""Finders: what finds the resources of a source: discoveries, and lists of static resources.

Each finder is one group in the store. One whose resources are partly each host's own is split in
two. Nothing is looked for here, except that a discovery which may find both is asked which of
the two it finds.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

from hashring.plugins import UnknownPlugin
from hashring.telemetry.config.definitions import Source, split_discovery
from hashring.telemetry.config.installed import Plugins
from hashring.telemetry.model.resource import Resource
from hashring.telemetry.sources.host.pollsters import Pollster
from hashring.telemetry.sources.web.locality import Halves, localized
from hashring.telemetry.sources.web.targets import static_resource
from hashring.url import masked

__all__ = ["Finder", "finders_of"]

_LOCAL = "#local"  # ends the names of finders of what is each host's own


@dataclasses.dataclass(frozen=True)
class Finder:
    """What finds the resources of a group.

    Attributes:
        name: the group's name without the prefix.
        description: for people.
        discover: finds them; see :meth:`Discovery.discover`.
        is_local: they belong to this host.
        known: the ids of those that are known beforehand: static resources.
    """

    name: str
    description: str
    discover: Callable[[], Iterable[Resource]]
    is_local: bool
    known: tuple[str, ...] = ()


def finders_of(
    source: Source, chosen: Sequence[Pollster], plugins: Plugins, host: str
) -> list[tuple[Finder, list[Pollster]]]:
    """Return what finds a source's resources, and which pollsters are for these."""
    for name, _ in map(split_discovery, source.discovery):
        _check_installed(name, source, plugins)
    # Of what another agent's namespace polls, not even the discovery is made here.
    if not chosen:
        return []
    found: list[tuple[Finder, list[Pollster]]] = []
    if source.resources:
        found.extend(_static(source, chosen, host))
    for text in dict.fromkeys(source.discovery):
        found.extend((finder, list(chosen)) for finder in _discovery(text, source, plugins, host))
    if not source.resources and not source.discovery:
        by_default: dict[str, list[Pollster]] = defaultdict(list)
        for pollster in chosen:
            if pollster.default_discovery:
                _check_installed(split_discovery(pollster.default_discovery)[0], source, plugins)
                by_default[pollster.default_discovery].append(pollster)
        for text, pollsters in by_default.items():
            found.extend((finder, pollsters) for finder in _discovery(text, source, plugins, host))
    return found


def _check_installed(name: str, source: Source, plugins: Plugins) -> None:
    if name not in plugins.discoveries:
        raise UnknownPlugin(
            f"source {source.name!r}: no discovery {name!r} is installed; "
            f"installed: {', '.join(sorted(plugins.discoveries)) or 'none'}"
        )


def _static(
    source: Source, chosen: Sequence[Pollster], host: str
) -> Iterator[tuple[Finder, list[Pollster]]]:
    """Yield what finds a source's static resources: those that are shared, those of this host."""
    texts = sorted(set(source.resources))
    whole = [static_resource(text) for text in texts]
    halves = Halves(lambda: whole, host, f"source {source.name!r}", source.local)
    for own in sorted(halves.present()):
        resources = halves.half(own)
        # What these are is known now, and so is which pollsters have nothing to do with them.
        kinds = {resource.kind for resource in resources}
        able = [pollster for pollster in chosen if kinds & pollster.kinds]
        if not able:
            continue
        # Named by content, alike in every process: Python's hash() of a string is not.
        ids = {resource.id for resource in resources}
        named = [
            text
            for text, resource in zip(texts, whole, strict=True)
            if (localized(resource, host) if own else resource).id in ids
        ]
        digest = hashlib.sha256("\n".join(named).encode()).hexdigest()[:16]
        finder = Finder(
            f"resources:{digest}{_LOCAL if own else ''}",
            f"{len(resources)} static resources",
            lambda resources=resources: resources,  # type: ignore[misc]
            own,
            tuple(resource.id for resource in resources),
        )
        yield finder, able


def _discovery(text: str, source: Source, plugins: Plugins, host: str) -> Iterator[Finder]:
    """Yield what finds a discovery's resources: those that are shared, those of this host."""
    name, parameter = split_discovery(text)
    discovery = plugins.discoveries[name]
    # The name is seen in the store, in logs and in status files.
    shown = masked(text)
    if shown != text:
        shown += f"#{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    called = f"discovery:{shown}#{discovery.scope}" if discovery.scope else f"discovery:{shown}"
    description = f"discovery {masked(text)}"
    is_split = not discovery.is_local and (source.local or discovery.finds_addresses)
    if not is_split:
        yield Finder(called, description, lambda: discovery.discover(parameter), discovery.is_local)
        return
    halves = Halves(lambda: discovery.discover(parameter), host, description, source.local)
    for own in sorted(halves.present()):
        yield Finder(
            f"{called}{_LOCAL}" if own else called,
            f"{description}, this host's own" if own else description,
            lambda own=own: halves.half(own),  # type: ignore[misc]
            own,
        )
