"""The recipes' programs, run as a user would, several processes of each on a real store."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import psycopg
import pytest
import yaml

from tests.conftest import TREE
from tests.servers.http import HTTPServer
from tests.servers.postgresql import PostgreSQLServer
from tests.servers.process import LOOPBACK, free_port, wait_until
from tests.servers.redis import RedisServer

pytestmark = pytest.mark.slow

RECIPES = TREE / "examples" / "recipes"
LONG = 120.0  # seconds: a busy machine is no failure


class Program:
    """Processes of one recipe, whose lines go to one file each."""

    def __init__(self, folder: Path, *command: str, **variables: str) -> None:
        self._folder = folder
        self._command = command
        self._variables = variables
        self.processes: list[subprocess.Popen[bytes]] = []
        self._killed: set[subprocess.Popen[bytes]] = set()

    def start(self) -> subprocess.Popen[bytes]:
        number = len(self.processes)
        with (
            (self._folder / f"{number}.txt").open("w") as printed,
            (self._folder / f"{number}.err").open("w") as errors,
        ):
            process = subprocess.Popen(
                [sys.executable, *self._command],
                cwd=self._folder,
                env={"PATH": "/usr/bin:/bin", **self._variables},
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=errors,
            )
        self.processes.append(process)
        return process

    def lines(self, number: int | None = None) -> list[list[str]]:
        found = range(len(self.processes)) if number is None else [number]
        return [
            line.split()
            for one in found
            for line in (self._folder / f"{one}.txt").read_text().splitlines()
        ]

    def wait_for(self, condition) -> None:
        def holds() -> bool:
            for number, process in enumerate(self.processes):
                errors = (self._folder / f"{number}.err").read_text()
                assert process in self._killed or process.poll() in (None, 0), errors
            return bool(condition())

        wait_until(holds, within=LONG, what=f"what {self._command} prints")

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        self._killed.add(process)
        process.kill()

    def end(self, process: subprocess.Popen[bytes]) -> None:
        """Ask a process to hand over, and see that it ends well."""
        process.send_signal(signal.SIGTERM)
        number = self.processes.index(process)
        assert process.wait(LONG) == 0, (self._folder / f"{number}.err").read_text()


@contextlib.contextmanager
def recipe(folder: Path, name: str, *arguments: str, **variables: str) -> Iterator[Program]:
    for path in RECIPES.iterdir():
        if path.is_file():
            shutil.copy(path, folder)
    program = Program(folder, *(name.split()), *arguments, **variables)
    try:
        yield program
    finally:
        for process in program.processes:
            process.kill()
            process.wait(LONG)


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/group.db?ttl=15"


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


def test_every_recipe_is_run_by_a_test_and_stands_on_a_page() -> None:
    here = Path(__file__).read_text("utf-8")
    pages = "".join(page.read_text("utf-8") for page in (TREE / "docs" / "recipes").glob("*.md"))
    for program in RECIPES.glob("*.*"):
        assert program.name in here, program.name
        assert f"examples/recipes/{program.name}" in pages, program.name


def test_each_address_is_asked_once_a_window_by_the_asyncio_poller(
    tmp_path: Path, store: str
) -> None:
    with HTTPServer() as web, recipe(tmp_path, "asyncio_poller.py", store, "addresses") as program:
        addresses = [f"{web.url}/host/{number}" for number in range(20)]
        (tmp_path / "addresses").write_text("\n".join(addresses))
        first, _ = program.start(), program.start()
        program.wait_for(lambda: program.lines(0) and program.lines(1))
        program.end(first)
        windows = {line[1] for line in program.lines()}
        program.wait_for(lambda: len({line[1] for line in program.lines()}) > len(windows) + 1)
        program.end(program.processes[1])

    polls = Counter((address, window) for address, window, _ in program.lines())
    assert set(polls.values()) == {1}
    assert {address for address, _ in polls} == set(addresses)


def test_each_queue_has_one_consumer_and_nothing_is_lost_in_a_change(
    tmp_path: Path, store: str, redis_server: RedisServer
) -> None:
    queues = [f"queue-{number}" for number in range(24)]  # each process has some of so many
    client = redis_server.client()
    sent: list[tuple[str, str]] = []

    def send() -> None:
        text = str(len(sent))
        for queue in queues:
            client.rpush(queue, text)
            sent.append((queue, text))

    with recipe(tmp_path, "consumers.py", store, redis_server.url, *queues) as program:
        first = program.start()
        program.wait_for(lambda: send() or program.lines(0))
        program.start()
        program.wait_for(lambda: send() or program.lines(1))
        program.end(first)
        send()
        program.wait_for(lambda: len(program.lines()) == len(sent))
        program.end(program.processes[1])

    assert sorted(map(tuple, program.lines())) == sorted(sent)
    for number in (0, 1):
        for queue in queues:
            taken = [int(text) for name, text in program.lines(number) if name == queue]
            assert taken == sorted(taken), "one consumer keeps the order"


def test_one_process_leads_and_the_next_takes_over(tmp_path: Path, store: str) -> None:
    with recipe(tmp_path, "leader.py", store) as program:
        for _ in range(2):
            program.start()
        program.wait_for(program.lines)
        leader = 0 if program.lines(0) else 1
        program.end(program.processes[leader])
        program.wait_for(lambda: program.lines(1 - leader))
        program.end(program.processes[1 - leader])


def stopped_while_it_reads(program: Program, number: int) -> tuple[str, str, int]:
    """Stop a process between its look at what it owns and its write.

    Returns:
        The key that it reads, its epoch, and how many lines it has printed.
    """
    process = program.processes[number]
    found: list[tuple[str, str, int]] = []

    def stops() -> bool:
        if program.lines(number)[-1][0] != "reads":
            return False
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        lines = program.lines(number)
        if lines[-1][0] == "reads":
            found.append((lines[-1][1], lines[-1][2], len(lines)))
        else:
            process.send_signal(signal.SIGCONT)
        return bool(found)

    program.wait_for(stops)
    return found[0]


@pytest.mark.parametrize(
    "tries", [2, pytest.param(100, marks=[pytest.mark.long, pytest.mark.timeout(1800)])]
)
def test_a_table_refuses_each_write_of_a_process_that_slept_through_the_end_of_its_lease(
    tmp_path: Path, tries: int
) -> None:
    refused = 0
    with (
        PostgreSQLServer() as server,
        psycopg.connect(server.url, autocommit=True) as database,
        recipe(tmp_path, "fencing.py", f"{server.url}?ttl=2", server.url) as program,
    ):
        database.execute((RECIPES / "fencing.sql").read_text("utf-8"))
        for _ in range(2):
            program.start()
        for one in range(tries):
            number = one % 2
            told = [len(program.lines(each)) for each in range(2)]
            program.wait_for(lambda told=told: all(len(program.lines(n)) > told[n] for n in (0, 1)))
            key, epoch, count = stopped_while_it_reads(program, number)

            def is_taken_over(number=number, key=key, epoch=epoch) -> bool:
                return any(
                    what == "wrote" and name == key and int(later) > int(epoch)
                    for what, name, later in program.lines(1 - number)
                )

            program.wait_for(is_taken_over)
            program.processes[number].send_signal(signal.SIGCONT)
            program.wait_for(lambda n=number, count=count: len(program.lines(n)) > count + 1)
            late = [["writes", key, epoch], ["refused", key, epoch]]
            assert program.lines(number)[count : count + 2] == late
            refused += 1
        for process in program.processes:
            process.send_signal(signal.SIGTERM)
        for process in program.processes:
            assert process.wait(LONG) == 0

    assert refused == tries
    writers: dict[str, list[int]] = {}
    for number in (0, 1):
        for what, key, epoch in program.lines(number):
            if what == "wrote":
                writers.setdefault(f"{number} {key}", []).append(int(epoch))
    assert all(epochs == sorted(epochs) for epochs in writers.values())


def test_devices_are_shared_each_by_itself_or_by_tenant(tmp_path: Path, store: str) -> None:
    with recipe(tmp_path, "tenants.py", store) as program:
        for _ in range(2):
            program.start()
        program.wait_for(lambda: program.lines(0) and program.lines(1))
        for process in program.processes:
            process.send_signal(signal.SIGTERM)
        for process in program.processes:
            assert process.wait(LONG) == 0

    lines = program.lines()
    assert len(lines) == len({tuple(line[:4]) for line in lines}), "each once a window"
    for window in {line[1] for line in lines}:
        owners: dict[str, set[str]] = {}
        for how, number, tenant, _, member in lines:
            if how == "together" and number == window:
                owners.setdefault(tenant, set()).add(member)
        assert all(len(members) == 1 for members in owners.values())


def test_apschedulers_jobs_run_in_one_process_at_a_time(
    tmp_path: Path, store: str, redis_server: RedisServer
) -> None:
    where = (LOOPBACK, str(redis_server.port))
    with recipe(tmp_path, "apscheduler_once.py", store, *where) as program:
        for _ in range(2):
            program.start()
        program.wait_for(lambda: len(program.lines()) >= 2)
        leader = 0 if program.lines(0) else 1
        assert not program.lines(1 - leader)
        program.end(program.processes[leader])
        program.wait_for(lambda: len(program.lines(1 - leader)) >= 2)
        program.end(program.processes[1 - leader])

    last = max(int(second) for _, second in program.lines(leader))
    assert all(int(second) >= last for _, second in program.lines(1 - leader))


def test_each_entry_of_celerys_beat_is_sent_once_whoever_comes_and_goes(
    tmp_path: Path, store: str, redis_server: RedisServer
) -> None:
    with recipe(tmp_path, "celery_beat.py", store, redis_server.url) as program:
        first, _ = program.start(), program.start()
        program.wait_for(lambda: len(program.lines()) >= 6)
        program.end(first)
        told = len(program.lines())
        program.wait_for(lambda: len(program.lines()) >= told + 4)
        program.end(program.processes[1])

    sent = Counter((name, window) for name, window in program.lines())
    assert set(sent.values()) == {1}
    assert {name for name, _ in sent} == {"every-second", "every-two-seconds"}
    assert sorted(ids_of_tasks(redis_server)) == sorted(f"{name}-{window}" for name, window in sent)


def ids_of_tasks(server: RedisServer) -> list[str]:
    waiting = server.client().lrange("celery", 0, -1)
    return [json.loads(message)["headers"]["id"] for message in waiting]


@pytest.mark.long
def test_a_beat_that_is_killed_or_suspended_has_no_entry_sent_twice(
    tmp_path: Path, store: str, redis_server: RedisServer
) -> None:
    with recipe(tmp_path, "celery_beat.py", store, redis_server.url) as program:
        for _ in range(3):
            program.start()

        def more_from(*numbers: int) -> None:
            told = {number: len(program.lines(number)) for number in numbers}
            program.wait_for(
                lambda: any(len(program.lines(number)) > told[number] + 3 for number in numbers)
            )

        def who_sends_the_seconds(numbers: Iterable[int]) -> int:
            def sent() -> list[tuple[int, int]]:
                return [
                    (int(window), number)
                    for number in numbers
                    for name, window in program.lines(number)
                    if name == "every-second"
                ]

            program.wait_for(sent)
            return max(sent())[1]

        more_from(0, 1, 2)
        # Whoever sends the seconds is killed, and who comes after it is suspended until its lease
        # has ended.
        first = who_sends_the_seconds(range(3))
        program.kill(program.processes[first])
        others = [number for number in range(3) if number != first]
        more_from(*others)
        second = who_sends_the_seconds(others)
        (third,) = [number for number in others if number != second]
        program.processes[second].send_signal(signal.SIGSTOP)
        more_from(third)
        program.processes[second].send_signal(signal.SIGCONT)
        more_from(second, third)

    assert set(Counter(ids_of_tasks(redis_server)).values()) == {1}


def test_a_web_services_processes_share_out_what_runs_behind_it(tmp_path: Path, store: str) -> None:
    address = f"{LOOPBACK}:{free_port()}"
    command = f"-m gunicorn --config gunicorn_conf.py --workers 2 --bind {address} flask_app:app"
    with recipe(tmp_path, command, STORE_URL=store) as program:
        process = program.start()
        program.wait_for(lambda: len({line[2] for line in program.lines()}) >= 3)

        seen: set[str] = set()

        def members() -> set[str]:
            with contextlib.suppress(OSError):
                for _ in range(4):
                    with urllib.request.urlopen(f"http://{address}/share", timeout=60) as answer:
                        seen.add(json.load(answer)["member"])
            return seen

        program.wait_for(lambda: len(members()) == 2)
        program.end(process)

    swept = Counter((account, window) for _, account, window in program.lines())
    assert set(swept.values()) == {1}, "flask_app.py and gunicorn_conf.py: each once a window"
    whole = Counter(window for _, window in swept)
    assert 50 in whole.values()


def test_the_deployment_runs_the_poller_and_drains_it_before_the_pod_ends(
    tmp_path: Path, store: str
) -> None:
    deployment = yaml.safe_load((RECIPES / "kubernetes.yaml").read_text("utf-8"))
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert (
        deployment["spec"]["selector"]["matchLabels"]
        == (deployment["spec"]["template"]["metadata"]["labels"])
    )
    assert pod["terminationGracePeriodSeconds"] > 2 * 10 + 2
    python, name, url, addresses = container["command"]
    assert (python, url) == ("python", "$(STORE_URL)")
    assert [one["name"] for one in container["env"]] == ["STORE_URL"]
    assert addresses.startswith(container["volumeMounts"][0]["mountPath"])

    with HTTPServer() as web, recipe(tmp_path, name, store, "addresses") as program:
        (tmp_path / "addresses").write_text(f"{web.url}/one")
        process = program.start()
        program.wait_for(program.lines)
        shell, option, script = container["lifecycle"]["preStop"]["exec"]["command"]
        hook = re.sub(r"\b1\b(?!\d)", str(process.pid), script, count=2)
        stopping = subprocess.Popen([shell, option, hook])
        assert process.wait(LONG) == 0
        assert stopping.wait(LONG) == 0, "the hook ends with the process"
