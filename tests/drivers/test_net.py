from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from hashring.clock import boottime
from hashring.driver import load
from hashring.drivers._net import DeadlineSocket, connected, left, tls_context
from hashring.errors import StoreUnusable


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    yield ours, theirs
    ours.close()
    theirs.close()


def test_an_answer_that_comes_byte_by_byte_ends_at_the_deadline_all_the_same(pair):
    ours, theirs = pair
    stop = threading.Event()

    def drip() -> None:
        while not stop.wait(0.02):
            theirs.send(b"x")

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        timed = DeadlineSocket(ours, boottime() + 0.3)

        def read_for_ever() -> None:
            while True:
                assert timed.recv(1) == b"x"

        with pytest.raises(TimeoutError):
            read_for_ever()
        assert boottime() >= timed.deadline
    finally:
        stop.set()
        thread.join()


def test_what_nobody_reads_is_sent_no_longer_than_until_the_deadline(pair):
    timed = DeadlineSocket(pair[0], boottime() + 0.2)
    with pytest.raises(TimeoutError):
        timed.sendall(bytes(64 << 20))


def test_a_deadline_that_is_over_is_a_timeout_at_once():
    with pytest.raises(TimeoutError, match="no answer in time"):
        left(boottime() - 1)


def test_the_next_address_is_tried_where_the_first_refuses():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound, but nobody listens
        found = [
            (socket.AF_INET, socket.SOCK_STREAM, 0, "", address)
            for address in (closed.getsockname(), server.getsockname())
        ]
        with connected(found, boottime() + 60) as made:
            assert made.getpeername() == server.getsockname()


def test_a_key_with_a_password_is_an_error_and_no_question_at_the_terminal(tmp_path: Path):
    issued = trustme.CA().issue_cert("localhost")
    key = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None)
    locked = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"sesame"),
    )
    (tmp_path / "key").write_bytes(locked)
    (tmp_path / "cert").write_bytes(issued.cert_chain_pems[0].bytes())
    url = f"memcached://h?tls=true&cert={tmp_path}/cert&key={tmp_path}/key"
    with pytest.raises(StoreUnusable, match="TLS files cannot be used"):
        tls_context(load(url))
    assert tls_context(load(url), password="sesame")
