"""What the tests of the conformance suite stand on: settings, fixtures and waiting.

A driver's author sees all of it as part of :class:`hashring.testing.DriverSuite`.
"""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest

from hashring.driver import Driver, load

__all__ = ["SuiteBase", "record"]


def record(incarnation: str, /, **fields: Any) -> bytes:
    """Return a record of the form that members publish.

    >>> record("c0ffee", applied=None)
    b'{"incarnation": "c0ffee", "applied": null}'
    """
    return json.dumps({"incarnation": incarnation, **fields}).encode()


class SuiteBase:
    """Settings, hooks and fixtures; see :class:`hashring.testing.DriverSuite` for their meaning."""

    ttl: ClassVar[float] = 2.0
    lateness: ClassVar[float] = 0.25
    long_ttl: ClassVar[float] = 30.0
    patience: ClassVar[float] = 30.0
    crowd: ClassVar[int] = 100
    wakes: ClassVar[bool] = True

    def stop_server(self) -> None:
        """Make the store unreachable; the default store has no server to stop."""
        raise NotImplementedError

    def start_server(self) -> None:
        """Bring back what :meth:`stop_server` stopped, on the same address."""
        raise NotImplementedError

    def pause_server(self) -> None:
        """Freeze the store: its connections stay open, it takes new ones, and nothing answers."""
        raise NotImplementedError(
            f"{type(self).__name__} has stop_server(), so it needs pause_server() and "
            "resume_server() as well: send SIGSTOP and SIGCONT to every process of the server"
        )

    def resume_server(self) -> None:
        """Let what :meth:`pause_server` froze run on."""
        raise NotImplementedError(
            f"{type(self).__name__} has pause_server(), so it needs resume_server() as well"
        )

    # -- what the tests stand on

    @pytest.fixture
    def url(self) -> str:
        """The URL of a store that runs; a subclass gives it."""
        raise NotImplementedError(f"{type(self).__name__} must have a fixture named url")

    @pytest.fixture
    def group(self) -> str:
        """A group that no other test uses."""
        return f"suite-{uuid.uuid4().hex}"

    @pytest.fixture
    def driver(self, url: str) -> Iterator[Callable[..., Driver]]:
        """A function that makes an open driver; all are closed in the end.

        Its leases run for ``long_ttl``, or for the ttl that it is given.
        """
        with contextlib.ExitStack() as closing:

            def make(ttl: float | None = None) -> Driver:
                made = load(url, ttl=self.long_ttl if ttl is None else ttl)
                closing.callback(made.close)
                made.open()
                return made

            yield make

    def eventually(self, what: str, condition: Callable[[], object]) -> None:
        """Return once a condition is true, or fail after ``patience``."""
        deadline = time.monotonic() + self.patience
        while not condition():
            assert time.monotonic() < deadline, f"not within {self.patience} s: {what}"
            time.sleep(0.01)

    def until_gone(self, driver: Driver, group: str, *members: str) -> float:
        """Wait until none of the members is read any more; return the time at which it was so."""
        self.eventually(
            f"the leases of {members} run out",
            lambda: not driver.read(group).records.keys() & set(members),
        )
        return time.monotonic()

    def until_it_fails(self, act: Callable[[], object]) -> None:
        """Repeat what may still succeed in the moment after a server's end, until it raises."""
        deadline = time.monotonic() + self.patience
        while time.monotonic() < deadline:
            act()
