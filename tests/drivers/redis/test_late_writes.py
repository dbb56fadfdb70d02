"""No write that was given up for lost lands on Redis after a later one."""

from __future__ import annotations

import time

import pytest

from hashring.errors import StoreUnavailable
from hashring.testing.proxy import FaultProxy
from hashring.testing.suite.suite import record
from tests.drivers.opening import Opened
from tests.drivers.patience import until_it_works
from tests.servers.process import LOOPBACK, wait_until
from tests.servers.redis import RedisServer


@pytest.mark.parametrize("forgotten", [False, True], ids=["", "and the writer is forgotten"])
def test_a_write_that_was_cut_off_never_lands_after_a_later_one(
    opened: Opened, forgotten: bool
) -> None:
    with RedisServer() as server, FaultProxy(LOOPBACK, server.port) as proxy:
        host, port = proxy.address
        a = until_it_works(lambda: opened(f"redis://{host}:{port}?timeout=0.5&retries=0", ttl=60.0))
        b = opened(server.url, ttl=60.0)
        until_it_works(lambda: a.join("g", "a", record("1", applied="first")))

        def evaluated() -> int:
            with server.client() as client:
                return int(client.info("commandstats")["cmdstat_evalsha"]["calls"])

        before = evaluated()
        proxy.delay(up=2.0)
        with pytest.raises(StoreUnavailable):
            a.publish("g", "a", record("1", applied="late"))
        proxy.delay(up=0.0)
        until_it_works(lambda: a.publish("g", "a", record("1", applied="newest")))
        if forgotten:
            with server.client() as client:
                assert client.hdel("hashring:{g}:writers", a.token) == 1
        wait_until(lambda: evaluated() >= before + 2, what="the arrival of the late write")
        assert b.read("g").records["a"] == record("1", applied="newest")


def test_of_writes_queued_in_a_frozen_server_none_lands_after_a_confirmed_one(
    opened: Opened,
) -> None:
    with RedisServer() as server:
        a = until_it_works(lambda: opened(f"{server.url}?timeout=0.6&retries=0", ttl=60.0))
        b = opened(server.url, ttl=60.0)
        until_it_works(lambda: a.join("g", "a", record("1")))
        for turn in range(5):
            server.pause()
            for step in range(3):
                with pytest.raises(StoreUnavailable):
                    a.publish("g", "a", record("1", turn=turn, step=step))
            server.resume()
            last = record("1", turn=turn, step="last")
            until_it_works(lambda last=last: a.publish("g", "a", last))
            with server.client() as client:
                # Every connection that was given up has been served to its end by then.
                wait_until(lambda client=client: client.info("clients")["connected_clients"] <= 4)
            assert b.read("g").records["a"] == last


def test_client_pause_is_an_error_in_time_and_passes(opened: Opened) -> None:
    with RedisServer() as server:
        a = until_it_works(lambda: opened(f"{server.url}?timeout=0.4", ttl=60.0))
        until_it_works(lambda: a.join("g", "a", record("1")))
        with server.client() as client:
            client.execute_command("CLIENT", "PAUSE", 4000)
        began = time.monotonic()
        with pytest.raises(StoreUnavailable):
            a.heartbeat()
        assert time.monotonic() - began < 60
        until_it_works(a.heartbeat)
