"""Publishers: they take samples away, each to one kind of sink. All are plug-ins, ours too.

What a publisher is stands in :mod:`hashring.telemetry.plugin`. Each module here knows one kind of
sink and its library, and is reached by the entry-point group ``hashring.publishers`` alone, so that
a library is imported only where its sink is named. What needs no library is exported from here. A
publisher imports ``plugin``, ``model``, ``errors`` and ``http``.
"""

from hashring.telemetry.errors import OutputClosed, OutputFailed
from hashring.telemetry.plugin import Publisher
from hashring.telemetry.publishers.lines import FilePublisher, StdoutPublisher

__all__ = ["FilePublisher", "OutputClosed", "OutputFailed", "Publisher", "StdoutPublisher"]
