"""The exhaustive search reaches every state of a small group, and finds what is wrong in it."""

import dataclasses

import pytest

from hashring.protocol.handoff import Handoff
from hashring.testing.simulation import exhaustive
from hashring.testing.simulation.exhaustive import Limits, search
from hashring.testing.simulation.lives import OVERWRITTEN, Store
from hashring.testing.simulation.values import copied, frozen
from tests import planted

NOTHING = Limits(**{field.name: 0 for field in dataclasses.fields(Limits)})


def limits(**found):
    return dataclasses.replace(NOTHING, **found)


@pytest.mark.parametrize(
    ("settled", "allowed"),
    [
        pytest.param(0, limits(drains=1), marks=pytest.mark.long),
        pytest.param(1, limits(pins=1, drains=1), marks=pytest.mark.long),
        (1, limits(losses=1)),
        pytest.param(2, limits(crashes=1, ticks=3), marks=pytest.mark.long),
        (2, limits(forgets=1, ticks=1)),
        (2, limits(parks=1, starts=1)),
        (2, limits(parks=1, ticks=2)),
        pytest.param(2, limits(parks=1, starts=1, ticks=3), marks=pytest.mark.long),
    ],
)
def test_two_members_keep_the_rules_in_every_state_that_they_can_reach(settled, allowed):
    outcome = search(2, settled=settled, depth=200, limits=allowed)

    assert outcome.is_complete
    assert outcome.counterexample is None, str(outcome.counterexample)
    assert outcome.states > 300


def test_three_members_keep_the_rules_as_deep_as_a_short_search_looks():
    outcome = search(3, settled=2, depth=9, limits=limits(losses=1, pins=1, drains=1))

    assert outcome.counterexample is None, str(outcome.counterexample)
    assert not outcome.is_complete
    assert outcome.states > 5_000


def test_three_members_keep_the_rules_while_one_of_them_is_away():
    outcome = search(3, settled=3, depth=11, limits=limits(parks=1, starts=1, ticks=2))

    assert outcome.counterexample is None, str(outcome.counterexample)
    assert outcome.states > 1_000


class SaysThatItHoldsNothingAndHolds(Handoff):
    """Rule 1 left out: a new view takes nothing from what is held."""

    def _turn_to(self, view, wall, worked):
        held = self._custody.held
        super()._turn_to(view, wall, worked)
        self._custody.held, self._custody._losses = held, []


@pytest.mark.parametrize(
    ("trap", "settled", "allowed", "symptom"),
    [
        (planted.TrustsEvidenceFromBeforeItsAck, 0, limits(), "both hold"),
        (planted.TrustsANullSeenBeforeItsAck, 2, limits(drains=1, pins=1), "both hold"),
        (planted.AcksBeforeItDrops, 1, limits(pins=1), "more in hand"),
        (planted.NeverFences, 2, limits(ticks=3), "both hold"),
        (planted.DoesNotStandStill, 2, limits(forgets=1), "both hold"),
        (planted.KeepsWhatItHeldWhenItsRecordIsGone, 2, limits(ticks=3), "both hold"),
        (SaysThatItHoldsNothingAndHolds, 1, limits(), "more in hand"),
    ],
)
def test_the_search_finds_a_planted_mistake(trap, settled, allowed, symptom):
    # One of them looks back at an older reading: what states are told apart by must have it.
    looks_back = trap is planted.TrustsEvidenceFromBeforeItsAck
    overwritten = frozenset() if looks_back else OVERWRITTEN

    outcome = search(
        2, settled=settled, depth=40, limits=allowed, make_handoff=trap, overwritten=overwritten
    )

    assert outcome.counterexample is not None
    assert symptom in outcome.counterexample.rule


def test_the_search_finds_an_act_that_is_confirmed_before_its_call_returned():
    outcome = search(
        2,
        settled=1,
        depth=40,
        limits=limits(losses=1),
        make_runner=planted.ConfirmsBeforeTheCallReturns,
    )

    assert outcome.counterexample is not None
    assert "more in hand" in outcome.counterexample.rule


def test_a_counterexample_is_a_conversation_with_a_line_for_each_event():
    outcome = search(
        2, settled=2, depth=20, limits=limits(ticks=3), make_handoff=planted.NeverFences
    )

    text = str(outcome.counterexample)
    lines = text.splitlines()
    assert lines[-1].startswith("violation: a and b both hold")
    assert sum("time passes" in line for line in lines) == 3
    assert any("a: starts, sends join a(null)" in line for line in lines)
    assert all("| a " in line for line in lines[:-1])


def test_a_branch_never_changes_the_state_that_it_left():
    class Remembers:
        def __init__(self):
            self.seen = [{"a": [1]}]

    one = Remembers()
    before = frozen(one)
    other = copied(one)
    other.seen[0]["a"].append(2)

    assert frozen(one) == before
    assert frozen(other) != before


def test_what_the_search_cannot_compare_is_an_error_and_no_silent_merge():
    with pytest.raises(TypeError, match="object"):
        frozen([object()])


def test_the_store_of_the_search_forgets_an_expired_lease_and_then_refuses_its_writes():
    from hashring.testing.simulation.lives import Request

    store, error = Store().take("a", Request("join", "a1", b"{}"))
    for _ in range(3):
        store = store.later()

    assert error == ""
    assert store.take("a", Request("publish", "a1", b"{}"))[1] == "LeaseLost"
    assert store.heartbeat("a", "a1")[1] == "LeaseLost"


def test_the_command_says_how_many_states_it_saw(capsys):
    assert exhaustive.main(["--depth", "6"]) == 0

    assert "2 members, 0 settled at first, 4 slots: " in (said := capsys.readouterr().out)
    assert "distinct states within 6 events (more lie deeper), 0 violations" in said
