"""A loop by its name: where it stopped, it goes on."""

import pytest

from hashring import clock
from tests.partition.embedded.members import settled, until


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


def test_a_quick_loop_catches_up_on_what_a_slow_one_may_have_held_up(join):
    partition = join("m")
    quick = partition.cycles(1.0)
    assert quick._loop.stream.catch_up == max(1.0, partition.ttl)

    slow = partition.cycles(60.0)

    assert quick._loop.stream.catch_up == slow._loop.stream.catch_up == 60.0 + partition.ttl
    quick.close()
    slow.close()
