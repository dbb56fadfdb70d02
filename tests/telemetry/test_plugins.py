import sys

import pytest

from hashring.errors import HashringError
from hashring.telemetry import plugins
from hashring.telemetry.discovery import Discovery

PLUGIN = """
from hashring.telemetry.discovery import Discovery
from hashring.telemetry.resource import Resource

class Tanks(Discovery):
    def discover(self):
        return [Resource("plant", "tank", "north")]

class Moody(Discovery):
    def __init__(self):
        raise RuntimeError("not today")
    def discover(self):
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

    made = plugins.make_all(plugins.DISCOVERIES, Discovery)

    ids = [found.id for one in made if type(one).__name__ == "Tanks" for found in one.discover()]
    assert ids == ["plant:tank:north"]
    assert len(made) == 7


@pytest.mark.parametrize(
    ("target", "complaint"),
    [
        ("plant_tanks:Stranger", "is no subclass of hashring.telemetry.discovery.Discovery"),
        ("plant_tanks:Absent", "failed to import: AttributeError"),
        ("plant_sheds:Sheds", "failed to import: ModuleNotFoundError"),
        ("plant_tanks:Moody", "could not be made: RuntimeError: not today"),
    ],
)
def test_a_plugin_that_does_not_work_is_named_with_its_distribution(installed, target, complaint):
    installed(target)

    with pytest.raises(plugins.BrokenPlugin, match=complaint) as failure:
        plugins.make_all(plugins.DISCOVERIES, Discovery)

    assert "'tanks'" in str(failure.value)
    assert "of plant-tanks" in str(failure.value)


def test_an_unknown_plugin_is_an_error_that_lists_the_known_ones():
    with pytest.raises(plugins.UnknownPlugin, match="installed: file, stdout"):
        plugins.load(plugins.PUBLISHERS, "carrier-pigeon", object)
    assert issubclass(plugins.UnknownPlugin, HashringError)
