"""What Redis can do to a group: forget, fall back, fail over, lie about the time, refuse."""

from __future__ import annotations

import contextlib
import itertools
import logging
import select
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import redis
from redis.crc import key_slot

import hashring
from hashring.driver import Driver, load
from hashring.errors import BadURL, HashringError, LeaseLost, StoreUnavailable, StoreUnusable
from hashring.testing.proxy import FaultProxy
from hashring.testing.suite.changes import Follower
from hashring.testing.suite.suite import record
from tests.drivers.patience import until_it_works
from tests.servers.certificates import Certificates
from tests.servers.memcached import MemcachedServer
from tests.servers.process import LOOPBACK, SilentServer, wait_until
from tests.servers.redis import Cluster, RedisServer, Replicated, SteppingRedisServer

TTL = 6.0
Opened = Callable[..., Driver]


@pytest.fixture
def opened() -> Iterator[Opened]:
    """A function that opens a driver on a URL; all are closed in the end."""
    made: list[Driver] = []

    def make(url: str, ttl: float = TTL) -> Driver:
        made.append(load(url, ttl=ttl))
        made[-1].open()
        return made[-1]

    yield make
    for driver in made:
        driver.close()


def renew_or_rejoin(driver: Driver, member: str, fields: dict[str, object]) -> None:
    """Do what a member does whose lease may be gone."""
    try:
        driver.heartbeat()
    except LeaseLost:
        driver.join("g", member, record("1", **fields))


class Relay(socketserver.ThreadingTCPServer):
    """A way to a server on which chosen connections fall silent, as where a firewall forgot them.

    New connections pass: of the proxy's faults each takes all.
    """

    daemon_threads = True

    def __init__(self, server: RedisServer) -> None:
        super().__init__((LOOPBACK, 0), socketserver.BaseRequestHandler)
        self.url = f"redis://{LOOPBACK}:{self.server_address[1]}"
        self._target = (LOOPBACK, server.port)
        self._open: list[bytearray] = []  # what each connection has asked
        self._silent: list[bytearray] = []

    def silence(self, having_asked: bytes = b"") -> None:
        """Pass nothing any more of the connections that have sent these bytes at any time."""
        chosen = [asked for asked in self._open if having_asked in asked]
        assert chosen
        self._silent += chosen

    def finish_request(self, request: socket.socket, client_address: object) -> None:
        asked = bytearray()
        self._open.append(asked)
        with socket.create_connection(self._target) as server, contextlib.suppress(OSError):
            while True:
                for ready in select.select([request, server], [], [])[0]:
                    if not (data := ready.recv(65536)):
                        return
                    if ready is request:
                        asked += data
                    if not any(asked is silent for silent in self._silent):
                        (server if ready is request else request).sendall(data)

    def __enter__(self) -> Relay:
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


class TestForgetting:
    @pytest.fixture(params=[False, True], ids=["without persistence", "with persistence"])
    def server(self, request: pytest.FixtureRequest) -> Iterator[RedisServer]:
        with RedisServer(persist=request.param) as running:
            self.persistent = request.param
            yield running

    def test_after_a_restart_the_memory_is_young_whether_the_records_are_there_or_not(
        self, server: RedisServer, opened: Opened
    ) -> None:
        a, b = opened(server.url), opened(server.url)
        a.join("g", "a", record("1"))
        wait_until(lambda: b.read("g").memory_age > 0.5)
        server.kill()
        killed = time.monotonic()
        server.start()
        reading = b.read("g")
        assert reading.memory_age <= time.monotonic() - killed
        assert ("a" in reading.records) == self.persistent
        if self.persistent:
            a.heartbeat()
        else:
            with pytest.raises(LeaseLost):
                a.heartbeat()
            a.join("g", "a", record("1"))
        assert b.read("g").records.keys() == {"a"}

    def test_the_memory_is_young_for_a_newcomer_too_and_then_grows(
        self, server: RedisServer, opened: Opened
    ) -> None:
        opened(server.url).join("g", "a", record("1"))
        server.kill()
        killed = time.monotonic()
        server.start()
        newcomer = opened(server.url)
        first = newcomer.read("g").memory_age
        assert first <= time.monotonic() - killed
        wait_until(lambda: opened(server.url).read("g").memory_age > first + 0.2)

    def test_a_flush_makes_the_memory_young_and_wakes_those_who_wait(
        self, server: RedisServer, opened: Opened
    ) -> None:
        a, b = opened(server.url), opened(server.url)
        a.join("g", "a", record("1"))
        wait_until(lambda: b.read("g").memory_age > 0.3)
        with server.client() as client:
            client.flushall()
        flushed = time.monotonic()
        b.wait("g", 20)
        reading = b.read("g")
        passed = time.monotonic() - flushed
        assert passed < 15
        assert reading.records == {}
        assert reading.memory_age <= passed

    @pytest.mark.parametrize("part", ["group", "leases", "owners", "records", "changes", "writers"])
    def test_one_key_that_is_gone_counts_as_forgetting_everything(
        self, server: RedisServer, opened: Opened, part: str
    ) -> None:
        a, b = opened(server.url), opened(server.url)
        a.join("g", "a", record("1"))
        wait_until(lambda: b.read("g").memory_age > 0.3)
        with server.client() as client:
            assert client.delete(f"hashring:{{g}}:{part}") == 1
        deleted = time.monotonic()
        reading = b.read("g")
        assert reading.records == {}
        assert reading.memory_age <= time.monotonic() - deleted
        with pytest.raises(LeaseLost):
            a.heartbeat()


def test_an_eviction_makes_the_memory_young(opened: Opened) -> None:
    with RedisServer(maxmemory="4mb", maxmemory_policy="allkeys-random") as server:
        a, b = opened(server.url), opened(server.url)
        a.join("g", "a", record("1"))
        wait_until(lambda: b.read("g").memory_age > 0.3)
        with server.client() as client:
            names = {f"hashring:{{g}}:{part}" for part in ("group", "leases", "records")}
            numbers = iter(range(100_000))

            def evicted() -> bool:
                for _ in range(100):
                    client.set(f"other:{next(numbers)}", "x" * 1000)
                return client.exists(*names) < len(names)

            wait_until(evicted, what="the eviction of one of the group's keys")
            client.config_set("maxmemory", "100mb")
        began = time.monotonic()
        assert b.read("g").memory_age <= time.monotonic() - began
        renew_or_rejoin(a, "a", {})
        assert b.read("g").records.keys() == {"a"}


def test_a_record_that_fell_back_is_written_again_before_the_heartbeat_is_confirmed(
    opened: Opened,
) -> None:
    with RedisServer() as server:
        a, b = opened(server.url), opened(server.url)
        a.join("g", "a", record("1", applied="old"))
        with server.client() as client:
            client.save()  # what the restarted server will know
        a.publish("g", "a", record("1", applied="new"))
        server.kill()
        server.start()
        assert b.read("g").records["a"] == record("1", applied="old")
        assert b.read("g").memory_age < TTL
        a.heartbeat()
        assert b.read("g").records["a"] == record("1", applied="new")


@pytest.mark.parametrize("forgotten", [False, True], ids=["", "and the writer is forgotten"])
def test_a_write_that_was_cut_off_never_lands_after_a_later_one(
    opened: Opened, forgotten: bool
) -> None:
    with RedisServer() as server, FaultProxy(LOOPBACK, server.port) as proxy:
        host, port = proxy.address
        a = opened(f"redis://{host}:{port}?timeout=0.5&retries=0", ttl=60.0)
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
        a = opened(f"{server.url}?timeout=0.3&retries=0", ttl=60.0)
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
        a = opened(f"{server.url}?timeout=0.4", ttl=60.0)
        until_it_works(lambda: a.join("g", "a", record("1")))
        with server.client() as client:
            client.execute_command("CLIENT", "PAUSE", 1500)
        began = time.monotonic()
        with pytest.raises(StoreUnavailable):
            a.heartbeat()
        assert time.monotonic() - began < 10
        until_it_works(a.heartbeat)


class TestTime:
    def test_a_server_clock_that_steps_forward_ends_leases_but_makes_the_memory_young(
        self, opened: Opened
    ) -> None:
        with SteppingRedisServer() as server:
            a, b = opened(server.url), opened(server.url)
            a.join("g", "a", record("1"))
            wait_until(lambda: b.read("g").memory_age > 0.3)
            server.step_clock(3600)
            stepped = time.monotonic()
            reading = b.read("g")
            assert reading.memory_age <= time.monotonic() - stepped
            # For someone who never saw the old time it is young as well.
            newcomer = opened(server.url)
            assert newcomer.read("g").memory_age <= time.monotonic() - stepped
            renew_or_rejoin(a, "a", {})
            assert newcomer.read("g").records.keys() == {"a"}

    def test_a_step_is_noticed_by_whoever_calls_next_a_heartbeat_included(
        self, opened: Opened
    ) -> None:
        with SteppingRedisServer() as server:
            a = opened(server.url)
            a.join("g", "a", record("1"))
            wait_until(lambda: a.read("g").memory_age > 0.3)
            server.step_clock(3600)
            stepped = time.monotonic()
            with pytest.raises(LeaseLost):
                a.heartbeat()
            newcomer = opened(server.url)
            assert newcomer.read("g").memory_age <= time.monotonic() - stepped

    def test_a_newcomer_that_calls_first_after_a_step_doubts_the_memory(
        self, opened: Opened
    ) -> None:
        with SteppingRedisServer() as server:
            a = opened(server.url)
            a.join("g", "a", record("1"))
            wait_until(lambda: a.read("g").memory_age > 0.3)
            newcomer = opened(server.url)
            server.step_clock(3600)
            stepped = time.monotonic()
            reading = newcomer.read("g")
            assert reading.records == {}
            assert reading.memory_age <= time.monotonic() - stepped

    def test_a_newcomer_that_removes_one_dead_member_of_several_doubts_nothing(
        self, opened: Opened
    ) -> None:
        with RedisServer() as server, server.client() as client:
            opened(server.url, ttl=0.6).join("g", "dead", record("1"))
            opened(server.url, ttl=60.0).join("g", "alive", record("1"))

            def ran_out() -> bool:
                seconds, microseconds = client.time()
                return client.zscore("hashring:{g}:leases", "dead") < seconds * 1e6 + microseconds

            wait_until(ran_out, what="the end of the lease")
            reading = opened(server.url).read("g")
            assert reading.records.keys() == {"alive"}
            assert reading.memory_age >= 0.5

    def test_a_server_clock_that_steps_back_keeps_no_dead_member_alive(
        self, opened: Opened
    ) -> None:
        with SteppingRedisServer() as server:
            server.step_clock(3600)
            a, b = opened(server.url, ttl=1.0), opened(server.url, ttl=1.0)
            a.join("g", "a", record("1"))
            b.join("g", "b", record("1"))
            server.step_clock(0)

            def a_is_gone() -> bool:
                renew_or_rejoin(b, "b", {})
                return "a" not in b.read("g").records

            wait_until(a_is_gone, what="the end of a lease from before the step")

    def test_without_a_step_the_memory_only_grows(self, opened: Opened) -> None:
        with RedisServer() as server:
            a = opened(server.url, ttl=0.5)
            ages = [a.read("g").memory_age for _ in range(500)]
            assert ages == sorted(ages)


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
            gone = opened(f"redis://{host}:{port}?timeout=0.5&retries=0", ttl=60.0)
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
            with server.client() as client:
                assert not client.hexists("hashring:{g}:writers", gone.token)

                def evaluated() -> int:
                    return int(client.info("commandstats")["cmdstat_evalsha"]["calls"])

                before = evaluated()
                wait_until(lambda: evaluated() > before, what="the arrival of the late join")
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


class TestGoingBackInTime:
    """An older copy of the keys is put back under a server that runs on."""

    @staticmethod
    def swapped(server: RedisServer) -> Callable[[], None]:
        with server.client() as client:
            for key in client.keys("*"):
                client.copy(key, key, destination_db=1)

        def put_back() -> None:
            with server.client() as client:
                client.swapdb(0, 1)

        return put_back

    @staticmethod
    def restored(server: RedisServer) -> Callable[[], None]:
        with redis.Redis(unix_socket_path=str(server.socket)) as client:
            copies = {key: client.dump(key) for key in client.keys("*")}

        def put_back() -> None:
            with redis.Redis(unix_socket_path=str(server.socket)) as client:
                for key, copy in copies.items():
                    client.restore(key, 0, copy, replace=True)

        return put_back

    @staticmethod
    def reloaded(server: RedisServer) -> Callable[[], None]:
        with server.client() as client:
            client.save()

        def put_back() -> None:
            with server.client() as client:
                client.execute_command("DEBUG", "RELOAD", "NOSAVE")

        return put_back

    @pytest.fixture(params=["swapped", "restored", "reloaded"])
    def copied(self, request: pytest.FixtureRequest) -> Callable[..., Callable[[], None]]:
        return getattr(self, request.param)

    @pytest.fixture
    def server(self) -> Iterator[RedisServer]:
        with RedisServer(enable_debug_command="yes") as running:
            yield running

    def test_records_that_are_older_than_what_a_member_has_seen_make_the_memory_young(
        self, server, opened, copied, caplog
    ) -> None:
        a, b = opened(server.url), opened(server.url)
        a.join("g", "a", record("1", applied="old"))
        b.join("g", "b", record("1"))
        put_back = copied(server)
        a.publish("g", "a", record("1", applied="new"))
        assert b.read("g").records["a"] == record("1", applied="new")
        wait_until(lambda: b.read("g").memory_age > 1.0)
        put_back()
        went = time.monotonic()
        assert b.read("g").memory_age <= time.monotonic() - went
        a.heartbeat()
        assert b.read("g").records["a"] == record("1", applied="new")
        assert len([text for text in caplog.messages if "went back in time" in text]) == 1

    def test_a_newcomer_that_writes_first_does_not_hide_it(self, server, opened, copied) -> None:
        a, b = opened(server.url), opened(server.url)
        a.join("g", "a", record("1", applied="old"))
        b.join("g", "b", record("1"))
        put_back = copied(server)
        for turn in range(3):
            a.publish("g", "a", record("1", applied=turn))
        b.read("g")
        put_back()
        newcomer = opened(server.url)
        newcomer.join("g", "c", record("1"))
        wait_until(lambda: newcomer.read("g").memory_age > 1.0)
        for turn in range(10):  # as many versions as were lost, and more
            newcomer.publish("g", "c", record("1", applied=turn))
        called = time.monotonic()
        assert b.read("g").memory_age <= time.monotonic() - called
        assert newcomer.read("g").memory_age < TTL

    def test_where_no_record_changed_the_leases_tell(self, server, opened, copied, caplog) -> None:
        a, b = opened(server.url, ttl=1.0), opened(server.url, ttl=1.0)
        until_it_works(lambda: a.join("g", "a", record("1")))
        until_it_works(lambda: b.join("g", "b", record("1")))
        put_back = copied(server)

        def all_would_be_gone() -> bool:
            renew_or_rejoin(a, "a", {})
            renew_or_rejoin(b, "b", {})
            return time.monotonic() - copied_at > 1.5

        copied_at = time.monotonic()
        wait_until(all_would_be_gone)
        put_back()
        # Both leases ran out long ago, in the copy: nobody may take that for the end of a member.
        assert b.read("g").memory_age < 1.0
        assert [text for text in caplog.messages if "lost a part of the lease of" in text]

    def test_members_go_on_without_a_restart_and_never_share_a_slot(self, server, copied) -> None:
        with contextlib.ExitStack() as stack:
            members = [
                stack.enter_context(hashring.join(server.url, "g", name, ttl=1.5))
                for name in ("a", "b")
            ]
            assert all(member.wait_settled(60) for member in members)
            put_back = copied(server)
            members.append(stack.enter_context(hashring.join(server.url, "g", "c", ttl=1.5)))
            keys = [f"key {number}" for number in range(200)]

            def shared_out() -> bool:
                held = [set(member.owned(keys)) for member in members]
                assert not any(a & b for a, b in itertools.combinations(held, 2))
                return sum(map(len, held)) == len(keys) and all(held)

            wait_until(shared_out)
            put_back()
            back = time.monotonic()
            # Longer than it takes to stand still, for what might go wrong until then.
            wait_until(lambda: (shared_out(), time.monotonic() - back > 3.0)[1])
            wait_until(shared_out)


def test_a_group_that_nobody_joins_leaves_nothing_behind_for_ever(opened: Opened) -> None:
    with RedisServer() as server, server.client() as client:
        a = opened(server.url, ttl=60.0)
        a.read("g")
        a.wait("g", 0.01)
        assert len(client.keys("*")) == 6
        assert all(0 < client.ttl(key) <= 86_400 for key in client.keys("*"))
        a.join("g", "a", record("1"))
        assert all(client.ttl(key) == -1 for key in client.keys("*"))
        a.leave("g", "a")
        assert all(0 < client.ttl(key) <= 86_400 for key in client.keys("*"))


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
            b.wait("g", 30)
            assert time.monotonic() - began < 15
            assert b.read("g").records.keys() == {"a"}

    def test_a_lost_message_costs_only_a_poll(self, opened: Opened) -> None:
        with RedisServer() as server:
            a, b = opened(server.url, ttl=60.0), opened(f"{server.url}?poll=0.3", ttl=60.0)
            b.read("g")
            b.wait("g", 0.1)  # the subscription stands
            with server.client() as client:
                client.client_kill_filter(_type="pubsub")
            a.join("g", "a", record("1"))
            began = time.monotonic()
            b.wait("g", 30)
            assert time.monotonic() - began < 15
            assert b.read("g").records.keys() == {"a"}

    def test_a_subscription_that_fell_silent_is_replaced(self, opened: Opened) -> None:
        with RedisServer() as server, Relay(server) as relay:
            a, b = opened(server.url, ttl=60.0), opened(f"{relay.url}?poll=0.3", ttl=60.0)
            b.read("g")
            b.wait("g", 0.1)  # the subscription stands
            with server.client() as client:

                def subscribed() -> list[str]:
                    return [one["id"] for one in client.client_list(_type="pubsub")]

                first = subscribed()
                assert len(first) == 1
                relay.silence(having_asked=b"SUBSCRIBE")
                a.join("g", "a", record("1"))
                b.wait("g", 30)  # found by asking
                assert b.read("g").records.keys() == {"a"}
                b.wait("g", 0.1)
                assert len(subscribed()) == 1
                assert subscribed() != first

    def test_close_ends_a_wait(self, opened: Opened) -> None:
        with RedisServer() as server:
            a = opened(server.url)
            a.read("g")
            waiting = threading.Thread(target=a.wait, args=("g", 60.0))
            waiting.start()
            with server.client() as client:
                wait_until(lambda: client.pubsub_channels())
            a.close()
            waiting.join(15)
            assert not waiting.is_alive()


class TestAccess:
    def test_a_user_with_the_documented_rights_can_do_everything(self, opened: Opened) -> None:
        with RedisServer() as server:
            with server.client() as client:
                client.execute_command(
                    "ACL", "SETUSER", "agent", "on", ">s3cret", "~hashring:*", "&hashring:*",
                    "-@all", "+@connection", "+@scripting", "+@hash", "+@sortedset", "+info",
                    "+time", "+exists", "+del", "+pexpire", "+persist", "+publish", "+subscribe",
                    "+wait",
                )  # fmt: skip
            a = opened(f"redis://agent:s3cret@{server.address}", ttl=60.0)
            a.join("g", "a", record("1"))
            a.heartbeat()
            a.publish("g", "a", record("1", applied="x"))
            assert a.read("g").records == {"a": record("1", applied="x")}
            a.wait("g", 0.1)
            a.leave("g", "a")

    @pytest.mark.parametrize("login", [":wr0ng", "nobody:wr0ng", ""])
    def test_a_refused_login_says_so_and_shows_no_secret(self, login: str) -> None:
        before = set(threading.enumerate())
        with RedisServer(requirepass="right") as server:
            driver = load(f"redis://{login}{'@' if login else ''}{server.address}", ttl=TTL)
            with pytest.raises(StoreUnusable, match="refused the user or password") as caught:
                driver.open()
        assert "wr0ng" not in str(caught.value)
        assert set(threading.enumerate()) == before

    def test_the_right_password_opens(self, opened: Opened) -> None:
        with RedisServer(requirepass="r/ght @") as server:
            a = opened(f"redis://:r%2Fght%20%40@{server.address}")
            a.join("g", "a", record("1"))
            assert "ght" not in f"{a.url} {a.url!r}"

    def test_a_unix_socket_serves(self, opened: Opened) -> None:
        with RedisServer() as server:
            a = opened(f"redis+unix://{server.socket}?db=3")
            a.join("g", "a", record("1"))
            assert opened(f"{server.url}/3").read("g").records.keys() == {"a"}
            assert opened(server.url).read("g").records == {}

    def test_an_evicting_server_is_used_with_a_warning_that_says_what_to_set(
        self, opened: Opened, caplog: pytest.LogCaptureFixture
    ) -> None:
        with RedisServer(maxmemory="50mb", maxmemory_policy="volatile-lru") as server:
            with caplog.at_level(logging.WARNING):
                opened(server.url)
            assert "set maxmemory-policy noeviction" in caplog.text
        caplog.clear()
        with RedisServer(maxmemory="50mb", maxmemory_policy="noeviction") as server:
            with caplog.at_level(logging.WARNING):
                opened(server.url)
            assert caplog.text == ""

    def test_a_full_server_is_an_error_and_changes_nothing(self, opened: Opened) -> None:
        with RedisServer() as server:
            a = opened(server.url, ttl=60.0)
            a.join("g", "a", record("1"))
            with server.client() as client:
                client.config_set("maxmemory", "1")
            with pytest.raises(StoreUnavailable, match="maxmemory"):
                a.publish("g", "a", record("1", applied="x"))
            with pytest.raises(StoreUnavailable, match="maxmemory"):
                a.heartbeat()
            with server.client() as client:
                client.config_set("maxmemory", "0")
            assert a.read("g").records == {"a": record("1")}
            a.heartbeat()

    def test_a_server_that_never_answers_is_an_error_within_its_timeout(self) -> None:
        before = set(threading.enumerate())
        with SilentServer() as silent:
            for scheme in ("redis", "rediss", "redis+cluster"):
                url = f"{scheme}://app:s3cret@{LOOPBACK}:{silent.port}"
                driver = load(f"{url}?timeout=0.4&connect_timeout=0.4", ttl=TTL)
                began = time.monotonic()
                with pytest.raises(StoreUnavailable) as caught:
                    driver.open()
                assert time.monotonic() - began < 10
                assert "s3cret" not in str(caught.value)
        assert set(threading.enumerate()) == before

    def test_a_server_whose_answer_trickles_in_is_an_error_within_the_timeout(self) -> None:
        over, gave_up = threading.Event(), threading.Event()

        def trickle(listener: socket.socket) -> None:
            while not over.is_set():
                with contextlib.suppress(OSError), listener.accept()[0] as client:
                    client.sendall(b"$1000\r\n")
                    while not over.wait(0.1):
                        client.sendall(b"x")

        with socket.create_server((LOOPBACK, 0)) as listener:
            listener.settimeout(0.1)
            port = listener.getsockname()[1]
            driver = load(f"redis://{LOOPBACK}:{port}?timeout=0.4&connect_timeout=0.4", ttl=TTL)

            def call() -> None:
                with contextlib.suppress(StoreUnavailable):
                    driver.open()
                gave_up.set()

            threads = [threading.Thread(target=trickle, args=(listener,))]
            threads.append(threading.Thread(target=call))
            for thread in threads:
                thread.start()
            in_time = gave_up.wait(10)
            over.set()
            for thread in threads:
                thread.join()
        assert in_time, "a call went on for as long as bytes arrived"

    def test_one_connection_that_fell_silent_costs_a_part_of_the_time_and_no_error(
        self, opened: Opened
    ) -> None:
        with RedisServer() as server, Relay(server) as relay:
            a = opened(f"{relay.url}?timeout=3&retries=0", ttl=60.0)
            a.join("g", "a", record("1"))
            relay.silence()  # the connection in the pool
            a.heartbeat()
            assert a.read("g").records.keys() == {"a"}

    @pytest.mark.parametrize(
        ("url", "ttl", "timeout"),
        [
            ("redis://", 3.0, 1.0),
            ("redis://", 60.0, 3.0),
            ("redis://h?timeout=5", 60.0, 5.0),
            ("redis://h?timeout=60", 3.0, 1.0),
        ],
    )
    def test_whatever_timeout_the_url_names_a_call_ends_well_before_the_fence(
        self, url: str, ttl: float, timeout: float
    ) -> None:
        assert load(url, ttl=ttl).settings["timeout"] == timeout

    def test_a_timeout_longer_than_the_lease_leaves_is_limited_and_that_is_said_once(
        self, opened: Opened, caplog: pytest.LogCaptureFixture
    ) -> None:
        with RedisServer() as server:
            url = f"{server.url}?timeout=60"
            for _ in range(3):
                opened(url, ttl=1.5)
            told = [text for text in caplog.messages if "timeout=60 is limited to 0.75 s" in text]
            assert len(told) == 1
            # The same on a primary that hangs: a heartbeat has an outcome before the fence.
            driver = opened(url, ttl=1.5)
            driver.join("g", "a", record("1"))
            server.pause()
            began = time.monotonic()
            with pytest.raises(StoreUnavailable):
                driver.heartbeat()
            assert time.monotonic() - began < 30.0  # not 60: the URL's word
            server.resume()

    def test_a_heartbeat_for_many_groups_ends_within_one_timeout(self, opened: Opened) -> None:
        with RedisServer() as server, FaultProxy(LOOPBACK, server.port) as proxy:
            host, port = proxy.address
            a = opened(f"redis://{host}:{port}?timeout=1&retries=0", ttl=60.0)
            for number in range(20):
                until_it_works(lambda number=number: a.join(f"g{number}", "a", record("1")))
            proxy.delay(down=0.25)  # each answer alone is in time
            with pytest.raises(StoreUnavailable):
                a.heartbeat()

    def test_a_wait_on_a_server_that_hangs_ends_soon_after_its_timeout(
        self, opened: Opened
    ) -> None:
        with RedisServer() as server:
            a = opened(f"{server.url}?timeout=60&poll=0.1", ttl=60.0)
            a.read("g")
            a.wait("g", 0.05)
            server.pause()
            waited = threading.Event()

            def wait() -> None:
                a.wait("g", 0.5)
                waited.set()

            thread = threading.Thread(target=wait)
            thread.start()
            in_time = waited.wait(15)
            server.resume()
            thread.join()
            assert in_time

    def test_another_kind_of_server_is_an_error_that_shows_no_secret(self) -> None:
        with MemcachedServer() as other:
            driver = load(f"redis://app:s3cret@{other.address}?timeout=1", ttl=TTL)
            with pytest.raises(StoreUnavailable) as caught:
                driver.open()
        assert "s3cret" not in str(caught.value)

    @pytest.mark.parametrize(
        ("url", "complaint"),
        [
            ("redis://a,b", "redis\\+cluster"),
            ("redis+ring://a", "unknown"),
            ("redis://a/zero", "number of a database"),
            ("redis://a/1?db=2", "two databases"),
            ("redis+cluster://a/1", "database 0"),
            ("redis+cluster://a?sentinel=x", "no Sentinels"),
            ("redis://a?sentinel_fallback=b:1", "needs sentinel="),
            ("redis://a?sentinel=x&sentinel_fallback=b", "host:port"),
            ("redis+unix://a/b", "name the socket"),
            ("rediss+unix:///b", "no TLS"),
            ("redis://a?ca=/x", "rediss://"),
            ("redis://a?replicas=some", "auto or a number"),
            ("redis://a?poll=0", "positive"),
            ("redis://a?namespace={x}", "letters"),
        ],
    )
    def test_a_url_that_makes_no_sense_is_refused(self, url: str, complaint: str) -> None:
        with pytest.raises(BadURL, match=complaint):
            load(url, ttl=TTL)


class TestTLS:
    def test_certificates_of_both_sides_are_checked(self, opened: Opened) -> None:
        with Certificates() as known, RedisServer(certificates=known) as server:
            a = opened(f"rediss://{server.address}?{known.query}")
            a.join("g", "a", record("1"))
            a.wait("g", 0.05)
            assert a.read("g").records.keys() == {"a"}
            for query in (f"ca={known.ca}", "verify=true"):
                bare = load(f"rediss://{server.address}?{query}&timeout=2", ttl=TTL)
                with pytest.raises(StoreUnavailable):
                    bare.open()
            tooz = f"ssl_ca_certs={known.ca}&ssl_certfile={known.client}"
            opened(f"redis://{server.address}?ssl=true&{tooz}&ssl_keyfile={known.client_key}")

    def test_a_name_that_does_not_match_is_an_error_unless_it_is_not_checked(
        self, opened: Opened
    ) -> None:
        with Certificates("another.example") as other, RedisServer(certificates=other) as server:
            url = f"rediss://app:s3cret@{server.address}?{other.query}"
            with pytest.raises(StoreUnavailable, match=r"(?i)certificate") as caught:
                load(f"{url}&timeout=2", ttl=TTL).open()
            assert "s3cret" not in str(caught.value)
            opened(f"rediss://{server.address}?{other.query}&verify=false")

    def test_a_file_that_is_missing_is_named(self) -> None:
        with pytest.raises(StoreUnusable, match="/no/such/file"):
            load("rediss://localhost?ca=/no/such/file", ttl=TTL).open()


class TestReplicas:
    def test_a_replica_that_hangs_holds_up_what_must_be_confirmed(self, opened: Opened) -> None:
        with RedisServer() as server, RedisServer(replicaof=f"{LOOPBACK} {server.port}") as replica:
            a = opened(f"{server.url}?timeout=1", ttl=60.0)
            lax = opened(f"{server.url}?timeout=1&replicas=0", ttl=60.0)
            with server.client() as client:
                wait_until(lambda: client.info("replication")["slave0"]["state"] == "online")
            until_it_works(lambda: a.join("g", "a", record("1")))
            replica.pause()
            with pytest.raises(StoreUnavailable, match="replicas"):
                a.publish("g", "a", record("1", applied="x"))
            until_it_works(lambda: lax.join("g", "b", record("1")))
            until_it_works(lax.heartbeat)
            replica.resume()
            until_it_works(a.heartbeat)

    def test_a_server_that_has_lost_its_replica_confirms_nothing_unless_told_so(
        self, opened: Opened
    ) -> None:
        with (
            RedisServer() as server,
            RedisServer(replicaof=f"{LOOPBACK} {server.port}") as replica,
            server.client() as client,
            replica.client() as other,
        ):

            def online() -> int:
                listed = client.info("replication").values()
                return sum(isinstance(one, dict) and one["state"] == "online" for one in listed)

            wait_until(lambda: online() == 1)
            a = opened(f"{server.url}?timeout=1", ttl=60.0)
            until_it_works(lambda: a.join("g", "a", record("1")))
            other.execute_command("REPLICAOF", "NO", "ONE")  # promoted, by hand
            wait_until(lambda: online() == 0)
            # The old primary knows of no promotion. Nor does a driver that was not there.
            for driver in (a, opened(f"{server.url}?timeout=1", ttl=60.0)):
                with pytest.raises(StoreUnavailable, match="replicas=0"):
                    driver.join("g", "b", record("1"))
            with pytest.raises(StoreUnavailable, match="replicas=0"):
                a.heartbeat()
            told = opened(f"{server.url}?replicas=0", ttl=60.0)
            told.join("g", "d", record("1"))
            told.heartbeat()
            # Nor may the promoted one confirm alone: it has the group, and its history.
            with pytest.raises(StoreUnavailable, match="replicas=0"):
                opened(f"{replica.url}?timeout=1", ttl=60.0).join("g", "e", record("1"))
            other.execute_command("REPLICAOF", LOOPBACK, server.port)
            until_it_works(a.heartbeat)

    def test_a_replica_is_never_taken_for_the_primary(self, opened: Opened) -> None:
        with RedisServer() as server, RedisServer(replicaof=f"{LOOPBACK} {server.port}") as replica:
            a = opened(server.url)
            a.join("g", "a", record("1"))
            b = opened(f"{replica.url}?timeout=1")
            with pytest.raises(StoreUnavailable, match="replica"):
                b.read("g")
            with pytest.raises(StoreUnavailable, match="replica"):
                b.join("g", "b", record("1"))


class TestSentinel:
    def test_a_failover_keeps_the_members_and_makes_the_memory_young(self, opened: Opened) -> None:
        with Replicated() as servers:
            a, b = opened(servers.url), opened(servers.url)
            a.join("g", "a", record("1"))
            b.join("g", "b", record("2"))
            wait_until(lambda: b.read("g").memory_age > 0.5)
            old = servers.primary
            old.kill()
            killed = time.monotonic()
            until_it_works(lambda: renew_or_rejoin(a, "a", {}), within=60)
            assert servers.primary is not old
            reading = b.read("g")
            assert reading.memory_age <= time.monotonic() - killed
            assert "a" in reading.records
            old.start()
            wait_until(servers.settled, within=60, what="the old primary's return as a replica")
            until_it_works(lambda: renew_or_rejoin(a, "a", {}))
            until_it_works(lambda: a.publish("g", "a", record("1", applied="x")))
            assert b.read("g").records["a"] == record("1", applied="x")

    def test_a_frozen_primary_that_returns_confirms_nothing(self, opened: Opened) -> None:
        with Replicated() as servers:
            quick = f"{servers.url}&timeout=1"
            a, b = opened(quick), opened(quick)
            until_it_works(lambda: a.join("g", "a", record("1", applied="first")))
            until_it_works(lambda: b.join("g", "b", record("1")))
            old = servers.primary
            old.pause()
            wait_until(lambda: servers.primary is not old, within=60, what="a failover")
            until_it_works(lambda: b.publish("g", "b", record("1", applied="on the new")))
            old.resume()
            # `a` still has its connection to the old one, which may believe itself the primary.
            until_it_works(lambda: renew_or_rejoin(a, "a", {"applied": "first"}))
            confirmed = time.monotonic()
            with servers.primary.client() as client:
                seconds, microseconds = client.time()
                ends = client.zscore("hashring:{g}:leases", "a")
            left = ends / 1e6 - (seconds + microseconds / 1e6)
            assert left >= TTL - (time.monotonic() - confirmed) - 1.5
            until_it_works(lambda: a.publish("g", "a", record("1", applied="second")))
            until_it_works(lambda: b.read("g"))
            assert b.read("g").records["a"] == record("1", applied="second")

    def test_without_a_majority_of_sentinels_nothing_is_confirmed(self, opened: Opened) -> None:
        with Replicated() as servers:
            a = opened(f"{servers.url}&timeout=2")
            until_it_works(lambda: a.join("g", "a", record("1")))
            servers.sentinels[0].kill()
            until_it_works(a.heartbeat)
            servers.sentinels[1].kill()
            with pytest.raises(StoreUnavailable, match="1 of 3 Sentinels"):
                a.heartbeat()
            with pytest.raises(StoreUnavailable, match="1 of 3 Sentinels"):
                a.publish("g", "a", record("1", applied="x"))
            servers.sentinels[1].start()
            until_it_works(a.heartbeat)

    def test_a_lost_replica_holds_the_group_up_only_until_the_sentinels_see_it(
        self, opened: Opened
    ) -> None:
        with Replicated() as servers:
            a = opened(f"{servers.url}&timeout=2", ttl=60.0)
            until_it_works(lambda: a.join("g", "a", record("1")))
            servers.servers[1].kill()
            until_it_works(a.heartbeat)
            until_it_works(lambda: a.publish("g", "a", record("1", applied="x")))
            servers.servers[1].start()
            wait_until(servers.settled, within=60)
            until_it_works(a.heartbeat)

    def test_one_sentinel_in_the_url_is_enough_to_find_the_others(self, opened: Opened) -> None:
        with Replicated() as servers:
            first, *others = servers.sentinels
            a = opened(f"redis://{first.address}?sentinel=group", ttl=60.0)
            a.join("g", "a", record("1"))
            first.kill()
            a.heartbeat()
            fallback = "&".join(f"sentinel_fallback={other.address}" for other in others)
            b = opened(f"redis://{first.address}?sentinel=group&{fallback}", ttl=60.0)
            assert b.read("g").records.keys() == {"a"}

    def test_a_primary_that_no_sentinel_knows_is_an_error(self) -> None:
        with Replicated(replicas=0, sentinels=1) as servers:
            url = servers.url.replace("sentinel=group", "sentinel=unheard")
            with pytest.raises(StoreUnavailable, match="unheard"):
                load(f"{url}&timeout=1", ttl=TTL).open()

    def test_the_sentinels_have_logins_of_their_own(self, opened: Opened) -> None:
        with Replicated(replicas=0, sentinels=1) as servers:
            with servers.sentinels[0].client() as client:
                client.execute_command("ACL", "SETUSER", "watch", "on", ">s3cret", "~*", "+@all")
                client.execute_command("ACL", "SETUSER", "default", "off")
            login = "sentinel_username=watch&sentinel_password"
            a = opened(f"{servers.url}&{login}=s3cret")
            a.join("g", "a", record("1"))
            with pytest.raises(HashringError) as caught:
                load(f"{servers.url}&{login}=wr0ng&timeout=1", ttl=TTL).open()
            assert "wr0ng" not in str(caught.value)
            with servers.sentinels[0].client() as client:
                client.execute_command("AUTH", "watch", "s3cret")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster() as running:
        yield running


class TestCluster:
    def test_groups_live_on_several_primaries_and_one_driver_serves_them_all(
        self, cluster: Cluster, opened: Opened
    ) -> None:
        a, b = opened(cluster.url, ttl=60.0), opened(cluster.url, ttl=60.0)
        for number in range(20):
            a.join(f"g{number}", "a", record("1", number=number))
        a.heartbeat()
        for number in range(20):
            assert b.read(f"g{number}").records == {"a": record("1", number=number)}
            a.leave(f"g{number}", "a")

    def test_a_failover_keeps_the_members_and_makes_the_memory_young(
        self, cluster: Cluster, opened: Opened
    ) -> None:
        a, b = opened(f"{cluster.url}?timeout=1"), opened(f"{cluster.url}?timeout=1")
        until_it_works(lambda: a.join("g", "a", record("1")))
        until_it_works(lambda: b.join("g", "b", record("1")))
        wait_until(lambda: b.read("g").memory_age > 0.5)
        old = cluster.owner(key_slot(b"hashring:{g}:group"))
        old.pause()
        paused = time.monotonic()
        until_it_works(lambda: renew_or_rejoin(a, "a", {}), within=60)
        assert cluster.owner(key_slot(b"hashring:{g}:group")) is not old
        until_it_works(lambda: b.read("g"))
        assert b.read("g").memory_age <= time.monotonic() - paused
        old.resume()
        until_it_works(lambda: renew_or_rejoin(a, "a", {}))
        until_it_works(lambda: a.publish("g", "a", record("1", applied="x")))
        assert b.read("g").records["a"] == record("1", applied="x")
        wait_until(cluster.settled, within=60, what="the return of the old primary")

    def test_a_cluster_behind_a_plain_url_is_pointed_out(
        self, cluster: Cluster, opened: Opened
    ) -> None:
        first = cluster.servers[0]
        a = opened(first.url)
        elsewhere = next(
            name
            for name in map(str, range(100))
            if cluster.owner(key_slot(f"hashring:{{{name}}}:group".encode())) is not first
        )
        with pytest.raises(StoreUnavailable, match=r"redis\+cluster://"):
            a.read(elsewhere)
