"""What docs/agent.md says of options, meters and fields is what there is."""

import re
from pathlib import Path

import pytest

from hashring import commands
from hashring.telemetry import plugins
from hashring.telemetry.pollsters import Pollster
from hashring.telemetry.sample import Meter, MeterType, Sample

PAGE = (Path(__file__).parents[2] / "docs" / "agent.md").read_text()


def section(title):
    return re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)[1]


def test_the_table_of_meters_is_that_of_the_pollsters():
    told = re.findall(r"^\| `(\S+)` \| (\w+) \| (\S+) \| (\w+) \|$", PAGE, re.MULTILINE)

    assert sorted(told) == sorted(
        (meter.name, str(meter.type), meter.unit, kind)
        for pollster in plugins.make_all(plugins.POLLSTERS, Pollster)
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
    sample = Sample(Meter("m", MeterType.GAUGE, "u"), 1, "r", 0.0, 0, 1.0, "a", ())
    rows = re.findall(r"^\| (`.*?) \|", section("Samples"), re.MULTILINE)
    told = [name for row in rows for name in re.findall(r"`(\w+)`", row)]

    assert sorted(told) == sorted(sample.to_json())
