"""Redis for the tests: one server, a primary with replicas and Sentinels, a cluster."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path
from typing import Self

import redis

from tests.servers.certificates import Certificates
from tests.servers.process import LOOPBACK, Server, free_port, program, wait_until


class RedisServer(Server):
    """A ``redis-server``.

    Args:
        persist: write every command to an append-only file before it is answered.
        options: configuration directives beside or instead of ours.
        certificates: serve TLS alone, with these.
    """

    def __init__(
        self,
        *,
        persist: bool = False,
        certificates: Certificates | None = None,
        **options: str,
    ) -> None:
        super().__init__()
        self.socket = self.folder / "redis.sock"
        self.certificates = certificates
        self.options = {
            "bind": LOOPBACK,
            "port": str(self.port),
            "unixsocket": str(self.socket),
            "dir": str(self.folder),
            "save": "",
            "daemonize": "no",
            "repl-diskless-sync-delay": "0",
        }
        if persist:
            self.options |= {"appendonly": "yes", "appendfsync": "always"}
        if certificates is not None:
            self.options |= {
                "port": "0",
                "tls-port": str(self.port),
                "tls-ca-cert-file": str(certificates.ca),
                "tls-cert-file": str(certificates.server),
                "tls-key-file": str(certificates.server_key),
                "tls-auth-clients": "yes",
            }
        self.options |= {name.replace("_", "-"): value for name, value in options.items()}

    def command(self) -> list[str]:
        command = [program("redis-server", "redis-server")]
        for name, value in self.options.items():
            command += [f"--{name}", value]
        return command

    @property
    def url(self) -> str:
        return f"redis://{self.address}"

    def client(self, **options: object) -> redis.Redis:
        """Return a client of the test's own, over the unix socket: no network fault touches it."""
        return redis.Redis(
            unix_socket_path=str(self.socket),
            password=self.options.get("requirepass"),
            decode_responses=True,
            protocol=2,
            **options,
        )

    def ready(self) -> bool:
        with self.client(socket_timeout=1) as client, contextlib.suppress(redis.RedisError):
            return bool(client.ping())
        return False


class SteppingRedisServer(RedisServer):
    """A ``redis-server`` whose wall clock steps on demand."""

    def command(self) -> list[str]:
        library = self.folder / "clock_step.so"
        if not library.exists():
            source = Path(__file__).with_name("clock_step.c")
            build = ["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"]
            subprocess.run(build, check=True)
            self.step_clock(0)
        preload = [f"LD_PRELOAD={library}", f"CLOCK_STEP_FILE={self._step}"]
        return ["env", *preload, *super().command()]

    @property
    def _step(self) -> Path:
        return self.folder / "clock-step"

    def step_clock(self, seconds: int) -> None:
        """Set how far the server's wall clock is from the true time."""
        new = self._step.with_suffix(".new")
        new.write_text(str(seconds))
        new.replace(self._step)


class SentinelServer(Server):
    """A ``redis-sentinel`` that watches one primary under the name ``group``."""

    MASTER = "group"

    def __init__(self, primary: RedisServer, *, quorum: int, down_after: float) -> None:
        super().__init__()
        self._primary = primary
        self._quorum = quorum
        self._down_after = int(down_after * 1000)

    def command(self) -> list[str]:
        config = self.folder / "sentinel.conf"
        if not config.exists():  # a Sentinel keeps its state there: a restart goes on from it
            config.write_text(
                f"bind {LOOPBACK}\n"
                f"port {self.port}\n"
                f"dir {self.folder}\n"
                f"sentinel monitor {self.MASTER} {LOOPBACK} {self._primary.port} {self._quorum}\n"
                f"sentinel down-after-milliseconds {self.MASTER} {self._down_after}\n"
                f"sentinel failover-timeout {self.MASTER} 3000\n"
            )
        return [program("redis-sentinel", "redis-sentinel"), str(config)]

    def client(self) -> redis.Redis:
        return redis.Redis(
            LOOPBACK, self.port, socket_timeout=10, decode_responses=True, protocol=2
        )

    def ready(self) -> bool:
        with self.client() as client, contextlib.suppress(redis.RedisError):
            return bool(client.ping())
        return False

    def state(self) -> dict[str, str]:
        """Return what this Sentinel says of the primary."""
        with self.client() as client:
            flat = client.execute_command("SENTINEL", "MASTER", self.MASTER)
        return flat if isinstance(flat, dict) else dict(zip(flat[::2], flat[1::2], strict=True))


class Replicated:
    """A primary, its replicas and three Sentinels.

    Args:
        replicas: how many.
        sentinels: how many.
        down_after: seconds of silence after which a Sentinel takes the primary for dead. A busy
            machine stands still for a second or two.
        options: of the servers.
    """

    def __init__(
        self, *, replicas: int = 1, sentinels: int = 3, down_after: float = 2.0, **options: str
    ) -> None:
        self.servers = [RedisServer(**options)]
        for _ in range(replicas):
            follow = f"{LOOPBACK} {self.servers[0].port}"
            self.servers.append(RedisServer(**options, replicaof=follow))
        quorum = sentinels // 2 + 1
        self.sentinels = [
            SentinelServer(self.servers[0], quorum=quorum, down_after=down_after)
            for _ in range(sentinels)
        ]

    @property
    def url(self) -> str:
        hosts = ",".join(sentinel.address for sentinel in self.sentinels)
        return f"redis://{hosts}?sentinel={SentinelServer.MASTER}"

    @property
    def primary(self) -> RedisServer:
        """The server that most Sentinels call the primary."""
        told = [sentinel.state()["port"] for sentinel in self.sentinels if sentinel.running]
        port = int(max(told, key=told.count))
        return next(server for server in self.servers if server.port == port)

    def settled(self) -> bool:
        """Return whether the primary has its replicas and every Sentinel sees them and the rest."""
        try:
            states = [sentinel.state() for sentinel in self.sentinels]
            with self.primary.client() as client:
                online = sum(
                    1
                    for name, value in client.info("replication").items()
                    if name.startswith("slave") and isinstance(value, dict)
                    if value["state"] == "online"
                )
        except (redis.RedisError, KeyError):
            return False
        return online == len(self.servers) - 1 and all(
            state["flags"] == "master"
            and int(state["num-slaves"]) == len(self.servers) - 1
            and int(state["num-other-sentinels"]) == len(self.sentinels) - 1
            for state in states
        )

    def __enter__(self) -> Self:
        self._stack = contextlib.ExitStack()
        with contextlib.ExitStack() as stack:
            for server in (*self.servers, *self.sentinels):
                stack.enter_context(server)
            wait_until(self.settled, within=60, what="the Sentinels' view of the primary")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


class Cluster:
    """A Redis Cluster of three primaries, each with one replica."""

    PRIMARIES = 3
    SLOTS = 16384

    def __init__(self, *, node_timeout: float = 2.0) -> None:
        self.servers = [
            RedisServer(
                cluster_enabled="yes",
                cluster_node_timeout=str(int(node_timeout * 1000)),
                cluster_port=str(free_port()),  # not port + 10000: that may be taken
            )
            for _ in range(2 * self.PRIMARIES)
        ]

    @property
    def url(self) -> str:
        hosts = ",".join(server.address for server in self.servers)
        return f"redis+cluster://{hosts}"

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            for server in self.servers:
                stack.enter_context(server)
            self._form()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _form(self) -> None:
        primaries = self.servers[: self.PRIMARIES]
        size = -(-self.SLOTS // self.PRIMARIES)
        for number, server in enumerate(primaries):
            last = min((number + 1) * size, self.SLOTS) - 1
            with server.client() as client:
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", number * size, last)
        first = self.servers[0]
        for server in self.servers[1:]:
            with server.client() as client:
                bus = first.options["cluster-port"]
                client.execute_command("CLUSTER", "MEET", LOOPBACK, first.port, bus)
        wait_until(lambda: all(self._known(s) == len(self.servers) for s in self.servers))
        for server, primary in zip(self.servers[self.PRIMARIES :], primaries, strict=True):
            with primary.client() as client:
                identity = client.execute_command("CLUSTER", "MYID")
            with server.client() as client:
                client.execute_command("CLUSTER", "REPLICATE", identity)
        wait_until(self.settled, within=60, what="the cluster's state")

    @staticmethod
    def _known(server: RedisServer) -> int:
        with server.client() as client:
            text = client.execute_command("CLUSTER", "NODES")
            return len(text) if isinstance(text, dict) else len(str(text).splitlines())

    def owner(self, slot: int) -> RedisServer:
        """Return the server that serves a slot, as the cluster says."""
        found: list[RedisServer] = []

        def known() -> bool:
            for server in self.servers:
                if not server.running:
                    continue
                # One that is paused says nothing, and on a busy machine one that runs is late.
                asking = server.client(socket_timeout=1)
                with asking as client, contextlib.suppress(redis.RedisError):
                    for first, last, node, *_ in self._slots(client):
                        if first <= slot <= last:
                            found.extend(s for s in self.servers if s.port == node[1])
                            return True
            return False

        wait_until(known, what=f"a server for the slot {slot}")
        return found[-1]

    @staticmethod
    def _slots(client: redis.Redis) -> list[list]:
        # No response callback of the library's: its form differs from version to version.
        client.set_response_callback("CLUSTER SLOTS", lambda reply, **_: reply)
        return client.execute_command("CLUSTER SLOTS")

    def settled(self) -> bool:
        """Return whether every node sees the whole cluster in order, replicas included."""
        for server in self.servers:
            with server.client() as client:
                info = client.execute_command("CLUSTER", "INFO")
                if "cluster_state:ok" not in str(info) and not (
                    isinstance(info, dict) and info.get("cluster_state") == "ok"
                ):
                    return False
                ranges = self._slots(client)
                if len(ranges) != self.PRIMARIES or any(len(found) != 4 for found in ranges):
                    return False
        return True
