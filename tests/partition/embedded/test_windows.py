"""Cycles in windows: each key once a window, several loops, spread and jitter."""

import threading
import types

import pytest

from hashring import clock
from tests.partition.embedded.members import KEYS, PATIENCE, settled, until


def test_a_cycle_that_raises_gives_its_slots_back(join):
    a = join("a")
    settled(a)

    with pytest.raises(ZeroDivisionError), a.cycle():
        raise ZeroDivisionError

    b = join("b")
    until(lambda: len(b.members) == 2)
    settled(a, b)


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
