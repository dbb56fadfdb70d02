"""What an operator can ask of members from outside, and what it takes to end another's lease."""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

import hashring
from hashring import clock
from hashring.cli import main
from hashring.driver import DriverURL, Reading, load
from hashring.drivers.memory import MemoryDriver
from hashring.errors import UnknownMember
from hashring.observe import Observer
from hashring.protocol.record import Member
from hashring.protocol.request import Request
from hashring.steer import Operator
from tests.servers.process import wait_until

TTL = 30.0  # far longer than any test that does not wait for it
SHORT = 4.0  # longer than a busy machine stands still
OFTEN = 2.0  # between two heartbeats: who looks whether it beats need not wait for a third of TTL

_members: list[hashring.Partition] = []  # of the test that runs


@pytest.fixture
def url():
    return f"memory://{uuid.uuid4().hex}"


@pytest.fixture
def join(url):
    """A function that joins members; all leave in the end, and none waits for another."""
    with contextlib.ExitStack() as leaving:

        def make(member, **arguments):
            partition = hashring.join(url, "group", member, **{"ttl": TTL, **arguments})
            leaving.callback(partition.leave)
            _members.append(partition)
            return partition

        yield make
        _members.clear()


@pytest.fixture
def observer(url):
    with Observer(url) as made:
        yield made


@pytest.fixture
def operator(url):
    with Operator(url, by="alice") as made:
        yield made


def settle(observer):
    """Wait until all members have settled, by the store and by their own account.

    A mark is in the store a moment before its author acts on it.
    """
    wait_until(
        lambda: (
            observer.describe("group").is_settled
            and all(partition.state == "settled" for partition in _members)
        )
    )


def held(*partitions):
    return sum(len(partition.held) for partition in partitions)


# ---- drain -------------------------------------------------------------------------------------


def test_a_member_that_is_asked_drains_hands_over_and_idles(join, observer, operator, caplog):
    a, b = join("a"), join("b")
    settle(observer)
    caplog.set_level(logging.INFO, "hashring")

    outcome = operator.drain("group", "b", timeout=60)

    assert outcome.done, outcome
    wait_until(lambda: (b.state, held(b)) == ("left", 0))
    wait_until(lambda: held(a) == 65536 and a.state == "settled")
    assert [(one.what, one.by) for one in b.requests] == [("drain", "alice")]
    (line,) = [told for told in caplog.messages if "drains, as" in told]
    assert "'alice'" in line
    assert b.drain() is True  # the user's own block finds it done


def test_a_loop_over_windows_ends_when_an_operator_drains_its_member(join, operator):
    partition = join("a")
    ended = threading.Event()

    def loop():
        for _ in partition.cycles(interval=0.2):
            pass
        ended.set()

    thread = threading.Thread(target=loop)
    thread.start()
    assert operator.drain("group", "a", timeout=60).done
    assert ended.wait(60)
    thread.join()


def test_a_member_in_a_long_cycle_answers_at_once_and_drains_at_its_end(join, observer, operator):
    a, b = join("a"), join("b")
    settle(observer)
    with b.cycle() as cycle:

        def has_answered():
            outcome = operator.drain("group", "b", timeout=1.0)
            assert not outcome.done
            return "it drains, and has not left" in outcome.reason

        wait_until(has_answered, what="its answer, which does not wait for the cycle")
        assert cycle.valid
        assert held(a) < 65536
    wait_until(lambda: held(a) == 65536)
    wait_until(lambda: b.state == "left")


def test_a_program_may_refuse_a_drain(join, observer, operator):
    partition = join("a", on_request=lambda request: request.by != "alice")
    settle(observer)

    outcome = operator.drain("group", "a")

    assert (outcome.done, outcome.reason) == (False, "its program refuses")
    assert partition.state == "settled"
    with Operator(observer._driver.url, by="bob") as bob:
        assert bob.drain("group", "a", timeout=60).done


def test_a_program_that_fails_as_it_is_told_of_a_drain_is_drained_all_the_same(
    join, operator, caplog
):
    def fails(request):
        raise ZeroDivisionError(request.by)

    join("a", on_request=fails)

    assert operator.drain("group", "a", timeout=60).done
    assert "on_request failed for 'drain', which is carried out all the same" in caplog.text
    assert "ZeroDivisionError: alice" in caplog.text


def test_a_request_delays_nobody_defines_no_group_and_is_in_no_view(join, url, observer):
    a = join("a")
    settle(observer)
    view = a.view_id
    request = Request("drain", "1", "alice", "a", "of another life")
    asks = load(url, ttl=TTL)
    asks.open()
    asks.join("group", "0-first-by-id", record_with(request))

    wait_until(lambda: a._membership.handoff.requests == (request,))
    with a.cycle():
        b = join("b", weight=0.0)
        assert b.wait_settled(60)
    wait_until(lambda: set(a.records) == {"a", "b"})
    assert (a.view_id, a.state) == (view, "settled")
    assert [one.id for one in observer.describe("group").members] == ["a", "b"]
    asks.leave("group", "0-first-by-id")
    asks.close()


def record_with(request, **fields):
    spec = hashring.HashRing({}).spec
    return Member("x", "i", 0.0, spec, TTL, draining=True, request=request, **fields).to_json()


def test_what_asks_and_may_hold_something_is_a_member():
    request = Request("drain", "1", "alice", "a", "i")

    assert Member.from_json("x", record_with(request)).request == request
    assert Member.from_json("x", record_with(request, applied="v")).request is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("what", "reboot"),
        ("by", "x" * 201),
        ("by", "two\nlines"),
        ("member", 7),
        ("incarnation", ""),
        ("id", None),
    ],
)
def test_a_malformed_request_is_ignored_and_its_record_can_be_read(name, value):
    record = json.loads(record_with(Request("drain", "1", "alice", "a", "i")))
    record["meta"]["hashring"]["request"][name] = value

    assert Member.from_json("x", json.dumps(record).encode()).request is None


def test_whoever_asks_a_member_that_is_not_there_is_told_who_is(join, operator):
    join("a")
    with pytest.raises(UnknownMember, match="there are: a"):
        operator.drain("group", "x")
    with pytest.raises(UnknownMember, match="there are: a"):
        operator.evict("group", "x")


# ---- evict -------------------------------------------------------------------------------------


def dead(url, member, *, ttl=SHORT):
    """Leave a lease of a member that heartbeats no more, and the driver that had it."""
    driver = load(url, ttl=ttl)
    driver.open()
    spec = hashring.HashRing({}).spec
    driver.join("group", member, Member(member, "i", 1.0, spec, ttl).to_json())
    return driver


def test_a_member_that_heartbeats_is_not_evicted(join, operator, observer):
    a = join("a", heartbeat=OFTEN)
    settle(observer)

    outcome = operator.evict("group", "a")

    assert not outcome.done
    assert "it heartbeats" in outcome.reason
    assert a.state == "settled"


def test_a_dead_members_lease_is_ended_once_it_surely_holds_nothing(url, operator):
    left = dead(url, "x")

    outcome = operator.evict("group", "x")

    assert outcome.done, outcome
    assert left.read("group").records == {}
    with pytest.raises(hashring.LeaseLost):
        left.heartbeat()
    left.close()


def test_a_member_that_heartbeats_far_more_often_than_it_must_is_seen_to_do_so(join, operator):
    """An agent heartbeats each second, whatever its lease: each time it grows by that alone."""
    join("a", heartbeat=TTL / 60)

    outcome = operator.evict("group", "a")

    assert (outcome.done, outcome.reason.split(":")[0]) == (False, "it heartbeats")


def test_by_force_a_member_in_a_cycle_that_never_ends_holds_nothing_any_more(
    join, observer, operator
):
    a, b = join("a"), join("b", heartbeat=OFTEN)
    settle(observer)
    with b.cycle() as cycle:
        assert cycle.valid
        outcome = operator.evict("group", "b", force=True)

        assert outcome.done, outcome
        assert not cycle.valid
        wait_until(lambda: (b.state, held(b)) == ("left", 0))
        wait_until(lambda: held(a) == 65536)


def test_by_force_a_member_that_does_not_hear_is_seized_and_nobody_gains_before_its_fence(
    url, join, observer, operator, monkeypatch
):
    a, b = join("a", ttl=SHORT), join("b", ttl=SHORT)
    settle(observer)
    monkeypatch.setattr(b._worker._requests, "look", lambda: None)
    held_twice, over = [], threading.Event()

    def watch():
        while not over.wait(0.001):
            both = a.held & b.held & a.held  # what moves meanwhile is in none of both twice
            if both:
                held_twice.append(both)

    watching = threading.Thread(target=watch)
    watching.start()
    evicted = b.incarnation
    try:
        with b.cycle():
            outcome = operator.evict("group", "b", force=True)
            assert outcome.done, outcome
    finally:
        over.set()
        watching.join()
    assert held_twice == []
    # It was alive: it comes back as a newcomer.
    wait_until(lambda: held(a, b) == 65536 and b.incarnation != evicted)


def test_an_unreadable_record_can_be_evicted(url, join, operator, observer):
    stranger = load(url, ttl=SHORT)
    stranger.open()
    stranger.join("group", "x", b"garbage")
    a = join("a", ttl=SHORT)

    assert operator.evict("group", "x").done
    wait_until(lambda: held(a) == 65536)
    stranger.close()


# ---- the commands ------------------------------------------------------------------------------


def test_the_commands_say_what_came_of_it_with_their_exit_codes(join, url, observer, capsys):
    join("a", heartbeat=OFTEN)
    join("b", heartbeat=OFTEN)
    settle(observer)

    assert main(["group", "evict", url, "group", "a"]) == 1
    assert capsys.readouterr().out.startswith("not done: evict a: it heartbeats")
    assert main(["group", "drain", url, "group", "a", "--by", "alice", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["member"], found["done"]) == ("a", True)
    assert main(["group", "evict", url, "group", "b", "--force"]) == 0
    told = capsys.readouterr()
    assert "may be done twice" in told.err
    assert told.out.startswith("done: evict b")
    assert main(["group", "drain", url, "group", "b"]) == 2


# ---- freeze and thaw ---------------------------------------------------------------------------


def test_a_frozen_group_keeps_its_shares_and_outlives_the_command_and_says_by_whom(
    join, url, observer, operator, caplog
):
    a, b = join("a"), join("b")
    settle(observer)
    wait_until(lambda: held(a, b) == 65536)  # the store knows it before both members do
    caplog.set_level(logging.INFO, "hashring")
    before = (a.held, b.held)

    assert operator.freeze("group").done
    c = join("c")
    assert c.wait_settled(60)
    wait_until(lambda: observer.describe("group").frozen.shown_by == ("a", "b", "c"))

    assert (a.held, b.held, held(c)) == (*before, 0)
    assert {one.frozen.by for one in (a, b, c)} == {"alice"}
    found = observer.describe("group")
    assert (found.frozen.by, found.frozen.kept_out) == ("alice", ("c",))
    assert abs(found.frozen.since - clock.wall()) < 600
    assert found.requests == ()  # the command has ended
    assert "frozen" in operator.freeze("group").reason

    assert operator.thaw("group").done
    wait_until(lambda: held(c) > 0 and held(a, b, c) == 65536)
    assert a.frozen is None
    assert operator.thaw("group").reason == "it was not frozen"
    lines = [line for line in caplog.messages if " is frozen by " in line]
    assert len(lines) == 3
    assert sum("it came later" in line for line in lines) == 1


class Forgetful(MemoryDriver):
    """A store that came back empty: at first its records lack the word on the freeze."""

    young = 2  # readings

    def read(self, group):
        found = super().read(group)
        if type(self).young == 0:
            return found
        type(self).young -= 1
        members = [Member.from_json(id, record) for id, record in found.records.items()]
        return Reading({one.id: replace(one, freeze=None).to_json() for one in members}, 0.1)


def test_a_word_counts_more_than_one_that_the_store_forgot_for_a_while(
    join, url, observer, operator
):
    a, b = join("a"), join("b")
    settle(observer)
    assert operator.freeze("group").done

    with Operator(Forgetful(DriverURL.parse(url), ttl=TTL)) as later:
        assert later.thaw("group").reason == "every member knows"

    wait_until(lambda: a.frozen is None and b.frozen is None)


def test_who_thaws_a_group_before_all_know_that_it_is_frozen_has_the_last_word(join, url, operator):
    a = join("a")
    hangs = dead(url, "hangs", ttl=TTL)
    with ThreadPoolExecutor() as pool, Operator(url, by="bob") as other:
        freezing = pool.submit(operator.freeze, "group")
        wait_until(lambda: a.frozen is not None)

        thawing = pool.submit(other.thaw, "group")
        frozen = freezing.result()

        assert not frozen.done
        assert "'bob' thawed it meanwhile" in frozen.reason
        hangs.leave("group", "hangs")
        assert thawing.result().done
    assert a.frozen is None
    hangs.close()


def test_a_crash_in_a_frozen_group_is_taken_over_and_a_drain_is_not(join, observer, operator):
    a, _ = join("a"), join("b")
    settle(observer)
    share = a.held
    assert operator.freeze("group").done

    outcome = operator.drain("group", "b", timeout=60)
    assert outcome.done
    assert "nobody works its share" in outcome.reason
    wait_until(
        lambda: {one.state for one in observer.describe("group").members} == {"away", "settled"}
    )
    assert a.held == share
    assert not observer.can_stop("group", "a").can_stop

    assert operator.thaw("group").done
    wait_until(lambda: held(a) == 65536)


def test_what_a_crashed_member_of_a_frozen_group_held_is_taken_over(join, observer, operator, url):
    a, _ = join("a"), join("b", heartbeat=OFTEN)
    settle(observer)
    assert operator.freeze("group").done

    assert operator.evict("group", "b", force=True).done

    wait_until(lambda: held(a) == 65536)
    again = join("b")
    assert again.wait_settled(60)
    assert held(again) == 0
    assert operator.thaw("group").done


def test_a_freeze_ends_by_itself_where_none_of_those_is_left_that_it_kept(join, observer, operator):
    a = join("a")
    settle(observer)
    assert operator.freeze("group").done
    b = join("b")
    assert b.wait_settled(60)
    assert held(b) == 0

    a.leave()

    wait_until(lambda: held(b) == 65536 and b.frozen is None)
    assert "none of those" in b._membership.handoff.freeze.by


def test_the_commands_freeze_and_thaw_and_describe_says_so(join, url, observer, capsys):
    join("a")
    settle(observer)

    assert main(["group", "freeze", url, "group", "--by", "alice"]) == 0
    assert main(["group", "describe", url, "group"]) == 0
    told = capsys.readouterr().out
    assert "done: freeze group: every member knows" in told
    assert "frozen: by 'alice' since" in told
    assert main(["group", "can-stop", url, "group", "a"]) == 1
    assert "is frozen, by 'alice'" in capsys.readouterr().out
    assert main(["group", "thaw", url, "group", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["what"] == "thaw"
    assert main(["group", "freeze", url, "nobody"]) == 2
