"""The schema of the JSON, the values that are written, the page that explains them: one thing."""

from __future__ import annotations

import dataclasses
import re

import pytest

from hashring.alarms.status import Alarms
from hashring.alarms.status import Status as EvaluatorStatus
from hashring.observe.description import (
    FreezeDescription,
    GroupDescription,
    MemberDescription,
    Waiting,
)
from hashring.page import schema
from hashring.page.status import Event, GroupStatus, ProcessStatus
from hashring.telemetry.agent.status import Status
from tests.conftest import TREE

PAGE = TREE / "docs" / "operations" / "status.md"


def fields(kind):
    return {field.name for field in dataclasses.fields(kind)}


def test_the_schema_has_each_field_of_agents_and_evaluators_and_asks_for_those_of_any_process():
    found = schema()
    assert set(found["properties"]) == fields(Status) | fields(EvaluatorStatus)
    assert set(found["required"]) == fields(ProcessStatus)


@pytest.mark.parametrize(
    "kind",
    [
        *(GroupStatus, Event, GroupDescription, FreezeDescription, MemberDescription, Waiting),
        Alarms,
    ],
)
def test_the_schema_has_each_field_of_what_is_in_a_status(kind):
    found = schema()["$defs"][kind.__name__]
    assert set(found["properties"]) == set(found["required"]) == fields(kind)


def test_each_field_is_explained_on_the_page_as_in_the_schema():
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| (.+) \|$", PAGE.read_text("utf-8"), re.MULTILINE)

    found = schema()
    expected = []
    for one in (found, *found["$defs"].values()):
        names = sorted(one["properties"], key=lambda name: name not in one["required"])
        expected += [(name, one["properties"][name]["description"]) for name in names]
    assert rows == expected
    assert all(text.strip() for _, text in expected)
