"""Plugins: the discoveries and pollsters of one agent, found by entry point and made."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from hashring import plugins
from hashring.telemetry.model.settings import Settings
from hashring.telemetry.sources.host.discovery import Discovery
from hashring.telemetry.sources.host.pollsters import Pollster

__all__ = ["Plugins"]


@dataclasses.dataclass(frozen=True)
class Plugins:
    """The plug-ins of one agent, made.

    Attributes:
        discoveries: by the name under which a source asks for them.
        pollsters: all of the agent's namespaces.
    """

    discoveries: Mapping[str, Discovery]
    pollsters: Sequence[Pollster]

    @classmethod
    def installed(cls, settings: Settings) -> Plugins:
        """Make every plug-in that is installed and serves the agent's namespaces.

        Raises:
            HashringError: one cannot be imported or made.
        """
        discoveries = plugins.load_all(plugins.DISCOVERIES, Discovery)  # type: ignore[type-abstract]
        pollsters = plugins.load_all(plugins.POLLSTERS, Pollster)  # type: ignore[type-abstract]
        namespaces = set(settings.namespaces)
        chosen = {name: found for name, found in pollsters.items() if namespaces & found.namespaces}
        made = [
            pollster
            for name, found in chosen.items()
            for pollster in plugins.made(name, lambda found=found: list(found.make(settings)))  # type: ignore[misc]
        ]
        return cls(_Made(discoveries, settings), made)


class _Made(Mapping[str, Discovery]):
    """Discoveries by name, each made when it is first asked for: most agents need few of them."""

    def __init__(self, classes: Mapping[str, type[Discovery]], settings: Settings) -> None:
        self._classes = classes
        self._settings = settings
        self._made: dict[str, Discovery] = {}

    def __getitem__(self, name: str) -> Discovery:
        if name not in self._made:
            found = self._classes[name]
            self._made[name] = plugins.made(name, lambda: found(self._settings))
        return self._made[name]

    def __contains__(self, name: object) -> bool:
        return name in self._classes  # which makes nothing

    def __iter__(self) -> Iterator[str]:
        return iter(self._classes)

    def __len__(self) -> int:
        return len(self._classes)
