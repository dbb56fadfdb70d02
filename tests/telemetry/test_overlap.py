"""Overlaps: two agents' announcements, compared; and what a stranger's announcement may hold."""

import base64
import dataclasses
import fnmatch
import json
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashring.protocol.strict_json import MAX_META
from hashring.telemetry.errors import BadAnnouncement
from hashring.telemetry.overlap.overlap import MAX_BYTES, Announcement, compare, open_meters
from tests.properties import examples

LETTERS = "ab."
names = st.text(LETTERS, min_size=1, max_size=5)
patterns = st.text(LETTERS + "*?", min_size=1, max_size=5).filter(set("*?").intersection)
entries = (
    names | patterns | st.builds(open_meters, patterns, st.lists(names | patterns, max_size=2))
)
announcements = st.builds(
    Announcement,
    member=st.sampled_from(["m1", "m2"]),
    host=st.sampled_from(["web1", "web2"]),
    prefix=st.sampled_from(["", "one"]),
    namespaces=st.sampled_from([["central"], ["compute"], ["central", "compute"]]).map(frozenset),
    shared=st.frozensets(entries, max_size=4),
    local=st.frozensets(entries, max_size=4),
)


def agent(member="a", *shared, **fields):
    fields = {"host": "web1", "shared": frozenset(shared), **fields}
    return Announcement(member, **fields)


def allows(entry, name):
    """What an entry means, said again, and plainly."""
    if set(entry).isdisjoint("*?["):
        return entry == name
    include, *exclude = entry.split("!")
    return fnmatch.fnmatchcase(name, include) and not any(
        fnmatch.fnmatchcase(name, pattern) for pattern in exclude
    )


def polls(announcement, name, scope):
    return any(allows(entry, name) for entry in getattr(announcement, scope))


def test_one_prefix_and_equal_meters_are_fine():
    assert compare(agent("a", "cpu", "ram.*"), agent("b", "ram.*", "cpu")) is None


def test_different_prefixes_and_disjoint_meters_are_fine():
    assert compare(agent("a", "cpu", prefix="one"), agent("b", "ram", prefix="two")) is None


def test_one_prefix_with_different_meters_names_what_only_one_of_them_polls():
    found = compare(agent("a", "cpu", "ram"), agent("b", "cpu", "disk"))

    assert (found.only_mine, found.only_theirs, found.in_common) == (("ram",), ("disk",), ())


def test_two_prefixes_with_a_meter_in_common_name_it():
    found = compare(agent("a", "cpu", "ram", prefix="one"), agent("b", "cpu", prefix="two"))

    assert (found.only_mine, found.only_theirs, found.in_common) == ((), (), ("cpu",))


def test_what_belongs_to_another_host_does_not_overlap():
    one = agent("a", prefix="one", local=frozenset({"cpu"}))
    there = agent("b", prefix="two", local=frozenset({"cpu"}), host="web2")
    here = dataclasses.replace(there, host="web1")

    assert compare(one, there) is None
    assert compare(one, here).in_common == ("cpu",)


def test_agents_of_different_namespaces_differ_without_being_wrong():
    central = agent("a", "image.size")
    compute = agent("b", "cpu", namespaces=frozenset({"compute"}))

    assert compare(central, compute) is None


def test_an_agent_of_both_namespaces_must_poll_all_that_one_of_central_alone_does():
    central = agent("a", "image.size", "ip.floating")
    both = agent("b", "image.size", "cpu", namespaces=frozenset({"central", "compute"}))

    assert compare(central, both).only_mine == ("ip.floating",)
    assert compare(both, central).only_theirs == ("ip.floating",)
    assert compare(both, central).only_mine == ()  # cpu is the compute namespace's


def test_a_meter_that_two_namespaces_poll_under_two_prefixes_comes_twice():
    central = agent("a", "cpu", prefix="one")
    compute = agent("b", "cpu", prefix="two", namespaces=frozenset({"compute"}))

    assert compare(central, compute).in_common == ("cpu",)


@pytest.mark.parametrize(
    ("mine", "theirs", "common"),
    [
        ("prometheus.*", "prometheus.up", "prometheus.up"),
        ("prometheus.*", "prometheus.http_*", "prometheus.http_*"),
        ("*", "cpu", "cpu"),
        ("a*", "*b", "*b and a*"),
        ("disk.?", "disk.[ab]", "disk.[ab]"),
        ("prometheus.*", "snmp.*", None),
        ("prometheus.*", "hardware.cpu", None),
        ("prometheus.*!prometheus.go_*", "prometheus.go_*", None),
        ("prometheus.*!prometheus.go_*", "prometheus.go_threads", None),
        ("prometheus.*!prometheus.go_*", "prometheus.up", "prometheus.up"),
        ("*!cpu", "*!ram", "* and *"),
    ],
)
def test_open_meters_overlap_where_a_name_could_be_both(mine, theirs, common):
    found = compare(agent("a", mine, prefix="one"), agent("b", theirs, prefix="two"))

    if common == "* and *":
        assert found is not None
    else:
        assert (found and found.in_common) == (common and (common,))


@given(announcements, announcements)
def test_an_overlap_looks_the_same_from_both_sides(mine, other):
    here, there = compare(mine, other), compare(other, mine)

    assert (here is None) == (there is None)
    if here is not None:
        assert (here.only_mine, here.only_theirs) == (there.only_theirs, there.only_mine)
        assert here.in_common == there.in_common
        assert here.in_common or here.only_mine or here.only_theirs


@given(announcements, announcements, names)
@examples(500)
def test_no_meter_that_two_sub_groups_poll_is_overlooked(mine, other, name):
    other = dataclasses.replace(other, prefix=mine.prefix + "x")
    both = polls(mine, name, "shared") and polls(other, name, "shared")
    if mine.host == other.host:
        both = both or (polls(mine, name, "local") and polls(other, name, "local"))

    if both:
        assert compare(mine, other) is not None


@given(st.frozensets(entries, min_size=1, max_size=4), st.frozensets(entries, min_size=1), names)
def test_no_meter_that_only_one_of_a_group_polls_is_overlooked(mine, other, name):
    here, there = agent("a", *mine), agent("b", *other)

    if polls(here, name, "shared") != polls(there, name, "shared"):
        assert compare(here, there) is not None


@given(announcements)
def test_an_agent_is_never_at_odds_with_its_like(mine):
    assert compare(mine, dataclasses.replace(mine, member="like it")) is None


@given(announcements)
def test_an_announcement_survives_the_store(mine):
    meta = json.loads(json.dumps(mine.to_meta()))

    assert Announcement.from_meta(mine.member, meta) == mine


def test_four_thousand_names_fit_and_each_is_still_found():
    many = frozenset(f"switch.{n % 37}.port.{n}.octets" for n in range(4000))
    meta = agent("a", *many, prefix="one").to_meta()

    assert len(json.dumps(meta)) <= MAX_BYTES < MAX_META
    other = Announcement.from_meta("a", meta)
    mine = agent("b", "switch.36.port.36.octets", "cpu", prefix="two")
    assert compare(mine, other).in_common == ("switch.36.port.36.octets",)


def test_more_names_than_can_be_published_are_refused_with_a_way_out():
    digits = [f"{n * 2654435761 % 2**32:08x}{n * 40503 % 2**32:08x}" for n in range(20_000)]

    with pytest.raises(BadAnnouncement, match=r"polls 20000 meters.*patterns"):
        agent("a", *digits).to_meta()


@pytest.mark.parametrize("name", ["", "x" * 256, "two\nlines", "\x1b[2J", "\ud800"])
def test_what_cannot_be_a_meters_name_is_refused(name):
    with pytest.raises(BadAnnouncement, match="cannot be the name of a meter"):
        agent("a", name).to_meta()


def bomb():
    return base64.b64encode(zlib.compress(b"a" * 20_000_000)).decode()


GOOD = agent("a", "cpu").to_meta()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"role": "thermostat"}, "role"),
        ({"v": 2}, "version"),
        ({"v": True}, "version"),
        ({"member": 7}, "member"),
        ({"host": "x" * 5000}, "host"),
        ({"host": "\x1b[2J"}, "host"),
        ({"prefix": None}, "prefix"),
        ({"namespaces": "central"}, "namespaces"),
        ({"namespaces": [{}]}, "namespaces"),
        ({"namespaces": ["x"] * 17}, "namespaces"),
        ({"shared": None}, "shared"),
        ({"shared": [1]}, "shared"),
        ({"shared": [[]]}, "shared"),
        ({"shared": ["x" * 300]}, "name of a meter"),
        ({"shared": [*["?" * n for n in range(1, 256)], "*a", "*b"]}, "open patterns"),
        ({"local": "not base64!"}, "local"),
        ({"local": base64.b64encode(b"not zlib").decode()}, "local"),
        ({"local": bomb()}, "larger than"),
        ({"local": base64.b64encode(zlib.compress(b"\xff\xfe")).decode()}, "local"),
    ],
)
def test_garbage_is_no_announcement_and_the_reason_is_told(change, reason):
    with pytest.raises(BadAnnouncement, match=reason):
        Announcement.parse(GOOD | change)
    assert Announcement.from_meta("a", GOOD | change) is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=9,
)


@given(st.dictionaries(st.sampled_from(sorted(GOOD)), json_values))
def test_no_garbage_raises_anything_else(change):
    found = Announcement.from_meta("a", GOOD | change)

    assert found is None or Announcement.from_meta("a", found.to_meta()) == found


def test_the_sentence_names_both_agents_both_prefixes_and_the_meters():
    said = compare(
        agent("a", *(f"m{n:02}" for n in range(13)), prefix="one"),
        agent("b", *(f"m{n:02}" for n in range(12)), prefix="two", host="web2"),
    ).describe()

    for part in ("'a' on web1", "'b' on web2", "'one'", "'two'", "m00", "m09", "and 2 more"):
        assert part in said
    assert "m10" not in said
    assert "--allow-overlap" in said


def test_the_sentence_about_one_prefix_says_who_polls_what():
    said = compare(agent("a", "cpu", "ram"), agent("b", "cpu", "disk")).describe()

    assert "only 'a' polls ram" in said
    assert "only 'b' polls disk" in said
    assert "equal definitions" in said
