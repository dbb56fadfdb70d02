"""What a person is shown of a run."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from hashring.testing import figures, svg, table
from hashring.testing.faults import report
from hashring.testing.faults.history import History
from hashring.testing.faults.verdict import check
from tests.faults.story import OWNED, Story, both_work

LOST = len(OWNED["b"])


@pytest.fixture
def history(tmp_path: Path) -> History:
    """``b`` is killed in second 3, and ``a`` holds its slots from second 6 on."""
    story = Story(tmp_path)
    story.holds("a", 0.0, 10.0)
    story.holds("b", 0.0, 3.3)
    story.event("join", "b", begin=0.0)
    story.event("kill", "b", begin=3.3)
    story.event("store <stopped>", begin=8.0, end=9.0)
    both_work(story, range(4))
    for second in range(4, 10):
        story.works("a", second)
    return story.read(9.0)


def test_the_table_gives_each_miss_to_its_event(history: History) -> None:
    rows = table(history, check(history)).splitlines()
    assert rows[3] == f"| 3.3 s | kill b | {LOST} | {5 * LOST} | 0 | 0 |"
    assert rows[2].startswith("| 0.0 s | join b |  | 0 |")
    assert f"**{5 * LOST}**" in rows[-1]


def test_the_figures_name_what_was_done_and_what_became_of_it(history: History) -> None:
    text = figures(history, check(history))
    assert "1 x join, 1 x kill, 1 x store <stopped>" in text
    assert "overlaps       0" in text
    assert "longest gap" in text


def test_the_drawing_is_well_formed_and_shows_members_events_and_misses(history: History) -> None:
    root = ElementTree.fromstring(svg(history, check(history), title="a <run>"))
    texts = [node.text for node in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"a", "b", "kill b", "store <stopped>", "a <run>"} <= set(texts)
    kinds = [node.get("class") for node in root.iter("{http://www.w3.org/2000/svg}rect")]
    assert kinds.count("missed") == 5
    assert "lost" in kinds
    assert "store" in kinds
    assert "repeated" not in kinds


def test_the_command_judges_a_folder_and_draws_it(
    history: History, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drawing = tmp_path / "run.svg"
    assert report.main([str(tmp_path), "--svg", str(drawing)]) == 0
    assert "kill b" in capsys.readouterr().out
    assert drawing.read_text().startswith("<svg")
