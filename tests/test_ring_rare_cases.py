"""What hardly ever comes up in a ring: on both engines, so that each line of the plain one runs."""

import importlib.util
import sys

import pytest

import hashring.ring.ring
from hashring.errors import UnknownMember


def test_rings_and_slots_say_what_they_are(twin):
    ring = twin.HashRing(["a", "b"], slots=64, vnodes=2)

    assert repr(ring).startswith("<HashRing: 2 members, ")
    assert repr(twin.SlotSet.of([1, 2], 256)) == "<SlotSet: 2 of 256 slots>"


def test_slots_are_in_no_order_with_anything_else(twin):
    some = twin.SlotSet.of([1, 2], 256)

    for compare in ("__lt__", "__le__", "__gt__", "__ge__"):
        assert getattr(some, compare)({1, 2}) is NotImplemented


@pytest.mark.parametrize(
    ("counts", "capacities", "said"),
    [([1], [64, 64], "one length"), ([1, 1], [64], "one length"), ([1, 1], [8, 8], "out of range")],
)
def test_a_table_that_is_made_of_what_does_not_fit_is_refused(twin, counts, capacities, said):
    with pytest.raises(ValueError, match=said):
        twin.ring.Table(("a", "b"), counts, capacities, 64, 0)


def test_a_member_that_a_table_does_not_have_owns_no_slots(twin):
    table = twin.ring.Table(("a", "b"), [2, 2], [64, 64], 64, 0)

    for index in (-1, 2):
        with pytest.raises(UnknownMember):
            table.slots_of(index)


def test_keys_that_a_key_function_changes_meanwhile_are_gone_through_again(twin):
    """What was added while they were looked through stays, what was to go is gone."""
    late = []

    def key(item):
        if item == "y" and late:
            keys.add([late.pop()])
        return item

    keys = twin.Keys(["x", "y"], key=key)
    late.append("late")

    assert keys.remove(["x"]) == 1

    # The compiled engine has the keys of its items, and asks for none here.
    assert list(keys) == ["y", *([] if late else ["late"])]


def test_where_no_extension_was_built_the_ring_is_on_the_plain_engine(monkeypatch):
    monkeypatch.setitem(sys.modules, "hashring.ring._engine", None)  # an import of it fails
    monkeypatch.delenv("HASHRING_PURE_PYTHON", raising=False)
    spec = importlib.util.spec_from_file_location("ring_alone", hashring.ring.ring.__file__)
    module = importlib.util.module_from_spec(spec)

    spec.loader.exec_module(module)

    assert module.Table.__module__ == "hashring.ring.reference"
    assert module.HashRing(["a"], slots=64).owner("x") == "a"
