"""http and https: a POST of Aodh's body, with a key for who must not act twice, and a signature."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
from collections.abc import Mapping
from urllib.parse import parse_qs, urlsplit

from hashring.alarms.plugin import (
    Action,
    ActionFailed,
    ActionRefused,
    BadAlarm,
    Notification,
    Settings,
)
from hashring.telemetry.http import FAILURES, Client, is_timeout, reason_of, retry_after
from hashring.url import masked, secrets_in, without_secrets

__all__ = ["WebAction", "posted", "signature"]

_TRY_AGAIN = frozenset({408, 425, 429})
"""Answers of 4xx that are no refusal."""

_LONGEST_REST = 300.0
"""A sink that asks to be left alone for more seconds than these is tried again all the same."""

_SHOWN = 200
"""Characters of an answer that a message shows."""


def signature(key: str, body: bytes) -> str:
    """Return the signature of a body, as the header ``X-Hashring-Signature`` has it.

    >>> signature("k", b"{}")
    'sha256=add853b103fbcc936a194f9eb15e29c4ff08af6e47d5d1bca4f20218e31e4fff'
    """
    return f"sha256={hmac.new(key.encode(), body, hashlib.sha256).hexdigest()}"


def posted(
    client: Client,
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    deadline: float,
    verify: bool | str,
) -> None:
    """Post a body; return once it was accepted.

    Raises:
        ActionFailed: no answer in time, or one that asks for another try.
        ActionRefused: the answer says that no other try can succeed.
    """
    shown = masked(url)
    try:
        with client.exchange(
            "POST", url, deadline=deadline, headers=headers, body=body, verify=verify
        ) as answer:
            status, location = answer.status, answer.location
            rest = retry_after(answer.headers.get("Retry-After"), _LONGEST_REST)
            said = b""
            # What was accepted stays so, whatever becomes of the rest of the answer. Where that is
            # short it is read, so that the connection can be used again.
            with contextlib.suppress(*FAILURES):
                said = next(answer.chunks(), b"")
    except FAILURES as error:
        why = "no answer in time" if is_timeout(error, deadline) else reason_of(error)
        raise ActionFailed(f"{shown}: {why}") from None
    if 200 <= status < 300:
        return
    whole = " ".join(said.decode("utf-8", "replace").split())
    text = without_secrets(whole, secrets_in(url))[:_SHOWN]  # cut last: half a secret is one too
    message = f"{shown}: answered {status}{f': {text}' if text else ''}"
    if location is not None:
        raise ActionRefused(f"{message}; it redirects, which is not followed: name the new place")
    if status >= 500 or status in _TRY_AGAIN:
        raise ActionFailed(message, answered=rest is None, retry_after=rest)
    raise ActionRefused(message)


class WebAction(Action):
    """Posts to ``http://`` and ``https://`` sinks.

    The body is Aodh's. ``Idempotency-Key`` is the same whenever one notification is sent again.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._client = Client(
            connections=settings.threads,
            certificate=settings.client_certificate,
            key=settings.client_key,
        )

    @classmethod
    def check(cls, url: str) -> None:
        """Check a URL.

        Raises:
            BadAlarm: it names no host.
        """
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname, parts.port
        except ValueError as error:
            raise BadAlarm(f"{masked(url)!r}: {error}") from None
        if not host or any(sign.isspace() for sign in url):
            raise BadAlarm(f"{masked(url)!r}: must be a URL such as https://host/path")

    def deliver(self, notification: Notification, deadline: float) -> None:
        """Post it; see :meth:`Action.deliver`."""
        body = json.dumps(dict(notification.body)).encode()
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": f'"{notification.key}"',
            "X-Openstack-Request-Id": f"req-{notification.key}",
        }
        if self.settings.signing_key:
            headers["X-Hashring-Signature"] = signature(self.settings.signing_key, body)
        posted(
            self._client,
            notification.url,
            body,
            headers,
            deadline=deadline,
            verify=self._verify(notification.url),
        )

    def _verify(self, url: str) -> bool | str:
        """Return how the certificate is checked; a URL may say otherwise, as with Aodh."""
        given = parse_qs(urlsplit(url).query).get("aodh-alarm-ssl-verify", [])
        wanted = self.settings.verify if not given else given[-1] not in ("0", "false")
        return (self.settings.ca_file or True) if wanted else False

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
