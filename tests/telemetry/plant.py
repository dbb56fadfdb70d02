"""What the tests of plans and agents poll: a plant's tanks, and a shelf that keeps the samples."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
from collections import Counter
from pathlib import Path
from typing import Any

from hashring.telemetry.agent.agent import Agent
from hashring.telemetry.config.plan import Plan, Plugins, make_plan
from hashring.telemetry.errors import OutputClosed, OutputFailed
from hashring.telemetry.model.resource import Resource, on_host
from hashring.telemetry.model.sample import Measurement, Meter, MeterType
from hashring.telemetry.model.settings import Settings
from hashring.telemetry.plugin import AsyncPollster, Discovery, Pollster, Publisher

LEVEL = Meter("tank.level", MeterType.GAUGE, "l")
HEAT = Meter("tank.heat", MeterType.GAUGE, "C")
TANKS = tuple(on_host("plant", "tank", str(number)) for number in range(600))
FEW = TANKS[:4]

TTL = 15.0
"""Seconds: longer than a busy machine may give a test no processor. It costs nobody a lease."""

stores = (f"memory://agent-{number}" for number in itertools.count())
"""Stores that nobody has used yet."""


def settings(**changes: Any) -> Settings:
    """Return settings of an agent that works one short window by itself."""
    return Settings(
        **{"backend_url": "memory://plant", "group": "g", "member": "a", "host": "plant"}
        | {"interval": 0.2, "ttl": TTL, "cycles": 1, "retry_backoff": 0.0, "poll_timeout": 60.0}
        | changes
    )


class Tanks(Discovery):
    """Finds tanks; fails while it is told to, and notes what it was asked for."""

    def __init__(self, settings: Settings, found: Any = FEW) -> None:
        super().__init__(settings)
        self.found = found
        self.error: Exception | None = None
        self.parameters: list[str] = []

    def discover(self, parameter: str = "") -> Any:
        self.parameters.append(parameter)
        if self.error is not None:
            raise self.error
        return self.found


class LocalTanks(Tanks):
    is_local = True


class Levels(Pollster):
    """Tells levels; does to each resource what a test has put into `moods`."""

    kinds = frozenset({"tank"})
    meters: tuple[Meter, ...] = (LEVEL,)
    default_discovery = "tanks"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.moods: dict[str, Any] = {}
        self.polled: list[str] = []
        self.blind = False
        self.readings = 0
        self.closed = 0

    def observe(self) -> None:
        if self.blind:
            raise TimeoutError("no answer")
        self.readings += 1

    def poll(self, resource: Resource) -> Any:
        self.polled.append(resource.id)
        mood = self.moods.get(resource.id)
        if isinstance(mood, Exception):
            raise mood
        if mood is not None:
            mood()
        for meter in self.meters:
            yield Measurement(meter, self.readings)

    def close(self) -> None:
        self.closed += 1


class Heats(Levels):
    meters = (HEAT,)


class Shelf:
    """An outlet that keeps samples, and fails while it is told to."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.samples: list[Any] = []
        self.targets: set[tuple[str, ...]] = set()
        self.error: Exception | None = None
        self.is_closed = False
        self.finished = False
        self.counts: dict[str, Any] = {}
        self.closed: frozenset[str] = frozenset()

    def put(self, items: Any) -> None:
        with self.lock:
            if self.error is not None:
                raise self.error
            self.samples.extend(sample for batch, _ in items for sample in batch)
            self.targets.update(urls for _, urls in items)

    def keep(self, urls: Any) -> None:
        self.kept = frozenset(urls)

    def flush(self, timeout: float) -> bool:
        return True

    def close(self, timeout: float) -> None:
        self.is_closed = True

    def taken(self) -> list[Any]:
        with self.lock:
            return list(self.samples)

    def polls(self) -> Counter[tuple[str, str, int]]:
        """How often each meter of each resource was sampled in each window."""
        return Counter((one.meter.name, one.resource_id, one.window) for one in self.taken())


class ShelfPublisher(Publisher):
    """A publisher that keeps samples, and raises what a test tells it to."""

    def __init__(self, url: str, settings: Settings) -> None:
        super().__init__(url, settings)
        self.samples: list[Any] = []
        self.error: OutputFailed | OutputClosed | None = None
        self.is_closed = False

    def publish(self, samples: Any) -> None:
        if self.error is not None:
            raise self.error
        self.samples.extend(samples)

    def close(self) -> None:
        self.is_closed = True


def plugins(settings: Settings, *pollsters: Pollster, **discoveries: Discovery) -> Plugins:
    """Return plug-ins: by default, tanks and their levels."""
    return Plugins(discoveries or {"tanks": Tanks(settings)}, pollsters or (Levels(settings),))


def plan(settings: Settings, *pollsters: Pollster, **discoveries: Discovery) -> Plan:
    """Return the plan that the settings and these plug-ins give."""
    return make_plan(settings, plugins(settings, *pollsters, **discoveries))


class Plant:
    """An agent in a thread, with a polling definition that a test rewrites."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        self.path = folder / "polling.yaml"
        self.shelf = Shelf()
        self.settings = settings(
            **{"backend_url": next(stores), "cycles": None, "group": None}
            | {"polling_file": self.path}
            | changes
        )
        self.made: list[tuple[Levels, Heats]] = []
        self.broken: Exception | None = None

    def write(self, *sources: dict[str, Any]) -> None:
        whole = [
            {"name": f"s{number}", "interval": 0.2, "meters": ["tank.*"]} | source
            for number, source in enumerate(sources)
        ]
        self.path.write_text(json.dumps({"sources": whole}))

    def load(self) -> tuple[Settings, Plan]:
        if self.broken is not None:
            raise self.broken
        given = self.settings
        levels, heats = Levels(given), Heats(given)
        self.made.append((levels, heats))
        found = {name: Tanks(given, (on_host("plant", "tank", name),)) for name in "xyz"}
        return given, plan(given, levels, heats, **found)

    def start(self, **options: Any) -> None:
        given, made = self.load()
        self.agent = Agent(given, plan=made, outlet=self.shelf, load=self.load, **options)
        self.thread = threading.Thread(target=self.agent.run)
        self.thread.start()

    def end(self) -> None:
        self.agent.stop()
        self.thread.join(60)
        assert not self.thread.is_alive()

    def since(self, window: int = 0) -> set[tuple[str, str, float]]:
        """What has been sampled in later windows."""
        return {
            (one.meter.name, one.resource_id.rpartition(":")[2], one.interval)
            for one in self.shelf.taken()
            if one.window > window
        }

    def partition(self, name: str) -> Any:
        return self.agent._runners[f"discovery:{name}"].partition


class AsyncLevels(AsyncPollster):
    """Tells levels from an event loop; awaits what a test has put into `moods`."""

    kinds = frozenset({"tank"})
    meters = (LEVEL,)
    default_discovery = "tanks"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.moods: dict[str, Any] = {}
        self.polled: list[str] = []
        self.cancelled: list[str] = []

    async def measure(self, resource: Resource) -> Any:
        self.polled.append(resource.id)
        mood = self.moods.get(resource.id)
        if isinstance(mood, Exception):
            raise mood
        try:
            if mood is not None:
                await mood()
        except asyncio.CancelledError:
            self.cancelled.append(resource.id)
            raise
        return [Measurement(meter, 1) for meter in self.meters]
