"""A driver as an author would write it passes the suite, and no mistake planted in it does.

The driver is on a real PostgreSQL, and pytest runs in a process of its own for each mistake,
several at once: what a mistake leaves behind (a thread, a hung call) is nobody else's.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.authors.installing import SUITE, correct, install
from tests.authors.mistakes import MISTAKES, Mistake
from tests.conftest import TREE
from tests.servers.postgresql import PostgreSQLServer

pytestmark = pytest.mark.slow

AT_ONCE = 4
"""Runs of the suite beside each other: most of the time they wait for leases to end."""

TRIES = 4
"""A busy machine may look too late to see what ended too early: then the suite runs again. Of all
mistakes but one each was found by the first run, at a load of 10 to 14 on two processors, and that
one by the second."""

SHORT = {
    "a heartbeat that does nothing within half a lease of the last",
    "a lease that is renewed by the client's wall clock",
    "no time limits at all",
    "a memory age that grows three times too fast",
    "a wait that returns late",
    "reading from a cache",
    "threads that outlive the driver",
}
"""What `make test` plants; the others are for `make test-long`."""

FINDERS = "that_find_what_is_planted"
"""The tests that must find the mistakes of the short form. `make test` runs a correct driver
through these, and our own drivers through all."""

PARTS = {
    FINDERS: " or ".join(sorted({each.test for each in MISTAKES if each.name in SHORT})),
    "of_a_server_that_goes_away": "test_server_",
    "of_leases": "lease and not test_server_",
    "of_all_else": "not lease and not test_server_",
}
"""The suite in parts, so that those run beside each other as well."""

OF_ITS_OWN = {FINDERS, "of_a_server_that_goes_away"}
"""Those that stop the server, which then can be nobody else's."""


def run_suite(folder: Path, select: str, **variables: str) -> subprocess.CompletedProcess[str]:
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")
    }
    return subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-x", "-rf", "--tb=short"),
            *("-p", "no:cacheprovider", "--rootdir", str(folder), "-k", select),
            SUITE,
        ],
        cwd=folder,
        env=inherited
        | {"PYTHONPATH": f"{folder}{os.pathsep}{TREE}", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        | variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory, request):
    """Every run that was asked for, all begun at once."""
    ours = [item for item in request.session.items if item.path == request.path]
    calls = [item.callspec.params for item in ours if hasattr(item, "callspec")]
    asked = {params["mistake"] for params in calls if "mistake" in params}
    parts = {params["part"] for params in calls if "part" in params}

    def begin(source: str, select: str, *, own: bool, tries: int = 1, **variables: str):
        folder = tmp_path_factory.mktemp("author")
        install(folder, source)
        shared = {} if own else {"POSTGRESQL_URL": server.url}

        def until_found():
            for _ in range(tries):
                done = run_suite(folder, select, **shared, **variables)
                if done.returncode:
                    break
            return done

        return pool.submit(until_found)

    begun: dict[str, Future[subprocess.CompletedProcess[str]]] = {}
    with PostgreSQLServer() as server, ThreadPoolExecutor(AT_ONCE) as pool:
        for part in sorted(parts):
            begun[part] = begin(correct(), PARTS[part], own=part in OF_ITS_OWN, PATIENCE="60")
        for mistake in sorted(asked, key=lambda each: not each.needs_a_server):
            begun[mistake.name] = begin(
                mistake.planted(correct()),
                mistake.test,
                own=mistake.needs_a_server,
                tries=TRIES,
                TTL="1",
                PATIENCE="5",  # seconds are enough for what never comes
            )
        yield begun
        for each in begun.values():
            each.cancel()


@pytest.mark.parametrize(
    "part",
    [pytest.param(part, marks=() if part == FINDERS else pytest.mark.long) for part in PARTS],
)
def test_a_correct_driver_passes_the_suite(runs, part):
    done = runs[part].result()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "skipped" not in done.stdout


@pytest.mark.parametrize(
    "mistake",
    [
        pytest.param(
            mistake,
            id=mistake.name.replace(" ", "-"),
            marks=() if mistake.name in SHORT else pytest.mark.long,
        )
        for mistake in MISTAKES
    ],
)
def test_a_mistake_is_found(runs, mistake: Mistake):
    done = runs[mistake.name].result()
    assert done.returncode == 1, f"nothing found:\n{done.stdout}{done.stderr}"
    assert re.search(rf"^FAILED \S+::{mistake.test}\b", done.stdout, re.MULTILINE), done.stdout
    # It failed for what it does, and not since what was planted is no program.
    assert not re.search(r"NameError|UnboundLocalError|BrokenDriver", done.stdout), done.stdout


def test_every_mistake_has_a_name_of_its_own_and_they_are_more_than_thirty():
    names = {mistake.name for mistake in MISTAKES}
    assert len(names) == len(MISTAKES) > 30
    assert names > SHORT
