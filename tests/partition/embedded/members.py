"""What tests of members on embedded stores share: keys, patience, a network that can be cut."""

import time

from hashring.driver import DriverURL
from hashring.drivers.memory import MemoryDriver
from hashring.errors import StoreUnavailable

KEYS = [f"resource-{number}" for number in range(500)]


ALL = 65536  # slots


TTL = 10.0
"""Seconds: longer than a busy machine stands still. A test of the fence has a lease of its own."""


PATIENCE = 60.0  # seconds


def until(condition, seconds=PATIENCE):
    """Wait for a condition; say which one never came."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.005)
    raise AssertionError(f"not within {seconds} s: {condition}")


class Flaky(MemoryDriver):
    """The memory store behind a network that can be cut."""

    def __init__(self, url, *, ttl):
        super().__init__(url, ttl=ttl)
        self.down = False

    def _reach(self):
        if self.down:
            raise StoreUnavailable("cut by the test")

    def heartbeat(self):
        self._reach()
        super().heartbeat()

    def read(self, group):
        self._reach()
        return super().read(group)

    def publish(self, group, member, record):
        self._reach()
        super().publish(group, member, record)

    def join(self, group, member, record):
        self._reach()
        super().join(group, member, record)

    def wait(self, group, timeout):
        self._reach()
        super().wait(group, timeout)


def settled(*partitions):
    for partition in partitions:
        assert partition.wait_settled(PATIENCE), partition


def flaky(url, ttl):
    return Flaky(DriverURL.parse(url), ttl=ttl)
