"""What does a ring cost by member, and `Keys` by key? Each measured in a process of its own.

The figure is what the process holds more, by its unique set size, once the ring has answered and
the allocator has given back what it can; the members' ids are there before.
"""

import json
import subprocess
import sys

import pytest

from bench import contenders

CHILD = """
import ctypes, gc, json, sys
import psutil
from bench import contenders, keys

name, size = sys.argv[1], int(sys.argv[2])

def held():
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except AttributeError:
        pass
    return psutil.Process().memory_full_info().uss

if name == "Keys":
    given = keys.make("uuid", size)
    make = lambda: contenders.hashring.Keys(given)
else:
    contender = contenders.BY_NAME[name]
    given = contenders.members(size)
    one_key = contender.one_key("any key")
    def make():
        ring = contender.build(given)
        contender.one(ring)(one_key)
        return ring
    # What a first ring leaves behind in caches and lazily loaded code is no part of a ring.
    contender.one(contender.build(given[:3]))(one_key)
before = held()
kept = make()
print(json.dumps(held() - before))
"""


def cases(full):
    names = [name for name, contender in contenders.BY_NAME.items() if contender.one]
    sizes = (1_000, 10_000) if full else (1_000,)
    return [f"{size}-{name}" for size in sizes for name in names] + ["1000000-Keys"]


def test_memory(benchmark, case):
    size, _, name = case.partition("-")
    found = []

    def measure():
        done = subprocess.run(
            [sys.executable, "-c", CHILD, name, size],
            capture_output=True,
            text=True,
            timeout=250,
            check=False,
        )
        if done.returncode:
            pytest.fail(done.stderr)
        found.append(json.loads(done.stdout))

    benchmark.group = f"memory/{size}"
    benchmark.name = name
    benchmark.pedantic(measure, rounds=1)
    benchmark.extra_info.update(
        form="memory", members=int(size), name=name, bytes=max(0, found[0]) / int(size)
    )
