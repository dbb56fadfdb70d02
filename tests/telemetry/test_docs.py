"""What docs/agent.md says of options, meters and fields is what there is."""

import re
from pathlib import Path

import pytest

from hashring.telemetry.cli import commands
from hashring.telemetry.model.sample import Meter, MeterType, Sample
from hashring.telemetry.sources.host.pollsters import (
    DiskPollster,
    FilesystemPollster,
    HostPollster,
    InterfacePollster,
    ProcessorPollster,
    ProcessPollster,
)

OURS = (
    HostPollster,
    ProcessorPollster,
    DiskPollster,
    FilesystemPollster,
    InterfacePollster,
    ProcessPollster,
)
DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "agent.md").read_text()


def section(title):
    return re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)[1]


def test_the_table_of_meters_is_that_of_the_pollsters():
    told = re.findall(r"^\| `(\S+)` \| (\w+) \| (\S+) \| (\w+) \|$", PAGE, re.MULTILINE)

    assert sorted(told) == sorted(
        (meter.name, str(meter.type), meter.unit, kind)
        for pollster in OURS
        for kind in pollster.kinds
        for meter in pollster.meters
    )


def test_the_table_of_options_is_that_of_the_command():
    told = re.findall(r"^\| `(--[\w-]+)", section("Options"), re.MULTILINE)

    assert sorted(told) == sorted(option.opts[0] for option in commands.agent.params)


@pytest.mark.parametrize("name", ["interval", "ttl"])
def test_the_defaults_are_those_of_the_command(name):
    [row] = re.findall(rf"^\| `--{name} SECONDS` \|(.*)\|$", PAGE, re.MULTILINE)
    [option] = [option for option in commands.agent.params if option.name == name]

    assert f"({option.default:g})" in row


def test_the_table_of_fields_is_that_of_a_sample():
    meter = Meter("m", MeterType.GAUGE, "u")
    sample = Sample(meter, 1, "r", 0.0, 0, 1.0, "a", (), {"more": 1}, "p", "u", "s")
    rows = re.findall(r"^\| (`.*?) \|", section("Samples"), re.MULTILINE)
    told = [name for row in rows for name in re.findall(r"`(\w+)`", row)]

    assert sorted(told) == sorted(sample.to_json())


def test_the_table_of_commands_is_that_of_the_agent():
    told = re.findall(r"^\| `hashring agent (\w+)` \|", PAGE, re.MULTILINE)

    assert sorted(told) == sorted(commands.agent.commands)


def test_every_page_that_is_linked_is_there():
    pages = re.findall(r"\]\((agents/\w+\.md)\)", PAGE)

    assert len(set(pages)) >= 8
    assert all((DOCS / page).is_file() for page in pages)
