"""``memory://``: the conformance suite, then names, closing, and a fork."""

from __future__ import annotations

import contextlib
import os
import threading
import uuid

import pytest

from hashring.driver import load
from hashring.errors import BadURL, StoreUnavailable
from hashring.testing import DriverSuite

PATIENCE = 30.0
RECORD = b'{"incarnation": "1"}'


class TestMemoryStore(DriverSuite):
    ttl = 0.5

    @pytest.fixture
    def url(self):
        return f"memory://{uuid.uuid4().hex}"


@pytest.fixture
def name():
    return uuid.uuid4().hex


def opened(url):
    driver = load(url, ttl=PATIENCE)
    driver.open()
    return driver


def test_drivers_share_a_store_by_its_name(name):
    one, same, other = opened(f"memory://{name}"), opened(f"memory://{name}"), opened("memory://")
    one.join(name, "a", RECORD)
    assert same.read(name).records == {"a": RECORD}
    assert other.read(name).records == {}
    for driver in (one, same, other):
        driver.close()


def test_a_store_outlives_the_drivers_that_close(name):
    one = opened(f"memory://{name}")
    one.join("g", "a", RECORD)
    one.close()
    later = opened(f"memory://{name}")
    assert later.read("g").records == {"a": RECORD}
    later.close()


@pytest.mark.parametrize(
    "url", ["memory:///path", "memory://name/path", "memory://a,b", "memory://me:pw@name"]
)
def test_a_url_with_more_than_a_name_is_refused(url):
    with pytest.raises(BadURL, match="memory://name") as caught:
        load(url)
    assert "pw" not in str(caught.value)


def test_a_port_is_refused(name):
    with pytest.raises(BadURL, match="no port"):
        load(f"memory://{name}:80")


def test_closing_ends_a_wait_in_another_thread(name):
    driver = opened(f"memory://{name}")
    driver.read("g")
    ended = threading.Event()

    def wait():
        with contextlib.suppress(StoreUnavailable):  # it may be closed before the wait begins
            driver.wait("g", 10 * PATIENCE)
        ended.set()

    threading.Thread(target=wait).start()
    driver.close()
    assert ended.wait(PATIENCE)


def test_a_forked_child_is_told_that_it_shares_no_memory(name):
    driver = opened(f"memory://{name}")
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        answer = "no error"
        try:
            driver.read("g")
        except BaseException as error:
            answer = f"{type(error).__name__}: {error}"
        os.write(writer, answer.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answers:
        answer = answers.read()
    os.waitpid(pid, 0)
    assert answer.startswith("StoreUnusable")
    assert "sqlite:///path" in answer
    driver.close()
