"""What publishers over HTTP share: one sink's requests, what an answer means, what is refused.

An answer means one of three things. The sink took the samples (2xx). It will not take these
samples, whatever is done (400, 413, 422 and the like): then the batch is split until the refused
samples stand alone, and those are set aside, so that one sample never holds up the others. Or it
cannot take any now, and the same samples are sent again later: no answer, 5xx, 408, 429, and what
says that the request itself is not welcome (401, 403, 404 and the like): no sample is to blame for
a wrong password. This module knows no format.
"""

from __future__ import annotations

import abc
import dataclasses
import email.message
import logging
import math
import os
import re
import ssl
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple

from hashring import clock
from hashring.errors import BadURL
from hashring.telemetry import http
from hashring.telemetry.errors import BadEncoding, OutputFailed
from hashring.telemetry.model.batch import Batch, batches_of
from hashring.telemetry.model.sample import Sample
from hashring.telemetry.model.settings import Settings
from hashring.telemetry.plugin import Option, Publisher, SinkURL, boolean, count, positive, seconds
from hashring.telemetry.publishers.requests import count_of, halves, requests
from hashring.url import masked, secrets_in, without_secrets

__all__ = ["WEB_OPTIONS", "Answer", "Refused", "Session", "WebPublisher", "judge"]

log = logging.getLogger(__name__)

_RETRY_AFTER_MAX = 300.0
"""A sink that asks for more seconds than these is asked again all the same."""

_SHOWN = 200
"""How many characters of a sink's answer a message shows."""

_NOT_ABOUT_SAMPLES = frozenset((*range(401, 409), 410, 411, 415, 421, 425, 426, 429, 451))
"""Answers of 4xx that say nothing of what was sent: of who sends, to where, how, or when."""

_SCHEME_NAME = 9
"""Characters of the longest usual name before a header's credentials: Bearer, Basic, Negotiate."""

_MOST = 64 * 1024
"""Bytes of a sink's answer, decompressed, that are read; what comes after them is dropped."""

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def _verify(text: str) -> bool | str:
    try:
        return boolean(text)
    except ValueError:
        # Ceilometer takes the path of a bundle here too.
        return _file(text)


def _file(text: str) -> str:
    path = Path(text)
    if not path.exists():
        raise ValueError("there is no such file")
    if not os.access(path, os.R_OK):
        raise ValueError("it cannot be read")
    return text


def _environment(text: str) -> str:
    if text not in os.environ:
        raise ValueError("no such variable is in the environment")
    return text


WEB_OPTIONS: tuple[Option, ...] = (
    Option(
        "timeout", seconds, 5.0, "seconds for the whole of a request, to its answer's last byte"
    ),
    Option("max_retries", count, 2, "further tries to connect before it counts as a failure"),
    Option("verify_ssl", _verify, True, "whether to check the sink's certificate, or by what file"),
    Option("ca", _file, None, "a file of the certificates that the sink's must be signed by"),
    Option("clientcert", _file, None, "a file with the certificate to show to the sink"),
    Option("clientkey", _file, None, "a file with that certificate's key"),
    Option(
        "headers_env",
        _environment,
        None,
        "an environment variable with headers to send, one 'Name: value' a line",
    ),
)
"""Options that every publisher over HTTP has."""


class Refused(Exception):
    """The sink will not take these samples.

    Args:
        cause: a few words, the same each time.
        detail: what the sink said.
    """

    def __init__(self, cause: str, detail: str) -> None:
        super().__init__(cause)
        self.cause = cause
        self.detail = detail


class Answer(NamedTuple):
    """What a sink said.

    Attributes:
        status: its number.
        reason: the words beside it; may be empty.
        headers: by name, in any case.
        body: decompressed; the beginning of it, where it is long.
    """

    status: int
    reason: str
    headers: Mapping[str, str]
    body: bytes


class Session:
    """Requests to one sink: how to connect, whom to trust, and as whom to speak.

    The environment's proxies are used.

    Args:
        url: the sink, with :data:`WEB_OPTIONS` among its options.
        connections: how many connections are kept open.

    Attributes:
        timeout: seconds for the whole of a request, from the first try to connect to the last byte
            of the answer, however slowly the sink talks.
        secrets: values of headers, and the words in them, that no message may show.

    Raises:
        BadURL: the options contradict one another, or the headers are not well formed.
    """

    def __init__(self, url: SinkURL, connections: int = 1) -> None:
        options = url.options
        self._check = _trust(url)
        if self._check is False:
            log.warning("%s: the sink's certificate is not checked (verify_ssl=false)", url)
            http.silence_unchecked()
        if options["clientkey"] and not options["clientcert"]:
            raise BadURL(f"{url.shown!r}: clientkey needs clientcert")
        if url.scheme.endswith("https"):
            _read_certificates(url, self._check)
        self._headers: dict[str, str | bytes] = {}
        self.secrets: frozenset[str] = frozenset()
        if options["headers_env"]:
            headers = _headers(options["headers_env"], url)
            self._headers.update(headers)
            self.secrets = frozenset(
                word for value in headers.values() for word in _words(value.decode())
            )
        if url.user is not None:
            login = http.basic_authentication(url.user, url.password or "")
            self._headers = http.merged(self._headers, {"Authorization": login})
        self.timeout: float = options["timeout"]
        self._client = http.Client(
            connections=connections,
            certificate=options["clientcert"],
            key=options["clientkey"],
            retries=options["max_retries"],
            uses_proxies=True,
        )

    def post(
        self, address: str, body: bytes, headers: Mapping[str, str], deadline: float
    ) -> Answer:
        """Send a request.

        Args:
            address: without user and password.
            body: what is sent.
            headers: beside those of the sink's options.
            deadline: on the clock of :mod:`hashring.clock`.

        Raises:
            one of hashring.telemetry.http.FAILURES: there was no answer, or not in time.
        """
        with self._client.exchange(
            "POST",
            address,
            deadline=deadline,
            headers=http.merged(self._headers, headers),
            body=body,
            verify=self._check,
        ) as answer:
            return Answer(answer.status, answer.reason, answer.headers, _beginning(answer))

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def _beginning(answer: http.Answer) -> bytes:
    """Return what an answer says, or the beginning of it."""
    found = bytearray()
    try:
        for chunk in answer.chunks():
            found += chunk
            if len(found) >= _MOST:
                break
    except BadEncoding:
        found.clear()  # its status says enough
    return bytes(found[:_MOST])


def _trust(url: SinkURL) -> bool | str:
    checked: bool | str = url.options["verify_ssl"]
    ca: str | None = url.options["ca"]
    if ca is None:
        return checked
    if checked is False:
        raise BadURL(f"{url.shown!r}: verify_ssl=false and ca= contradict each other")
    return ca


def _read_certificates(url: SinkURL, check: bool | str) -> None:
    """Read the files for TLS now: else what is wrong with them would be told by each request."""
    cert: str | None = url.options["clientcert"]
    try:
        context = ssl.create_default_context()
        if isinstance(check, str):
            is_folder = Path(check).is_dir()
            context.load_verify_locations(**{"capath" if is_folder else "cafile": check})
        if cert is not None:
            # A key that is encrypted is refused: nobody is there to type its password.
            context.load_cert_chain(cert, url.options["clientkey"], lambda: b"")
    except OSError as error:
        reason = getattr(error, "reason", None) or error.strerror or type(error).__name__
        raise BadURL(
            f"{url.shown!r}: the files for TLS cannot be used ({reason}): ca and verify_ssl need "
            "PEM certificates, clientcert and clientkey a certificate and its key without password"
        ) from None


def _headers(variable: str, url: SinkURL) -> Mapping[str, bytes]:
    found: dict[str, bytes] = {}
    for number, line in enumerate(os.environ[variable].splitlines(), 1):
        if not line.strip():
            continue
        name, colon, value = line.partition(":")
        name = name.strip()
        # The line itself is not shown: it is most likely a secret.
        if not colon or not _HEADER_NAME.fullmatch(name):
            raise BadURL(
                f"{url.shown!r}: line {number} of the environment variable {variable!r} is no "
                "header: write 'Name: value'"
            )
        found[name] = value.strip().encode()
    return found


def _words(value: str) -> Iterator[str]:
    """Yield a header's value and its credentials, without ``Bearer`` or the like."""
    yield value
    yield from (word for word in value.split() if len(word) > _SCHEME_NAME)


def judge(answer: Answer, where: str, secrets: Collection[str] = ()) -> None:
    """Return where the sink took what it was sent.

    Args:
        answer: what it said.
        where: the sink, for messages.
        secrets: what no message may show, though the sink's answer may.

    Raises:
        Refused: it will not take these samples.
        OutputFailed: it may take them later.
    """
    status = answer.status
    if 200 <= status < 300:
        return
    said = f"{status} {answer.reason}".strip()
    # A server may repeat what it was sent, the headers too.
    body = without_secrets(" ".join(_text(answer).split()), secrets)
    said = without_secrets(said, secrets)
    detail = f"it answered {said}" + (f": {body[:_SHOWN]}" if body else "")
    if 400 <= status < 500 and status not in _NOT_ABOUT_SAMPLES:
        raise Refused(f"status {status}", detail)
    message = f"cannot publish to {where}: {detail}"
    if 300 <= status < 400:
        place = without_secrets(masked(answer.headers.get("Location", "nowhere")), secrets)
        message += f" (to {place!r}): name the new address"
    elif status in (401, 403, 407):
        message += "; check user, password and headers"
    elif status in (404, 405, 410):
        message += "; check the path"
    raise OutputFailed(
        message, http.retry_after(answer.headers.get("Retry-After"), _RETRY_AFTER_MAX)
    )


def _text(answer: Answer) -> str:
    message = email.message.Message()
    message["Content-Type"] = answer.headers.get("Content-Type", "")
    try:
        return answer.body.decode(message.get_content_charset("utf-8"), "replace")
    except LookupError:  # a charset that nobody knows
        return answer.body.decode("utf-8", "replace")


class WebPublisher(Publisher):
    """Sends batches of samples over HTTP, splits those that are refused, and heeds Retry-After.

    A subclass says with :meth:`_send` what a request looks like.
    """

    options: ClassVar[tuple[Option, ...]] = (
        *WEB_OPTIONS,
        Option("batch_size", positive, 500, "the most samples that are sent in one request"),
    )
    _default_path = ""
    _default_port: ClassVar[int | None] = None

    def __init__(self, url: str, settings: Settings) -> None:
        super().__init__(url, settings)
        found = SinkURL.parse(url, self.options)
        if not found.host or found.port == 0:
            raise BadURL(f"{found.shown!r} names no host: write {found.scheme}://host:port/path")
        if found.port is None:
            found = dataclasses.replace(found, port=self._default_port)
        scheme = found.scheme.rpartition("+")[2]
        path = found.path if found.path not in ("", "/") else self._default_path
        self._address = f"{scheme}://{found.authority}{path}"
        self._where = masked(self._address)
        self._timeout: float = found.options["timeout"]
        self._batch_size: int = found.options["batch_size"]
        self._not_before = -math.inf
        self._parsed = found
        self._session = self._make_session(found)
        self._secrets = secrets_in(url) | self._session.secrets

    def _make_session(self, url: SinkURL) -> Session:
        return Session(url)

    @abc.abstractmethod
    def _send(self, batches: Sequence[Batch]) -> None:
        """Send one request.

        Raises:
            Refused: the sink will not take these samples.
            OutputFailed: it may take them later.
        """

    def publish(self, samples: Sequence[Sample]) -> None:
        """Send the samples in requests, each within its timeouts; see :class:`Publisher`."""
        # Its own, not that of a subclass that hands its samples on to here.
        WebPublisher.publish_batches(self, batches_of(samples))

    def publish_batches(self, batches: Sequence[Batch]) -> None:
        """Send the samples in requests, each within its timeouts; see :class:`Publisher`."""
        wait = self._not_before - clock.boottime()
        if wait > 0:
            raise OutputFailed(f"{self._where} asked to be left alone for {wait:.0f} s more", wait)
        refused: list[tuple[Sample, Refused]] = []
        try:
            for request in requests(batches, self._batch_size):
                refused += self._refused(request)
        except OutputFailed as error:
            if error.retry_after is not None:
                self._not_before = clock.boottime() + error.retry_after
            raise
        # Only now: had a later request failed, all of this would be sent, and refused, once more.
        for sample, why in refused:
            self.set_aside([sample], why.cause, why.detail)

    def _refused(self, batches: Sequence[Batch]) -> Iterator[tuple[Sample, Refused]]:
        try:
            self._send(batches)
        except Refused as why:
            if count_of(batches) == 1:
                yield batches[0][0], why
                return
            for half in halves(batches):
                yield from self._refused(half)

    def _post(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Send one request, and return what the sink said, where it took the samples.

        Raises:
            Refused: as of :meth:`_send`; OutputFailed likewise.
        """
        answer = self._ask(body, headers)
        judge(answer, self._where, self._secrets)
        return answer

    def _ask(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Send one request, and return what the sink said, whatever it was.

        Raises:
            OutputFailed: it said nothing, or not in time.
        """
        deadline = clock.boottime() + self._timeout
        try:
            return self._session.post(self._address, body, headers, deadline)
        except http.FAILURES as error:
            if http.is_timeout(error, deadline):
                reason = f"no whole answer within {self._timeout:g} s"
            else:
                reason = without_secrets(http.reason_of(error), self._secrets)
            raise OutputFailed(f"cannot publish to {self._where}: {reason}") from None

    def close(self) -> None:
        """Close the connections."""
        self._session.close()
