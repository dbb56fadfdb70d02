"""A third party's driver, whole: built, installed beside our wheel, and used by its URL."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from tests.conftest import run

pytestmark = pytest.mark.slow

PLUGIN = Path(__file__).resolve().parent / "plugin"

PROGRAM = """
import sys, hashring
from hashring.driver import describe
(found,) = [found for found in describe() if found.scheme == "folder"]
assert "folder" in hashring.drivers()
assert (found.distribution, found.problem) == ("hashring-folder 1.0", None)
assert [option.name for option in found.options] == ["poll"]
keys = [f"host-{number}" for number in range(100)]
url = f"folder://{sys.argv[1]}/groups?poll=0.005"
with hashring.join(url, "pollers", "a") as one, hashring.join(url, "pollers", "b") as two:
    assert one.wait_settled(60) and two.wait_settled(60), (one.state, two.state)
    assert sorted([*one.owned(keys), *two.owned(keys)]) == sorted(keys)
    assert one.owned(keys) and two.owned(keys)
print("shared by a plugin")
"""


@pytest.fixture(scope="module")
def plugin_wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plugin")
    source = folder / "source"
    # A copy: the build leaves files beside what it builds.
    shutil.copytree(PLUGIN, source)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, source]
    done = run(*build, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def environment(wheel, plugin_wheel, new_environment):
    """An environment with our wheel, the plugin's, and pytest."""
    made = new_environment()
    made.install(wheel, plugin_wheel, "pytest")
    return made


def test_members_share_keys_through_an_installed_plugin(environment, tmp_path):
    assert environment.run("-c", PROGRAM, tmp_path) == "shared by a plugin\n"


@pytest.mark.long
def test_the_plugin_passes_the_conformance_suite(environment):
    shutil.copytree(PLUGIN / "tests", environment.work / "tests")
    printed = environment.run("-m", "pytest", "-q", "-W", "error", "tests")
    assert " passed" in printed
    assert "skipped" not in printed
