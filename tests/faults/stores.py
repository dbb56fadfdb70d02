"""Our stores as the harness wants them, each on a real server."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from hashring.testing.faults import Fault, ServerStore, SQLiteStore, Store
from tests.servers.memcached import MemcachedServer
from tests.servers.redis import RedisServer
from tests.servers.zookeeper import ZooKeeperServer

TIMEOUTS = "timeout=1&connect_timeout=1"


class RedisStore(ServerStore):
    """A Redis that forgets everything when it is restarted, or nothing at all."""

    def __init__(self, *, persist: bool = False) -> None:
        name = "redis, persistent" if persist else "redis"
        super().__init__(name, RedisServer(persist=persist), f"redis://{{address}}?{TIMEOUTS}")


class MemcachedStore(ServerStore):
    """A Memcached, which can also be flushed, and be driven to evict."""

    server: MemcachedServer

    def __init__(self) -> None:
        # As little memory as it takes: a few megabytes of a stranger's items drive ours out.
        server = MemcachedServer(memory=8)
        super().__init__("memcached", server, f"memcached://{{address}}?{TIMEOUTS}")

    def faults(self) -> Mapping[str, Fault]:
        return {
            **super().faults(),
            "store flushed": Fault(self.server.flush),
            "store evicting": Fault(self._crowd),
        }

    def _crowd(self) -> None:
        """Store a stranger's items of all sizes, more than fits."""
        client = self.server.client()
        try:
            for number in range(3000):
                size = (100, 1_000, 5_000, 10_000)[number % 4]
                client.set(f"stranger-{number}", b"x" * size, noreply=True)
        finally:
            client.close()


class ZooKeeperStore(ServerStore):
    """One ZooKeeper server, which keeps what it confirmed."""

    def __init__(self) -> None:
        super().__init__("zookeeper", ZooKeeperServer(), f"zookeeper://{{address}}?{TIMEOUTS}")


STORES: Mapping[str, Callable[[], Store]] = {
    "sqlite": SQLiteStore,
    "redis": RedisStore,
    "redis-persistent": lambda: RedisStore(persist=True),
    "memcached": MemcachedStore,
    "zookeeper": ZooKeeperStore,
}
"""What ``make faults STORE=...`` can name."""
