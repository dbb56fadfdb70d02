"""The programs in `examples`, run as a user would; the README's first one is among them."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import TREE

EXAMPLES = TREE / "examples"
HOSTS = {f"host-{number}" for number in range(100)}
LONG = 120.0  # seconds: a busy machine is no failure


@contextmanager
def started(tmp_path: Path, name: str, *arguments: str, source: str | None = None):
    """Run a program in a process; yield it and the file that it prints to."""
    program = tmp_path / name
    program.write_text(source or (EXAMPLES / name).read_text("utf-8"), encoding="utf-8")
    printed = tmp_path / f"{name}-{time.monotonic_ns()}.txt"
    with printed.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=tmp_path,
        )
    try:
        yield process, printed
    finally:
        process.kill()
        process.wait(LONG)


def wait_until(condition, process, printed):
    deadline = time.monotonic() + LONG
    while not condition(printed.read_text()):
        assert process.poll() is None, printed.read_text()
        assert time.monotonic() < deadline, printed.read_text()
        time.sleep(0.05)
    return printed.read_text()


def test_every_example_is_run_by_a_test():
    text = Path(__file__).read_text("utf-8")
    for program in EXAMPLES.glob("*.py"):
        assert f'"{program.name}"' in text


def test_the_readmes_program_polls_every_host_in_the_first_window_as_it_stands(tmp_path):
    source = (EXAMPLES / "loop.py").read_text("utf-8")
    readme = (TREE / "README.md").read_text("utf-8")
    first = re.search(r"^```python\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)[1]
    assert source.endswith(f'"""\n\n{first}')
    # Nothing is changed but the file, which belongs to whoever runs the program.
    assert "/tmp/pollers.db" in source
    source = source.replace("/tmp/pollers.db", f"{tmp_path}/pollers.db")

    with started(tmp_path, "loop.py", source=source) as (process, printed):
        told = wait_until(lambda text: text.count("polled") == len(HOSTS), process, printed)
        process.send_signal(signal.SIGINT)
        process.wait(LONG)

    assert set(re.findall(r"^polled (\S+)$", told, re.MULTILINE)) == HOSTS


def test_the_program_with_threads_hands_over_on_sigterm_and_polls_each_host_once(tmp_path):
    url = f"sqlite:///{tmp_path}/group.db"
    with started(tmp_path, "threads.py", url) as (process, printed):
        told = wait_until(lambda text: len(text.splitlines()) >= len(HOSTS), process, printed)
        process.send_signal(signal.SIGTERM)
        assert process.wait(LONG) == 0, printed.read_text()

    polls = [tuple(line.split()[:2]) for line in printed.read_text().splitlines()]
    assert {host for host, _ in polls} == HOSTS, told
    assert len(polls) == len(set(polls))


def test_the_program_that_asks_holds_everything_when_it_is_alone(tmp_path):
    url = f"sqlite:///{tmp_path}/group.db"
    with started(tmp_path, "owned.py", url, "1") as (process, printed):
        assert process.wait(LONG) == 0, printed.read_text()

    assert "settled: 100 of 100 hosts" in printed.read_text()


def test_the_ring_alone_shares_by_weight_and_moves_what_a_newcomer_takes(tmp_path):
    with started(tmp_path, "ring.py") as (process, printed):
        assert process.wait(LONG) == 0, printed.read_text()

    small, big, taken = (
        int(number.replace(",", "")) for number in re.findall(r"\b\d[\d,]*\b", printed.read_text())
    )
    if small > big:
        small, big = big, small
    assert small + big == 100_000
    assert 30_000 < small < 37_000
    assert 10_000 < taken < 25_000
