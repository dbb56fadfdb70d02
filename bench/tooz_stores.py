"""For the benches of OpenStack services: the stores with a driver of tooz's own beside our backend,
and what services complained of.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator, Sequence

from tests.servers.memcached import MemcachedServer
from tests.servers.redis import RedisServer
from tests.servers.zookeeper import ZooKeeperServer
from tests.tooz.service import Services

SERVERS = {"redis": RedisServer, "memcached": MemcachedServer, "zookeeper": ZooKeeperServer}
BACKENDS = [f"{prefix}{name}" for name in SERVERS for prefix in ("", "hashring+")]


def backends_of(
    arguments: argparse.ArgumentParser,
    named: list[str],
    store: str | None,
    known: Sequence[str] = BACKENDS,
) -> list[str]:
    """Return the backends that a command line names, or those of its store; by default of Redis."""
    if unknown := [backend for backend in named if backend not in known]:
        arguments.error(f"no backend {unknown[0]!r}: one of {', '.join(known)}")
    if store is not None:
        return [*named, store, f"hashring+{store}"]
    return named or ["redis", "hashring+redis"]


@contextlib.contextmanager
def told(services: Services) -> Iterator[None]:
    """Print what services complain of in a ``with`` block, whatever becomes of them."""
    try:
        yield
    finally:
        if services.complaints:
            print(services.complaints, file=sys.stderr)
