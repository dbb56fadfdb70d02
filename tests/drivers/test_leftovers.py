"""What drivers that came and went leave in a store: bounded, whether they left or died."""

from __future__ import annotations

import json
import math
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hashring.driver import Driver, load
from tests.drivers.patience import until_it_works
from tests.servers.memcached import MemcachedServer
from tests.servers.process import LOOPBACK, wait_until
from tests.servers.zookeeper import ZooKeeperServer, kazoo

DAY = 86_400


def record(turn: object) -> bytes:
    return json.dumps({"v": 1, "incarnation": f"{turn}"}).encode()


def come_and_go(url: str, count: int, *, ttl: float) -> None:
    """Join as so many members, one after the other: every second one leaves, the others die."""
    for turn in range(count):
        driver = load(url, ttl=ttl)
        until_it_works(driver.open)
        try:
            until_it_works(lambda name=f"m{turn}", driver=driver: join(driver, name))
        finally:
            driver.close()  # a lease that was not left goes on: for the store this is a death


def join(driver: Driver, name: str) -> None:
    driver.join("g", name, record(name))
    if int(name[1:]) % 2:
        driver.leave("g", name)


def watch_until(url: str, ttl: float, holds: Callable[[Driver], bool], what: str) -> None:
    """Look at the group as a member does that stays, until something holds of it."""
    with_one = load(url, ttl=ttl)
    until_it_works(with_one.open)
    try:
        wait_until(lambda: until_it_works(lambda: holds(with_one)), what=what)
    finally:
        with_one.close()


def keys_of(server: MemcachedServer) -> dict[str, float]:
    """Return how long each key stays, in seconds; for ever is infinite."""
    with socket.create_connection((LOOPBACK, server.port), timeout=10) as connection:
        connection.sendall(b"lru_crawler metadump all\r\n")
        said = b""
        while not said.endswith(b"END\r\n"):
            said += connection.recv(1 << 16)
    found = {}
    for line in said.decode().splitlines():
        fields = dict(field.split("=", 1) for field in line.split() if "=" in field)
        if "key" in fields:
            until = int(fields["exp"])
            found[fields["key"]] = math.inf if until < 0 else until - time.time()
    return found


def test_members_that_come_and_go_leave_keys_in_memcached_for_some_minutes_only() -> None:
    with MemcachedServer() as server:
        come_and_go(server.url, 200, ttl=2.0)
        watch_until(server.url, 2.0, lambda one: not one.read("g").records, "an empty group")
        keys: dict[str, float] = {}

        def are_all_seen() -> bool:
            keys.update(keys_of(server))  # one dump leaves out what is in use at that moment
            return len(keys) >= 203

        wait_until(are_all_seen, what="a dump with every key")
        # Three keys for the group: its list, its version and its count of writes. What is left of a
        # member refuses a join that was delayed on its way, and has gone some minutes later.
        of_group = {"hashring%3Ag", "hashring%3Ag%3Aversion", "hashring%3Ag%3Anumber"}
        assert of_group < keys.keys()
        of_members = {key: left for key, left in keys.items() if "member" in key}
        assert len(of_members) == len(keys) - len(of_group) == 200
        assert max(of_members.values()) < 600 < DAY


def nodes_of(server: ZooKeeperServer, path: str) -> list[str]:
    with kazoo(server) as client:
        found, left = [], [path]
        while left:
            node = left.pop()
            found.append(node)
            children = client.get_children(node)
            left += [f"{node.rstrip('/')}/{child}" for child in children if child != "zookeeper"]
        return found


@pytest.mark.long
def test_members_that_come_and_go_leave_no_nodes_in_zookeeper() -> None:
    with ZooKeeperServer() as server:
        come_and_go(server.url, 200, ttl=2.0)
        watch_until(server.url, 2.0, lambda one: not one.read("g").records, "an empty group")
        nodes = nodes_of(server, "/hashring")
        assert len(nodes) <= 3, nodes  # the path, the mark, and the group until it is removed


def test_members_that_come_and_go_through_tooz_leave_no_files(tmp_path: Path) -> None:
    url = f"tooz+file://{tmp_path}?poll=0.02"

    def files() -> list[Path]:
        return [path for path in tmp_path.rglob("*") if path.is_file()]

    come_and_go(url, 100, ttl=1.0)
    assert files()  # those of the dead
    watch_until(url, 1.0, lambda one: not one.read("g").records and len(files()) < 10, "few files")


@pytest.mark.long
def test_members_that_come_and_go_through_tooz_leave_no_nodes_in_zookeeper() -> None:
    with ZooKeeperServer() as server:
        url = f"tooz+zookeeper://{server.address}?poll=0.05"
        come_and_go(url, 30, ttl=1.5)
        watch_until(
            url,
            1.5,
            lambda one: not one.read("g").records and len(nodes_of(server, "/")) < 12,
            "few nodes",
        )
