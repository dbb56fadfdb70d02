"""What a poll costs, counted in calls of functions: what time says is the machine's."""

import asyncio
import cProfile
import pstats
from types import SimpleNamespace

import pytest

from hashring.telemetry.model.resource import Resource
from hashring.telemetry.model.sample import Measurement, Meter, MeterType
from hashring.telemetry.polling.putting import Found, Origin
from hashring.telemetry.sources.web import fetch
from hashring.telemetry.sources.web.fetch import Fetcher
from tests.servers.http import HTTPServer

FETCHES = 50


@pytest.fixture
def server():
    with HTTPServer() as found:
        found.answer("/a", {"load": 0.5})
        yield found


def calls_of_a_fetch(url):
    """How many functions are called for one fetch, on asyncio's own loop."""
    fetcher = Fetcher(timeout=60.0)

    async def fetches(number):
        for _ in range(number):
            await fetcher.get(url, deadline=fetcher.deadline())

    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as loop:
        loop.run(fetches(1))  # what is made once
        profile = cProfile.Profile()
        profile.enable()
        loop.run(fetches(FETCHES))
        profile.disable()
        fetcher.close()
    return pstats.Stats(profile).total_calls / FETCHES


@pytest.mark.parametrize(
    ("idle", "most"), [(60.0, 250), (0.0, 650)], ids=["kept connection", "new connection"]
)
def test_a_fetch_costs_few_calls(server, monkeypatch, idle, most):
    monkeypatch.setattr(fetch, "_IDLE", idle)

    assert calls_of_a_fetch(server.url + "/a") < most


LOAD = Meter("load", MeterType.GAUGE, "")
ONE = [
    Measurement(LOAD, 1.5),
    Measurement(LOAD, 2, "web1:sda"),
    Measurement(LOAD, 3, "web1:sda", {"a": "ñ"}, "project", "user"),
]


def found_in_a_poll(measured):
    """What a poll has measured, for one source and two publishers."""
    shared = SimpleNamespace(targets=lambda meter: ("file:///a", "file:///b"))
    want = SimpleNamespace(source_of=lambda meter: "web")
    origin = Origin(shared, None, None, 10, 60.0, "agent-1", ("v", "i", 10))
    return Found(origin, want, Resource("web1", "http"), measured, 600.25)


def test_a_poll_of_one_value_becomes_a_batch_in_few_calls():
    found = found_in_a_poll(ONE[:1])
    found.items()  # what is made once
    profile = cProfile.Profile()
    profile.enable()
    for _ in range(100):
        found.items()
    profile.disable()

    assert pstats.Stats(profile).total_calls / 100 < 25


@pytest.mark.parametrize("one", ONE, ids=["plain", "a part", "with all"])
def test_a_poll_of_one_value_tells_what_it_would_among_others(one):
    ((alone, urls),) = found_in_a_poll([one]).items()
    ((among, same_urls),) = found_in_a_poll([one, one]).items()

    assert list(alone) == list(among[:1])
    assert alone.lines() == among[:1].lines()
    assert urls == same_urls == ("file:///a", "file:///b")
