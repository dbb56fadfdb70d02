"""Memcached for the tests."""

from __future__ import annotations

import contextlib
import ssl

import pymemcache

from tests.servers.certificates import Certificates
from tests.servers.process import LOOPBACK, Server, program


class MemcachedServer(Server):
    """A ``memcached``.

    Args:
        memory: megabytes for items.
        certificates: serve TLS, with these.
        login: a pair of user and password that clients must give.
        unix: listen on a unix socket alone.
        arguments: further command-line arguments.
    """

    def __init__(
        self,
        *arguments: str,
        memory: int = 64,
        certificates: Certificates | None = None,
        login: tuple[str, str] | None = None,
        unix: bool = False,
    ) -> None:
        super().__init__()
        self.socket = self.folder / "memcached.sock"
        self._unix = unix
        self._memory = memory
        self._certificates = certificates
        self._login = login
        self._arguments = arguments

    def command(self) -> list[str]:
        command = [program("memcached", "memcached")]
        # As root it would change to a user who cannot read our folder.
        command += ["-u", "root"]
        if self._unix:
            command += ["-s", str(self.socket)]
        else:
            command += ["-l", LOOPBACK, "-p", str(self.port), "-U", "0"]
        command += ["-m", str(self._memory), "-t", "2"]
        if self._certificates is not None:
            options = f"ssl_chain_cert={self._certificates.server}"
            options += f",ssl_key={self._certificates.server_key}"
            options += f",ssl_ca_cert={self._certificates.ca},ssl_verify_mode=2"
            command += ["-Z", "-o", options]
        if self._login is not None:
            logins = self.folder / "logins"
            logins.write_text(":".join(self._login) + "\n")
            command += ["-Y", str(logins)]
        return [*command, *self._arguments]

    @property
    def url(self) -> str:
        return f"memcached://{self.address}"

    def client(self) -> pymemcache.Client:
        """Return a client of the test's own."""
        context: ssl.SSLContext | None = None
        if self._certificates is not None:
            context = self._certificates.client_context()
        client = pymemcache.Client(
            str(self.socket) if self._unix else (LOOPBACK, self.port),
            connect_timeout=30,
            timeout=30,
            tls_context=context,
            no_delay=True,
            default_noreply=False,
        )
        if self._login is not None:
            client.set("login", " ".join(self._login))
        return client

    def ready(self) -> bool:
        with contextlib.suppress(OSError, pymemcache.MemcacheError):
            client = self.client()
            try:
                return bool(client.version())
            finally:
                client.close()
        return False

    def stats(self) -> dict[str, object]:
        client = self.client()
        try:
            return {name.decode(): value for name, value in client.stats().items()}
        finally:
            client.close()

    def flush(self, delay: int = 0) -> None:
        """Forget everything, as an operator's ``flush_all``, now or in so many seconds."""
        client = self.client()
        try:
            client.flush_all(delay)
        finally:
            client.close()
