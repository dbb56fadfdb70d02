import sys

import pytest

from hashring import plugins
from hashring.errors import HashringError
from hashring.telemetry.config.plan import Plugins
from hashring.telemetry.model.settings import Settings
from hashring.telemetry.plugin import Discovery

SETTINGS = Settings(backend_url="memory://", member="a", host="web1")

PLUGIN = """
from hashring.telemetry.plugin import Discovery
from hashring.errors import HashringError
from hashring.telemetry.model.resource import Resource

class Tanks(Discovery):
    def discover(self, parameter=""):
        return [Resource("plant:tank:north", "tank")]

class Moody(Discovery):
    def __init__(self, settings):
        raise RuntimeError("not today")
    def discover(self, parameter=""):
        return []

class Shouting(Discovery):
    def __init__(self, settings):
        raise HashringError("the plant has no key")
    def discover(self, parameter=""):
        return []

class Stranger:
    pass
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Put a distribution of somebody else's beside ours, with one entry point."""

    def install(target):
        (tmp_path / "plant_tanks.py").write_text(PLUGIN)
        info = tmp_path / "plant_tanks-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plant-tanks\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[hashring.discoveries]\ntanks = {target}\n")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "plant_tanks", raising=False)

    yield install
    sys.modules.pop("plant_tanks", None)


def test_a_third_partys_discovery_is_found_beside_ours(installed):
    installed("plant_tanks:Tanks")

    found = plugins.load_all(plugins.DISCOVERIES, Discovery)
    made = Plugins.installed(SETTINGS).discoveries["tanks"]

    assert [resource.id for resource in made.discover()] == ["plant:tank:north"]
    assert {"tanks", "disk", "host", "interface"} <= set(found)
    assert list(found) == sorted(found) == plugins.names(plugins.DISCOVERIES)


@pytest.mark.parametrize(
    ("target", "complaint"),
    [
        (
            "plant_tanks:Stranger",
            "is no subclass of hashring.telemetry.plugin.discovery.Discovery",
        ),
        ("plant_tanks:Absent", "failed to import: AttributeError"),
        ("plant_sheds:Sheds", "failed to import: ModuleNotFoundError"),
    ],
)
def test_a_plugin_that_does_not_work_is_named_with_its_distribution(installed, target, complaint):
    installed(target)

    with pytest.raises(plugins.BrokenPlugin, match=complaint) as failure:
        plugins.load_all(plugins.DISCOVERIES, Discovery)

    assert "'tanks'" in str(failure.value)
    assert "of plant-tanks" in str(failure.value)


def test_a_plugin_that_cannot_be_made_is_named_when_it_is_needed_and_not_before(installed):
    installed("plant_tanks:Moody")

    discoveries = Plugins.installed(SETTINGS).discoveries

    assert discoveries["host"]
    with pytest.raises(plugins.BrokenPlugin, match="'tanks' could not be made: RuntimeError: not"):
        discoveries["tanks"]


def test_what_a_plugin_says_for_the_operator_is_passed_on_as_it_is(installed):
    installed("plant_tanks:Shouting")

    with pytest.raises(HashringError, match=r"^the plant has no key$"):
        Plugins.installed(SETTINGS).discoveries["tanks"]


def test_an_unknown_plugin_is_an_error_that_lists_the_known_ones():
    with pytest.raises(plugins.UnknownPlugin, match=r"installed: .*file, .*stdout"):
        plugins.load(plugins.PUBLISHERS, "carrier-pigeon", object)
    assert issubclass(plugins.UnknownPlugin, HashringError)
