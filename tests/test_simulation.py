"""The simulator finds what is wrong, and finds nothing wrong with ours."""

import dataclasses

import pytest

from hashring.protocol import handoff
from hashring.protocol.claims import merged
from hashring.protocol.handoff import TRANSITIONS, Handoff
from hashring.protocol.view import MAX_CLAIMS, Claim
from hashring.protocol.windows import Stream
from hashring.testing.simulation import simulation
from hashring.testing.simulation.simulation import PROFILES, Violation, run

SEEDS = 400

CRASHES = dataclasses.replace(
    PROFILES["slow-crash"],
    rates=(("join", 6.0), ("crash", 4.0)),
    members=(3, 5),
    catch_up=6 * simulation.TTL,
)
"""Members in long cycles keep claims for long, and many new owners crash."""


class TrustsEvidenceFromBeforeItsAck(Handoff):
    """The reading that led to the ack also serves as the gate."""

    def _is_fresh(self, token):
        return True

    def published(self):
        super().published()
        if self._acked is not None and self._settled != self._acked and not self._gaining:
            self._try_to_gain(self._token, 0.0, 1000.0)
            super().published()


class TrustsANullSeenBeforeItsAck(Handoff):
    """Who once showed null is taken to hold nothing."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.nulls = set()

    def observe(self, *arguments, **options):
        super().observe(*arguments, **options)
        self.nulls |= {m.incarnation for m in self.members.values() if m.applied is None}

    def _may_hold(self, member, wanted):
        if member.incarnation in self.nulls:
            return wanted - wanted
        return super()._may_hold(member, wanted)


class AcksBeforeItDrops(Handoff):
    """Rule 1 upside down: publishes the view while a cycle still pins what it takes away."""

    def _finish_losing(self, owed):
        if self._losing and self._acked == self._target:
            super()._finish_losing(owed)

    def decide(self, **options):
        losing, self._losing = self._losing, []
        action = super().decide(**options)
        self._losing = losing
        return action


class NeverFences(Handoff):
    """Rule 3 left out: a heartbeat that is late does not matter."""

    def heartbeat_confirmed(self, token, started):
        super().heartbeat_confirmed(token, started + 1000.0)


class DoesNotStandStill(Handoff):
    """Rule 4 left out: what the store forgot never was."""

    def observe(self, reading, token, **options):
        super().observe(reading._replace(memory_age=float("inf")), token, **options)


class KeepsWhatItHeldWhenItsRecordIsGone(Handoff):
    """Rule 4 too far: every lost record is taken for a store that forgot."""

    def _record_gone(self, reading, now):
        return super()._record_gone(reading._replace(memory_age=0.0), min(now, self.deadline - 1))

    def _back_in_store(self, now):
        super()._back_in_store(min(now, self.deadline - 1))


class RejoinsWithoutLookingAtTheClock(Handoff):
    """Rule 4 without its end: the fence may pass while the join is under way."""

    def _back_in_store(self, now):
        self._rejoining = False
        super()._back_in_store(now)


class ForgetsWhatItLost(Handoff):
    """Rule 5 left out: no claims, so every gain looks like a crash."""

    def _keep_claims(self, claims):
        return


class TakesAnUnknownViewForHarmless(Handoff):
    """Rule 2 too far: a view that this member cannot tell the table of gives nobody anything."""

    def _may_hold(self, member, wanted):
        if member.applied is not None and self._view_named(member.applied) is None:
            return wanted - wanted
        return super()._may_hold(member, wanted)


class ReadsTheTableForTheWrongMember(Handoff):
    """Rule 2 misread: what another's view gives to *us* is taken for what it gives to the other."""

    def _may_hold(self, member, wanted):
        held = super()._may_hold(member, wanted)
        view = self._view_named(member.applied) if held else None
        return held if view is None else held & view.slots(self.member)


class BelievesClaimsThatWereDropped(Handoff):
    """Rule 2 without "no claim": a claim under an older view may have been dropped in memory."""

    def _may_hold(self, member, wanted):
        return super()._may_hold(dataclasses.replace(member, claims=()), wanted)


class MarksMoreThanItTook(Handoff):
    """Rule 5: the mark of a part reads like the mark of the whole."""

    def _record(self, applied):
        settled, self._settled = self._settled, self._target if self._took else self._settled
        try:
            return super()._record(applied)
        finally:
            self._settled = settled


class TrustsWhatAStrangerHasApplied(Handoff):
    """Rule 6 without its gate: strangers' slots are not waited for."""

    def _may_hold(self, member, wanted):
        return wanted - wanted if member.id in self.strangers else super()._may_hold(member, wanted)


class EndsForAnyStranger(Handoff):
    """Rule 6 as it was: whoever has not settled in this lease ends where it differs."""

    def _expire(self):
        super()._expire()
        self._has_settled = False


class NeverStandsAside(Handoff):
    """Rule 6 without the rule: each takes its own parameters for the group's."""

    def _look_at_strangers(self, young):
        super()._look_at_strangers(young)
        self._stands_aside = ""


class WaitsForTheClock(Stream):
    """However far the clock has stepped back, it waits until that has caught up."""

    def follow(self, wall):
        return False


def merges_whatever_is_oldest(claims, most):
    """As it was once: a claim that promises nothing swallows the next one's promise."""
    kept = merged(claims, MAX_CLAIMS)
    while len(kept) > most:
        first, second, *rest = kept
        kept = [Claim(first.through, first.slots | second.slots), *rest]
    return kept


class TakesALoweredClaimForTheOlderOne(Handoff):
    """Rule 5: a claim that was lowered by merging is dropped for another's that is older."""

    def _see_marks(self):
        lowered, self._has_lowered = self._has_lowered, False
        super()._see_marks()
        self._has_lowered = lowered


class ChangesItsMetaAllTheTime(Handoff):
    """Ours, with something new to say at every third reading, whatever else is under way."""

    readings = 0

    def observe(self, *arguments, **options):
        super().observe(*arguments, **options)
        self.readings += 1
        if self.readings % 3 == 0:
            self.change_meta({"reading": self.readings})


def seeds_that_fail(profile, make_handoff, seeds=range(SEEDS), enough=1, symptom=""):
    found = []
    for seed in seeds:
        try:
            run(seed, profile, make_handoff=make_handoff)
        except Violation as violation:
            if symptom in str(violation):
                found.append(str(violation))
            if len(found) == enough:
                break
    return found


@pytest.mark.parametrize(
    ("profile", "trap", "symptom"),
    [
        ("chaos", TrustsEvidenceFromBeforeItsAck, "hold"),
        ("chaos", TrustsANullSeenBeforeItsAck, "hold"),
        ("chaos", AcksBeforeItDrops, "hold"),
        ("chaos", NeverFences, "hold"),
        ("forgetful", DoesNotStandStill, "hold"),
        ("chaos", KeepsWhatItHeldWhenItsRecordIsGone, "hold"),
        ("planned", ForgetsWhatItLost, "repeats"),
        ("chaos", TakesAnUnknownViewForHarmless, "hold"),
        ("chaos", ReadsTheTableForTheWrongMember, "hold"),
        (CRASHES, BelievesClaimsThatWereDropped, "repeats"),
        ("planned", MarksMoreThanItTook, "repeats"),
        ("strangers", TrustsWhatAStrangerHasApplied, "hold"),
        ("strangers", EndsForAnyStranger, "ends"),
        ("strangers", NeverStandsAside, ""),
        ("late-loops", TakesALoweredClaimForTheOlderOne, "missed"),
    ],
)
def test_the_simulator_finds_a_planted_mistake(profile, trap, symptom):
    assert seeds_that_fail(profile, trap, symptom=symptom)


class ForgetsWhatBeganSinceItClosed(Stream):
    """A gain lets it skip to the present window, though nobody iterates it any more."""

    def gain(self, batches, wall):
        closed, self.closed = self.closed, False
        super().gain(batches, wall)
        self.closed = closed


def test_the_simulator_finds_windows_that_a_closed_loop_forgot(monkeypatch):
    monkeypatch.setattr(simulation, "Stream", ForgetsWhatBeganSinceItClosed)

    assert seeds_that_fail("ending", Handoff, symptom="missed")


def test_the_simulator_finds_loops_that_wait_for_a_clock_that_stepped_back(monkeypatch):
    monkeypatch.setattr(simulation, "Stream", WaitsForTheClock)

    assert seeds_that_fail("clock-steps", Handoff, symptom="silent")


def test_the_simulator_finds_promises_that_are_lost_where_claims_are_merged(monkeypatch):
    monkeypatch.setattr(handoff, "merged", merges_whatever_is_oldest)

    assert seeds_that_fail("late-loops", Handoff, symptom="missed")


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_our_hand_off_has_no_violation_and_always_settles(profile):
    assert seeds_that_fail(profile, Handoff, range(15), enough=15) == []


def test_planned_changes_work_every_window_exactly_once():
    total = simulation.Result()

    for seed in range(5000, 5015):
        total.add(run(seed, "planned"))

    assert total.worked > 5_000
    assert (total.missed, total.repeated) == (0, 0)
    assert total.events["restart"] > 10


def test_loops_that_end_before_their_members_cost_no_window_and_repeat_none():
    one, two = simulation.Result(), simulation.Result()

    for seed in range(5000, 5015):
        one.add(run(seed, "ending"))
        two.add(run(seed, "two-loops-ending"))

    assert one.events["end"] > 20
    assert one.events["stop"] > 10
    assert (one.missed, one.repeated) == (0, 0)
    assert two.events["end"] > 20
    assert two.repeated == 0


def test_every_state_change_that_the_code_names_does_happen():
    seen = set()

    for seed in range(100):
        for profile in ("chaos", "forgetful", "pause-skip"):
            seen |= run(seed, profile).transitions.keys()
        if TRANSITIONS.keys() <= seen:
            break

    assert TRANSITIONS.keys() <= seen


def test_a_run_is_repeatable():
    lines = [[], []]

    for trace in lines:
        run(7, "chaos", trace=trace.append)

    assert lines[0] == lines[1]
    assert len(lines[0]) > 10


def test_a_violation_names_its_seed_and_the_moment():
    (found,) = seeds_that_fail("chaos", NeverFences)

    assert found.startswith("seed ")
    assert "t=" in found


def test_a_profile_of_ones_own_can_be_played():
    profile = dataclasses.replace(PROFILES["planned"], members=(1, 1), rates=(("join", 1.0),))

    result = run(3, profile)

    assert result.events == {"join": 1}
    assert result.missed == 0


def test_the_command_says_what_it_ran_and_fails_on_a_violation(capsys):
    assert simulation.main(["--runs", "8", "--profile", "planned", "--processes", "1"]) == 0

    printed = capsys.readouterr().out
    assert printed.startswith("planned: 8 runs from seed 0")
    assert "0 violations" in printed


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_nothing_goes_wrong_where_members_change_their_meta_at_any_moment(profile):
    assert seeds_that_fail(profile, ChangesItsMetaAllTheTime, range(10)) == []
