"""No call outlasts what a lease leaves, whatever the URL says and whoever does not answer."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from hashring.driver import Driver, load
from hashring.drivers import _net
from hashring.errors import StoreUnavailable
from tests.servers.process import LOOPBACK, SilentServer

TTL = 1.5
STOCK = "timeout=600&connect_timeout=600"
URLS = [
    "memcached://{address}?" + STOCK,
    "zookeeper://{address}?" + STOCK,
    "zookeeper://{address},{address},{address}?" + STOCK,
    "etcd://{address},{address},{address}?" + STOCK,
    "etcds://{address}?" + STOCK,
    "postgresql://{address}/db?" + STOCK,
    "postgresql://{address},{address}/db?sslmode=require&" + STOCK,
    "memcached://{address}?tls=true&verify=false&" + STOCK,
    "zookeeper://{address}?tls=true&" + STOCK,
]


def fails_by_itself(driver: Driver) -> None:
    """Open a driver whose store never answers; it must give up long before the URL's timeout."""
    failures: list[Exception] = []

    def run() -> None:
        with contextlib.closing(driver):
            try:
                driver.open()
            except StoreUnavailable as error:
                failures.append(error)

    opening = threading.Thread(target=run, daemon=True)
    opening.start()
    opening.join(60.0)
    assert not opening.is_alive(), "the call goes on for as long as the URL says"
    assert failures


@pytest.mark.parametrize("url", URLS)
def test_a_stock_timeout_in_the_url_is_cut_to_what_the_lease_leaves(url: str) -> None:
    with SilentServer() as server:
        driver = load(url.format(address=f"{LOOPBACK}:{server.port}"), ttl=TTL)
        assert driver.settings["timeout"] == TTL / 2
        fails_by_itself(driver)


@pytest.mark.parametrize("scheme", ["tooz+zookeeper", "tooz+etcd3+http"])
def test_tooz_is_given_no_longer_than_the_lease_leaves(scheme: str) -> None:
    with SilentServer() as server:
        driver = load(f"{scheme}://{LOOPBACK}:{server.port}?timeout=600", ttl=TTL)
        assert driver.settings["timeout"] == TTL / 2
        fails_by_itself(driver)


@pytest.mark.parametrize("scheme", ["memcached", "zookeeper"])
def test_that_a_timeout_is_cut_is_said_once(scheme: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    with SilentServer() as server:
        url = f"{scheme}://{LOOPBACK}:{server.port}?timeout=600&retries=0"
        for _ in range(2):
            fails_by_itself(load(url, ttl=TTL))
    (line,) = [line for line in caplog.messages if "is limited to" in line]
    assert "timeout=600 is limited to 0.75 s, as the ttl is 1.5 s" in line


@pytest.fixture
def silent_resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """A name service that answers nothing until the test is over."""
    asked: list[Any] = []
    over = threading.Event()
    genuine = socket.getaddrinfo

    def ask(host: Any, *arguments: Any, **options: Any) -> Any:
        if host != "nobody.invalid" or options.get("flags"):
            return genuine(host, *arguments, **options)
        asked.append(host)
        over.wait(120.0)
        raise OSError("no answer")

    monkeypatch.setattr(socket, "getaddrinfo", ask)
    yield asked
    over.set()


@pytest.mark.parametrize("scheme", ["etcd", "memcached", "postgresql", "zookeeper"])
def test_a_name_service_that_is_silent_holds_no_call(
    scheme: str, silent_resolver: list[Any]
) -> None:
    for _ in range(3):
        fails_by_itself(load(f"{scheme}://nobody.invalid:1?{STOCK}", ttl=TTL))
    assert silent_resolver == ["nobody.invalid"]  # one thread waits, and not one a call
    assert ("nobody.invalid", 1) in _net._under_way
