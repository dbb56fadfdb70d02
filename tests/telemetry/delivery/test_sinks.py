"""Samples reach each sink in order, however it fares; an outage holds up no other."""

import itertools
import time

import pytest

from hashring.errors import BadURL
from hashring.telemetry.delivery.delivery import Counts
from hashring.telemetry.errors import OutputClosed, OutputFailed, SpoolFull
from tests.telemetry.delivery.sinks import A, B, Sink, samples, to


def test_samples_reach_each_of_their_publishers_in_order_and_in_batches(deliver, sinks):
    delivery = deliver(batch_size=10)

    delivery.put(to((A, B), samples(25)) + to((B,), samples(5, start=25)))

    assert delivery.flush(60)
    assert sinks[A].taken == list(range(25))
    assert sinks[B].taken == list(range(30))
    assert max(map(len, sinks[B].batches)) <= 10
    assert delivery.counts == {A: Counts(sent=25), B: Counts(sent=30)}


def test_each_publisher_has_one_thread_of_its_own(deliver, sinks):
    delivery = deliver(batch_size=1)

    delivery.put(to((A, B), samples(20)))

    assert delivery.flush(60)
    (first,), (second,) = sinks[A].threads, sinks[B].threads
    assert first is not second
    assert first.name == "deliver to test://a/"


def test_one_sinks_outage_holds_up_no_other(deliver, sinks, until):
    sinks[A].error = OutputFailed("a is away")
    delivery = deliver()

    delivery.put(to((A, B), samples(20)))

    until(lambda: delivery.counts[B] == Counts(sent=20), "b has what is for it")
    assert sinks[B].taken == list(range(20))
    assert not delivery.flush(0.2)
    assert delivery.counts[A].waiting == 20


def test_a_sink_that_comes_back_gets_what_waited_for_it(deliver, sinks, until, caplog):
    sinks[A].error = OutputFailed("a is away")
    delivery = deliver(batch_size=10)
    delivery.put(to((A,), samples(20)))
    until(lambda: sinks[A].tries > 3, "it was tried again")
    delivery.put(to((A,), samples(10, start=20)))

    sinks[A].error = None

    assert delivery.flush(60)
    assert sinks[A].taken == list(range(30))
    assert caplog.text.count("test://a/ fails: a is away") == 1
    assert caplog.text.count("test://a/ takes samples again") == 1
    assert "30 waited" in caplog.text
    assert delivery.counts[A].failed == sinks[A].tries - 3


def test_pauses_grow_and_never_pass_the_longest(deliver, sinks, until):
    times = []

    def note():
        times.append(time.monotonic())
        raise OutputFailed("a is away")

    sinks[A].publish = lambda found: note()
    delivery = deliver(first_pause=0.02, longest_pause=0.16)

    delivery.put(to((A,), samples(1)))

    until(lambda: len(times) >= 8, "it was tried 8 times")
    pauses = [after - before for before, after in itertools.pairwise(times)]
    least = [0.02, 0.02, 0.04, 0.08, 0.08, 0.08, 0.08]
    assert all(pause >= floor for pause, floor in zip(pauses, least, strict=False))


def test_a_sink_that_asks_for_a_pause_gets_it(deliver, sinks, until):
    sinks[A].error = OutputFailed("too many requests", retry_after=0.5)
    delivery = deliver()
    before = time.monotonic()
    delivery.put(to((A,), samples(1)))
    until(lambda: sinks[A].tries, "it was tried")
    sinks[A].error = None

    assert delivery.flush(60)
    assert time.monotonic() - before >= 0.5


def test_an_error_that_a_publisher_should_not_raise_costs_nothing(deliver, sinks, until, caplog):
    sinks[A].error = ZeroDivisionError("a bug")
    delivery = deliver()
    delivery.put(to((A,), samples(5)))
    until(lambda: sinks[A].tries > 3, "it was tried again")
    sinks[A].error = None

    assert delivery.flush(60)
    assert sinks[A].taken == list(range(5))
    assert caplog.text.count("Traceback") == 1
    assert "in publish" in caplog.text


def test_a_publisher_that_cannot_be_made_keeps_its_samples_waiting(deliver, sinks, until, caplog):
    errors = [BadURL("no such scheme"), ImportError("broken plug-in")]
    tries = []

    def make(url):
        tries.append(url)
        if errors:
            raise errors[0]
        return sinks[url]

    delivery = deliver(make=make)
    delivery.put(to((A,), samples(5)))
    until(lambda: len(tries) > 2, "it was tried again")
    assert delivery.counts[A].waiting == 5
    assert caplog.text.count("no such scheme") == 1
    errors.pop(0)
    until(lambda: "broken plug-in" in caplog.text, "the other error was logged")
    errors.clear()

    assert delivery.flush(60)
    assert sinks[A].taken == list(range(5))


def test_what_nobody_will_ever_take_is_dropped_and_counted(deliver, sinks, until, caplog):
    sinks[A].error = OutputClosed("the reader has gone")
    delivery = deliver()
    assert not delivery.finished

    delivery.put(to((A, B), samples(20)))

    assert delivery.flush(60)
    assert delivery.closed == {A}
    assert not delivery.finished
    delivery.put(to((A,), samples(5, start=20)))
    assert delivery.flush(60)
    until(lambda: delivery.counts[A] == Counts(dropped=25), "all were counted")
    assert sinks[A].tries == 1
    assert sinks[A].is_closed
    assert sinks[B].taken == list(range(20))
    assert caplog.text.count("the reader has gone") == 1


def test_when_all_publishers_are_closed_the_delivery_is_finished(deliver, sinks, until):
    sinks[A].error = OutputClosed("the reader has gone")
    delivery = deliver()

    delivery.put(to((A,), samples(1)))

    until(lambda: delivery.finished, "the delivery is finished")


def test_samples_that_a_sink_refuses_for_good_are_dropped_and_the_rest_sent(deliver, sinks):
    class Picky(Sink):
        def publish(self, found):
            self.set_aside(found[:2], "too old", "test")
            super().publish(found[2:])

    picky = Picky()
    delivery = deliver(make=lambda url: picky)

    delivery.put(to((A,), samples(10)))

    assert delivery.flush(60)
    assert delivery.counts == {A: Counts(sent=8, dropped=2)}


def test_a_spool_that_is_full_refuses_and_keeps_what_it_has(deliver, sinks, until):
    sinks[A].error = OutputFailed("a is away")
    delivery = deliver(max_bytes=2000)
    delivery.put(to((A,), samples(10)))

    with pytest.raises(SpoolFull):
        delivery.put(to((A,), samples(20, start=10)))

    sinks[A].error = None
    assert delivery.flush(60)
    assert sinks[A].taken == list(range(10))


def test_each_time_the_spool_is_full_it_is_said_and_counted(deliver, sinks, until, caplog):
    delivery = deliver(max_bytes=2000)

    for outage in (1, 2):
        sinks[A].error = OutputFailed("a is away")
        delivery.put(to((A,), samples(10)))
        for _ in range(3):
            with pytest.raises(SpoolFull):
                delivery.put(to((A,), samples(20)))
        assert caplog.text.count("samples are lost: the spool in") == outage
        assert delivery.counts[A].dropped == outage * 60
        sinks[A].error = None
        assert delivery.flush(60)
        delivery.put(to((A,), samples(1)))
        assert caplog.text.count("has room again; 60 samples were lost meanwhile") == outage
