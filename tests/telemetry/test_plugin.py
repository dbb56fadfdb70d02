"""The folder for the authors of plug-ins, and the names that former documentation gave them."""

import importlib
import subprocess
import sys

import pytest

from hashring.errors import HashringError
from hashring.telemetry import errors, plugin

EXTRAS = (
    *(
        "aiohappyeyeballs",
        "certifi",
        "click",
        "httptools",
        "idna",
        "msgpack",
        "oslo_config",
        "platformdirs",
        "prometheus_client",
    ),
    *("psutil", "requests", "rich", "urllib3", "yaml"),
)
"""Distributions that the extra brings; the core has none of them."""

AUTHOR = """
import sys
for name in {extras}:
    sys.modules[name] = None  # so that an import of it fails, as where it is not installed
import hashring
from hashring.telemetry.plugin import *

class Tanks(Discovery):
    def discover(self, parameter=""):
        return [on_host(self.settings.host, "tank", parameter)]

class Levels(Pollster):
    kinds = frozenset({{"tank"}})
    meters = (Meter("tank.level", MeterType.GAUGE, "l"),)

    def poll(self, resource):
        if resource.name == "drained":
            raise Gone(resource.id)
        yield Measurement(self.meters[0], 1200)

class Board(Publisher):
    options = (Option("size", positive, 10, "lines"),)

    def publish(self, samples):
        raise OutputFailed(str(SinkURL.parse("board://u:pw@h?size=2", self.options)))

    def close(self):
        pass

settings = Settings(backend_url="memory://", member="a", host="web1")
(west,) = Tanks(settings).discover("west")
(found,) = Levels(settings).poll(west)
print(west.id, found.volume)
try:
    list(Levels(settings).poll(Resource("a", "tank", {{"name": "drained"}})))
except Gone as gone:
    print("gone:", gone)
try:
    Board("board://h", settings).publish([])
except OutputFailed as failure:
    print(failure)
"""


def test_a_plugin_is_written_and_works_with_the_cores_dependency_alone():
    done = subprocess.run(
        [sys.executable, "-c", AUTHOR.format(extras=EXTRAS)],
        capture_output=True,
        text=True,
        timeout=90,
        check=True,
    )

    assert done.stdout.splitlines() == ["web1:tank:west 1200", "gone: a", "board://u:***@h?size=2"]


def test_the_errors_that_an_author_raises_are_those_of_the_agents():
    for name in ("Gone", "OutputClosed", "OutputFailed", "SinkUnusable"):
        assert getattr(plugin, name) is getattr(errors, name)


def test_every_error_that_an_operator_reads_is_one_of_hashring():
    for name in errors.__all__:
        assert issubclass(getattr(errors, name), HashringError) or name == "Gone"
        assert getattr(errors, name).__doc__


@pytest.mark.parametrize(
    "name",
    [
        "discovery.Discovery",
        "pollsters.Pollster",
        "publishers.Publisher",
        "publishers.OutputClosed",
        "publishers.OutputFailed",
        "publishers.base.Option",
        "publishers.base.SinkURL",
        "publishers.base.positive",
        "resource.Resource",
        "resource.on_host",
        "sample.Measurement",
        "sample.Meter",
        "sample.MeterType",
        "sample.Sample",
        "settings.Settings",
        "machine.Gone",
    ],
)
def test_a_name_that_the_documentation_gave_to_authors_still_works(name):
    module, _, name = name.rpartition(".")

    found = getattr(importlib.import_module(f"hashring.telemetry.{module}"), name)

    assert found is getattr(plugin, name)


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("delivery.Delivery", "delivery.delivery"),
        ("delivery.Direct", "delivery.direct"),
        ("spool.Spool", "delivery.spool"),
        ("plan.Plugins", "config.plan"),
        ("plan.make_plan", "config.plan"),
        ("instances.InstancePollster", "sources.libvirt.instances"),
        ("instances.LibvirtDiscovery", "sources.libvirt.instances"),
    ],
)
def test_a_name_that_the_documentation_gave_to_programs_still_works(name, place):
    module, _, name = name.rpartition(".")

    found = getattr(importlib.import_module(f"hashring.telemetry.{module}"), name)

    assert found is getattr(importlib.import_module(f"hashring.telemetry.{place}"), name)
