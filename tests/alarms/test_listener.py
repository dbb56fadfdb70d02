"""Events from a message queue: kept once, left there while the database is away."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path

import pytest

from hashring.alarms import options
from hashring.alarms.listener import Listener, library
from hashring.alarms.settings import Settings
from hashring.errors import MissingDependency
from tests.conftest import BUILDS, TREE

_CASES = Path(__file__).with_name("listener_cases.py")


@pytest.fixture
def environment(tmp_path):
    """The Python of an environment that has oslo.messaging besides what this one has.

    It brings eventlet, which would change every other test: tooz uses it where it is there.
    """
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    (ours,) = tmp_path.glob("venv/lib/python*/site-packages")
    here = sysconfig.get_path("purelib")
    (ours / "beside.pth").write_text(f"import site; site.addsitedir({here!r})\n")
    extras = tomllib.loads((TREE / "pyproject.toml").read_text())["project"]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python)]
    subprocess.run(
        [*pip, "install", "--quiet", *extras["optional-dependencies"]["messaging"]],
        check=True,
        timeout=BUILDS,
    )
    return python


@pytest.mark.long
def test_events_are_taken_from_a_queue(environment):
    command = [str(environment), "-m", "pytest", "--quiet", "-p", "no:cacheprovider", str(_CASES)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=BUILDS, cwd=TREE
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout


def test_without_its_library_a_listener_says_what_to_install(database, monkeypatch):
    library.cache_clear()
    monkeypatch.setitem(sys.modules, "oslo_service", None)
    with pytest.raises(MissingDependency, match=r"hashring-ha\[messaging\]"):
        Listener(Settings(database="", backend_url="", member="a"), database, "fake://")


def test_topic_and_batches_are_those_of_aodh_conf(tmp_path):
    path = tmp_path / "aodh.conf"
    path.write_text(
        "[DEFAULT]\ntransport_url = fake://\n"
        "[listener]\nevent_alarm_topic = alarms.mine\nbatch_size = 50\nbatch_timeout = 2\n"
    )
    found = options.load([path], state_dir=str(tmp_path))
    assert (found.event_topic, found.event_batch) == ("alarms.mine", 50)
    assert found.event_batch_timeout == 2.0
    assert found.config_files == (path,)
