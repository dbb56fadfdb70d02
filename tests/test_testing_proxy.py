"""The fault proxy, before a real echo server."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
import time

import pytest

from hashring.testing import FaultProxy
from tests.servers.process import free_port

PATIENCE = 60.0


class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        with contextlib.suppress(OSError):  # the proxy cuts connections
            while data := self.request.recv(65536):
                self.server.received.append(data)
                self.request.sendall(data)


@pytest.fixture
def echo():
    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True

    with Server(("127.0.0.1", 0), Echo) as server:
        server.received = []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def proxy(echo):
    with FaultProxy(*echo.server_address) as proxy:
        yield proxy


def connect(proxy):
    client = socket.create_connection(proxy.address, timeout=PATIENCE)
    client.settimeout(PATIENCE)
    return client


def read(client, size):
    data = b""
    while len(data) < size and (more := client.recv(65536)):
        data += more
    return data


def until(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_without_faults_bytes_pass_both_ways(proxy):
    payload = bytes(range(256)) * 20_000
    with connect(proxy) as client:
        sender = threading.Thread(target=client.sendall, args=(payload,))
        sender.start()
        assert read(client, len(payload)) == payload
        sender.join()


def test_an_end_of_one_way_passes_and_the_other_way_still_works(proxy):
    with connect(proxy) as client:
        client.sendall(b"last words")
        client.shutdown(socket.SHUT_WR)
        assert read(client, 100) == b"last words"
    until(lambda: proxy.connections == 0)


def test_a_cut_resets_what_is_open_and_lets_new_connections_work(proxy):
    with connect(proxy) as old:
        old.sendall(b"a")
        assert old.recv(1) == b"a"
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            old.recv(1)
    with connect(proxy) as new:
        new.sendall(b"b")
        assert new.recv(1) == b"b"


def test_a_refusing_proxy_takes_no_connection_until_it_is_restored_on_the_same_port(proxy):
    address = proxy.address
    with connect(proxy) as old:
        proxy.refuse()
        with pytest.raises(ConnectionResetError):
            old.recv(1)
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)
    proxy.restore()
    assert proxy.address == address
    with connect(proxy) as new:
        new.sendall(b"b")
        assert new.recv(1) == b"b"


def test_a_delay_holds_bytes_for_so_long_each_way(proxy, echo):
    proxy.delay(up=0.2, down=0.3)
    with connect(proxy) as client:
        began = time.monotonic()
        client.sendall(b"slow")
        until(lambda: echo.received)
        assert time.monotonic() - began >= 0.2
        assert read(client, 4) == b"slow"
        assert time.monotonic() - began >= 0.5


def test_half_open_accepts_and_never_answers(proxy, echo):
    with connect(proxy) as old:
        proxy.half_open()
        with connect(proxy) as new:
            for client in (old, new):
                client.sendall(b"anybody there?")
                client.settimeout(0.1)
                with pytest.raises(TimeoutError):
                    client.recv(1)
            assert echo.received == []
            proxy.restore()
            # What was swallowed is lost: the silenced connections end, so that clients notice.
            for client in (old, new):
                client.settimeout(PATIENCE)
                with pytest.raises(ConnectionResetError):
                    client.recv(1)


@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_black_hole_swallows_one_way_only(proxy, echo, direction):
    with connect(proxy) as client:
        client.sendall(b"before")
        assert read(client, 6) == b"before"
        proxy.blackhole(direction)
        client.sendall(b"after")
        if direction == "down":
            until(lambda: b"".join(echo.received) == b"beforeafter")
        client.settimeout(0.1)
        with pytest.raises(TimeoutError):
            client.recv(1)
        if direction == "up":
            assert b"".join(echo.received) == b"before"


def test_a_throttle_lets_so_many_bytes_a_second_pass(proxy):
    proxy.throttle(40_000)
    with connect(proxy) as client:
        began = time.monotonic()
        client.sendall(b"x" * 20_000)
        assert len(read(client, 20_000)) == 20_000
        # The first twentieth of a second passes at once, on each way.
        assert time.monotonic() - began >= 20_000 / 40_000 - 0.05


def test_restore_ends_delay_and_throttle_on_open_connections(proxy):
    with connect(proxy) as client:
        proxy.delay(up=1000.0)
        proxy.throttle(1.0)
        proxy.restore()
        client.sendall(b"quick")
        assert read(client, 5) == b"quick"


def test_a_server_that_is_gone_is_a_reset_at_the_client(echo):
    with (
        FaultProxy("127.0.0.1", free_port()) as proxy,
        pytest.raises(ConnectionResetError),  # at the first answer, or at the connect already
        connect(proxy) as client,
    ):
        client.recv(1)


def test_close_cuts_all_and_leaves_no_thread(echo):
    before = set(threading.enumerate())
    proxy = FaultProxy(*echo.server_address).start()
    clients = [connect(proxy) for _ in range(5)]
    until(lambda: proxy.connections == 5)
    own = [thread for thread in set(threading.enumerate()) - before if "FaultProxy" in thread.name]
    assert len(own) == 1
    proxy.close()
    proxy.close()
    assert not own[0].is_alive()
    for client in clients:
        with pytest.raises(ConnectionResetError), client:
            client.recv(1)
    with pytest.raises(RuntimeError, match="start"):
        proxy.cut()


def test_an_idle_proxy_does_not_spin(proxy):
    with connect(proxy) as client:
        client.sendall(b"a")
        assert client.recv(1) == b"a"
        proxy.half_open()
        client.shutdown(socket.SHUT_WR)
        (thread,) = [each for each in threading.enumerate() if "FaultProxy" in each.name]
        clock = time.pthread_getcpuclockid(thread.ident)
        began = time.clock_gettime(clock)
        threading.Event().wait(0.5)
        assert time.clock_gettime(clock) - began < 0.25


@pytest.mark.parametrize(
    "wrong",
    [
        lambda proxy: proxy.delay(up=-1),
        lambda proxy: proxy.throttle(0),
    ],
)
def test_impossible_faults_are_refused(proxy, wrong):
    with pytest.raises(ValueError, match="must"):
        wrong(proxy)
