"""Members that differ, on a real store: who settled once comes back after any outage."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

import pytest

import hashring
from hashring.driver import DriverURL, load
from hashring.errors import GroupMismatch
from hashring.testing.proxy import FaultProxy
from tests.servers.process import LOOPBACK, wait_until
from tests.servers.redis import RedisServer

TTL, OTHER = 4.0, 5.0  # longer than a busy machine stands still
FULL = 65536


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as running:
        yield running


def test_after_an_outage_a_stranger_that_was_first_gives_way_and_nobody_ends(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="hashring")
    with contextlib.ExitStack() as stack:
        proxy = stack.enter_context(FaultProxy(LOOPBACK, server.port))
        host, port = proxy.address
        members = [
            stack.enter_context(hashring.join(f"redis://{host}:{port}", "g", name, ttl=TTL))
            for name in ("a", "b")
        ]
        for member in members:
            assert member.wait_settled(60)
        observer = load(DriverURL.parse(server.url), ttl=TTL)
        observer.open()
        stack.callback(observer.close)

        # The members' way to the store is cut for longer than the ttl; the stranger's is not.
        proxy.refuse()
        proxy.cut()
        wait_until(lambda: not observer.read("g").records)
        stranger = stack.enter_context(hashring.join(server.url, "g", "0", ttl=OTHER))
        assert stranger.wait_settled(60)
        wait_until(lambda: len(stranger.held) == FULL)
        proxy.restore()

        wait_until(lambda: sum(len(member.held) for member in members) == FULL)
        wait_until(lambda: all(member.state == "settled" for member in members))
        # The store knows that it holds nothing before it is told so itself.
        wait_until(lambda: stranger.state == "joining" and "a" in stranger.problems)
        assert len(stranger.held) == 0
        assert f"ttl {TTL} where this member has {OTHER}" in stranger.problems["a"]
        wait_until(lambda: "g: 0 waits for " in caplog.text)
        with pytest.raises(GroupMismatch, match="ttl"):
            hashring.join(server.url, "g", "00", ttl=OTHER)

        for member in members:
            member.leave()
        assert stranger.wait_settled(60)
        wait_until(lambda: len(stranger.held) == FULL)
        assert stranger.problems == {}
        wait_until(lambda: "g: 0 goes on" in caplog.text)
