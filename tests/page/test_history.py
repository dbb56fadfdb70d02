"""What the time line says of two looks at a partition."""

from __future__ import annotations

import uuid

import pytest

import hashring
from hashring.drivers.memory import MemoryDriver
from hashring.errors import StoreUnavailable
from hashring.page import Watcher
from hashring.page.history import Glance, happened
from hashring.ring.ring import SlotSet
from tests.servers.process import wait_until

NOTHING = SlotSet.empty(64)
CALM = Glance(
    "settled", {"a": False, "b": False}, NOTHING, (1, 0.5), 0.0, 0, 0, (0, None), False, {}
)


def test_a_first_look_says_that_it_joined():
    assert list(happened(None, CALM)) == [("joined", "joined 2 members", False)]


def test_nothing_is_said_of_what_stays_the_same():
    assert list(happened(CALM, CALM)) == []


@pytest.mark.parametrize(
    ("change", "kind", "said", "is_fault"),
    [
        ({"members": {"a": False}, "lost": 1}, "left", "b lost: the lease has ended", True),
        ({"members": {"a": False}}, "left", "b left: 1 member", False),
        ({"members": {"a": False, "b": False, "c": False}}, "came", "c joined: 3 members", False),
        (
            {"held": SlotSet.of([1, 2], 64), "settled": (2, 0.75)},
            "moved",
            "settled in 0.25 s: 2 slots gained, 0 handed over",
            False,
        ),
        ({"missed": 2}, "missed", "2 windows were missed", True),
        ({"clock_steps": (1, -90.0)}, "clock", "stepped back by 90.0 s", True),
        ({"store_is_away": True}, "store", "does not answer", True),
        ({"state": "fenced"}, "fenced", "nothing is held", True),
        ({"problems": {"x": "no JSON"}}, "problem", "x is in the way: no JSON", True),
    ],
)
def test_each_change_is_said_once_in_a_sentence(change, kind, said, is_fault):
    ((found, text, fault),) = happened(CALM, CALM._replace(**change))

    assert (found, fault) == (kind, is_fault)
    assert said in text


def test_what_is_over_is_said_as_well():
    before = CALM._replace(state="fenced", store_is_away=True, problems={"x": "no JSON"})

    found = list(happened(before, CALM._replace(fenced_seconds=3.0)))

    assert [(kind, fault) for kind, _, fault in found] == [
        ("store", False),
        ("recovered", False),
        ("problem", False),
    ]


class Cut(MemoryDriver):
    """The memory store, which can be away."""

    down = False

    def heartbeat(self):
        if self.down:
            raise StoreUnavailable("cut by the test")
        super().heartbeat()


def test_an_outage_and_its_end_are_on_the_time_line():
    url = f"memory://{uuid.uuid4().hex}"
    driver = Cut(hashring.driver.DriverURL.parse(url), ttl=1.0)
    with (
        hashring.join(driver, "pollers", heartbeat=0.05) as partition,
        Watcher(lambda: [partition]) as watcher,
    ):
        assert partition.wait_settled(60)

        def kinds():
            return [event.kind for event in watcher.events if event.is_fault]

        driver.down = True
        wait_until(lambda: {"store", "fenced"} <= {*kinds()})
        driver.down = False
        wait_until(lambda: "recovered" in [event.kind for event in watcher.events])
        partition.leave()


def test_the_thread_ends_with_the_block():
    with hashring.join(f"memory://{uuid.uuid4().hex}", "pollers") as partition:
        with Watcher(lambda: [partition]) as watcher:
            thread = watcher._thread
            assert thread.is_alive()
        assert not thread.is_alive()
        partition.leave()
