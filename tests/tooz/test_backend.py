"""The backend's promises beside tooz's own tests: one owner, one ring, capabilities, leases."""

from __future__ import annotations

import dataclasses
import functools
import os
import threading
import uuid
from collections.abc import Callable, Iterator

import pytest
import tooz
from tooz import coordination

from hashring import clock
from hashring.compat.tooz_options import Options
from hashring.errors import BadURL, StoreUnavailable
from tests.servers.process import wait_until
from tests.servers.redis import RedisServer

OBJECTS = [f"disk-{number}" for number in range(300)]


@pytest.fixture
def url() -> str:
    return f"hashring+memory://{uuid.uuid4().hex}?timeout=20&hold=30&settle=20"


@pytest.fixture
def start(url: str) -> Iterator[Callable[..., coordination.CoordinationDriver]]:
    started = []

    def begin(member: str | bytes, at: str = url) -> coordination.CoordinationDriver:
        coordinator = coordination.get_coordinator(at, member)  # type: ignore[arg-type]
        coordinator.start()
        started.append(coordinator)
        return coordinator

    yield begin
    for coordinator in started:
        if coordinator.is_started:
            coordinator.stop()
    wait_until(
        lambda: not [one for one in threading.enumerate() if one.name.startswith("hashring-")],
        what="the end of all threads",
    )


def own(partitioner) -> set[str]:
    return {one for one in OBJECTS if partitioner.belongs_to_self(one)}


def test_what_was_answered_stays_this_process_until_its_next_tick(start) -> None:
    a = start("a")
    mine = a.join_partitioned_group("pollers")
    assert own(mine) == set(OBJECTS)
    b, theirs = start("b"), []
    joining = threading.Thread(target=lambda: theirs.append(b.join_partitioned_group("pollers")))
    joining.start()
    wait_until(lambda: mine.partition._membership.handoff.losing, what="a sees b")
    assert 0 < len(own(mine)) < len(OBJECTS), "what b is to have is closed to new questions"
    assert mine._earlier or mine._grip, "and kept for those who were answered"
    assert joining.is_alive()

    a.run_watchers()  # the cycle is over

    joining.join(60)
    assert own(mine) | own(theirs[0]) == set(OBJECTS)
    assert not own(mine) & own(theirs[0])
    assert set(mine.ring.nodes) == set(theirs[0].ring.nodes) == {b"a", b"b"}


def test_where_several_threads_tick_an_answer_is_kept_for_hold_seconds(start, url: str) -> None:
    at = url.replace("hold=30", "hold=0.6")
    a = start("a", at)
    mine = a.join_partitioned_group("pollers")
    tick_elsewhere(a)
    began = clock.boottime()
    assert own(mine) == set(OBJECTS)
    a.run_watchers()  # the other thread's cycle may still go on
    b = start("b", at)
    theirs = b.join_partitioned_group("pollers")
    assert own(theirs)
    assert clock.boottime() - began >= 0.5


def tick_elsewhere(coordinator: coordination.CoordinationDriver) -> None:
    """From a second thread: from now on no tick proves that a cycle is over."""
    other = threading.Thread(target=coordinator.run_watchers)
    other.start()
    other.join()
    coordinator.run_watchers()


def test_a_tick_does_not_wait_for_what_it_hands_over_itself(start) -> None:
    a = start("a")
    mine = a.join_partitioned_group("pollers")
    tick_elsewhere(a)
    assert own(mine) == set(OBJECTS)
    b = start("b")
    joining = threading.Thread(target=b.join_partitioned_group, args=("pollers",))
    joining.start()
    handoff = mine.partition._membership.handoff
    wait_until(lambda: handoff.losing, what="a sees b")

    a.run_watchers()

    assert handoff.losing, "what b is to have is still kept for those who were answered"
    assert set(mine.ring.nodes) == {b"a", b"b"}, "what is left to a is final all the same"
    mine.end_cycle()
    joining.join(60)
    assert not joining.is_alive()


def test_a_newcomer_waits_for_its_share_whatever_a_tick_waits_for(start, url: str) -> None:
    at = url.replace("hold=30", "hold=1").replace("settle=20", "settle=0.01")
    a = start("a", at)
    mine = a.join_partitioned_group("pollers")
    tick_elsewhere(a)
    assert own(mine) == set(OBJECTS)

    theirs = start("b", at).join_partitioned_group("pollers")

    assert own(theirs)


def test_the_nodes_of_a_ring_change_inside_a_tick_alone(start) -> None:
    a = start("a")
    mine = a.join_partitioned_group("pollers")
    before = mine.ring
    start("b").join_partitioned_group("pollers")
    assert mine.ring is before
    a.run_watchers()
    assert set(mine.ring.nodes) == {b"a", b"b"}
    same = mine.ring
    a.run_watchers()
    assert mine.ring is same


def test_one_stops_and_the_others_have_its_share_at_their_next_tick(start) -> None:
    a, b = start("a"), start("b")
    mine = a.join_partitioned_group("pollers", weight=2)
    theirs = b.join_partitioned_group("pollers")
    a.run_watchers()
    assert mine.ring.nodes == {b"a": 2, b"b": 1}
    assert own(theirs)
    b.stop()
    a.run_watchers()
    assert own(mine) == set(OBJECTS)


def test_a_store_that_is_away_stops_nobody_before_the_fence(start) -> None:
    with RedisServer() as server:
        a = start("a", f"hashring+{server.url}?timeout=6&hold=1&settle=20")
        mine = a.join_partitioned_group("pollers")
        wait_until(lambda: own(mine) == set(OBJECTS), what="all is this member's")
        server.kill()
        deadline = mine.partition.deadline
        a.run_watchers()
        polled = own(mine)
        assert polled == set(OBJECTS) or clock.boottime() > deadline
        wait_until(lambda: not own(mine), what="the fence")
        with pytest.raises(tooz.ToozError):
            a.get_members("pollers").get()
        server.start()
        wait_until(lambda: own(mine) == set(OBJECTS), what="the store is back")


def test_batches_answer_as_single_questions_do(start) -> None:
    a = start("a")
    start("b").join_partitioned_group("pollers")
    mine = a.join_partitioned_group("pollers")
    assert mine.owned_by_self(OBJECTS) == [one for one in OBJECTS if mine.belongs_to_self(one)]
    assert list(mine.mask_for_self(OBJECTS)) == [one in own(mine) for one in OBJECTS]
    numbers = list(range(50))
    assert mine.owned_by_self(numbers) == [one for one in numbers if mine.belongs_to_self(one)]
    for one in OBJECTS[:20]:
        assert mine.members_for_object(one) == {b"a" if one in own(mine) else b"b"}
        assert mine.members_for_object(one, replicas=3) == {b"a", b"b"}
        assert mine.members_for_object(one, ignore_members={b"a"}) == {b"b"}
        assert mine.belongs_to_self(one, replicas=2)
        assert not mine.belongs_to_self(one, ignore_members={b"a"})


def test_text_and_bytes_are_one_group_and_one_member(start) -> None:
    a = start("a")
    a.join_group_create(b"group/\xc3\xa4")
    b = start(b"b\xff/")
    b.join_group("group/ä").get()
    assert a.get_members("group/ä").get() == {b"a", b"b\xff/"}


def test_capabilities_are_whatever_msgpack_can_carry_and_never_none(start) -> None:
    a = start("a")
    a.join_group_create("group", b"state")
    assert a.get_member_capabilities("group", "a").get() == b"state"
    a.update_capabilities("group", {"n": [1, 2.5, None]}).get()
    assert a.get_members_with_capabilities("group").get() == {b"a": {"n": [1, 2.5, None]}}
    start("b").join_group("group").get()
    assert a.get_member_capabilities("group", "b").get() == {}
    a.join_partitioned_group("shares", weight=3)
    assert a.get_member_capabilities("shares", "a").get() == {"weight": 3}
    a.update_capabilities("shares", {"polls": 7}).get()
    wait_until(lambda: a.get_member_capabilities("shares", "a").get() == {"polls": 7})
    a.run_watchers()
    assert a._shares[b"shares"].ring.nodes == {b"a": 3}, "the weight stays"
    with pytest.raises(tooz.ToozError, match="meta"):
        a.update_capabilities("group", {"n": os.urandom(70_000)}).get()


def test_a_member_that_is_there_already_is_refused_by_name(start) -> None:
    a, again = start("a"), start("a")
    a.join_partitioned_group("pollers")
    for joins in (a.join_partitioned_group, again.join_partitioned_group):
        with pytest.raises(coordination.MemberAlreadyExist, match="a has already joined pollers"):
            joins("pollers")


def test_a_group_is_there_while_its_creator_or_a_member_lives(start) -> None:
    a, b = start("a"), start("b")
    a.create_group("group").get()
    b.join_group("group").get()
    a.stop()
    assert b.get_members("group").get() == {b"b"}
    start("c").create_group("other").get()
    others = b.delete_group("other")
    with pytest.raises(tooz.NotImplemented):
        others.get()
    b.leave_group("group").get()
    with pytest.raises(coordination.GroupNotCreated):
        b.get_members("group").get()


def test_a_lead_that_was_lost_is_told_again_once_it_is_back(start) -> None:
    a = start("a")
    a.create_group("group").get()
    events = []
    a.watch_elected_as_leader("group", events.append)
    a.run_elect_coordinator()
    a.run_elect_coordinator()
    assert len(events) == 1
    a._session.leases.give(a._session.leaders._leads[b"group"])
    a.run_watchers()
    assert len(events) == 2
    assert a.get_leader("group").get() == b"a"


def go_back(coordinator: coordination.CoordinationDriver, seconds: float) -> None:
    """As if its process had been stopped for so long."""
    session = coordinator._session
    session.leases.confirmed = clock.boottime() - seconds
    coordinator._session = dataclasses.replace(session, began=clock.boottime() - seconds)


def test_heartbeats_need_no_caller_and_after_a_stop_one_is_sent_at_once(start) -> None:
    a = start("a")
    assert a.requires_beating
    assert a.heartbeat() == 10.0
    go_back(a, 21.0)
    assert a.heartbeat() == 10.0
    assert a._session.leases.confirmed > clock.boottime() - 20


def test_a_heartbeat_tells_of_a_store_that_is_away(start) -> None:
    with RedisServer() as server:
        a = start_in_time(start, f"hashring+{server.url}?timeout=1")
        server.kill()
        go_back(a, 21.0)
        with pytest.raises(coordination.ToozConnectionError, match="no heartbeat was confirmed"):
            a.heartbeat()
        server.start()
        wait_until(lambda: beats(a), what="the store is back")


def start_in_time(
    start: Callable[..., coordination.CoordinationDriver], url: str
) -> coordination.CoordinationDriver:
    """Start on a short lease, within which a busy machine may get no answer at first."""
    started: list[coordination.CoordinationDriver] = []

    def starts() -> bool:
        try:
            started.append(start("a", url))
        except coordination.ToozConnectionError:
            return False
        return True

    wait_until(starts, what="a start in time")
    return started[-1]


def beats(coordinator: coordination.CoordinationDriver) -> bool:
    try:
        return bool(coordinator.heartbeat() == 0.5)
    except coordination.ToozConnectionError:
        return False


def test_a_heartbeat_while_another_thread_stops_the_coordinator_is_no_error(
    start, monkeypatch
) -> None:
    a = start("a")
    leases, told = a._session.leases, []
    close = leases.close
    monkeypatch.setattr(leases, "close", lambda: (told.append(a.heartbeat()), close()))
    a.stop()
    told.append(a.heartbeat())
    assert told == [10.0] * len(told)
    assert len(told) > 1
    with pytest.raises(tooz.ToozError, match="not started"):
        coordination.get_coordinator("hashring+memory://here", b"b").heartbeat()


def test_a_question_waits_for_a_store_that_does_not_answer_at_once(start, monkeypatch) -> None:
    with RedisServer() as server:
        a = start("a", f"hashring+{server.url}?timeout=90&socket_timeout=1")
        a.create_group("group").get()
        a.join_group("group").get()
        leases, groups, lock = a._session.leases, a._session.groups, a.get_lock(b"volume")
        failed = []

        def until_it_fails(name: str, call: Callable[..., object], *given: object) -> object:
            try:
                return call(*given)
            except StoreUnavailable:
                failed.append(name)
                server.resume()
                raise

        for name in ("read", "groups", "join", "take"):
            watched = functools.partial(until_it_fails, name, getattr(leases, name))
            monkeypatch.setattr(leases, name, watched)
        other = groups._lease("tooz:group:other", "a", {})
        for ask in (
            lambda: a.get_members("group").get(),
            lambda: a.get_leader("group").get(),
            lambda: groups._join(other),
            lambda: lock.acquire(blocking=False),
        ):
            server.pause()
            ask()
            server.resume()
        monkeypatch.undo()
        assert {"read", "join", "take"} <= set(failed)
        assert a.get_members("group").get() == {b"a"}


def test_a_question_in_which_the_process_was_stopped_is_asked_again(
    start, url: str, monkeypatch
) -> None:
    a = start("a", url.replace("timeout=20", "timeout=1"))
    lock, leases = a.get_lock(b"volume"), a._session.leases
    stopped = []

    def stopped_once(name: str, call: Callable[..., object], *given: object) -> object:
        if name not in stopped:
            stopped.append(name)
            threading.Event().wait(1.2)  # for longer than the lease
            raise StoreUnavailable("the time of the call was over when the process went on")
        return call(*given)

    for name in ("read", "take"):
        watched = functools.partial(stopped_once, name, getattr(leases, name))
        monkeypatch.setattr(leases, name, watched)
    assert a._session.groups.members(b"group") == {}
    assert lock.acquire(blocking=False)
    monkeypatch.undo()
    assert stopped == ["read", "take"]


def test_locks_have_a_lease_of_their_own_where_the_url_says_so(start, url: str) -> None:
    at = f"{url}&lock_timeout=90"
    a, b = start("a", at), start("b", at)
    lock = a.get_lock(b"sack")
    assert lock.acquire(blocking=False)
    assert lock._lock.remaining > 20, "longer than a member's lease runs"
    assert not b.get_lock(b"sack").acquire(blocking=False)
    a.stop()
    assert b.get_lock(b"sack").acquire(blocking=False)
    assert b.heartbeat() == 10.0


def test_a_forked_child_owns_nothing_by_its_parents_coordinator(start) -> None:
    a = start("a")
    lock = a.get_lock(b"volume")
    assert lock.acquire()
    mine = a.join_partitioned_group("pollers")
    assert mine.belongs_to_self("disk")
    child = os.fork()
    if child == 0:
        try:
            refused = 0
            for call in (
                lambda: a.get_members("group").get(),
                lambda: mine.belongs_to_self("disk"),
                lambda: mine.owned_by_self(OBJECTS),
            ):
                try:
                    call()
                except tooz.ToozError:
                    refused += 1
            os._exit(0 if refused == 3 and not lock.acquired else 1)
        except BaseException:
            os._exit(3)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert lock.acquired
    assert mine.belongs_to_self("disk")


class Parts:
    def __init__(self, scheme: str, netloc: str, path: str) -> None:
        self.scheme, self.netloc, self.path = scheme, netloc, path


@pytest.mark.parametrize(
    ("parts", "options", "expected"),
    [
        (("hashring+redis", "h:1", ""), {"timeout": ["5"]}, ("redis://h:1", 5.0, 5.0, 2.5, 5.0)),
        (("hashring+redis", "h", ""), {"membership_timeout": ["5"], "hold": ["60"]},
         ("redis://h", 5.0, 60.0, 30.0, 5.0)),
        (("hashring+sqlite", "", "//v/a.db"), {"settle": ["3"]},
         ("sqlite:////v/a.db", 10.0, 10.0, 3.0, 10.0)),
        (("hashring+sqlite", "", "//v/a.db"), {"timeout": ["4"]},
         ("sqlite:////v/a.db", 4.0, 4.0, 2.0, 4.0)),
        (("hashring+zookeeper", "z:1", ""), {"hosts": ["y:2"], "timeout": ["8"]},
         ("zookeeper://z:1,y:2", 8.0, 8.0, 4.0, 8.0)),
        (("hashring+memcached", "m", ""), {"lock_timeout": ["30"]},
         ("memcached://m", 10.0, 10.0, 5.0, 30.0)),
    ],
)  # fmt: skip
def test_tooz_spellings_of_a_url_keep_their_meaning(parts, options, expected) -> None:
    found = Options.of(Parts(*parts), options)
    assert (found.url, found.ttl, found.hold, found.settle, found.lock_ttl) == expected


def test_what_a_url_cannot_say_is_refused_with_what_it_can() -> None:
    with pytest.raises(BadURL, match=r"unknown option 'tiemout'.*did you mean 'timeout'"):
        Options.of(Parts("hashring+redis", "h", ""), {"tiemout": ["5"]})
    with pytest.raises(BadURL, match="hold must be a positive number of seconds, not 'x'"):
        Options.of(Parts("hashring+redis", "h", ""), {"hold": ["x"]})
    with pytest.raises(BadURL, match="lock_timeout must be a positive number of seconds, not '0'"):
        Options.of(Parts("hashring+redis", "h", ""), {"lock_timeout": ["0"]})
