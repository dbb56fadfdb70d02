"""The pages about drivers say what the drivers say of themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from hashring.driver import COMMON_OPTIONS, describe

PAGES = Path(__file__).resolve().parents[2] / "docs" / "drivers"
INDEX = (PAGES / "index.md").read_text(encoding="utf-8")
OURS = [found for found in describe() if found.distribution.startswith("hashring-ha ")]


@pytest.mark.parametrize("scheme", [found.scheme for found in OURS])
def test_the_index_has_every_driver_with_its_promise(scheme):
    (found,) = [found for found in OURS if found.scheme == scheme]
    (row,) = [
        line for line in INDEX.splitlines() if line.startswith("|") and f"`{scheme}://`" in line
    ]
    assert f"| {found.promise} |" in row


@pytest.mark.parametrize("option", COMMON_OPTIONS, ids=lambda option: option.name)
def test_the_index_has_every_common_option_with_its_default(option):
    default = "" if option.default is None else f"{option.default} "
    assert f"| `{option.name}` | {default}| {option.help} |" in INDEX
