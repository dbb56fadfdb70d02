"""What an onlooker is told of a group: of real members, on the store in memory."""

from __future__ import annotations

import contextlib
import json
import math
import uuid

import pytest

import hashring
from hashring import clock
from hashring.driver import Driver, driver_class, load
from hashring.errors import BadArgument, NotOffered, StoreUnusable, UnknownMember
from hashring.observe import Observer
from hashring.observe.description import as_json
from tests.servers.process import wait_until

TTL = 30.0  # far longer than any of these tests
KEYS = [f"resource-{number}" for number in range(2000)]


@pytest.fixture
def url():
    return f"memory://{uuid.uuid4().hex}"


@pytest.fixture
def observer(url):
    with Observer(url) as made:
        yield made


@pytest.fixture
def join(url):
    """A function that joins members; all leave in the end, and none waits for another."""
    with contextlib.ExitStack() as leaving:

        def make(member, **arguments):
            partition = hashring.join(url, "group", member, **{"ttl": TTL, **arguments})
            leaving.callback(partition.leave)
            return partition

        yield make


@pytest.fixture
def settled(join, observer):
    """A function that joins members and waits until all of them have settled."""

    def make(*members):
        made = [join(member) for member in members]
        wait_until(lambda: observer.describe("group").is_settled)
        return made

    return make


def waits_of(observer):
    return {(wait.member, wait.whom): wait for wait in observer.describe("group").waits}


def test_a_settled_group_is_described_with_everybodys_share(settled, observer):
    settled("a", "b", "c")

    found = observer.describe("group")

    assert [(one.id, one.state, one.acked) for one in found.members] == [
        (id, "settled", "current") for id in ("a", "b", "c")
    ]
    assert sum(one.due for one in found.members) == found.slots == 65536
    assert all(one.holds == one.due for one in found.members)
    assert sum(one.share for one in found.members) == pytest.approx(1.0)
    assert all(0 < one.lease_left <= TTL for one in found.members)
    assert (found.waits, found.problems, found.unreadable) == ((), (), {})
    assert found.memory_age == math.inf
    assert as_json(found)["memory_age"] is None


def test_an_empty_group_is_not_settled_and_has_nobody(observer):
    found = observer.describe("nobody")

    assert (found.members, found.view_id, found.is_settled) == ((), None, False)


def test_an_onlooker_is_told_who_is_waited_for_with_the_slots_and_since_when(
    join, settled, observer
):
    a, b = settled("a", "b")
    before = clock.wall()
    with a.cycle():
        c = join("c")
        wait_until(lambda: ("c", "a") in waits_of(observer))
        found = observer.describe("group")
        wait = waits_of(observer)["c", "a"]

        # The member that waits says the same.
        wait_until(lambda: "a" in c.waiting_for)
        assert wait.slots == len(c.waiting_for["a"])
        assert sum(last - first + 1 for first, last in wait.ranges) == wait.slots
        assert before - 1 <= wait.since <= clock.wall() + 1
        assert "cycle" in wait.reason
        assert not found.is_settled
        states = {one.id: (one.state, one.acked) for one in found.members}
        assert states["a"] == ("settling", "older")
        # What b had for the newcomer is not waited for.
        wait_until(lambda: ("c", "b") not in waits_of(observer))
    wait_until(lambda: observer.describe("group").is_settled)
    wait_until(lambda: b.state == "settled")


def test_since_when_is_told_to_an_onlooker_who_comes_late(join, settled, observer, url):
    (a,) = settled("a")
    with a.cycle():
        join("b")
        wait_until(lambda: ("b", "a") in waits_of(observer))
        with Observer(url) as late:

            def told_alike():
                # On a busy machine b may lose its lease meanwhile, and wait anew.
                told = [waits_of(looking).get(("b", "a")) for looking in (observer, late)]
                return None not in told and told[0].since == told[1].since

            wait_until(told_alike)


def test_a_record_that_cannot_be_read_is_a_problem_with_a_name(settled, join, observer, url):
    settled("a")
    stranger = load(url, ttl=TTL)
    stranger.open()
    stranger.join("group", "x", b"garbage")
    join("b")

    wait_until(lambda: ("b", "x") in waits_of(observer))
    found = observer.describe("group")

    assert list(found.unreadable) == ["x"]
    assert any("'x'" in problem for problem in found.problems)
    assert "cannot be read" in waits_of(observer)["b", "x"].reason
    stranger.leave("group", "x")
    wait_until(lambda: observer.describe("group").is_settled)


def test_a_member_that_differs_is_named_with_the_difference(settled, observer, url):
    settled("a")
    record = json.loads(load_record(url, "a"))
    record.update(ttl=3.0, incarnation="other", applied=None)
    record["meta"]["hashring"]["founded"] = None
    stranger = load(url, ttl=TTL)
    stranger.open()
    stranger.join("group", "x", json.dumps(record).encode())

    found = observer.describe("group")

    (x,) = (one for one in found.members if one.id == "x")
    assert (x.state, x.due) == ("differs", 0)
    assert "ttl 3.0" in x.problem
    assert not found.is_settled
    stranger.leave("group", "x")


def load_record(url, member):
    driver = load(url, ttl=TTL)
    driver.open()
    try:
        return driver.read("group").records[member]
    finally:
        driver.close()


def test_owner_and_holder_differ_while_the_holder_works(join, settled, observer):
    (a,) = settled("a")
    assert all(one.owner == one.holder == "a" for one in observer.owner("group", KEYS[:20]))
    with a.cycle():
        b = join("b")
        wait_until(lambda: ("b", "a") in waits_of(observer))
        moving = next(key for key in KEYS if b.ring.owner(key) == "b")
        staying = next(key for key in KEYS if b.ring.owner(key) == "a")

        told, kept = observer.owner("group", [moving, staying])

        assert (told.owner, told.holder) == ("b", "a")
        assert "b waits until a lets go" in told.reason
        assert (kept.owner, kept.holder, kept.reason) == ("a", "a", "")
        assert told.slot == b.ring.slot(moving)
    wait_until(lambda: observer.owner("group", [moving])[0].holder == "b")


def test_a_preview_says_what_then_moves(join, settled, observer):
    settled("a", "b")
    before = {one.key: one.owner for one in observer.owner("group", KEYS)}

    told = observer.preview("group", add={"c": 2.0}, keys=KEYS)
    join("c", weight=2.0)
    wait_until(lambda: observer.describe("group").is_settled)
    after = {one.key: one.owner for one in observer.owner("group", KEYS)}

    assert told.keys == sum(before[key] != after[key] for key in KEYS)
    assert told.of_keys == len(KEYS)
    shares = {one.id: one.due for one in observer.describe("group").members}
    assert told.after == shares
    assert sum(slots for _, _, slots in told.moves) == told.slots
    assert 1.0 <= told.balance <= 1.25


def test_a_preview_of_nobody_left_moves_everything_to_nobody(settled, observer):
    settled("a")

    told = observer.preview("group", remove=["a"])

    assert told.moves == (("a", None, 65536),)
    with pytest.raises(BadArgument, match="no member 'x'"):
        observer.preview("group", remove=["x"])


def test_a_member_can_be_stopped_where_somebody_can_take_over(settled, observer):
    settled("a", "b")

    assert observer.can_stop("group", "a").can_stop
    with pytest.raises(UnknownMember, match="there are: a, b"):
        observer.can_stop("group", "x")


def test_the_last_member_cannot_be_stopped(settled, observer):
    settled("a")

    advice = observer.can_stop("group", "a")

    assert not advice.can_stop
    assert "last member" in advice.reasons[0]


def test_a_member_that_others_wait_for_cannot_be_stopped(join, settled, observer):
    a, _ = settled("a", "b")
    with a.cycle():
        join("c")
        wait_until(lambda: ("c", "a") in waits_of(observer))

        advice = observer.can_stop("group", "a")

        assert not advice.can_stop
        assert any("c waits for" in reason for reason in advice.reasons)
    wait_until(lambda: observer.can_stop("group", "a").can_stop)


def test_a_member_without_weight_can_always_be_stopped(settled, join, observer):
    settled("a")
    join("watcher", weight=0.0)
    wait_until(lambda: "watcher" in {one.id for one in observer.describe("group").members})

    assert observer.can_stop("group", "watcher").can_stop


def test_groups_are_listed_or_it_is_said_that_they_cannot_be(settled, observer, url):
    settled("a")
    assert observer.groups() == ["group"]
    with Observer("memory://empty-for-sure") as empty:
        assert empty.groups() == []
    with pytest.raises(NotOffered, match="name the group"):
        load("memcached://127.0.0.1:1").groups()


def test_looking_on_makes_no_file(tmp_path):
    path = tmp_path / "absent" / "group.db"

    with pytest.raises(StoreUnusable, match="is the path right"), Observer(f"sqlite://{path}"):
        pass

    assert not path.parent.exists()


def test_an_onlooker_that_stays_remembers_who_was_there(join, settled, observer):
    a, b, c = settled("a", "b", "c")
    observer.describe("group")
    with a.cycle():
        c.leave()
        wait_until(lambda: "c" not in {one.id for one in observer.describe("group").members})
        # One that has just come cannot know the view with c in it; this one does.
        known = {one.id: one.acked for one in observer.describe("group").members}
        assert set(known.values()) <= {"older", "current"}
    wait_until(lambda: observer.describe("group").is_settled)
    wait_until(lambda: b.state == "settled")


@pytest.mark.parametrize("scheme", ["memory", "sqlite", "redis", "zookeeper", "etcd", "postgresql"])
def test_each_of_our_stores_but_memcached_can_list_its_groups(scheme):
    assert driver_class(scheme).groups is not Driver.groups
