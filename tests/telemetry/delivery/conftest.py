"""Sinks of a test's own, and a delivery to them."""

import pytest

from hashring.telemetry.delivery.delivery import Delivery
from hashring.telemetry.delivery.spool import Spool
from tests.telemetry.delivery.sinks import MIB, A, B, Sink


@pytest.fixture
def sinks():
    return {A: Sink(A), B: Sink(B)}


@pytest.fixture
def deliver(tmp_path, sinks):
    """Start a delivery to the sinks on a spool in one folder; close it in the end."""
    started = []

    def start(make=sinks.__getitem__, max_bytes=MIB, **options):
        patience = {"first_pause": 0.02, "longest_pause": 0.1, "make_pause": 0.1}
        spool = Spool(tmp_path / "spool", max_bytes=max_bytes)
        delivery = Delivery(spool, make, **patience | {"adopt_every": 0.1} | options)
        started.append(delivery)
        return delivery

    yield start
    for sink in sinks.values():
        sink.gate.set()
    for delivery in started:
        delivery.close(0.0)
