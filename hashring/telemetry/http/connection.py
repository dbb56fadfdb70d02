"""Connection: one connection to a server, on an event loop: it asks, and is read as answers come.

What comes is parsed by httptools, Node's parser in C. Whoever reads slowly holds up the server, not
our memory: from some bytes on no more are taken from the system. A connection asks for one thing at
a time. This module opens none, keeps none, and knows no deadline: who waits is cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from hashring.errors import MissingDependency
from hashring.telemetry.errors import BadAnswer

try:
    import httptools
except ImportError as error:  # pragma: no cover - the tests of the wheel run without httptools
    raise MissingDependency("polls over HTTP", "httptools", "telemetry") from error

__all__ = ["Connection"]

_LONGEST_HEADER = 64 * 1024
"""Bytes of one header, and of a status line: as many as urllib3 takes."""

_LONGEST_HEAD = 256 * 1024
"""Bytes of all headers together."""

_WAITING = 256 * 1024
"""Bytes of a body that wait to be read, from which on no more are taken from the system."""

_LENIENT = {
    "lenient_headers": True,
    "lenient_optional_cr_before_lf": True,
    "lenient_spaces_after_chunk_size": True,
}
"""What small servers do wrong, and every client reads: lines without a carriage return, say."""

_NO_BODY = frozenset({204, 304})


class Connection(asyncio.Protocol):
    """One connection to a server, for the loop that it is made in.

    Args:
        lost: is called with it once it is closed, whoever closed it.

    Attributes:
        status: the number of the answer.
        reason: the words beside it; may be empty.
        headers: of the answer, by name in lower case; of two with one name the first.
        is_whole: all of the answer has come.
        is_closed: nothing can be asked any more.
    """

    def __init__(self, lost: Callable[[Connection], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._lost = lost
        self._transport: asyncio.Transport | None = None
        self._parser: Any = httptools.HttpResponseParser(self)
        self._parser.set_dangerous_leniencies(**_LENIENT)
        self._waiter: asyncio.Future[None] | None = None
        self._error: Exception | None = None
        self._is_asked = False
        self.is_closed = False
        self._is_paused = False
        self._begin()

    def _begin(self) -> None:
        self.status = 0
        self.reason = ""
        self.headers: dict[str, str] = {}
        self._raw: list[tuple[bytes, bytes]] = []
        self.is_whole = False
        self._has_head = False
        self._head_size = 0
        self._ends_at_close = False  # so its end is that of the connection
        self._stays = False
        self._body: list[bytes] = []
        self._body_size = 0

    # ---- for whoever asks

    @property
    def may_be_kept(self) -> bool:
        """Whether something else may be asked: the last answer is whole, and both sides agree."""
        return self.is_whole and self._stays and not self.is_closed and self._error is None

    async def ask(self, request: bytes) -> None:
        """Send a request, and wait until the head of its answer has come.

        Raises:
            BadAnswer: it is no HTTP, or was cut off.
            OSError: the connection broke.
        """
        self._begin()
        self._is_asked = True
        if self._transport is not None:
            self._transport.write(request)
        while not self._has_head:
            await self._wait()

    async def read(self) -> bytes:
        """Return what has come of the body, at least a byte; nothing at its end.

        Raises:
            BadAnswer, OSError: as of :meth:`ask`.
        """
        while not self._body:
            if self.is_whole:
                return b""
            await self._wait()
        found = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body.clear()
        self._body_size = 0
        if self._is_paused:
            self._is_paused = False
            if self._transport is not None:
                self._transport.resume_reading()
        return found

    def abort(self) -> None:
        """Close it now, whatever is under way."""
        if self._transport is not None:
            self._transport.abort()

    async def _wait(self) -> None:
        if self._error is not None:
            raise self._error
        if self.is_closed:
            raise BadAnswer("the server had closed the connection")
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, error: Exception) -> None:
        if self._error is None:
            self._error = error
        self._wake()
        self.abort()

    # ---- from the loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Be open."""
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Take what has come."""
        if not self._is_asked or self.is_whole:
            # Whatever it is, it would be taken for the answer to what is asked next.
            self.abort()
            return
        if not self._has_head:
            self._head_size += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self.is_whole:
                self._fail(BadAnswer(f"the answer is no HTTP: {error}"))
                return
            self._stays = False  # noise behind the answer
        if not self._has_head and self._head_size > _LONGEST_HEAD:
            self._fail(BadAnswer(f"the answer has more than {_LONGEST_HEAD} bytes of headers"))
            return
        if self._body_size > _WAITING and not self._is_paused and self._transport is not None:
            self._is_paused = True
            self._transport.pause_reading()
        if self._has_head:
            self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """Be closed."""
        self.is_closed = True
        if self._is_asked and not self.is_whole and self._error is None:
            if self._has_head and self._ends_at_close and exc is None:
                self.is_whole = True
            else:
                self._error = exc or BadAnswer("the connection was closed within the answer")
        self._transport = None
        self._parser = None  # which holds this object
        self._wake()
        self._lost(self)

    # ---- from the parser: within data_received()

    def on_message_begin(self) -> None:
        """Another answer begins: the first one, or one that nobody has asked for."""
        if self.is_whole:
            self._stays = False

    def on_status(self, status: bytes) -> None:
        """Take some of the words beside the status."""
        if not self._has_head:
            self.reason += status.decode("utf-8", "replace")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; what comes behind the body is ignored."""
        if self._has_head:
            return
        if len(name) + len(value) > _LONGEST_HEADER:
            self._fail(BadAnswer(f"the answer has a header of more than {_LONGEST_HEADER} bytes"))
        self._raw.append((name, value))

    def on_headers_complete(self) -> None:
        """Know the head, unless the answer proper is yet to come."""
        if self._has_head:
            return
        status = self._parser.get_status_code()
        raw, self._raw = self._raw, []
        if status < 200:
            self.reason = ""
            if status == 101:
                self._fail(BadAnswer("the server speaks another protocol from here on: status 101"))
            return
        self.status = status
        self._has_head = True
        self.headers = {
            name.decode("ascii", "replace").lower(): value.decode("utf-8", "surrogateescape")
            for name, value in reversed(raw)
        }
        coding = self.headers.get("transfer-encoding", "")
        self._ends_at_close = status not in _NO_BODY and (
            "chunked" not in coding.lower() if coding else "content-length" not in self.headers
        )

    def on_body(self, body: bytes) -> None:
        """Take some of the body."""
        if not self.is_whole:
            self._body.append(body)
            self._body_size += len(body)

    def on_message_complete(self) -> None:
        """Know that the answer is whole."""
        if self._has_head and not self.is_whole:
            self.is_whole = True
            self._stays = bool(self._parser.should_keep_alive())
