"""Where publishers stood before :mod:`hashring.telemetry.plugin`: old names, kept importable."""

from hashring.telemetry.errors import OutputClosed, OutputFailed, SinkUnusable
from hashring.telemetry.plugin.publisher import Publisher, log, unopened
from hashring.telemetry.plugin.sink_url import SinkURL, count, flag, positive, seconds
from hashring.url import Option, boolean, masked

__all__ = [
    "Option",
    "OutputClosed",
    "OutputFailed",
    "Publisher",
    "SinkURL",
    "SinkUnusable",
    "boolean",
    "count",
    "flag",
    "log",
    "masked",
    "positive",
    "seconds",
    "unopened",
]
