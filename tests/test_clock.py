"""The wall clock against the one that never steps."""

import pytest

from hashring import clock
from hashring.clock import Steps


def looks(steps, *moments):
    return [steps.look(local=local, wall=wall) for local, wall in moments]


@pytest.mark.parametrize("step", [3600.0, -3600.0, 5.1, -5.1])
def test_a_step_is_told_once(step):
    steps = Steps(5.0)

    told = looks(
        steps, (10.0, 1000.0), (11.0, 1001.0), (12.0, 1002.0 + step), (13.0, 1003.0 + step)
    )

    assert told == [None, None, pytest.approx(step), None]
    assert (steps.count, steps.latest) == (1, pytest.approx(step))


def test_a_step_within_the_bound_is_none():
    steps = Steps(5.0)

    assert looks(steps, (10.0, 1000.0), (11.0, 997.0), (12.0, 1005.0)) == [None] * 3
    assert (steps.count, steps.latest) == (0, None)


def test_several_small_steps_one_way_add_up():
    steps = Steps(5.0)

    told = looks(steps, *((10.0 + n, 1000.0 + n - 2.0 * n) for n in range(4)))

    assert told[:3] == [None] * 3
    assert told[3] == pytest.approx(-6.0, abs=0.01)


def test_a_clock_that_is_corrected_slowly_never_steps():
    steps = Steps(5.0)

    # 500 ppm, as NTP corrects: an hour's worth of looks makes 18 s in ten hours.
    told = looks(steps, *((n * 100.0, n * 100.0 * 1.0005) for n in range(360)))

    assert set(told) == {None}


def test_the_clocks_of_this_machine_agree(monkeypatch):
    steps = Steps(60.0)
    steps.look_now()
    before = clock.wall()

    monkeypatch.setattr(clock, "wall", lambda: before - 3600.0)

    assert steps.look_now() == pytest.approx(-3600.0, abs=60.0)
