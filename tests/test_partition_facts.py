"""What a user may ask of a partition, and how long a join may wait. The store is in memory."""

from __future__ import annotations

import asyncio
import copy
import math
import pathlib
import pickle
import threading
import typing
import uuid
from collections.abc import Callable, Iterator

import pytest

import hashring
from hashring import clock
from hashring.driver import DriverURL
from hashring.drivers.memory import MemoryDriver
from hashring.errors import BadArgument, BadKey, EmptyRing, MemberExists, StoreUnavailable
from hashring.partition import literals
from hashring.partition.partition import Partition
from tests.servers.process import wait_until

KEYS = [f"resource-{number}" for number in range(300)]
TTL = 30.0  # far longer than any of these tests
SHORT = 4.0  # longer than a busy machine stands still


@pytest.fixture
def url() -> str:
    return f"memory://{uuid.uuid4().hex}"


@pytest.fixture
def a(url: str) -> Iterator[Partition]:
    with hashring.join(url, "group", "a", ttl=TTL) as partition:
        assert partition.wait_settled(60)
        yield partition


def both_settled(a: Partition, b: Partition) -> None:
    wait_until(lambda: all(len(p.members) == 2 and p.state == "settled" for p in (a, b)))


class Cut(MemoryDriver):
    """The memory store behind a network that can be cut."""

    down = False
    opened = 0

    def open(self) -> None:
        self.opened += 1
        self._reach()
        super().open()

    def _reach(self) -> None:
        if self.down:
            raise StoreUnavailable("cut by the test")

    def heartbeat(self) -> None:
        self._reach()
        super().heartbeat()

    def read(self, group):  # type: ignore[no-untyped-def]
        self._reach()
        return super().read(group)


# ---- who owns what ---------------------------------------------------------------------------


def test_every_member_names_the_same_owner_of_a_key(a: Partition, url: str) -> None:
    with hashring.join(url, "group", "b", ttl=TTL) as b:
        both_settled(a, b)

        owners = {key: a.owner(key) for key in KEYS}

        assert owners == {key: b.owner(key) for key in KEYS}
        assert {key for key, owner in owners.items() if owner == "a"} == set(a.owned(KEYS))
        assert {key for key, owner in owners.items() if owner == "b"} == set(b.owned(KEYS))
        assert a.ring == b.ring == hashring.HashRing(["a", "b"])


def test_without_a_member_that_owns_something_nobody_is_named(url: str) -> None:
    with hashring.join(url, "group", "watches", weight=0, ttl=TTL) as watcher:
        with pytest.raises(EmptyRing):
            watcher.owner("x")
        assert dict(watcher.ring.members) == {}


def test_a_weight_that_is_set_moves_slots_and_nothing_is_held_twice(a: Partition, url: str) -> None:
    with hashring.join(url, "group", "b", ttl=TTL) as b:
        wait_until(lambda: all(len(p.members) == 2 and p.state == "settled" for p in (a, b)))
        with a.cycle() as cycle:
            a.weight = 0.25
            wait_until(lambda: b.members == {"a": 0.25, "b": 1.0})
            assert cycle.valid
            assert not any(map(b.owns, cycle.owned(KEYS))), "what a cycle pins is not given up"
        wait_until(
            lambda: all(p.state == "settled" and p.weight == p.members[p.member] for p in (a, b))
        )
        assert len(a.owned(KEYS)) < len(b.owned(KEYS))
        assert sorted([*a.owned(KEYS), *b.owned(KEYS)]) == sorted(KEYS)

        a.weight = 0
        wait_until(lambda: b.owned(KEYS) == list(KEYS))
        assert a.owned(KEYS) == []
        wait_until(lambda: a.state == "settled")
        a.weight = 1
        wait_until(lambda: a.owned(KEYS))
        assert a.incarnation == a.records["a"].incarnation, "it never left"


def test_a_weight_set_on_an_event_loop_counts_as_well(url: str) -> None:
    async def weights() -> dict[str, float]:
        async with await hashring.ajoin(url, "group", "a", ttl=TTL) as partition:
            assert await partition.wait_settled(60)
            partition.weight = 3
            while partition.members["a"] != 3:
                await partition.wait_changed(60)
            return dict(partition.members)

    assert asyncio.run(weights()) == {"a": 3.0}


@pytest.mark.parametrize("weight", [-1, math.nan, "2", None, True])
def test_a_weight_that_is_no_number_of_0_or_more_is_refused_and_changes_nothing(
    a: Partition, weight: object
) -> None:
    with pytest.raises(BadArgument, match="weight"):
        a.weight = weight  # type: ignore[assignment]
    assert a.weight == a.members["a"] == 1.0


def test_a_member_that_has_left_weighs_what_it_did(url: str) -> None:
    with hashring.join(url, "group", "a", ttl=TTL) as gone:
        pass
    with pytest.raises(BadArgument, match="it is left"):
        gone.weight = 2.0


def test_objects_are_asked_for_by_their_key_as_in_a_cycle(a: Partition) -> None:
    things = [{"id": key} for key in KEYS]

    def name(thing: dict[str, str]) -> str:
        return thing["id"]

    assert a.owned(things, key=name) == things
    assert a.mask(things, key=name) == bytearray([1] * len(things))
    assert a.owns(things[0], key=name)
    assert a.owner(things[0], key=name) == "a"
    with a.cycle() as cycle:
        assert cycle.owned(things, key=name)[:] == things
        assert cycle.owns(things[0], key=name)


@pytest.mark.parametrize("thing", [7, uuid.uuid4(), ("disk", 3), pathlib.Path("/dev/sda")])
def test_a_key_that_is_no_text_is_refused_with_the_way_to_name_it(
    a: Partition, thing: object
) -> None:
    asked: list[Callable[[], object]] = [
        lambda: a.owns(thing),  # type: ignore[call-overload]
        lambda: a.owner(thing),  # type: ignore[call-overload]
        lambda: a.owned([thing]),
        lambda: a.mask([thing]),
    ]
    with a.cycle() as cycle:
        asked += [lambda: cycle.owned([thing]), lambda: cycle.owns(thing)]  # type: ignore[call-overload]
        for ask in asked:
            with pytest.raises(BadKey, match=f"{type(thing).__name__}.*key=str"):
                ask()

    assert a.owned([thing], key=str) == [thing]
    assert a.owns(thing, key=str)


def test_what_is_wrong_with_a_text_is_not_explained_as_a_type(a: Partition) -> None:
    with pytest.raises(BadKey) as raised:
        a.owns("\ud800")

    assert "key=str" not in str(raised.value)


# ---- changes ---------------------------------------------------------------------------------


def test_a_change_of_the_group_ends_the_wait_for_one(a: Partition, url: str) -> None:
    assert not a.wait_changed(0.0)  # from here on
    with hashring.join(url, "group", "b", ttl=TTL) as b:
        both_settled(a, b)
        assert a.wait_changed(60)  # it came before the call, and is not lost
        assert not a.wait_changed(0.0)
        results: list[bool] = []
        looked = threading.Event()

        def wait() -> None:
            results.append(a.wait_changed(0.0))  # another thread has its own start
            looked.set()
            results.append(a.wait_changed(60))

        waits = threading.Thread(target=wait)
        waits.start()
        assert looked.wait(60)
        b.leave()
        waits.join(60)

    assert results == [False, True]
    assert a.wait_changed(60)
    a.leave()
    assert a.wait_changed(60)
    assert not a.wait_changed(60)  # at once: there will be none


def test_the_fence_is_a_change(url: str) -> None:
    driver = Cut(DriverURL.parse(url), ttl=SHORT)
    with hashring.join(driver, "group", "a") as a:
        assert a.wait_settled(60)
        assert not a.wait_changed(0.0)
        driver.down = True
        wait_until(lambda: a.wait_changed(60) and a.state == "fenced")
        driver.down = False
        wait_until(lambda: a.state == "settled")


def test_stats_tell_of_windows_hand_overs_and_the_fence(url: str) -> None:
    driver = Cut(DriverURL.parse(url), ttl=SHORT)
    with hashring.join(driver, "group", "a") as a:
        assert a.wait_settled(60)
        assert a.stats == hashring.Stats(0, 0, 0, 0, 0.0)
        with a.cycles(0.05) as loop:
            first = next(loop).window
            wait_until(lambda: clock.wall() / 0.05 > first + 3)
            next(loop)
            assert a.stats.windows_on_time == 2
            assert a.stats.windows_missed == loop.missed >= 2

        with hashring.join(url, "group", "b", ttl=SHORT) as b:
            both_settled(a, b)
        wait_until(lambda: a.stats.hand_overs >= 2, what="b's coming and going")

        driver.down = True
        wait_until(lambda: a.stats.fenced_seconds > 0.2)
        assert a.state == "fenced"
        driver.down = False
        wait_until(lambda: a.state == "settled")
        assert a.stats.fenced_seconds > 0.2
    after = a.stats.fenced_seconds
    assert a.stats.fenced_seconds == after, "nothing is counted once it has left"


def test_slots_that_are_handed_over_late_are_counted_as_such(url: str) -> None:
    with (
        hashring.join(url, "group", "a", ttl=10.0) as a,
        hashring.join(url, "group", "b", ttl=10.0) as b,
    ):
        both_settled(a, b)
        loop = b.cycles(1_000_000)  # no other window begins meanwhile
        assert not next(loop).late
        a.drain(60)  # it has worked nothing of this window

        assert next(loop).late
        loop.close()

        assert b.stats.windows_on_time == b.stats.windows_late == 1


# ---- joining ---------------------------------------------------------------------------------


def test_a_join_may_wait_for_a_store_that_is_down(url: str) -> None:
    driver = Cut(DriverURL.parse(url), ttl=TTL)
    driver.down = True

    def comes_back() -> None:
        wait_until(lambda: driver.opened >= 3)
        driver.down = False

    mends = threading.Thread(target=comes_back)
    mends.start()
    with hashring.join(driver, "group", "a", wait=60) as a:
        assert a.wait_settled(60)
    mends.join()


def test_a_join_may_wait_for_the_lease_of_a_member_that_was_killed(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    killed = MemoryDriver(DriverURL.parse(url), ttl=SHORT)
    killed.open()
    record = hashring.Member("a", "i", 1.0, hashring.HashRing().spec, SHORT).to_json()
    killed.join("group", "a", record)

    with hashring.join(url, "group", "a", ttl=SHORT, wait=60) as again:
        assert again.wait_settled(60)

    killed.close()
    assert caplog.text.count("to join") == 1


def test_a_join_that_has_waited_in_vain_says_what_stood_in_the_way(a: Partition, url: str) -> None:
    began = clock.boottime()
    with pytest.raises(MemberExists):
        hashring.join(url, "group", "a", ttl=TTL, wait=0.3)
    assert clock.boottime() - began >= 0.3
    with pytest.raises(BadArgument, match="wait"):
        hashring.join(url, "group", "b", wait=-1)


def test_what_time_does_not_mend_is_raised_at_once(a: Partition, url: str) -> None:
    with pytest.raises(hashring.GroupMismatch):
        hashring.join(url, "group", "b", ttl=TTL + 1, wait=10_000)
    with pytest.raises(hashring.UnknownDriver):
        hashring.join("nowhere://x", "group", wait=10_000)


# ---- what cannot be done with it -------------------------------------------------------------


def test_a_partition_that_is_pickled_or_copied_says_what_to_do_instead(a: Partition) -> None:
    with a.cycle() as cycle:
        for thing in (a, cycle, cycle.owned(KEYS), a.cycles(3600)):
            with pytest.raises(BadArgument, match="join there"):
                pickle.dumps(thing)
    with pytest.raises(BadArgument, match="one process's membership"):
        copy.copy(a)


@pytest.mark.parametrize(
    "form", ["a block", "a loop", "a loop with a name", "a loop in a block", "owned keys"]
)
def test_an_exception_in_a_cycle_frees_it_and_is_not_swallowed(a: Partition, form: str) -> None:
    def work() -> None:
        if form == "a block":
            with a.cycle():
                raise ZeroDivisionError
        elif form == "a loop":
            for _ in a.cycles(5):
                raise ZeroDivisionError
        elif form == "a loop with a name":
            for cycle in a.cycles(5, name="disks"):
                assert cycle.slots
                raise ZeroDivisionError
        elif form == "a loop in a block":
            with a.cycles(5) as loop:
                for _ in loop:
                    raise ZeroDivisionError
        else:
            with a.cycle() as cycle:
                for _ in cycle.owned(KEYS):
                    raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as raised:
        work()
    del raised

    wait_until(lambda: not a._membership.handoff.is_pinned, what="the slots are free")
    assert a.state == "settled"


def test_the_words_that_arguments_take_are_types() -> None:
    assert typing.get_type_hints(hashring.join)["handoff"] == literals.HandoffMode
    assert typing.get_type_hints(hashring.Partition.cycles)["on_crash"] == literals.OnCrash
    state = typing.get_type_hints(Partition.state.fget)
    assert state["return"] == literals.State


def test_what_a_partition_hands_out_has_public_names() -> None:
    for name in ("Cycles", "Member", "OwnedKeys", "Stats", "Token"):
        assert name in hashring.__all__
        assert isinstance(getattr(hashring, name), type)
