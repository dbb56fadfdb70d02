"""What a member does in moments that hardly ever come up, each brought about on purpose."""

from __future__ import annotations

import gc
import logging
import threading

import pytest

import hashring
from hashring.errors import GroupMismatch, LeaseLost, StoreUnavailable
from hashring.partition.partition import Partition
from tests.partition.conftest import TTL, Hooked, records, threads_of_ours
from tests.servers.process import wait_until

KEYS = [f"resource-{number}" for number in range(20)]


# ---- leaving, while something else goes on ---------------------------------------------------


@pytest.mark.parametrize("call", ["read_since", "heartbeat"])
def test_a_member_that_leaves_while_the_store_answers_acts_on_no_answer(
    member: Partition, driver: Hooked, call: str
) -> None:
    asked = threading.Event()

    def answers_when_it_has_left() -> None:
        asked.set()
        wait_until(lambda: member.state == "left" and member._membership.ended.is_set())

    driver.at[call] = answers_when_it_has_left
    member._membership.interrupt()
    assert asked.wait(60)
    member.leave()

    assert driver.closed
    assert threads_of_ours() == []


def test_who_leaves_a_store_that_is_away_says_that_it_was_not_told(
    member: Partition, driver: Hooked, caplog: pytest.LogCaptureFixture
) -> None:
    driver.once("leave", StoreUnavailable("refused"))
    member.leave()

    assert "group: a left without telling the store: refused" in caplog.text
    assert driver.closed


def test_a_defect_of_a_driver_in_leave_is_raised_and_nothing_stays_open(
    member: Partition, driver: Hooked
) -> None:
    driver.once("leave", ZeroDivisionError("a defect"))
    with pytest.raises(ZeroDivisionError):
        member.leave()

    assert driver.closed
    assert threads_of_ours() == []
    assert member._membership.gone.wait(60)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_block_that_an_interrupt_leaves_before_anything_was_asked_to_end_ends_by_itself(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: Partition, *_: object) -> None:
        raise KeyboardInterrupt

    partition = hashring.join(url, "group", "a", ttl=TTL)
    assert partition.wait_settled(60)
    monkeypatch.setattr(Partition, "drain", interrupted)
    with pytest.raises(KeyboardInterrupt), partition:
        pass
    wait_until(lambda: not records(url), what="its end, which its threads have seen to")


@pytest.mark.filterwarnings("error::ResourceWarning")
def test_where_warnings_are_errors_a_dropped_partition_hands_over_and_raises_in_its_thread(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    raised: list[type[BaseException]] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: raised.append(args.exc_type))
    dropped = hashring.join(url, "group", "a", ttl=TTL)
    assert dropped.wait_settled(60)
    with dropped.cycle():  # lasts for longer than the drop is noticed in
        held = dropped._membership.handoff
        del dropped
        gc.collect()
    wait_until(lambda: not records(url) and not threads_of_ours())
    assert held.has_left
    assert raised == [ResourceWarning]


# ---- calls that fail -------------------------------------------------------------------------


def test_a_defect_of_a_driver_in_a_heartbeat_is_logged_and_survived(
    member: Partition, driver: Hooked, caplog: pytest.LogCaptureFixture
) -> None:
    assert driver.once("heartbeat", ZeroDivisionError("a defect")).wait(60)
    wait_until(lambda: "works again" in caplog.text)

    assert "a defect of the driver: heartbeat: a defect" in caplog.text
    assert member.state == "settled"


def test_a_lease_that_is_lost_between_a_reading_and_what_follows_from_it_has_the_group_read_again(
    member: Partition, caplog: pytest.LogCaptureFixture
) -> None:
    look, readings = member._worker._requests.look, []

    def loses() -> None:
        readings.append(member.store_calls["read_since"].timing.count)
        member._worker._requests.look = look  # type: ignore[method-assign]
        with member._membership.lock:
            member._membership.runner.fail(LeaseLost("by the test"))

    member._worker._requests.look = loses  # type: ignore[method-assign]
    member._membership.interrupt()
    wait_until(
        lambda: readings and member.store_calls["read_since"].timing.count > readings[0],
        what="another reading",
    )
    wait_until(lambda: member.state == "settled" and member.owned(KEYS) == KEYS)
    assert "a defect" not in caplog.text


def test_a_pin_that_an_interrupt_left_in_nobodys_hands_is_found(member: Partition) -> None:
    with member._membership.lock:
        member._loops.pin(member.held)  # nobody keeps it
    assert member._membership.handoff.is_pinned
    member._membership.interrupt()
    wait_until(lambda: not member._membership.handoff.is_pinned)


def test_a_lease_that_a_write_finds_lost_is_named_and_looked_after(
    member: Partition, driver: Hooked, caplog: pytest.LogCaptureFixture
) -> None:
    failed = driver.once("publish", LeaseLost("by the test"))
    member.publish_meta({"polls": 1})
    assert failed.wait(60)
    wait_until(lambda: member.state == "settled" and member.records["a"].meta == {"polls": 1})
    assert "the store refused: the lease is lost: by the test" in caplog.text


def test_who_only_watches_says_that_it_is_back_after_its_lease_was_lost(
    member: Partition, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "hashring")
    with hashring.join(url, "group", "watcher", weight=0, ttl=TTL, heartbeat=0.05) as watcher:
        assert watcher.wait_settled(60)
        before = watcher.incarnation
        watcher._membership.driver.leave("group", "watcher")  # the store forgets it
        wait_until(lambda: "watcher: is back in the group, which has 1 member" in caplog.text)
        assert watcher.incarnation != before


def test_a_member_that_has_joined_and_reads_nothing_says_why_it_is_not_settled(
    driver: Hooked,
) -> None:
    asked, answers = threading.Event(), threading.Event()

    def answers_later() -> None:
        asked.set()
        assert answers.wait(60)

    driver.at["read_since"] = answers_later
    with hashring.join(driver, "group", "a") as a:
        assert asked.wait(60)
        assert a.reason == "the first reading of the group is on its way"
        assert (a.view_id, dict(a.members)) == (None, {})
        cycles: list[hashring.Cycle] = []
        loop = a.cycles(0.05)
        waiting = threading.Thread(target=lambda: cycles.append(next(loop)))
        waiting.start()
        wait_until(lambda: loop._loop.thread is not None)
        answers.set()
        waiting.join(60)
        assert list(cycles[0].owned(KEYS)) == KEYS
        loop.close()
        assert a.reason == ""


def test_a_member_that_has_joined_a_store_that_is_away_says_that_it_is(driver: Hooked) -> None:
    def refuses() -> None:
        raise StoreUnavailable("refused")

    driver.at["read_since"] = refuses
    with hashring.join(driver, "group", "a") as a:
        wait_until(lambda: a.store_is_away)
        assert (a.state, a.reason) == ("joining", "the store is away")
        driver.at.clear()
        assert a.wait_settled(60)
        wait_until(lambda: not a.store_is_away)


def test_a_loop_of_a_member_that_is_stopped_before_it_has_settled_ends(driver: Hooked) -> None:
    answers = threading.Event()
    driver.at["read_since"] = lambda: answers.wait(60)
    with hashring.join(driver, "group", "a") as a:
        loop = a.cycles(0.05)
        a.stop()
        assert list(loop) == []
        answers.set()


# ---- who waits for what can never be ---------------------------------------------------------


def test_a_wait_for_the_lead_ends_with_why_the_member_can_never_take_part(
    member: Partition,
) -> None:
    leading = member.leading("report")
    member._worker._fail(GroupMismatch("another ring"))
    with pytest.raises(GroupMismatch), leading:
        raise AssertionError("not reached")


def test_changes_end_with_why_the_member_can_never_take_part(member: Partition) -> None:
    changes = member.changes()
    next(changes)
    member._worker._fail(GroupMismatch("another ring"))
    with pytest.raises(GroupMismatch):
        next(changes)
    assert next(changes, None) is None


def test_a_loop_ends_with_why_the_member_can_never_take_part(member: Partition) -> None:
    loop = member.cycles(0.05)
    next(loop)
    member._worker._fail(GroupMismatch("another ring"))
    with pytest.raises(GroupMismatch):
        next(loop)
    assert next(loop, None) is None


def test_a_block_that_ends_with_such_a_member_leaves_and_raises_nothing_more(url: str) -> None:
    with hashring.join(url, "group", "a", ttl=TTL) as a:
        assert a.wait_settled(60)
        a._worker._fail(GroupMismatch("another ring"))
    assert a.state == "left"
    assert records(url) == set()
