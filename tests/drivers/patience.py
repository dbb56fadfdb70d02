"""Calls that must succeed in the end, on a machine that may be busy meanwhile."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from typing import TypeVar

import pytest

from hashring.driver import Driver
from hashring.errors import LeaseLost, StoreUnavailable
from hashring.partition.partition import Partition
from hashring.testing.suite.base import record
from tests.servers.process import wait_until

_T = TypeVar("_T")


def until_it_works(act: Callable[[], _T], *, within: float = 60.0) -> _T:
    """Repeat a call until the store serves it, and return what it returned.

    It stands where a store was away, and where a driver has so short a timeout, because a test
    lets it run out, that a busy machine might use it up as well.
    """
    answers: list[_T] = []

    def works() -> bool:
        try:
            answers.append(act())
        except StoreUnavailable:
            return False
        return True

    wait_until(works, within=within, what="an answer of the store")
    return answers[0]


def until_it_says(words: str, act: Callable[[], object]) -> None:
    """Repeat a call that the store must not serve, until its error says why.

    It stands where the timeout is so short that a busy machine may use it up before the reason is
    known.

    Args:
        words: a regular expression.
        act: the call; it fails the test where it returns.
    """

    def says() -> bool:
        with pytest.raises(StoreUnavailable) as caught:
            act()
        return re.search(words, str(caught.value)) is not None

    wait_until(says, what=f"an error that says {words!r}")


def renew_or_rejoin(driver: Driver, member: str, fields: dict[str, object]) -> None:
    """Do what a member does whose lease may be gone."""
    try:
        driver.heartbeat()
    except LeaseLost:
        driver.join("g", member, record("1", **fields))


def are_shared_out(members: Sequence[Partition], keys: Sequence[str]) -> bool:
    """Return whether all keys are held and every member has some; fail where two hold one at once.

    They are looked at one after the other, and a key may change hands in between: so twice, and
    what a member holds at both looks it held in between, when the next was asked.
    """
    before, after = ([set(one.owned(keys)) for one in members] for _ in range(2))
    for one, other in itertools.combinations(range(len(members)), 2):
        assert not before[one] & after[one] & before[other], "held by two at once"
    return sum(map(len, after)) == len(keys) and all(after)
