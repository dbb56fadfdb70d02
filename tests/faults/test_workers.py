"""Workers of keys under faults: by their logs, no key is ever worked by two processes at once."""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import pytest

from hashring.testing.faults.faults import Step, random_plan, run_plan
from tests.faults.stores import STORES

pytestmark = pytest.mark.faults

WORKER = [sys.executable, "-m", "tests.faults.keep_worker"]
KEYS = 12


class Work(NamedTuple):
    begin: float
    until: float
    file: str


def worked(folder: Path) -> dict[str, list[Work]]:
    """Who worked each key, by all logs, in the order of time."""
    found: dict[str, list[Work]] = defaultdict(list)
    for path in folder.glob("*.jsonl"):
        for line in path.read_text().splitlines():
            if line.startswith('{"e":"work"') and line.endswith("}"):  # a kill may cut the last one
                event = json.loads(line)
                found[event["key"]].append(Work(event["t"], event["until"], path.name))
    for works in found.values():
        works.sort()
    return found


def at_once(works: list[Work]) -> list[tuple[Work, Work]]:
    """Which works of different processes overlap."""
    longest: dict[str, Work] = {}
    found = []
    for work in works:
        for other in longest.values():
            if other.file != work.file and other.until > work.begin:
                found.append((other, work))
        known = longest.get(work.file)
        if known is None or work.until > known.until:
            longest[work.file] = work
    return found


def test_workers_that_overlap_would_be_found() -> None:
    one, two = Work(1.0, 2.0, "a"), Work(1.5, 2.5, "b")
    assert at_once([one, two]) == [(one, two)]
    assert at_once([one, Work(2.0, 3.0, "b")]) == []
    assert at_once([one, Work(1.5, 1.7, "a")]) == []


PLANNED_AND_LOSSES = [
    Step("start", ("m0", "m1")),
    Step("join", ("m2",), wait=0.7),
    Step("restart", ("m0",), wait=0.4),
    Step("kill", ("m1",), wait=0.6),
    Step("join", ("m1",), wait=4.0),
    Step("pause", ("m2",), wait=0.8, seconds=4.5),
    Step("leave", ("m0",), wait=0.5),
    Step("rest", wait=1.0),
]


def test_no_key_is_worked_by_two_processes_at_once(tmp_path: Path) -> None:
    with STORES["sqlite"]() as store:
        run_plan(PLANNED_AND_LOSSES, store, tmp_path, keys=KEYS, command=WORKER)
    works = worked(tmp_path)
    assert len(works) == KEYS
    assert {key: found for key in works if (found := at_once(works[key]))} == {}
    assert len({work.file for work in itertools.chain(*works.values())}) >= 4


# SECONDS=600 for ten minutes of it.
@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", ["sqlite", "redis"])
def test_no_key_is_worked_by_two_processes_at_once_whatever_happens(
    tmp_path: Path, name: str
) -> None:
    seconds = float(os.environ.get("SECONDS", "60"))
    with STORES[name]() as store:
        plan = random_plan(1, seconds, store.faults())
        run_plan(plan, store, tmp_path, keys=KEYS, command=WORKER)
    works = worked(tmp_path)
    assert len(works) == KEYS
    assert {key: found for key in works if (found := at_once(works[key]))} == {}
