"""An HTTP server in this process that logs every request, and answers as a test tells it to."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qs, urlsplit

from tests.servers.process import LOOPBACK


class Asked(NamedTuple):
    """One request as the server got it.

    Attributes:
        at: wall-clock seconds since the epoch, when its headers had arrived.
        method, path, headers, body: of the request; the path has its query, the headers' names
            are in lower case.
        port: the client's: the same for requests on one connection.
    """

    at: float
    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    port: int


class Answer(NamedTuple):
    """How to answer a path.

    Attributes:
        body: bytes or a text as they are, anything else as JSON.
        status, content_type, headers: of the answer.
        delay: seconds before a word is said.
        drip: seconds between two bytes, ``drip_headers``: of the headers too.
        hang: accept the request and never say a word.
        cut: close the connection instead of answering; with a body, in the middle of it.
    """

    body: Any = b""
    status: int = 200
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    delay: float = 0.0
    drip: float = 0.0
    drip_headers: bool = False
    hang: bool = False
    cut: bool = False

    @property
    def content(self) -> bytes:
        if isinstance(self.body, bytes):
            return self.body
        return (self.body if isinstance(self.body, str) else json.dumps(self.body)).encode()


class HTTPServer:
    """Serves on a free loopback port until the ``with`` block ends, which ends every answer too.

    Args:
        port: 0 for a free one.
        tls: serve https with it.

    Example::

        with HTTPServer() as server:
            server.answer("/status", {"load": 0.5})
            ask(server.url + "/status")
            assert server.count("/status") == 1
    """

    def __init__(self, port: int = 0, *, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self._answers: dict[str, Answer | Callable[[Asked], Answer]] = {}
        self._otherwise: Callable[[Asked], Answer] = lambda asked: Answer("no such path", 404)
        self._lock = threading.Lock()
        self._log: list[Asked] = []
        self._ending = threading.Event()
        self._server = _Server((LOOPBACK, port), self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://{LOOPBACK}:{self.port}"

    def answer(self, path: str, body: Any = b"", **how: Any) -> None:
        """Answer a path (without its query) from now on; ``how``: fields of :class:`Answer`."""
        self._answers[path] = Answer(body, **how)

    def answer_with(self, path: str, make: Callable[[Asked], Answer]) -> None:
        """Let ``make`` answer a path from now on."""
        self._answers[path] = make

    def otherwise(self, make: Callable[[Asked], Answer]) -> None:
        """Let ``make`` answer every path that no other call has named."""
        self._otherwise = make

    def answer_pages(self, path: str, pages: list[Any], entries: str = "entries") -> None:
        """Answer a path with pages, each but the last with the next one's URL under ``next``."""

        def page(asked: Asked) -> Answer:
            number = int(parse_qs(urlsplit(asked.path).query).get("page", ["0"])[0])
            found = {entries: pages[number]}
            if number + 1 < len(pages):
                found["next"] = f"{path}?page={number + 1}"
            return Answer(found)

        self.answer_with(path, page)

    @property
    def log(self) -> list[Asked]:
        """Every request so far, in order."""
        with self._lock:
            return list(self._log)

    @property
    def connections(self) -> int:
        """How many connections are open now."""
        return len(self._server._open)

    def forget(self) -> None:
        """Empty the log."""
        with self._lock:
            self._log.clear()

    def counts(self) -> Counter[str]:
        """Return how often each path (with its query) was asked for."""
        return Counter(asked.path for asked in self.log)

    def count(self, path: str) -> int:
        """Return how often a path was asked for, whatever the query."""
        return len(self.times(path))

    def times(self, path: str) -> list[float]:
        """Return when a path was asked for, whatever the query: wall-clock seconds."""
        return [asked.at for asked in self.log if urlsplit(asked.path).path == path]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._server.shutdown()
        self._thread.join()
        self._server.cut_all()
        self._server.server_close()  # waits for the handlers' threads


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # server_close() waits for them: no test leaves a thread behind
    request_queue_size = 256

    def __init__(self, address: tuple[str, int], owner: HTTPServer) -> None:
        super().__init__(address, _Handler)
        self.owner = owner
        self._open: set[socket.socket] = set()
        self._guard = threading.Lock()

    def finish_request(self, request: Any, client_address: Any) -> None:
        # In the connection's own thread, so that a slow handshake holds up nobody else.
        if self.owner._tls is not None:
            try:
                request = self.owner._tls.wrap_socket(request, server_side=True)
            except OSError:
                return  # a client that does not trust us says so by leaving
        with self._guard:
            self._open.add(request)
        try:
            super().finish_request(request, client_address)
        except OSError:
            pass  # the client, or the end of the test, has closed the connection
        finally:
            with self._guard:
                self._open.discard(request)
            if self.owner._tls is not None:
                request.close()

    def cut_all(self) -> None:
        with self._guard:
            for connection in self._open:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue  # it has ended by itself


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are two writes
    server: _Server

    def do_GET(self) -> None:
        owner = self.server.owner
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = Asked(time.time(), self.command, self.path, headers, body, self.client_address[1])
        with owner._lock:
            owner._log.append(asked)
        found = owner._answers.get(urlsplit(self.path).path, owner._otherwise)
        answer = found if isinstance(found, Answer) else found(asked)
        if answer.hang:
            owner._ending.wait()
        if answer.hang or (answer.delay and owner._ending.wait(answer.delay)):
            self.close_connection = True
            return
        content = answer.content
        if answer.cut and not content:
            self.close_connection = True
            return
        head = [
            f"HTTP/1.1 {answer.status} {self.responses.get(answer.status, ('',))[0]}",
            f"Content-Type: {answer.content_type}",
            f"Content-Length: {len(content)}",
            *(f"{name}: {value}" for name, value in answer.headers),
        ]
        self._send("\r\n".join([*head, "", ""]).encode(), answer.drip * answer.drip_headers)
        if answer.cut:
            content = content[: len(content) // 2]
            self.close_connection = True
        self._send(content, answer.drip)

    do_POST = do_GET  # noqa: N815 - the base class looks for this name

    def _send(self, content: bytes, drip: float) -> None:
        if not drip:
            self.wfile.write(content)
            return
        for byte in content:
            self.wfile.write(bytes((byte,)))
            if self.server.owner._ending.wait(drip):
                self.close_connection = True
                return

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the terminal quiet: the log is the server's own."""
