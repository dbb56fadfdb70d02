import itertools

import pytest

from hashring.backoff import Backoff, grown, jittered
from tests.test_driver import minimal


def test_each_pause_is_twice_the_one_before_up_to_the_bound():
    pauses = Backoff(0.5, 30.0, jitter=0)
    assert list(itertools.islice(pauses, 8)) == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert pauses.failures == 8


def test_a_success_begins_anew():
    pauses = Backoff(0.5, 30.0, jitter=0)
    list(itertools.islice(pauses, 5))
    pauses.reset()
    assert next(pauses) == 0.5


def test_the_random_part_only_shortens_a_pause_and_differs_among_members():
    of_each = [list(itertools.islice(Backoff(1.0, 4.0, jitter=0.5), 3)) for _ in range(50)]
    for pauses in of_each:
        assert all(
            whole / 2 <= pause <= whole for pause, whole in zip(pauses, [1, 2, 4], strict=True)
        )
    assert len({pauses[0] for pauses in of_each}) > 1
    assert jittered(3.0, 0) == 3.0


@pytest.mark.parametrize("failures", [1025, 10**6, 10**400])
def test_a_store_that_is_away_for_days_overflows_no_pause(failures):
    assert grown(0.05, 2.0, failures) == 2.0


def test_a_driver_may_have_more_retries_than_a_number_has_powers_of_two():
    delays = list(minimal("x://h?retries=3000&backoff=0.01&backoff_max=0.5&jitter=0").delays())
    assert len(delays) == 3000
    assert delays[-1] == 0.5
