"""What docs/agents/publishers.md says of schemes and options is what there is."""

import enum
import re
from importlib import resources
from pathlib import Path

import pytest

from hashring.telemetry.publishers import FilePublisher, StdoutPublisher, web
from hashring.telemetry.publishers.http import HTTPPublisher
from hashring.telemetry.publishers.otlp import OTLPPublisher
from hashring.telemetry.publishers.prometheus import PrometheusPublisher
from hashring.telemetry.publishers.remotewrite import RemoteWritePublisher
from hashring.telemetry.publishers.udp import UDPPublisher

PAGE = (Path(__file__).parents[2] / "docs" / "agents" / "publishers.md").read_text()
SECTIONS = {
    found.group(1): found.group(2)
    for found in re.finditer(r"^## (.*)\n((?:(?!## ).*\n)*)", PAGE, re.MULTILINE)
}
PUBLISHERS = {
    "file://": FilePublisher,
    "stdout://": StdoutPublisher,
    "udp://": UDPPublisher,
    "http://, https://": HTTPPublisher,
    "prometheus://": PrometheusPublisher,
    "otlp+http://, otlp+https://": OTLPPublisher,
    "remotewrite+http://, remotewrite+https://": RemoteWritePublisher,
}


PARTS = {"last_values", "otlp_message", "remotewrite_message", "series_labels", "wire"}
"""What publishers are made of, and no publishers themselves."""


def default(value):
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, bool):
        return str(value).lower()
    if value is None or value == ():
        return "-"
    if isinstance(value, tuple):
        return ",".join(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


@pytest.mark.parametrize(("section", "publisher"), PUBLISHERS.items())
def test_the_options_of_each_publisher_are_those_of_the_page(section, publisher):
    told = re.findall(r"^\| `(\w+)` \| (\S+) \| (.*) \|$", SECTIONS[section], re.MULTILINE)

    assert told == [(one.name, default(one.default), one.help) for one in publisher.options]


def test_every_scheme_has_a_section_and_a_line_in_the_first_table():
    first = PAGE[: PAGE.index("## ")]
    schemes = [scheme for section in PUBLISHERS for scheme in section.split(", ")]

    assert re.findall(r"`(\S+://)`", first) == schemes


def test_every_publisher_of_the_package_is_on_the_page():
    modules = {
        Path(entry.name).stem
        for entry in resources.files("hashring.telemetry.publishers").iterdir()
        if entry.name.endswith(".py")
    }

    assert modules - {"__init__", "base", "requests", "serving", "web", *PARTS} == {
        publisher.__module__.rpartition(".")[2] for publisher in PUBLISHERS.values()
    }


def test_the_answers_of_a_sink_mean_what_the_page_says():
    rows = re.findall(r"^\| ([\d, ]+?), 5xx.*\| a failure|^\| (401.*?) \|", PAGE, re.MULTILINE)
    told = {int(number) for row in rows for number in re.findall(r"\d{3}", " ".join(row))}

    assert told == web._NOT_ABOUT_SAMPLES
    assert f"at most {web._RETRY_AFTER_MAX:.0f} seconds" in PAGE
