"""Pollster: a resource -> measurements. A plug-in is a subclass.

This module knows no member, window or sink.
"""

from __future__ import annotations

import abc
import asyncio
import threading
from collections.abc import Iterable

from hashring.telemetry.model.resource import Resource
from hashring.telemetry.model.sample import Measurement, Meter
from hashring.telemetry.model.settings import Settings

__all__ = ["AsyncPollster", "Pollster"]


class Pollster(abc.ABC):
    """Measures resources of some kinds. A plug-in is a subclass under the entry-point group
    ``hashring.pollsters``; it is made once an agent, before the first cycle.

    :meth:`poll` is called from several threads at once, for different resources.

    Args:
        settings: what the agent is told to do.

    Attributes:
        namespaces: which agents run it: ``"central"``, ``"compute"``, or both.
        kinds: the kinds of resources that it can measure.
        meters: every meter that it may tell, where they are known beforehand.
        prefix: what the names of all its meters begin with, where they are not: then ``meters``
            is empty. A source asks for such meters as ``PREFIX*`` or by name.
        default_discovery: the discovery, as a source would name it, whose resources it measures
            where a source names neither a discovery nor resources; empty: none.

    All of them may be attributes of the object instead, where one class serves several.
    """

    namespaces: frozenset[str] = frozenset({"central"})
    kinds: frozenset[str]
    meters: tuple[Meter, ...] = ()
    prefix: str = ""
    default_discovery: str = ""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @classmethod
    def make(cls, settings: Settings) -> Iterable[Pollster]:
        """Return the pollsters of this class: one, unless its number depends on the settings.

        Raises:
            HashringError: they cannot be made; the message says why and what to do.
        """
        return [cls(settings)]

    def observe(self) -> None:  # noqa: B027 - most pollsters need no reading of the whole
        """Read at once what serves many resources. Called once a cycle, before its polls."""

    def close(self) -> None:  # noqa: B027 - most pollsters hold nothing
        """Let go of connections. Called once, after the last poll."""

    @abc.abstractmethod
    def poll(self, resource: Resource) -> Iterable[Measurement]:
        """Measure a resource of one of :attr:`kinds`.

        Who measures much may return it as columns: a
        :class:`~hashring.telemetry.model.batch.Measured`.

        What takes long must have a timeout of its own (``settings.poll_timeout``): whatever is
        not back by then is given up, but its thread cannot be ended from outside.

        Raises:
            Gone: the resource is no longer there. Whatever else is raised is logged once per
                cause; either costs this resource's measurements alone.
        """


class AsyncPollster(Pollster):
    """A pollster whose polls wait without a thread each: all share one event loop of the agent.

    A subclass gives :meth:`measure` in place of :meth:`poll`. What computes for more than a few
    milliseconds belongs into ``asyncio.to_thread``, and what blocks into a :class:`Pollster`: it
    would hold up every other poll on the loop.

    A poll that is given up is cancelled: :meth:`measure` gets ``asyncio.CancelledError`` where it
    waits.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._running = threading.Lock()
        self._runner: asyncio.Runner | None = None

    @abc.abstractmethod
    async def measure(self, resource: Resource) -> Iterable[Measurement]:
        """Measure a resource: what :meth:`Pollster.poll` says of arguments and errors holds."""

    def poll(self, resource: Resource) -> Iterable[Measurement]:
        """Measure a resource, and wait for it: for whoever has no loop. An agent calls
        :meth:`measure`.
        """
        with self._running:
            if self._runner is None:
                self._runner = asyncio.Runner()
            return self._runner.run(self.measure(resource))

    def close(self) -> None:
        """Let go of connections. A subclass that has some closes them first, and then calls this.

        The agent's loop runs while it is called, in another thread.
        """
        with self._running:
            if self._runner is not None:
                self._runner.close()
                self._runner = None
