"""What the author of a plug-in subclasses, returns and raises; nothing of the machinery.

Three kinds of plug-ins are found by entry point: a :class:`Discovery` finds resources, a
:class:`Pollster` measures them, a :class:`Publisher` takes samples to a sink. This folder imports
``model``, ``errors`` and the core alone: it works where nothing but the core's dependency is
installed.

>>> class Tanks(Discovery):
...     def discover(self, parameter=""):
...         return [Resource(f"plant/{parameter}/a", "tank")]
>>> settings = Settings(backend_url="memory://", member="a", host="web1")
>>> [resource.id for resource in Tanks(settings).discover("west")]
['plant/west/a']
"""

from hashring.telemetry.errors import Gone, OutputClosed, OutputFailed, SinkUnusable
from hashring.telemetry.model.batch import Batch, Measured, Series
from hashring.telemetry.model.resource import Resource, on_host
from hashring.telemetry.model.sample import Measurement, Meter, MeterType, Sample
from hashring.telemetry.model.settings import Settings
from hashring.telemetry.plugin.discovery import Discovery
from hashring.telemetry.plugin.pollster import AsyncPollster, Pollster
from hashring.telemetry.plugin.publisher import Publisher, unopened
from hashring.telemetry.plugin.sink_url import SinkURL, count, flag, positive, seconds
from hashring.url import Option, boolean

__all__ = [
    "AsyncPollster",
    "Batch",
    "Discovery",
    "Gone",
    "Measured",
    "Measurement",
    "Meter",
    "MeterType",
    "Option",
    "OutputClosed",
    "OutputFailed",
    "Pollster",
    "Publisher",
    "Resource",
    "Sample",
    "Series",
    "Settings",
    "SinkURL",
    "SinkUnusable",
    "boolean",
    "count",
    "flag",
    "on_host",
    "positive",
    "seconds",
    "unopened",
]
