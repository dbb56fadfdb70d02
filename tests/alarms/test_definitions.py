"""Alarms in files: what is wrong is told with its line, and no secret is shown."""

from __future__ import annotations

import re

import pytest
import yaml

from hashring.alarms.actions.catalogue import Catalogue
from hashring.alarms.definitions import load, load_all
from hashring.alarms.errors import BadAlarm
from hashring.alarms.model import problem_of
from hashring.alarms.settings import Settings
from tests.conftest import TREE

GOOD = """\
- name: disk almost full
  type: prometheus
  rule:
    query: free_percent
    comparison_operator: lt
    threshold: 5
  severity: critical
  alarm_actions: [https://hooks.example/in]
"""


@pytest.fixture
def check():
    return Catalogue(Settings(database="", backend_url="", member="")).check


@pytest.fixture
def said(tmp_path, check):
    """A function that gives what is said of a text, without the file's name."""

    def say(text):
        (tmp_path / "a.yaml").write_text(text)
        with pytest.raises(BadAlarm) as caught:
            load([tmp_path], check)
        return str(caught.value).removeprefix(f"{tmp_path / 'a.yaml'}:")

    return say


def test_an_alarm_is_ten_lines_and_the_rule_may_have_the_name_that_the_api_gives_it(
    tmp_path, check
):
    (tmp_path / "a.yaml").write_text(GOOD)
    (tmp_path / "b.yml").write_text(
        GOOD.replace("disk almost", "other").replace("rule:", "prometheus_rule:")
    )
    (tmp_path / "notes.txt").write_text("no alarm")
    first, second = load([tmp_path], check)
    assert first.alarm.rule == second.alarm.rule
    assert (first.alarm.severity, first.place) == ("critical", f"{tmp_path / 'a.yaml'}:1")


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("threshold: 5", "treshold: 5", 6, "rule.treshold: unknown field (did you mean 'threshold"),
        ("severity: critical", "severity: awful", 7, "severity: input should be 'low'"),
        ("threshold: 5", "threshold: five", 6, "rule.threshold: input should be a valid number"),
        ("threshold: 5", "threshold: .nan", 6, "rule.threshold: must be a finite number"),
        ("    threshold: 5\n", "", 3, "rule.threshold: is missing"),
        ("type: prometheus", "type: promtheus", 2, "type: 'promtheus' is not evaluated here"),
        ("alarm_actions", "alarm_action", 8, "did you mean 'alarm_actions'"),
        ("https://hooks", "htps://hooks", 8, "no action 'htps' is installed (did you mean 'http"),
        ("severity: critical", "severity: low\n  severity: low", 8, "stands twice"),
        ("- name: disk almost full", "- name: 7", 1, "name: input should be a valid string"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(said, old, new, line, words):
    found = said(GOOD.replace(old, new))
    assert found.startswith(f"{line}: ")
    assert words in found


def test_a_part_of_a_composite_rule_is_named_by_its_path(said):
    text = (
        "- name: both\n  type: composite\n  rule:\n    and:\n"
        "    - {type: prometheus, query: a, threshold: 1}\n"
        "    - or:\n      - type: prometheus\n        query: b\n        threshold: x\n"
    )
    assert said(text).startswith("9: alarm 'both': rule.and.1.or.0.threshold: ")


def test_a_secret_in_a_wrong_action_is_not_shown(said):
    found = said(
        GOOD.replace("https://hooks.example/in", "'htp://app:s3cret@hooks/?token=t0ps3cret'")
    )
    assert "s3cret" not in found
    assert "app:***@hooks" in found


def test_a_time_constraint_is_checked(said):
    text = GOOD + "  time_constraints:\n  - {name: a, start: 0 8 *, duration: 60}\n"
    assert said(text).startswith("10: alarm 'disk almost full': time_constraints.0.start: must be")
    zone = text.replace("0 8 *,", "0 8 * * *, timezone: Mars/Base,")
    assert "must be a time zone" in said(zone)
    never = said(text.replace("0 8 *,", "0 8 30 2 *,"))
    assert "time_constraints.0.start: there is no such time in any year" in never


def test_one_name_in_two_files_is_refused_and_both_places_are_told(tmp_path, check):
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text(GOOD)
    placed, [problem] = load_all([tmp_path], check)
    assert len(placed) == 1
    assert problem == (
        f"{tmp_path / 'b.yaml'}:1: name: 'disk almost full' stands twice, first in "
        f"{tmp_path / 'a.yaml'}:1"
    )


@pytest.mark.parametrize("text", ["[", "a: 1", "- 3", "x: &x [*x]", "- {name: a", "\x00"])
def test_what_is_no_list_of_alarms_is_refused_by_name(said, text):
    assert said(text)


def test_each_alarm_that_the_docs_show_is_right(tmp_path):
    shown = 0
    for page in sorted((TREE / "docs" / "alarms").glob("*.md")):
        for block in re.findall(r"```yaml\n(.*?)```", page.read_text("utf-8"), re.DOTALL):
            found = yaml.safe_load(block)
            if isinstance(found, list):
                shown += len(found)
                assert [problem_of(one) for one in found] == [None] * len(found), page.name
    assert shown >= 4
