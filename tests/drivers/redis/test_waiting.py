"""A wait on Redis ends with a change, whatever became of its subscription."""

from __future__ import annotations

import threading
import time

from hashring.testing.suite.suite import record
from tests.drivers.opening import Opened
from tests.drivers.redis.relay import Relay
from tests.servers.process import wait_until
from tests.servers.redis import RedisServer


class TestWaiting:
    def test_without_the_right_to_subscribe_waiting_still_ends_with_a_change(
        self, opened: Opened
    ) -> None:
        with RedisServer() as server:
            with server.client() as client:
                client.execute_command(
                    "ACL", "SETUSER", "quiet", "on", ">pw", "~hashring:*", "resetchannels",
                    "+@all",
                )  # fmt: skip
            a = opened(f"redis://quiet:pw@{server.address}", ttl=60.0)
            b = opened(f"redis://quiet:pw@{server.address}", ttl=60.0)
            b.read("g")
            a.join("g", "a", record("1"))
            began = time.monotonic()
            b.wait("g", 120)
            assert time.monotonic() - began < 90
            assert b.read("g").records.keys() == {"a"}

    def test_a_lost_message_costs_only_a_poll(self, opened: Opened) -> None:
        with RedisServer() as server:
            a, b = opened(server.url, ttl=60.0), opened(f"{server.url}?poll=0.3", ttl=60.0)
            b.read("g")
            with server.client() as client:

                def subscribes() -> bool:
                    b.wait("g", 0.1)
                    return bool(client.client_list(_type="pubsub"))

                wait_until(subscribes, what="the subscription")
                client.client_kill_filter(_type="pubsub")
            a.join("g", "a", record("1"))
            began = time.monotonic()
            b.wait("g", 120)
            assert time.monotonic() - began < 90
            assert b.read("g").records.keys() == {"a"}

    def test_a_subscription_that_fell_silent_is_replaced(self, opened: Opened) -> None:
        with RedisServer() as server, Relay(server) as relay:
            a, b = opened(server.url, ttl=60.0), opened(f"{relay.url}?poll=0.3", ttl=60.0)
            b.read("g")
            with server.client() as client:

                def subscribed() -> list[str]:
                    b.wait("g", 0.1)
                    return [one["id"] for one in client.client_list(_type="pubsub")]

                found: list[list[str]] = []
                wait_until(
                    lambda: found.append(subscribed()) or len(found[-1]) == 1,
                    what="the subscription",
                )
                first = found[-1]
                relay.silence(having_asked=b"SUBSCRIBE")
                a.join("g", "a", record("1"))
                b.wait("g", 120)  # found by asking
                assert b.read("g").records.keys() == {"a"}
                wait_until(
                    lambda: (
                        found.append(subscribed()) or (len(found[-1]) == 1 and found[-1] != first)
                    ),
                    what="another subscription in its place",
                )

    def test_close_ends_a_wait(self, opened: Opened) -> None:
        with RedisServer() as server:
            a = opened(server.url)
            a.read("g")
            waiting = threading.Thread(target=a.wait, args=("g", 60.0))
            waiting.start()
            with server.client() as client:
                wait_until(lambda: client.pubsub_channels())
            a.close()
            waiting.join(60)
            assert not waiting.is_alive()
