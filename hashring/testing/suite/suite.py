"""The conformance suite: what every driver must do, as one pytest base class.

A driver's author subclasses :class:`DriverSuite` and gives it the URL of a running store. The tests
go through the public interface alone (:mod:`hashring.driver`), so that our own drivers pass them as
outsiders would. This module knows no store and no ring.

Times: nothing here fails because a machine is slow. A lower bound (a lease may not end early) is
measured from before the call that began it; what may not be late (a lease that ran out) is looked
at by the moment at which a reading *began*; everything else waits for a condition, for up to
``patience`` seconds.

The tests stand in modules of their own, by what they ask of: memberships, leases, records and ids,
numbers of writes, what changed since a cursor, waiting, looking on, options, an outage, and time.
"""

from __future__ import annotations

from typing import Any

from hashring.testing.suite.base import record
from hashring.testing.suite.changes import ChangesTests
from hashring.testing.suite.epochs import EpochTests
from hashring.testing.suite.leases import LeaseTests
from hashring.testing.suite.looking import LookingTests
from hashring.testing.suite.membership import MembershipTests
from hashring.testing.suite.options import OptionTests
from hashring.testing.suite.outage import OutageTests
from hashring.testing.suite.records import RecordTests
from hashring.testing.suite.time import TimeTests
from hashring.testing.suite.waiting import WaitingTests

__all__ = ["DriverSuite", "record"]


class DriverSuite(
    MembershipTests,
    LeaseTests,
    RecordTests,
    EpochTests,
    ChangesTests,
    WaitingTests,
    LookingTests,
    OutageTests,
    OptionTests,
    TimeTests,
):
    """The tests that every driver passes. Subclass it in a test file of yours::

        import pytest
        from hashring.testing import DriverSuite

        class TestMyDriver(DriverSuite):
            @pytest.fixture
            def url(self, my_server):          # any fixtures of yours
                return f"mystore://127.0.0.1:{my_server.port}"

    The driver must be installed (or its project, in editable mode), since it is loaded by its
    entry point. Where the store has a server of its own, add::

            def stop_server(self): ...         # returns once nobody can connect
            def start_server(self): ...        # on the same address; returns once it serves

            def pause_server(self): ...        # freeze it: kill -STOP, docker pause
            def resume_server(self): ...       # let it run on

    They are called on the instance whose ``url`` fixture ran: keep the server on ``self``.

    Attributes:
        ttl: the lease in seconds where a test waits for its end. Raise it for a store whose clock
            is coarse.
        lateness: the most seconds for which a member may still be read after its lease ran out.
            Raise it for a store that counts in ticks or whole seconds, and say so in the driver's
            page: for so long nobody takes over.
        long_ttl: the lease in seconds of every other test; a slow machine must not reach its end.
        patience: the longest wait in seconds for what must happen at some time.
        crowd: the members in the test of a large group. Lower it only for a store on which a
            membership is dear.
        wakes: ``wait`` returns early on a change. False for a driver whose ``wait`` only sleeps.
    """

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        # A test that cannot apply is no test of that store: pytest does not collect a None.
        served = cls.stop_server is not DriverSuite.stop_server
        fits = {"test_server_": served, "test_wait_wakes_": cls.wakes}
        for name in dir(DriverSuite):
            for prefix, fit in fits.items():
                if name.startswith(prefix) and name not in vars(cls):
                    setattr(cls, name, getattr(DriverSuite, name) if fit else None)
