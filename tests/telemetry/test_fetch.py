import asyncio
import base64
import contextlib
import gzip
import socket
import ssl
import threading
from pathlib import Path

import pytest
import uvloop

from hashring.telemetry.errors import FetchFailed
from hashring.telemetry.http import looped
from hashring.telemetry.sources.web import fetch
from hashring.telemetry.sources.web.fetch import Fetcher
from tests.servers.certificates import Certificates
from tests.servers.http import Answer, HTTPServer
from tests.servers.process import SilentServer

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture
def server():
    with HTTPServer() as found:
        yield found


@pytest.fixture(params=LOOPS)
def loop(request):
    """An event loop that turns while something is asked of it."""
    with asyncio.Runner(loop_factory=LOOPS[request.param]) as found:
        yield found


@pytest.fixture
def fetcher(loop):
    found = Fetcher(timeout=60.0, max_bytes=100_000)
    found.loop = loop
    yield found
    found.close()


def get(fetcher, url, within=None, **how):
    return fetcher.loop.run(fetcher.get(url, deadline=fetcher.deadline(within), **how))


def get_at_once(fetcher, urls, within=None):
    """Get several URLs at once."""

    async def all_of_them():
        deadline = fetcher.deadline(within)
        gets = (fetcher.get(url, deadline=deadline) for url in urls)
        return await asyncio.gather(*gets, return_exceptions=True)

    return fetcher.loop.run(all_of_them())


def test_an_answer_has_body_type_and_origin(server, fetcher):
    server.answer("/a", "hello", content_type="text/plain")

    assert get(fetcher, server.url + "/a") == (b"hello", "text/plain", server.url + "/a")


def test_headers_are_sent_and_the_environments_proxy_and_netrc_are_not_asked(
    server, fetcher, monkeypatch, tmp_path
):
    netrc = tmp_path / "netrc"
    netrc.write_text("default login someone password s3cret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    server.answer("/a")

    get(fetcher, server.url + "/a", headers={"X-Token": "t"}, accept="x/y")

    headers = server.log[0].headers
    assert (headers["x-token"], headers["accept"]) == ("t", "x/y")
    assert headers["user-agent"].startswith("hashring/")
    assert "authorization" not in headers


def test_a_user_and_password_in_the_url_are_basic_authentication(server, fetcher):
    server.answer("/a")

    get(fetcher, server.url.replace("://", "://user:s3cret@") + "/a")

    assert server.log[0].headers["authorization"] == "Basic dXNlcjpzM2NyZXQ="


def test_a_password_is_sent_in_utf8_as_a_sinks_is(server, fetcher):
    server.answer("/a")

    get(fetcher, server.url.replace("://", "://app:s%2F%C3%A9cret@") + "/a")

    sent = server.log[0].headers["authorization"]
    assert base64.b64decode(sent.removeprefix("Basic ")).decode() == "app:s/écret"


def test_cookies_are_not_kept(server, fetcher):
    server.answer("/a", headers=(("Set-Cookie", "who=a; Path=/"),))

    get(fetcher, server.url + "/a")
    get(fetcher, server.url + "/a")

    assert [("cookie" in asked.headers) for asked in server.log] == [False, False]


@pytest.mark.parametrize("status", [400, 401, 404, 500, 503, 304])
def test_a_status_that_is_no_success_is_an_error_without_the_secret(server, fetcher, status):
    server.answer("/a", status=status)

    with pytest.raises(FetchFailed, match=rf"token=\*\*\*: status {status}"):
        get(fetcher, server.url + "/a?token=s3cret")
    assert server.count("/a") == 1


def test_a_redirect_is_followed_but_takes_the_headers_to_no_other_server(server, fetcher):
    with HTTPServer() as other:
        other.answer("/there", "found")
        server.answer("/here", status=302, headers=(("Location", "/moved"),))
        server.answer("/moved", status=307, headers=(("Location", other.url + "/there"),))

        found = get(fetcher, server.url + "/here", headers={"X-Token": "s3cret"})

        assert (found.body, found.url) == (b"found", other.url + "/there")
        assert [asked.headers.get("x-token") for asked in server.log] == ["s3cret", "s3cret"]
        assert "x-token" not in other.log[0].headers


def test_redirects_without_end_and_to_other_protocols_are_errors(server, fetcher):
    server.answer("/round", status=302, headers=(("Location", "/round"),))
    server.answer("/file", status=302, headers=(("Location", "file:///etc/passwd"),))

    with pytest.raises(FetchFailed, match="more than 5 times"):
        get(fetcher, server.url + "/round")
    assert server.count("/round") == 6
    with pytest.raises(FetchFailed, match="no HTTP URL"):
        get(fetcher, server.url + "/file")


def test_a_body_that_is_too_large_is_cut(server, fetcher):
    server.answer("/a", b"x" * 100_001)

    with pytest.raises(FetchFailed, match="more than 100000 bytes"):
        get(fetcher, server.url + "/a")


def test_a_small_body_that_unpacks_to_a_large_one_is_cut(server, fetcher):
    packed = gzip.compress(b"0" * 50_000_000)
    assert len(packed) < 100_000
    server.answer("/a", packed, headers=(("Content-Encoding", "gzip"),))
    server.answer("/b", gzip.compress(b"small"), headers=(("Content-Encoding", "gzip"),))

    with pytest.raises(FetchFailed, match="more than 100000 bytes"):
        get(fetcher, server.url + "/a")
    assert get(fetcher, server.url + "/b").body == b"small"


@pytest.mark.parametrize(
    "how",
    [
        {"hang": True},
        {"delay": 60.0},
        {"body": b"x" * 1000, "drip": 0.05},
        {"body": b"x" * 1000, "drip": 0.05, "drip_headers": True},
    ],
    ids=["never", "late", "slow body", "slow headers"],
)
def test_whatever_a_server_does_a_fetch_ends_at_its_deadline(server, fetcher, how):
    server.answer("/a", **how)

    # A drip never pauses for as long as that: only a limit on the whole ends it.
    with pytest.raises(FetchFailed, match="no whole answer in time"):
        get(fetcher, server.url + "/a", within=0.5)


def test_a_server_that_accepts_and_is_silent_costs_the_time_limit_too(fetcher):
    with SilentServer() as silent, pytest.raises(FetchFailed, match="in time"):
        get(fetcher, f"http://127.0.0.1:{silent.port}/", within=0.3)


def test_a_connection_that_is_refused_or_cut_says_so(server, fetcher):
    server.answer("/a", cut=True)
    server.answer("/b", b"x" * 1000, cut=True)

    with pytest.raises(FetchFailed, match="Connection refused"):
        get(fetcher, "http://127.0.0.1:1/")
    for path in ("/a", "/b"):
        with pytest.raises(FetchFailed, match=f"{path}: "):
            get(fetcher, server.url + path)
    assert server.count("/a") == server.count("/b") == 1  # to ask again would be a second poll


def test_a_certificate_is_checked_unless_told_otherwise(fetcher):
    with Certificates() as certificates:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates.server, certificates.server_key)
        with HTTPServer(tls=context) as server:
            server.answer("/a", "secure")

            with pytest.raises(FetchFailed, match=r"certificate verify failed"):
                get(fetcher, server.url + "/a")
            assert get(fetcher, server.url + "/a", verify=str(certificates.ca)).body == b"secure"


def test_a_connection_is_used_again_while_it_is_fresh(server, fetcher, monkeypatch):
    monkeypatch.setattr(fetch, "_IDLE", 60.0)
    server.answer("/a")

    for _ in range(3):
        get(fetcher, server.url + "/a")

    assert len({asked.port for asked in server.log}) == 1


def test_a_connection_that_was_idle_is_not_used_again(server, fetcher, monkeypatch):
    monkeypatch.setattr(fetch, "_IDLE", 0.0)
    server.answer("/a")
    for _ in range(3):
        get(fetcher, server.url + "/a")

    assert len({asked.port for asked in server.log}) == 3


def test_a_closed_fetcher_leaves_no_connection(server, fetcher, until):
    server.answer("/a")
    get(fetcher, server.url + "/a")
    assert server.connections == 1

    fetcher.close()

    until(lambda: server.connections == 0, "the connection is closed")


# ---- thousands at once


def test_connections_to_one_host_are_bounded_and_all_requests_are_answered(
    server, loop, monkeypatch
):
    # The server would still count one that was closed for want of requests, on a busy machine.
    monkeypatch.setattr(fetch, "_IDLE", 60.0)
    most = []

    def note(asked):
        most.append(server.connections)
        return Answer("hello", delay=0.02)

    server.otherwise(note)
    fetcher = Fetcher(timeout=60.0, per_host=3)
    fetcher.loop = loop

    found = get_at_once(fetcher, [f"{server.url}/{number}" for number in range(20)])
    fetcher.close()

    assert {answer.body for answer in found} == {b"hello"}
    assert max(most) <= 3


def test_a_host_that_is_silent_holds_up_no_other_one(server, fetcher):
    server.answer("/good", "hello")
    with SilentServer() as silent:
        urls = [f"http://127.0.0.1:{silent.port}/{number}" for number in range(30)]

        async def beside_the_others():
            waiting = [
                asyncio.create_task(fetcher.get(url, deadline=fetcher.deadline())) for url in urls
            ]
            await asyncio.sleep(0)
            found = await fetcher.get(server.url + "/good", deadline=fetcher.deadline())
            assert not any(task.done() for task in waiting)
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            return found

        assert fetcher.loop.run(beside_the_others()).body == b"hello"


class Closing:
    """A server that answers the first request on a connection, and closes it at the second."""

    def __init__(self):
        self.requests = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self):
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                for answer in (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", b""):
                    if not connection.recv(65536):
                        break
                    self.requests += 1
                    connection.sendall(answer)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()


def test_a_request_that_met_a_closing_connection_is_not_sent_again(fetcher, monkeypatch):
    monkeypatch.setattr(fetch, "_IDLE", 60.0)
    with Closing() as server:
        assert get(fetcher, server.url).body == b"hi"

        with pytest.raises(FetchFailed):
            get(fetcher, server.url)

        assert server.requests == 2  # the second one may have counted as a poll
        fetcher.close()


def test_a_look_up_that_hangs_is_over_at_the_deadline(fetcher, monkeypatch):
    go, real = threading.Event(), socket.getaddrinfo

    def hanging(host, *args, **kwargs):
        if host == "slow.example":
            go.wait(60.0)
        return real(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", hanging)

    with pytest.raises(FetchFailed, match="no whole answer in time"):
        get(fetcher, "http://slow.example/", within=0.3)
    go.set()


def test_authorities_that_were_replaced_on_disk_count_at_once(fetcher, tmp_path):
    path = tmp_path / "authorities.pem"
    with Certificates() as certificates, Certificates() as others:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates.server, certificates.server_key)
        with HTTPServer(tls=context) as server:
            server.answer("/a", "secure")
            path.write_bytes(Path(others.ca).read_bytes())
            with pytest.raises(FetchFailed, match="certificate verify failed"):
                get(fetcher, server.url + "/a", verify=str(path))

            path.unlink()
            path.write_bytes(Path(certificates.ca).read_bytes())

            assert get(fetcher, server.url + "/a", verify=str(path)).body == b"secure"
            assert get(fetcher, server.url + "/a", verify=False).body == b"secure"


def test_a_url_is_asked_as_it_stands_but_for_what_must_be_escaped(server, fetcher):
    server.otherwise(lambda asked: Answer("hello"))
    paths = {
        "/a/b-c~d/": "/a/b-c~d/",
        "/%7euser?x=a+b%2Fc": "/%7Euser?x=a+b%2Fc",
        "/é a?b=[1]": "/%C3%A9%20a?b=%5B1%5D",
        "/a/../b#c": "/b",
        "": "/",
    }
    for path in paths:
        get(fetcher, server.url + path)

    assert [asked.path for asked in server.log] == list(paths.values())


@pytest.mark.parametrize("host", ["127.1", "0x7f.1", "2130706433", "localhost"])
def test_an_address_is_reached_however_the_system_lets_it_be_written(server, fetcher, host):
    server.answer("/a", "hello")

    assert get(fetcher, f"http://{host}:{server.port}/a").body == b"hello"


@pytest.mark.parametrize(
    "url", ["http://web1:99999/", "http://web1:0/", "http:///a", "http://a..b/"]
)
def test_a_url_that_cannot_be_asked_is_an_error_of_its_own(fetcher, url):
    with pytest.raises(FetchFailed):
        get(fetcher, url)


def test_connections_that_wait_to_be_used_again_are_bounded(fetcher, monkeypatch):
    monkeypatch.setattr(looped, "_MOST_IDLE", 2)
    monkeypatch.setattr(fetch, "_IDLE", 60.0)
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(HTTPServer()) for _ in range(4)]
        for server in servers:
            server.answer("/a")
            get(fetcher, server.url + "/a")

        asked = [server.log[0].headers.get("connection") for server in servers]

    assert asked == [None, None, "close", "close"]
