"""What bounds an exchange over HTTP: its deadline, and what its answer inflates to."""

import asyncio
import contextlib
import gzip
import socket
import ssl
import threading
import tracemalloc
import zlib

import pytest
import trustme

from hashring import clock
from hashring.telemetry import http
from hashring.telemetry.errors import FetchFailed
from hashring.telemetry.http.inflating import Inflater
from hashring.telemetry.sources.web.fetch import Fetcher
from tests.servers.http import HTTPServer
from tests.servers.process import SilentServer

MANY = 60.0
"""Seconds in which everything here is over on any machine, unless it hangs."""


@pytest.fixture
def server():
    with HTTPServer() as found:
        yield found


@pytest.fixture
def client():
    found = http.Client()
    yield found
    found.close()


def fetched(url):
    """What a fetch brings, of at most a megabyte."""
    fetcher = Fetcher(timeout=MANY, max_bytes=1_000_000)
    with asyncio.Runner() as loop:
        try:
            return loop.run(fetcher.get(url, deadline=fetcher.deadline())).body
        finally:
            fetcher.close()


def body_of(client, url, within=MANY):
    with client.exchange("GET", url, deadline=clock.boottime() + within, headers={}) as answer:
        return b"".join(answer.chunks())


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        ("gzip", gzip.compress),
        ("x-gzip", lambda data: gzip.compress(data[:5]) + gzip.compress(data[5:])),
        ("gzip", lambda data: gzip.compress(data) + b"noise"),
        ("deflate", zlib.compress),
        ("deflate", lambda data: zlib.compress(data)[2:-4]),
        ("identity", bytes),
        ("", bytes),
    ],
)
def test_an_answer_is_inflated_whatever_its_encoding(server, client, encoding, pack):
    content = bytes(range(256)) * 2000
    server.answer("/", pack(content), headers=(("Content-Encoding", encoding),))

    assert body_of(client, server.url + "/") == content


def test_a_body_is_inflated_however_small_the_pieces_are_in_which_it_arrives():
    content = bytes(range(256)) * 20
    packed = gzip.compress(content[:9]) + gzip.compress(content[9:]) + b"\x1fnoise"
    inflater = Inflater("gzip")

    found = [piece for byte in packed for piece in inflater.feed(bytes((byte,)))]

    assert b"".join([*found, *inflater.finish()]) == content


@pytest.mark.parametrize(
    ("encoding", "content", "why"),
    [
        ("gzip", b"no gzip at all", "damaged"),
        ("gzip", gzip.compress(bytes(10_000))[:-9], "cut off"),
        ("deflate", b"\xff" * 100, "damaged"),
        ("br", b"...", "compressed by 'br'"),
        ("gzip, gzip", gzip.compress(gzip.compress(b"a")), "compressed by 'gzip, gzip'"),
    ],
    ids=["no gzip", "cut off", "no deflate", "brotli", "twice"],  # gzip has the time in it
)
def test_a_damaged_or_unknown_encoding_is_said(server, encoding, content, why):
    server.answer("/", content, headers=(("Content-Encoding", encoding),))

    with pytest.raises(FetchFailed, match=why):
        fetched(server.url + "/")


def test_a_gzip_bomb_is_never_inflated_beyond_the_limit(server):
    bomb = gzip.compress(bytes(64 * 1024 * 1024), 9)
    server.answer("/", bomb, headers=(("Content-Encoding", "gzip"),))

    tracemalloc.start()
    try:
        with pytest.raises(FetchFailed, match="more than 1000000 bytes"):
            fetched(server.url + "/")
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert most < 4 * len(bomb) + 8_000_000


class Dripping:
    """A server whose every connection says its bytes one by one, for a minute and more."""

    def __init__(self, greeting=b"", pause=0.02):
        self._greeting, self._pause = greeting, pause
        self._ending = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self):
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            if self._ending.is_set():
                connection.close()
                return
            thread = threading.Thread(target=self._drip, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _drip(self, connection):
        end = clock.boottime() + 2 * MANY
        with connection:
            try:
                connection.sendall(self._greeting)
                while clock.boottime() < end and not self._ending.wait(self._pause):
                    connection.sendall(b"a")
            except OSError:
                return

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._ending.set()
        with socket.create_connection(("127.0.0.1", self.port)):
            pass
        self._socket.close()
        for thread in self._threads:
            thread.join()


@pytest.mark.parametrize(
    "greeting",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n100000\r\n",
        b"HTTP/1.1 200 OK\r\nX-Header: ",
        b"HTTP/1.1 200 ",
    ],
    ids=["body", "chunks", "headers", "status"],
)
def test_whatever_is_dripped_is_over_at_the_deadline(client, greeting):
    with Dripping(greeting) as server:
        begun = clock.boottime()

        with pytest.raises(http.FAILURES):
            body_of(client, f"http://127.0.0.1:{server.port}/", within=0.5)

        # Without a deadline it would never end, and by a timeout of the socket neither.
        assert clock.boottime() - begun < MANY


def test_a_handshake_that_is_dripped_is_over_at_the_deadline(client):
    record = b"\x16\x03\x03\x40\x00"  # of 16 KiB: many drops
    with Dripping(record) as server:
        begun = clock.boottime()

        with pytest.raises(http.FAILURES):
            body_of(client, f"https://127.0.0.1:{server.port}/", within=0.5)

        assert clock.boottime() - begun < MANY


@pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
@pytest.mark.parametrize("is_secure", [False, True], ids=["http", "https"])
def test_whoever_takes_a_request_slowly_holds_it_up_to_the_deadline_and_no_longer(
    client, is_secure
):
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    ending = threading.Event()

    def serve():
        connection, _ = listening.accept()
        end = clock.boottime() + 2 * MANY
        with contextlib.closing(connection), contextlib.suppress(OSError):
            connection.settimeout(MANY)
            if is_secure:
                connection = context.wrap_socket(connection, server_side=True)
            with connection:
                while clock.boottime() < end and not ending.wait(0.02) and connection.recv(1):
                    pass

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        begun = clock.boottime()
        url = f"http{'s' * is_secure}://127.0.0.1:{listening.getsockname()[1]}/"

        with (
            pytest.raises(http.FAILURES),
            client.exchange(
                "POST",
                url,
                deadline=begun + 0.7,
                headers={},
                body=bytes(30_000_000),
                verify=False,
            ),
        ):
            pass

        assert clock.boottime() - begun < MANY
        ending.set()
        thread.join()


def test_a_host_with_a_dead_address_is_reached_by_its_other_one(server, client, monkeypatch):
    with SilentServer() as dead:
        real = socket.getaddrinfo

        def both(host, port, *args, **kwargs):
            if host != "both.example":
                return real(host, port, *args, **kwargs)
            one = real("127.0.0.1", server.port, type=socket.SOCK_STREAM)
            return [(*one[0][:4], ("192.0.2.1", 9)), *one]

        monkeypatch.setattr(socket, "getaddrinfo", both)
        server.answer("/", "hello")

        assert body_of(client, f"http://both.example:{dead.port}/", within=12.0) == b"hello"
