"""Samples as batches of JSON, posted to an HTTP server: http:// and https://.

The objects are those of the JSON lines (see
:meth:`hashring.telemetry.model.sample.Sample.to_json`). What an answer means is the business of
``web``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from hashring.telemetry.model.batch import Batch
from hashring.telemetry.model.settings import Settings
from hashring.telemetry.plugin import Option, SinkURL, boolean, positive
from hashring.telemetry.publishers.web import Session, WebPublisher

__all__ = ["HTTPPublisher"]


class HTTPPublisher(WebPublisher):
    """Posts lists of samples as JSON: ``https://user:password@host:port/path?timeout=5``.

    The options are those of Ceilometer's publisher of this name, where it has them; a request is
    one list, or with ``batch=false`` one object.
    """

    options: ClassVar[tuple[Option, ...]] = (
        *WebPublisher.options,
        Option("batch", boolean, True, "whether a request is a list of samples; if not, one alone"),
        Option("poolsize", positive, 10, "the most connections to the sink that are kept open"),
    )
    _default_path = "/"

    def __init__(self, url: str, settings: Settings) -> None:
        super().__init__(url, settings)
        self._as_list: bool = self._parsed.options["batch"]
        if not self._as_list:
            self._batch_size = 1

    def _make_session(self, url: SinkURL) -> Session:
        return Session(url, connections=url.options["poolsize"])

    def _send(self, batches: Sequence[Batch]) -> None:
        # A line of JSON is an object and a line feed, which JSON has nowhere else.
        lines = b"".join(batch.lines() for batch in batches)[:-1]
        body = b"[" + lines.replace(b"\n", b",") + b"]" if self._as_list else lines
        self._post(body, {"Content-Type": "application/json"})
