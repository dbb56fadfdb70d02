"""The number by which a sink tells a late writer from the present one."""

from __future__ import annotations

import asyncio
import copy
import pickle
import threading
import uuid

import pytest

import hashring
from hashring.driver import DriverURL
from hashring.drivers.memory import MemoryDriver
from tests.servers.process import wait_until

WAIT = 60.0  # seconds: a busy machine is no failure
SLOT = "the key of this test"


@pytest.fixture
def url():
    return f"memory://epoch-{uuid.uuid4().hex}?ttl=30"


def settled(url, member, **options):
    partition = hashring.join(url, "g", member=member, **options)
    assert partition.wait_settled(WAIT)
    return partition


def both_settled(*partitions):
    for partition in partitions:
        wait_until(lambda one=partition: len(one.members) == len(partitions), within=WAIT)
        assert partition.wait_settled(WAIT)


def owned_by(name, other):
    """Return a key that a member owns while the other one is there too."""
    ring = hashring.HashRing([name, other])
    return next(key for key in map(str, range(10_000)) if ring.owner(key) == name)


def epoch_of(partition, key):
    with partition.cycle() as cycle:
        assert cycle.owns(key)
        return cycle.token.epoch


def test_each_holder_of_a_key_has_a_greater_epoch_though_it_comes_back_to_the_first(url):
    key = owned_by("b", "a")
    epochs = []

    with settled(url, "a") as a:
        for _ in range(3):
            epochs.append(epoch_of(a, key))
            with settled(url, "b") as b:
                both_settled(a, b)
                epochs.append(epoch_of(b, key))
            both_settled(a)
        epochs.append(epoch_of(a, key))

    assert epochs == sorted(set(epochs))
    assert len(epochs) == 7


def test_the_epoch_grows_on_when_the_group_was_empty(url):
    epochs = []

    for name in ("a", "b", "a"):
        with settled(url, name) as alone:
            epochs.append(epoch_of(alone, SLOT))

    assert epochs == sorted(set(epochs))


def test_changes_terms_and_workers_have_the_epoch_of_the_cycles(url):
    found = []
    told = threading.Event()

    def work(key, stop):
        found.append(stop.epoch)
        told.set()
        stop.wait()

    with settled(url, "a") as a:
        expected = epoch_of(a, SLOT)
        with a.leading(SLOT) as term, a.changes([SLOT]) as changes, a.keep(work, [SLOT]):
            assert told.wait(WAIT)
            found += [term.epoch, next(changes).epoch]

    assert found == [expected] * 3


def test_what_is_gained_later_is_told_with_the_epoch_of_its_gain(url):
    with settled(url, "a") as a, settled(url, "b") as b:
        both_settled(a, b)
        with b.changes() as changes:
            first = next(changes)
            before = epoch_of(a, owned_by("a", "b"))
            a.drain(WAIT)
            later = next(changes)
            while not later.gained:
                later = next(changes)

    assert later.epoch > max(first.epoch, before)


def test_the_epoch_is_there_on_an_event_loop(url):
    async def epochs():
        async with await hashring.ajoin(url, "g", member="a") as partition:
            assert await partition.wait_settled(WAIT)
            async with partition.cycle() as cycle, partition.leading(SLOT) as term:
                change = await anext(partition.changes([SLOT]))
                return cycle.token.epoch, term.epoch, change.epoch

    one, two, three = asyncio.run(epochs())

    assert one == two == three
    assert isinstance(one, int)


class Unnumbered(MemoryDriver):
    """A driver of a third party: its `publish` returns nothing."""

    epochs = ""

    def publish(self, group, member, record):
        super().publish(group, member, record)


def test_a_store_that_numbers_nothing_gives_no_epoch(url):
    with settled(Unnumbered(DriverURL.parse(url), ttl=30.0), "a") as partition:
        assert epoch_of(partition, SLOT) is None


def test_an_eager_group_has_no_epoch_since_two_may_hold_a_key(url):
    with settled(url, "a", handoff="eager") as partition:
        assert epoch_of(partition, SLOT) is None


def test_a_token_stays_a_tuple_of_three_that_carries_its_epoch_through_copies():
    token = hashring.Token("view", "incarnation", 7, epoch=12)

    for other in (token, pickle.loads(pickle.dumps(token)), copy.deepcopy(token)):
        assert other == ("view", "incarnation", 7)
        assert other.epoch == 12
