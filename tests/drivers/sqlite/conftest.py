"""What the tests of the SQLite driver share: a file, drivers and processes on it, patience."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from hashring.driver import load
from tests.drivers.opening import Opened, opening

PATIENCE = 60.0
"""Seconds until a test gives up."""

TTL = 30.0
"""Seconds of a lease: longer than a busy machine stands still."""

BRIEF = 1.5
"""Seconds of a lease whose end a test waits for."""

RECORD = b'{"incarnation": "1"}'


@pytest.fixture
def file_module() -> ModuleType:
    load("sqlite:///x", ttl=TTL)
    return sys.modules["hashring.drivers.sqlite.file"]


@pytest.fixture(params=["inotify", "polling"])
def notices(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, file_module: ModuleType
) -> None:
    """Where the kernel grants no more inotify watches, waiting polls; all else is the same."""
    if request.param == "polling":
        monkeypatch.setattr(file_module, "_watch", lambda path: None)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "group.db"


@pytest.fixture
def connect(path: Path) -> Iterator[Opened]:
    """A function that makes open drivers on the file; all are closed in the end."""
    with opening(TTL) as opened:
        yield lambda options="", ttl=TTL: opened(f"sqlite://{path}{options}", ttl)


WORKER = """
import sys
from hashring.driver import load
url, member, ttl, mode = sys.argv[1:]
driver = load(url, ttl=float(ttl))
driver.open()
driver.join("g", member, b'{"incarnation": "1"}')
print("joined", flush=True)
turn = 0
while True:
    driver.heartbeat()
    if mode == "busy":
        turn += 1
        driver.publish("g", member, b'{"incarnation": "1", "turn": %d}' % turn)
    else:
        driver.wait("other", float(ttl) / 5)
        driver.read("other")
"""


@pytest.fixture
def worker(path):
    """A function that starts a process which joins and heartbeats; all are killed in the end."""
    processes = []

    def start(member, mode="calm", ttl=TTL):
        process = subprocess.Popen(
            [sys.executable, "-c", WORKER, f"sqlite://{path}", member, str(ttl), mode],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def in_child(work):
    """Run a function in a forked child; return what it returned, or its error's name and text."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            try:
                answer = work()
            except BaseException as error:
                answer = f"{type(error).__name__}: {error}"
            os.write(writer, str(answer).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answers:
        answer = answers.read().decode()
    os.waitpid(pid, 0)
    return answer
