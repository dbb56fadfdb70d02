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


PAGES = """
import ctypes, resource, sys
from hashring.telemetry.agent import allocator

libc = ctypes.CDLL(None)
if not hasattr(libc, "mallopt"):  # no glibc: nothing to set
    assert not allocator.keep_pages()
    print(0)
    sys.exit()
if sys.argv[1] == "kept":
    allocator.keep_pages()
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]


def use(size):
    place = libc.malloc(ctypes.c_size_t(size))
    ctypes.memset(place, 1, size)
    libc.free(place)


use(900_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for n in range(40):
    use(1_000_000 + 40_000 * n)  # each larger than all before it
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how, **variables):
    environment = {name: value for name, value in os.environ.items() if "MALLOC" not in name}
    done = subprocess.run(
        [sys.executable, "-c", PAGES, how],
        env=environment | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


def test_an_agent_uses_the_pages_again_that_it_has_freed():
    # 40 pieces of 250 to 600 pages each: 17,000 pages in all, of which 630 are ever new.
    assert faults("kept") < 3000


def test_what_the_environment_says_of_pages_stands():
    system = faults("kept", MALLOC_MMAP_THRESHOLD_="131072", MALLOC_TRIM_THRESHOLD_="131072")

    assert system == 0 or system > 8000  # 0: no glibc
