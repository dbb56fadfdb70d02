"""``redis://``: what changed since a cursor, in patches, beside other releases, and in a crowd."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import threading
import time
import zlib
from collections.abc import Iterator

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hashring.drivers.redis import patches, script
from hashring.protocol.claims import Claim
from hashring.protocol.record import Member
from hashring.ring.ring import HashRing, SlotSet
from hashring.testing.suite.base import record
from hashring.testing.suite.changes import Follower
from tests.drivers.opening import Opened, opening
from tests.properties import examples
from tests.servers.redis import RedisServer

GROUPS = (f"g{number}" for number in itertools.count())


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as running:
        yield running


@pytest.fixture
def opened(server: RedisServer) -> Iterator[Opened]:
    with opening(ttl=60.0, timeout=6.0) as opened:
        yield lambda url=server.url, **lease: opened(url, **lease)


@pytest.fixture
def group() -> str:
    return next(GROUPS)


def ack(number: int, **more: object) -> bytes:
    """Return a record as members publish it, under a view of this number."""
    view = hashlib.md5(b"%d" % number).hexdigest()
    constant = "murmur3/slots=65536/vnodes=512/bound=1.1/seed=0/layout=1"
    return record("incarnation-of-the-member", applied=view, ring=constant, through=None, **more)


def bytes_sent(server: RedisServer) -> int:
    with server.client() as client:
        return int(client.info("stats")["total_net_output_bytes"])


def test_a_reader_is_sent_what_is_other_in_a_record_and_a_common_text_once(server, opened, group):
    writer, reader = opened(), opened()
    members = [f"m{number:03}" for number in range(100)]
    for member in members:
        writer.join(group, member, ack(1, member=member))
    first = reader.read_since(group, None)
    for member in members:
        writer.publish(group, member, ack(2, member=member))

    before = bytes_sent(server)
    second = reader.read_since(group, first.cursor)
    cost = bytes_sent(server) - before
    assert dict(second.changed) == {member: ack(2, member=member) for member in members}
    assert not second.complete
    # A member's id, the number of a patch, a checksum; and each patch once. INFO is in it, too.
    assert cost < 100 * 20 + 8000 < 100 * len(ack(1)), cost


def member_that_lost(slots: list[int], turn: int, number: int) -> bytes:
    """Return the record of a member that acks a view, and claims slots that it has lost."""
    view = hashlib.md5(b"%d" % turn).hexdigest()
    seen = 1_790_000_000.25 + 10 * turn + number / 1024
    claims = (Claim(seen, SlotSet.of(slots, 65536)),) if slots else ()
    spec = HashRing({}).spec
    return Member(
        f"m{number:03}", f"{number:032x}", 1.0, spec, 10.0,
        applied=view, settled=view, through=seen if slots else None, claims=claims,
        founded=1_790_000_000.5, since=seen + 0.125,
    ).to_json()  # fmt: skip


def test_an_ack_costs_each_reader_its_claim_and_a_few_bytes_however_long_the_records_are(
    opened, group
):
    writer, reader = opened(), opened()
    lost = {number: [7 * number, 300 * number][: number % 3] for number in range(100)}
    for number in lost:
        # What the last change left in the records is of all lengths.
        before = list(range(number % 7, 2000, number + 40))
        writer.join(group, f"m{number:03}", member_that_lost(before, 1, number))
    first = reader.read_since(group, None)
    for number, slots in lost.items():
        writer.publish(group, f"m{number:03}", member_that_lost(slots, 2, number))
    brought: list[bytes] = []
    call = reader._calls.call

    def counted(*arguments: object, **more: object) -> object:
        reply = call(*arguments, **more)
        brought.extend(reply.rest[2:])
        return reply

    reader._calls.call = counted
    second = reader.read_since(group, first.cursor)
    assert len(second.changed) == 100
    assert second.changed["m007"] == member_that_lost(lost[7], 2, 7)
    strings, entries = brought
    # Nobody has a patch of a shape of its own: with and without a claim, after one and after none.
    assert len(strings) < 1000
    claimed = sum(
        len(zlib.compress(SlotSet.of(slots, 65536).tobytes(), 6))
        for slots in lost.values()
        if slots
    )
    # Its id, a checksum, which patch, two times of four bytes each, the length of the claim.
    assert len(entries) - claimed <= 100 * 21, (len(entries), claimed)


def test_a_reader_that_missed_some_changes_of_a_record_gets_them_one_after_the_other(opened, group):
    writer, reader = opened(), opened()
    writer.join(group, "a", ack(0))
    cursors = [reader.read_since(group, None).cursor]
    for number in range(1, 9):
        writer.publish(group, "a", ack(number, meta="x" * number))
        if number % 3 == 0:
            changes = reader.read_since(group, cursors[-1])
            cursors.append(changes.cursor)
            assert dict(changes.changed) == {"a": ack(number, meta="x" * number)}
    # From further back than patches are kept, and from before what this driver has read since.
    for cursor in cursors:
        changes = reader.read_since(group, cursor)
        assert dict(changes.changed) == {"a": ack(8, meta="x" * 8)}


def test_a_driver_of_an_earlier_release_may_write_in_between(server, opened, group):
    writer, reader = opened(), opened()
    writer.join(group, "a", ack(1))
    writer.publish(group, "a", ack(2))
    cursor = reader.read_since(group, None).cursor
    keys = reader._calls.group(group).keys
    with server.client() as client:
        # As its script does: the record and its version change, and no patch is written.
        version = client.hincrby(keys[0], "version", 1)
        client.hset(keys[0], f"m{version}", 1)
        client.zadd(keys[script.PARTS.index("changes")], {"a": version})
        client.hset(keys[script.PARTS.index("records")], "a", ack(3))
    second = reader.read_since(group, cursor)
    writer.publish(group, "a", ack(4))
    third = reader.read_since(group, second.cursor)
    assert [dict(each.changed) for each in (second, third)] == [{"a": ack(3)}, {"a": ack(4)}]


def test_a_patch_for_another_record_than_the_one_that_it_replaces_is_not_kept(
    server, opened, group, monkeypatch
):
    writer, reader = opened(), opened()
    writer.join(group, "a", ack(1))
    cursor = reader.read_since(group, None).cursor
    good = patches.patch_of(ack(1), ack(2))
    assert good is not None
    wrong = [good._replace(base=base) for base in (b"", b"none", patches.checksum(ack(2)))]
    for number, patch in enumerate([*wrong, good[:2], ()], 10):
        monkeypatch.setattr("hashring.drivers.redis.driver.patch_of", lambda *_, n=patch: n)
        writer.publish(group, "a", ack(number))
        changes = reader.read_since(group, cursor)
        cursor = changes.cursor
        assert (dict(changes.changed), changes.complete) == ({"a": ack(number)}, False)
        with server.client() as client:
            assert client.hget(reader._calls.group(group).keys[0], "q:a") is None


def test_a_patch_that_does_not_make_the_record_brings_everything(opened, group, monkeypatch):
    writer, reader = opened(), opened()
    writer.join(group, "a", ack(1))
    cursor = reader.read_since(group, None).cursor
    good = patches.patch_of(ack(1), ack(2))
    assert good is not None
    nonsense = [
        (good.shared, b""),  # it makes another record
        (b"\0\3\0\4\1", b""),
        (b"\xff\xff\xff\xff\0", b""),
        (b"\0\1\0\2\1o", b"\x40too short"),
        (b"\0\1\0\2\1n\0\0\0\0\0", b"\0"),
        (b"\0\1\0\2\1r\7\0\0", b""),
        (b"\0\1\0\2\1s\0", b""),
        (b"\0\1\0\2\1?", b""),
        (b"x", b"y"),
    ]
    for number, (shared, own) in enumerate(nonsense, 10):

        def wrong(old, _, shared=shared, own=own):
            return patches.Patch(patches.checksum(old), shared, own)

        monkeypatch.setattr("hashring.drivers.redis.driver.patch_of", wrong)
        writer.publish(group, "a", ack(number))
        changes = reader.read_since(group, cursor)
        cursor = changes.cursor
        assert (dict(changes.changed), changes.complete) == ({"a": ack(number)}, True)


def test_patches_that_do_not_fit_what_is_known_bring_everything(opened, group):
    writer, reader = opened(), opened()
    writer.join(group, "a", ack(1))
    writer.join(group, "b", ack(1))
    first = reader.read_since(group, None)
    reader._calls.group(group).records["a"] += b" "  # whatever has damaged it
    writer.publish(group, "a", ack(2))
    second = reader.read_since(group, first.cursor)
    assert second.complete
    assert dict(second.changed) == {"a": ack(2), "b": ack(1)}


def test_an_older_copy_that_is_put_back_under_a_running_server_brings_everything(
    server, opened, group
):
    writer, reader = opened(), opened()
    writer.join(group, "a", ack(1))
    writer.join(group, "b", ack(1))
    with redis.Redis(unix_socket_path=str(server.socket)) as client:
        keys = writer._calls.group(group).keys
        copies = {each: client.dump(each) for each in keys}
        writer.publish(group, "a", ack(2))
        cursor = reader.read_since(group, None).cursor
        for each, copy in copies.items():
            client.restore(each, 0, copy, replace=True)
    # The copy goes on from there, past the version that was read.
    late = opened()
    for number in range(3, 7):
        late.join(group, f"late-{number}", ack(number))
    changes = reader.read_since(group, cursor)
    assert changes.complete
    assert dict(changes.changed) == dict(late.read(group).records)
    assert changes.changed["a"] == ack(1)


def test_a_cursor_of_another_servers_history_brings_everything(opened, group):
    with RedisServer() as another:
        one, other = opened(), opened(another.url)
        for driver in (one, other):
            driver.join(group, "a", ack(1))
            driver.publish(group, "a", ack(2))
        cursor = one.read_since(group, None).cursor
        for reader in (other, opened(another.url)):
            changes = reader.read_since(group, cursor)
            assert changes.complete
            assert dict(changes.changed) == {"a": ack(2)}


def test_what_is_kept_of_changes_goes_with_the_members_and_does_not_grow(server, opened, group):
    writer = opened()
    writer.join(group, "stays", ack(0))
    for number in range(40):
        writer.join(group, f"passing-{number}", ack(0))
        writer.publish(group, f"passing-{number}", ack(1))
        writer.leave(group, f"passing-{number}")
        for turn in range(6):
            writer.publish(group, "stays", ack(10 * number + turn))
    with server.client() as client:
        key = writer._calls.group(group).keys[0]
        assert {field for field in client.hkeys(key) if field.startswith("q:")} == {"q:stays"}
        assert client.hstrlen(key, "q:stays") < 4 * len(ack(0))


def test_what_an_earlier_release_left_of_patches_is_cleared_away(
    server, opened, group, monkeypatch
):
    writer = opened()
    writer.join(group, "a", ack(0))
    key = writer._calls.group(group).keys[0]
    with server.client() as client:
        client.hset(
            key, mapping={f"{kind}:gone-{number}": b"x" for kind in "dpq" for number in range(500)}
        )
        client.hset(key, mapping={"d:a": b"x", "p:a": b"x"})
        writer.publish(group, "a", ack(1))
        assert {field for field in client.hkeys(key) if field[1:2] == ":"} == {"q:a"}


# ---- messages -----------------------------------------------------------------------------------


def messages(server: RedisServer) -> int:
    with server.client() as client:
        return int(client.info("commandstats").get("cmdstat_publish", {"calls": 0})["calls"])


def test_in_a_large_group_acks_are_not_announced_one_by_one_and_none_is_missed(
    server, opened, group
):
    writer, reader = opened(), opened()
    members = [f"m{number:03}" for number in range(100)]
    for member in members:
        writer.join(group, member, ack(1))
    changes = reader.read_since(group, None)
    records = dict(changes.changed)
    before = messages(server)
    done = threading.Event()

    def publish() -> None:
        for member in members:
            writer.publish(group, member, ack(2))
        done.set()

    began = time.monotonic()
    thread = threading.Thread(target=publish)
    thread.start()
    while set(records.values()) != {ack(2)}:
        reader.wait(group, 120.0)
        changes = reader.read_since(group, changes.cursor)
        records = changes.applied_to(records)
        assert time.monotonic() - began < 90, "a wait did not return for what was not announced"
    thread.join()
    took = time.monotonic() - began
    assert messages(server) - before <= 2 + took / 0.1


def test_in_a_large_group_who_comes_or_goes_is_announced_at_once(server, opened, group):
    writer = opened()
    for number in range(30):
        writer.join(group, f"m{number:03}", ack(1))
    before = messages(server)
    for number in range(5):
        writer.join(group, f"new{number}", ack(1))
        writer.leave(group, f"new{number}")
    assert messages(server) - before == 10


def test_in_a_small_group_each_change_is_announced(server, opened, group):
    writer = opened()
    for number in range(16):
        writer.join(group, f"m{number:03}", ack(0))
    before = messages(server)
    for number in range(1, 11):
        writer.publish(group, "m000", ack(number))
    assert messages(server) - before == 10


def test_a_subscription_that_is_alive_is_kept_through_changes_that_are_not_announced(
    server, opened, group
):
    writer, reader = opened(), opened(f"{server.url}?poll=0.05")
    members = [f"m{number:03}" for number in range(40)]
    for member in members:
        writer.join(group, member, ack(0))
    cursor = reader.read_since(group, None).cursor
    reader.wait(group, 0.2)
    kept = reader._calls.group(group).subscription
    assert kept is not None
    for number in range(1, 60):
        writer.publish(group, members[number % 40], ack(number))
        reader.wait(group, 0.1)
        cursor = reader.read_since(group, cursor).cursor
    assert reader._calls.group(group).subscription is kept


# ---- patches, without a server ------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=20,
)


@examples(60)
@given(JSON, JSON, st.binary(max_size=300), st.binary(max_size=300), st.binary(max_size=300))
def test_a_patch_makes_the_new_record_of_the_old_one(one, other, head, middle, tail):
    fixed = {"constant": "x" * 200, "z": "y" * 100}
    pairs = [
        tuple(json.dumps({**fixed, "a": value, "t": value}).encode() for value in (one, other)),
        (head + middle + tail, head + tail),
        (head + tail, head + middle + tail),
        (head, tail),
    ]
    for old, new in pairs:
        patch = patches.patch_of(old, new)
        if patch is not None:
            assert patches.applied(old, patch) == new
            assert len(patch.shared) + len(patch.own) < len(new)


@examples(60)
@given(st.binary(max_size=60), st.binary(max_size=60))
def test_torn_patches_are_an_error_and_no_record(strings, entries):
    try:
        records = patches.records_of({"": b"", "a": b"record"}, strings, entries)
    except patches.Torn:
        return
    # Nothing but what the checksum confirms.
    assert all(record in {b"", b"record"} or record in strings for record in records.values())


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.binary(min_size=12, max_size=100), min_size=2, max_size=6))
def test_base64_in_a_record_is_sent_as_the_bytes_that_it_stands_for(opened, contents):
    writer, reader, group = opened(), opened(), next(GROUPS)
    texts = [base64.b64encode(content).decode() for content in contents]
    writer.join(group, "a", ack(0, claims=texts[0]))
    follower = Follower(reader, group)
    follower.read()
    for number, text in enumerate(texts[1:], 1):
        before = writer._calls.own[group, "a"].record
        patch = patches.patch_of(before, ack(number, claims=text))
        assert patch is not None
        assert text == texts[number - 1] or contents[number] in patch.shared + patch.own
        writer.publish(group, "a", ack(number, claims=text))
        changes = follower.read()
        assert not changes.complete
        assert dict(follower.records) == {"a": ack(number, claims=text)}
        with redis.Redis(port=writer.url.hosts[0][1]) as client:
            assert client.hexists(writer._calls.group(group).keys[0], "q:a")


def test_a_record_that_is_too_large_is_sent_whole(opened, group):
    writer, reader = opened(), opened()
    writer.join(group, "a", ack(1, meta="x" * 100_000))
    first = reader.read_since(group, None)
    writer.publish(group, "a", ack(2, meta="x" * 100_000))
    second = reader.read_since(group, first.cursor)
    assert dict(second.changed) == {"a": ack(2, meta="x" * 100_000)}
