"""Samples between polling and publishing: the spool, and the couriers that empty it.

``Delivery`` is the outlet with a spool, ``Direct`` the one without. This folder imports ``plugin``,
``model`` and ``errors``, and no publisher.
"""

from hashring.telemetry.delivery.delivery import Delivery
from hashring.telemetry.delivery.direct import Direct
from hashring.telemetry.delivery.outlet import Counts, Outlet
from hashring.telemetry.delivery.spool import Spool

__all__ = ["Counts", "Delivery", "Direct", "Outlet", "Spool"]
