"""The definitions in the documentation are definitions."""

import re
from pathlib import Path

import pytest

from hashring.telemetry.sources.web import http_fields

DOCS = Path(__file__).parents[3] / "docs" / "agents"


def examples():
    blocks = re.findall(r"```yaml\n(.*?)```", (DOCS / "http.md").read_text(), re.DOTALL)
    return [block for block in blocks if "sample_type" in block]


@pytest.mark.parametrize("example", examples())
def test_every_definition_in_the_docs_can_be_used(define, monkeypatch, example):
    monkeypatch.setenv("API_TOKEN", "t")

    assert define(example)


def test_the_docs_name_every_field():
    table = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", (DOCS / "http.md").read_text(), re.MULTILINE)
    named = [name for row in table for name in re.findall(r"`(\w+)`", row)]

    assert sorted(named) == sorted(http_fields.FIELDS | http_fields.UNSUPPORTED.keys())
