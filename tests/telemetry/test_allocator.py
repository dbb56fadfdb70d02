"""An agent's threads share heaps: what one of them freed, another can use."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

THREADS = """
import ctypes, sys, threading
from hashring.telemetry.agent import allocator

libc = ctypes.CDLL(None)
if not hasattr(libc, "mallopt"):  # no glibc: nothing to set, and nothing to count
    assert not allocator.share_heaps()
    print(2)
    sys.exit()
if sys.argv[1] == "shared":
    allocator.share_heaps()
libc.malloc.restype = libc.fopen.restype = ctypes.c_void_p
together = threading.Barrier(16)


def allocate():
    together.wait()
    libc.malloc(ctypes.c_size_t(50_000))
    together.wait()


threads = [threading.Thread(target=allocate) for _ in range(16)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
file = ctypes.c_void_p(libc.fopen(sys.argv[2].encode(), b"w"))
libc.malloc_info(0, file)
libc.fclose(file)
print(open(sys.argv[2]).read().count("<heap nr="))
"""


def heaps(how, tmp_path, **variables):
    environment = {name: value for name, value in os.environ.items() if "MALLOC" not in name}
    done = subprocess.run(
        [sys.executable, "-c", THREADS, how, str(tmp_path / "info")],
        env=environment | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


def test_threads_of_an_agent_share_two_heaps(tmp_path):
    assert heaps("shared", tmp_path) <= 2


def test_what_the_environment_says_of_heaps_stands(tmp_path):
    assert heaps("shared", tmp_path, MALLOC_ARENA_MAX="5") == heaps(
        "alone", tmp_path, MALLOC_ARENA_MAX="5"
    )


@pytest.mark.parametrize("how", ["alone"])
def test_threads_would_have_heaps_of_their_own(tmp_path, how):
    # What the tests above rely on, where there is glibc.
    assert heaps(how, tmp_path) >= 2
