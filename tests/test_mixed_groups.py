"""Groups that are upgraded one member after the other: some gates wait for all, some for pairs."""

import dataclasses

import pytest

from hashring.testing.simulation import Violation, run
from hashring.testing.simulation.exhaustive import Limits, search
from tests.former import mixed

FIRST = 3
"""So many members, of two to five, are there from the start: the others join."""


def number(member):
    return int(member[1:])


WAYS = {
    "the former first": lambda member: number(member) < FIRST,
    "the present first": lambda member: number(member) >= FIRST,
    "by turns": lambda member: number(member) % 2 == 0,
}


def violations(profile, way, seeds):
    found = []
    for seed in seeds:
        try:
            run(seed, profile, make_handoff=mixed(WAYS[way]))
        except Violation as violation:
            found.append(str(violation))
    return found


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("profile", "runs"),
    [
        ("chaos", 3),
        ("crash-skip", 3),
        ("planned", 1),
        *(
            pytest.param(profile, 30, marks=pytest.mark.long)
            for profile in ("chaos", "crash-skip", "planned")
        ),
        pytest.param("slow", 100, marks=pytest.mark.long),
        pytest.param("forgetful", 100, marks=pytest.mark.long),
    ],
)
def test_a_group_of_both_protocols_holds_no_slot_twice_works_as_promised_and_settles(
    profile, runs, way
):
    assert violations(profile, way, range(3000, 3000 + runs)) == []


@pytest.mark.long
@pytest.mark.parametrize("way", WAYS)
def test_where_members_of_both_protocols_crash_a_window_may_come_again_and_no_slot_is_held_twice(
    way,
):
    found = violations("slow-crash", way, range(2100, 2230))

    assert [violation for violation in found if "repeats" not in violation] == []


@pytest.mark.parametrize("former", ["a", "b"])
def test_one_of_each_protocol_keep_the_rules_in_every_state_that_they_can_reach(former):
    allowed = Limits(**{field.name: 0 for field in dataclasses.fields(Limits)})

    outcome = search(
        2,
        settled=1,
        depth=200,
        limits=dataclasses.replace(allowed, losses=1),
        make_handoff=mixed(lambda member: member == former),
    )

    assert outcome.is_complete
    assert outcome.counterexample is None, str(outcome.counterexample)
    assert outcome.states > 300
