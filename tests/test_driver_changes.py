"""`read_since`: what the suite finds where one is wrong, and what a member makes of it.

A broken driver is ``memory://`` with one mistake in its `read_since`. The suite's tests are called
on it one by one, as pytest would.
"""

from __future__ import annotations

import itertools
import logging
import math
import uuid
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hashring
from hashring.driver import Changes, Driver, Reading, driver_class, load
from hashring.errors import StoreUnavailable
from hashring.partition.readings import Readings
from tests.servers.process import wait_until
from tests.test_driver_suite import Brief, Memory, Suite, passes

RECORD = b'{"incarnation": "1"}'


class Offers(Memory):  # type: ignore[misc, valid-type]
    """As it should be; what is wrong with a class below it is in `wrong`."""

    def read_since(self, group: str, cursor: bytes | None) -> Changes:
        changes: Changes = super().read_since(group, cursor)
        return self.wrong(group, cursor, changes)

    def wrong(self, group: str, cursor: bytes | None, changes: Changes) -> Changes:
        return changes


class MissesDeletions(Offers):
    def wrong(self, group, cursor, changes):
        return changes._replace(gone=())


class MissesDeletionsAndCountsThem(Offers):
    """As if the journal had an entry for each record and none for what went."""

    def wrong(self, group, cursor, changes):
        self.missed = getattr(self, "missed", set()) | {*changes.gone}
        if cursor is None:
            self.missed = set()
        self.missed -= changes.changed.keys()
        return changes._replace(gone=(), size=changes.size + len(self.missed))


class TrustsACursorOfAnyHistory(Offers):
    """A group that was begun anew, or another store, has lower versions: all seems to be known."""

    def wrong(self, group, cursor, changes):
        if cursor and changes.complete:
            return changes._replace(changed={}, complete=False)
        return changes


class TakesTheCursorForItsOwn(Offers):
    """It keeps the cursor itself, and answers from where it was, whatever it is asked."""

    def read_since(self, group, cursor):
        changes = super().read_since(group, getattr(self, "at", None) if cursor else None)
        self.at = changes.cursor
        return changes


class CutsItsJournalWithoutAWord(Offers):
    """What the journal has no longer is left out, and nobody is told."""

    def read_since(self, group, cursor):
        journal = self._attached().group(group).journal
        floor, journal._floor = journal._floor, 0
        changes = super().read_since(group, cursor)
        journal._floor = floor
        return changes


class LosesWhatChangedBetweenTwoCalls(Offers):
    """The cursor is of after the call, and what changed meanwhile is in no answer."""

    lost = 0

    def wrong(self, group, cursor, changes):
        self.lost += 1
        if self.lost % 5 == 0:
            kept = dict(itertools.islice(changes.changed.items(), 1, None))
            return changes._replace(changed=kept)
        return changes


class AnswersFromACache(Offers):
    def wrong(self, group, cursor, changes):
        self.calls = getattr(self, "calls", 0) + 1
        if self.calls % 3 and hasattr(self, "kept") and cursor == self.kept[0]:
            return self.kept[1]
        self.kept = cursor, changes
        return changes


class SendsEverythingEachTime(Offers):
    def wrong(self, group, cursor, changes):
        return super(Offers, self).read_since(group, None)


class SendsEverythingAsChanges(Offers):
    def wrong(self, group, cursor, changes):
        return super(Offers, self).read_since(group, None)._replace(complete=cursor is None)


class TellsNoSize(Offers):
    def wrong(self, group, cursor, changes):
        return changes._replace(size=len(changes.changed))


class NeverSeesALeaseEnd(Offers):
    def read_since(self, group, cursor):
        store = self._attached()
        with store.changed:
            state = store.groups.setdefault(group, None) or store.group(group)
            self._seen[group] = state.version
            return state.since(cursor)


class CountsTimeFromTheCursor(Offers):
    """The memory age is of the changes, and not of the store."""

    def wrong(self, group, cursor, changes):
        return changes._replace(memory_age=0.0)


class ForgetsWhatWaitMustKnow(Offers):
    """A wait counts from its own beginning, whatever changed since the last reading."""

    def wait(self, group, timeout):
        self._seen[group] = self._attached().group(group).version
        super().wait(group, timeout)


class DoesNotTellWait(Offers):
    """A wait counts from the last `read`, and returns at once ever after."""

    def read_since(self, group, cursor):
        seen = dict(self._seen)
        changes = super().read_since(group, cursor)
        self._seen = seen
        return changes


class DoesNotCheckNames(Offers):
    def read_since(self, group, cursor):
        store = self._attached()
        with store.changed:
            return store.group(group).since(cursor)


class DropsLargeRecords(Offers):
    def wrong(self, group, cursor, changes):
        cut = {member: record[:65536] for member, record in changes.changed.items()}
        return changes._replace(changed=cut)


class StopsOffering(Offers):
    """It offers it once, and then not any more."""

    def wrong(self, group, cursor, changes):
        return changes if cursor is None else None


TOGETHER = "put_together_are_what_a_reading_shows"
MISTAKES = [
    (MissesDeletions, TOGETHER),
    (MissesDeletionsAndCountsThem, TOGETHER),
    (TrustsACursorOfAnyHistory, "since_a_cursor_that_is_not_of_this_store_are_everything"),
    (TakesTheCursorForItsOwn, "of_a_random_history_are_what_a_reading_shows_at_each_step"),
    (CutsItsJournalWithoutAWord, "since_a_cursor_that_is_too_old_are_everything_or_right"),
    (LosesWhatChangedBetweenTwoCalls, TOGETHER),
    (AnswersFromACache, TOGETHER),
    (SendsEverythingEachTime, "bring_what_changed_and_nothing_else"),
    (SendsEverythingAsChanges, TOGETHER),
    (TellsNoSize, TOGETHER),
    (NeverSeesALeaseEnd, "show_a_lease_that_ran_out"),
    (CountsTimeFromTheCursor, "and_readings_tell_the_same_memory_age"),
    (ForgetsWhatWaitMustKnow, "wake_a_wait_as_readings_do"),
    (DoesNotTellWait, "wake_a_wait_as_readings_do"),
    (DoesNotCheckNames, "of_a_group_or_a_driver_that_cannot_be_asked_are_refused"),
    (DropsLargeRecords, "carry_large_records_and_odd_bytes"),
    (StopsOffering, "are_of_now_and_from_no_cache"),
]


@pytest.mark.parametrize(
    ("broken", "test"), MISTAKES, ids=[broken.__name__ for broken, _ in MISTAKES]
)
def test_a_mistake_in_read_since_is_found(broken, test):
    assert passes(Offers, f"test_changes_{test}")
    assert not passes(broken, f"test_changes_{test}", Brief)


@pytest.mark.parametrize("test", [name for name in dir(Suite) if name.startswith("test_changes_")])
def test_a_driver_that_does_not_offer_it_passes(test):
    class ReadsOnly(Memory):
        def read(self, group):
            return super().read(group)

    assert ReadsOnly.read_since is Driver.read_since
    assert passes(ReadsOnly, test)


# ---- a random history, on a store without a network ---------------------------------------------

NAMES = itertools.count()
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["join", "publish", "leave", "expire", "churn", "read", "again"]),
        st.sampled_from("abc"),
        st.binary(max_size=4),
    ),
    max_size=40,
)


@pytest.mark.parametrize("store", ["memory", "sqlite"])
def test_what_is_put_together_is_what_is_read_whatever_has_happened(store, tmp_path):
    numbers = itertools.count()

    @settings(max_examples=25 if store == "memory" else 10, deadline=None)
    @given(STEPS)
    def holds(steps):
        url = {"memory": f"memory://{uuid.uuid4().hex}", "sqlite": f"sqlite://{tmp_path}/g.db"}
        group = f"g{next(numbers)}"
        writer, reader = load(url[store], ttl=60), load(url[store], ttl=60)
        dying = load(url[store], ttl=1e-9)
        for each in (writer, reader, dying):
            each.open()
        try:
            records, cursor, past = {}, None, []
            for what, member, record in steps:
                play(writer, dying, group, what, member, record)
                if what == "again" and past:
                    cursor, records = past[len(past) // 2]
                if what in {"read", "again"}:
                    changes = reader.read_since(group, cursor)
                    records, cursor = changes.applied_to(records), changes.cursor
                    past.append((cursor, records))
                    assert len(records) == changes.size
                    assert records == dict(reader.read(group).records)
        finally:
            for each in (writer, reader, dying):
                each.close()

    holds()


def play(writer: Driver, dying: Driver, group: str, what: str, member: str, record: bytes) -> None:
    if what == "join":
        writer.join(group, member, record)
    elif what == "publish" and member in writer.read(group).records:
        writer.publish(group, member, writer.read(group).records[member])
        writer.leave(group, member)
        writer.join(group, member, record + b"!")
    elif what == "leave":
        writer.leave(group, member)
    elif what == "expire":
        dying.join(group, f"dying-{member}", record)
    elif what == "churn":
        for _ in range(40):
            passing = f"passing-{next(NAMES)}"
            writer.join(group, passing, record)
            writer.leave(group, passing)


# ---- what a member makes of it ------------------------------------------------------------------


class Scripted(Memory):  # type: ignore[misc, valid-type]
    """Answers as the test says; a callable is called with the true answer."""

    def __init__(self, url: str) -> None:
        super().__init__(load(url).url, ttl=60.0)
        self.lies: list[Callable[[Changes], Changes | None]] = []
        self.whole = 0

    def read(self, group: str) -> Reading:
        self.whole += 1
        return super().read(group)

    def read_since(self, group: str, cursor: bytes | None) -> Changes | None:
        changes = super().read_since(group, cursor)
        return self.lies.pop(0)(changes) if self.lies else changes


@pytest.fixture
def scripted():
    driver = Scripted(f"memory://{uuid.uuid4().hex}")
    driver.open()
    yield driver
    driver.close()


def test_a_reading_is_whole_and_does_not_change_when_the_group_does(scripted):
    readings = Readings(scripted, "g", "a")
    scripted.join("g", "a", RECORD)
    first = readings.read()
    scripted.publish("g", "a", RECORD + b" ")
    second = readings.read()

    assert first == Reading({"a": RECORD}, math.inf)
    assert dict(second.records) == {"a": RECORD + b" "}
    with pytest.raises(TypeError):
        second.records["a"] = b""
    assert scripted.whole == 0


def test_a_driver_that_does_not_offer_it_is_read_as_before():
    class ReadsOnly(Memory):
        def read(self, group):
            return super().read(group)

    driver = ReadsOnly(load("memory://reads-only").url, ttl=60.0)
    driver.open()
    driver.join("g", "a", RECORD)

    assert dict(Readings(driver, "g", "a").read().records) == {"a": RECORD}
    driver.close()


@pytest.mark.parametrize(
    ("error", "is_whole"),
    [
        (StoreUnavailable, False),  # a busy store is not asked for all that it has by everybody
        (RuntimeError, True),  # a defect: who knows what the driver knows
    ],
)
def test_after_a_lost_answer_the_next_brings_what_changed_since_the_last(scripted, error, is_whole):
    readings = Readings(scripted, "g", "a")
    for member in "ab":
        scripted.join("g", member, RECORD)
    readings.read()
    seen = []

    def fails(changes):
        raise error("cut")

    def notes(changes):
        seen.append(changes)
        return changes

    scripted.lies = [fails, notes]
    scripted.publish("g", "a", RECORD + b" ")
    with pytest.raises(error):
        readings.read()
    scripted.leave("g", "b")

    assert dict(readings.read().records) == {"a": RECORD + b" "}
    assert [changes.complete for changes in seen] == [is_whole]


def test_changes_that_miss_somebody_are_noticed_by_their_number(scripted, caplog):
    readings = Readings(scripted, "g", "a")
    for member in "ab":
        scripted.join("g", member, RECORD)
    readings.read()
    scripted.leave("g", "b")
    scripted.lies = [lambda changes: changes._replace(gone=())]

    assert readings.read().records.keys() == {"a"}
    assert scripted.whole == 0  # read_since, from the start, brought everything

    scripted.leave("g", "a")
    scripted.lies = [lambda changes: changes._replace(gone=(), size=7)] * 2
    with caplog.at_level(logging.ERROR):
        assert readings.read().records == {}
    assert "tell the driver's author" in caplog.text
    assert scripted.whole == 1
    readings.read()
    assert scripted.whole == 2  # for good


def test_a_change_that_was_missed_is_found_by_the_check_and_no_change_since_is(scripted, caplog):
    now = [0.0]
    readings = Readings(scripted, "g", "a", now=lambda: now[0])
    for member in "ab":
        scripted.join("g", member, RECORD)
    readings.read()

    def publishes(changes):
        # Between the reading and its check: changed since, and not missed.
        scripted.publish("g", "b", RECORD + b" ")
        return changes

    scripted.lies = [publishes]
    now[0] += 1000
    assert readings.read().records["b"] == RECORD + b" "
    assert scripted.whole == 1
    assert caplog.text == ""

    scripted.publish("g", "a", RECORD + b"\n")
    scripted.lies = [lambda changes: changes._replace(changed={})]
    now[0] += 1000
    with caplog.at_level(logging.ERROR):
        assert readings.read().records["a"] == RECORD + b"\n"
    assert "missed what became of a" in caplog.text


def test_changes_that_are_not_all_where_all_were_asked_for_are_not_taken_for_all(scripted, caplog):
    readings = Readings(scripted, "g", "a")
    scripted.join("g", "a", RECORD)
    scripted.lies = [lambda changes: changes._replace(complete=False)] * 2

    assert readings.read().records == {"a": RECORD}
    assert scripted.whole == 1
    assert "tell the driver's author" in caplog.text


def test_a_driver_that_tells_no_changes_any_more_at_a_check_is_read_as_it_is(scripted):
    now = [0.0]
    readings = Readings(scripted, "g", "a", now=lambda: now[0])
    scripted.join("g", "a", RECORD)
    readings.read()
    scripted.lies = [lambda changes: changes, lambda changes: None]
    now[0] += 1000

    assert readings.read().records == {"a": RECORD}
    assert scripted.whole == 2


def test_readings_that_bring_nothing_but_acks_are_counted(scripted):
    readings = Readings(scripted, "g", "a")
    scripted.join("g", "a", RECORD)
    counted = []
    for turn, view in enumerate(["v1", "v1", "v1", "v2", "v2", "v2"]):
        if turn != 5:
            scripted.publish("g", "a", RECORD + b" " * turn)
        readings.note(readings.read(), view)
        counted.append(readings.acks)

    # The first, two acks, another view, an ack, and nothing at all.
    assert counted == [0, 1, 2, 0, 1, 0]


def test_a_member_reads_what_changed_and_settles(tmp_path):
    counted = []

    class Counting(driver_class("sqlite")):
        def read_since(self, group, cursor):
            changes = super().read_since(group, cursor)
            counted.append(changes)
            return changes

    driver = Counting(load(f"sqlite://{tmp_path}/g.db").url, ttl=10.0)
    with (
        hashring.join(driver, "g", "a") as a,
        hashring.join(f"sqlite://{tmp_path}/g.db", "g", "b") as b,
    ):
        wait_until(
            lambda: a.state == b.state == "settled" and len(a.members) == 2, what="both settled"
        )
        # A look before the join, and the first reading.
        assert [changes.complete for changes in counted][:3] == [True, True, False]
        assert not any(changes.complete for changes in counted[2:])
