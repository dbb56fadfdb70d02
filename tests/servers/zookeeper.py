"""ZooKeeper for the tests: one server, or an ensemble of three."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from filelock import FileLock
from kazoo.client import KazooClient

from tests.servers.certificates import Certificates
from tests.servers.process import LOOPBACK, Server, free_port, program, wait_until

_INSTALL = Path(__file__).with_name("install.sh")

_DAY = 86400
"""Seconds for which parsed classes are kept: systems clear away what lies in /tmp for longer."""

_JAVA = ["-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]  # starts in half the time
_JARS = (
    "/usr/share/java/zookeeper.jar",
    "/usr/share/java/slf4j-simple.jar",
    # What Netty needs for TLS, and Debian's zookeeper.jar forgets to name.
    "/usr/share/java/netty-codec.jar",
    "/usr/share/java/netty-resolver.jar",
    "/usr/share/java/netty-transport-native-unix-common.jar",
)


def _classpath() -> str:
    if not Path(_JARS[0]).exists():
        done = subprocess.run(
            [str(_INSTALL), "zookeeper"], capture_output=True, text=True, timeout=280, check=False
        )
        assert done.returncode == 0, f"zookeeper was not installed:\n{done.stdout}{done.stderr}"
    return ":".join(_JARS)


@functools.cache
def _classes() -> list[str]:
    """Return the options by which Java maps classes that were parsed once.

    A server then starts in two thirds of the processor time. Whatever is wrong with the file, Java
    parses the classes anew.
    """
    java = program("java", "default-jre-headless")
    kept = Path(tempfile.gettempdir()) / f"hashring-tests-{os.getuid()}-zookeeper.jsa"
    jars = [Path(jar).stat().st_mtime for jar in (*_JARS, Path(java).resolve())]
    with FileLock(f"{kept}.lock"):
        if not kept.exists() or kept.stat().st_mtime < max(*jars, time.time() - _DAY):
            with tempfile.TemporaryDirectory() as folder:
                made = Path(folder) / "classes"
                server = ZooKeeperServer(classes=[f"-XX:ArchiveClassesAtExit={made}"])
                with server:
                    server.stop()
                if made.exists():
                    shutil.move(made, kept)
    return [f"-XX:SharedArchiveFile={kept}"] if kept.exists() else []


def _pkcs8(key: Path) -> bytes:
    """Return a private key in the one form that ZooKeeper reads."""
    return load_pem_private_key(key.read_bytes(), password=None).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )


class ZooKeeperServer(Server):
    """A ZooKeeper server.

    Args:
        tick: milliseconds; sessions expire at multiples of it.
        min_session: the shortest session in milliseconds that the server grants.
        max_session: the longest one.
        certificates: serve TLS on :attr:`secure_port`, beside the plain port.
        sasl: users and passwords that may log in by DIGEST-MD5.
        options: further lines of the configuration.
        properties: further Java system properties.
        classes: options of Java about where its classes come from.
    """

    def __init__(
        self,
        *,
        tick: int = 200,
        min_session: int = 400,
        max_session: int = 60_000,
        certificates: Certificates | None = None,
        sasl: dict[str, str] | None = None,
        options: dict[str, str] | None = None,
        properties: dict[str, str] | None = None,
        classes: list[str] | None = None,
    ) -> None:
        super().__init__()
        self._classes = classes
        self.secure_port = free_port() if certificates is not None else 0
        self.options = {
            "tickTime": str(tick),
            "minSessionTimeout": str(min_session),
            "maxSessionTimeout": str(max_session),
            "initLimit": str(5000 // tick),  # an election that stalls is tried again after 5 s
            "syncLimit": str(3000 // tick),
            "dataDir": str(self.folder / "data"),
            "clientPort": str(self.port),
            "clientPortAddress": LOOPBACK,
            "admin.enableServer": "false",
            "maxClientCnxns": "0",
            "standaloneEnabled": "true",
            "4lw.commands.whitelist": "srvr,mntr,cons,dump",
        }
        # The tests kill processes, not machines: what the kernel has is safe, and fast.
        self.properties = {
            "zookeeper.forceSync": "no",
            "zookeeper.preAllocSize": "1024",
            "org.slf4j.simpleLogger.defaultLogLevel": "info",
        }
        if certificates is not None:
            both = self.folder / "server.pem"
            both.write_bytes(_pkcs8(certificates.server_key) + certificates.server.read_bytes())
            self.options |= {
                "serverCnxnFactory": "org.apache.zookeeper.server.NettyServerCnxnFactory",
                "secureClientPort": str(self.secure_port),
                "secureClientPortAddress": LOOPBACK,
                "ssl.keyStore.location": str(both),
                "ssl.keyStore.type": "PEM",
                "ssl.trustStore.location": str(certificates.ca),
                "ssl.trustStore.type": "PEM",
                "ssl.clientAuth": "need",
            }
        if sasl is not None:
            users = " ".join(f'user_{user}="{password}"' for user, password in sasl.items())
            jaas = self.folder / "jaas.conf"
            login = "org.apache.zookeeper.server.auth.DigestLoginModule"
            jaas.write_text(f"Server {{ {login} required {users}; }};\n")
            self.properties["java.security.auth.login.config"] = str(jaas)
            self.options["authProvider.sasl"] = (
                "org.apache.zookeeper.server.auth.SASLAuthenticationProvider"
            )
        self.options |= options or {}
        self.properties |= properties or {}
        (self.folder / "data").mkdir()

    def command(self) -> list[str]:
        config = self.folder / "zoo.cfg"
        config.write_text("".join(f"{name}={value}\n" for name, value in self.options.items()))
        return [
            program("java", "default-jre-headless"),
            *_JAVA,
            *(_classes() if self._classes is None else self._classes),
            *(f"-D{name}={value}" for name, value in self.properties.items()),
            "-cp",
            _classpath(),
            "org.apache.zookeeper.server.quorum.QuorumPeerMain",
            str(config),
        ]

    @property
    def url(self) -> str:
        return f"zookeeper://{self.address}"

    def ask(self, word: str) -> str:
        """Return the answer to one of ZooKeeper's four-letter words; empty without one."""
        answer = b""
        with (
            contextlib.suppress(OSError),
            socket.create_connection((LOOPBACK, self.port), timeout=5) as connection,
        ):
            connection.sendall(word.encode())
            while chunk := connection.recv(1 << 16):
                answer += chunk
        return answer.decode(errors="replace")

    @property
    def mode(self) -> str:
        """``leader``, ``follower``, ``standalone``, or empty while the server serves nobody."""
        for line in self.ask("srvr").splitlines():
            if line.startswith("Mode: "):
                return line.removeprefix("Mode: ")
        return ""

    def ready(self) -> bool:
        return bool(self.mode)

    def keep_copy(self) -> None:
        """Copy the data while the server runs, as a nightly backup does."""
        self.drop_copy()
        shutil.copytree(self.folder / "data", self._copy)

    def drop_copy(self) -> None:
        """Have no copy: the server can only be rebuilt from nothing."""
        shutil.rmtree(self._copy, ignore_errors=True)

    def put_copy_back(self) -> None:
        """Replace the data of a server that does not run: by the copy, or by nothing.

        A member of an ensemble keeps its number.
        """
        data = self.folder / "data"
        shutil.rmtree(data / "version-2", ignore_errors=True)
        if (self._copy / "version-2").exists():
            shutil.copytree(self._copy / "version-2", data / "version-2")

    def go_back_in_time(self) -> None:
        """Restore the copy, or rebuild the server from nothing if no copy was made."""
        self.kill()
        self.put_copy_back()
        self.start()

    @property
    def _copy(self) -> Path:
        return self.folder / "copy"


@contextlib.contextmanager
def kazoo(server: ZooKeeperServer, **options: object) -> Iterator[KazooClient]:
    """Yield a client of the test's own: kazoo's, whose code the driver does not use."""
    client = KazooClient(server.address, **options)
    client.start(timeout=60)
    try:
        yield client
    finally:
        client.stop()
        client.close()


class Ensemble:
    """Three ZooKeeper servers."""

    def __init__(self, *, tick: int = 200, **arguments: object) -> None:
        self.servers = [ZooKeeperServer(tick=tick, **arguments) for _ in range(3)]
        quorum = {
            f"server.{index}": f"{LOOPBACK}:{free_port()}:{free_port()}" for index in (1, 2, 3)
        }
        for index, server in enumerate(self.servers, start=1):
            server.options |= quorum
            (server.folder / "data" / "myid").write_text(str(index))

    @property
    def url(self) -> str:
        return f"zookeeper://{','.join(server.address for server in self.servers)}"

    @property
    def leader(self) -> ZooKeeperServer:
        """Return the server that leads; wait while no server leads."""
        return self._one("leader")

    @property
    def follower(self) -> ZooKeeperServer:
        """Return one that follows."""
        return self._one("follower")

    def _one(self, mode: str) -> ZooKeeperServer:
        found: list[ZooKeeperServer] = []
        wait_until(
            lambda: found.extend(s for s in self.servers if s.running and s.mode == mode) or found,
            what=f"a {mode}",
        )
        return found[0]

    def keep_copy(self) -> None:
        """Copy the data of all servers."""
        for server in self.servers:
            server.keep_copy()

    def go_back_in_time(self) -> None:
        """Restore all servers from their copies, or rebuild them from nothing if there are none."""
        for server in self.servers:
            server.kill()
        for server in self.servers:
            server.put_copy_back()
        self._start()

    def _start(self) -> None:
        for server in self.servers:
            server.launch()
        for server in self.servers:
            server.wait_ready(within=60)

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for server in self.servers:
            server.__exit__(kind, error, trace)
