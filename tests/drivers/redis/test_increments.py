"""Who reads only what changed sees what a newcomer sees, and no history grows."""

from __future__ import annotations

import pytest

from hashring.driver import load
from hashring.errors import StoreUnavailable
from hashring.testing.proxy import FaultProxy
from hashring.testing.suite.changes import Follower
from hashring.testing.suite.suite import record
from tests.drivers.opening import Opened
from tests.drivers.patience import until_it_works
from tests.servers.process import LOOPBACK, wait_until
from tests.servers.redis import RedisServer


class TestReadingIncrements:
    def test_a_reader_of_increments_sees_what_a_newcomer_sees(self, opened: Opened) -> None:
        with RedisServer() as server:
            writers = [opened(server.url, ttl=60.0) for _ in range(3)]
            reader = Follower(opened(server.url, ttl=60.0), "g")
            for turn in range(300):
                writer, member = writers[turn % 3], f"m{turn * 7 % 40}-{turn % 3}"
                if turn % 5 == 4:
                    writer.leave("g", member)
                else:
                    writer.join("g", member, record("1", turn=turn))
                if turn % 4 == 0:
                    reader.read()
                    assert dict(reader.records) == dict(opened(server.url).read("g").records)

    def test_many_members_that_come_and_go_leave_no_growing_history(self, opened: Opened) -> None:
        with RedisServer() as server:
            a, reader = opened(server.url, ttl=60.0), opened(server.url, ttl=60.0)
            a.join("g", "stays", record("1"))
            reader.read("g")
            for turn in range(300):
                a.join("g", f"passing {turn}", record("1"))
                a.leave("g", f"passing {turn}")
            with server.client() as client:
                assert client.zcard("hashring:{g}:changes") < 100
            assert reader.read("g").records.keys() == {"stays"}

    def test_drivers_that_come_and_go_leave_a_bounded_number_of_tokens(
        self, opened: Opened
    ) -> None:
        with RedisServer() as server:
            opened(server.url, ttl=60.0).join("g", "stays", record("1"))
            passing = load(server.url, ttl=60.0)
            passing.open()
            for turn in range(400):
                passing._token = f"{turn:032x}"  # as a new process would have
                passing.join("g", f"passing {turn}", record("1"))
                passing.leave("g", f"passing {turn}")
            passing.close()
            with server.client() as client:
                assert client.hlen("hashring:{g}:writers") < 100
                assert client.hlen("hashring:{g}:group") < 300
                assert client.hlen("hashring:{g}:owners") == 2

    def test_a_join_held_up_for_longer_than_its_driver_is_remembered_is_refused(
        self, opened: Opened
    ) -> None:
        with RedisServer() as server, FaultProxy(LOOPBACK, server.port) as proxy:
            host, port = proxy.address
            # A short timeout against a long delay: the join arrives when all else is over.
            gone = until_it_works(
                lambda: opened(f"redis://{host}:{port}?timeout=0.5&retries=0", ttl=60.0)
            )
            other = opened(server.url, ttl=60.0)
            until_it_works(lambda: gone.read("g"))
            proxy.delay(up=3.0)
            with pytest.raises(StoreUnavailable):
                gone.join("g", "ghost", record("1"))
            proxy.delay(up=0.0)
            until_it_works(lambda: gone.leave("g", "ghost"))
            for turn in range(100):
                other._token = f"{turn:032x}"
                other.join("g", f"passing {turn}", record("1"))
                other.leave("g", f"passing {turn}")
            gone.close()
            with server.client() as client:
                assert not client.hexists("hashring:{g}:writers", gone.token)
            # The server closes its side once it has done what came before the end.
            wait_until(lambda: proxy.connections == 0, what="the arrival of the late join")
            assert other.read("g").records == {}

    def test_a_reader_in_step_is_sent_only_what_changed(self, opened: Opened) -> None:
        with RedisServer() as server:
            a, reader = opened(server.url, ttl=60.0), opened(server.url, ttl=60.0)
            for number in range(50):
                a.join("g", f"m{number}", record("1", meta="x" * 1000))
            follower = Follower(reader, "g")
            follower.read()

            def sent() -> int:
                with server.client() as client:
                    return int(client.info("stats")["total_net_output_bytes"])

            a.publish("g", "m7", record("1", meta="y" * 1000))
            before = sent()
            assert follower.read().size == 50
            # The counting itself costs a few thousand bytes; all the records are fifty thousand.
            assert sent() - before < 20_000
