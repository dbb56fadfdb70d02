"""How a delivery ends, and what stays for the next process."""

import threading
import time

import pytest

from hashring.errors import BadArgument
from hashring.telemetry.delivery.delivery import Counts, Delivery, Direct
from hashring.telemetry.delivery.spool import Spool
from hashring.telemetry.errors import OutputClosed, OutputFailed, SpoolBroken
from tests.telemetry.delivery.sinks import MIB, A, B, Sink, samples, to


def left_in(folder):
    """What the next process finds in the spool, by publisher."""
    spool = Spool(folder / "spool", max_bytes=MIB)
    spool.adopt()
    found = spool.waiting
    spool.close()
    return found


def test_a_publisher_that_is_let_go_of_gets_what_waits_for_it_and_is_closed(deliver, sinks, until):
    sinks[A].error = OutputFailed("a is away")
    delivery = deliver()
    delivery.put(to((A, B), samples(20)))
    until(lambda: sinks[B].taken, "b has taken its samples")

    delivery.keep({B})

    assert not sinks[A].is_closed
    sinks[A].error = None
    until(lambda: sinks[A].is_closed, "a is let go of")
    assert sinks[A].taken == list(range(20))
    assert not sinks[B].is_closed
    delivery.put(to((A,), samples(5, start=20)))
    assert delivery.flush(60)
    assert sinks[A].taken == list(range(25))
    assert delivery.counts[A].sent == 25


def test_a_publisher_that_was_done_gets_another_chance_once_it_comes_back(deliver, sinks, until):
    sinks[A].error = OutputClosed("a has gone")
    delivery = deliver()
    delivery.put(to((A,), samples(1)))
    until(lambda: A in delivery.closed, "a is closed")

    delivery.keep({B})
    until(lambda: A not in delivery.closed, "a is let go of")
    sinks[A].error = None
    delivery.put(to((A,), samples(1, start=1)))

    assert delivery.flush(60)
    assert sinks[A].taken == [1]


def test_closing_delivers_what_it_can(deliver, sinks):
    delivery = deliver(batch_size=5)
    delivery.put(to((A, B), samples(200)))

    delivery.close(50)

    assert sinks[A].taken == sinks[B].taken == list(range(200))
    assert all(sink.is_closed for sink in sinks.values())


def test_closing_tries_a_sink_at_once_that_would_be_left_alone_for_long(deliver, sinks, until):
    sinks[A].error = OutputFailed("a is away")
    delivery = deliver(first_pause=60.0, longest_pause=60.0)
    delivery.put(to((A,), samples(5)))
    until(lambda: delivery.counts.get(A, Counts()).failed, "it failed")
    sinks[A].error = None

    delivery.close(50)

    assert sinks[A].taken == list(range(5))


def test_closing_does_not_hammer_a_sink_that_is_away(deliver, sinks):
    sinks[A].error = OutputFailed("a is away")
    delivery = deliver(first_pause=0.1, longest_pause=60.0)
    before = time.monotonic()
    delivery.put(to((A,), samples(5)))

    delivery.close(0.5)

    # Each try but the last is followed by a pause, only the one that closing cuts short is not.
    assert sinks[A].tries <= (time.monotonic() - before) / 0.1 + 2


def test_what_cannot_be_delivered_before_the_end_stays_for_the_next_process(
    deliver, sinks, tmp_path, until, caplog
):
    sinks[A].error = OutputFailed("a is away")
    delivery = deliver()
    delivery.put(to((A, B), samples(20)))
    until(lambda: delivery.counts[B] == Counts(sent=20), "b has what is for it")

    delivery.close(0.2)

    assert "20 for test://a/" in caplog.text
    assert delivery.counts[A].waiting == 20
    assert left_in(tmp_path) == {A: 20}


def test_a_closed_delivery_takes_no_more_and_has_no_threads(deliver, sinks):
    before = set(threading.enumerate())
    delivery = deliver()
    delivery.put(to((A, B), samples(5)))

    delivery.close(60)
    delivery.close(60)

    with pytest.raises(OutputClosed, match="closed"):
        delivery.put(to((A,), samples(1)))
    assert set(threading.enumerate()) <= before


def test_leaving_the_block_closes_the_delivery(deliver, sinks):
    with deliver(close_timeout=60.0) as delivery:
        delivery.put(to((A,), samples(20)))

    assert sinks[A].taken == list(range(20))


def test_a_batch_is_forgotten_only_after_publish_has_returned(deliver, sinks, until):
    sinks[A].gate.clear()
    delivery = deliver()
    delivery.put(to((A,), samples(3)))
    until(lambda: sinks[A].tries, "publishing has begun")

    assert delivery.counts[A] == Counts(waiting=3)
    sinks[A].gate.set()

    assert delivery.flush(60)
    assert delivery.counts[A] == Counts(sent=3)


def test_samples_of_a_process_that_died_are_delivered_by_one_that_lives(
    deliver, sinks, tmp_path, until
):
    delivery = deliver()
    late = Spool(tmp_path / "spool", max_bytes=MIB)  # its process dies while ours runs
    late.put(to((A, B), samples(7)))
    late.close()

    until(lambda: len(sinks[A].taken) == len(sinks[B].taken) == 7, "all have arrived")

    assert delivery.flush(60)
    assert left_in(tmp_path) == {}


def test_what_was_published_is_not_published_again_while_the_spool_cannot_note_it(
    tmp_path, sinks, until, caplog
):
    class Stubborn(Spool):
        refusals = 3

        def done(self, batch):
            if self.refusals:
                self.refusals -= 1
                raise SpoolBroken("the disk is full")
            super().done(batch)

    spool = Stubborn(tmp_path, max_bytes=MIB)
    with Delivery(spool, sinks.__getitem__, first_pause=0.02) as delivery:
        delivery.put(to((A,), samples(5)))

        assert delivery.flush(60)

    assert sinks[A].batches == [list(range(5))]
    assert caplog.text.count("the disk is full") == 1


def test_secrets_are_shown_nowhere(tmp_path, until, caplog):
    url = "test://app:s3cret%21@sink/in?api_token=hush"
    sink = Sink(url)
    sink.error = RuntimeError(f"cannot POST {url} with s3cret! and /in?api_token=hush")
    with Delivery(Spool(tmp_path, max_bytes=MIB), lambda url: sink, close_timeout=0.1) as delivery:
        delivery.put(to((url,), samples(1)))
        until(lambda: sink.tries, "it was tried")
        until(lambda: "Traceback" in caplog.text, "it was logged")
        names = [thread.name for thread in threading.enumerate()]
        shown = [*names, *delivery.counts]
    direct = Direct(lambda url: sink)
    direct.put(to((url,), samples(1)))
    shown += direct.counts

    for text in [caplog.text, *shown]:
        assert "s3cret" not in text
        assert "hush" not in text
    assert "deliver to test://app:***@sink/in?api_token=***" in names


def test_a_batch_of_nothing_is_refused(tmp_path):
    spool = Spool(tmp_path, max_bytes=MIB)

    with pytest.raises(BadArgument, match="0 samples"):
        Delivery(spool, Sink, batch_size=0)

    spool.close()
