"""The names that other people's programs use, and what an import of them costs."""

from __future__ import annotations

import subprocess
import sys

import hashring
from hashring import errors

CONTRACT = {"Cycle", "HashRing", "Keys", "Partition", "SlotSet", "drivers", "join"}
CONTRACT |= {"__version__", "testing"}
CONTRACT |= {"ajoin", "AsyncPartition", "AsyncCycle", "AsyncCycles"}  # for event loops
CONTRACT |= {"Change", "Changes", "AsyncChanges", "Stop", "Workers", "AsyncStop", "AsyncWorkers"}
CONTRACT |= {"Term", "AsyncTerm", "Grip", "Lock", "lock"}
CONTRACT |= {"Cycles", "Member", "OwnedKeys", "Stats", "Token"}  # what a partition hands out


def test_the_front_page_shows_the_public_names_and_no_others():
    assert set(dir(hashring)) == CONTRACT | set(errors.__all__)
    for name in dir(hashring):
        assert getattr(hashring, name) is not None


def test_an_import_loads_no_driver_no_client_library_and_no_test_kit():
    program = (
        "import sys, hashring\n"
        "hashring.HashRing(['a']).owner('key')\n"
        "hashring.drivers()\n"
        "print(*(name for name in sys.modules))\n"
    )
    command = [sys.executable, "-I", "-c", program]
    loaded = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert "hashring.ring" in loaded
    for name in ("click", "kazoo", "psutil", "pymemcache", "pytest", "redis", "rich", "tooz"):
        assert name not in loaded
    assert not [name for name in loaded if name.startswith("hashring.drivers")]
    assert "hashring.testing" not in loaded
    assert "hashring.telemetry" not in loaded


def test_drivers_are_listed_by_one_name_before_and_after_one_is_loaded():
    program = (
        "import hashring\n"
        "before = hashring.drivers()\n"
        "hashring.join('memory://', 'group').leave()\n"
        "assert hashring.drivers() == before, before\n"
        "import hashring.drivers\n"
        "assert hashring.drivers() == before, before\n"
        "print(*before)\n"
    )
    command = [sys.executable, "-I", "-c", program]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert "memory" in listed
