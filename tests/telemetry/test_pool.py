"""Calls that run at once: bounded, each cut off at its deadline, none keeping the others out."""

import logging
import threading
import time

import pytest

from hashring.telemetry.polling.failures import Failures
from hashring.telemetry.polling.pool import Hangs, Pool, TimedOut
from hashring.telemetry.polling.turns import TurnBackoff

SOON = 0.1  # the deadline, in seconds, of a call that is to miss it
LONG = 60.0


class Work:
    """Functions for a pool: they note when they run, and block until they are let go."""

    def __init__(self):
        self.lock = threading.Lock()
        self.running = 0
        self.most = 0
        self.go = threading.Event()

    def block(self, call):
        with self.lock:
            self.running += 1
            self.most = max(self.most, self.running)
        assert self.go.wait(LONG)
        with self.lock:
            self.running -= 1
        return "late"


@pytest.fixture
def work():
    found = Work()
    yield found
    found.go.set()


def seconds(value):
    return lambda: value


def threads(name):
    return [one for one in threading.enumerate() if one.name.startswith(name)]


def test_no_more_calls_run_at_once_than_there_are_threads(work, until):
    with Pool(3) as pool:
        calls = [pool.submit(n, work.block, seconds(LONG)) for n in range(6)]
        until(lambda: work.running == 3, "three run")
        assert not pool.has_room(None)  # three more wait: the next submit would block

        work.go.set()

        assert [call.result() for call in calls] == ["late"] * 6
    assert work.most == 3


def test_what_a_call_raises_is_raised_to_whoever_asked(work):
    def fail(call):
        raise ValueError("level -7")

    with Pool(1) as pool:
        call = pool.submit("a", fail, seconds(LONG))

        with pytest.raises(ValueError, match="-7"):
            call.result()
        assert pool.submit("a", lambda call: 1, seconds(LONG)).result() == 1


def test_a_call_that_hangs_is_given_up_at_its_deadline_and_its_thread_replaced(work):
    with Pool(1) as pool:
        hanging = pool.submit("a", work.block, seconds(SOON))
        next_one = pool.submit("b", lambda call: "polled", seconds(LONG))

        with pytest.raises(TimedOut):
            hanging.result()

        assert next_one.result() == "polled"
        assert pool.hanging == 1
        work.go.set()


def test_the_same_call_is_not_made_again_before_it_came_back(work, until):
    with Pool(2) as pool:
        hanging = pool.submit("a", work.block, seconds(SOON))
        with pytest.raises(TimedOut):
            hanging.result()

        with pytest.raises(Hangs, match="not come back"):
            pool.submit("a", work.block, seconds(SOON))

        work.go.set()
        until(lambda: pool.hanging == 0, "the call is back")
        assert pool.submit("a", lambda call: "again", seconds(LONG)).result() == "again"


def test_what_a_call_that_was_given_up_wants_to_do_later_is_refused(work, until):
    claims = []

    def late(call):
        work.block(call)
        claims.append(call.claim())

    with Pool(1) as pool:
        call = pool.submit("a", late, seconds(SOON))
        with pytest.raises(TimedOut):
            call.result()
        work.go.set()
        until(lambda: claims, "the call is back")

    assert claims == [False]


def test_a_call_that_has_claimed_is_not_given_up(work, until):
    claimed = threading.Event()

    def claiming(call):
        assert call.claim()
        claimed.set()
        return work.block(call)

    with Pool(2) as pool:
        call = pool.submit("a", claiming, seconds(LONG), owner="whoever ends")
        assert claimed.wait(LONG)
        pool.give_up("whoever ends")  # its deadline has passed
        # Another one, which is given up later, shows that this was looked at.
        other = pool.submit("b", work.block, seconds(SOON))
        with pytest.raises(TimedOut):
            other.result()
        assert not call.is_over

        work.go.set()

        assert call.result() == "late"


def test_of_claim_and_deadline_exactly_one_comes_first(until):
    """A claim that succeeds means that the result counts; one that fails, that it does not."""
    outcomes = {}
    for _ in range(20):  # on a busy machine all may come before the deadline, or all after it
        outcomes |= race(until)
        if set(outcomes.values()) == {True, False}:
            return
    pytest.fail(f"in no race both came first: {outcomes}")


def race(until):
    """Let calls claim at about their deadline; return whose result counts."""
    claims = {}

    def racing(call):
        time.sleep(0.002 * call.key)  # spread about the deadline: that is the race
        claims[call.key] = call.claim()

    outcomes = {}
    with Pool(40) as pool:
        calls = [pool.submit(n, racing, seconds(SOON)) for n in range(100)]
        for call in calls:
            try:
                call.result()
                outcomes[call.key] = True
            except TimedOut:
                outcomes[call.key] = False
    until(lambda: len(claims) == len(calls), "all are back")

    assert claims == outcomes
    return outcomes


def test_where_too_many_calls_hang_no_more_are_made_until_one_is_back(work, until):
    with Pool(1) as pool:
        hanging = [pool.submit(n, work.block, seconds(SOON)) for n in range(4)]
        for call in hanging:
            with pytest.raises(TimedOut):
                call.result()

        with pytest.raises(Hangs, match="4 calls hang"):
            pool.submit("another", work.block, seconds(SOON))

        work.go.set()
        until(lambda: pool.hanging == 0, "all are back")
        assert pool.submit("another", lambda call: 1, seconds(LONG)).result() == 1


def test_a_call_that_waits_is_refused_when_no_thread_is_left_for_it(work):
    with Pool(1) as pool:
        hanging = [pool.submit(n, work.block, seconds(SOON)) for n in range(3)]
        # The last hangs once the other one waits for the thread that it has.
        hanging.append(pool.submit(3, work.block, seconds(LONG), owner="the last"))
        waiting = pool.submit("waiting", work.block, seconds(SOON))
        pool.give_up("the last")

        with pytest.raises(Hangs, match="no thread is left"):
            waiting.result()

        assert all(call.is_over for call in hanging)
        work.go.set()


def test_one_share_leaves_threads_to_the_others(work, until):
    with Pool(4) as pool:
        for n in range(3):
            pool.submit(n, work.block, seconds(LONG), share="hanging")
        until(lambda: work.running == 3, "its share is in use")
        assert not pool.has_room("hanging")

        call = pool.submit("b", lambda call: "polled", seconds(LONG), share="other")

        assert call.result() == "polled"
        work.go.set()


def test_a_share_of_which_as_many_hang_as_may_run_is_left_out_and_no_other(work, until):
    with Pool(4) as pool:
        for n in range(3):
            call = pool.submit(n, work.block, seconds(SOON), share="hanging")
        with pytest.raises(TimedOut):
            call.result()
        until(lambda: pool.hanging == 3, "all are given up")

        with pytest.raises(Hangs):
            pool.submit("another", work.block, seconds(SOON), share="hanging")
        assert pool.submit("b", lambda call: 1, seconds(LONG), share="other").result() == 1

        work.go.set()
        until(lambda: pool.hanging == 0, "they are back")
        call = pool.submit("another", lambda call: 2, seconds(LONG), share="hanging")
        assert call.result() == 2


def test_closing_waits_for_the_calls_and_leaves_no_thread(work):
    pool = Pool(3, "closing")
    calls = [pool.submit(n, lambda call: call.key, seconds(LONG)) for n in range(6)]

    pool.close()

    assert [call.result() for call in calls] == list(range(6))
    assert threads("closing") == []
    with pytest.raises(RuntimeError, match="closed"):
        pool.submit("late", work.block, seconds(LONG))


def test_closing_does_not_wait_for_what_was_given_up_whose_thread_ends_with_it(work, until):
    pool = Pool(1, "closing")
    call = pool.submit("a", work.block, seconds(SOON))

    pool.close()

    with pytest.raises(TimedOut):
        call.result()
    assert len(threads("closing")) == 1
    work.go.set()
    until(lambda: threads("closing") == [], "the thread has ended")


def test_whoever_waits_for_room_is_told_that_the_pool_was_closed(work, until):
    pool = Pool(1)
    calls = [pool.submit(n, work.block, seconds(LONG)) for n in range(2)]
    until(lambda: work.running == 1, "one runs, one waits")
    errors = []

    def wait():
        try:
            pool.submit("third", work.block, seconds(LONG))
        except RuntimeError as error:
            errors.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    closing = threading.Thread(target=pool.close)
    closing.start()

    waiting.join()
    work.go.set()
    closing.join()

    assert "closed" in str(errors[0])
    assert [call.result() for call in calls] == ["late"] * 2


def test_a_call_tells_that_it_is_over(work, until):
    over = []
    with Pool(1) as pool:
        given_up = pool.submit("a", work.block, seconds(SOON), over=over.append)
        until(lambda: over, "the first is over")
        back = pool.submit("b", lambda call: 1, seconds(LONG), over=over.append)
        back.result()
        work.go.set()

    assert over == [given_up, back]


def test_each_cause_is_logged_once_and_every_failure_counted(caplog):
    failures = Failures()

    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            failures.add("pollster Levels", OSError("no route"), of="north")
        failures.add("pollster Levels", ValueError("level -7"))
        failures.add("discovery tanks", OSError("no route"))
        failures.count("pollster Levels", "Gone")

    assert len(caplog.records) == 3
    assert "pollster Levels of north failed: OSError: no route" in caplog.text
    assert failures.counts["pollster Levels", "OSError"] == 3
    assert failures.counts["pollster Levels", "Gone"] == 1
    assert failures.total == 5  # that things end is not a failure


def test_a_backoff_grows_and_ends_with_a_success():
    backoff = TurnBackoff()
    turns = []
    for turn in range(40):
        if backoff.is_due("north", turn):
            turns.append(turn)
            backoff.failed("north", turn)

    assert turns == [0, 1, 3, 7, 15, 23, 31, 39]
    assert backoff.is_due("south", 5)
    backoff.worked("north")
    assert backoff.is_due("north", 40)


def test_a_backoff_forgets_what_is_no_longer_called():
    backoff = TurnBackoff()
    backoff.failed("north", 1)
    backoff.failed("south", 1)

    backoff.keep_only(lambda key: key == "south")

    assert len(backoff) == 1
