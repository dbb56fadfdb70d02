"""What counts as a step of a server's clock, and what only as a rate: on invented clocks."""

from __future__ import annotations

import math
import random

import pytest

from hashring.drivers._server_clock import ServerClock

TTL = 10.0


def hour(rate: float, every: float, *, late: float = 0.02):
    """Return the readings of an hour: the server's time, ours before and after, at random."""
    chance = random.Random(f"{rate} {every}")
    now, readings = 1000.0, []
    while now < 4600.0:
        asked, answered = now + chance.uniform(0, late), now + late + chance.uniform(0, late)
        # The server looks at its clock at some time between the two.
        looked = chance.uniform(asked, answered)
        readings.append((5e8 + rate * looked, asked, answered))
        now = answered + chance.uniform(0.1, 1.0) * every
    return readings


@pytest.mark.parametrize("every", [0.01, 1.0, 0.6 * TTL])
@pytest.mark.parametrize("rate", [0.91, 0.95, 0.98, 1.0, 1.02, 1.05, 1.09])
def test_a_clock_within_ten_per_cent_never_counts_as_one_that_stepped(rate, every):
    clock = ServerClock(TTL)
    readings = hour(rate, every)[:5_000]
    assert all(clock.gained(*reading) == 0.0 for reading in readings)


@pytest.mark.parametrize("rate", [0.91, 1.0, 1.05, 1.09])
def test_the_latest_time_of_a_clock_is_never_too_early_nor_much_too_late(rate):
    clock = ServerClock(TTL)
    for server, asked, answered in hour(rate, 1.0):
        latest = clock.latest(asked)
        # -inf before the first; at most the tenth of a lease that the fence spares.
        assert latest == -math.inf or server - 0.1 <= latest <= server + 0.1 * TTL + 0.1
        clock.gained(server, asked, answered)


def test_a_clock_that_runs_more_than_ten_per_cent_fast_is_noticed():
    clock = ServerClock(TTL)
    assert any(clock.gained(*reading) > 0.0 for reading in hour(1.12, 1.0))


@pytest.mark.parametrize("rate", [0.98, 1.0, 1.02])
def test_a_step_of_more_than_a_lease_spares_is_noticed_at_the_next_reading(rate):
    readings = hour(rate, 1.0)
    for stepped in range(2, 100, 7):
        clock = ServerClock(TTL)
        before, after = readings[:stepped], readings[stepped]
        assert all(clock.gained(*reading) == 0.0 for reading in before)
        server, asked, answered = after
        # 0.1 of a lease, less what the answers' widths and a slow clock hide.
        assert clock.gained(server + 0.13 * TTL, asked, answered) > 0.0


def test_small_steps_within_one_lease_add_up():
    clock = ServerClock(TTL)
    ahead, noticed = 0.0, False
    for number in range(8):
        noticed = noticed or clock.gained(number + ahead, number, number) > 0.0
        ahead += 0.02 * TTL
    assert noticed


def test_a_step_back_and_forth_again_is_noticed():
    clock = ServerClock(TTL)
    assert clock.gained(100.0, 100.0, 100.0) == 0.0
    assert clock.gained(98.0, 101.0, 101.0) == 0.0
    assert clock.gained(102.0, 102.0, 102.0) > 0.0  # leases that were given in between ended early
