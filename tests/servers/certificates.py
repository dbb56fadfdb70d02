"""Certificates for the tests' TLS servers: an authority, a server's and a client's."""

from __future__ import annotations

import ssl
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

import trustme

from tests.servers.process import LOOPBACK


class Certificates:
    """A certificate authority made for one test, with its files in a folder of their own.

    Args:
        name: the name in the server's certificate; clients that connect to the loopback address
            find that another one does not match.
    """

    def __init__(self, name: str = LOOPBACK) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="certificates-")
        folder = Path(self._folder.name)
        authority = trustme.CA()
        self.ca = folder / "ca.pem"
        authority.cert_pem.write_to_path(str(self.ca))
        self.server, self.server_key = self._issue(authority, name, folder, "server")
        self.client, self.client_key = self._issue(authority, "agent.example", folder, "client")

    @staticmethod
    def _issue(authority: trustme.CA, name: str, folder: Path, who: str) -> tuple[Path, Path]:
        issued = authority.issue_cert(name)
        certificate, key = folder / f"{who}.pem", folder / f"{who}.key"
        key.touch(mode=0o600)
        issued.private_key_pem.write_to_path(str(key))
        certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        return certificate, key

    @property
    def query(self) -> str:
        """The URL options by which a driver trusts the authority and shows its own certificate."""
        return f"ca={self.ca}&cert={self.client}&key={self.client_key}"

    def client_context(self) -> ssl.SSLContext:
        """Return a context for a client of the test's own, which does not look at names."""
        context = ssl.create_default_context(cafile=str(self.ca))
        context.check_hostname = False
        context.load_cert_chain(self.client, self.client_key)
        return context

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._folder.cleanup()
