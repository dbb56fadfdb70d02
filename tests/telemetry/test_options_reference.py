"""The generator's sample, the page of all options, and their help say what there is."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from hashring.telemetry.config import declared
from hashring.telemetry.config.definitions import load_pipeline, load_polling
from hashring.telemetry.config.options import list_opts, load
from tests.telemetry.operators import Write

pytestmark = pytest.mark.usefixtures("bare_machine")

REPOSITORY = Path(__file__).parents[2]
PAGE = REPOSITORY / "docs" / "agents" / "configuration.md"


def test_every_option_has_a_help_that_is_a_sentence():
    for section, opts in list_opts():
        for opt in opts:
            assert opt.help, f"[{section}] {opt.name}"
            assert opt.help[0].isupper(), f"[{section}] {opt.name}"
            assert opt.help.endswith("."), f"[{section}] {opt.name}"


def test_oslo_config_generator_writes_a_sample_that_is_the_defaults(tmp_path: Path):
    declared = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    point = declared["entry-points"]["oslo.config.opts"]["hashring"]
    installed = tmp_path / "site" / "sample-1.0.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: sample\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text(f"[oslo.config.opts]\nhashring-sample = {point}\n")
    sample = tmp_path / "sample.conf"

    subprocess.run(
        [
            *(sys.executable, "-m", "oslo_config.generator"),
            *("--namespace", "hashring-sample", "--output-file", str(sample)),
        ],
        check=True,
        timeout=90,
        env=os.environ | {"PYTHONPATH": str(installed.parent), "XDG_CACHE_HOME": str(tmp_path)},
    )

    text = sample.read_text()
    for section, opts in list_opts():
        assert f"[{section}]\n" in text
        for opt in opts:
            assert f"\n#{opt.name} = " in text or f"\n#{opt.name} =\n" in text
    assert "# Deprecated group/name - [central]/partitioning_group_prefix" in text
    assert "# Minimum value: 0.1" in text
    assert "unknown value" not in text
    # As it is, all of it is commented out; its defaults, written out, are the same.
    settings = load([sample], member="a")
    assert dataclasses.replace(settings, config_files=()) == load(member="a")
    written = re.sub(r"(?m)^#(?=\w+ =(?! <| /etc/| \w+\.yaml))", "", text)
    assert "\nheartbeat = 1.0\n" in written
    sample.write_text(written)
    assert load([sample], member="a") == settings


def test_the_page_lists_every_option_with_its_default():
    rows: dict[tuple[str, str], str] = {}
    section = ""
    for line in PAGE.read_text().splitlines():
        if heading := re.fullmatch(r"### \[(\w+)\]", line):
            section = heading[1]
        elif line.startswith("#"):
            section = ""
        elif section and (row := re.match(r"\| `(\w+)` \| `(.*?)` \| \S", line)):
            rows[section, row[1]] = row[2]

    assert rows == {
        (section, opt.name): shown(opt) for section, opts in list_opts() for opt in opts
    }


def shown(opt: Any) -> str:
    default = opt.default if opt.sample_default is None else opt.sample_default
    return ",".join(default) if isinstance(default, list) else str(default)


def test_the_page_names_every_option_without_effect():
    [listed] = re.findall(
        r"### Ceilometer's options without effect\n(.*?)\n## ", PAGE.read_text(), re.S
    )

    assert set(re.findall(r"`(\w+)`", listed)) == {name for _, name in declared.WITHOUT_EFFECT}


def test_the_examples_of_the_page_load(write: Write):
    [conf] = re.findall(r"```ini\n(.*?)```", PAGE.read_text(), re.S)
    polling, pipeline = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.S)
    write(polling, "polling.yaml")
    write(pipeline, "pipeline.yaml")

    settings = load([write(conf)])

    assert (settings.host, settings.namespaces, settings.ttl) == ("web1", ("central",), 15.0)
    assert (settings.heartbeat, settings.group_prefix, settings.batch_size) == (2.0, "east", 100)
    assert settings.polling_file is not None
    assert [s.interval for s in load_polling(settings.polling_file).sources] == [60, 300]
    assert settings.pipeline_file is not None
    assert load_pipeline(settings.pipeline_file).publishers_for("cpu") == (
        "file:///var/log/samples.jsonl",
        "udp://10.0.0.9:4952",
    )
