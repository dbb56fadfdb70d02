"""A member that says within how many seconds it is back: its share stays its own meanwhile."""

import itertools
import logging
import time

import pytest

import hashring
from tests.servers.process import wait_until

TTL = 30.0
NAMES = [f"m{number:02}" for number in range(20)]
_numbers = itertools.count()


@pytest.fixture
def url():
    return f"memory://resume-{next(_numbers)}"


def settled(partitions):
    wait_until(
        lambda: all(partition.state == "settled" for partition in partitions), what="settling"
    )
    return {partition.member: partition.held for partition in partitions}


def test_a_rolling_restart_of_twenty_members_that_come_back_moves_nothing(url):
    def join(name):
        return hashring.join(url, "pollers", name, ttl=TTL, resume=60)

    members = {name: join(name) for name in NAMES}
    wait_until(lambda: all(len(member.members) == 20 for member in members.values()))
    before = settled(members.values())
    hand_overs = {name: members[name].stats.hand_overs for name in NAMES}
    for name in NAMES:
        rest = [member for other, member in members.items() if other != name]

        assert members[name].drain(60), "its place is kept"
        assert all(member.held == before[member.member] for member in rest)
        assert all(name in member.members for member in rest)
        members[name] = join(name)
        assert members[name].wait_settled(60)
        assert members[name].held == before[name]

    assert settled(members.values()) == before
    assert all(members[name].stats.hand_overs <= hand_overs[name] + 40 for name in NAMES)
    for member in members.values():
        member.leave()


def test_the_others_take_over_from_one_that_does_not_come_back_in_time(url, caplog):
    with (
        hashring.join(url, "pollers", "a", ttl=TTL) as a,
        hashring.join(url, "pollers", "b", ttl=TTL) as b,
    ):
        c = hashring.join(url, "pollers", "c", ttl=TTL, resume=5.0)
        wait_until(lambda: len(a.members) == len(b.members) == len(c.members) == 3)
        settled([a, b, c])
        of_c = c.held
        with c.cycle():
            pass
        next(iter(c.cycles(interval=0.1)))
        assert c.drain(60)
        held = a.held | b.held
        assert held.isdisjoint(of_c)
        assert "c" in a.members

        wait_until(lambda: of_c <= (a.held | b.held), what="taking over")

        assert "c" not in a.members
        assert a.stats.away_seconds > 4.9
    assert "takes over from 'c', which is away: nobody worked its share for" in caplog.text


def test_what_was_missed_while_away_is_counted_and_said_and_nothing_is_worked_twice(url, caplog):
    caplog.set_level(logging.WARNING)
    keys = [str(number) for number in range(500)]
    worked = []

    def work(partition, last):
        for cycle in partition.cycles(interval=0.05):
            worked.extend((cycle.window, key) for key in cycle.owned(keys))
            if cycle.window >= last:
                return

    with hashring.join(url, "pollers", "a", ttl=4.0) as a:
        b = hashring.join(url, "pollers", "b", ttl=4.0, resume=60)
        wait_until(lambda: len(a.members) == len(b.members) == 2)
        settled([a, b])
        first = next(iter(b.cycles(interval=0.05))).window
        work(b, first + 3)
        assert b.drain(60)
        assert b.stats.windows_away == 0
        moment = first + 150
        wait_until(lambda: time.time() >= moment * 0.05)

        with hashring.join(url, "pollers", "b", ttl=4.0, resume=60) as again:
            assert again.wait_settled(60)
            work(again, moment + 5)
            assert len(worked) == len(set(worked))
            assert again.stats.windows_away >= 30
            assert again.stats.away_seconds > 2
    assert "b is back: nobody worked its share for" in caplog.text


def test_a_member_that_drains_for_good_hands_over_at_once(url):
    with hashring.join(url, "pollers", "a", ttl=TTL) as a:
        b = hashring.join(url, "pollers", "b", ttl=TTL, resume=60)
        wait_until(lambda: len(a.members) == len(b.members) == 2)
        settled([a, b])

        assert b.drain(60, resume=0)

        wait_until(lambda: list(a.members) == ["a"] and len(a.held) == 65_536)


def test_who_is_alone_leaves_at_once_and_says_that_nobody_keeps_its_share(url):
    alone = hashring.join(url, "pollers", "a", ttl=TTL, resume=60)
    settled([alone])

    assert not alone.drain()
    assert alone.state == "left"


def test_the_url_may_say_so_too():
    url = "memory://resume-by-url?resume=30"
    with hashring.join(url, "pollers", "a") as a:
        assert a._membership.resume == 30
    with pytest.raises(hashring.BadURL, match="resume=30 and the argument resume=5"):
        hashring.join(url, "pollers", "a", resume=5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"resume": 5}, "resume=5 needs a member"),
        ({"member": "a", "resume": -1}, "resume must be a number from 0 to 86400, not -1"),
        ({"member": "a", "resume": 1e9}, "resume must be a number from 0 to 86400"),
    ],
)
def test_a_resume_that_cannot_be_is_refused(url, arguments, message):
    with pytest.raises(hashring.BadArgument, match=message):
        hashring.join(url, "pollers", **arguments)
