"""The Redis driver's URL: its options, and what they make of servers, TLS and routes.

This module opens no connection.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hashring.driver import Driver, Option, boolean
from hashring.errors import BadURL, StoreUnusable
from hashring.url import seconds

from .nodes import Address, Node, link
from .routes import ClusterRoute, PlainRoute, Route, SentinelRoute

__all__ = ["OPTIONS", "Place"]

_PORT, _SENTINEL_PORT = 6379, 26379


def _replicas(text: str) -> int | None:
    if text == "auto":
        return None
    if not (text.isascii() and text.isdigit()):
        raise ValueError("must be auto or a number, 0 for none")
    return int(text)


def _addresses(text: str) -> tuple[Address, ...]:
    found = []
    for part in text.split(","):
        host, colon, port = part.rpartition(":")
        if not (host and colon and port.isascii() and port.isdigit()):
            raise ValueError("must be host:port, several with commas between")
        found.append((host.strip("[]"), int(port)))
    return tuple(found)


def _database(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError("must be the number of a database")
    return int(text)


def _namespace(text: str) -> str:
    if not re.fullmatch(r"[\w.:/-]+", text, re.ASCII):
        raise ValueError("must be letters, digits and ._:/-")
    return text


OPTIONS = (
    Option("namespace", _namespace, "hashring", "what every key's name begins with"),
    Option("poll", seconds, 1.0, "seconds after which wait() asks, should a message be lost"),
    Option("replicas", _replicas, None, "replicas that confirm a write: auto, or how many"),
    Option("db", _database, None, "the number of the database, instead of the path"),
    Option("ca", str, None, "file with the authorities that sign the server's certificate"),
    Option("cert", str, None, "file with our certificate, for a server that asks for one"),
    Option("key", str, None, "file with the key of our certificate"),
    Option("verify", boolean, True, "check the server's certificate and its name"),
    Option("sentinel", str, None, "the Sentinels' name of the primary; hosts are Sentinels"),
    Option("sentinel_fallback", _addresses, (), "further Sentinels, as tooz spells them"),
    Option("sentinel_username", str, None, "user for the Sentinels"),
    Option("sentinel_password", str, None, "password for the Sentinels", secret=True),
    Option("sentinel_ssl", boolean, None, "TLS to the Sentinels; default: as to the servers"),
    Option("ssl", boolean, None, "TLS, as tooz spells rediss://"),
    Option("ssl_ca_certs", str, None, "tooz's spelling of ca"),
    Option("ssl_certfile", str, None, "tooz's spelling of cert"),
    Option("ssl_keyfile", str, None, "tooz's spelling of key"),
)


class Place:
    """Where a driver's groups are kept, as its URL says it.

    Args:
        driver: for its URL and its settings.

    Raises:
        BadURL: options contradict each other, or the URL.
    """

    def __init__(self, driver: Driver) -> None:
        self.url = driver.url
        self.settings = driver.settings
        self._traffic = driver.traffic
        self._connections, self._tls = self._connection_options()
        self._hosts = self._checked_hosts()

    def route(self) -> Route:
        """Return the way to the servers; nothing is connected yet.

        Raises:
            StoreUnusable: a file for TLS is missing.
        """
        self._check_files()
        return self._new_route()

    def _connection_options(self) -> tuple[dict[str, Any], bool]:
        url, settings = self.url, self.settings
        base, _, kind = url.scheme.partition("+")
        if kind not in {"", "unix", "cluster"}:
            raise BadURL(f"{url}: {base}+{kind}:// is unknown; there are +unix and +cluster")
        tls = base in {"rediss", "valkeys"} if settings["ssl"] is None else settings["ssl"]
        options: dict[str, Any] = {
            "db": self._number_of_database(kind),
            "username": url.user,
            "password": url.secret,
        }
        if tls and kind == "unix":
            raise BadURL(f"{url}: there is no TLS on a unix socket; write redis+unix://")
        if tls:
            options |= self._tls_options()
        elif settings["ca"] or settings["cert"] or settings["key"]:
            raise BadURL(f"{url}: ca, cert and key are for TLS; write rediss://")
        return options, tls

    def _tls_options(self) -> dict[str, Any]:
        settings = self.settings
        return {
            "ssl_ca_certs": settings["ca"] or settings["ssl_ca_certs"],
            "ssl_certfile": settings["cert"] or settings["ssl_certfile"],
            "ssl_keyfile": settings["key"] or settings["ssl_keyfile"],
            "ssl_cert_reqs": "required" if settings["verify"] else "none",
            "ssl_check_hostname": settings["verify"],
        }

    def _number_of_database(self, kind: str) -> int:
        path, database = self.url.path.strip("/"), self.settings["db"]
        if kind != "unix" and path:
            if not (path.isascii() and path.isdigit()):
                raise BadURL(f"{self.url}: the path must be the number of a database, as in /0")
            if database not in {None, int(path)}:
                raise BadURL(f"{self.url}: the path and db= name two databases")
            database = int(path)
        if kind == "cluster" and database:
            raise BadURL(f"{self.url}: a cluster has the database 0 alone")
        return database or 0

    def _checked_hosts(self) -> list[Address]:
        url, settings = self.url, self.settings
        kind = url.scheme.partition("+")[2]
        if kind == "unix":
            if url.hosts or not url.path.strip("/"):
                raise BadURL(f"{url}: name the socket: redis+unix:///run/redis/redis.sock")
            return [(url.path, 0)]
        sentinel = settings["sentinel"]
        if sentinel is not None and kind == "cluster":
            raise BadURL(f"{url}: a cluster has no Sentinels")
        if sentinel is None and settings["sentinel_fallback"]:
            raise BadURL(f"{url}: sentinel_fallback needs sentinel=, the name of the primary")
        default = _PORT if sentinel is None else _SENTINEL_PORT
        hosts = [(host, port or default) for host, port in url.hosts or (("localhost", None),)]
        hosts += settings["sentinel_fallback"]
        if len(hosts) > 1 and sentinel is None and kind != "cluster":
            raise BadURL(
                f"{url}: several hosts are Sentinels, then add sentinel=NAME, "
                "or nodes of a cluster, then write redis+cluster://"
            )
        return hosts

    def _check_files(self) -> None:
        for option in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"):
            path = self._connections.get(option)
            if path is not None and not Path(path).is_file():
                raise StoreUnusable(f"{self.url}: there is no file {path}, given for TLS")

    def _new_route(self) -> Route:
        settings, connections = self.settings, self._connections
        within = settings["connect_timeout"]
        make = link(connections, tls=self._tls, traffic=self._traffic)
        if settings["sentinel"] is not None:
            login = {
                "db": 0,
                "username": settings["sentinel_username"],
                "password": settings["sentinel_password"],
            }
            tls = self._tls if settings["sentinel_ssl"] is None else settings["sentinel_ssl"]
            files = {name: value for name, value in self._tls_options().items() if tls}
            make_sentinel = link(login | files, tls=tls, traffic=self._traffic)
            return SentinelRoute(settings["sentinel"], self._hosts, make_sentinel, make, within)
        if self.url.scheme.endswith("+cluster"):
            return ClusterRoute(self._hosts, make, within)
        return PlainRoute(Node(self._hosts[0], make, within))
