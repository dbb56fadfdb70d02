"""One connection to a server, on libpq's own asynchronous calls: each call has a deadline.

psycopg's connections wait without one. Here libpq sends and reads what it can, and this module
waits for the socket, until the deadline on the boot-time clock and no longer. What is sent together
is one transaction: all of it is done, or nothing. It knows no table, and no group.
"""

from __future__ import annotations

import os
import select
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
from psycopg import conninfo, pq

from hashring.driver import Traffic

from .._net import addresses, left

__all__ = ["Link", "LinkFailed", "ServerRefused", "Value", "attempts"]

Value = bytes | str | int | float | bool | None
"""A parameter or a result of a statement."""

_PORT = 5432
_DONE = (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK)


class LinkFailed(OSError):
    """The connection cannot be made, or broke: nobody knows what was done on it."""


class ServerRefused(Exception):
    """The server refused a statement, and did nothing.

    Attributes:
        code: its SQLSTATE.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


_READERS: Mapping[int, Any] = {
    16: lambda raw: raw != b"\0",
    17: bytes,
    20: lambda raw: struct.unpack("!q", raw)[0],
    23: lambda raw: struct.unpack("!i", raw)[0],
    25: bytes.decode,
    701: lambda raw: struct.unpack("!d", raw)[0],
}
"""By the type's number: boolean, bytea, bigint, integer, text, double precision; in binary."""


def _encoded(value: Value) -> bytes | None:
    if value is None or isinstance(value, bytes):
        return value
    return str(value).encode()


def effective(parameters: Mapping[str, str]) -> dict[str, str]:
    """Return what libpq makes of the parameters, the environment, and a service's file.

    libpq resolves names as the first step of a connection, and has no time limit for it. With an
    invalid address it ends before that, and tells by then what it would use.
    """
    started = pq.PGconn.connect_start(
        conninfo.make_conninfo(**{**parameters, "hostaddr": "none"}).encode()
    )
    try:
        return {
            option.keyword.decode(): option.val.decode()
            for option in started.info
            if option.val and option.keyword != b"hostaddr"
        }
    finally:
        started.finish()


def attempts(
    parameters: Mapping[str, str], deadline: float
) -> tuple[list[dict[str, str]], list[str]]:
    """Return one set of parameters for each address that may be tried, and what has no address.

    Args:
        parameters: libpq's, by name.
        deadline: of the resolution of names, in seconds on the boot-time clock.
    """
    if "hostaddr" in parameters:
        return [dict(parameters)], []
    known = effective(parameters)
    hosts = [host for host in known.get("host", "").split(",") if host]
    ports = known.get("port", "").split(",")
    if not hosts:
        return [dict(parameters)], []
    found, failed = [], []
    for index, host in enumerate(hosts):
        port = ports[index if len(ports) > 1 else 0] or str(_PORT)
        one = {**parameters, "host": host, "port": port}
        if host.startswith(("/", "@")):
            found.append(one)
            continue
        try:
            each = [address[4][0] for address in addresses((host, int(port)), deadline)]
        except OSError as error:
            failed.append(str(error))
            continue
        found += [{**one, "hostaddr": str(address)} for address in dict.fromkeys(each)]
    return found, failed


class Link:
    """A connection that is made.

    Args:
        parameters: libpq's, by name; one host.
        deadline: in seconds on the boot-time clock.
        traffic: counts what is said and heard. libpq counts no bytes: what is counted are the
            statements, their parameters, the cells of the answers and the notifications.

    Raises:
        LinkFailed: it is not made in time, or is refused; the message is libpq's.
    """

    def __init__(
        self, parameters: Mapping[str, str], deadline: float, traffic: Traffic | None = None
    ) -> None:
        self._process = os.getpid()
        self._traffic = Traffic() if traffic is None else traffic
        self._connection = pq.PGconn.connect_start(
            conninfo.make_conninfo(**dict(parameters)).encode()
        )
        self.heard: list[tuple[str, str]] = []
        """Channel and payload of each notification that came, oldest first."""
        try:
            self._connect(deadline)
        except BaseException:
            self.close()
            raise

    @property
    def socket(self) -> int:
        """The number of the file to wait for, where something may have been heard."""
        return self._connection.socket

    @property
    def announced_backend(self) -> int:
        """The number of the server's process as it was told when the connection was made."""
        return self._connection.backend_pid

    def _failed(self, otherwise: str = "the connection broke") -> LinkFailed:
        message = self._connection.get_error_message().strip()
        return LinkFailed(" ".join((message or otherwise).split()))

    def _connect(self, deadline: float) -> None:
        connection = self._connection
        connection.notice_handler = None
        if connection.status == pq.ConnStatus.BAD:
            raise self._failed()
        connection.nonblocking = 1
        status = pq.PollingStatus.WRITING
        while status != pq.PollingStatus.OK:
            if status == pq.PollingStatus.FAILED:
                raise self._failed("the connection was refused")
            reading = status == pq.PollingStatus.READING
            self._wait(select.POLLIN if reading else select.POLLOUT, deadline)
            status = pq.PollingStatus(connection.connect_poll())
        connection.nonblocking = 1
        connection.notify_handler = None
        connection.enter_pipeline_mode()

    def _wait(self, events: int, deadline: float) -> None:
        poll = select.poll()
        poll.register(self._connection.socket, events)
        if not poll.poll(max(1.0, left(deadline) * 1000)):
            left(deadline)  # the poll may end a little early

    def run(
        self, statements: Sequence[tuple[str, Sequence[Value]]], deadline: float
    ) -> list[list[tuple[Any, ...]]]:
        """Run statements as one transaction; return the rows of each.

        Args:
            statements: each with its parameters.
            deadline: in seconds on the boot-time clock.

        Raises:
            ServerRefused: one was refused, and none was done. The connection can be used on.
            LinkFailed, TimeoutError: nobody knows. The connection can only be closed.
        """
        connection = self._connection
        try:
            said = 0
            for text, values in statements:
                encoded = [_encoded(value) for value in values]
                said += len(text) + sum(map(len, filter(None, encoded)))
                connection.send_query_params(
                    text.encode(),
                    encoded or None,
                    param_formats=[
                        pq.Format.BINARY if isinstance(value, bytes) else pq.Format.TEXT
                        for value in values
                    ]
                    or None,
                    result_format=pq.Format.BINARY,
                )
            connection.pipeline_sync()
            self._traffic.sends(said)
            return self._answers(deadline)
        except psycopg.Error as error:
            raise LinkFailed(" ".join(str(error).split())) from error

    def _answers(self, deadline: float) -> list[list[tuple[Any, ...]]]:
        connection = self._connection
        answers: list[list[tuple[Any, ...]]] = []
        refused: ServerRefused | None = None
        while True:
            unsent = connection.flush()
            while not connection.is_busy():
                result = connection.get_result()
                if result is None:
                    if connection.status == pq.ConnStatus.BAD:
                        raise self._failed()
                    continue  # the end of one statement's answer
                if result.status == pq.ExecStatus.PIPELINE_SYNC:
                    self._note()
                    if refused is not None:
                        raise refused
                    return answers
                if result.status in _DONE:
                    rows, size = _rows(result)
                    self._traffic.receives(size)
                    answers.append(rows)
                elif refused is None and result.status == pq.ExecStatus.FATAL_ERROR:
                    code = result.error_field(pq.DiagnosticField.SQLSTATE)
                    if code is None or connection.status == pq.ConnStatus.BAD:
                        raise self._failed()
                    message = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b""
                    refused = ServerRefused(code.decode(), message.decode(errors="replace"))
            self._wait(select.POLLIN | (select.POLLOUT if unsent else 0), deadline)
            connection.consume_input()

    def _note(self) -> None:
        while (notice := self._connection.notifies()) is not None:
            self.heard.append((notice.relname.decode(), notice.extra.decode()))
            self._traffic.receives(len(notice.relname) + len(notice.extra))

    def listen(self) -> None:
        """Take in what has come by itself, without waiting.

        Raises:
            LinkFailed: the connection broke.
        """
        try:
            self._connection.consume_input()
            self._note()
        except psycopg.Error as error:
            raise LinkFailed(" ".join(str(error).split())) from error

    def close(self) -> None:
        """End the connection; in a fork nothing, as it is its parent's."""
        if os.getpid() == self._process:
            self._connection.finish()


def _rows(result: Any) -> tuple[list[tuple[Any, ...]], int]:
    """Return the rows of an answer, and the bytes of their cells."""
    readers = [_READERS[result.ftype(column)] for column in range(result.nfields)]
    rows, size = [], 0
    for row in range(result.ntuples):
        cells = [result.get_value(row, column) for column in range(len(readers))]
        size += sum(len(cell) for cell in cells if cell is not None)
        rows.append(
            tuple(
                None if cell is None else reader(bytes(cell))
                for reader, cell in zip(readers, cells, strict=True)
            )
        )
    return rows, size
