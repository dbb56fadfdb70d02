"""What a join, its ttl and its heartbeats are given, and what is refused."""

import pytest

import hashring
from hashring.driver import DriverURL
from hashring.drivers.memory import MemoryDriver
from hashring.errors import BadArgument, BadURL, GroupMismatch
from hashring.protocol.record import Member
from tests.partition.embedded.members import ALL, KEYS, PATIENCE, TTL, Flaky, settled, until


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
        {"meta": ["polls"]},
        {"gather": -1},
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
    with pytest.raises(BadURL, match="ttl='soon' is not a number of seconds"):
        hashring.join(f"{url}?ttl=soon", "group")


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
