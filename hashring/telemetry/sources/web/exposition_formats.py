"""The formats in which a target may answer: how they are asked for, and which an answer has.

Their names are those of Prometheus's ``scrape_protocols``. This module reads no answer.
"""

from __future__ import annotations

import email.message
import enum
from collections.abc import Sequence

from hashring.telemetry.errors import BadExposition
from hashring.telemetry.model.settings import SCRAPE_PROTOCOLS

__all__ = ["Form", "accepted", "form_of"]

_PROTOBUF = "application/vnd.google.protobuf"
_MESSAGE = "io.prometheus.client.MetricFamily"
_OPENMETRICS = "application/openmetrics-text"

_ASKED = dict(
    zip(
        SCRAPE_PROTOCOLS,
        (
            f"{_PROTOBUF};proto={_MESSAGE};encoding=delimited",
            f"{_OPENMETRICS};version=1.0.0",
            f"{_OPENMETRICS};version=0.0.1",
            "text/plain;version=0.0.4",
        ),
        strict=True,
    )
)


class Form(enum.Enum):
    """How an answer is written; the value is what messages call it."""

    TEXT = "the text format"
    OPENMETRICS = "OpenMetrics"
    PROTOBUF = "protobuf"


def accepted(names: Sequence[str]) -> str:
    """Return the header ``Accept`` that asks for formats, the first one before the others.

    Args:
        names: of formats, as in Prometheus's ``scrape_protocols``. Whatever else a target has is
            better than no answer.

    Example:
        >>> accepted(["PrometheusText0.0.4", "OpenMetricsText1.0.0"])
        'text/plain;version=0.0.4,application/openmetrics-text;version=1.0.0;q=0.9,*/*;q=0.1'
    """
    weighed = (
        f"{_ASKED[name]};q={(10 - rank) / 10:g}" if rank else _ASKED[name]
        for rank, name in enumerate(names)
    )
    return ",".join((*weighed, "*/*;q=0.1"))


def form_of(content_type: str) -> Form:
    """Return how an answer is written, by its content type; by an unknown one, as text.

    Raises:
        BadExposition: in protobuf, but not as it was asked for.

    Example:
        >>> form_of("application/openmetrics-text; version=1.0.0; charset=utf-8").value
        'OpenMetrics'
        >>> form_of("application/vnd.google.protobuf; encoding=text")
        Traceback (most recent call last):
        ...
        hashring.telemetry.errors.BadExposition: it is 'application/vnd.google.protobuf; ...
    """
    message = email.message.Message()
    message["Content-Type"] = content_type
    kind = message.get_content_type() if content_type else ""
    if kind == _OPENMETRICS:
        return Form.OPENMETRICS
    if kind != _PROTOBUF:
        return Form.TEXT
    proto, encoding = message.get_param("proto"), message.get_param("encoding")
    if proto not in (None, _MESSAGE) or encoding not in (None, "delimited"):
        raise BadExposition(
            f"it is {content_type[:200]!r}, where messages {_MESSAGE} are read, delimited by their "
            "lengths"
        )
    return Form.PROTOBUF
