"""Replies: one question to a server over HTTP, bounded in time and size; errors without secrets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from hashring.alarms.errors import SourceAway
from hashring.telemetry.http import FAILURES, Client, is_timeout, reason_of
from hashring.url import secrets_in, without_secrets

__all__ = ["Asker", "Reply", "said"]

_MOST = 16 * 1024 * 1024
"""Bytes of an answer, at most."""

_SAID = 300
"""Characters of an error that a message shows."""


class Reply(NamedTuple):
    """What a server answered.

    Attributes:
        status: of the answer.
        text: its body.
    """

    status: int
    text: bytes

    def value(self) -> Any:
        """Return the body's JSON; ``None`` where it has something else."""
        try:
            return json.loads(self.text)
        except (ValueError, RecursionError):
            return None


class Asker:
    """Asks servers. May be used by several threads.

    Args:
        threads: connections that are kept.
        ca_file: of authorities; ``None``: the usual ones.
    """

    def __init__(self, threads: int, ca_file: str | None = None) -> None:
        self._verify: bool | str = ca_file or True
        self._client = Client(connections=threads)

    def ask(
        self,
        method: str,
        url: str,
        deadline: float,
        *,
        shown: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Reply:
        """Return what a server answers.

        Args:
            method: ``"GET"``, ``"POST"``.
            url: http or https; a user and password in it are sent as basic authentication.
            deadline: on the clock of :func:`hashring.clock.boottime`.
            shown: how messages call the server.
            headers: sent beside the usual ones.
            body: what is sent.

        Raises:
            SourceAway: no answer, not in time, or one that is too large.
        """
        text = bytearray()
        try:
            with self._client.exchange(
                method,
                url,
                deadline=deadline,
                headers=headers or {},
                body=body,
                verify=self._verify,
            ) as answer:
                for chunk in answer.chunks():
                    text += chunk
                    if len(text) > _MOST:
                        raise SourceAway(
                            f"{shown}: its answer has more than {_MOST} bytes", answered=True
                        )
                return Reply(answer.status, bytes(text))
        except FAILURES as error:
            why = "no answer in time" if is_timeout(error, deadline) else reason_of(error)
            raise SourceAway(f"{shown}: {why}") from None

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def said(text: str | bytes, url: str) -> str:
    """Return what a server says of an error, for a message: one line, cut, without secrets.

    Args:
        text: what it said.
        url: with which it was asked; nothing that is secret in it is shown.

    Example:
        >>> said(b"no  user admin:s3cret", "http://admin:s3cret@host")
        'no user admin:***'
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    return without_secrets(" ".join(text.split()), secrets_in(url))[:_SAID]
