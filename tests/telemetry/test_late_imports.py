"""What an agent imports late: a client library that it may never need."""

import subprocess
import sys

import pytest

from hashring.errors import MissingDependency
from hashring.telemetry.sources.web.fetch import Fetcher

PLUGINS = """
import sys
from hashring import plugins
from hashring.telemetry.cli import running
from hashring.telemetry.config.installed import Plugins
from hashring.telemetry.model.settings import Settings
from hashring.telemetry.sources.web.targets import static_resource

found = Plugins.installed(Settings(backend_url="memory://", member="a", host="web1"))
assert {"prometheus-targets", "http-targets"} <= set(found.discoveries)
print("httptools" in sys.modules)
static_resource("switch1")
print("httptools" in sys.modules)
static_resource("http://web1/status")
print("httptools" in sys.modules)
"""


def test_the_client_for_polls_over_http_is_imported_with_the_first_target_to_ask():
    done = subprocess.run(
        [sys.executable, "-c", PLUGINS], capture_output=True, text=True, timeout=90, check=False
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["False", "False", "True"]


def test_that_the_client_is_missing_is_found_before_anything_is_asked(monkeypatch):
    monkeypatch.setitem(sys.modules, "httptools", None)  # None is "not there" to the import system

    with pytest.raises(MissingDependency, match="polls over HTTP needs the package 'httptools'"):
        Fetcher(timeout=1.0)
