"""What answers may cost: each poison is refused before it has cost much, in bounded memory."""

import asyncio
import gzip
import json
import threading
import tracemalloc

import pytest

from hashring import clock
from hashring.telemetry.errors import BadExposition, BadResponse, FetchFailed
from hashring.telemetry.model.settings import Settings
from hashring.telemetry.publishers import wire
from hashring.telemetry.sources.web import answers
from hashring.telemetry.sources.web.answers import Budget, Reading, TooMuch
from hashring.telemetry.sources.web.exposition import ExpositionPollster
from hashring.telemetry.sources.web.http_json import HTTPPollster
from hashring.telemetry.sources.web.targets import static_resource
from tests.servers.http import HTTPServer
from tests.telemetry.prometheus_messages import GAUGE, HISTOGRAM

LATER = 250.0
MIB = 1024 * 1024


@pytest.fixture
def server():
    with HTTPServer() as found:
        yield found


@pytest.fixture
def poll(tmp_path, server):
    """Poll a path of the server as JSON, or as an exposition."""
    (tmp_path / "a.yaml").write_text(
        "- {name: load, sample_type: gauge, unit: u, value_attribute: load}\n"
    )
    settings = Settings(
        backend_url="memory://", member="a", host="h", definition_dirs=(tmp_path,), poll_timeout=250
    )
    [pollster] = HTTPPollster.make(settings)
    expositions = ExpositionPollster(settings)

    def poll(path, *, as_exposition=False):
        if as_exposition:
            return expositions.poll(static_resource(f"prometheus+{server.url}{path}"))
        return pollster.poll(static_resource(f"{server.url}{path}"))

    yield poll
    pollster.close()
    expositions.close()


def cost(call):
    """Return the most memory that a call has taken at once."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


# Made where they are used: nobody who only lists the tests needs 300 MB for it.
POISONS = {
    "lists": lambda: b"[" + b"[]," * 20_000_000 + b"[]]",
    "objects": lambda: b"[" + b'{"a":{}},' * 6_000_000 + b"{}]",
    "keys": lambda: b"{" + b",".join(b'"%d":1' % number for number in range(2_000_000)) + b"}",
    "numbers": lambda: b"[" + b"1," * 20_000_000 + b"1]",
    "blanks": lambda: b" " * 60_000_000 + b"1",
    "a text": lambda: b'"' + b"a" * 60_000_000 + b'"',
}


@pytest.mark.parametrize("how", ["plain", "gzip"])
@pytest.mark.parametrize("poison", POISONS)
def test_a_poisonous_answer_is_dropped_as_it_arrives(server, poll, poison, how):
    content, headers = POISONS[poison](), ()
    if how == "gzip":
        content, headers = gzip.compress(content, 1), (("Content-Encoding", "gzip"),)
    server.answer("/", content, headers=headers)

    def refused():
        with pytest.raises(FetchFailed, match=r"the answer has more than \d+ (values|bytes)"):
            poll("/")

    assert cost(refused) < 80 * MIB
    assert answers._budget.used == 0


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 1_000_000,
        b'{"a":' * 400_000,
        b"9" * 1_000_000,
        b'"' + b"\\u0000" * 1_000_000,
        b"\xff" * 1_000_000,
        b"",
    ],
    ids=["depth", "depth of objects", "digits", "no end", "bytes", "nothing"],
)
def test_what_is_small_and_poisonous_is_an_error_of_its_target(server, poll, content):
    server.answer("/", content)

    with pytest.raises((BadResponse, FetchFailed)):
        poll("/")


def test_a_large_answer_within_the_limits_is_read(server, poll):
    server.answer("/", [{"load": number, "further": [0] * 30} for number in range(10_000)])

    assert len(poll("/")) == 10_000


def test_more_samples_than_are_taken_are_an_error(server, poll, monkeypatch):
    monkeypatch.setattr(answers, "MAX_SAMPLES", 1000)
    server.answer("/json", [{"load": number} for number in range(2000)])
    server.answer("/text", "".join(f"a{n} 1\n" for n in range(2000)), content_type="text/plain")

    with pytest.raises(TooMuch, match="more than 1000 samples"):
        poll("/json")
    with pytest.raises(TooMuch, match="more than 1000 samples"):
        poll("/text", as_exposition=True)
    server.answer(
        "/protobuf",
        b"".join(b"\x0a\x0a\x02a%c\x18\x01\x22\x02\x12\0" % (n % 26 + 65) for n in range(2000)),
        content_type="application/vnd.google.protobuf",
    )
    with pytest.raises(TooMuch, match="more than 1000 samples"):
        poll("/protobuf", as_exposition=True)


EXPOSITIONS = {
    "one line": b"a" * 60_000_000,
    "labels": b"a{" + b'b="c",' * 200_000 + b"} 1\n",
    "quotes": b'a{b="' + b'\\"' * 20_000_000 + b'"} 1\n',
    "comments": b"# TYPE a b\n" * 4_000_000,
    "bytes": b"\xff" * 1_000_000,
}


POISONED = "not in the text format|not UTF-8|not in protobuf|more than"


def one_family(type_, series):
    """An answer in protobuf: one family, named x, with series as they are."""
    body = wire.text(1, "x") + bytes((0x18, type_)) + series
    return wire.sized(len(body)) + body


MESSAGES = {
    "empty families": b"\0" * 30_000_000,
    "families without series": b"\x03\x0a\x01x" * 7_000_000 + b"\x01",
    "series without end": one_family(GAUGE, b"\x22\x02\x12\0" * 7_000_000),
    "labels": one_family(GAUGE, wire.message(4, b"\x0a\x04\x0a\0\x12\0" * 2_000_000)),
    "buckets": one_family(
        HISTOGRAM, wire.message(4, wire.message(7, b"\x1a\x02\x08\1" * 7_000_000))
    ),
    "buckets of a native histogram": one_family(
        HISTOGRAM, wire.message(4, wire.message(7, b"\x68\2" * 10_000_000))
    ),
}


@pytest.mark.parametrize("poison", MESSAGES)
def test_a_poisonous_answer_in_protobuf_is_an_error_of_its_target(server, poll, poison):
    kind = "application/vnd.google.protobuf; encoding=delimited"
    server.answer("/protobuf", MESSAGES[poison], content_type=kind)

    if poison == "empty families":
        assert list(poll("/protobuf", as_exposition=True)) == []
    else:
        with pytest.raises((BadExposition, FetchFailed), match=POISONED):
            poll("/protobuf", as_exposition=True)
    assert answers._budget.used == 0


@pytest.mark.parametrize("poison", EXPOSITIONS)
def test_a_poisonous_exposition_is_an_error_of_its_target(server, poll, poison):
    server.answer("/text", EXPOSITIONS[poison], content_type="text/plain")

    with pytest.raises((BadExposition, TooMuch, FetchFailed), match=POISONED):
        poll("/text", as_exposition=True)
    assert answers._budget.used == 0


def test_polls_in_flight_share_a_bounded_memory():
    budget, taken = Budget(1000), []
    deadline = clock.boottime() + LATER

    async def poll(name, amount, let_go):
        with budget.share() as share:
            await share.take(amount, deadline)
            taken.append(name)
            await let_go.wait()

    async def three_of_them():
        let_go = asyncio.Event()
        polls = []
        for name, amount in (("oldest", 900), ("next", 200), ("last", 200)):
            polls.append(asyncio.create_task(poll(name, amount, let_go)))
            await asyncio.sleep(0)
        assert (taken, budget.used) == (["oldest"], 900)
        let_go.set()
        await asyncio.gather(*polls)

    asyncio.run(three_of_them())

    assert (taken, budget.used) == (["oldest", "next", "last"], 0)


def test_polls_of_another_loop_share_the_memory_too():
    budget, taken = Budget(1000), []
    is_full, deadline = threading.Event(), clock.boottime() + LATER

    async def first():
        with budget.share() as share:
            await share.take(900, deadline)
            is_full.set()
            while not budget._waiting:
                await asyncio.sleep(0.01)

    async def second():
        with budget.share() as share:
            await share.take(200, deadline)
            taken.append("second")

    thread = threading.Thread(target=asyncio.run, args=(first(),))
    thread.start()
    assert is_full.wait(LATER)
    asyncio.run(second())
    thread.join()

    assert (taken, budget.used) == (["second"], 0)


def test_the_oldest_poll_goes_on_whatever_others_hold():
    budget, deadline = Budget(1000), clock.boottime() + LATER

    async def both():
        with budget.share() as oldest, budget.share() as other:
            await oldest.take(10, deadline)
            await other.take(990, deadline)

            await oldest.take(500, deadline)

            with pytest.raises(TooMuch, match="not free in time"):
                await other.take(1, clock.boottime())

    asyncio.run(both())


def test_who_becomes_the_oldest_while_it_waits_goes_on():
    budget, deadline = Budget(1000), clock.boottime() + LATER

    async def one(share, amount):
        await share.take(amount, deadline)

    async def three():
        with budget.share() as second, budget.share() as third:
            with budget.share() as oldest:
                for share, amount in ((oldest, 10), (second, 480), (third, 480)):
                    await share.take(amount, deadline)
                # The last one to wait is not the one that may go on.
                waiting = [asyncio.create_task(one(share, 700)) for share in (third, second)]
                await asyncio.sleep(0)
                assert len(budget._waiting) == 2
            await waiting[1]
            waiting[0].cancel()

    asyncio.run(three())
    assert not budget._waiting


def test_of_large_answers_one_is_parsed_at_a_time_and_small_ones_wait_for_none():
    budget = Budget(10**12)
    with budget.share() as share:
        large = Reading("large", share, clock.boottime() + LATER)
        late = Reading("late", share, clock.boottime())
        small = Reading("small", share, clock.boottime())
        asyncio.run(large.took_json(json.dumps([1] * 20_000).encode()))
        asyncio.run(late.took_json(json.dumps([1] * 20_000).encode()))
        asyncio.run(small.took_json(b"[1, 2]"))

        with large.undisturbed():
            with small.undisturbed():
                pass
            with pytest.raises(TooMuch, match="no turn to be parsed in time"), late.undisturbed():
                pass


@pytest.mark.parametrize(
    ("content", "is_read_at_once"),
    [
        (b"[1, 2]", True),
        (json.dumps([1] * 499).encode(), True),
        (json.dumps([1] * 501).encode(), False),
        (b'"' + b"a" * 40_000 + b'"', False),
    ],
    ids=["small", "many values", "too many values", "long"],
)
def test_an_answer_that_takes_long_to_read_leaves_the_loop_to_the_others(content, is_read_at_once):
    async def read():
        with Budget(10**12).share() as share:
            reading = Reading("web1", share, clock.boottime() + LATER)
            await reading.took_json(content)
            return await reading.read(threading.current_thread)

    assert (asyncio.run(read()) is threading.current_thread()) == is_read_at_once


def test_pages_are_bounded_in_values_each_and_together(monkeypatch):
    monkeypatch.setattr(answers, "MAX_VALUES_ANSWER", 10)
    monkeypatch.setattr(answers, "MAX_VALUES", 25)

    async def three_pages():
        with Budget(10**12).share() as share:
            reading = Reading("web1", share, clock.boottime() + LATER)
            for _ in range(2):
                reading.begin()
                await reading.took_json(b"[1,1,1,1,1,1,1,1,1,1")

            reading.begin()
            with pytest.raises(TooMuch, match="web1: the answer has more than 25 values in all"):
                await reading.took_json(b"[1,1,1,1,1,1,1,1,1,1")
            reading.begin()
            with pytest.raises(TooMuch, match="web1: the answer has more than 10 values"):
                await reading.took_json(b"[1,1,1,1,1,1,1,1,1,1,1")

    asyncio.run(three_pages())
