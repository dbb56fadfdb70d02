"""The language of sources, messages and pages: words that we gave up, and for whom a page is."""

from __future__ import annotations

import re

import pytest

from tests.conftest import TREE

PAGES = sorted(
    path.relative_to(TREE / "docs")
    for path in (TREE / "docs").rglob("*.md")
    if path.name != "changelog.md" and "_build" not in path.parts
)


KINDS = {".py", ".pyi", ".pyx", ".pxd", ".h", ".lua", ".md", ".inc", ".service"}
SOURCES = sorted(
    path
    for top in ("hashring", "drivers", "docs", "examples", "README.md")
    for path in ((TREE / top).rglob("*") if (TREE / top).is_dir() else [TREE / top])
    if path.suffix in KINDS and "_build" not in path.parts
)


@pytest.mark.parametrize(
    ("word", "instead"),
    [
        (r"\b[Tt]his room\b|\b(?:each|only|our) rooms?\b(?! for)", "module"),
        (r"\bis none\b", "invalid, ignored, missing: say what it is; None is a value"),
        (r"\bthat are none\b", "that are not"),
    ],
)
def test_a_word_that_a_stranger_must_guess_is_in_no_source_and_on_no_page(word, instead):
    found = [
        f"{path.relative_to(TREE)}:{number}: {line.strip()}"
        for path in SOURCES
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if re.search(word, line)
    ]

    assert len(SOURCES) > 100
    assert found == [], f"say {instead}"


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_the_first_screen_of_each_page_says_whom_it_is_for(page):
    first = (TREE / "docs" / page).read_text("utf-8").splitlines()[:5]

    assert [line for line in first if line.startswith("For ")], first


def test_our_own_words_are_in_the_glossary():
    page = (TREE / "docs" / "glossary.md").read_text("utf-8")
    terms = re.findall(r"^(\w[\w ]*)\n  \w", page, re.MULTILINE)

    assert terms == sorted(terms)
    assert {"slot", "view", "claim", "mark", "custody", "fence", "window", "ack", "held"} <= {
        *terms
    }
