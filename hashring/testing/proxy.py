"""A TCP proxy that breaks connections on request: between a driver and its store's real server.

:class:`FaultProxy` listens on a free loopback port and forwards to a target. A test then cuts,
refuses, delays, throttles or silences what goes through it, and restores it. One thread serves
all connections; it ends with :meth:`FaultProxy.close`. This module knows no store and no protocol:
bytes are bytes.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import selectors
import socket
import threading
import time
from types import TracebackType
from typing import Literal

__all__ = ["Direction", "FaultProxy"]

Direction = Literal["up", "down"]
"""``up`` is from the client to the server, ``down`` from the server to the client."""

_CHUNK = 65536
_BUFFER = 4 * 1024 * 1024  # bytes that one direction of a connection holds before it stops reading


@dataclasses.dataclass(frozen=True)
class _Faults:
    """What is done to the connections; replaced as a whole, so the thread sees one or the other."""

    refuse: bool = False
    mute_new: bool = False
    blackhole: frozenset[Direction] = frozenset()
    delay_up: float = 0.0
    delay_down: float = 0.0
    rate: float | None = None


class _Pipe:
    """One direction of a connection: what was read from ``source`` and is due at ``sink``."""

    def __init__(self, direction: Direction, source: socket.socket, sink: socket.socket) -> None:
        self.direction = direction
        self.source = source
        self.sink = sink
        self.chunks: collections.deque[tuple[float, bytes]] = collections.deque()
        self.held = 0
        self.ended = False  # the source sends no more
        self.shut = False  # and the sink was told so
        self.free_at = 0.0  # when the throttle lets the next bytes pass

    def read(self, delay: float, now: float) -> bool:
        """Take what is there; return False once the connection is broken."""
        try:
            data = self.source.recv(_CHUNK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if data:
            self.chunks.append((now + delay, data))
            self.held += len(data)
        else:
            self.ended = True
        return True

    def write(self, rate: float | None, now: float) -> bool:
        """Hand on what is due; return False once the connection is broken."""
        try:
            while self.chunks and self.due(now) <= now:
                due, data = self.chunks.popleft()
                if rate is None:
                    part = data
                else:
                    part = data[: max(1, int(rate * 0.05))]
                    self.free_at = now + len(part) / rate
                try:
                    sent = self.sink.send(part)
                except BlockingIOError:
                    sent = 0
                self.held -= sent
                if sent < len(data):
                    self.chunks.appendleft((due, data[sent:]))
                if sent < len(part):
                    break
            if self.ended and not self.chunks and not self.shut:
                self.shut = True
                self.sink.shutdown(socket.SHUT_WR)
        except OSError:
            return False
        return True

    def due(self, now: float) -> float:
        """Return the time at which the next bytes may pass; infinity where there are none."""
        if not self.chunks:
            return now if self.ended and not self.shut else float("inf")
        return max(self.chunks[0][0], self.free_at)


class _Link:
    """A client's connection, and ours to the server on its behalf (none while it is mute)."""

    def __init__(self, client: socket.socket, server: socket.socket | None) -> None:
        self.client = client
        self.server = server
        self.pipes: tuple[_Pipe, ...] = ()
        if server is not None:
            self.pipes = (_Pipe("up", client, server), _Pipe("down", server, client))

    @property
    def finished(self) -> bool:
        return bool(self.pipes) and all(pipe.shut for pipe in self.pipes)

    def close(self, *, reset: bool) -> None:
        for end in (self.client, self.server):
            if end is None:
                continue
            if reset:
                # Linger of zero seconds: the peer gets a reset and not an orderly end.
                with contextlib.suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            end.close()


class FaultProxy:
    """A proxy before a TCP server, with faults by method.

    Args:
        host: the server's host.
        port: the server's port.
        connect_timeout: seconds for the proxy's own connection to the server.

    Attributes:
        address: host and port to give to the client. The port stays the same from the first
            :meth:`start` on, through :meth:`refuse` and :meth:`restore`.

    Example:
        >>> with socket.create_server(("127.0.0.1", 0)) as server:
        ...     with FaultProxy(*server.getsockname()) as proxy:
        ...         client = socket.create_connection(proxy.address, timeout=10)
        ...         served, _ = server.accept()
        ...         client.sendall(b"through")
        ...         print(served.recv(100))
        ...         proxy.cut()
        ...         with client, served:
        ...             try:
        ...                 print(client.recv(100))
        ...             except ConnectionResetError:
        ...                 print("cut")
        b'through'
        cut
    """

    def __init__(self, host: str, port: int, *, connect_timeout: float = 5.0) -> None:
        self._target = (host, port)
        self._connect_timeout = connect_timeout
        self._faults = _Faults()
        self._lock = threading.Lock()
        self._orders: collections.deque[tuple[str, threading.Event]] = collections.deque()
        self._links: list[_Link] = []
        self._listener: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self.address = ("127.0.0.1", 0)

    # -- life

    def start(self) -> FaultProxy:
        """Listen and serve; returns at once."""
        if self._thread is not None:
            raise RuntimeError("this proxy has started already")
        self._listener = socket.create_server(self.address, backlog=512)
        self._listener.setblocking(False)
        self.address = self._listener.getsockname()[:2]
        self._waker, self._wakee = socket.socketpair()
        self._waker.setblocking(False)
        self._wakee.setblocking(False)
        self._thread = threading.Thread(target=self._serve, name=f"FaultProxy:{self.address[1]}")
        self._thread.daemon = True
        self._thread.start()
        return self

    def close(self) -> None:
        """Cut everything and end the thread. Idempotent."""
        if self._thread is None:
            return
        self._order("close")
        self._thread.join()
        self._thread = None
        # Not by the thread: it may have ended before the order that ended it has woken it.
        self._waker.close()
        self._wakee.close()

    def __enter__(self) -> FaultProxy:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def connections(self) -> int:
        """How many client connections are open now."""
        return len(self._links)

    # -- faults

    def cut(self) -> None:
        """Reset every open connection, once; new ones work."""
        self._order("cut")

    def refuse(self) -> None:
        """Reset every open connection, and refuse new ones, until :meth:`restore`."""
        self._change(refuse=True)
        self._order("refuse")

    def half_open(self) -> None:
        """Accept and never answer: new connections reach no server, open ones fall silent."""
        self._change(mute_new=True, blackhole=frozenset({"up", "down"}))

    def blackhole(self, direction: Direction) -> None:
        """Swallow all that goes one way, as a broken route does; the other way still works."""
        self._change(blackhole=self._faults.blackhole | {direction})

    def delay(self, up: float = 0.0, down: float = 0.0) -> None:
        """Hold whatever comes from now on for so many seconds each way."""
        if up < 0 or down < 0:
            raise ValueError(f"a delay must not be negative: up={up}, down={down}")
        self._change(delay_up=up, delay_down=down)

    def throttle(self, bytes_per_second: float) -> None:
        """Let so many bytes a second pass each way of each connection."""
        if not bytes_per_second > 0:
            raise ValueError(f"a rate must be positive, not {bytes_per_second}")
        self._change(rate=bytes_per_second)

    def restore(self) -> None:
        """End every fault. Connections that were silenced are reset: their bytes are lost."""
        silenced = bool(self._faults.blackhole)
        with self._lock:
            self._faults = _Faults()
        self._order("cut" if silenced else "listen")

    def _change(self, **faults: object) -> None:
        with self._lock:
            self._faults = dataclasses.replace(self._faults, **faults)  # type: ignore[arg-type]
        self._order("listen")

    def _order(self, what: str) -> None:
        """Have the thread do something; return once it is done."""
        if self._thread is None or not self._thread.is_alive():
            raise RuntimeError("this proxy is not running: call start()")
        done = threading.Event()
        self._orders.append((what, done))
        self._wakee.send(b"x")
        while not done.wait(0.1):
            if not self._thread.is_alive():
                raise RuntimeError("the proxy's thread has died")

    # -- the thread

    def _serve(self) -> None:
        with selectors.DefaultSelector() as selector:
            running = True
            while running:
                self._register(selector)
                for key, _ in selector.select(self._pause()):
                    if key.fileobj is self._waker:
                        with contextlib.suppress(BlockingIOError):
                            self._waker.recv(4096)
                    elif key.fileobj is self._listener:
                        self._accept()
                self._move()
                running = self._obey()
        self._drop(self._links, reset=True)
        if self._listener is not None:
            self._listener.close()

    def _register(self, selector: selectors.BaseSelector) -> None:
        wanted: dict[socket.socket, int] = {self._waker: selectors.EVENT_READ}
        if self._listener is not None:
            wanted[self._listener] = selectors.EVENT_READ
        now = time.monotonic()
        for link in self._links:
            for pipe in link.pipes:
                if not pipe.ended and pipe.held < _BUFFER:
                    wanted[pipe.source] = wanted.get(pipe.source, 0) | selectors.EVENT_READ
                if pipe.direction not in self._faults.blackhole and pipe.due(now) <= now:
                    wanted[pipe.sink] = wanted.get(pipe.sink, 0) | selectors.EVENT_WRITE
            if not link.pipes:
                wanted[link.client] = selectors.EVENT_READ
        for key in list(selector.get_map().values()):
            if wanted.get(key.fileobj) != key.events:  # type: ignore[call-overload]
                selector.unregister(key.fileobj)
        for end, events in wanted.items():
            if end not in selector.get_map():
                selector.register(end, events)

    def _pause(self) -> float | None:
        now = time.monotonic()
        due = [pipe.due(now) for link in self._links for pipe in link.pipes]
        soonest = min((moment for moment in due if moment > now), default=float("inf"))
        return None if soonest == float("inf") else max(0.0, soonest - now)

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            client, _ = self._listener.accept()
        except OSError:
            return
        server = None
        if not self._faults.mute_new:
            try:
                server = socket.create_connection(self._target, timeout=self._connect_timeout)
            except OSError:
                _Link(client, None).close(reset=True)
                return
            server.setblocking(False)
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._links.append(_Link(client, server))

    def _move(self) -> None:
        faults = self._faults
        now = time.monotonic()
        broken = []
        for link in self._links:
            alive = True
            for pipe in link.pipes:
                delay = faults.delay_up if pipe.direction == "up" else faults.delay_down
                if not pipe.ended and pipe.held < _BUFFER:
                    alive = alive and pipe.read(delay, now)
                if pipe.direction in faults.blackhole:
                    pipe.chunks.clear()
                    pipe.held = 0
                else:
                    alive = alive and pipe.write(faults.rate, now)
            if not link.pipes:
                with contextlib.suppress(BlockingIOError):
                    try:
                        alive = bool(link.client.recv(_CHUNK))
                    except ConnectionError:
                        alive = False
            if not alive or link.finished:
                broken.append(link)
        self._drop([link for link in broken if not link.finished], reset=True)
        self._drop([link for link in broken if link.finished], reset=False)

    def _obey(self) -> bool:
        running = True
        while self._orders:
            what, done = self._orders.popleft()
            if what in {"cut", "refuse", "close"}:
                self._drop(self._links, reset=True)
            if what == "close":
                running = False
            elif self._faults.refuse and self._listener is not None:
                self._listener.close()
                self._listener = None
            elif not self._faults.refuse and self._listener is None:
                self._listener = socket.create_server(self.address, backlog=512)
                self._listener.setblocking(False)
            done.set()
        return running

    def _drop(self, links: list[_Link], *, reset: bool) -> None:
        gone = list(links)
        self._links = [link for link in self._links if link not in gone]
        for link in gone:
            link.close(reset=reset)
