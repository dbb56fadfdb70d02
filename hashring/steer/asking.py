"""`Asking`: a request in the store, for as long as somebody waits for what comes of it.

It goes as a record of weight 0 under a lease of its own, so it needs nothing of a driver but what a
member needs. It is in no view, so it delays no hand-over. Whoever is killed while asking leaves it
behind for one ttl at most.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from hashring import clock
from hashring.driver import Driver
from hashring.errors import HashringError, LeaseLost
from hashring.observe.records import Records
from hashring.protocol.founding import Parameters
from hashring.protocol.freezing import Freeze
from hashring.protocol.record import Member
from hashring.protocol.request import Request
from hashring.ring.ring import HashRing

__all__ = ["PAUSE", "Asking", "own_driver", "parameters_of"]

PAUSE = 0.5
"""Seconds between two readings: so many times a second the store is asked, at most."""

_BEAT = 3.0
"""Heartbeats in a ttl."""


def own_driver(driver: Driver, ttl: float) -> Driver:
    """Return another driver for the same store, whose leases run for `ttl` seconds; not open."""
    return type(driver)(driver.url, ttl=ttl)


def parameters_of(records: Records, driver: Driver) -> Parameters:
    """Return a group's parameters; where no record can be read, the default ones."""
    return records.parameters or Parameters(HashRing({}).spec, driver.ttl, "exclusive")


class Asking:
    """Puts a request into a group, and reads what becomes of it, while the block runs.

    Args:
        driver: of the store: another one is made, with the group's ttl.
        group: the group's id.
        parameters: the group's.
        request: what is asked.
        freeze: what is said of the whole group.
    """

    def __init__(
        self,
        driver: Driver,
        group: str,
        parameters: Parameters,
        request: Request,
        freeze: Freeze | None = None,
    ) -> None:
        self._driver = own_driver(driver, parameters.ttl)
        self._group = group
        self._name = f"hashring-request:{request.id}"
        self._record = Member(
            id=self._name,
            incarnation=uuid.uuid4().hex,
            weight=0.0,
            ring=parameters.ring,
            ttl=parameters.ttl,
            handoff=parameters.handoff,
            draining=True,
            request=request,
            freeze=freeze,
        ).to_json()
        self._beaten = 0.0

    def __enter__(self) -> Self:
        self._driver.open()
        try:
            self._driver.join(self._group, self._name, self._record)
        except BaseException:
            self._driver.close()
            raise
        self._beaten = clock.boottime()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            # Should the store be away just now, the lease runs out by itself.
            with contextlib.suppress(HashringError):
                self._driver.leave(self._group, self._name)
        finally:
            self._driver.close()

    def readings(self, seconds: float, rest: Callable[[float], None]) -> Iterator[Records]:
        """Yield the group now, and again and again for so many seconds.

        Args:
            seconds: for which it is read.
            rest: sleeps for so many seconds.

        Raises:
            StoreUnavailable: the store did not answer.
        """
        deadline = clock.boottime() + seconds
        while True:
            began = clock.boottime()
            yield Records(self._driver.read(self._group))
            left = deadline - clock.boottime()
            if left <= 0:
                return
            self._keep()
            self._driver.wait(self._group, min(left, PAUSE))
            rest(max(0.0, min(deadline, began + PAUSE) - clock.boottime()))

    def _keep(self) -> None:
        now = clock.boottime()
        if now - self._beaten < self._driver.ttl / _BEAT:
            return
        try:
            self._driver.heartbeat()
        except LeaseLost:  # this process was paused, or the store forgot: ask anew
            self._driver.join(self._group, self._name, self._record)
        self._beaten = now
