"""What users of a member hardly ever do, or hardly ever see it tell."""

from __future__ import annotations

import contextlib
import gc
import logging
import math
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest

import hashring
from hashring import clock
from hashring.errors import BadArgument
from hashring.partition.fanout import FencedMap
from hashring.partition.partition import Partition
from hashring.steer import Operator
from tests.partition.conftest import TTL, Hooked, records, threads_of_ours
from tests.servers.process import wait_until

KEYS = [f"resource-{number}" for number in range(20)]


# ---- calls handed to threads -----------------------------------------------------------------


class Fence:
    """What a map looks at of its cycle: it passes when the test says so."""

    def __init__(self) -> None:
        self.valid = True
        self.moments: list[float] = []

    def _sleep_until(self, moment: float) -> bool:
        self.moments.append(moment)
        return len(self.moments) < 3


@pytest.mark.parametrize("ordered", [True, False])
def test_a_call_whose_moment_comes_after_the_fence_does_not_begin(ordered: bool) -> None:
    fence, begun, ends = Fence(), [], []
    with ThreadPoolExecutor(1) as pool:
        results: FencedMap[str] = FencedMap(
            fence,
            pool,
            lambda key: begun.append(key) or key,
            KEYS,
            [float(number) for number in range(len(KEYS))],
            in_flight=4,
            ordered=ordered,
            over=lambda: ends.append(True),
        )
        results.start()
        assert list(results) == KEYS[:2]
        results.finish()
    assert begun == KEYS[:2]
    assert fence.moments == [0.0, 1.0, 2.0]
    assert ends, "whoever waits for the slots is told"
    assert not results.runs


def test_keys_that_wait_for_their_moments_end_with_their_cycle(member: Partition) -> None:
    loop = member.cycles(1.0)
    cycle = next(loop)
    keys = cycle.owned(KEYS, spread=1.0)
    assert repr(keys).startswith("<20 owned keys of <Cycle of window ")
    cycle._pin.end()
    assert list(keys) == []
    loop.close()
    with member.cycle() as plain:
        assert repr(plain) == "<Cycle with 65536 slots>"


# ---- workers ---------------------------------------------------------------------------------


def test_a_worker_that_fails_as_it_ends_is_in_the_log_and_not_started_again(
    member: Partition, caplog: pytest.LogCaptureFixture
) -> None:
    begun: list[str] = []

    def fails_at_the_end(key: str, stop: hashring.Stop) -> None:
        begun.append(key)
        while not stop.wait(60):
            pass
        raise ZeroDivisionError

    with member.keep(fails_at_the_end, ["one"]) as workers:
        wait_until(lambda: begun)
        workers.remove("one")
        wait_until(lambda: workers.running == [])
    assert begun == ["one"]
    assert "the worker of 'one' failed as it ended: ZeroDivisionError()" in caplog.text


def test_a_worker_that_ran_for_longer_than_the_longest_pause_begins_anew_with_the_first(
    member: Partition, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "hashring")
    begun: list[float] = []

    def ends_by_itself(key: str, stop: hashring.Stop) -> None:
        began = hashring.clock.boottime()
        begun.append(began)
        if len(begun) > 2:
            wait_until(lambda: hashring.clock.boottime() > began + 0.03)

    with member.keep(ends_by_itself, ["one"], first_pause=0.001, longest_pause=0.02):
        wait_until(lambda: len(begun) >= 5)
    pauses = [
        line.args[3] for line in caplog.records if "it is started again" in line.msg and line.args
    ]
    assert all(pause <= 0.002 for pause in pauses[2:]), pauses


# ---- windows and blocks ----------------------------------------------------------------------


def test_a_slow_loop_works_before_it_ends_what_a_quick_one_has_gone_past(
    member: Partition,
) -> None:
    slow, quick = member.cycles(0.3), member.cycles(0.05)
    first = next(slow)
    wait_until(lambda: next(quick).start >= first.start + 0.3)
    member.stop()
    owed = list(slow)
    assert [cycle.start > first.start for cycle in owed] == [True], "one number tells of both"
    assert list(quick) == []


def test_a_loop_that_is_opened_again_with_another_interval_goes_on_with_that(
    member: Partition,
) -> None:
    with member.cycles(0.05, name="disks") as loop:
        first = next(loop)
    with member.cycles(0.1, name="disks") as again:
        second = next(again)
    assert again._loop.stream is loop._loop.stream
    assert (first.interval, second.interval) == (0.05, 0.1)
    assert second.start >= first.start + 0.05 - 1e-6


def test_a_block_begins_once_and_one_that_was_never_left_ends_when_it_is_dropped(
    member: Partition,
) -> None:
    block = member.cycle()
    block.__enter__()
    with pytest.raises(BadArgument, match="begun before"):
        block.__enter__()
    del block
    gc.collect()
    wait_until(lambda: not member._membership.handoff.is_pinned)


def test_a_loop_begins_no_window_before_its_member_has_its_first_share(
    member: Partition, url: str
) -> None:
    begun: list[int] = []

    def work(newcomer: Partition) -> None:
        with newcomer.cycles(0.05) as loop:
            begun.append(len(next(loop).slots))

    with contextlib.ExitStack() as stack:
        with member.cycle():
            b = stack.enter_context(hashring.join(url, "group", "b", ttl=TTL))
            wait_until(lambda: "a" in b.waiting_for)
            worker = threading.Thread(target=work, args=(b,))
            worker.start()
            until = clock.boottime() + 0.5  # ten of its windows
            wait_until(lambda: clock.boottime() > until)
            assert begun == []
        worker.join(60)
        assert begun == [len(b.held)]


def test_the_block_of_a_change_lets_go_what_is_lost(member: Partition, url: str) -> None:
    changes = member.changes()
    with next(changes) as gained:
        assert gained.deadline == math.inf, "nothing is lost"
        assert gained.remaining == math.inf
        assert repr(gained) == "<Change: 65536 slots gained, 0 lost>"
    with hashring.join(url, "group", "b", ttl=TTL) as b:
        with next(changes) as change:
            assert 0 < change.remaining <= TTL
            assert b.held.isdisjoint(change.lost)
        wait_until(lambda: change.lost <= b.held)
        changes.close()


def test_what_was_told_as_lost_and_not_let_go_is_lost_at_the_fence_without_another_word(
    member: Partition, driver: Hooked
) -> None:
    changes = member.changes()
    next(changes)
    member.stop()
    change = next(changes)
    assert len(change.lost) == 65536
    driver.leave("group", "a")  # the store forgets it
    wait_until(lambda: not change.valid)
    assert changes._teller.follower.look() is None
    assert change.deadline == -math.inf
    assert next(changes, None) is None


def test_a_stop_that_comes_between_two_looks_ends_the_changes(member: Partition) -> None:
    changes = member.changes([])
    look = changes._teller.follower.look

    def stops_meanwhile() -> object:
        found = look()
        member.stop()
        return found

    changes._teller.follower.look = stops_meanwhile  # type: ignore[method-assign]
    assert next(changes, None) is None


def test_a_term_tells_for_what_it_is(member: Partition) -> None:
    with member.leading("report") as term:
        assert repr(term) == "<Term for 'report' of 'a': valid>"
    assert repr(term) == "<Term for 'report' of 'a': over>"


def test_who_leaves_inside_the_members_lock_is_left_for_by_its_threads(
    url: str,
) -> None:
    a = hashring.join(url, "group", "a", ttl=TTL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        with a._membership.lock:  # as a finaliser may find it
            a.leave()
        wait_until(lambda: not records(url) and not threads_of_ours())


# ---- what it tells of itself -----------------------------------------------------------------


def loses_its_lease_between_two_readings(
    reader: Partition, driver: Hooked, loser: Partition
) -> None:
    """Let a member lose its lease and come back, before another one looks again."""
    asked, is_back = threading.Event(), threading.Event()

    def answers_when_it_is_back() -> None:
        asked.set()
        assert is_back.wait(60)

    driver.at["read_since"] = answers_when_it_is_back
    reader._membership.interrupt()
    assert asked.wait(60)
    looker = reader.new_driver()
    looker.open()
    before = looker.read("group").records[loser.member]
    loser._membership.driver.leave("group", loser.member)  # the store forgets it
    wait_until(lambda: looker.read("group").records.get(loser.member, before) != before)
    looker.close()
    driver.at.clear()
    is_back.set()


def test_what_becomes_of_others_is_told_by_their_names(
    member: Partition, driver: Hooked, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "hashring")

    def tells(what: str, who: str = "a") -> bool:
        return f"{who}: the group has changed: 'b' {what}" in caplog.text

    with hashring.join(url, "group", "b", ttl=TTL, heartbeat=0.05) as b:
        wait_until(lambda: tells("has come; it has 2 members now"))
        b.weight = 3
        wait_until(lambda: tells("weighs 3 now"))
        b.weight = 0
        wait_until(lambda: tells("weighs 0 now, so it holds nothing; it has 1 member now"))
        wait_until(lambda: tells("weighs 0 now, so it holds nothing", who="b"))
        b.weight = 1
        wait_until(lambda: tells("weighs 1 now; it has 2 members now"))
        assert caplog.text.count("a: the group has changed: 'b' has come") == 1

        loses_its_lease_between_two_readings(member, driver, b)
        wait_until(lambda: tells("has come back"))

        b.weight = 0
        weightless = "a: the group has changed: 'b' weighs 0 now, so it holds nothing"
        wait_until(lambda: caplog.text.count(weightless) == 2)
    with hashring.join(url, "group", "c", ttl=TTL):
        wait_until(lambda: "a: the group has changed: 'c' has come" in caplog.text)


def test_who_comes_back_to_a_frozen_group_is_named_as_kept_out(
    member: Partition, driver: Hooked, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "hashring")
    with hashring.join(url, "group", "b", ttl=TTL, heartbeat=0.05) as b, Operator(url) as operator:
        wait_until(lambda: len(b.members) == len(member.members) == 2)
        assert operator.freeze("group").done
        loses_its_lease_between_two_readings(member, driver, b)
        for who in "ab":
            told = f"{who}: the group has changed: 'b' is kept out of the group, which is frozen"
            wait_until(lambda told=told: told in caplog.text, what=told)
        assert operator.thaw("group").done


@pytest.mark.parametrize("how", ["it drained in a frozen group", "it did not come back in time"])
def test_whose_place_is_not_kept_any_more_has_not_lost_its_lease(
    member: Partition, url: str, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    caplog.set_level(logging.INFO, "hashring")
    frozen = how.startswith("it drained")
    b = hashring.join(url, "group", "b", ttl=TTL, heartbeat=0.05, resume=0 if frozen else 0.5)
    with Operator(url) as operator:
        wait_until(lambda: len(b.members) == len(member.members) == 2)
        assert not frozen or operator.freeze("group").done
        assert b.drain()
        assert not frozen or operator.thaw("group").done
    told = "a: the group has changed: 'b' had left, and its place is not kept any more"
    wait_until(lambda: told in caplog.text, what=told)


def test_what_can_be_read_of_a_member_by_whom_it_belongs_to(member: Partition) -> None:
    assert member.store_traffic is None, "no byte leaves the process"
    assert member.store_url.startswith("memory://")
    assert (member.clock_steps, member.clock_step) == (0, None)
    assert member.frozen is None
    assert member.requests == ()
    assert member.cycle_times.count == 0
    assert member.memory_age == math.inf
    assert repr(member._membership.driver) == repr(member._membership.driver._driver)
    wait_until(lambda: member.settling_times.count == 1)  # counted at the next reading
    assert "of group 'group'" in repr(member)
    assert "in group 'group': settled" in repr(member._membership)
    other = member.new_driver()
    assert type(other) is Hooked
    assert other.ttl == TTL


def test_a_loop_may_be_told_to_end_after_the_window_in_hand(member: Partition) -> None:
    with member.cycles(0.05) as loop:
        assert loop.interval == 0.05
        wait_until(lambda: next(loop) and loop.started_through is not None)
        loop.finish()
        assert list(loop) == []
    assert member.state == "settled"
    with contextlib.closing(member.cycles(0.05)) as idle:
        idle.finish()
        assert next(idle, None) is None
