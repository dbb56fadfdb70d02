"""What a poll over HTTP costs, counted in calls of functions: what time says is the machine's."""

import asyncio
import cProfile
import pstats

import pytest

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
