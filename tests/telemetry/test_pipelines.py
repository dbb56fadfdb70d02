"""A pipeline.yaml whose parts do not fit together, or that is of another time: refused, and how."""

from __future__ import annotations

from pathlib import Path

import pytest

from hashring.telemetry.config.definitions import load_pipeline
from hashring.telemetry.errors import BadDefinition


def load(folder: Path, text: str) -> None:
    path = folder / "pipeline.yaml"
    path.write_text(text)
    load_pipeline(path)


SINK = '{name: out, publishers: ["stdout://"]}'
SOURCE = "{name: one, meters: [cpu], sinks: [out]}"


@pytest.mark.parametrize(
    ("sources", "sinks", "said"),
    [
        (SOURCE, "", "sinks is empty: a pipeline definition needs at least one sink"),
        ("", SINK, "sources is empty"),
        (
            "{name: one, meters: [cpu], sinks: [outt]}",
            SINK,
            "source 'one': sinks names 'outt', but there is no such sink (did you mean 'out'?)",
        ),
        ("{name: one, meters: [cpu]}", SINK, "source 'one': sinks is missing"),
        ("{name: one, meters: [cpu], sinks: []}", SINK, "source 'one': sinks is empty"),
        ("{name: one, meters: [cpu], sinks: out}", SINK, "source 'one': sinks must be a list"),
        ("{name: one, meters: [cpu], sinks: [out, out]}", SINK, "sinks names 'out' twice"),
        ("{name: one, sinks: [out]}", SINK, "source 'one': meters is missing"),
        (
            "{name: one, meters: [a], counters: [a], sinks: [out]}",
            SINK,
            "counters is the old name of 'meters'",
        ),
        (
            "{name: one, meters: [cpu], interval: 0, sinks: [out]}",
            SINK,
            "source 'one': interval must be a positive number of seconds, not 0",
        ),
        (SOURCE, "{name: out}", "sink 'out': publishers is missing"),
        (SOURCE, "{name: out, publishers: []}", "sink 'out': publishers is empty"),
        (SOURCE, "{name: out, publishers: [5]}", "sink 'out': publishers, entry 1 must be text"),
        (SOURCE, f"{SINK}, {SINK}", "two sinks are called 'out'"),
        (SOURCE, '{name: out, publisher: ["stdout://"]}', "did you mean 'publishers'?"),
    ],
)
def test_a_pipeline_whose_parts_do_not_fit_is_refused(
    tmp_path: Path, sources: str, sinks: str, said: str
):
    with pytest.raises(BadDefinition) as caught:
        load(tmp_path, f"sources: [{sources}]\nsinks: [{sinks}]\n")

    assert said in str(caught.value)
    assert str(tmp_path / "pipeline.yaml") in str(caught.value)


@pytest.mark.parametrize(
    "transformers", ["[{name: rate_of_change, parameters: {}}]", "[rate_of_change]"]
)
def test_transformers_are_refused_by_sink_and_name_with_what_to_do(
    tmp_path: Path, transformers: str
):
    sink = f'{{name: out, publishers: ["stdout://"], transformers: {transformers}}}'

    with pytest.raises(BadDefinition) as caught:
        load(tmp_path, f"sources: [{SOURCE}]\nsinks: [{sink}]\n")

    message = str(caught.value)
    assert "sink 'out': transformers has 'rate_of_change'" in message
    assert "removed from Ceilometer" in message
    assert "Remove the field" in message


def test_the_form_of_pipelines_before_sources_and_sinks_is_named_as_such(tmp_path: Path):
    with pytest.raises(BadDefinition, match="write 'sources' and 'sinks'"):
        load(tmp_path, "- {name: a, interval: 60, counters: ['*'], publishers: [meter]}\n")
