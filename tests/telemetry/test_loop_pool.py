"""Calls on one event loop: thousands at once, each cut off at its deadline, whatever holds it."""

import asyncio
import threading

import pytest
import uvloop

from hashring.telemetry.polling import loop_pool
from hashring.telemetry.polling.loop_pool import LoopPool
from hashring.telemetry.polling.pool import Hangs, TimedOut

SOON = 0.1  # the deadline, in seconds, of a call that is to miss it
LONG = 60.0

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
"""A pool does the same on any loop."""


class Work:
    """Coroutines for a pool: they note when they run, and wait until they are let go."""

    def __init__(self):
        self.lock = threading.Lock()
        self.running = 0
        self.most = 0
        self.cancelled = []
        self.go = threading.Event()  # for what blocks

    async def wait(self, call):
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            while not self.go.is_set():
                await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            self.cancelled.append(call.key)
            raise
        finally:
            self.running -= 1
        return "late"

    async def block(self, call):
        """Hold the loop, as no poll should."""
        self.running += 1
        assert self.go.wait(LONG)
        return "late"


class Taker:
    """Takes what was found; blocks while it is told to."""

    def __init__(self):
        self.taken = []  # the values, as they came together
        self.go = threading.Event()
        self.go.set()
        self.error = None

    def __call__(self, calls):
        self.taken.append([call.value for call in calls])
        assert self.go.wait(LONG)
        for call in calls:
            call.error = self.error

    @property
    def values(self):
        return [value for values in self.taken for value in values]


@pytest.fixture
def work():
    found = Work()
    yield found
    found.go.set()


@pytest.fixture
def taker():
    found = Taker()
    yield found
    found.go.set()


@pytest.fixture(params=LOOPS)
def make(request, work, taker, monkeypatch):
    """Make pools that end with the test."""
    monkeypatch.setattr(loop_pool, "new_loop", LOOPS[request.param])
    made = []

    def pool(most=100, **how):
        found = LoopPool(most, taker, name=f"loop-{len(made)}", **how)
        made.append(found)
        return found

    yield pool
    work.go.set()
    taker.go.set()
    for found in made:
        found.end()


def seconds(value):
    return lambda: value


def let_pass(call):
    """Let the deadline of a call pass."""
    call.deadline = 0.0


async def value_of(call):
    await asyncio.sleep(0)
    return call.key


def threads(name):
    return [one for one in threading.enumerate() if one.name.startswith(name)]


def test_thousands_of_calls_wait_at_once_and_have_no_thread_each(make, work, until):
    pool = make(3000)
    calls = [pool.submit(n, work.wait, seconds(LONG)) for n in range(3000)]
    until(lambda: work.running == 3000, "all run")
    assert not pool.has_room(None)
    assert len(threads("loop-0")) == 3

    work.go.set()

    assert [call.result() for call in calls] == ["late"] * 3000


def test_what_a_call_raises_is_raised_to_whoever_asked_and_nothing_of_it_is_taken(make, taker):
    async def fail(call):
        raise ValueError("level -7")

    pool = make()
    call = pool.submit("a", fail, seconds(LONG))

    with pytest.raises(ValueError, match="-7"):
        call.result()
    pool.submit("a", value_of, seconds(LONG)).result()
    assert taker.values == ["a"]


def test_a_call_that_hangs_is_given_up_at_its_deadline_and_cancelled(make, work, until):
    pool = make()
    call = pool.submit("a", work.wait, seconds(LONG))
    until(lambda: work.running == 1, "it runs")

    let_pass(call)

    with pytest.raises(TimedOut):
        call.result()
    until(lambda: pool.hanging == 0, "it is back")
    assert work.cancelled == ["a"]
    assert pool.submit("a", value_of, seconds(LONG)).result() == "a"


def test_calls_that_are_given_up_before_their_first_step_leave_nothing_behind(make, until):
    pool = make(1000)
    for round_ in range(5):
        calls = [pool.submit((round_, n), value_of, seconds(0.0)) for n in range(200)]
        for call in calls:
            try:
                call.result()
            except TimedOut:
                continue

    until(lambda: pool.hanging == 0, "all are back")
    assert not pool._tasks
    assert not pool._in_hand


def test_what_was_found_is_taken_many_at_once(make, taker, until):
    taker.go.clear()
    pool = make(1000)
    first = pool.submit("first", value_of, seconds(LONG))
    until(lambda: taker.taken, "the first is being taken")
    calls = [pool.submit(n, value_of, seconds(LONG)) for n in range(200)]
    until(lambda: pool._found.qsize() == 200, "the others have been found")

    taker.go.set()

    assert [call.result() for call in (first, *calls)] == ["first", *range(200)]
    assert [len(values) for values in taker.taken] == [1, 200]


def test_whoever_takes_slowly_holds_up_no_call(make, taker, work, until):
    taker.go.clear()
    pool = make()
    pool.submit("slow", value_of, seconds(LONG))
    until(lambda: taker.taken, "it is being taken")

    late = pool.submit("late", work.wait, seconds(SOON))

    with pytest.raises(TimedOut):
        late.result()


def test_what_is_not_taken_by_its_deadline_never_is(make, taker, until):
    taker.go.clear()
    pool = make()
    slow = pool.submit("slow", value_of, seconds(LONG))
    until(lambda: taker.taken, "it is being taken")
    waits = pool.submit("waits", value_of, seconds(LONG))
    until(lambda: pool._found.qsize() == 1, "the other one has been found")

    let_pass(slow)
    let_pass(waits)

    with pytest.raises(TimedOut):
        waits.result()
    assert not slow.is_over  # one that is being taken is not given up
    taker.go.set()

    assert slow.result() == "slow"
    until(lambda: pool.hanging == 0, "the other one is back")
    assert taker.values == ["slow"]


def test_what_a_taker_refuses_or_breaks_on_is_raised_to_whoever_asked(make, taker):
    taker.error = OSError("the disk is full")
    pool = make()

    with pytest.raises(OSError, match="full"):
        pool.submit("a", value_of, seconds(LONG)).result()

    def broken(calls):
        raise RuntimeError("a mistake")

    pool._take = broken
    with pytest.raises(RuntimeError, match="a mistake"):
        pool.submit("a", value_of, seconds(LONG)).result()


def test_a_call_that_holds_the_loop_delays_nobody_past_their_deadlines(
    make, work, until, monkeypatch, caplog
):
    pool = make()
    holding = pool.submit("holds", work.block, seconds(LONG))
    until(lambda: work.running == 1, "the loop is held")
    other = pool.submit("other", value_of, seconds(LONG))

    monkeypatch.setattr(loop_pool, "_STUCK", SOON)
    for call in (holding, other):
        let_pass(call)
        with pytest.raises(TimedOut):
            call.result()
    assert pool.hanging == 2
    until(lambda: "has not turned" in caplog.text, "somebody says so")
    assert pool.has_room(None)
    with pytest.raises(Hangs, match="holds the event loop"):
        pool.submit("another", value_of, seconds(LONG))

    monkeypatch.undo()
    work.go.set()
    until(lambda: pool.hanging == 0 and not pool._is_stuck, "the loop turns again")
    assert pool.submit("another", value_of, seconds(LONG)).result() == "another"


def test_the_same_call_is_not_made_again_before_it_came_back(make, work, until):
    pool = make()
    hanging = pool.submit("a", work.block, seconds(LONG))
    until(lambda: work.running == 1, "it runs")
    let_pass(hanging)
    with pytest.raises(TimedOut):
        hanging.result()

    with pytest.raises(Hangs, match="not come back"):
        pool.submit("a", value_of, seconds(LONG))

    work.go.set()
    until(lambda: pool.hanging == 0, "it is back")
    assert pool.submit("a", value_of, seconds(LONG)).result() == "a"


def test_one_share_leaves_room_to_the_others(make, work, until):
    pool = make(4)
    for n in range(3):
        pool.submit(n, work.wait, seconds(LONG), share="slow")
    until(lambda: work.running == 3, "its share is in use")

    assert not pool.has_room("slow")
    assert pool.has_room("other")


def test_calls_are_given_up_for_one_owner_alone(make, work, until):
    pool = make()
    one, other = object(), object()
    mine = pool.submit("mine", work.wait, seconds(LONG), owner=one)
    yours = pool.submit("yours", work.wait, seconds(LONG), owner=other)
    until(lambda: work.running == 2, "both run")

    pool.give_up(one)

    with pytest.raises(TimedOut):
        mine.result()
    assert not yours.is_over


def test_each_step_of_a_call_is_noted_and_its_work_in_threads_but_not_its_waiting(
    make, work, until
):
    noted, over = {}, []  # by place: the call's key, and the thread

    def note(call):
        noted[len(noted) + 1] = call.key, threading.current_thread().name
        return len(noted)

    def is_noted_now():
        return [noted[place] for place in noted if place not in over]

    seen = []

    async def steps(call):
        seen.append(is_noted_now())
        await asyncio.to_thread(lambda: seen.append(is_noted_now()))
        await work.wait(call)

    pool = make(note=note, noted=over.append)
    call = pool.submit("a", steps, seconds(LONG))
    until(lambda: work.running == 1, "it waits")

    assert seen[0] == [("a", "loop-0")]
    assert ("a", "loop-0-work") in seen[1]  # the step that asked for it may not be over yet
    until(lambda: not is_noted_now(), "nothing is noted while it waits")  # between two steps
    work.go.set()
    assert call.result() is None


def test_closing_waits_for_the_calls_and_ending_leaves_no_thread(make, work):
    pool = make()
    calls = [pool.submit(n, value_of, seconds(LONG)) for n in range(6)]

    pool.close()

    assert [call.result() for call in calls] == list(range(6))
    with pytest.raises(RuntimeError, match="closed"):
        pool.submit("late", value_of, seconds(LONG))
    assert threads("loop-0")  # whoever has connections on the loop closes them now
    pool.end()
    assert threads("loop-0") == []


def test_a_look_up_or_computation_that_hangs_keeps_no_process_from_ending(make, work, until):
    async def computes(call):
        await asyncio.to_thread(work.go.wait, LONG)

    pool = make()
    call = pool.submit("a", computes, seconds(SOON))
    with pytest.raises(TimedOut):
        call.result()
    until(lambda: pool.hanging == 0, "the call is back: its thread is not waited for")

    pool.end()

    assert all(thread.daemon for thread in threads("loop-0"))
