"""What looking on costs a store: two requests a second at most, and no hand-over waits for it."""

from __future__ import annotations

import threading
import time
from collections import Counter

import pytest

import hashring
from hashring.observe import Observer
from tests.servers.process import wait_until
from tests.servers.redis import RedisServer

TTL = 60.0  # the member's own heartbeats are rare


@pytest.fixture(scope="module")
def redis():
    with RedisServer() as found:
        found.wait_ready()
        yield found


class Requests:
    """What clients ask of a Redis, by their port; what a script of theirs calls is part of it."""

    def __init__(self, server):
        self.counts = Counter()
        self.marks = []
        self._server = server
        self._thread = threading.Thread(target=self._run)
        self.ready = threading.Event()

    def _run(self):
        with self._server.client() as client, client.monitor() as monitor:
            self.ready.set()
            for command in monitor.listen():
                if command["command"] == "ECHO the end":
                    return
                if command["command"] == "ECHO a mark":
                    self.marks.append(command["client_port"])
                if command["client_type"] == "tcp":
                    self.counts[command["client_port"]] += 1

    def so_far(self):
        """Return the counts, once all that was asked before this call is among them."""
        marks = len(self.marks)
        with self._server.client() as client:
            client.echo("a mark")
        wait_until(lambda: len(self.marks) > marks, what="what was asked before")
        return Counter(
            {port: count for port, count in dict(self.counts).items() if port not in self.marks}
        )

    def __enter__(self):
        self._thread.start()
        assert self.ready.wait(60)
        return self

    def __exit__(self, *_):
        with self._server.client() as client:
            client.echo("the end")
        self._thread.join(60)


def test_an_onlooker_asks_twice_a_second_at_most(redis):
    with hashring.join(f"{redis.url}?ttl={TTL}", "pollers", "a") as a, Requests(redis) as requests:
        with redis.client() as client:
            wait_until(lambda: a.records and client.pubsub_channels(), what="all its connections")
            members = {one["addr"].rpartition(":")[2] for one in client.client_list()}
        with Observer(redis.url) as observer:
            looks = observer.watch("pollers")
            next(looks)
            next(looks)  # what connecting costs comes once
            before, began = requests.so_far(), time.monotonic()
            for _ in range(6):
                next(looks)
            seconds = time.monotonic() - began
            asked = requests.so_far() - before
            own = {port: count for port, count in asked.items() if port not in members}
        a.leave()

    assert seconds >= 5.5  # it does not look more often than once a second
    assert sum(own.values()) <= 2 * seconds + 2, asked
