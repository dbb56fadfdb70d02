"""Partition: the hand-off on a driver, with threads and clocks. The stores here are embedded."""

import contextlib
import os
import re
import subprocess
import sys
import threading
import time
import types
import uuid

import pytest

import hashring
from hashring import clock
from hashring.driver import DriverURL
from hashring.drivers.memory import MemoryDriver
from hashring.errors import (
    BadArgument,
    BadURL,
    GroupMismatch,
    HashringError,
    LeaseLost,
    MemberExists,
    StoreUnavailable,
)
from hashring.protocol.record import Member

KEYS = [f"resource-{number}" for number in range(500)]
ALL = 65536  # slots
TTL = 10.0
"""Seconds: longer than a busy machine stands still. A test of the fence has a lease of its own."""
PATIENCE = 60.0  # seconds


def until(condition, seconds=PATIENCE):
    """Wait for a condition; say which one never came."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.005)
    raise AssertionError(f"not within {seconds} s: {condition}")


@pytest.fixture
def url():
    return f"memory://{uuid.uuid4().hex}"


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    before = set(threading.enumerate())
    yield
    until(lambda: not [t for t in threading.enumerate() if t not in before and t.is_alive()])


@pytest.fixture
def join(url):
    with contextlib.ExitStack() as stack:

        def joined(member, **options):
            where = options.pop("url", url)
            if isinstance(where, str):
                options.setdefault("ttl", TTL)
            partition = hashring.join(where, "group", member, **options)
            stack.callback(partition.leave)
            return partition

        yield joined


class Flaky(MemoryDriver):
    """The memory store behind a network that can be cut."""

    def __init__(self, url, *, ttl):
        super().__init__(url, ttl=ttl)
        self.down = False

    def _reach(self):
        if self.down:
            raise StoreUnavailable("cut by the test")

    def heartbeat(self):
        self._reach()
        super().heartbeat()

    def read(self, group):
        self._reach()
        return super().read(group)

    def publish(self, group, member, record):
        self._reach()
        super().publish(group, member, record)

    def join(self, group, member, record):
        self._reach()
        super().join(group, member, record)

    def wait(self, group, timeout):
        self._reach()
        super().wait(group, timeout)


def settled(*partitions):
    for partition in partitions:
        assert partition.wait_settled(PATIENCE), partition


def test_members_share_the_keys_and_none_is_held_twice(join):
    partitions = [join(name) for name in "abc"]
    until(lambda: all(len(p.members) == 3 and p.state == "settled" for p in partitions))

    shares = [partition.owned(KEYS) for partition in partitions]

    assert sorted(key for share in shares for key in share) == sorted(KEYS)
    assert all(
        partition.owns(key)
        for partition, share in zip(partitions, shares, strict=True)
        for key in share
    )
    assert dict(partitions[0].members) == {"a": 1.0, "b": 1.0, "c": 1.0}
    assert len({partition.view_id for partition in partitions}) == 1


def test_weights_divide_the_slots(join):
    light, heavy = join("light"), join("heavy", weight=3.0)
    until(lambda: len(light.members) == len(heavy.members) == 2)
    settled(light, heavy)

    assert 0.2 < len(light.held) / 65536 < 0.3


def test_leaving_the_block_drains(join, url):
    stays = join("stays")
    settled(stays)

    with hashring.join(url, "group", "goes", ttl=TTL) as goes:
        until(lambda: len(stays.members) == 2)
        settled(stays, goes)
        assert len(stays.held) < 65536

    assert goes.state == "left"
    assert "goes" not in until(lambda: stays.records.keys() == {"stays"} and stays.records)
    settled(stays)
    assert len(stays.held) == 65536


def test_when_drain_returns_the_others_have_taken_over(join):
    a, b = join("a"), join("b")
    until(lambda: len(a.members) == len(b.members) == 2)
    settled(a, b)

    assert a.drain(PATIENCE)

    assert len(a.held) == 0
    until(lambda: len(b.held) == ALL)  # the store has its mark before it is told so itself


def test_the_same_member_twice_is_refused_and_the_first_goes_on(join):
    first = join("a")

    with pytest.raises(MemberExists, match="a"):
        join("a")

    settled(first)
    assert len(first.held) == 65536


def test_a_killed_process_frees_its_id_when_its_lease_has_run_out(tmp_path):
    url = f"sqlite://{tmp_path}/group.db?ttl=6"  # longer than the machine stands still
    holder = subprocess.Popen(
        [sys.executable, "-c", "import hashring, sys, time\n"
         "with hashring.join(sys.argv[1], 'group', 'a') as p:\n"
         "    p.wait_settled(); print('held', flush=True); time.sleep(60)", url],
        stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    with holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(MemberExists, match="a"):
            hashring.join(url, "group", "a")
        holder.kill()

    def again():
        try:
            return hashring.join(url, "group", "a")
        except MemberExists:
            return None

    with until(again) as partition:
        settled(partition)
        assert len(partition.held) == 65536


def test_another_ring_is_refused_at_join_and_names_both(join):
    a = join("a")
    settled(a)

    with pytest.raises(GroupMismatch, match=r"slots=1024|slots=65536"):
        join("b", ring=hashring.HashRing(slots=1024))

    settled(a)
    assert set(a.records) == {"a"}


def test_another_ttl_is_refused(join):
    settled(join("a"))

    with pytest.raises(GroupMismatch, match="ttl"):
        join("b", ttl=6.0)


def test_an_unknown_store_or_bad_argument_is_an_error_before_anything_starts(url):
    with pytest.raises(hashring.UnknownDriver, match="sqlite"):
        hashring.join("nowhere://x", "group")
    with pytest.raises(BadURL):
        hashring.join("nowhere", "group")
    for options in (
        {"weight": -1},
        {"weight": "1"},
        {"ttl": 0},
        {"handoff": "soon"},
        {"member": ""},
    ):
        with pytest.raises(ValueError, match=next(iter(options))):
            hashring.join(url, "group", **options)
    with pytest.raises(ValueError, match="group"):
        hashring.join(url, "")


def test_the_ttl_may_stand_in_the_url_but_not_in_both(url):
    with hashring.join(f"{url}?ttl=4", "group") as partition:
        assert partition.ttl == 4.0
    with pytest.raises(BadURL, match="ttl"):
        hashring.join(f"{url}?ttl=4", "group", ttl=5.0)


def test_a_ttl_that_is_given_counts_also_where_it_is_the_default(url):
    with pytest.raises(BadURL, match=r"the URL says ttl=4 and the argument ttl=10"):
        hashring.join(f"{url}?ttl=4", "group", ttl=10.0)
    with pytest.raises(BadArgument, match=r"the driver has ttl=5.0 and the argument is 10"):
        hashring.join(MemoryDriver(DriverURL.parse(url), ttl=5.0), "group", ttl=10.0)
    with hashring.join(f"{url}?ttl=4", "group", ttl=4) as both:
        assert both.ttl == 4.0


def test_a_ttl_that_nobody_gives_is_ten_seconds_or_the_drivers(url):
    with hashring.join(url, "group") as neither:
        assert neither.ttl == 10.0
    with hashring.join(MemoryDriver(DriverURL.parse(url), ttl=5.0), "other group") as drivers:
        assert drivers.ttl == 5.0


def test_meta_is_published_and_must_be_json(join):
    a = join("a", meta={"host": "x1"})
    settled(a)

    assert a.records["a"].meta["host"] == "x1"
    with pytest.raises(HashringError, match="meta"):
        join("b", meta={"host": object()})


def test_meta_can_be_replaced_while_slots_are_held(join):
    a, b = join("a", meta={"polls": 1}), join("b")
    until(lambda: len(a.members) == len(b.members) == 2)
    settled(a, b)
    held = a.held

    a.publish_meta({"polls": 2})

    until(lambda: b.records["a"].meta == {"polls": 2})
    assert a.held == held
    settled(a, b)


def test_a_meta_that_cannot_be_published_is_refused_and_the_old_one_stays(join):
    a = join("a", meta={"polls": 1})
    settled(a)

    for wrong in ({"polls": object()}, {"polls": "x" * 70_000}, {"hashring": 1}, ["polls"]):
        with pytest.raises(HashringError, match="meta"):
            a.publish_meta(wrong)
    a.publish_meta({"polls": 1, "last": True})  # were an earlier one kept, this would not arrive

    until(lambda: a.records["a"].meta == {"polls": 1, "last": True})


def test_a_meta_given_while_the_store_is_away_arrives_when_it_is_back(join, url):
    driver = Flaky(DriverURL.parse(url), ttl=TTL)
    a, b = join("a", url=driver), join("b")
    settled(a, b)
    driver.down = True

    a.publish_meta({"polls": 2})
    driver.down = False

    until(lambda: b.records["a"].meta == {"polls": 2})


def test_heartbeats_come_as_often_as_asked(join, url):
    class Counting(Flaky):
        beats = 0

        def heartbeat(self):
            super().heartbeat()
            self.beats += 1

    often = Counting(DriverURL.parse(url), ttl=600.0)
    join("often", url=often, heartbeat=0.02)

    # A third of the ttl would be more than three minutes.
    until(lambda: often.beats >= 5)


def test_heartbeats_are_never_further_apart_than_a_third_of_the_ttl(join):
    a = join("a", ttl=0.6, heartbeat=3600)

    def beats_of_its_own():
        # Each lease begins with one: where the machine stands still there are several.
        calls = a.store_calls
        return calls["heartbeat"].timing.count - calls["join"].timing.count

    until(lambda: beats_of_its_own() >= 3)
    until(lambda: len(a.held) == ALL)


@pytest.mark.parametrize("heartbeat", [0, -1, float("nan"), float("inf"), "1", True])
def test_a_heartbeat_that_is_no_time_is_refused(url, heartbeat):
    with pytest.raises(BadArgument, match="heartbeat must be a number"):
        hashring.join(url, "group", "a", heartbeat=heartbeat)


def test_a_cycle_pins_its_slots_until_it_ends(join):
    a = join("a")
    settled(a)

    with a.cycle() as cycle:
        b = join("b")
        until(lambda: len(a.members) == len(b.members) == 2)
        mine = set(cycle.owned(KEYS))
        assert mine == set(KEYS)
        assert not b.wait_settled(0.3)
        assert len(b.held) == 0
        assert cycle.valid

    assert not cycle.valid
    settled(a, b)
    assert len(a.held) + len(b.held) == 65536


def test_a_cycle_that_raises_gives_its_slots_back(join):
    a = join("a")
    settled(a)

    with pytest.raises(ZeroDivisionError), a.cycle():
        raise ZeroDivisionError

    b = join("b")
    until(lambda: len(b.members) == 2)
    settled(a, b)


def flaky(url, ttl):
    return Flaky(DriverURL.parse(url), ttl=ttl)


def test_a_store_that_is_away_fences_and_one_that_comes_back_restores_the_share(join, url):
    driver = flaky(url, 2.0)
    a = join("a", url=driver)
    settled(a)

    driver.down = True
    until(lambda: a.state == "fenced")
    before = (a.incarnation, a._membership.handoff.lease_number)
    assert len(a.held) == 0
    assert a.owned(KEYS) == []
    driver.down = False

    until(lambda: a.state == "settled" and len(a.held) == ALL)
    # Back within the last tenth of the lease it is the same membership; later it is a new one.
    with a._membership.lock:
        after = (a.incarnation, a._membership.handoff.lease_number)
    assert (after[0] == before[0]) == (after[1] == before[1])


def test_a_drain_waits_for_a_store_that_is_away_for_a_part_of_the_lease_only(
    url, join, monkeypatch
):
    monkeypatch.setattr("hashring.partition.worker._AWAY", 0.01)
    driver = Flaky(DriverURL.parse(url), ttl=60.0)
    partition = join("a", url=driver)
    settled(partition)
    driver.down = True
    fence = partition.deadline

    assert not partition.drain(600)

    assert partition.state == "left"
    assert clock.boottime() < fence, "it waited for the fence"


def test_an_expired_member_comes_back_as_another_incarnation(join, url):
    driver = flaky(url, 1.0)
    a = join("a", url=driver)
    b = join("b", ttl=1.0)
    until(lambda: len(a.members) == len(b.members) == 2)
    settled(a, b)
    before = a.incarnation

    driver.down = True
    until(lambda: set(b.members) == {"b"} and len(b.held) == ALL)
    assert len(a.held) == 0
    driver.down = False

    until(
        lambda: (
            set(b.members) == {"a", "b"}
            and a.state == b.state == "settled"
            and len(a.held) + len(b.held) == ALL
        )
    )
    assert a.incarnation != before


def test_a_slow_iteration_stops_at_the_fence(join, url):
    driver = flaky(url, 1.0)
    a = join("a", url=driver)
    settled(a)
    polled = []

    with a.cycle() as cycle:
        driver.down = True
        for key in cycle.owned(KEYS):
            polled.append(key)
            if len(polled) == 3:
                until(lambda: clock.boottime() > a.deadline)

    assert len(polled) <= 3  # fewer where the machine stood still before
    assert not cycle.valid
    driver.down = False


def test_a_cycle_that_was_fenced_stays_invalid(join, url):
    driver = flaky(url, 1.5)
    a = join("a", url=driver)
    settled(a)

    with a.cycle() as cycle:
        driver.down = True
        until(lambda: not cycle.valid)
        driver.down = False
        until(lambda: len(a.held) == 65536)
        assert not cycle.valid
        assert list(cycle.owned(KEYS)) == []


def test_a_fork_holds_nothing(join):
    a = join("a")
    settled(a)

    child = os.fork()
    if child == 0:
        os._exit(0 if not a.owned(KEYS) and a.drain(0) else 1)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert a.owned(KEYS) == KEYS


def test_a_fork_while_the_lock_is_held_hangs_nowhere(join):
    a = join("a")
    settled(a)

    with a._membership.lock:
        child = os.fork()
        if child == 0:
            threading.Thread(target=_exit_if_all_end, args=(a,)).start()
            time.sleep(30)
            os._exit(1)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def _exit_if_all_end(partition):
    assert partition.state == "left"
    assert not partition.wait_settled(5)
    with contextlib.suppress(LeaseLost):
        partition.cycles(1)
        os._exit(2)
    with contextlib.suppress(LeaseLost), partition.cycle():
        os._exit(3)
    partition.leave()
    os._exit(0)


def test_leave_is_idempotent_and_ends_cycles(join):
    a = join("a")
    settled(a)
    windows = a.cycles(0.05)
    next(windows)

    a.leave()
    a.leave()

    assert list(windows) == []
    assert a.state == "left"
    assert a.owned(KEYS) == []
    assert not a.drain()  # nobody took over
    assert not a.wait_settled(0.1)


def test_windows_come_in_order_and_aligned(join):
    a = join("a")

    found = []
    for cycle in a.cycles(0.2):
        found.append(cycle.window)
        assert cycle.window <= clock.wall() / 0.2
        assert cycle.owned(KEYS)[:] == KEYS
        assert cycle.token == (a.view_id, a.incarnation, cycle.window)
        if len(found) == 4:
            break

    assert found == sorted(set(found))


def test_break_closes_the_loop_so_that_slots_can_be_handed_over(join):
    a = join("a")
    for _ in a.cycles(60):
        break

    b = join("b")
    until(lambda: len(b.members) == 2)

    settled(a, b)


class Polls(list):
    """The polls of a loop, and how many windows it skipped because the machine was too busy."""

    late = 0


def polls_of(partition, interval, keys=KEYS, **options):
    """Run a loop over windows in a thread; the list fills with (key, window)."""
    polls = Polls()

    def loop():
        cycles = partition.cycles(interval, **options)
        for cycle in cycles:
            polls.late = cycles.missed
            polls.extend((key, cycle.window) for key in cycle.owned(keys))

    thread = threading.Thread(target=loop)
    thread.start()
    return polls, thread


def assert_exactly_once(polls, keys=KEYS, late=0):
    windows = sorted({window for _, window in polls})
    due = {(key, window) for window in windows[:-1] for key in keys}
    done = [poll for poll in polls if poll[1] != windows[-1]]
    assert len(done) == len(set(done)), "repeated"
    assert set(done) == due or late, "missed"


def test_each_key_is_polled_once_a_window_through_a_join_and_a_drain(join):
    a, b = join("a"), join("b")
    until(lambda: len(a.members) == len(b.members) == 2)
    settled(a, b)
    logs = [polls_of(a, 1.0), polls_of(b, 1.0)]
    until(lambda: len({window for _, window in logs[0][0]}) >= 3)

    c = join("c")
    logs.append(polls_of(c, 1.0))
    until(lambda: len({window for _, window in logs[2][0]}) >= 3)
    assert a.drain(PATIENCE)
    reached = max(window for _, window in logs[1][0])
    until(lambda: max(window for _, window in logs[1][0]) >= reached + 2)
    b.stop(), c.stop()

    for _, thread in logs:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    last = min(max(window for _, window in log) for log, _ in logs[1:])
    polls = [poll for log, _ in logs for poll in log if poll[1] <= last]
    assert_exactly_once(polls, late=sum(log.late for log, _ in logs))


def test_several_intervals_run_side_by_side(join):
    a = join("a")
    settled(a)
    quick, first = polls_of(a, 0.2, KEYS[:5])
    slow, second = polls_of(a, 0.5, KEYS[:5])
    again, third = polls_of(a, 0.5, KEYS[:5], name="another source")
    until(lambda: len(slow) >= 15 and len(again) >= 15)
    a.stop()

    for thread in (first, second, third):
        thread.join(PATIENCE)
    for polls in (quick, slow, again):
        assert_exactly_once(polls, KEYS[:5], polls.late)


def test_a_spread_loop_yields_each_key_at_its_own_moment(join):
    a = join("a")
    settled(a)
    cycles = a.cycles(1.0)
    next(cycles)
    cycle = next(cycles)

    moments = {key: clock.wall() - cycle.start for key in cycle.owned(KEYS[:40], spread=0.5)}

    assert set(moments) == set(KEYS[:40])
    assert list(moments.values()) == sorted(moments.values())
    again = next(cycles).owned(KEYS[:40], spread=0.5)
    assert again[:] == list(moments)
    a.stop()
    assert list(again) == again[:]  # a member that is asked to leave does not wait


def test_spread_needs_a_window_and_a_fraction(join):
    a = join("a")
    with a.cycle() as cycle:
        with pytest.raises(ValueError, match="window"):
            cycle.owned(KEYS, spread=0.5)
        with pytest.raises(ValueError, match="spread"):
            cycle.owned(KEYS, spread=2)


def test_objects_are_owned_by_their_key(join):
    a = join("a")
    settled(a)

    with a.cycle() as cycle:
        assert cycle.owned([{"id": "x"}], key=lambda item: item["id"])[:] == [{"id": "x"}]
        assert cycle.owns("x")


def test_jitter_loses_no_window(join, monkeypatch):
    longest = types.SimpleNamespace(random=lambda: 0.999)
    monkeypatch.setattr("hashring.partition.loops.random", longest)
    a = join("a")
    settled(a)
    windows = []

    def in_a_row():
        return len(windows) >= 4 and windows[-1] - windows[-4] == 3

    with a.cycles(0.4, jitter=0.8) as cycles:
        until(lambda: windows.append(next(cycles).window) or in_a_row())

    skipped = windows[-1] - windows[0] + 1 - len(windows)
    assert skipped == cycles.missed  # by a busy machine, not by the jitter


def test_a_loop_that_nobody_iterates_blocks_no_hand_over(join):
    a = join("a")
    settled(a)
    polls, thread = polls_of(a, 0.2)
    idle = a.cycles(0.3)
    until(lambda: polls)

    b = join("b")
    until(lambda: len(b.members) == 2)

    settled(b)
    assert len(b.held) > 0
    assert idle.missed == 0
    a.stop()
    thread.join(PATIENCE)


@pytest.mark.parametrize("name", ["disks #1", " #", "every 0.1 s"])
def test_a_named_loop_goes_on_where_it_stopped_whatever_its_name_looks_like(join, name):
    a = join("a", ttl=0.5)
    settled(a)
    with a.cycles(0.1, name=name) as loop:
        window = next(loop).window
    with a.cycles(0.1) as unnamed:
        next(unnamed)
        # A second unnamed one makes the member forget such as are closed and long over.
        until(lambda: clock.wall() > (window + 1) * 0.1 + 0.6)
        a.cycles(0.1).close()

    with a.cycles(0.1, name=name) as again:
        assert again._loop.stream is loop._loop.stream
        assert again._loop.stream is not unnamed._loop.stream


def test_a_second_unnamed_loop_is_forgotten_once_it_is_over(join):
    a = join("a", ttl=0.5)
    settled(a)
    with a.cycles(0.1) as first:
        next(first)
        with a.cycles(0.1) as second:
            next(second)
        assert second._loop.stream is not first._loop.stream

        def forgotten():
            a.cycles(0.1).close()
            return second._loop.stream not in a._loops._streams.values()

        until(forgotten)


def test_a_named_loop_that_an_exception_leaves_does_not_hold_up_the_drain(join):
    b = join("b")
    settled(b)

    a = join("a")
    until(lambda: len(b.members) == 2 and b.state == a.state == "settled")
    loop = a.cycles(60)

    def work():
        with a:
            for _ in loop:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()

    assert a.drain()  # it was handed over
    assert next(loop, None) is None
    settled(b)
    assert len(b.held) == 65536


def test_a_drain_inside_the_own_cycle_does_not_wait_for_itself(join):
    a, b = join("a"), join("b")
    until(lambda: len(a.members) == len(b.members) == 2)
    settled(a, b)

    with a.cycle() as cycle:
        assert a.drain(PATIENCE)
        assert not cycle.valid

    until(lambda: len(b.held) == ALL)


def test_a_drain_that_is_interrupted_leaves_all_the_same(join, monkeypatch):
    a, b = join("a"), join("b")
    until(lambda: len(a.members) == len(b.members) == 2)
    settled(a, b)

    def interrupted(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(a._membership.ended, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        a.drain(PATIENCE)

    assert a.state == "left"
    until(lambda: len(b.held) == 65536)


def test_a_drain_may_be_given_all_the_time_in_the_world(join):
    a = join("a")
    settled(a)

    assert a.drain(float("inf"))
    assert a.drain()  # and says so again


def test_a_join_whose_answer_is_lost_leaves_no_ghost(url):
    class LosesTheAnswer(Flaky):
        def join(self, group, member, record):
            super().join(group, member, record)
            raise StoreUnavailable("the answer was lost")

    with pytest.raises(StoreUnavailable):
        hashring.join(LosesTheAnswer(DriverURL.parse(url), ttl=5.0), "group", "a")

    looker = MemoryDriver(DriverURL.parse(url), ttl=5.0)
    looker.open()
    assert looker.read("group").records == {}
    looker.close()


def test_a_member_whose_id_another_process_took_gives_up(join, url):
    driver = flaky(url, 0.5)
    a = join("a", url=driver)
    settled(a)
    driver.down = True
    # The other one's lease does not end: its heartbeats might come late on a busy machine.
    other = MemoryDriver(DriverURL.parse(url), ttl=600.0)
    other.open()
    spec = hashring.HashRing().spec
    record = Member(id="a", incarnation="i", weight=1.0, ring=spec, ttl=0.5).to_json()

    def taken():
        with contextlib.suppress(MemberExists):
            other.join("group", "a", record)
            return True

    until(taken)
    driver.down = False

    with pytest.raises(MemberExists):
        a.wait_settled(PATIENCE)

    assert other.read("group").records == {"a": record}
    other.close()


def test_bad_arguments_of_cycles_are_errors(join):
    a = join("a")

    for options in (
        {"interval": 0},
        {"interval": 1, "jitter": 2},
        {"interval": 1, "on_crash": "x"},
    ):
        with pytest.raises(ValueError, match="|".join(options)):
            a.cycles(**options)


def test_an_interval_can_change_while_it_runs(join):
    a = join("a")
    settled(a)
    with a.cycles(0.2) as cycles:
        first = next(cycles)
        cycles.interval = 0.1
        second = next(cycles)

    assert second.start >= first.start + 0.2 - 1e-6
    assert second.interval == 0.1


def test_jitter_delays_within_the_window(join):
    a = join("a")
    settled(a)

    with a.cycles(0.4, jitter=0.5) as cycles:
        for _ in range(3):
            cycle = next(cycles)
            assert cycle.start <= clock.wall()


def test_a_mismatch_that_shows_up_later_is_raised_wherever_the_member_asks(join, url):
    stranger = MemoryDriver(DriverURL.parse(url), ttl=TTL)
    stranger.open()
    spec = hashring.HashRing().spec
    record = Member(id="a", incarnation="i", weight=1.0, ring=spec, ttl=TTL)
    stranger.join("group", "a", record.to_json())  # has just joined, and holds nothing yet

    b = join("b", ttl=6.0)

    with pytest.raises(GroupMismatch, match="ttl"):
        b.wait_settled(PATIENCE)
    for ask in (lambda: b.owns("x"), lambda: b.owned(KEYS), lambda: b.cycles(1)):
        with pytest.raises(GroupMismatch):
            ask()
    assert b.state == "left"
    assert set(stranger.read("group").records) == {"a"}
    stranger.close()


def test_a_lost_lease_that_the_driver_reports_is_recovered_from(join, url):
    class Forgetful(Flaky):
        lost = False

        def heartbeat(self):
            if self.lost:
                self.lost = False
                raise LeaseLost("by the test")
            super().heartbeat()

    driver = Forgetful(DriverURL.parse(url), ttl=1.0)
    a = join("a", url=driver)
    settled(a)

    driver.lost = True
    until(lambda: not driver.lost)

    until(lambda: a.state == "settled" and len(a.held) == 65536)


def test_a_defect_in_a_driver_is_logged_and_survived(join, url, caplog):
    class Broken(Flaky):
        broken = False

        def read(self, group):
            if self.broken:
                self.broken = False
                raise RuntimeError("a defect")
            return super().read(group)

    driver = Broken(DriverURL.parse(url), ttl=TTL)
    a = join("a", url=driver)
    settled(a)

    driver.broken = True

    until(lambda: "a defect" in caplog.text)
    until(lambda: a.state == "settled")


def test_a_record_that_is_garbage_is_reported_and_blocks_gains(join, url, caplog):
    a = join("a")
    settled(a)
    stranger = MemoryDriver(DriverURL.parse(url), ttl=TTL)
    stranger.open()
    stranger.join("group", "stranger", b"garbage")

    b = join("b")
    until(lambda: "stranger" in b.problems)
    assert not b.wait_settled(0.3)
    assert len(b.held) == 0
    stranger.leave("group", "stranger")
    stranger.close()

    settled(b)
    assert "stranger" in caplog.text


def test_a_quick_loop_catches_up_on_what_a_slow_one_may_have_held_up(join):
    partition = join("m")
    quick = partition.cycles(1.0)
    assert quick._loop.stream.catch_up == max(1.0, partition.ttl)

    slow = partition.cycles(60.0)

    assert quick._loop.stream.catch_up == slow._loop.stream.catch_up == 60.0 + partition.ttl
    quick.close()
    slow.close()


@pytest.fixture
def wall(monkeypatch):
    """A wall clock that the test steps."""

    class Wall:
        offset = 0.0

    real = clock.wall
    monkeypatch.setattr(clock, "wall", lambda: real() + Wall.offset)
    return Wall


def test_a_wall_clock_that_steps_back_an_hour_is_named_and_work_goes_on_at_once(join, wall, caplog):
    a = join("a", ttl=5.0)
    settled(a)
    cycles = a.cycles(0.2)
    before = next(cycles)

    wall.offset = -3600.0
    after = next(cycles)

    assert after.window == pytest.approx(before.window - 18_000, abs=100)
    assert len(after.slots) == 65536
    assert next(cycles).window == after.window + 1 + cycles.missed
    assert a.clock_steps == 1
    assert a.clock_step == pytest.approx(-3600.0, abs=1.0)
    assert re.search(r"the wall clock has stepped back by (3599|3600)\.\d s", caplog.text)


def test_a_wall_clock_that_steps_forth_is_named_and_the_windows_between_are_skipped(
    join, wall, caplog
):
    a = join("a", ttl=5.0)
    settled(a)
    cycles = a.cycles(0.2)
    before = next(cycles)

    wall.offset = 3600.0
    after = next(cycles)

    assert after.window == pytest.approx(before.window + 18_000, abs=100)
    assert cycles.missed == after.window - before.window - 1
    assert a.clock_steps == 1
    assert re.search(r"the wall clock has stepped forth by (3599|3600)\.\d s", caplog.text)


def test_a_member_without_loops_names_a_step_of_the_clock_too(join, wall):
    a = join("a", ttl=5.0)
    settled(a)

    wall.offset = -3600.0

    until(lambda: a.clock_steps)


def test_a_small_step_of_the_wall_clock_is_no_event(join, wall):
    a = join("a", ttl=60.0)
    settled(a)
    cycles = a.cycles(0.2)
    window = next(cycles).window

    wall.offset = -0.3

    assert next(cycles).window == window + 1 + cycles.missed
    assert a.clock_steps == 0


def test_keys_that_are_spread_over_a_window_do_not_wait_for_a_clock_that_stepped_back(join, wall):
    a = join("a", ttl=5.0)
    settled(a)
    loop = a.cycles(1.0)
    cycle = next(loop)
    keys = iter(cycle.owned(KEYS, spread=0.5))
    next(keys)

    wall.offset = -3600.0

    assert len(list(keys)) == len(KEYS) - 1  # it ends, and in this window


def test_slots_change_hands_after_the_clocks_of_all_have_stepped_back(join, wall):
    a = join("a", ttl=5.0)
    settled(a)
    loop = a.cycles(0.2)
    next(loop)
    wall.offset = -3600.0
    next(loop)

    b = join("b", ttl=5.0)
    others = b.cycles(0.2)
    until(lambda: next(loop) and b.state == "settled" and a.state == "settled")
    first = until(lambda: next(loop) and (cycle := next(others)).slots and cycle)

    assert first.start == pytest.approx(clock.wall(), abs=60.0)
    assert a.held.isdisjoint(b.held)
