"""What the benchmarks share: the short and the full form, rings built once, the run's facts."""

import datetime
import functools
import importlib.metadata
import os
import platform
import time
from pathlib import Path

from bench import contenders
from hashring.compat import _toozring

PACKAGES = ("hashring-ha", "tooz", "uhashring", "jump-consistent-hash", "clandestined", "mmh3")


def pytest_addoption(parser):
    parser.addoption("--full", action="store_true", help="every size and every kind of key")


def pytest_generate_tests(metafunc):
    """Give each test its cases: `cases(full)` of its module lists them."""
    if "case" in metafunc.fixturenames:
        cases = metafunc.module.cases(metafunc.config.getoption("full"))
        metafunc.parametrize("case", cases, ids=str)


def _processor():
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def pytest_benchmark_update_machine_info(config, machine_info):
    machine_info["run"] = {
        "processor": _processor(),
        "processors": os.cpu_count(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "command": os.environ.get("BENCH_COMMAND", "python -m pytest bench"),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "md5": _toozring.variants()[0],
        "absent": contenders.absent_peers(),
    }


@functools.cache
def ring_of(name, members):
    """Return a contender's ring, built once for all tests of a run."""
    return contenders.BY_NAME[name].build(contenders.members(members))


def keys_within(seconds, call, keys):
    """Return as many of the keys as the call can do in about that time, and at least 4.

    A slow peer is measured on fewer keys: its time for each does not depend on how many there are.
    """
    few, took = 4, 0.0
    while took < seconds / 4 and few < len(keys):
        began = time.process_time()
        call(keys[:few])
        took = time.process_time() - began
        if took < seconds / 4:
            few = min(2 * few, len(keys))
    count = int(few * seconds / max(took, 1e-9))
    return keys if count >= len(keys) else keys[: max(4, count)]


def rounds_within(seconds, call, keys):
    """Return how many rounds fit into that time: from 2 to 30."""
    began = time.process_time()
    call(keys)
    took = time.process_time() - began
    return max(2, min(30, int(seconds / max(took, 1e-9))))
