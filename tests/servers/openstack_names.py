"""Print, as JSON, which names Ceilometer knows. Runs in its environment; knows nothing of ours."""

import importlib.metadata
import json
import subprocess
import sys
import sysconfig
from pathlib import Path

from ceilometer.pipeline.sample import SampleSink, SampleSource
from ceilometer.polling import dynamic_pollster
from ceilometer.polling.manager import PollingSource

SECTIONS = ("central", "compute", "coordination", "polling")  # what an agent's options stand in


class Asked(dict):
    """A definition that notes which of its fields are looked at."""

    def __init__(self, fields):
        super().__init__(fields)
        self.seen = set()

    def __getitem__(self, name):
        self.seen.add(name)
        return super().__getitem__(name)

    def get(self, name, default=None):
        self.seen.add(name)
        return super().get(name, default)

    def __contains__(self, name):
        self.seen.add(name)
        return super().__contains__(name)


def options():
    """Return the names of options by section, from oslo.config's own generator."""
    generator = Path(sysconfig.get_path("scripts")) / "oslo-config-generator"
    done = subprocess.run(
        [generator, "--namespace", "ceilometer", "--format", "json"],
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(done.stdout)
    found = {section: set() for section in SECTIONS}
    for section in SECTIONS:
        found[section].update(
            option["dest"] for option in told["options"].get(section, {}).get("opts", ())
        )
        found[section].update(
            option["name"] for option in told["deprecated_options"].get(section, ())
        )
    return {section: sorted(names) for section, names in found.items()}


def fields(make, definition):
    """Return the fields that a class looks at when it is made of a definition."""
    asked = Asked(definition)
    make(asked)
    return sorted(asked.seen)


def pollster_fields():
    """Return the fields of dynamic pollsters, of every kind that there is."""
    kinds = [
        value
        for value in vars(dynamic_pollster).values()
        if isinstance(value, type) and issubclass(value, dynamic_pollster.PollsterDefinitions)
    ]
    return sorted(
        {one.name for kind in kinds for one in kind.standard_definitions + kind.extra_definitions}
        | {"namespaces"}  # which the manager reads
    )


class NoPublishers:
    """Stands for the publishers' manager of a sink: it makes none."""

    def get(self, url):
        return None


source = {"name": "a", "interval": 1, "meters": ["*"], "sinks": ["b"]}
sys.stdout.write(
    json.dumps(
        {
            "release": importlib.metadata.version("ceilometer"),
            "options": options(),
            "source": fields(PollingSource, source),
            "pipeline_source": fields(SampleSource, source),
            "sink": fields(
                lambda asked: SampleSink(None, asked, NoPublishers()),
                {"name": "b", "publishers": ["x://"]},
            ),
            "pollster": pollster_fields(),
        }
    )
)
