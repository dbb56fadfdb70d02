"""A call of the author's driver has one deadline, whatever it does meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from hashring.errors import StoreUnavailable
from hashring.testing import FaultProxy
from hashring.url import DriverURL
from tests.authors.hashring_postgresql import PostgreSQLDriver
from tests.drivers.patience import until_it_works
from tests.servers.postgresql import PASSWORD, PostgreSQLServer

LIMIT = 4.0
"""Seconds for a call: a busy machine has them, too, for one that nothing delays."""


@pytest.fixture(scope="module")
def proxy() -> Iterator[FaultProxy]:
    with PostgreSQLServer() as server, FaultProxy("127.0.0.1", server.port) as proxy:
        yield proxy


@pytest.fixture
def driver(proxy: FaultProxy) -> Iterator[PostgreSQLDriver]:
    host, port = proxy.address
    url = DriverURL.parse(
        f"postgresql://postgres:{PASSWORD}@{host}:{port}/postgres?timeout={LIMIT}"
    )
    driver = PostgreSQLDriver(url, ttl=30.0)
    driver.open()
    try:
        yield driver
    finally:
        proxy.restore()
        driver.close()


@pytest.mark.parametrize("call", ["read", "heartbeat", "publish"])
def test_answers_of_which_each_comes_in_time_make_no_call_outlast_its_deadline(
    proxy: FaultProxy, driver: PostgreSQLDriver, call: str
) -> None:
    until_it_works(lambda: driver.join(call, "a", b"{}"))
    until_it_works(driver.heartbeat)  # both of its connections are there
    arguments = {"read": (call,), "heartbeat": ()}
    # Each answer takes a part of the time that a call has; no call is without five of them.
    proxy.delay(down=0.25 * LIMIT)
    with pytest.raises(StoreUnavailable):
        getattr(driver, call)(*arguments.get(call, (call, "a", b"{}")))


def test_a_call_waits_for_another_threads_call_until_its_deadline_and_no_longer(
    driver: PostgreSQLDriver,
) -> None:
    with ThreadPoolExecutor() as pool, driver._locks["rest"]:
        reading = pool.submit(driver.read, "group")
        assert isinstance(reading.exception(60), StoreUnavailable)
