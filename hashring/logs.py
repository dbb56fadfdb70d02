"""A log as JSON, a line an object, for what collects logs: the agents' `--log-format json`.

A program of its own writes::

    handler = logging.StreamHandler()
    handler.setFormatter(hashring.logs.JSONFormatter())
    logging.getLogger("hashring").addHandler(handler)

This module knows nothing but :mod:`logging`.
"""

from __future__ import annotations

import datetime
import json
import logging

__all__ = ["FORMATS", "JSONFormatter", "formatter"]

FORMATS = ("text", "json")
"""How a log may be written."""

_TEXT = "%(asctime)s %(levelname)-7s %(processName)s: %(message)s"

_EXTRA = ("group", "member", "event")
"""What our own lines carry beside their text, where they are about one member."""


class JSONFormatter(logging.Formatter):
    """Formats each record as one line of JSON.

    The fields: ``time`` (RFC 3339, UTC), ``level`` (in small letters), ``logger``, ``process`` (its
    name), ``pid`` and ``message``; ``group``, ``member`` and ``event`` where the line tells of a
    change of one member (:mod:`hashring.partition.progress`); ``exception`` with its traceback.

    Example:
        >>> record = logging.LogRecord("hashring", logging.INFO, "", 0, "a %s", ("line",), None)
        >>> json.loads(JSONFormatter().format(record))["message"]
        'a line'
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as one line of JSON."""
        moment = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        found: dict[str, object] = {
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.processName,
            "pid": record.process,
            "message": record.getMessage(),
        }
        found |= {name: value for name in _EXTRA if (value := getattr(record, name, None))}
        if record.exc_info:
            found["exception"] = self.formatException(record.exc_info)
        return json.dumps(found, ensure_ascii=False, default=str)


def formatter(name: str) -> logging.Formatter:
    """Return the formatter of one of :data:`FORMATS`."""
    return JSONFormatter() if name == "json" else logging.Formatter(_TEXT)
