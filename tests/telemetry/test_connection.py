"""A connection as its bytes come: whole answers in any pieces, and what is wrong with others."""

import asyncio
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashring.telemetry.errors import BadAnswer
from hashring.telemetry.http import connection
from hashring.telemetry.http.address import address_of, request_of
from hashring.telemetry.http.connection import Connection

REQUEST = b"GET / HTTP/1.1\r\n\r\n"

SIZED = b"HTTP/1.1 200 All is well\r\nContent-Length: 5\r\nX-A: 1\r\nx-a: 2\r\n\r\nhello"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-B\r\n\r\n"
    b"2;ext=1\r\nhe\r\n3 \r\nllo\r\n0\r\nX-B: 1\r\n\r\n"
)
UNSIZED = b"HTTP/1.0 200 OK\r\n\r\nhello"
INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + SIZED
BARE = b"HTTP/1.1 200 OK\nContent-Length: 5\nX-A: 1\n\nhello"
OFFERS = b"HTTP/1.1 200 OK\r\nUpgrade: h2c\r\nConnection: Upgrade\r\nContent-Length: 5\r\n\r\nhello"
CLOSING = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello"


class Transport:
    """What a connection writes to; notes it, and is closed at the loop's next turn."""

    def __init__(self, protocol):
        self.protocol = protocol
        self.written = b""
        self.is_reading = True
        self.is_aborted = False
        protocol.connection_made(self)

    def write(self, data):
        self.written += data

    def pause_reading(self):
        self.is_reading = False

    def resume_reading(self):
        self.is_reading = True

    def abort(self):
        if not self.is_aborted:
            self.is_aborted = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)


class Talk:
    """A connection, its transport, and who was told that it was lost."""

    def __init__(self):
        self.lost = []
        self.connection = Connection(self.lost.append)
        self.transport = Transport(self.connection)

    async def hear(self, *pieces, closes=False):
        """Ask, let pieces of an answer come, and return its body."""
        found = asyncio.ensure_future(self.body())
        await asyncio.sleep(0)
        for piece in pieces:
            self.connection.data_received(piece)
            await asyncio.sleep(0)
        if closes:
            self.connection.connection_lost(None)
        return await found

    async def body(self):
        await self.connection.ask(REQUEST)
        pieces = []
        while piece := await self.connection.read():
            pieces.append(piece)
        return b"".join(pieces)


def heard(*pieces, closes=False):
    """What becomes of an answer that comes in these pieces: its body, and the connection."""

    async def talk():
        found = Talk()
        body = await found.hear(*pieces, closes=closes)
        return body, found.connection

    return asyncio.run(talk())


ANSWERS = {
    "sized": (SIZED, True),
    "chunked": (CHUNKED, True),
    "interim answers first": (INTERIM, True),
    "bare line feeds": (BARE, True),
    "offers another protocol": (OFFERS, True),
    "closes": (CLOSING, False),
}


@pytest.mark.parametrize(("answer", "stays"), ANSWERS.values(), ids=ANSWERS)
def test_an_answer_is_read_in_whatever_pieces_it_comes(answer, stays):
    whole = heard(answer)
    by_bytes = heard(*(bytes((byte,)) for byte in answer))

    for body, found in (whole, by_bytes):
        assert body == b"hello"
        assert found.status == 200
        assert found.may_be_kept == stays
    assert whole[1].headers == by_bytes[1].headers
    assert whole[1].reason == by_bytes[1].reason


@given(st.sampled_from(list(ANSWERS.values())), st.sets(st.integers(1, 120)))
def test_where_an_answer_is_cut_into_pieces_changes_nothing(which, cuts):
    answer, stays = which
    places = [0, *sorted(cut for cut in cuts if cut < len(answer)), len(answer)]
    pieces = [answer[a:b] for a, b in itertools.pairwise(places)]

    body, found = heard(*pieces)

    assert (body, found.may_be_kept) == (b"hello", stays)


@pytest.mark.parametrize(
    "answer", [SIZED, CHUNKED, INTERIM, BARE], ids=["sized", "chunked", "interim", "bare"]
)
def test_an_answer_that_is_cut_off_anywhere_is_never_taken_for_a_whole_one(answer):
    for end in range(len(answer)):
        with pytest.raises(BadAnswer, match="was closed"):
            heard(*([answer[:end]] if end else []), closes=True)


def test_an_answer_that_tells_no_length_ends_with_its_connection():
    body, found = heard(UNSIZED, closes=True)

    assert body == b"hello"
    assert not found.may_be_kept


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_without_a_body_is_whole_at_once(status):
    body, found = heard(f"HTTP/1.1 {status} Nothing\r\nX: 1\r\n\r\n".encode())

    assert body == b""
    assert found.may_be_kept


def test_the_words_and_the_first_of_two_headers_are_told():
    _, found = heard(SIZED)

    assert found.reason == "All is well"
    assert found.headers == {"content-length": "5", "x-a": "1"}


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"SSH-2.0-OpenSSH_9.6\r\n", "no HTTP"),
        (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "protocol"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", "no HTTP"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "no HTTP"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000 + b"\r\n\r\n", "more than 65536 bytes"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: 1\r\n" * 50_000, "more than 262144 bytes of headers"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 300_000, "more than 262144 bytes of headers"),
    ],
    ids=["ssh", "switches", "two lengths", "bad chunk", "long header", "headers", "no end"],
)
def test_what_is_no_answer_is_said_and_closes_the_connection(answer, why):
    async def talk():
        found = Talk()
        with pytest.raises(BadAnswer, match=why):
            await found.hear(answer)
        await asyncio.sleep(0)
        assert found.transport.is_aborted
        assert found.lost == [found.connection]

    asyncio.run(talk())


def test_what_comes_behind_an_answer_is_never_taken_for_the_next_one():
    late = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"

    async def at_once():
        found = Talk()
        assert await found.hear(SIZED + late) == b"hello"
        assert not found.connection.may_be_kept

    async def while_it_waits():
        found = Talk()
        assert await found.hear(SIZED) == b"hello"
        assert found.connection.may_be_kept
        found.connection.data_received(late)
        assert found.transport.is_aborted

    asyncio.run(at_once())
    asyncio.run(while_it_waits())


def test_one_connection_is_asked_again_and_again():
    async def talk():
        found = Talk()
        for answer in (SIZED, CHUNKED, INTERIM, SIZED):
            assert await found.hear(answer) == b"hello"
        assert found.transport.written == 4 * REQUEST

    asyncio.run(talk())


def test_whoever_reads_slowly_holds_up_the_server_and_not_the_memory(monkeypatch):
    monkeypatch.setattr(connection, "_WAITING", 1000)

    async def talk():
        found = Talk()
        asked = asyncio.ensure_future(found.connection.ask(REQUEST))
        await asyncio.sleep(0)
        found.connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 3000\r\n\r\n")
        await asked
        found.connection.data_received(b"a" * 1001)
        assert not found.transport.is_reading

        assert await found.connection.read() == b"a" * 1001
        assert found.transport.is_reading

    asyncio.run(talk())


def test_a_connection_that_was_closed_before_it_is_asked_says_so():
    async def talk():
        found = Talk()
        found.connection.connection_lost(None)
        with pytest.raises(BadAnswer, match="closed"):
            await found.connection.ask(REQUEST)

    asyncio.run(talk())


def test_a_header_with_a_line_break_is_never_sent():
    with pytest.raises(ValueError, match="'X-A' has a line break"):
        request_of("GET", address_of("http://a/"), {"X-A": "1\r\nX-B: 2"}, None, keeps=True)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://web1/", "web1"),
        ("http://web1:80/", "web1"),
        ("https://web1:80/", "web1:80"),
        ("https://WEB1:443/", "web1"),
        ("http://[::1]:8080/", "[::1]:8080"),
        ("http://[fe80::1%25eth0]/", "[fe80::1]"),
    ],
)
def test_a_server_is_called_by_its_name_and_its_port_where_that_is_not_the_usual_one(url, name):
    assert address_of(url).name == name
