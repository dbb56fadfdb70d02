"""A server that strangers talk to: what they hold up, and for how long."""

import contextlib
import socket
import threading
import urllib.error
import urllib.request

import pytest

from hashring.telemetry.publishers.serving import BoundedServer, bind
from tests.telemetry.conftest import until

LOOPBACK = "127.0.0.1"


def hello(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]


@pytest.fixture
def serve():
    with contextlib.ExitStack() as stack:

        def serve(application=hello, **limits):
            server = bind(LOOPBACK, 0)
            vars(server).update(limits)
            server.set_app(application)
            thread = threading.Thread(target=server.serve_forever, args=(0.02,))
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.server_close)
            stack.callback(server.shutdown)
            return server

        yield serve
    assert not [one for one in threading.enumerate() if "process_request" in one.name]


def ask(server):
    with urllib.request.urlopen(f"http://{LOOPBACK}:{server.server_port}/", timeout=60) as found:
        return found.read()


def half_a_request(server):
    connection = socket.create_connection((LOOPBACK, server.server_port), timeout=60)
    connection.sendall(b"GET / HTTP/1.1\r\nX-Half: ")
    return connection


def threads():
    return [one for one in threading.enumerate() if "process_request" in one.name]


def test_half_sent_requests_hold_a_bounded_number_of_threads_and_keep_nobody_out(serve):
    server = serve(max_connections=4, request_timeout=600.0)
    with contextlib.ExitStack() as stack:
        for _ in range(40):
            stack.enter_context(half_a_request(server))
            assert server.connections <= 4

        assert ask(server) == b"hello"  # the oldest of those that say nothing was closed for it
        until(lambda: len(threads()) <= 4, "the threads of those that were closed have ended")


def test_a_request_that_drips_in_is_over_at_its_deadline(serve):
    server = serve(request_timeout=0.5)
    with half_a_request(server) as connection:
        connection.settimeout(0.02)

        def drip():
            try:
                connection.sendall(b"a")  # long before any silence would be noticed
                return not connection.recv(1)
            except TimeoutError:
                return False
            except ConnectionError:
                return True

        until(drip, "it is cut off")


def test_an_answer_that_is_not_taken_is_over_at_its_deadline(serve):
    asked = threading.Event()

    def much(environ, start_response):
        asked.set()
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [bytes(50_000_000)]

    server = serve(much, request_timeout=0.5)
    with socket.create_connection((LOOPBACK, server.server_port)) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")

        assert asked.wait(60)  # it is being answered, or was
        until(lambda: not server.connections, "it is closed")


def test_where_all_are_being_answered_one_more_is_closed_and_none_of_them(serve):
    go_on = threading.Event()

    def slow(environ, start_response):
        go_on.wait(300)
        return hello(environ, start_response)

    server = serve(slow, max_connections=2, request_timeout=600.0)
    with contextlib.ExitStack() as stack:
        asked = [
            stack.enter_context(socket.create_connection((LOOPBACK, server.server_port)))
            for _ in range(2)
        ]
        for connection in asked:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        until(lambda: all(server._open.values()) and server.connections == 2, "both are served")

        with pytest.raises((ConnectionError, urllib.error.URLError)):
            ask(server)
        go_on.set()

        for connection in asked:
            with connection.makefile("rb") as found:
                assert found.read().endswith(b"hello")


def test_who_says_nothing_does_not_keep_the_end_waiting(serve):
    server = serve(request_timeout=600.0)
    with half_a_request(server):
        until(lambda: server.connections == 1, "it is connected")

        server.shutdown()
        server.server_close()

        assert server.connections == 0


def test_an_address_that_is_not_of_this_host_is_an_error():
    with pytest.raises(OSError, match="Cannot assign"):
        bind("192.0.2.1", 0)
    assert BoundedServer.max_connections == 16
