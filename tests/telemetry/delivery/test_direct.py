"""Delivery without a spool, in the thread of the caller."""

import threading

import pytest

from hashring.errors import BadURL
from hashring.telemetry.delivery.delivery import Counts, Direct, Outlet
from hashring.telemetry.errors import OutputClosed, OutputFailed
from tests.telemetry.delivery.sinks import A, B, samples, to

# Direct: no spool.


def test_direct_publishes_in_the_callers_thread_before_put_returns(sinks):
    outlet: Outlet = Direct(sinks.__getitem__)

    outlet.put(to((A, B), samples(3)) + to((B, B), samples(1, start=3)))

    assert sinks[A].taken == [0, 1, 2]
    assert sinks[B].taken == [0, 1, 2, 3]
    assert sinks[A].threads == {threading.current_thread()}
    assert outlet.flush(0)
    assert outlet.counts == {A: Counts(sent=3), B: Counts(sent=4)}
    outlet.close(0)
    assert sinks[A].is_closed


def test_direct_counts_what_a_sink_does_not_take_as_lost_and_logs_each_cause_once(sinks, caplog):
    direct = Direct(sinks.__getitem__)
    for error in [OutputFailed("away"), OutputFailed("away"), ZeroDivisionError("a bug"), None]:
        sinks[A].error = error
        direct.put(to((A, B), samples(2)))

    assert direct.counts == {A: Counts(sent=2, failed=3, dropped=6), B: Counts(sent=8)}
    assert caplog.text.count("test://a/ fails: away; 2 samples are lost") == 1
    assert caplog.text.count("Traceback") == 1
    assert caplog.text.count("takes samples again") == 1


def test_direct_raises_where_nobody_reads_any_more_once_the_others_are_served(sinks):
    sinks[A].error = OutputClosed("the reader has gone")
    direct = Direct(sinks.__getitem__)

    for _ in range(2):
        with pytest.raises(OutputClosed):
            direct.put(to((A, B), samples(1)))

    assert sinks[B].taken == [0, 0]
    assert sinks[A].tries == 1
    assert direct.closed == {A}
    assert not direct.finished


def test_direct_closes_a_publisher_that_is_let_go_of(sinks):
    direct = Direct(sinks.__getitem__, (A, B))

    direct.keep((B,))

    assert sinks[A].is_closed
    assert not sinks[B].is_closed
    direct.close()


def test_direct_says_at_once_where_a_named_publisher_cannot_be_made(sinks):
    made = []

    def make(url):
        if url == B:
            raise BadURL("no such scheme")
        made.append(sinks[url])
        return sinks[url]

    with pytest.raises(BadURL):
        Direct(make, [A, B])

    assert [sink.is_closed for sink in made] == [True]
