"""Our stores as the harness wants them, each on a real server."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import redis

from hashring.testing.faults.faults import Fault, ServerStore, SQLiteStore, Store
from tests.servers.etcd import EtcdCluster, EtcdServer
from tests.servers.memcached import MemcachedServer
from tests.servers.postgresql import Pair, PostgreSQLServer
from tests.servers.process import wait_until
from tests.servers.redis import RedisServer, Replicated, SentinelServer
from tests.servers.zookeeper import Ensemble, ZooKeeperServer

TIMEOUTS = "timeout=1&connect_timeout=1"


class RedisStore(ServerStore):
    """A Redis that forgets everything when it is restarted, or nothing at all."""

    server: RedisServer

    def __init__(self, *, persist: bool = False) -> None:
        name = "redis, persistent" if persist else "redis"
        super().__init__(name, RedisServer(persist=persist), f"redis://{{address}}?{TIMEOUTS}")
        self._copy: dict[bytes, bytes] = {}

    def keep_copy(self) -> None:
        """Note all keys, as they are now."""
        with redis.Redis(unix_socket_path=str(self.server.socket)) as client:
            copies = ((key, client.dump(key)) for key in client.keys("*"))
            self._copy = {key: copy for key, copy in copies if copy is not None}

    def go_back_in_time(self) -> None:
        """Put the older copy back, under the server that runs on; half a second, if none is kept.

        In one transaction, as where a whole database is swapped or loaded.
        """
        if not self._copy:
            self.keep_copy()
            time.sleep(0.5)
        with (
            redis.Redis(unix_socket_path=str(self.server.socket)) as client,
            client.pipeline(transaction=True) as together,
        ):
            together.flushdb()
            for key, copy in self._copy.items():
                together.restore(key, 0, copy)
            together.execute()
        self._copy = {}


class SQLiteFileStore(SQLiteStore):
    """The embedded store, which can also be replaced by an older copy of its file."""

    _copied = False

    @property
    def _older(self) -> Path:
        return self.path.with_name("older-copy.db")

    def keep_copy(self) -> None:
        """Copy what the file has now."""
        self._older.unlink(missing_ok=True)
        with contextlib.closing(sqlite3.connect(self.path, timeout=5.0)) as source:
            source.execute("VACUUM INTO ?", (str(self._older),))
        self._copied = True

    def go_back_in_time(self) -> None:
        """Put the older copy in the file's place, by rename; half a second, if none is kept."""
        if not self._copied:
            self.keep_copy()
            time.sleep(0.5)
        self._older.replace(self.path)
        self._copied = False


class MemcachedStore(ServerStore):
    """A Memcached, which can also be flushed, and be driven to evict."""

    server: MemcachedServer
    memory_lateness = 4.0  # its seconds are whole, and a new list is stamped with a later one

    def __init__(self) -> None:
        # As little memory as it takes: a few megabytes of a stranger's items drive ours out.
        server = MemcachedServer(memory=8)
        super().__init__("memcached", server, f"memcached://{{address}}?{TIMEOUTS}")

    def faults(self) -> Mapping[str, Fault]:
        return {
            **super().faults(),
            "store paused": Fault(self.server.pause, self._resume, (0.5, 6.0)),
            "store flushed": Fault(self.server.flush),
            "store flushed later": Fault(lambda: self.server.flush(2), self._wait_flushed),
            "store evicting": Fault(self._crowd),
        }

    def go_back_in_time(self) -> None:
        """Come up empty, and be emptied again: a cache has no older copy but the empty one."""
        self.restart()
        self.server.flush()
        self.server.flush()

    def _wait_flushed(self) -> None:
        """Wait for the flush that was ordered: the server tells the time in whole seconds."""
        began = int(str(self.server.stats()["uptime"]))
        wait_until(lambda: int(str(self.server.stats()["uptime"])) >= began + 4)

    def _resume(self) -> None:
        """Let the server run on, until a few of its own seconds have passed.

        It tells the time in whole seconds and learns of the pause at the next one. Then keys expire
        all at once, and the group stands still for a ttl and these few seconds.
        """
        self.server.resume()
        began = int(str(self.server.stats()["uptime"]))
        wait_until(lambda: int(str(self.server.stats()["uptime"])) >= began + 3)

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

    server: ZooKeeperServer

    def __init__(self) -> None:
        super().__init__("zookeeper", ZooKeeperServer(), f"zookeeper://{{address}}?{TIMEOUTS}")

    def faults(self) -> Mapping[str, Fault]:
        return {**super().faults(), "store rebuilt": Fault(self._rebuild)}

    def keep_copy(self) -> None:
        self.server.keep_copy()

    def go_back_in_time(self) -> None:
        self.server.go_back_in_time()

    def _rebuild(self) -> None:
        self.server.drop_copy()
        self.server.go_back_in_time()


class SentinelStore(Store):
    """A primary Redis, a replica, and three Sentinels that fail over. No proxy: it has no one port.

    A fault is over only when the Sentinels see a primary and its replica again: they take ten
    seconds to tell a server that comes back whose replica it is now, and until then nobody can know
    that it is not the primary.
    """

    name = "redis with sentinels"

    def __init__(self) -> None:
        self._servers = Replicated(down_after=0.6)
        self._broken: RedisServer | None = None

    @property
    def url(self) -> str:
        return f"{self._servers.url}&{TIMEOUTS}"

    def start(self) -> None:
        self._servers.__enter__()

    def stop(self) -> None:
        self._servers.__exit__(None, None, None)

    def faults(self) -> Mapping[str, Fault]:
        return {
            # Half a second after the primary falls silent the Sentinels begin to elect another.
            "primary killed": Fault(self._kill, self._start, (2.0, 6.0)),
            "primary paused": Fault(self._pause, self._resume, (2.0, 6.0)),
            "failover ordered": Fault(self._order, self._wait_whole),
        }

    def _wait_whole(self) -> None:
        wait_until(self._servers.settled, within=60, what="the Sentinels' view of the primary")

    def _kill(self) -> None:
        self._broken = self._servers.primary
        self._broken.kill()

    def _start(self) -> None:
        assert self._broken is not None
        self._broken.start()
        self._wait_whole()

    def _pause(self) -> None:
        self._broken = self._servers.primary
        self._broken.pause()

    def _resume(self) -> None:
        assert self._broken is not None
        self._broken.resume()
        self._wait_whole()

    def _order(self) -> None:
        before = self._servers.primary
        with self._servers.sentinels[0].client() as client:
            client.execute_command("SENTINEL", "FAILOVER", SentinelServer.MASTER)
        wait_until(lambda: self._servers.primary is not before, within=60, what="another primary")


class EnsembleStore(Store):
    """Three ZooKeeper servers."""

    name = "zookeeper ensemble"

    def __init__(self) -> None:
        self._ensemble = Ensemble()
        self._broken: list[ZooKeeperServer] = []

    @property
    def url(self) -> str:
        return f"{self._ensemble.url}?{TIMEOUTS}"

    def start(self) -> None:
        self._ensemble.__enter__()

    def stop(self) -> None:
        self._ensemble.__exit__(None, None, None)

    def faults(self) -> Mapping[str, Fault]:
        return {
            "leader killed": Fault(lambda: self._kill("leader"), self._start, (1.0, 5.0)),
            "follower killed": Fault(lambda: self._kill("follower"), self._start, (1.0, 5.0)),
            "leader paused": Fault(lambda: self._pause(1), self._resume, (1.0, 5.0)),
            "no quorum": Fault(lambda: self._pause(2), self._resume, (0.5, 5.0)),
            **self.back_in_time(),
        }

    def keep_copy(self) -> None:
        self._ensemble.keep_copy()

    def go_back_in_time(self) -> None:
        self._ensemble.go_back_in_time()

    def _kill(self, which: str) -> None:
        self._broken = [getattr(self._ensemble, which)]
        for server in self._broken:
            server.kill()

    def _start(self) -> None:
        for server in self._broken:
            server.start(within=60)

    def _pause(self, count: int) -> None:
        leader = self._ensemble.leader
        others = [server for server in self._ensemble.servers if server is not leader]
        self._broken = [leader, *others][:count]
        for server in self._broken:
            server.pause()

    def _resume(self) -> None:
        for server in self._broken:
            server.resume()


class PostgreSQLStore(ServerStore):
    """One PostgreSQL, of which a backup can be restored, and a copy of the table alone."""

    server: PostgreSQLServer

    def __init__(self) -> None:
        server = PostgreSQLServer()
        path = server.url.replace(server.address, "{address}")
        super().__init__("postgresql", server, f"{path}?{TIMEOUTS}")

    def faults(self) -> Mapping[str, Fault]:
        return {
            **super().faults(),
            "table copied": Fault(self._copy_table, self._restore_table, (0.5, 6.0)),
            "table emptied": Fault(lambda: self._run("TRUNCATE hashring")),
        }

    def keep_copy(self) -> None:
        self.server.keep_copy()

    def go_back_in_time(self) -> None:
        self.server.go_back_in_time()

    def _run(self, statement: str) -> None:
        self.server.run(statement)

    def _copy_table(self) -> None:
        self._run("DROP TABLE IF EXISTS older_copy")
        self._run("CREATE TABLE older_copy AS TABLE hashring")

    def _restore_table(self) -> None:
        """Put the older rows back under the server that runs on, in one transaction."""
        self._run(
            "DO $$ BEGIN DELETE FROM hashring;"
            " INSERT INTO hashring SELECT * FROM older_copy; END $$"
        )


class PairStore(Store):
    """A primary and a standby, as whoever fails over by hand has them. No proxy: two ports."""

    name = "postgresql with a standby"

    def __init__(self) -> None:
        self._pair = Pair()

    @property
    def url(self) -> str:
        return f"{self._pair.url}?{TIMEOUTS}"

    def start(self) -> None:
        self._pair.__enter__()

    def stop(self) -> None:
        self._pair.__exit__()

    def faults(self) -> Mapping[str, Fault]:
        return {
            "standby promoted": Fault(self._fail_over, self._pair.repair, (0.5, 3.0)),
            "lagging standby promoted": Fault(self._pair_lags, self._promote_late, (0.5, 3.0)),
            "primary killed": Fault(self._kill, self._start, (0.5, 4.0)),
            "primary paused": Fault(self._pause, self._resume, (0.5, 4.0)),
        }

    def _fail_over(self) -> None:
        self._pair.fail_over()

    def _pair_lags(self) -> None:
        self._pair.standby.stop()

    def _promote_late(self) -> None:
        self._pair.fail_over(lagging=True)
        self._pair.repair()

    def _kill(self) -> None:
        self._pair.primary.kill()

    def _start(self) -> None:
        self._pair.primary.start()

    def _pause(self) -> None:
        self._pair.primary.pause()

    def _resume(self) -> None:
        self._pair.primary.resume()


class EtcdStore(ServerStore):
    """One etcd, of whose data an older copy can be put back, or none."""

    server: EtcdServer

    def __init__(self) -> None:
        super().__init__("etcd", EtcdServer(), f"etcd://{{address}}?{TIMEOUTS}")

    def faults(self) -> Mapping[str, Fault]:
        rebuild = Fault(lambda: self.server.go_back_in_time(to_nothing=True))
        return {**super().faults(), "store rebuilt": rebuild}

    def keep_copy(self) -> None:
        self.server.keep_copy()

    def go_back_in_time(self) -> None:
        self.server.go_back_in_time()


class EtcdClusterStore(Store):
    """Three etcd servers. No proxy: it has no one port."""

    name = "etcd cluster"

    def __init__(self) -> None:
        self._cluster = EtcdCluster()
        self._broken: list[EtcdServer] = []

    @property
    def url(self) -> str:
        return f"{self._cluster.url}?{TIMEOUTS}"

    def start(self) -> None:
        self._cluster.__enter__()

    def stop(self) -> None:
        self._cluster.__exit__()

    def faults(self) -> Mapping[str, Fault]:
        return {
            "leader killed": Fault(self._kill_leader, self._start, (1.0, 5.0)),
            "leader paused": Fault(lambda: self._pause(1), self._resume, (1.0, 5.0)),
            "no quorum": Fault(lambda: self._pause(2), self._resume, (0.5, 5.0)),
        }

    def _kill_leader(self) -> None:
        self._broken = [self._cluster.leader]
        self._broken[0].kill()

    def _start(self) -> None:
        for server in self._broken:
            server.start()

    def _pause(self, count: int) -> None:
        leader = self._cluster.leader
        others = [server for server in self._cluster.servers if server is not leader]
        self._broken = [leader, *others][:count]
        for server in self._broken:
            server.pause()

    def _resume(self) -> None:
        for server in self._broken:
            server.resume()


STORES: Mapping[str, Callable[[], Store]] = {
    "sqlite": SQLiteFileStore,
    "redis": RedisStore,
    "redis-persistent": lambda: RedisStore(persist=True),
    "memcached": MemcachedStore,
    "redis-sentinel": SentinelStore,
    "zookeeper": ZooKeeperStore,
    "zookeeper-ensemble": EnsembleStore,
    "postgresql": PostgreSQLStore,
    "postgresql-standby": PairStore,
    "etcd": EtcdStore,
    "etcd-cluster": EtcdClusterStore,
}
"""What ``make faults STORE=...`` can name."""
