"""What the tests of the delivery share: samples, and sinks that fail when they are told to."""

import threading

from hashring.telemetry.model.sample import Meter, MeterType, Sample
from hashring.telemetry.model.settings import Settings
from hashring.telemetry.plugin import Publisher

METER = Meter("tank.level", MeterType.GAUGE, "l")
SETTINGS = Settings(backend_url="memory://", member="a", host="plant")
A, B = "test://a/", "test://b/"
MIB = 1024 * 1024


def samples(count, start=0):
    return [
        Sample(METER, window, "plant:north", 0.0, window, 1.0, "a", ("v", "i", window))
        for window in range(start, start + count)
    ]


def to(urls, found):
    return [(sample, urls) for sample in found]


class Sink(Publisher):
    """A publisher that a test can break and mend."""

    def __init__(self, url=A):
        super().__init__(url, SETTINGS)
        self.error = None
        self.batches = []
        self.tries = 0
        self.threads = set()
        self.is_closed = False
        self.gate = threading.Event()
        self.gate.set()

    def publish(self, found):
        self.threads.add(threading.current_thread())
        self.tries += 1
        self.gate.wait(300)
        if self.error is not None:
            raise self.error
        self.batches.append([sample.window for sample in found])

    def close(self):
        self.is_closed = True

    @property
    def taken(self):
        return [window for batch in self.batches for window in batch]
