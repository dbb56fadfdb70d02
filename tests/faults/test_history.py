"""The judge of a run: it must see what is wrong, and explain no more than it may."""

from __future__ import annotations

from pathlib import Path

import pytest

from hashring.ring.ring import SlotSet
from hashring.testing.faults.history import CLOCK_STEPS, History
from hashring.testing.faults.verdict import check
from tests.faults.story import KEYS, OWNED, RING, SLOTS, Story, both_work


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path)


def test_a_run_in_which_each_key_was_polled_once_is_right(story: Story) -> None:
    for member in ("a", "b"):
        story.holds(member, 0.0, 10.0)
    both_work(story, range(10))
    verdict = story.judged(10.0)
    assert verdict.violations == []
    assert (verdict.windows, verdict.missed, verdict.repeated) == ((1001, 1009), 0, 0)
    assert verdict.due == verdict.made == 9 * KEYS
    assert verdict.holds_checked >= 1000


def test_a_slot_held_by_two_at_one_instant_is_found(story: Story) -> None:
    story.holds("a", 0.0, 5.0)
    story.holds("b", 0.0, 5.0)
    one = next(iter(RING.slots("a")))
    story.holds("b", 5.0, 5.01, SlotSet.of([one], SLOTS))
    story.holds("a", 4.0, 5.005)
    verdict = story.judged(6.0)
    assert {overlap.slots for overlap in verdict.overlaps} == {1}
    assert "held by a and b at once" in verdict.violations[0]


@pytest.mark.parametrize(("begin", "overlaps"), [(1.15, 1), (1.3, 0)])
def test_a_cycle_counts_as_held_until_it_was_last_seen_to_be_valid(
    story: Story, begin: float, overlaps: int
) -> None:
    log = story.log("a")
    number = log.set_id(RING.slots("a"))
    log.write("begin", t=1.0, window=1001, late=False, missed=0, set=number)
    log.write("poll", t=1.0, until=1.2, window=1001, keys=[])
    log.write("end", t=9.0, valid=False)  # paused meanwhile: nothing is known of the rest
    story.holds("b", begin, begin + 0.1, RING.slots("a"))
    assert len(story.judged(9.0).overlaps) == overlaps


def test_what_one_process_does_at_once_is_no_overlap(story: Story) -> None:
    story.holds("a", 0.0, 3.0)
    story.holds("b", 0.0, 3.0)
    story.works("a", 1)  # its cycle pins what it holds anyway
    assert story.judged(3.0).overlaps == []


def test_a_key_polled_again_in_a_window_is_a_repeat(story: Story) -> None:
    for member in ("a", "b"):
        story.holds(member, 0.0, 6.0)
    both_work(story, range(6))
    log = story.log("b")
    key = min(OWNED["b"])
    log.write("begin", t=3.5, window=1003, late=True, missed=0, set=log.set_id(RING.slots("b")))
    log.write("poll", t=3.5, until=3.5, window=1003, keys=[key])
    log.write("end", t=3.6, valid=True)
    verdict = story.judged(6.0)
    assert verdict.repeated == 1
    assert "polled again in window 1003" in verdict.violations[0]


def test_a_poll_of_a_key_that_the_cycle_does_not_hold_is_found(story: Story) -> None:
    for member in ("a", "b"):
        story.holds(member, 0.0, 3.0)
    story.works("a", 1, {min(OWNED["b"])})
    assert "outside of its cycle's slots" in story.judged(3.0).violations[0]


def work_by_a_clock_that_is_back(story: Story, *, begin: float) -> None:
    """``a`` is two seconds back from 10.0 on: it works two windows again, and leaves two out."""
    for member in ("a", "b"):
        story.holds(member, 0.0, 30.0)
    for second in range(30):
        if second not in (12, 13):
            story.works("a", second)
        story.works("b", second)
    for second in (8, 9):
        story.works("a", second)
    story.event(CLOCK_STEPS, "a", begin=begin, end=begin + 2.0, reach=2.0)


def test_a_step_of_the_clock_excuses_labels_that_come_again_and_such_as_are_skipped(
    story: Story,
) -> None:
    work_by_a_clock_that_is_back(story, begin=10.0)
    verdict = story.judged(30.0)
    assert verdict.violations == []
    assert (verdict.repeated, verdict.relabelled) == (0, 2 * len(OWNED["a"]))
    assert verdict.missed == 2 * len(OWNED["a"])


@pytest.mark.parametrize(("begin", "found"), [(0.0, "missed"), (20.0, "polled again")])
def test_a_step_of_the_clock_excuses_no_label_that_it_does_not_reach(
    story: Story, begin: float, found: str
) -> None:
    work_by_a_clock_that_is_back(story, begin=begin)
    assert found in " ".join(story.judged(30.0).violations)


def test_a_step_of_the_clock_excuses_no_overlap(story: Story) -> None:
    story.event(CLOCK_STEPS, "a", "b", begin=1.0, end=3.0, reach=3600.0)
    story.holds("a", 0.0, 4.0)
    story.holds("b", 0.0, 4.0)
    story.holds("b", 2.0, 2.5, RING.slots("a"))
    assert "held by a and b at once" in story.judged(4.0).violations[0]


def lose_b(story: Story, kind: str, *, back: float, end: float | None = None) -> None:
    """``b`` holds its share up to 3.3 and from ``back`` on; ``a`` always has its own."""
    story.holds("a", 0.0, 12.0)
    story.holds("b", 0.0, 3.3)
    story.holds("b", back, 12.0)
    story.event(kind, "b", begin=3.3, end=end)


def test_a_kill_excuses_what_its_share_missed_until_the_lease_had_ended(story: Story) -> None:
    lose_b(story, "kill", back=6.6)
    for second in range(12):
        story.works("a", second)
        if second < 4 or second > 6:
            story.works("b", second)
    verdict = story.judged(12.0)
    assert verdict.violations == []
    (cost, _) = verdict.costs
    assert cost.share == len(OWNED["b"])
    assert (cost.missed, cost.most) == (3 * len(OWNED["b"]), 3)
    assert verdict.longest_gap == pytest.approx(3.3)


def test_a_kill_excuses_no_miss_of_another_members_share(story: Story) -> None:
    lose_b(story, "kill", back=6.6)
    for second in range(12):
        story.works("a", second, OWNED["a"] - ({min(OWNED["a"])} if second == 5 else set()))
        story.works("b", second)
    assert story.judged(12.0).violations == ["1 polls missed after kill b"]


def test_a_kill_excuses_no_miss_long_after_it(story: Story) -> None:
    lose_b(story, "kill", back=10.5)
    for second in range(12):
        story.works("a", second)
        if second < 4 or second > 10:
            story.works("b", second)
    verdict = story.judged(12.0)
    # Windows 4 to 8 start within the ttl and two windows; 9 and 10 do not.
    assert verdict.costs[0].missed == 5 * len(OWNED["b"])
    assert verdict.violations == [f"{2 * len(OWNED['b'])} polls missed after kill b"]


def lose_b_for_six_windows(story: Story) -> None:
    """``b`` is killed before it has worked the window of that moment, and five more are missed."""
    story.holds("a", 0.0, 14.0)
    story.holds("b", 0.0, 3.95)
    story.holds("b", 9.0, 14.0)
    story.event("kill", "b", begin=3.95)
    for second in range(14):
        story.works("a", second)
        if second < 3 or second > 8:
            story.works("b", second)


STANDS_TOO = [
    ("garbage", 4.5, 7.5),  # until its lease has ended, nobody can read who claims what
    ("store locked", 3.0, 5.0),
    ("store locked", 6.9, 7.0),
]


@pytest.mark.parametrize(("kind", "begin", "end"), STANDS_TOO)
def test_what_stands_at_the_same_time_as_a_kill_adds_to_what_that_may_cost(
    story: Story, kind: str, begin: float, end: float
) -> None:
    lose_b_for_six_windows(story)
    story.event(kind, begin=begin, end=end)
    verdict = story.judged(14.0)
    assert verdict.violations == []
    assert verdict.costs[0 if begin > 3.95 else 1].most == 6


STANDS_NOT = [
    ("store locked", 0.0, 0.9),  # over, with a lease, before the kill's was
    ("store locked", 7.1, 7.2),  # the lease had ended: they could have taken over
    ("join", 4.5, 8.0),
]


@pytest.mark.parametrize(("kind", "begin", "end"), STANDS_NOT)
def test_a_kill_beside_which_nothing_stands_costs_a_key_no_more_than_five_windows(
    story: Story, kind: str, begin: float, end: float
) -> None:
    lose_b_for_six_windows(story)
    story.event(kind, begin=begin, end=end)
    assert story.judged(14.0).violations == ["kill b: a key missed 6 windows, 5 are allowed"]


@pytest.mark.parametrize(
    ("kind", "lateness", "missed"),
    [("store restarted", 0.0, 2), ("store restarted", 4.0, 0), ("garbage", 4.0, 2)],
)
def test_a_store_that_counts_as_young_for_longer_is_excused_for_longer(
    tmp_path: Path, kind: str, lateness: float, missed: int
) -> None:
    story = Story(tmp_path, memory_lateness=lateness)
    lose_b(story, "leave", back=10.5)
    story.event(kind, begin=3.0, end=3.0)
    for second in range(12):
        story.works("a", second)
        if second < 4 or second > 10:
            story.works("b", second)
    # Windows 4 to 8 start within the ttl and two windows; 9 and 10 within four seconds more.
    expected = [f"{missed * len(OWNED['b'])} polls missed after leave b"] if missed else []
    assert story.judged(12.0).violations == expected


@pytest.mark.parametrize("kind", ["join", "leave", "restart"])
def test_a_planned_change_excuses_nothing(story: Story, kind: str) -> None:
    lose_b(story, kind, back=4.6)
    for second in range(12):
        story.works("a", second)
        if second != 4:
            story.works("b", second)
    assert story.judged(12.0).violations == [f"{len(OWNED['b'])} polls missed after {kind} b"]


def test_a_store_that_is_away_excuses_only_slots_that_nobody_held(story: Story) -> None:
    story.holds("a", 0.0, 12.0)
    story.holds("b", 0.0, 5.0)
    story.holds("b", 7.0, 12.0)
    story.event("store stopped", begin=3.0, end=6.8)
    for second in range(12):
        story.works("a", second, OWNED["a"] - ({min(OWNED["a"])} if second == 5 else set()))
        if second not in (5, 6):
            story.works("b", second)
    verdict = story.judged(12.0)
    assert verdict.costs[0].stalled == 2 * len(OWNED["b"])
    assert verdict.violations == ["1 polls missed after store stopped"]


@pytest.mark.parametrize(("kind", "errors"), [("store locked", 0), ("restart", 1)])
def test_only_a_fault_excuses_a_cycle_that_the_fence_cut_short(
    story: Story, kind: str, errors: int
) -> None:
    for member in ("a", "b"):
        story.holds(member, 0.0, 9.0)
    for second in range(9):
        story.works("a", second)
        if second != 5:
            story.works("b", second)
    log = story.log("b")
    log.write("begin", t=5.1, window=1005, late=False, missed=0, set=log.set_id(RING.slots("b")))
    log.write("end", t=5.2, valid=False)  # fenced for a moment, and confirmed again
    story.event(kind, "b", begin=3.0, end=5.3)
    verdict = story.judged(9.0)
    assert verdict.missed == len(OWNED["b"])
    assert len(verdict.violations) == errors


def test_a_pause_within_the_lease_costs_the_windows_that_it_covers(story: Story) -> None:
    for member in ("a", "b"):
        story.holds(member, 0.0, 9.0)  # it was paused in a cycle, which stayed valid
    for second in range(9):
        story.works("a", second)
        if second not in (5, 6):
            story.works("b", second, missed=2 if second > 6 else 0)
    story.event("pause", "b", begin=4.15, end=6.4)
    verdict = story.judged(9.0)
    assert (verdict.missed, verdict.late) == (2 * len(OWNED["b"]), 0)
    assert verdict.costs[0].missed == verdict.missed
    assert verdict.violations == []


@pytest.mark.parametrize(("kind", "errors"), [("store removed", 0), ("leave", 1)])
def test_only_a_store_that_is_away_excuses_a_leaver_that_holds_and_no_longer_works(
    story: Story, kind: str, errors: int
) -> None:
    story.holds("a", 0.0, 12.0)
    story.holds("b", 0.0, 6.0)
    story.log("b").write("state", t=3.3, state="draining")
    story.log("b").write("left", t=6.0, drained=False)
    story.holds("a", 6.01, 12.0, RING.slots("b"))
    story.event(kind, "b", begin=3.2)
    for second in range(12):
        story.works("a", second)
        if second < 4:
            story.works("b", second)
    log = story.log("a")
    number = log.set_id(RING.slots("b"))
    for second in range(6, 12):
        log.write("begin", t=second + 0.3, window=1000 + second, late=True, missed=0, set=number)
        polled = sorted(OWNED["b"])
        log.write("poll", t=second + 0.3, until=second + 0.4, window=1000 + second, keys=polled)
        log.write("end", t=second + 0.4, valid=True)
    assert len(story.judged(12.0).violations) == errors


def test_a_member_that_got_no_processor_is_late_by_itself(story: Story) -> None:
    for member in ("a", "b"):
        story.holds(member, 0.0, 10.0)
    for second in range(10):
        story.works("a", second)
        if second not in (4, 5):
            # The stream of windows counts what it had to skip.
            story.works("b", second, missed=2 if second > 5 else 0)
    verdict = story.judged(10.0)
    assert verdict.late == verdict.missed == 2 * len(OWNED["b"])
    assert verdict.violations == []


def test_a_late_cycle_after_the_skipped_window_does_not_hide_it(story: Story) -> None:
    for member in ("a", "b"):
        story.holds(member, 0.0, 10.0)
    for second in range(10):
        story.works("a", second)
        if second == 5:
            # It was gained meanwhile, and begins with what the window before still lacks.
            log = story.log("b")
            number = log.set_id(SlotSet.empty(SLOTS))
            log.write("begin", t=5.1, window=1004, late=True, missed=1, set=number)
            log.write("end", t=5.1, valid=True)
        if second != 4:
            story.works("b", second, missed=1 if second > 4 else 0)
    verdict = story.judged(10.0)
    assert verdict.late == verdict.missed == len(OWNED["b"])
    assert verdict.violations == []


def test_windows_before_everything_was_held_and_after_the_end_do_not_count(story: Story) -> None:
    story.holds("a", 0.0, 10.0)
    story.holds("b", 2.5, 10.0)
    both_work(story, range(3, 8))
    verdict = story.judged(8.7)
    assert verdict.windows == (1003, 1007)
    assert verdict.missed == 0


def test_a_group_that_never_covered_everything_is_no_success(story: Story) -> None:
    story.holds("a", 0.0, 10.0)
    for second in range(10):
        story.works("a", second)
    assert story.judged(10.0).violations == ["no window counts: the group never covered every slot"]


def test_slots_that_changed_hands_are_handovers(story: Story) -> None:
    story.holds("a", 0.0, 5.0)
    story.holds("b", 0.0, 4.0)
    story.holds("a", 4.05, 5.0, RING.slots("b"))
    verdict = story.judged(5.0)
    moves = [(move.giver, move.taker, move.slots) for move in verdict.handovers]
    assert moves == [("b", "a", len(RING.slots("b")))]
    assert verdict.longest_gap == pytest.approx(0.05)


def test_half_a_line_of_a_killed_process_is_left_out(story: Story) -> None:
    for member in ("a", "b"):
        story.holds(member, 0.0, 5.0)
    both_work(story, range(5))
    with (story.folder / "b.jsonl").open("a") as file:
        file.write('{"e":"poll","t":4.')
    assert story.judged(5.0).violations == []


def test_a_broken_line_in_the_middle_is_an_error(story: Story) -> None:
    story.holds("a", 0.0, 1.0)
    with (story.folder / "a.jsonl").open("a") as file:
        file.write("nonsense\n")
    with pytest.raises(ValueError, match=r"a\.jsonl:\d+: no line of a log"):
        story.read(1.0)


def test_a_folder_without_logs_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no logs of a run"):
        History.load(tmp_path)


def test_under_repeat_a_kill_may_have_its_window_repeated(story: Story) -> None:
    lose_b(story, "kill", back=4.4)
    both_work(story, range(12))
    story.works("b", 4)
    history = story.read(12.0)
    assert check(history, on_crash="repeat").violations == []
    assert check(history, on_crash="skip").violations != []


def test_a_repeat_that_no_loss_explains_is_an_error_under_either_rule(story: Story) -> None:
    lose_b(story, "restart", back=3.3)
    both_work(story, range(12))
    story.works("b", 4)
    history = story.read(12.0)
    assert check(history, on_crash="repeat").violations != []
