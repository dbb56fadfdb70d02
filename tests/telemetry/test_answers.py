"""What answers may cost: each poison is refused before it has cost much, in bounded memory."""

import gzip
import json
import threading
import tracemalloc

import pytest

from hashring import clock
from hashring.telemetry.errors import BadExposition, BadResponse, FetchFailed
from hashring.telemetry.model.settings import Settings
from hashring.telemetry.sources.web import answers
from hashring.telemetry.sources.web.answers import Budget, Reading, TooMuch
from hashring.telemetry.sources.web.exposition import ExpositionPollster
from hashring.telemetry.sources.web.http_json import HTTPPollster
from hashring.telemetry.sources.web.targets import static_resource
from tests.servers.http import HTTPServer
from tests.telemetry.conftest import until

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


EXPOSITIONS = {
    "one line": b"a" * 60_000_000,
    "labels": b"a{" + b'b="c",' * 200_000 + b"} 1\n",
    "quotes": b'a{b="' + b'\\"' * 20_000_000 + b'"} 1\n',
    "comments": b"# TYPE a b\n" * 4_000_000,
    "bytes": b"\xff" * 1_000_000,
}


@pytest.mark.parametrize("poison", EXPOSITIONS)
def test_a_poisonous_exposition_is_an_error_of_its_target(server, poll, poison):
    server.answer("/", EXPOSITIONS[poison], content_type="text/plain")

    with pytest.raises((BadExposition, FetchFailed)):
        poll("/", as_exposition=True)
    assert answers._budget.used == 0


def test_polls_in_flight_share_a_bounded_memory():
    budget, taken = Budget(1000), []
    let_go, deadline = threading.Event(), clock.boottime() + LATER

    def oldest():
        with budget.share() as share:
            share.take(900, deadline)
            taken.append("oldest")
            let_go.wait(LATER)

    def next_one():
        with budget.share() as share:
            share.take(200, deadline)
            taken.append("next")

    first, second = threading.Thread(target=oldest), threading.Thread(target=next_one)
    first.start()
    until(lambda: taken == ["oldest"], "the oldest has what it needs")
    second.start()
    until(lambda: len(budget._shares) == 2, "the next one waits")
    assert (taken, budget.used) == (["oldest"], 900)

    let_go.set()
    first.join()
    second.join()

    assert (taken, budget.used) == (["oldest", "next"], 0)


def test_the_oldest_poll_goes_on_whatever_others_hold():
    budget, deadline = Budget(1000), clock.boottime() + LATER
    with budget.share() as oldest, budget.share() as other:
        oldest.take(10, deadline)
        other.take(990, deadline)

        oldest.take(500, deadline)

        with pytest.raises(TooMuch, match="not free in time"):
            other.take(1, clock.boottime())


def test_of_large_answers_one_is_parsed_at_a_time_and_small_ones_wait_for_none():
    budget = Budget(10**12)
    with budget.share() as share:
        large = Reading("large", share, clock.boottime() + LATER)
        late = Reading("late", share, clock.boottime())
        small = Reading("small", share, clock.boottime())
        large.took_json(json.dumps([1] * 20_000).encode())
        late.took_json(json.dumps([1] * 20_000).encode())
        small.took_json(b"[1, 2]")

        with large.undisturbed():
            with small.undisturbed():
                pass
            with pytest.raises(TooMuch, match="no turn to be parsed in time"), late.undisturbed():
                pass


def test_pages_are_bounded_in_values_each_and_together(monkeypatch):
    monkeypatch.setattr(answers, "MAX_VALUES_ANSWER", 10)
    monkeypatch.setattr(answers, "MAX_VALUES", 25)
    with Budget(10**12).share() as share:
        reading = Reading("web1", share, clock.boottime() + LATER)
        for _ in range(2):
            reading.begin()
            reading.took_json(b"[1,1,1,1,1,1,1,1,1,1")

        reading.begin()
        with pytest.raises(TooMuch, match="web1: the answer has more than 25 values in all"):
            reading.took_json(b"[1,1,1,1,1,1,1,1,1,1")
        reading.begin()
        with pytest.raises(TooMuch, match="web1: the answer has more than 10 values"):
            reading.took_json(b"[1,1,1,1,1,1,1,1,1,1,1")
