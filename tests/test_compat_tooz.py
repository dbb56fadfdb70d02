"""`hashring.compat.tooz` beside the installed tooz: where the two could differ, they do not."""

import hashlib
import random
import subprocess
import sys
import threading
import uuid

import pytest
import tooz.hashring
import tooz.partitioner
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tooz import coordination

from hashring.compat import _tooz_circle
from hashring.compat import tooz as compat
from hashring.errors import BadKey, BadRing, EmptyRing, HashringError, UnknownMember
from tests.properties import examples


@pytest.fixture(params=["compiled", "plain"], autouse=True)
def engine(request, monkeypatch):
    """Every test runs over the extension and over the plain twin."""
    assert _tooz_circle._native is not None, "the extension is not built: make setup"
    if request.param == "plain":
        monkeypatch.setattr(_tooz_circle, "_native", None)
    return request.param


NODES = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=5), st.binary(max_size=5)
)
KEYS = st.one_of(
    st.binary(max_size=80), st.text(st.characters(exclude_categories=["Cs"])).map(str.encode)
)
HASHES = st.sampled_from(["md5", "sha1", "sha256", "sha512", "blake2s", "sha3_256"])


def both(nodes=(), **options):
    return compat.HashRing(nodes, **options), tooz.hashring.HashRing(nodes, **options)


def assert_same(ours, theirs, keys, ignored=(None,), replicas=(1,)):
    assert dict(ours.nodes) == theirs.nodes
    assert len(ours) == len(theirs)
    for ignore in ignored:
        for count in replicas:
            expected = [theirs.get_nodes(key, ignore, count) for key in keys]
            assert [ours.get_nodes(key, ignore, count) for key in keys] == expected
            for node in list(theirs.nodes)[:5]:
                mask = bytearray(node in nodes for nodes in expected)
                assert ours.mask(node, keys, ignore, count) == mask
                owned = [key for key, bit in zip(keys, mask, strict=True) if bit]
                assert ours.owned(node, keys, ignore, count) == owned


# --- HashRing -------------------------------------------------------------------------------------


@settings(deadline=None)
@given(
    nodes=st.dictionaries(NODES, st.integers(1, 4), min_size=1, max_size=12),
    keys=st.lists(KEYS, max_size=40),
    partitions=st.integers(1, 40),
    hash_function=HASHES,
    data=st.data(),
)
def test_every_owner_is_toozs(nodes, keys, partitions, hash_function, data):
    ours, theirs = both(partitions=partitions, hash_function=hash_function)
    for node, weight in nodes.items():
        ours.add_node(node, weight)
        theirs.add_node(node, weight)
    ignored = data.draw(st.lists(st.sampled_from(sorted(nodes, key=repr)), max_size=4))
    ignored += data.draw(st.lists(NODES, max_size=2))
    # Where a node has no point of its own ("aa" may own all that "a" claims), tooz's search for
    # a further node would never end.
    if set(theirs._ring.values()) == set(nodes):
        assert_same(ours, theirs, keys, (None, ignored), (-1, 0, 1, 2, 3, 50))
    else:
        assert_same(ours, theirs, keys)


class ChangingRings(RuleBasedStateMachine):
    """Any sequence of joins, leaves and changed weights leaves the two rings alike."""

    nodes = Bundle("nodes")

    @initialize(partitions=st.integers(1, 8))
    def begin(self, partitions):
        self.ours, self.theirs = both(partitions=partitions)

    # Names of one length share no points; `test_names_that_repeat_...` is about those that do.
    @rule(
        target=nodes,
        names=st.lists(st.sampled_from(["aa", "bb", "cd", b"ef", "éz", "gh"]), max_size=3),
        weight=st.integers(0, 3),
    )
    def add(self, names, weight):
        self.ours.add_nodes(names, weight)
        self.theirs.add_nodes(names, weight)
        return tuple(names)

    @rule(names=consumes(nodes))
    def remove(self, names):
        for name in names:
            if name in self.theirs.nodes:
                self.ours.remove_node(name)
                self.theirs.remove_node(name)
            else:
                with pytest.raises(compat.UnknownNode):
                    self.ours.remove_node(name)

    @invariant()
    @precondition(lambda self: hasattr(self, "ours"))
    def same(self):
        assert dict(self.ours.nodes) == self.theirs.nodes
        assert len(self.ours) == len(self.theirs)
        if not self.theirs._partitions:
            return
        keys = [b"%d" % i for i in range(30)]
        for node in self.theirs.nodes:
            owned = [key for key in keys if node in self.theirs.get_nodes(key)]
            assert self.ours.owned(node, keys) == owned
        assert [self.ours[key] for key in keys] == [self.theirs[key] for key in keys]


def test_rings_stay_alike_through_any_sequence_of_changes():
    run_state_machine_as_test(ChangingRings, settings=examples(50, stateful_step_count=12))


@pytest.mark.parametrize("members", [1, 2, 3, 17, 100, 300])
def test_a_hundred_thousand_random_keys_have_toozs_owners(members, engine):
    # bench/agree_with_tooz.py is the long form: a million keys on rings of every size to 300.
    source = random.Random(members)
    ours, theirs = both()
    for number in range(members):
        weight = source.randint(1, 4)
        ours.add_node(f"member-{number}", weight)
        theirs.add_node(f"member-{number}", weight)
    count = 17_000 if engine == "compiled" else 2_000
    keys = [source.randbytes(source.randrange(70)) for _ in range(count)]
    expected = {node: [] for node in theirs.nodes}
    for key in keys:
        (owner,) = theirs.get_nodes(key)
        expected[owner].append(key)
    assert ours.assign(keys) == expected
    for node in source.sample(sorted(theirs.nodes), min(members, 5)):
        assert ours.owned(node, keys) == expected[node]


def test_names_that_repeat_one_another_share_points_as_in_tooz():
    # A node's points are the hashes of its name 2, 3, 4 ... times over: "aa" twice is "a" four
    # times. Whoever came last has the point, and in tooz as here it goes when either leaves.
    keys = [b"%d" % i for i in range(300)]
    ours, theirs = both()
    for name in ("a", "aa", "aaa", "b"):
        ours.add_node(name)
        theirs.add_node(name)
    assert len(ours) < 4 * 32
    assert_same(ours, theirs, keys, replicas=(1, 2, 3, 4))
    ours.remove_node("a")
    theirs.remove_node("a")
    assert_same(ours, theirs, keys, replicas=(1, 2, 3))
    # The second removal ends tooz's ring with a KeyError; ours goes on.
    with pytest.raises(KeyError):
        theirs.remove_node("aa")
    ours.remove_node("aa")
    assert ours.get_nodes(b"0") <= {"aaa", "b"}


def test_a_node_added_again_with_less_weight_keeps_its_points_as_in_tooz():
    keys = [b"%d" % i for i in range(300)]
    ours, theirs = both(["x", "y"])
    for ring in (ours, theirs):
        ring.add_node("x", 5)
        ring.add_node("x", 1)
    assert_same(ours, theirs, keys, replicas=(1, 2))
    for ring in (ours, theirs):
        ring.remove_node("x")
    assert_same(ours, theirs, keys)
    assert ours.owned("x", keys) == [key for key in keys if "x" in theirs.get_nodes(key)] != []


def test_str_keys_of_a_batch_stand_for_their_utf_8_bytes():
    ours, theirs = both(["a", "b", "c"])
    keys = ["", "plain", "é", "日本語", "😀" * 30, "x" * 200]
    assert ours.owned("a", keys) == [
        key for key in keys if "a" in theirs.get_nodes(key.encode("utf-8"))
    ]


def test_assign_names_every_node_and_every_key_once():
    ring = compat.HashRing(["a", "b", "c"])
    ring.add_node("idle", 0)
    keys = [f"key {i}" for i in range(500)]
    assigned = ring.assign(iter(keys))
    assert set(assigned) == {"a", "b", "c", "idle"}
    assert sorted(key for owned in assigned.values() for key in owned) == sorted(keys)
    assert all(assigned[node] == ring.owned(node, keys) for node in "abc")


def test_an_empty_ring_owns_nothing_and_names_nobody():
    ours, theirs = both()
    assert ours.get_nodes(b"key") == theirs.get_nodes(b"key") == set()
    assert ours.assign([]) == {}
    with pytest.raises(EmptyRing, match="'key'"):
        ours.assign(["key"])


def test_replicas_end_where_tooz_would_search_for_ever():
    ring = compat.HashRing(["a"])
    ring.add_node("weightless", 0)
    assert ring.get_nodes(b"key", replicas=2) == {"a"}


def test_nodes_without_any_point_are_a_clear_error():
    ring = compat.HashRing(["a"], partitions=0)
    with pytest.raises(EmptyRing, match="zero"):
        ring.get_nodes(b"key")
    assert ring.owned("a", [b"key"]) == []


def test_an_unknown_node_is_an_error_that_carries_it():
    ring = compat.HashRing(["a"])
    for ask in (ring.remove_node, lambda node: ring.owned(node, []), lambda n: ring.mask(n, [])):
        with pytest.raises(compat.UnknownNode, match="Unknown node `nobody'") as caught:
            ask("nobody")
        assert caught.value.node == "nobody"
        assert isinstance(caught.value, (UnknownMember, HashringError, KeyError))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hash_function": "rot13"}, "Hash function 'rot13' is not supported"),
        ({"hash_function": "shake_128"}, "Hash function 'shake_128' is not supported"),
        ({"nodes": [3]}, "must be str or bytes, not int"),
        ({"nodes": ["\ud800"]}, "no UTF-8 form"),
        ({"partitions": 1.5}, "must be a whole number"),
        ({"partitions": 1 << 40}, "the most a node may have"),
    ],
)
def test_a_ring_that_cannot_be_is_refused(arguments, message):
    with pytest.raises(BadRing, match=message):
        compat.HashRing(**{"nodes": ["a"], **arguments})


@pytest.mark.parametrize("weight", [0.5, "2", None, 1 << 40])
def test_a_wrong_weight_leaves_the_ring_as_it_was(weight):
    ring = compat.HashRing(["a"])
    with pytest.raises(BadRing, match="weight"):
        ring.add_nodes(["b", "c"], weight)
    assert dict(ring.nodes) == {"a": 1}
    assert len(ring) == 32


def test_get_nodes_takes_bytes_alone_as_tooz_does():
    ours, theirs = both(["a", "b"])
    assert ours.get_nodes(bytearray(b"key")) == ours.get_nodes(memoryview(b"key"))
    assert ours.get_nodes(bytearray(b"key")) == theirs.get_nodes(bytearray(b"key"))
    with pytest.raises(TypeError):
        theirs.get_nodes("key")
    with pytest.raises(BadKey, match="encode a str first"):
        ours.get_nodes("key")


def test_the_nodes_cannot_be_changed_behind_the_rings_back():
    ring = compat.HashRing(["a"])
    with pytest.raises(TypeError):
        ring.nodes["b"] = 1


def test_readers_see_whole_rings_while_another_thread_changes_them():
    ring = compat.HashRing(["a", "b"])
    keys = [f"key {i}" for i in range(300)]
    states = []
    for extra in ((), ("c",)):
        states.append(compat.HashRing(["a", "b", *extra]).owned("a", keys))
    stop = threading.Event()

    def change():
        while not stop.is_set():
            ring.add_node("c")
            ring.remove_node("c")

    thread = threading.Thread(target=change)
    thread.start()
    try:
        seen = [ring.owned("a", keys) for _ in range(200)]
    finally:
        stop.set()
        thread.join()
    assert all(owned in states for owned in seen)
    ring.add_node("c")
    assert ring.owned("a", keys) == states[1]


def test_tooz_itself_is_never_imported():
    code = "import sys, hashring.compat.tooz; sys.exit('tooz' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- Partitioner on a real tooz coordinator -------------------------------------------------------


class Resource:
    def __init__(self, name):
        self.name = name

    def __tooz_hash__(self):
        return b"resource/" + self.name.encode()


OBJECTS = [
    *(f"str {i}" for i in range(60)),
    *(f"é {i}" for i in range(20)),
    *(b"bytes %d" % i for i in range(20)),
    *range(20),
    None,
    ("a", 1),
    "",
    b"",
    *(Resource(f"r{i}") for i in range(20)),
]


@pytest.fixture(scope="module")
def coordinators(tmp_path_factory):
    """Four members on tooz's file driver; each takes a second to stop, so all tests share them."""
    folder = tmp_path_factory.mktemp("tooz")
    members = []
    for name in (b"one", b"two", b"three", b"late"):
        member = coordination.get_coordinator(f"file://{folder}", name)
        member.start()
        members.append(member)
    yield members
    for member in members:
        member.stop()


class Group:
    """A group of its own for one test: three members of weight 1, 2 and none given; one outside."""

    def __init__(self, name, coordinators):
        self.name = name
        self.members = coordinators
        self.one, self.two, self.three, self.late = coordinators
        self.one.create_group(name).get()
        for member, capabilities in ((self.one, {"weight": 1}), (self.two, {"weight": 2})):
            member.join_group(name, capabilities).get()
        self.three.join_group(name).get()


@pytest.fixture
def group(coordinators):
    return Group(uuid.uuid4().hex.encode(), coordinators)


def test_a_partitioner_answers_as_toozs_for_objects_of_every_kind(group):
    coordinator = group.one
    ours = compat.Partitioner(coordinator, group.name)
    theirs = tooz.partitioner.Partitioner(coordinator, group.name)
    assert dict(ours.ring.nodes) == theirs.ring.nodes == {b"one": 1, b"two": 2, b"three": 1}
    for ignored in (None, [b"two"], [b"one", b"two", b"three"]):
        for replicas in (1, 2, 3):
            options = {"ignore_members": ignored, "replicas": replicas}
            for obj in OBJECTS:
                expected = theirs.members_for_object(obj, **options)
                assert ours.members_for_object(obj, **options) == expected
                assert ours.belongs_to_self(obj, **options) == (b"one" in expected)
                assert ours.belongs_to_member(obj, b"two", **options) == (b"two" in expected)
            mine = [obj for obj in OBJECTS if theirs.belongs_to_self(obj, **options)]
            assert ours.owned_by_self(iter(OBJECTS), **options) == mine
            mask = [theirs.belongs_to_member(obj, b"three", **options) for obj in OBJECTS]
            assert list(ours.mask_for_member(OBJECTS, b"three", **options)) == mask
            assert ours.owned_by_member(OBJECTS, b"nobody", **options) == []
    assert list(ours.mask_for_self(OBJECTS)) == [theirs.belongs_to_self(obj) for obj in OBJECTS]


def test_a_partitioner_follows_the_group_until_it_is_stopped(group):
    coordinator = group.one
    ours = compat.Partitioner(coordinator, group.name, partitions=16)
    theirs = tooz.partitioner.Partitioner(coordinator, group.name, partitions=16)
    coordinator.run_watchers()
    group.late.join_group(group.name, {"weight": 3}).get()
    group.two.leave_group(group.name).get()
    coordinator.run_watchers()
    assert dict(ours.ring.nodes) == theirs.ring.nodes == {b"one": 1, b"three": 1, b"late": 3}
    strings = [f"key {i}" for i in range(200)]
    assert ours.owned_by_self(strings) == [key for key in strings if theirs.belongs_to_self(key)]
    ours.stop()
    group.late.leave_group(group.name).get()
    coordinator.run_watchers()
    assert b"late" in ours.ring.nodes
    assert b"late" not in theirs.ring.nodes
    theirs.stop()


def test_a_member_that_comes_and_goes_while_the_partitioner_is_made_is_not_missed(group):
    # tooz reads first and watches then: a member in between stays unknown to it for good.
    coordinator = group.one
    read = coordinator.get_members

    def read_and_let_one_more_in(group_id):
        answer = read(group_id)
        answer.get()
        del coordinator.get_members
        group.late.join_group(group_id).get()
        return answer

    coordinator.run_watchers()
    coordinator.get_members = read_and_let_one_more_in
    ours = compat.Partitioner(coordinator, group.name)
    coordinator.run_watchers()
    assert b"late" in ours.ring.nodes
    ours._on_member_leave(coordination.MemberLeftGroup(group.name, b"never seen"))
    assert set(ours.ring.nodes) == {b"one", b"two", b"three", b"late"}


def test_a_partitioner_that_fails_to_start_watches_nothing(group):
    coordinator = group.one
    group.two.leave_group(group.name).get()
    group.two.join_group(group.name, {"weight": "heavy"}).get()
    with pytest.raises(BadRing, match="heavy"):
        compat.Partitioner(coordinator, group.name)
    assert not coordinator._has_hooks_for_group(group.name)


def test_a_subclass_may_hash_objects_in_its_own_way(group):
    class ByName(compat.Partitioner):
        @staticmethod
        def _hash_object(obj):
            return hashlib.sha1(str(obj).encode()).digest()

    ours = ByName(group.one, group.name)
    strings = [f"key {i}" for i in range(100)]
    expected = [key for key in strings if ours.belongs_to_self(key)]
    assert ours.owned_by_self(strings) == expected
    assert list(ours.mask_for_self(strings)) == [key in expected for key in strings]


def test_a_tooz_hash_that_is_no_bytes_is_refused_by_class(group):
    class Wrong:
        def __tooz_hash__(self):
            return "text"

    ours = compat.Partitioner(group.one, group.name)
    for ask in (ours.belongs_to_self, lambda obj: ours.owned_by_self([obj])):
        with pytest.raises(BadKey, match="Wrong must return bytes, not str"):
            ask(Wrong())
