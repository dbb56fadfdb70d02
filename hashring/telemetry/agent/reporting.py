"""Reporting: how an agent is seen from outside: its status file, its page, its metrics.

All three say the same, made by the same code. Where none of them is asked for, there is no thread
and no cost.
"""

from __future__ import annotations

import contextlib
import dataclasses
import socket
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from hashring import clock
from hashring.observe.description import Ownership
from hashring.page.posts import Posts
from hashring.page.status import GroupStatus
from hashring.page.steering import Steering
from hashring.page.token import Token
from hashring.page.watcher import Watcher
from hashring.partition.partition import Partition
from hashring.telemetry.agent.status import Status, StatusFile
from hashring.telemetry.delivery.delivery import Delivery
from hashring.telemetry.delivery.outlet import Outlet
from hashring.telemetry.model.settings import Settings
from hashring.telemetry.polling.counts import PollCounts
from hashring.telemetry.polling.runner import Runner

if TYPE_CHECKING:
    from hashring.telemetry.agent.listener import Listener

__all__ = ["Reporting"]

_SPOOL_LOOK = 2.0
"""Seconds between two looks into the spool: each reads a sample for each publisher."""


class Reporting:
    """How an agent is seen from outside, for as long as the block runs.

    Args:
        settings: where it is to be seen.
        outlet: what takes its samples.
        counts: how its polls end.
        partitions: its memberships now.
        status: what it says of itself now.
        is_alive: whether it does what it is there for.

    Attributes:
        listener: what serves the page; ``None`` where nothing is to be served.
    """

    def __init__(
        self,
        settings: Settings,
        outlet: Outlet,
        counts: PollCounts,
        partitions: Callable[[], Iterable[Partition]],
        status: Callable[[], Status],
        is_alive: Callable[[], bool],
    ) -> None:
        self._settings = settings
        self._outlet = outlet
        self._counts = counts
        self._partitions = partitions
        self._status = status
        self._is_alive = is_alive
        self._watcher = Watcher(partitions)
        self._stack = ExitStack()
        self._spool: tuple[float, Mapping[str, float | None]] | None = None
        self.listener: Listener | None = None

    def __enter__(self) -> Self:
        settings = self._settings
        with ExitStack() as stack:
            if settings.status_file is not None or settings.listen is not None:
                stack.enter_context(self._watcher)
            if settings.status_file is not None:
                stack.enter_context(StatusFile(settings.status_file, self._status))
            if settings.listen is not None:
                steering = stack.enter_context(contextlib.closing(Steering(self._watcher.named)))
                self.listener = stack.enter_context(self._listener(settings.listen, steering))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def _listener(self, address: str, steering: Steering) -> Listener:
        # Imported here: an agent that serves nothing needs neither the server nor the metrics.
        from prometheus_client import make_wsgi_app

        from hashring.page.wsgi import Routes
        from hashring.telemetry.agent.listener import Listener
        from hashring.telemetry.agent.metrics import registry
        from hashring.telemetry.model.listen import ListenAddress

        found = registry(self._status, lambda: self._counts.times, self._partitions)
        token = Token.of(self._settings.token, self._settings.token_file)
        posts = None if token is None else Posts(token, steering)
        routes = Routes(self, make_wsgi_app(found), self._is_alive, posts)
        return Listener(ListenAddress.parse(address), routes)

    # ---- what the page asks ------------------------------------------------------------------

    def status(self) -> Status:
        """Return what the agent says of itself now."""
        return self._status()

    def owner(self, name: str, key: str) -> Ownership:
        """Say whose a key is: see :meth:`hashring.page.Watcher.owner`."""
        return self._watcher.owner(name, key)

    # ---- what the agent asks -----------------------------------------------------------------

    def completed(self, status: Status) -> Status:
        """Return a status with what this module knows of: time, host, events, polls, spool."""
        sources: dict[str, dict[str, dict[str, float]]] = {}
        for (group, source), outcomes in self._counts.outcomes.items():
            sources.setdefault(group, {})[source] = dict(outcomes)
        for (group, source), timing in self._counts.times.items():
            if source in sources.get(group, {}):
                sources[group][source]["seconds"] = round(timing.seconds, 3)
        return dataclasses.replace(
            status,
            written_at=round(clock.wall(), 3),
            host=socket.gethostname(),
            events=self._watcher.events,
            sources=sources,
            spool=self._spool_state(),
        )

    def group(self, runner: Runner) -> GroupStatus:
        """Return what the agent says of one of its groups."""
        partition, state = runner.partition, runner.state
        if partition is None:
            return GroupStatus(state=state, reason=runner.reason)
        found = self._watcher.group(partition)
        return dataclasses.replace(
            found,
            state=state,
            reason=runner.reason,
            slots=0 if state == "left" else found.slots,
            resources=runner.tally.resources,
        )

    def _spool_state(self) -> Mapping[str, float | None] | None:
        if not isinstance(self._outlet, Delivery):
            return None
        now = clock.boottime()
        if self._spool is None or now - self._spool[0] >= _SPOOL_LOOK:
            self._spool = now, dataclasses.asdict(self._outlet.spool_state)
        return self._spool[1]
