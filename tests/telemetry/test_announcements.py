"""The agents' announcements: who sees whom, who is refused, and what is reported on both sides."""

import contextlib
import re
import threading
import uuid

import pytest

import hashring
from hashring.drivers.memory import MemoryDriver
from hashring.errors import HashringError
from hashring.telemetry.errors import BadAnnouncement, OverlapRefused
from hashring.telemetry.model.settings import Settings
from hashring.telemetry.overlap import announcements as module
from hashring.telemetry.overlap.announcements import AGENTS, TTL, Announcements
from hashring.telemetry.overlap.overlap import Announcement


@pytest.fixture(autouse=True)
def _no_thread_is_left(until):
    before = set(threading.enumerate())
    yield
    until(
        lambda: not [t for t in threading.enumerate() if t not in before and t.is_alive()],
        "every thread has ended",
    )


@pytest.fixture(autouse=True)
def _refused_agents_leave_at_once(monkeypatch):
    monkeypatch.setattr(module, "LINGER", 0.0)


@pytest.fixture(params=["memory", "sqlite"])
def url(request, tmp_path):
    return {"memory": f"memory://{uuid.uuid4().hex}", "sqlite": f"sqlite://{tmp_path}/agents.db"}[
        request.param
    ]


@pytest.fixture
def new(url):
    """Make the announcements of an agent that polls these shared meters; nothing is started."""
    with contextlib.ExitStack() as stack:

        def made(member, *shared, prefix="", host="web1", local=(), **settings):
            announcement = Announcement(
                member, host, prefix, shared=frozenset(shared), local=frozenset(local)
            )
            settings = {"backend_url": url, "member": member, "host": host, **settings}
            found = Announcements(Settings(**settings), announcement)
            stack.callback(found.close)
            return found

        yield made


@pytest.fixture
def accepted(new, until):
    def started(*arguments, **options):
        found = new(*arguments, **options).__enter__()
        # It is accepted in its own eyes; others know it once the store does.
        until(
            lambda: all(
                found._id in group.records and group.records[found._id].meta.get("accepted")
                for group in found._groups.values()
            ),
            "the store says so too",
        )
        return found

    return started


def polls(member, *shared, **fields):
    return Announcement(member, "web1", shared=frozenset(shared), **fields)


def test_agents_that_poll_the_same_under_one_prefix_go_on(accepted):
    a, b = accepted("a", "cpu"), accepted("b", "cpu")

    assert a.look() == b.look() == []


def test_an_agent_that_is_refused_stays_until_the_others_have_told_of_it(
    accepted, new, monkeypatch, until, caplog
):
    monkeypatch.setattr(module, "LINGER", 3600.0)
    a = accepted("a", "cpu", prefix="one")
    b = new("b", "cpu", prefix="two")
    lingers, wait = threading.Event(), b._stopping.wait

    def spy(seconds):
        if seconds == module.LINGER:
            lingers.set()
        return wait(seconds)

    monkeypatch.setattr(b._stopping, "wait", spy)
    errors = []

    def run():
        try:
            b.__enter__()
        except OverlapRefused as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert lingers.wait(60)

    until(a.look, "the other one sees it")
    assert "agent 'a' on web1 (partitioning_group_prefix 'one') and agent 'b'" in caplog.text
    assert thread.is_alive()
    b.stop()
    thread.join(60)
    assert errors


def test_a_meter_in_common_with_another_sub_group_is_refused_by_name(accepted, new):
    accepted("a", "cpu", "ram", prefix="one")
    b = new("b", "cpu", prefix="two")

    assert b.start()
    with pytest.raises(OverlapRefused, match=r"'b'.*'two'.*'a'.*'one'.*both poll cpu,") as error:
        b.check()

    assert [overlap.in_common for overlap in error.value.overlaps] == [("cpu",)]


def test_the_same_prefix_with_other_meters_is_refused_by_name(accepted):
    accepted("a", "cpu", "ram")

    with pytest.raises(OverlapRefused, match="only 'b' polls disk, only 'a' polls ram"):
        accepted("b", "cpu", "disk")


def test_whoever_allows_overlaps_goes_on_and_both_sides_report_it_once(accepted, caplog, until):
    a = accepted("a", "cpu", prefix="one")
    b = accepted("b", "cpu", prefix="two", allow_overlap=True)

    for mine, theirs in ((a, "b"), (b, "a")):
        (overlap,) = until(mine.look, "the overlap is seen")
        assert overlap.theirs.member == theirs
        mine.look()

    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len(errors) == 2
    assert all("both poll cpu" in error for error in errors)


def test_an_overlap_that_has_gone_is_told_once(accepted, caplog, until):
    a = accepted("a", "cpu", prefix="one")
    b = accepted("b", "cpu", prefix="two", allow_overlap=True)
    until(a.look, "the overlap is seen")

    b.close()
    until(lambda: not a.look(), "the overlap is gone")
    a.look()

    assert caplog.text.count("no longer at odds") == 1


def test_a_reload_is_seen_by_the_others_and_reported_on_both_sides(accepted, until):
    a = accepted("a", "cpu", prefix="one")
    b = accepted("b", "ram", prefix="two")
    assert a.look() == b.look() == []

    b.update(polls("b", "ram", "cpu", prefix="two"))

    assert until(a.look, "a sees it")[0].in_common == ("cpu",)
    assert b.look()[0].in_common == ("cpu",)
    b.update(polls("b", "ram", prefix="two"))
    until(lambda: not a.look(), "a sees that it has gone")
    assert b.look() == []


def test_a_reload_that_cannot_be_announced_changes_nothing(accepted):
    a = accepted("a", "cpu")

    with pytest.raises(BadAnnouncement):
        a.update(polls("a", "two\nlines"))

    assert a.announcement.shared == {"cpu"}


def test_what_a_host_has_for_itself_is_no_business_of_other_hosts(accepted):
    accepted("a", prefix="one", local=["cpu"], host="web1")
    accepted("b", prefix="two", local=["cpu"], host="web2")

    with pytest.raises(OverlapRefused, match="both poll cpu"):
        accepted("c", prefix="three", local=["cpu"], host="web1")


def test_an_agent_that_polls_nothing_shared_joins_its_hosts_group_alone(accepted, url):
    accepted("a", local=["cpu"], host="web1")

    with hashring.join(url, AGENTS, "observer", weight=0, ttl=TTL) as everywhere:
        assert everywhere.wait_settled(60)
        assert everywhere.records.keys() == {"observer"}


def test_a_reload_may_need_a_group_that_the_agent_did_not_have(accepted, until):
    a = accepted("a", "cpu", prefix="one")
    b = accepted("b", prefix="two", local=["ram"])

    b.update(polls("b", "cpu", prefix="two", local=frozenset({"ram"})))

    assert until(b.look, "b sees a")[0].theirs.member == "a"
    assert until(a.look, "a sees b")[0].theirs.member == "b"


@pytest.mark.parametrize("round_", range(5))
def test_of_two_that_start_at_the_same_moment_exactly_one_goes_on(new, round_):
    agents = [new("a", "cpu", prefix="one"), new("b", "cpu", prefix="two")]
    together = threading.Barrier(2, timeout=60)
    fates = {}

    def start(agent):
        together.wait()
        try:
            if agent.start():
                agent.check()
            fates[agent] = "on"
        except HashringError as error:
            agent.close()  # as who is refused does; the one that goes on stays
            fates[agent] = "refused" if isinstance(error, OverlapRefused) else repr(error)

    threads = [threading.Thread(target=start, args=(agent,)) for agent in agents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert sorted(fates.values()) == ["on", "refused"]


def test_both_joined_and_undecided_the_lesser_id_waits_for_the_other_to_give_way(new, until):
    first, second = sorted(
        (new("a", "cpu", prefix="one"), new("b", "cpu", prefix="two")), key=lambda d: d._id
    )
    assert first.start()
    assert second.start()
    until(lambda: list(first._found()), "the first has seen the second, which joined later")
    thread = threading.Thread(target=first.check)
    thread.start()

    with pytest.raises(OverlapRefused):
        second.check()
    assert thread.is_alive()
    second.close()
    thread.join(60)

    assert not thread.is_alive()
    third = new("c", "cpu", prefix="three")
    assert third.start()
    with pytest.raises(OverlapRefused, match=f"'{first.announcement.member}'"):
        third.check()


def test_one_that_waits_is_refused_when_the_other_was_accepted_unseen(new):
    first, second = sorted(
        (new("a", "cpu", prefix="one"), new("b", "cpu", prefix="two")), key=lambda d: d._id
    )
    assert second.start()
    assert first.start()

    second._accept()  # as if its reading had been from before the other's join

    with pytest.raises(OverlapRefused):
        first.check()


def test_patience_waits_for_an_agent_that_is_about_to_be_gone(accepted, new):
    a = accepted("a", "cpu", prefix="one")
    b = new("b", "cpu", prefix="two", patience=600)
    assert b.start()
    thread = threading.Thread(target=b.check)
    thread.start()

    a.close()
    thread.join(60)

    assert not thread.is_alive()
    assert b.look() == []


def test_what_this_very_agent_was_before_it_died_is_waited_for(accepted, new):
    before = accepted("a", "cpu", "ram")
    after = new("a", "cpu")
    assert after.start()
    thread = threading.Thread(target=after.check)
    thread.start()

    before.close()
    thread.join(60)

    assert not thread.is_alive()


def test_stopping_ends_a_wait(accepted, new):
    accepted("a", "cpu", prefix="one")
    b = new("b", "cpu", prefix="two", patience=3600)
    assert b.start()
    thread = threading.Thread(target=b.check)
    thread.start()

    b.stop()
    thread.join(60)

    assert not thread.is_alive()
    assert b.start() is False


def test_agents_whose_ttl_differ_see_each_other(accepted):
    accepted("a", "cpu", prefix="one", ttl=1.0)

    with pytest.raises(OverlapRefused):
        accepted("b", "cpu", prefix="two", ttl=60.0)


def test_a_ttl_in_the_url_is_the_agents_own_and_not_the_directorys(accepted, url):
    accepted("a", "cpu", prefix="one", backend_url=f"{url}?ttl=3")

    with pytest.raises(OverlapRefused):
        accepted("b", "cpu", prefix="two", backend_url=f"{url}?ttl=5")


def test_a_stranger_in_the_group_is_told_of_once_and_harms_nobody(accepted, url, caplog, until):
    with hashring.join(url, AGENTS, "stranger", weight=0, ttl=TTL, meta={"role": "lamp"}):
        a = accepted("a", "cpu")
        until(lambda: a.look() == [], "there is no overlap")
        a.look()

    assert caplog.text.count("the announcement of 'stranger' cannot be read") == 1


class Cut(MemoryDriver):
    """The memory store behind a network that a test can cut."""

    down = False

    def _reach(self):
        if Cut.down:
            raise hashring.StoreUnavailable("cut by the test")

    def open(self):
        self._reach()
        super().open()

    def heartbeat(self):
        self._reach()
        super().heartbeat()

    def read(self, group):
        self._reach()
        return super().read(group)


@pytest.fixture
def cut(monkeypatch):
    """Cut the agents off from the store, and let them back."""
    monkeypatch.setattr(
        module,
        "join",
        lambda url, *arguments, **options: hashring.join(
            Cut(url, ttl=options.pop("ttl")), *arguments, ttl=TTL, **options
        ),
    )

    def switch(down):
        Cut.down = down

    yield switch
    Cut.down = False


@pytest.fixture
def memory():
    return f"memory://{uuid.uuid4().hex}"


def test_a_store_that_is_away_at_the_start_is_tried_again(cut, new, memory, caplog, until):
    cut(True)
    a = new("a", "cpu", backend_url=memory, retry_backoff=0.02, max_retry_interval=0.02)
    thread = threading.Thread(target=a.start)
    thread.start()
    until(lambda: "tried again" in caplog.text, "it has tried")

    cut(False)
    thread.join(60)

    assert not thread.is_alive()
    a.check()


def test_a_store_that_is_away_is_named_once_and_not_at_each_try(
    cut, new, memory, caplog, until, monkeypatch
):
    tries = []
    joins = module.join
    monkeypatch.setattr(module, "join", lambda *a, **o: (tries.append(1), joins(*a, **o))[1])
    cut(True)
    a = new("a", "cpu", backend_url=memory, retry_backoff=0.001, max_retry_interval=0.001)
    thread = threading.Thread(target=a.start)
    thread.start()
    until(lambda: len(tries) > 100, "it has tried a hundred times")

    cut(False)
    thread.join(60)

    told = [text for text in caplog.messages if "overlaps are" in text]
    assert len(told) == 2
    assert "overlaps are not seen, and it is tried again: joining 'hashring/agents'" in told[0]
    assert re.search(r"overlaps are seen again after .* s: \d+ calls had failed", told[1])


def test_stopping_ends_the_wait_for_a_store(cut, new, memory, until, caplog):
    cut(True)
    a = new("a", "cpu", backend_url=memory, retry_backoff=3600.0, max_retry_interval=3600.0)
    thread = threading.Thread(target=a.start)
    thread.start()
    until(lambda: "tried again" in caplog.text, "it has tried")

    a.stop()
    thread.join(60)

    assert not thread.is_alive()


def test_a_store_that_goes_away_changes_nothing_and_gets_a_reload_when_it_is_back(
    cut, accepted, memory, until
):
    a = accepted("a", "cpu", prefix="one", backend_url=memory)
    b = accepted("b", "ram", prefix="two", backend_url=memory)
    cut(True)
    assert a.look() == []

    b.update(polls("b", "cpu", prefix="two", local=frozenset({"disk"})))
    b.look()
    cut(False)

    assert until(a.look, "a sees the reload")[0].in_common == ("cpu",)
    until(lambda: b.look() and f"{AGENTS}/web1" in b._groups, "b has joined what it needs now")


def test_closing_twice_is_fine_and_the_others_see_it_at_once(accepted, new, until):
    a = accepted("a", "cpu", prefix="one")

    a.close()
    a.close()

    accepted("b", "cpu", prefix="two")


def test_a_url_that_no_driver_serves_is_told_at_once(new):
    with pytest.raises(HashringError, match="nosuch"):
        new("a", "cpu", backend_url="nosuch://x").start()
