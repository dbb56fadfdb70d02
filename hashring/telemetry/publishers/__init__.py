"""Publishers: they take samples away, each to one kind of sink. All are plug-ins, ours too.

``base`` says what a publisher is; each other module knows one kind of sink and its library, and is
reached by the entry-point group ``hashring.publishers`` alone, so that a library is imported only
where its sink is named. What needs no library is exported from here.
"""

from hashring.telemetry.publishers.base import OutputClosed, OutputFailed, Publisher
from hashring.telemetry.publishers.lines import FilePublisher, StdoutPublisher

__all__ = ["FilePublisher", "OutputClosed", "OutputFailed", "Publisher", "StdoutPublisher"]
