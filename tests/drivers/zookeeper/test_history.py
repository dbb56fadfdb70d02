"""A ZooKeeper that goes back in time: rebuilt from nothing, or restored from an older copy."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hashring
from hashring.driver import Driver, load
from hashring.drivers.zookeeper.history import History, Life
from hashring.drivers.zookeeper.rewinds import Rewinds
from hashring.errors import LeaseLost
from hashring.testing.suite.base import record
from tests.drivers.patience import until_it_works
from tests.servers.process import wait_until
from tests.servers.zookeeper import Ensemble, ZooKeeperServer, kazoo

pytestmark = pytest.mark.slow

TTL = 6.0  # seconds: longer than a busy machine stands still
Open = Callable[..., Driver]


@pytest.fixture(name="rewound")
def rewound_fixture() -> Iterator[ZooKeeperServer]:
    """A server of the test's own, which may go back in time."""
    with ZooKeeperServer() as server:
        yield server


@pytest.fixture
def connect() -> Iterator[Open]:
    with contextlib.ExitStack() as stack:

        def connect(url: str, ttl: float = TTL) -> Driver:
            driver = load(f"{url}?timeout=9", ttl=ttl)
            until_it_works(driver.open)
            stack.callback(driver.close)
            return driver

        yield connect


def lost(act: Callable[[], object]) -> bool:
    try:
        until_it_works(act)
    except LeaseLost:
        return True
    return False


def assert_told_once_a_driver(caplog: pytest.LogCaptureFixture, *, drivers: int) -> None:
    said = [line for line in caplog.messages if "gone back in time" in line]
    assert 1 <= len(said) <= drivers
    assert all("restored from an older copy" in line for line in said)


@pytest.mark.parametrize(
    ("make", "copied"),
    [
        pytest.param(ZooKeeperServer, False, id="one-rebuilt"),
        pytest.param(ZooKeeperServer, True, id="one-restored"),
        pytest.param(Ensemble, True, id="ensemble-restored", marks=pytest.mark.long),
        pytest.param(Ensemble, False, id="ensemble-rebuilt", marks=pytest.mark.long),
    ],
)
def test_members_of_a_store_that_went_back_join_anew_without_a_restart(
    make: Callable[[], ZooKeeperServer | Ensemble], copied: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    with make() as store, contextlib.ExitStack() as members:
        url = f"{store.url}?timeout=1"
        one, two = (
            members.enter_context(hashring.join(url, "group", member, ttl=TTL))
            for member in ("one", "two")
        )
        if copied:
            store.keep_copy()
        assert one.wait_settled(60)
        assert two.wait_settled(60)

        store.go_back_in_time()

        wait_until(
            lambda: any("gone back in time" in line for line in caplog.messages),
            within=60.0,
            what="the line for the operator",
        )
        wait_until(
            lambda: one.state == two.state == "settled" and len(one.held) + len(two.held) == 65_536,
            within=60.0,
            what="a group that is whole again",
        )
        assert_told_once_a_driver(caplog, drivers=2)


def test_a_newcomer_waits_no_longer_than_those_who_were_there_before(
    place: str, connect: Open
) -> None:
    first, newcomer = connect(place), connect(place)
    first.join("group", "a", record("1"))
    assert first.read("group").memory_age < TTL
    newcomer.join("group", "b", record("2"))
    assert newcomer.read("group").memory_age < TTL
    # As one who has only just come: by its own count it would know the store for ever less.
    newcomer._watching._history._since = math.inf  # type: ignore[attr-defined]

    wait_until(lambda: first.read("group").memory_age >= TTL, what="a memory of a whole lease")

    wait_until(
        lambda: newcomer.read("group").memory_age >= TTL, what="what the first knows, at another"
    )


def test_a_newcomer_to_a_store_that_was_rebuilt_knows_that_it_may_have_forgotten(
    rewound: ZooKeeperServer, connect: Open
) -> None:
    member = connect(rewound.url)
    member.join("group", "a", record("1"))
    wait_until(lambda: member.read("group").memory_age >= TTL, what="a memory of a whole lease")
    rewound.go_back_in_time()

    newcomer = connect(rewound.url)
    newcomer.join("group", "b", record("2"))

    reading = newcomer.read("group")
    assert set(reading.records) == {"b"}
    assert reading.memory_age < TTL


def test_a_newcomer_to_a_store_that_lives_need_not_wait(
    server: ZooKeeperServer, place: str, connect: Open
) -> None:
    member = connect(place)
    member.join("group", "a", record("1"))

    def remembered() -> bool:
        member.heartbeat()
        return member.read("group").memory_age >= TTL

    wait_until(remembered, what="a memory of a whole lease")
    member.read("group")

    assert connect(place).read("group").memory_age >= TTL
    with kazoo(server) as client:
        assert set(client.get_children(f"/{place.rpartition('/')[2]}")) == {"+history", "group"}


def test_a_record_that_came_back_from_an_older_copy_renews_no_lease(
    rewound: ZooKeeperServer, connect: Open
) -> None:
    # The session is in the copy: only what the node carries tells.
    member = connect(rewound.url, ttl=30.0)
    member.join("group", "a", record("1", turn=0))
    rewound.keep_copy()
    member.publish("group", "a", record("1", turn=1))
    rewound.go_back_in_time()

    assert lost(member.heartbeat)
    assert lost(member.heartbeat)
    assert lost(lambda: member.publish("group", "a", record("1", turn=2)))
    reading = until_it_works(lambda: member.read("group"))
    assert reading.memory_age < 30.0
    assert "a" not in reading.records
    until_it_works(lambda: member.join("group", "a", record("1", turn=3)))
    until_it_works(member.heartbeat)
    assert until_it_works(lambda: member.read("group")).records == {"a": record("1", turn=3)}


def test_evidence_that_comes_long_after_the_first_is_of_the_same_going_back(
    rewound: ZooKeeperServer, connect: Open, caplog: pytest.LogCaptureFixture
) -> None:
    member = connect(rewound.url, ttl=30.0)
    for times in (1, 2):
        until_it_works(lambda: member.join("group", "a", record("1", turn=0)))
        rewound.keep_copy()
        member.publish("group", "a", record("1", turn=1))
        member.read("group")
        rewound.go_back_in_time()

        until_it_works(lambda: member.read("group"))
        # As on a machine so busy that the next evidence comes a whole lease later.
        member.ttl = 0.0
        assert lost(member.heartbeat)
        until_it_works(lambda: member.read("group"))
        member.ttl = 30.0

        said = [line for line in caplog.messages if "gone back in time" in line]
        assert len(said) == times


def test_another_incarnation_takes_the_node_that_came_back_over(
    rewound: ZooKeeperServer, connect: Open
) -> None:
    member = connect(rewound.url, ttl=30.0)
    member.join("group", "a", record("1", turn=0))
    rewound.keep_copy()
    member.publish("group", "a", record("1", turn=1))
    rewound.go_back_in_time()
    assert lost(member.heartbeat)

    until_it_works(lambda: member.join("group", "a", record("2")))

    assert until_it_works(lambda: member.read("group")).records == {"a": record("2")}


def test_the_death_of_a_leader_is_no_going_back(
    connect: Open, caplog: pytest.LogCaptureFixture
) -> None:
    with Ensemble() as ensemble:
        member = connect(ensemble.url, ttl=30.0)
        member.join("group", "a", record("1"))
        member.read("group")
        for _ in range(2):
            leader = ensemble.leader
            leader.kill()
            until_it_works(lambda: member.publish("group", "a", record("1", more=True)))
            until_it_works(lambda: member.read("group"))
            until_it_works(member.heartbeat)
            leader.start()
        until_it_works(lambda: member.read("group"))
    assert not [line for line in caplog.messages if "gone back" in line]


# -- what one client can know


def test_a_rewind_is_told_once_by_whatever_shows_it_first(caplog: pytest.LogCaptureFixture) -> None:
    rewinds = Rewinds(load("zookeeper://localhost", ttl=TTL))
    rewinds.tell("the first evidence", sound=10.0, now=20.0)
    rewinds.tell("of the same, much later", sound=12.0, now=5000.0)
    rewinds.tell("of another", sound=20.0, now=5001.0)
    rewinds.tell("of that one", sound=4000.0, now=5002.0)
    said = [line for line in caplog.messages if "gone back in time" in line]
    assert ["first evidence" in line for line in said] == [True, False]


def test_what_a_mark_of_another_life_says_does_not_count() -> None:
    known, later = History(), History()
    known.connected(zxid=10, session=1 << 30, mark=None, now=100.0)
    assert known.age(104.0) == 4.0
    mark = known.due(104.0, enough=3.0)
    assert mark is not None

    assert not later.connected(zxid=11, session=(1 << 30) + 3, mark=mark, now=500.0)
    assert later.age(500.0) == 4.0
    assert not later.connected(zxid=12, session=2 << 30, mark=mark, now=600.0)
    assert later.age(600.0) == 0.0


def test_a_connection_that_broke_costs_no_memory_where_the_mark_stands() -> None:
    history = History()
    history.connected(zxid=10, session=7, mark=None, now=100.0)
    mark = history.due(100.0, enough=3.0)
    history.adopt(mark)
    history.connected(zxid=20, session=9, mark=mark, now=130.0)
    assert history.age(131.0) == 31.0


def test_an_epoch_that_comes_twice_is_told_by_the_name_of_its_mark() -> None:
    # Restored to before the sixth election, an ensemble holds a sixth election again.
    epoch = 6 << 32
    one, other = History(), History()
    one.connected(zxid=epoch + 1, session=7, mark=None, now=0.0)
    one.adopt(one.due(0.0, enough=3.0))
    other.connected(zxid=epoch + 1, session=8, mark=None, now=90.0)
    again = other.due(90.0, enough=3.0)

    assert not one.connected(zxid=epoch + 2, session=9, mark=again, now=100.0)

    assert one.age(101.0) == 1.0


def test_a_transaction_behind_what_was_seen_is_told_once() -> None:
    history = History()
    assert not history.connected(zxid=50, session=7, mark=None, now=0.0)
    assert history.connected(zxid=3, session=7, mark=None, now=10.0)
    assert history.age(11.0) == 1.0
    assert not history.connected(zxid=4, session=7, mark=None, now=20.0)


@given(st.binary(max_size=200) | st.text(max_size=60).map(str.encode))
def test_whatever_stands_in_a_mark_it_is_read_or_ignored(mark: bytes) -> None:
    history = History()
    history.connected(zxid=1, session=1, mark=mark, now=5.0)
    assert history.age(6.0) >= 1.0


def test_a_server_that_began_again_is_another_life() -> None:
    began = 1_000_000
    assert Life.of(5, (began << 16) + 400).continues(Life.of(9, (began << 16) + 7))
    assert not Life.of(5, (began + 900) << 16).continues(Life.of(9, (began << 16) + 7))
    assert Life.of(5 << 32, 1).continues(Life.of((5 << 32) + 9, 1 << 60))
    assert not Life.of(6 << 32, 1).continues(Life.of(5 << 32, 1))
