"""Samples between polling and publishing: the spool, and the couriers that empty it.

::

    items       what is put: samples or batches, each with its publishers' URLs
    payload     a batch as bytes, and back
    columns     StoredColumns: what batches have in common, kept once in a spool's file
    lock        the lock beside a spool, and whose spool is an orphan
    spool_file  SpoolFile: one SQLite file, and the lock on it
    spool       Spool: samples on disk until their sinks have taken them
    leftovers   samples for sinks that nobody wants any more
    outlet      Outlet: where an agent puts its samples; Counts of what became of them
    direct      Direct: the outlet without a spool
    courier     Courier: the thread of one publisher
    delivery    Delivery: the outlet with a spool

Imports ``plugin``, ``model`` and ``errors``; no publisher.
"""

from hashring.telemetry.delivery.delivery import Delivery
from hashring.telemetry.delivery.direct import Direct
from hashring.telemetry.delivery.outlet import Counts, Outlet
from hashring.telemetry.delivery.spool import Spool

__all__ = ["Counts", "Delivery", "Direct", "Outlet", "Spool"]
