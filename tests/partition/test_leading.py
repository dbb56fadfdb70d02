"""Leading: exactly one of all members acts for a name, until its block has ended or its fence."""

from __future__ import annotations

import threading
import time

import pytest

import hashring
from hashring.errors import BadArgument, BadKey
from hashring.partition.partition import Partition
from tests.servers.process import wait_until

TTL = 30.0


def both_settled(a: Partition, b: Partition) -> None:
    wait_until(lambda: all(len(p.members) == 2 and p.state == "settled" for p in (a, b)))


def name_that_moves_to(member: str) -> str:
    """A name that is another member's while that one is alone, and this one's beside it."""
    ring = hashring.HashRing(["a", "b"])
    return next(name for name in map("job-{}".format, range(99)) if ring.owner(name) == member)


def test_one_of_all_members_leads_and_all_name_it(a: Partition, url: str) -> None:
    with hashring.join(url, "group", "b", ttl=TTL) as b:
        both_settled(a, b)
        for name in ("report", "compactor", "beat"):
            leaders = [partition.member for partition in (a, b) if partition.leads(name)]
            assert leaders == [a.owner(name)] == [b.owner(name)]


def test_who_leads_next_waits_for_the_end_of_the_block(a: Partition, url: str) -> None:
    name = name_that_moves_to("b")
    with a.leading(name) as term:
        assert term
        assert term.valid
        assert not term.over
        assert not term.wait(0.0)
        with hashring.join(url, "group", "b", ttl=TTL) as b:
            assert term.wait(60), "the group gives the name to b"
            assert term.valid, "but a may finish what it does"
            wait_until(lambda: "a" in b.waiting_for)
            with b.leading(name, timeout=0.05) as none:
                assert not none
                assert none.over
            a_ends = threading.Timer(0.05, term._follower.close)
            a_ends.start()
            with b.leading(name) as next_term:
                assert next_term.valid
                assert not term.valid
            a_ends.join()


def test_a_term_is_over_at_the_fence_and_another_one_begins_after_it(cut) -> None:
    driver = cut()
    with hashring.join(driver, "group", "a") as a:
        with a.leading("report") as term:
            driver.down = True
            assert term.wait(60)
            assert not term
            assert not a.leads("report")
            driver.down = False

        def leads_anew() -> bool:
            with a.leading("report") as again:
                return bool(again)

        wait_until(leads_anew)
        assert not term, "what was over stays so"


def test_stopping_ends_the_term_and_the_wait_for_one(a: Partition, url: str) -> None:
    with a.leading("report") as term:
        threading.Timer(0.05, a.stop).start()
        assert term.wait(60)
        assert term.valid
    with a.leading("report") as none:
        assert not none


def test_no_term_is_left_behind_by_who_raises_in_it(a: Partition) -> None:
    with pytest.raises(ZeroDivisionError), a.leading("report"):
        _ = 1 / 0
    wait_until(lambda: not a._membership.handoff.is_pinned)


def test_a_job_runs_once_a_window_on_one_of_all_members(a: Partition, url: str) -> None:
    interval, runs = 0.3, []

    def work(partition: Partition) -> None:
        for cycle in partition.cycles(interval):
            if cycle.owns("nightly report"):
                runs.append((cycle.window, partition.member))

    with hashring.join(url, "group", "b", ttl=TTL) as b:
        both_settled(a, b)
        threads = [threading.Thread(target=work, args=(one,)) for one in (a, b)]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(runs) >= 4)
        for partition in (a, b):
            partition.stop()
        for thread in threads:
            thread.join(60)

    windows = [window for window, _ in runs]
    assert len(windows) == len(set(windows))
    assert {member for _, member in runs} == {hashring.HashRing(["a", "b"]).owner("nightly report")}
    assert windows[0] <= time.time() / interval


def test_what_there_is_to_lead_for_has_a_name(a: Partition) -> None:
    for wrong in ("", 7, None):
        with pytest.raises(BadArgument, match="non-empty str"):
            a.leading(wrong)
    with pytest.raises(BadKey):
        a.leads(7)
    with pytest.raises(BadArgument, match="timeout"):
        a.leading("report", timeout=-1)
    leading = a.leading("report")
    with leading, pytest.raises(BadArgument, match="again"):
        leading.__enter__()
