"""A forked child, whose parent is a member: it holds nothing, waits for nothing, ends nothing."""

from __future__ import annotations

import asyncio
import os
import traceback
from collections.abc import Callable

import pytest

import hashring
from hashring.errors import LeaseLost
from hashring.partition.partition import Partition
from tests.partition.conftest import TTL

KEYS = [f"resource-{number}" for number in range(40)]
LONG = 60.0


def in_a_child(look: Callable[[], None]) -> None:
    """Run this in a forked child, while its parent's threads do not run there."""
    child = os.fork()
    if child == 0:
        try:
            look()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_what_was_begun_before_a_fork_is_over_in_the_child(a: Partition) -> None:
    loop, begun, idle = a.cycles(0.5), a.cycles(0.5), a.cycles(0.5)
    next(begun)
    changes = a.changes(KEYS)
    change = next(changes)
    leading = a.leading("report")

    def look() -> None:
        assert a.state == "left"
        assert not a.held
        assert list(begun) == list(loop) == []
        idle.close()
        change.done()
        assert not change.valid
        with leading as none:
            assert not none
            assert none.over
            assert none.wait(LONG)
        assert next(changes, None) is None
        assert not a.wait_settled(LONG)
        assert not a.wait_changed(LONG)
        assert a.drain(LONG)
        a.leave()

    with a.leading("another") as term, a.keep(lambda key, stop: stop.wait(), KEYS[:2]) as workers:

        def look_at_what_runs() -> None:
            assert term.wait(LONG)
            workers.close()
            look()

        in_a_child(look_at_what_runs)
        assert term.valid
        assert change.valid
    assert a.state == "settled"
    changes.close()
    begun.close()


def test_a_child_begins_nothing(a: Partition) -> None:
    begins = {
        "a cycle": lambda: a.cycle().__enter__(),
        "a loop": lambda: a.cycles(1),
        "changes": lambda: a.changes(),
        "a lead": lambda: a.leading("report"),
        "workers": lambda: a.keep(lambda key, stop: None),
        "a grip": lambda: a.grip(1),
        "meta": lambda: a.publish_meta({}),
        "a weight": lambda: setattr(a, "weight", 2.0),
    }

    def look() -> None:
        for begin in begins.values():
            with pytest.raises(LeaseLost, match="join again in the child"):
                begin()

    in_a_child(look)


def test_the_face_for_an_event_loop_is_over_in_a_child_as_well(url: str) -> None:
    async def main() -> None:
        async with await hashring.ajoin(url, "group", "a", ttl=TTL) as a:
            assert await a.wait_settled(LONG)
            cycles = a.cycles(3600)

            async def looked() -> None:
                assert not await a.wait_settled(LONG)
                assert not await a.wait_changed(LONG)
                assert await anext(cycles, None) is None
                assert await a.drain(LONG)
                await a.leave()

            # Python knows in a child that the loop which runs is its parent's.
            in_a_child(lambda: asyncio.run(looked()))
            assert a.owned(KEYS) == KEYS

    asyncio.run(main())
