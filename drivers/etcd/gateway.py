"""etcd's JSON gateway over HTTP: each call ends by its deadline, at whichever endpoint answers.

The gateway is part of every etcd. Connections are kept, and are plain HTTP/1.1 on the
sockets of :mod:`hashring.drivers._net`, whose every read and write ends at the call's deadline: a
client library's time limit begins anew with each byte that comes.

It knows no group and no lease.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import io
import json
import os
import random
import ssl
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from hashring.clock import boottime
from hashring.driver import Driver, Traffic
from hashring.errors import StoreUnusable

from .._net import DeadlineSocket, addresses, connected, left
from .address import end_of, endpoints_of, tls_of

__all__ = ["Connection", "Gateway", "Refused", "ranging", "text64", "transaction"]

_PATIENCE = 0.5  # of a call's time: the longest that one endpoint may take while there are others

# gRPC's codes of what passes by itself, or at another endpoint, and of what a person must mend.
_UNAVAILABLE = {1, 4, 8, 10, 13, 14}
_INVALID, _NOT_FOUND, _DENIED, _PRECONDITION, _UNAUTHENTICATED = 3, 5, 7, 9, 16

_PERSONS = {_INVALID, _DENIED, _UNAUTHENTICATED}

_PASSING = (OSError, http.client.HTTPException, ValueError)


class Refused(Exception):
    """etcd refused a request, and did nothing.

    Attributes:
        code: gRPC's.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code

    @property
    def not_found(self) -> bool:
        """Whether what was asked for does not exist."""
        return self.code == _NOT_FOUND

    @property
    def exists(self) -> bool:
        """Whether what was to be made exists already."""
        return self.code == _PRECONDITION and "already exists" in str(self)


def text64(text: str | bytes) -> str:
    """Return bytes as the gateway has them: base64.

    >>> text64("/a")
    'L2E='
    """
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


class _Reader(io.RawIOBase):
    """What :mod:`http.client` reads a socket by; each read ends at the socket's deadline."""

    def __init__(self, source: DeadlineSocket) -> None:
        self._source = source

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> int:
        return int(self._source.recv_into(into))


class _Socket(DeadlineSocket):
    def makefile(self, mode: str) -> io.BufferedReader:
        """See :meth:`socket.socket.makefile`."""
        assert mode == "rb"
        return io.BufferedReader(_Reader(self))


class Connection:
    """One connection to one endpoint.

    Args:
        endpoint: host and port.
        tls: ``None`` for plain text.
        deadline: of the connection's making, in seconds on the boot-time clock.
        traffic: counts what is sent and received.
    """

    def __init__(
        self,
        endpoint: tuple[str, int],
        tls: ssl.SSLContext | None,
        deadline: float,
        traffic: Traffic | None = None,
    ) -> None:
        host, port = endpoint
        raw = connected(addresses(endpoint, deadline), deadline, tls=tls, name=host)
        self.endpoint = endpoint
        self.socket = _Socket(raw, deadline, traffic)
        self.checked = False
        """Whether the server behind it was looked at."""
        self._http = http.client.HTTPConnection(host, port)
        self._http.auto_open = 0
        self._http.sock = cast(Any, self.socket)

    def begin(
        self, path: str, body: bytes, headers: Mapping[str, str], deadline: float
    ) -> http.client.HTTPResponse:
        """Send a request and return its answer, of which the head is read."""
        self.socket.deadline = deadline
        self._http.request("POST", f"/v3{path}", body, dict(headers))
        return self._http.getresponse()

    def call(
        self, path: str, body: bytes, headers: Mapping[str, str], deadline: float
    ) -> list[dict[str, Any]]:
        """Send a request and return the documents of its answer.

        Raises:
            Refused: etcd says that it did nothing.
            OSError, http.client.HTTPException, ValueError: nobody knows; close the connection.
        """
        answer = self.begin(path, body, headers, deadline)
        text = answer.read()
        if answer.status != 200:
            raise refusal(answer.status, text)
        found = [json.loads(line) for line in text.splitlines() if line.strip()]
        if not found:
            raise ValueError("an empty answer")
        for each in found:
            if "error" in each:  # of a stream: the status was sent before
                raise refusal(200, json.dumps(each["error"]).encode())
        return found

    def close(self) -> None:
        """End the connection."""
        with contextlib.suppress(OSError):
            self.socket.raw.close()


def refusal(status: int, text: bytes) -> Exception:
    """Return the error that an answer is."""
    try:
        found = json.loads(text)
        code = int(found.get("code", found.get("grpc_code", 0)))
        message = str(found.get("message") or found.get("error"))
    except (ValueError, AttributeError):
        return OSError(f"HTTP status {status}: {text[:200].decode(errors='replace')}")
    if code in _UNAVAILABLE or not code:
        return OSError(message)
    return Refused(code, message)


class Gateway:
    """The endpoints of one driver.

    Calls of a *use* (heartbeats, and all else) share a connection, and wait for each other.

    Args:
        driver: for its URL, its settings and the words of its errors.
    """

    USES = ("heart", "rest")

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._tls = tls_of(driver)
        self._endpoints = endpoints_of(driver.url)
        random.shuffle(self._endpoints)  # so that a group spreads over the cluster
        self._begin()

    def _begin(self) -> None:
        """Make what belongs to one process."""
        self._process = os.getpid()
        self._locks = {use: threading.Lock() for use in self.USES}
        self._connections: dict[str, Connection] = {}
        self._token: str | None = None
        self._first = 0  # of the endpoints: the one that answered last
        self.is_open = False

    def open(self) -> None:
        """Allow calls; the first of them connects."""
        if self._process != os.getpid():
            self._begin()
        self.is_open = True

    def close(self) -> None:
        """End all connections."""
        if not self.is_open or self._process != os.getpid():
            return
        self.is_open = False
        for use, lock in self._locks.items():
            with lock:
                self._drop(use)

    def check_open(self) -> None:
        """Refuse a call on what is closed, or is another process's."""
        if self._process != os.getpid():
            raise self._driver.forked(self._process)
        if not self.is_open:
            raise self._driver.not_open()

    def deadline(self) -> float:
        """Return the end of a call that begins now."""
        return boottime() + float(self._driver.settings["timeout"])

    def call(
        self,
        doing: str,
        path: str,
        *bodies: Mapping[str, Any],
        deadline: float,
        use: str = "rest",
        opening: bool = False,
        refusable: bool = False,
    ) -> list[dict[str, Any]]:
        """Send a request, to another endpoint where one fails, and return the answer's documents.

        It may be done twice: for requests that are safe to repeat alone.

        Raises:
            Refused: etcd says that it did nothing, and the request is ``refusable``.
            StoreUnavailable: the outcome is unknown, or etcd refused.
            StoreUnusable: etcd refused the user, or denies a right, while ``opening``.
        """
        self.check_open()
        body = "\n".join(json.dumps(each) for each in bodies).encode()
        pauses, tries = self._driver.delays(), 0
        while True:
            try:
                with self._locked(use, deadline):
                    self.check_open()
                    return self._once(use, path, body, deadline)
            except Refused as error:
                if error.code == _UNAUTHENTICATED and self._token is not None and not tries:
                    tries, self._token = tries + 1, None  # it ran out: log in again
                    continue
                if opening and (unusable := self._unusable(error)) is not None:
                    raise unusable from error
                if refusable and error.code not in _PERSONS:
                    raise
                raise self._driver.unavailable(doing, error) from error
            except _PASSING as error:
                tries += 1
                # Each endpoint once without a pause.
                pause = 0.0 if tries < len(self._endpoints) else next(pauses, None)
                if pause is None or boottime() + pause >= deadline:
                    raise self._driver.unavailable(doing, error) from error
                time.sleep(pause)

    def ask(
        self,
        doing: str,
        body: Mapping[str, Any],
        *,
        deadline: float,
        use: str = "rest",
        opening: bool = False,
        refusable: bool = False,
    ) -> dict[str, Any]:
        """Run a transaction, which a majority confirms, and return its answer. See :meth:`call`."""
        (answer,) = self.call(
            doing,
            "/kv/txn",
            body,
            deadline=deadline,
            use=use,
            opening=opening,
            refusable=refusable,
        )
        return answer

    def _unusable(self, error: Refused) -> StoreUnusable | None:
        """Return the error to raise by ``open()`` for what does not pass by itself."""
        named, why = f"{self._driver.url}: etcd refused", self._driver.url.hide(str(error))
        if error.code == _DENIED:
            return StoreUnusable(f"{named}: {why}: the user has no right to read and write")
        if error.code in (_UNAUTHENTICATED, _INVALID):
            return StoreUnusable(f"{named} the user or password: {why}")
        return None

    @contextlib.contextmanager
    def _locked(self, use: str, deadline: float) -> Iterator[None]:
        lock = self._locks[use]
        if not lock.acquire(timeout=max(0.0, deadline - boottime())):
            raise TimeoutError("an earlier call took all the time there was")
        try:
            yield
        finally:
            lock.release()

    def _once(self, use: str, path: str, body: bytes, deadline: float) -> list[dict[str, Any]]:
        until = deadline
        try:
            connection = self._connections.get(use)
            if connection is not None or len(self._endpoints) > 1:
                until = boottime() + left(deadline) * _PATIENCE
            if connection is None:
                connection = self._connections[use] = self.connect(until)
            return connection.call(path, body, self.headers(connection, until), until)
        except Refused:
            raise
        except BaseException:
            self._drop(use)
            self.turn()
            raise

    def turn(self) -> None:
        """Connect to another endpoint the next time."""
        self._first += 1

    def connect(self, deadline: float) -> Connection:
        """Connect to the endpoint that answered last, or to the one after that failed."""
        deadline = min(deadline, boottime() + self._driver.settings["connect_timeout"])
        endpoint = self._endpoints[self._first % len(self._endpoints)]
        return Connection(endpoint, self._tls, deadline, self._driver.traffic)

    def headers(self, connection: Connection, deadline: float) -> dict[str, str]:
        """Return what each request says beside its body; log in first, where that is wanted."""
        said = {"Content-Type": "application/json"}
        url = self._driver.url
        if url.secret is None:
            return said
        token = self._token
        if token is None:
            body = json.dumps({"name": url.user, "password": url.secret}).encode()
            try:
                answer = connection.call("/auth/authenticate", body, said, deadline)
            except Refused as error:
                if error.code == _PRECONDITION:  # etcd asks nobody for a password
                    return said
                raise
            token = self._token = str(answer[0]["token"])
        return {**said, "Authorization": token}

    def connection(self, use: str) -> Connection | None:
        """Return the connection in use."""
        return self._connections.get(use)

    def _drop(self, use: str) -> None:
        connection = self._connections.pop(use, None)
        if connection is not None:
            connection.close()


def transaction(
    compare: Sequence[Mapping[str, Any]],
    success: Sequence[Mapping[str, Any]],
    failure: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Return the body of a transaction."""
    return {"compare": list(compare), "success": list(success), "failure": list(failure)}


def ranging(prefix: str, **wanted: bool) -> dict[str, Any]:
    """Return the body of a transaction that reads what is below a prefix."""
    of = {"key": text64(prefix), "range_end": text64(end_of(prefix)), **wanted}
    return transaction([], [{"request_range": of}])
