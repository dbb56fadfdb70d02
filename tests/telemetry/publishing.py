"""What the tests of publishers share: settings, samples, an HTTP sink that keeps what it got."""

from __future__ import annotations

import http.server
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from hashring.telemetry.model.sample import Meter, MeterType, Sample
from hashring.telemetry.model.settings import Settings

SETTINGS = Settings(backend_url="memory://", member="a", host="h")
LEVEL = Meter("tank.level", MeterType.GAUGE, "l")


def sample(volume: float = 1, **fields: Any) -> Sample:
    """Return a sample in which all but the named fields are plain."""
    found: dict[str, Any] = {
        "meter": LEVEL,
        "volume": volume,
        "resource_id": "plant:tank:north",
        "timestamp": 600.25,
        "window": 10,
        "interval": 60.0,
        "member": "a",
        "token": ("v", "i", 10),
    }
    return Sample(**(found | fields))


def samples(count: int, member: str = "a") -> list[Sample]:
    """Return samples of as many windows; each one's volume is its window."""
    return [
        sample(n, window=n, timestamp=float(n), interval=1.0, member=member, token=("v", "i", n))
        for n in range(count)
    ]


@dataclass
class Answer:
    """What a sink says to one request."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass
class Request:
    """What a sink was sent."""

    path: str
    headers: dict[str, str]
    body: bytes


class Sink:
    """An HTTP server that keeps what it is sent, and answers what a test tells it to."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[Request] = []
        self.answer: Callable[[Request], Answer] = lambda request: Answer()
        sink = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                request = Request(self.path, headers, body)
                sink.requests.append(request)
                answer = sink.answer(request)
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)

            def log_message(self, *args: Any) -> None:
                """Keep quiet."""

        class Server(http.server.ThreadingHTTPServer):
            def handle_error(self, *args: Any) -> None:
                """A client that refuses the certificate, or has gone, is not a fault of ours."""

        self._server = Server(("127.0.0.1", 0), Handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @contextmanager
    def running(self) -> Iterator[Sink]:
        self._thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
