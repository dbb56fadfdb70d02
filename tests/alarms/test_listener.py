"""Events from a message queue: kept once, left there while the database is away."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hashring.alarms import options
from hashring.alarms.listener import Listener, library
from hashring.alarms.settings import Settings
from hashring.errors import MissingDependency
from tests.alarms.beside import python_beside
from tests.conftest import BUILDS, TREE


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """The Python of an environment that has oslo.messaging."""
    return python_beside(tmp_path_factory.mktemp("messaging"), "messaging")


def passed(environment, cases):
    """Run tests in the environment; return what it says of them."""
    path = Path(__file__).with_name(cases)
    command = [str(environment), "-m", "pytest", "--quiet", "-p", "no:cacheprovider", str(path)]
    command += ["--timeout", "600"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=2 * BUILDS, cwd=TREE
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_events_are_taken_from_a_queue(environment):
    assert "4 passed" in passed(environment, "listener_cases.py")


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_events_are_taken_from_a_rabbitmq_whatever_restarts(environment):
    assert "1 passed" in passed(environment, "rabbitmq_cases.py")


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
