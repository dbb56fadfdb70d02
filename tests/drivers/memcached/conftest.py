"""What the tests of the Memcached driver share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.drivers.opening import Opened, opening
from tests.servers.memcached import MemcachedServer

TTL = 20.0
"""Seconds of a lease: longer than a busy machine stands still."""


@pytest.fixture
def opened() -> Iterator[Opened]:
    """A function that opens a driver on a URL; all are closed in the end."""
    with opening(TTL, timeout=6.0) as opened:
        yield opened


@pytest.fixture
def server() -> Iterator[MemcachedServer]:
    with MemcachedServer() as running:
        yield running
