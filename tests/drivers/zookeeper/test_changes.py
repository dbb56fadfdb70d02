"""``zookeeper://``: one watch on a group, and what changed read in one request."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Iterator

import pytest

from hashring.drivers.zookeeper.requests import AddWatch
from hashring.testing.proxy import FaultProxy
from hashring.testing.suite.base import record
from hashring.testing.suite.changes import Follower
from tests.drivers.opening import Opened, opening
from tests.drivers.zookeeper.conftest import packets
from tests.servers.process import LOOPBACK, wait_until
from tests.servers.zookeeper import ZooKeeperServer

MEMBERS = [f"m{number:03}" for number in range(100)]


@pytest.fixture
def opened(server: ZooKeeperServer, request: pytest.FixtureRequest) -> Iterator[Opened]:
    with opening(ttl=30.0, timeout=9.0) as opened:
        yield lambda address=server.url: opened(f"{address}/{request.node.name[:60]}")


@pytest.fixture
def old_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the server not know the watch that stays: what we ask for then is no request of its."""
    monkeypatch.setattr(AddWatch, "type", 4242)


def test_a_hundred_records_that_changed_cost_their_reader_three_requests(server, opened):
    writer, reader = opened(), opened()
    for member in MEMBERS:
        writer.join("g", member, record("1"))
    follower = Follower(reader, "g")
    follower.read()
    costs = []
    for turn in range(5):
        for member in MEMBERS:
            writer.publish("g", member, record("1", turn=turn))
        before = packets(server)
        changes = follower.read()
        costs.append(packets(server) - before)
        assert {*follower.records.values()} == {record("1", turn=turn)}
        assert len(changes.changed) == 100
        assert not changes.complete
    # A transaction, one request for the records, and one more where some of them came in between;
    # mntr itself. More where the machine stood still, and the driver asked after an answer.
    assert statistics.median(costs) <= 4


def test_in_a_large_group_what_comes_in_while_it_is_read_costs_no_request_of_its_own(
    server, opened, monkeypatch
):
    writer, reader = opened(), opened()
    one, other, *_ = members = MEMBERS[:20]
    for member in members:
        writer.join("g", member, record("1"))
    follower = Follower(reader, "g")
    follower.read()
    asked = []
    exchange = reader._watching.session.exchange

    def counted(requests, **more):
        asked.extend(requests)
        return exchange(requests, **more)

    monkeypatch.setattr(reader._watching.session, "exchange", counted)
    costs = []
    for turn in range(5):
        writer.publish("g", one, record("1", turn=turn))
        reader.wait("g", 30.0)  # the reader has heard of this one
        writer.publish("g", other, record("1", turn=turn))  # and not of that
        asked.clear()
        follower.read()
        assert {follower.records[member] for member in (one, other)} == {record("1", turn=turn)}
        costs.append(len(asked))
    # A transaction, and one request for both. A connection that broke on a busy machine costs more.
    assert statistics.median(costs) == 2


def test_who_comes_and_goes_is_told_by_events_and_no_list_is_read(server, opened):
    writer, reader = opened(), opened()
    writer.join("g", "stays", record("1"))
    follower = Follower(reader, "g")
    follower.read()
    costs = []
    for turn in range(5):
        writer.join("g", f"new-{turn}", record("1"))
        before = packets(server)
        follower.read()
        costs.append(packets(server) - before)
        writer.leave("g", f"new-{turn}")
        follower.read()
        assert follower.records.keys() == {"stays"}
    assert statistics.median(costs) <= 4


def test_a_member_that_left_and_came_back_between_two_readings_is_as_it_is_now(opened):
    writer, other, reader = opened(), opened(), opened()
    writer.join("g", "stays", record("1"))
    writer.join("g", "a", record("1"))
    follower = Follower(reader, "g")
    follower.read()
    writer.leave("g", "a")
    other.join("g", "a", record("2"))
    changes = follower.read()
    assert dict(changes.changed) == {"a": record("2")}
    other.leave("g", "a")
    other.join("g", "a", record("3"))
    other.leave("g", "a")
    follower.read()
    assert follower.records.keys() == {"stays"}


def test_a_group_that_is_not_there_yet_is_watched_all_the_same(opened):
    writer, reader = opened(), opened()
    follower = Follower(reader, "g")
    assert follower.read().size == 0
    writer.join("g", "a", record("1"))
    reader.wait("g", 20.0)
    changes = follower.read()
    assert dict(changes.changed) == {"a": record("1")}
    assert not changes.complete
    writer.leave("g", "a")
    follower.read()
    assert follower.records == {}


def test_a_connection_that_broke_brings_everything(server, opened):
    with FaultProxy(LOOPBACK, server.port) as proxy:
        writer = opened()
        reader = opened(f"zookeeper://{LOOPBACK}:{proxy.address[1]}")
        writer.join("g", "a", record("1"))
        writer.join("g", "b", record("1"))
        follower = Follower(reader, "g")
        follower.read()
        proxy.cut()
        writer.publish("g", "a", record("1", turn=1))
        writer.leave("g", "b")
        changes = follower.read()
        assert changes.complete
        assert dict(follower.records) == {"a": record("1", turn=1)}


def test_an_event_that_comes_while_records_are_read_is_in_the_next_reading(opened):
    writers, reader = [opened() for _ in range(2)], opened()
    for number, writer in enumerate(writers):
        writer.join("g", f"m{number}", record("1", turn=0))
    follower = Follower(reader, "g")
    follower.read()
    for turn in range(1, 60):
        for number, writer in enumerate(writers):
            writer.publish("g", f"m{number}", record("1", turn=turn))
            follower.read()
            assert follower.records[f"m{number}"] == record("1", turn=turn)


@pytest.mark.usefixtures("old_server")
def test_on_a_server_that_knows_no_such_watch_each_record_has_its_own(opened, caplog):
    with caplog.at_level(logging.INFO):
        writer, reader = opened(), opened()
        follower = Follower(reader, "g")
        steps = [
            lambda: writer.join("g", "a", record("1")),
            lambda: writer.join("g", "b", record("1")),
            lambda: writer.publish("g", "a", record("1", turn=1)),
            lambda: writer.leave("g", "b"),
            lambda: writer.join("g", "b", record("2")),
            lambda: writer.leave("g", "a"),
        ]
        for step in steps:
            step()
            follower.read()
            assert dict(follower.records) == dict(reader.read("g").records)
    assert "older than ZooKeeper 3.6" in caplog.text
    assert not reader._watching.groups[reader._path("g")].is_watched


@pytest.mark.usefixtures("old_server")
def test_on_such_a_server_a_wait_wakes_up_as_well(opened):
    writer, reader = opened(), opened()
    follower = Follower(reader, "g")
    follower.read()
    writer.join("g", "a", record("1"))

    def told() -> bool:
        reader.wait("g", 5.0)
        follower.read()
        return follower.records.keys() == {"a"}

    wait_until(told, what="the member that joined")
