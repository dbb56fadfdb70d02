"""What an operator is told, on a real Redis: the page of questions; a member in a long cycle."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest

import hashring
from hashring import clock
from hashring.cli import main
from hashring.observe import Observer
from tests.servers.process import wait_until
from tests.servers.redis import RedisServer

PAGE = Path(__file__).parents[1] / "docs" / "operations" / "questions.md"
URL = "redis://127.0.0.1:6379/0"


@pytest.fixture(scope="module")
def store():
    with RedisServer() as running:
        yield running


# ---- the page ----------------------------------------------------------------------------------


@pytest.fixture
def agents(store, tmp_path):
    """A shell in which the page's agents run; each is ended by its pid."""
    (start,) = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    bin_ = Path(sys.executable).parent
    environment = os.environ | {"PATH": f"{bin_}:{os.environ['PATH']}"}
    shell = ["bash", "-c", start.replace(URL, store.url)]
    subprocess.run(shell, cwd=tmp_path, env=environment, check=True, timeout=150)
    yield tmp_path
    for file in tmp_path.glob("*.pid"):
        try:
            os.kill(int(file.read_text()), signal.SIGKILL)
        except ProcessLookupError:
            continue


def said(command, folder, capsys):
    if command.startswith("hashring "):  # in this process: a shell for each takes a second
        capsys.readouterr()
        main([word.strip("'") for word in command.split()[1:]])
        return capsys.readouterr().out
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    return done.stdout


def without_moments(line):
    """A line without what differs from one run to the next: views, times, spaces of columns."""
    line = re.sub(r"\b[0-9a-f]{32}\b", "VIEW", line)
    line = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "MOMENT", line)
    line = re.sub(r"known for \d+ s", "known for AGE s", line)
    line = re.sub(r"\b\d+\.\d s\b|\((\d+\.\d) s\)", "SECONDS", line)
    line = re.sub(r'"missed": \d+', '"missed": NUMBER', line)  # a busy machine may be late
    words = line.split()
    if "/" in words[0]:  # a key: who held it before depends on who joined first
        words[4:] = []
    return " ".join(words)


def test_each_question_is_answered_by_one_command_as_the_page_says(agents, store, capsys):
    wait_until(
        lambda: (
            main(["group", "describe", store.url, "pollers"]) == 0
            and "3 members, settled" in capsys.readouterr().out
        ),
        within=150,
    )
    wait_until(lambda: len(list(agents.glob("status-*.json"))) == 3)
    asked = 0
    for block in re.findall(r"^```console\n(.*?)^```$", PAGE.read_text(), re.M | re.S):
        for part in block.split("$ ")[1:]:
            command, *shown = part.replace(URL, store.url).splitlines()
            told = said(command, agents, capsys)
            lines = iter([without_moments(line) for line in told.splitlines()])
            for line in shown:  # all that is shown, in this order
                assert without_moments(line) in lines, f"{command}\n{told}\nlacks {line!r}"
            asked += 1
    assert asked >= 12
    log = (agents / "agent-2.log").read_text()
    assert "drains, as 'alice' asks" in log
    assert "Traceback" not in log


# ---- a member in a long cycle ------------------------------------------------------------------

KEYS = [f"resource-{number}" for number in range(200)]


class Workers:
    """Members that work windows of 1.5 seconds in threads; and who worked which."""

    def __init__(self, url):
        self.url = url
        self.worked = Counter()
        self.partitions = {}
        self._threads = []

    def join(self, member):
        partition = hashring.join(self.url, "workers", member, ttl=10.0)
        self.partitions[member] = partition
        thread = threading.Thread(target=self._work, args=(partition,))
        self._threads.append(thread)
        thread.start()

    def _work(self, partition):
        for cycle in partition.cycles(interval=1.5):
            self.worked.update((cycle.window, key) for key in cycle.owned(KEYS))

    def end(self):
        for partition in self.partitions.values():
            partition.stop()
        for thread in self._threads:
            thread.join()
        for partition in self.partitions.values():
            partition.leave()


@pytest.fixture
def workers(store):
    made = Workers(store.url)
    yield made
    made.end()


def test_who_is_in_a_long_cycle_is_named_and_may_be_stopped_later_at_the_cost_of_no_window(
    workers, store, capsys
):
    url = store.url
    workers.join("a")
    workers.join("b")
    with Observer(url) as observer:
        wait_until(lambda: observer.describe("workers").is_settled, within=60)
        # The mark is in the store a moment before its author acts on it.
        wait_until(lambda: workers.partitions["a"].state == "settled")
        before = clock.wall()
        with workers.partitions["a"].cycle():
            workers.join("c")
            found = []

            def c_waits_for_a_alone():
                found[:] = observer.describe("workers").waits
                return [(wait.member, wait.whom) for wait in found] == [("c", "a")]

            wait_until(c_waits_for_a_alone)
            (wait,) = found
            assert wait.slots == sum(last - first + 1 for first, last in wait.ranges) > 0
            assert before - 1 <= wait.since <= clock.wall() + 1
            capsys.readouterr()
            assert main(["group", "describe", url, "workers"]) == 1
            assert re.search(
                rf"waits: c for a, {wait.slots} slots .* since ", capsys.readouterr().out
            )
            assert main(["group", "can-stop", url, "workers", "a"]) == 1
            assert "c waits for" in capsys.readouterr().out
        wait_until(lambda: main(["group", "can-stop", url, "workers", "a"]) == 0, within=60)

    first = max(window for window, _ in list(workers.worked)) + 1
    assert main(["group", "drain", url, "workers", "a"]) == 0
    last = max(window for window, _ in list(workers.worked)) + 1
    wait_until(lambda: max(window for window, _ in list(workers.worked)) > last + 1)
    assert workers.partitions["a"].state == "left"
    counts = {
        (window, key): workers.worked[window, key]
        for window in range(first, last + 1)
        for key in KEYS
    }
    assert [place for place, count in counts.items() if count > 1] == []
    # On a machine that is far too busy a loop may itself be late, and says so.
    if not any(one.stats.windows_missed for one in workers.partitions.values()):
        assert [place for place, count in counts.items() if count == 0] == []

    assert main(["group", "drain", url, "workers", "b"]) == 0
    wait_until(lambda: workers.partitions["c"].state == "settled")
    assert main(["group", "can-stop", url, "workers", "c"]) == 1
    assert "the last member" in capsys.readouterr().out
