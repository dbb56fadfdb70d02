"""A ZooKeeper session without a thread: it lives on only while its owner calls.

kazoo's client renews a session from a thread of its own, for as long as the process lives. A lease
must be renewed by a heartbeat and by nothing else, and each renewal must be known to have reached
the server that counts. So this module speaks kazoo's wire protocol (``kazoo.protocol``) over a
plain socket: every call has a deadline, and between two calls nothing happens. It knows sessions,
connections, requests and watch events; it must not know groups, members, records or leases.
"""

from __future__ import annotations

import contextlib
import math
import socket
import ssl
from collections.abc import Callable, Generator, Sequence
from typing import Any

from hashring.clock import boottime
from hashring.driver import Traffic
from hashring.errors import MissingDependency

from .._net import left
from .._waker import Waker
from .servers import Credentials, Failed, Refused, Servers

try:
    from kazoo.exceptions import (
        EXCEPTIONS,
        ConnectionLoss,
        OperationTimeoutError,
        RequestTimeoutError,
        SessionExpiredError,
        SessionMovedError,
        SystemZookeeperError,
        ThrottledOpError,
        UnknownSessionError,
        ZookeeperError,
    )
    from kazoo.protocol.serialization import (
        SASL,
        Auth,
        CloseInstance,
        Connect,
        Exists,
        PingInstance,
        Watch,
        int_struct,
        reply_header_struct,
    )
except ImportError as error:
    raise MissingDependency("the zookeeper:// driver", "kazoo", "zookeeper") from error

__all__ = ["Session", "SessionGone"]

_WATCH, _PING, _AUTH = -1, -2, -4  # the xids that ZooKeeper reserves
_PIPELINE = 256  # requests sent ahead of their answers: far less than any socket buffer holds
_NUDGE = 1.0  # seconds of silence before the first ping; twice as long before each further one
_MAX_FRAME = 64 * 1024 * 1024  # an answer that claims to be larger comes from no ZooKeeper

# Answers that say nothing of the request but that this connection is of no more use.
_PASSING = (
    ConnectionLoss,
    OperationTimeoutError,
    RequestTimeoutError,
    SessionMovedError,
    SystemZookeeperError,
    ThrottledOpError,
)


class SessionGone(Exception):
    """The server has expired or closed this session, and its ephemeral nodes with it."""


class Session:
    """One session: a number that the servers keep, and at most one connection that carries it.

    Args:
        servers: where to connect.
        timeout: the session's timeout in seconds that we ask for; what the server made of it is
            :attr:`granted` once attached.
        credentials: what to say after each connect.
        on_event: called with the type and the path of each watch event, in the order in which
            the server sent them among its answers.
        traffic: counts what is sent and received: with TLS, what is in the encryption.

    Attributes:
        id: the session's number; 0 before there is one.
        granted: the timeout in seconds by which the server holds this session.
        seen: the newest transaction of which any server has told this session.
    """

    def __init__(
        self,
        servers: Servers,
        timeout: float,
        credentials: Credentials,
        on_event: Callable[[int, str], None] = lambda kind, path: None,
        traffic: Traffic | None = None,
    ) -> None:
        self.id = 0
        self.granted = 0.0
        self.seen = 0
        self._servers = servers
        # Rounded up: a lease may be longer than asked for, never shorter.
        self._timeout = math.ceil(timeout * 1000)
        self._credentials = credentials
        self._on_event = on_event
        self._traffic = Traffic() if traffic is None else traffic
        self._password = b"\0" * 16
        self._socket: socket.socket | None = None
        self._buffer = b""
        self._offset = 0
        self._xid = 0
        self._sent = self._heard = 0.0

    @property
    def connected(self) -> bool:
        """There is a connection; whether it still works, the next call shows."""
        return self._socket is not None

    def attach(self, deadline: float) -> None:
        """Carry the session on a new connection, or begin one.

        Where the session exists, this *renews* it at the leader, who keeps the time of all
        sessions: a follower forwards the question (``REVALIDATE``) and waits for the leader's
        word, so the session runs for :attr:`granted` seconds from a moment after the call began.
        No other request does this: a follower tells the leader of the sessions that it has heard
        from only with its next ping, and a follower that dies before takes the news with it.

        Args:
            deadline: on the boot-time clock.

        Raises:
            Failed: no server could be reached in time.
            Refused: credentials or certificates were not accepted.
            SessionGone: the session has ended; :meth:`forget` it before the next attach.
        """
        self.drop()

        def greet(connection: socket.socket, host: str, until: float) -> None:
            self._socket, self._buffer, self._offset = connection, b"", 0
            try:
                self._greet(host, until)
            except BaseException:
                self._socket = None
                raise

        self._servers.connect(deadline, greet)

    def _greet(self, host: str, deadline: float) -> None:
        # We claim to have seen nothing: a server that lags, or has gone back in time, must answer.
        hello = Connect(0, 0, self._timeout, self.id, self._password, False)
        self._send(_framed(bytes(hello.serialize())), deadline)
        frame = self._frame(deadline)
        try:
            answer, _ = Connect.deserialize(frame, 0)
        except Exception as error:
            raise Failed("the server's greeting is not ZooKeeper's") from error
        if answer.time_out <= 0:
            raise SessionGone(f"session {self.id:#x} has ended")
        self.id, self._password = answer.session_id, answer.passwd
        self.granted = answer.time_out / 1000
        self._xid = 0
        if self._credentials.mechanism:
            self._sasl(host, deadline)
        elif self._credentials.user is not None:
            pair = f"{self._credentials.user}:{self._credentials.secret or ''}"
            self._send(_packed(_AUTH, Auth(0, "digest", pair)), deadline)
            while True:
                xid, _, code, _ = self._reply(deadline)
                if xid == _AUTH:
                    break
            if code:
                raise Refused(f"{host} did not accept the credentials of user {pair.split(':')[0]}")

    def _sasl(self, host: str, deadline: float) -> None:
        who = f"user {self._credentials.user!r}" if self._credentials.user else "us"
        client = self._credentials.sasl_client(host)
        challenge: bytes | None = None
        try:
            while not client.complete:
                try:
                    response = client.process(challenge)
                except Exception as error:
                    why = f"the SASL login of {who} failed: {type(error).__name__}"
                    raise Refused(why) from error
                if client.complete and not response:
                    break
                self._xid += 1
                self._send(_packed(self._xid, SASL(response or b"")), deadline)
                try:
                    _, _, code, body = self._reply(deadline)
                except TimeoutError:
                    raise
                except OSError as error:
                    # The server answers a wrong password by hanging up.
                    raise Refused(f"{host} hung up on the SASL login of {who}") from error
                if code:
                    raise Refused(f"{host} refused the SASL login of {who} ({_error(code)!r})")
                challenge, _ = SASL.deserialize(body, 0)
        finally:
            client.dispose()

    def call(self, *requests: Any, deadline: float) -> list[Any]:
        """Send requests and return their answers in order; a request's error is its answer.

        Raises:
            Failed: the connection broke; any of the requests may have been applied.
            SessionGone: the session has ended.
        """
        return list(self.exchange(requests, deadline=deadline))

    def exchange(self, requests: Sequence[Any], *, deadline: float) -> Generator[Any, None, None]:
        """Like :meth:`call`, but yield each answer before what the server sent after it is read.

        So whoever consumes it sees answers and watch events in the server's own order.
        """
        if self._socket is None:
            raise Failed("not connected")
        try:
            for start in range(0, len(requests), _PIPELINE):
                batch = requests[start : start + _PIPELINE]
                first = self._xid + 1
                self._xid += len(batch)
                packed = [_packed(first + index, request) for index, request in enumerate(batch)]
                self._send(b"".join(packed), deadline)
                for index, request in enumerate(batch):
                    yield self._answer(first + index, request, deadline)
        except (OSError, SessionGone):
            self.drop()
            raise
        except GeneratorExit:
            self.drop()  # answers that nobody reads would be taken for those of the next call
            raise

    def _answer(self, expected: int, request: Any, deadline: float) -> Any:
        """Return what the server says to a request, and ping a server that says nothing for long.

        A ZooKeeper from 3.6.0 on, 3.8.0 among them, can go to sleep over a commit that has just
        come (ZOOKEEPER-4537): the request is committed and not answered until the server is sent
        another, of whatever kind. Where nobody else sends any, that would be never.
        """
        # Half of the time may pass before: a server that is only slow is not to be given more work.
        patience = min(_NUDGE, (deadline - boottime()) / 2)
        while True:
            xid, zxid, code, body = self._reply(deadline, patience=patience)
            if xid == expected:
                break
            if xid != _PING:
                raise Failed(f"the server answered request {xid}, not {expected}")
        self.seen = max(self.seen, zxid)
        if code:
            error = _error(code)
            if isinstance(error, SessionExpiredError | UnknownSessionError):
                raise SessionGone(f"session {self.id:#x} has ended")
            if isinstance(error, _PASSING):
                raise Failed(f"the server gave up a request: {type(error).__name__}")
            return None if isinstance(request, Exists) and code == -101 else error
        if not hasattr(request, "deserialize"):
            return None
        try:
            return request.deserialize(body, 0)
        except Exception as error:
            raise Failed("the server's answer is not ZooKeeper's") from error

    def pump(self, timeout: float, waker: Waker) -> bool:
        """Wait at most ``timeout`` seconds for watch events and deliver what has come.

        ``waker`` ends the wait.

        Sends a ping where the session needs one: a call of this method is a sign of life.

        Returns:
            Whether anything came.

        Raises:
            Failed: the connection broke.
        """
        if self._socket is None:
            raise Failed("not connected")
        try:
            came = self._deliver()
            if came:
                return True
            ping_due = self._sent + self.granted / 3 - boottime()
            # Servers may grant more than was asked for; what is waited for goes by the latter.
            patience = min(self.granted, self._timeout / 1000) / 3
            if ping_due <= 0:
                self._send(_packed(_PING, PingInstance), boottime() + patience)
                ping_due = self.granted / 3
            if self._heard < self._sent < boottime() - self.granted / 3:
                raise Failed("the server has fallen silent")
            pending = isinstance(self._socket, ssl.SSLSocket) and self._socket.pending()
            if not (pending or waker.wait(self._socket.fileno(), min(timeout, ping_due))):
                return False
            self._fill(boottime() + patience)
            return self._deliver()
        except OSError:
            self.drop()
            raise

    def _deliver(self) -> bool:
        came = False
        while (frame := self._whole_frame()) is not None:
            xid, _, _, body = _split(frame)
            if xid == _WATCH:
                self._event(body)
                came = True
        return came

    def end(self, deadline: float) -> None:
        """End the session at the servers, and its ephemeral nodes with it.

        Raises:
            Failed, SessionGone: as :meth:`call` does.
        """
        if self._socket is None:
            self.attach(deadline)
        self.call(CloseInstance, deadline=deadline)
        self.drop()
        self.forget()

    def drop(self) -> None:
        """Close the connection; the session itself runs on until it expires."""
        connection, self._socket = self._socket, None
        if connection is not None:
            connection.close()

    def interrupt(self) -> None:
        """Make a call that is under way in another thread fail at once."""
        connection = self._socket
        if connection is not None:
            with contextlib.suppress(OSError):  # it broke by itself
                connection.shutdown(socket.SHUT_RDWR)

    def forget(self) -> None:
        """Forget the session: the next :meth:`attach` begins another."""
        self.drop()
        self.id, self._password, self.granted = 0, b"\0" * 16, 0.0

    # -- frames

    def _send(self, data: bytes, deadline: float) -> None:
        assert self._socket is not None
        rest = memoryview(data)
        while rest:  # TLS has a timeout for each of its writes
            self._socket.settimeout(left(deadline))
            count = self._socket.send(rest)
            self._traffic.sends(count)
            rest = rest[count:]
        self._sent = boottime()

    def _fill(self, deadline: float) -> None:
        assert self._socket is not None
        self._socket.settimeout(left(deadline))
        chunk = self._socket.recv(1 << 18)
        if not chunk:
            raise Failed("the server closed the connection")
        self._traffic.receives(len(chunk))
        self._buffer = self._buffer[self._offset :] + chunk
        self._offset = 0
        self._heard = boottime()

    def _whole_frame(self) -> bytes | None:
        start = self._offset + 4
        if len(self._buffer) < start:
            return None
        (length,) = int_struct.unpack_from(self._buffer, self._offset)
        if not 0 <= length <= _MAX_FRAME:
            raise Failed("the server does not speak ZooKeeper's protocol")
        if len(self._buffer) < start + length:
            return None
        self._offset = start + length
        return self._buffer[start : self._offset]

    def _frame(self, deadline: float, *, patience: float = math.inf) -> bytes:
        while (frame := self._whole_frame()) is None:
            try:
                self._fill(min(deadline, boottime() + patience))
            except TimeoutError:
                if boottime() >= deadline:
                    raise
                self._send(_packed(_PING, PingInstance), deadline)
                patience *= 2
        return frame

    def _reply(self, deadline: float, *, patience: float = math.inf) -> tuple[int, int, int, bytes]:
        while True:
            xid, zxid, code, body = _split(self._frame(deadline, patience=patience))
            if xid != _WATCH:
                return xid, zxid, code, body
            self._event(body)

    def _event(self, body: bytes) -> None:
        try:
            event, _ = Watch.deserialize(body, 0)
        except Exception as error:
            raise Failed("the server's event is not ZooKeeper's") from error
        self._on_event(event.type, event.path)


def _framed(body: bytes) -> bytes:
    return bytes(int_struct.pack(len(body))) + body


def _packed(xid: int, request: Any) -> bytes:
    return _framed(int_struct.pack(xid) + int_struct.pack(request.type) + request.serialize())


def _split(frame: bytes) -> tuple[int, int, int, bytes]:
    if len(frame) < reply_header_struct.size:
        raise Failed("the server does not speak ZooKeeper's protocol")
    xid, zxid, code = reply_header_struct.unpack_from(frame)
    return xid, zxid, code, frame[reply_header_struct.size :]


def _error(code: int) -> ZookeeperError:
    known = EXCEPTIONS.get(code)  # .get(): it is a defaultdict that raises for an unknown code
    return known() if known is not None else ZookeeperError(f"error {code}")
