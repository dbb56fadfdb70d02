import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from hashring.errors import BadArgument, BadURL
from hashring.telemetry.delivery.delivery import Counts, Delivery, Direct, Outlet
from hashring.telemetry.delivery.spool import Spool
from hashring.telemetry.errors import OutputClosed, OutputFailed, SpoolBroken, SpoolFull
from hashring.telemetry.model.sample import Meter, MeterType, Sample
from hashring.telemetry.model.settings import Settings
from hashring.telemetry.plugin import Publisher
from hashring.telemetry.publishers import FilePublisher
from tests.servers.process import free_port

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


def lines(path):
    """The whole lines of a file that is being written."""
    found = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in found]


def left_in(folder):
    """What the next process finds in the spool, by publisher."""
    spool = Spool(folder / "spool", max_bytes=MIB)
    spool.adopt()
    found = spool.waiting
    spool.close()
    return found


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


# Processes.

HEIR = """
import sys
from pathlib import Path
from hashring.telemetry.delivery.delivery import Delivery
from hashring.telemetry.publishers import FilePublisher
from hashring.telemetry.model.settings import Settings
from hashring.telemetry.delivery.spool import Spool
settings = Settings(backend_url="memory://", member="a", host="plant")
spool = Spool(Path(sys.argv[1]), max_bytes=2**28)
make = lambda url: FilePublisher(f"file://{sys.argv[2]}", settings)
with Delivery(spool, make, adopt_every=0.01, close_timeout=60.0):
    print("ready", flush=True)
    sys.stdin.read()
"""


def test_several_heirs_deliver_each_orphan_once(tmp_path, until):
    folder = tmp_path / "spool"
    for start in range(0, 2000, 100):
        spool = Spool(folder, max_bytes=MIB)
        spool.put(to((A,), samples(100, start)))
        spool.close()
    outputs = [tmp_path / f"{name}.jsonl" for name in "xyz"]
    heirs = [
        subprocess.Popen(
            [sys.executable, "-c", HEIR, str(folder), str(output)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for output in outputs
    ]

    def arrived():
        return [found["window"] for path in outputs for found in lines(path)]

    try:
        until(lambda: len(arrived()) >= 2000, "all have arrived")
    finally:
        for heir in heirs:
            heir.communicate()

    assert sorted(arrived()) == list(range(2000))
    assert [heir.returncode for heir in heirs] == [0, 0, 0]
    assert list(folder.iterdir()) == []


def test_samples_arrive_in_a_real_file(tmp_path):
    output = tmp_path / "samples.jsonl"
    url = f"file://{output}"
    spool = Spool(tmp_path / "spool", max_bytes=MIB)

    with Delivery(spool, lambda url: FilePublisher(url, SETTINGS), close_timeout=60) as delivery:
        delivery.put(to((url,), samples(200)))

    assert [found["window"] for found in lines(output)] == list(range(200))


SINK = """
import http.server, json, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with open(sys.argv[2], "ab") as log:
            log.write(body)
        self.send_response(204)
        self.end_headers()
    def log_message(self, *arguments):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
print("ready", flush=True)
server.serve_forever()
"""

AGENT = """
import sys, time, urllib.request
from pathlib import Path
from hashring.telemetry.delivery.delivery import Delivery
from hashring.telemetry.errors import OutputFailed
from hashring.telemetry.plugin import Publisher
from hashring.telemetry.model.sample import Meter, MeterType, Sample
from hashring.telemetry.model.settings import Settings
from hashring.telemetry.delivery.spool import Spool
_, folder, url, name, polls = sys.argv
class Http(Publisher):
    def __init__(self, url):
        super().__init__(url, Settings(backend_url="memory://", member=name, host="plant"))
    def publish(self, samples):
        body = b"".join(sample.to_line() for sample in samples)
        try:
            with urllib.request.urlopen(url, body, timeout=5):
                pass
        except OSError as error:
            raise OutputFailed(f"cannot post to {url}: {error}") from None
    def close(self):
        pass
meter = Meter("tank.level", MeterType.GAUGE, "l")
spool = Spool(Path(folder), max_bytes=2**28, owner=name)
with Delivery(spool, Http, longest_pause=1.0, adopt_every=0.2, close_timeout=60.0) as delivery:
    for window in range(int(polls)):
        found = [
            Sample(meter, 1, f"plant:{name}:{tank}", 0.0, window, 1.0, name, ("v", "i", window))
            for tank in range(10)
        ]
        delivery.put([(sample, (url,)) for sample in found])
        for sample in found:
            sys.stdout.write(f"{sample.id}\\n")
        sys.stdout.flush()
        time.sleep(0.005)
    print("done", flush=True)
    sys.stdin.read()
"""


class Processes:
    def __init__(self):
        self.started = []

    def start(self, script, *arguments):
        process = subprocess.Popen(
            [sys.executable, "-c", script, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def end(self):
        for process in self.started:
            process.kill()
            process.communicate()


@pytest.fixture
def processes():
    found = Processes()
    yield found
    found.end()


def test_sink_away_and_agent_killed_meanwhile_every_sample_arrives_once_both_are_back(
    tmp_path, processes, until
):
    port, log = free_port(), tmp_path / "sink.jsonl"
    folder, url = tmp_path / "spool", f"http://127.0.0.1:{port}/samples"

    def arrived():
        return {found["id"] for found in lines(log)}

    def polled(agent, count):
        return {agent.stdout.readline().strip() for _ in range(count)}

    sink = processes.start(SINK, port, log)
    assert sink.stdout.readline() == "ready\n"
    agent = processes.start(AGENT, folder, url, "first", 10**9)
    before = polled(agent, 500)
    until(lambda: arrived() >= before, "what was polled while all was well has arrived")

    sink.kill()
    sink.wait()
    away = polled(agent, 2000)
    os.kill(agent.pid, signal.SIGKILL)
    away |= {line.strip() for line in agent.stdout if line.endswith("\n")}
    agent.wait()
    assert away - arrived()

    second = processes.start(AGENT, folder, url, "second", 20)
    assert "done\n" in iter(second.stdout.readline, "")
    assert away - arrived()
    sink = processes.start(SINK, port, log)
    assert sink.stdout.readline() == "ready\n"

    until(lambda: arrived() >= before | away, "every sample polled before the kill has arrived")
    second.communicate()
    assert second.returncode == 0
    assert list(folder.iterdir()) == []
