"""Hostile strangers among the agents: what they publish costs a line in the log, and no agent."""

import json
import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hashring
from hashring.telemetry.agent.status import read_status
from hashring.telemetry.cli.audit import read_samples
from hashring.telemetry.cli.check import _members
from hashring.telemetry.errors import BadAnnouncement
from hashring.telemetry.model.settings import Settings
from hashring.telemetry.overlap.announcements import AGENTS, TTL, Announcements
from hashring.telemetry.overlap.overlap import Announcement, compare
from hashring.telemetry.overlap.patterns import Budget, Pattern, TooMuchWork
from hashring.telemetry.overlap.peer import Peer

MINE = Announcement("a", "web1", "one", shared=frozenset({"cpu", "disk.*"}))


@pytest.mark.parametrize("host", [["web2"], {"web": 2}, 7, None, "x" * 2000, "a\x1b[2J", True])
def test_a_host_that_is_no_text_counts_as_none(host):
    assert Peer.of({"host": host}) == Peer()


@pytest.mark.usefixtures("unhurried")
def test_a_stranger_whose_host_is_a_list_ends_no_agent(caplog):
    from hashring.telemetry.agent.agent import Agent
    from tests.telemetry.plant import Levels, LocalTanks, Shelf, plan
    from tests.telemetry.plant import settings as agent_settings

    url = f"memory://{uuid.uuid4().hex}"
    with hashring.join(url, "g", "far", weight=0.0, ttl=TTL, meta={"host": ["far-away"]}) as other:
        assert other.wait_settled(60)
        told = agent_settings(backend_url=url, ttl=TTL, interval=2.0, cycles=2, on_crash="skip")
        local = plan(told, Levels(told), tanks=LocalTanks(told))
        shelf = Shelf()

        for _ in range(20):  # both windows of one may pass on a machine that stands still
            Agent(told, plan=local, outlet=shelf).run()
            if shelf.taken():
                break

    assert shelf.taken()


def evil_patterns():
    return frozenset(("*a?" * 80)[:240] + f"*{i}" for i in range(180))


def test_patterns_made_to_take_long_are_cut_by_name_and_the_agent_goes_on(caplog):
    url = f"memory://{uuid.uuid4().hex}"
    evil = Announcement("evil", "web2", "two", shared=evil_patterns())
    mine = Announcement("a", "web1", "one", shared=frozenset("?*" * 60 + str(i) for i in range(40)))
    with hashring.join(url, AGENTS, "evil", weight=0.0, ttl=TTL, meta=evil.to_meta()) as stranger:
        assert stranger.wait_settled(60)

        with Announcements(Settings(backend_url=url, member="a", host="web1"), mine) as found:
            assert found.look() == []
            assert found.look() == []

    assert caplog.text.count("the announcement of 'evil' cannot be read: to compare its 180") == 1


def test_comparing_is_bounded_in_steps_and_says_so():
    evil = Announcement("evil", "web2", "two", shared=evil_patterns())

    with pytest.raises(BadAnnouncement, match=r"180 patterns .* more than 500000 steps"):
        compare(Announcement("a", "web1", "one", shared=evil.shared | {"*b"}), evil)


def test_many_names_against_many_patterns_are_cut_too():
    names = frozenset(f"meter.{number}" for number in range(40_000))
    evil = Announcement("evil", "web2", "two", shared=frozenset(f"?*?{i}?" for i in range(200)))

    with pytest.raises(BadAnnouncement, match="40000 names"):
        compare(evil, Announcement("a", "web1", "one", shared=names))


def test_what_fleets_announce_is_compared_whole():
    def fleet(prefix, job):
        opens = {f"prometheus.{job}{number}.*" for number in range(60)}
        return frozenset(opens | {f"{job}.meter.{number}" for number in range(5_000)})

    one = Announcement("a", "web1", "one", shared=fleet("one", "blue"))
    other = Announcement("b", "web2", "two", shared=fleet("two", "green") | {"blue.meter.7"})

    assert compare(one, other).in_common == ("blue.meter.7",)


symbols = st.text("ab*?", max_size=7)


def matches_some(one, other):
    """Whether some text matches both: by trying every text that is long enough to tell."""
    if not one or not other:
        return set(one + other) <= {"*"}
    if one[0] == "*" or other[0] == "*":
        star, rest = (one, other) if one[0] == "*" else (other, one)
        return matches_some(star[1:], rest) or matches_some(star, rest[1:])
    return (one[0] == other[0] or "?" in (one[0], other[0])) and matches_some(one[1:], other[1:])


@settings(deadline=None)  # a busy machine proves nothing
@given(symbols, symbols)
def test_two_patterns_meet_where_some_text_matches_both(one, other):
    met = Pattern(one).meets(Pattern(other), Budget(1000))

    assert met == matches_some(one, other)


@settings(deadline=None)  # a busy machine proves nothing
@given(symbols, symbols, st.text("ab", max_size=6))
def test_what_a_pattern_covers_it_matches(wide, narrow, name):
    budget = Budget(1000)
    if Pattern(wide).covers(Pattern(narrow), budget) and Pattern(narrow).meets(
        Pattern(name), budget
    ):
        assert Pattern(wide).meets(Pattern(name), budget)


def test_a_budget_that_is_spent_says_so():
    with pytest.raises(TooMuchWork):
        Pattern("a*b").meets(Pattern("a*b"), Budget(2))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=6,
)


@settings(deadline=None)  # a busy machine proves nothing
@given(st.dictionaries(st.sampled_from([*MINE.to_meta(), "accepted"]), json_values, max_size=3))
def test_an_announcement_is_a_checked_value_or_a_bad_announcement(changes):
    try:
        read = Announcement.parse(MINE.to_meta() | changes)
        compare(MINE, read)
    except BadAnnouncement:
        return
    assert hash(read) == hash(read)
    assert Peer.of(MINE.to_meta() | changes).accepted in (True, False)


def test_an_id_that_would_move_the_cursor_is_shown_quoted(tmp_path):
    url = f"sqlite://{tmp_path}/g.db"
    given = Settings(backend_url=url, member="a", host="web1")

    class Plan:
        groups = (type("Group", (), {"name": "g"}),)

    with hashring.join(url, "g", "x\x1b[2J", ttl=30.0) as stranger:
        assert stranger.wait_settled(60)

        assert _members(given, Plan()) == {"g": ["'x\\x1b[2J'"]}


def test_a_torn_or_foreign_line_is_passed_over_by_the_audit(tmp_path):
    path = tmp_path / "samples"
    good = {"id": "i", "resource_id": "x", "timestamp": "1970-01-01T00:00:12+00:00", "window": 12}
    wrong = [
        {**good, "resource_id": ["x"]},
        {**good, "window": "12"},
        {**good, "timestamp": 12},
        {**good, "id": {}},
    ]
    lines = [*map(json.dumps, [*wrong, good]), "[" * 100_000, '{"id": 1' + "0" * 5000]
    path.write_text("\n".join(lines))

    assert list(read_samples(path)) == [good]


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", '{"groups": []}', '{"groups": {"g": 1}}'])
def test_a_status_file_of_something_else_is_no_status(tmp_path, text):
    path = tmp_path / "status.json"
    path.write_text(text)

    assert read_status(path) is None
