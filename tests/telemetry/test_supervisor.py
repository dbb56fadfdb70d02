"""Workers under a supervisor: restarted when they die, ended when they are told to."""

import contextlib
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
from types import SimpleNamespace

import pytest

from hashring.cli import main
from hashring.telemetry.agent.launch import Launch
from hashring.telemetry.agent.supervisor import start_worker
from hashring.telemetry.config.command_line import agent_settings
from tests.begun import Begun
from tests.telemetry.conftest import Agents

pytestmark = pytest.mark.slow


@contextlib.contextmanager
def starting(agents):
    """Start workers under one supervisor; end them all, by their pids, whatever happens."""
    started = []

    def start(*options, workers=2, **environment):
        command = ["agent", "--workers", str(workers)]
        command += ["--member", "w", "--backend-url", agents.url, "--group", "test"]
        command += ["--interval", "0.5", "--output", str(agents.output)]
        command += ["--log-level", "info", *options]
        log = agents.folder / "log"
        with log.open("ab") as stderr:
            process = Begun(
                command, stderr=stderr, start_new_session=True, env=os.environ | environment
            )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def supervised(agents):
    with starting(agents) as start:
        yield start


@pytest.fixture
def log(agents):
    return lambda: (agents.folder / "log").read_text()


@pytest.fixture
def pids(log):
    """The process ids of the workers by name, the latest ones, as the supervisor logs them."""
    return lambda: {
        name: int(pid) for name, pid in re.findall(r"(w\.\d) runs as process (\d+)", log())
    }


def test_workers_share_and_drain_together(supervised, agents, pids, until, is_alive, log):
    process = supervised()
    until(lambda: agents.windows("w.1") and agents.windows("w.2"), "both workers poll")

    process.send_signal(signal.SIGTERM)

    assert process.wait(60) == 0, log()
    assert not any(is_alive(pid) for pid in pids().values())


def test_a_worker_that_dies_is_started_again_once_its_lease_has_run_out(
    supervised, agents, pids, log, until
):
    supervised("--ttl", "2")
    until(lambda: agents.windows("w.1") and agents.windows("w.2"), "both workers poll")
    killed = pids()["w.1"]

    os.kill(killed, signal.SIGKILL)

    until(lambda: pids()["w.1"] != killed, "another w.1 is started")
    last = max(agents.windows("w.1"))
    until(lambda: max(agents.windows("w.1")) > last, "it polls")
    assert "w.1 died (signal 9)" in log()
    assert log().count("died") == 1


def test_an_interrupt_from_the_terminal_drains_all(supervised, agents, pids, until, is_alive, log):
    process = supervised()
    until(lambda: agents.windows("w.1") and agents.windows("w.2"), "both workers poll")

    os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to each process of the job

    assert process.wait(60) == 0, log()
    assert not any(is_alive(pid) for pid in pids().values())
    assert log().count(": has left: ") == 2
    assert "Traceback" not in log()


def test_an_interrupt_while_workers_start_leaves_no_trace_of_itself(
    supervised, pids, until, is_alive, log
):
    process = supervised(workers=3)
    until(lambda: len(pids()) == 3, "the workers have been started")

    os.killpg(process.pid, signal.SIGINT)

    assert process.wait(60) == 0, log()
    assert not any(is_alive(pid) for pid in pids().values())
    assert "Traceback" not in log()


def test_a_second_interrupt_ends_all_at_once(supervised, agents, pids, until, is_alive, log):
    process = supervised()
    until(lambda: agents.windows("w.1") and agents.windows("w.2"), "both workers poll")
    for pid in pids().values():
        os.kill(pid, signal.SIGSTOP)  # they will not drain

    os.killpg(process.pid, signal.SIGINT)
    until(lambda: "SIGINT: stopping" in log(), "the first one is seen")
    os.killpg(process.pid, signal.SIGINT)

    assert process.wait(60) != 0
    until(lambda: not any(is_alive(pid) for pid in pids().values()), "the workers are gone")


def test_workers_outlive_their_supervisor_no_longer_than_it_takes_to_drain(
    supervised, agents, pids, until, is_alive, log
):
    process = supervised()
    until(lambda: agents.windows("w.1") and agents.windows("w.2"), "both workers poll")

    process.kill()

    until(lambda: not any(is_alive(pid) for pid in pids().values()), "the workers are gone")
    assert log().count("the supervisor has gone: stopping") == 2
    assert log().count(": has left: ") == 2


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """What two workers left that ended after two cycles each, and what systemd heard of them."""
    agents = Agents(tmp_path_factory.mktemp("ended"))
    path = str(agents.folder / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener, starting(agents) as start:
        listener.bind(path)
        listener.settimeout(90)
        # The kernel tells who sent a datagram: none may be a worker's.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        process = start(
            *("--cycles", "2", "--log-format", "json"),
            NOTIFY_SOCKET=path,
            WATCHDOG_USEC="2000000",
        )
        heard = []
        while not any(message.startswith(b"STOPPING=1") for message, _ in heard):
            message, [(_, _, credentials)], *_ = listener.recvmsg(4096, socket.CMSG_SPACE(12))
            heard.append((message, struct.unpack("3i", credentials)[0]))
        assert process.wait(60) == 0, (agents.folder / "log").read_text()
    lines = [json.loads(line) for line in (agents.folder / "log").read_text().splitlines()]
    return SimpleNamespace(pid=process.pid, heard=heard, lines=lines, samples=agents.samples())


def test_workers_end_after_their_cycles(ended):
    # On a busy machine one may be settled only when the other has had its cycles and left.
    polled = {sample["member"] for sample in ended.samples}
    assert polled
    assert polled <= {"w.1", "w.2"}
    assert sum("has left" in line["message"] for line in ended.lines) == 2
    assert not any("died" in line["message"] for line in ended.lines)


def test_what_no_restart_can_mend_ends_all(supervised, agents, log, is_alive, pids):
    process = supervised("--backend-url", "sqlite:///x?no_such_option=1")

    assert process.wait(60) == 2
    assert "no_such_option" in log()
    assert not any(is_alive(pid) for pid in pids().values())


def test_a_store_of_one_process_cannot_be_shared_by_workers(supervised, log):
    process = supervised("--backend-url", "memory://")

    assert process.wait(60) == 2
    assert "memory://" in log()
    assert json.dumps(log()).count("\\n") == 1


def test_systemd_hears_of_the_supervisor_alone(ended):
    assert {pid for _, pid in ended.heard} == {ended.pid}
    heard = [message for message, _ in ended.heard]
    assert heard[0].startswith((b"READY=1", b"WATCHDOG=1"))
    # One message for each number of workers, and no flood of them while one ends: others would be
    # lost in it.
    assert 1 <= sum(message.startswith(b"READY=1") for message in heard) <= 2
    assert b"WATCHDOG=1" in heard


def test_a_worker_that_is_told_to_reload_while_it_starts_lives_on(tmp_path):
    settings = agent_settings(
        backend_url=f"sqlite://{tmp_path}/agents.db",
        output=str(tmp_path / "samples.jsonl"),
        interval=0.5,
        cycles=1,
    )

    worker = start_worker(Launch(settings), log_file=str(tmp_path / "log"))
    os.kill(worker.pid, signal.SIGHUP)

    worker.join(60)
    assert worker.exitcode == 0
    assert "no configuration to read anew" in (tmp_path / "log").read_text()


def test_what_a_library_says_of_each_try_is_not_in_the_log(tmp_path):
    script = f"""
import urllib3
from hashring.telemetry.agent.supervisor import configure_logging
configure_logging("debug", {str(tmp_path / "log")!r})
manager = urllib3.PoolManager(retries=1)
try:
    manager.request("GET", "http://127.0.0.1:1/in?token=hunter2", timeout=5)
except urllib3.exceptions.MaxRetryError:
    print("refused")
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=90, check=True
    )

    assert done.stdout == "refused\n"
    assert (tmp_path / "log").read_text() == ""


def test_a_worker_that_an_operator_drains_ends_well_and_is_not_started_again(
    supervised, agents, pids, until, is_alive, log
):
    process = supervised()
    until(lambda: agents.windows("w.1") and agents.windows("w.2"), "both workers poll")

    assert main(["group", "drain", agents.url, "test", "w.1", "--by", "alice"]) == 0, log()
    until(lambda: not is_alive(pids()["w.1"]), "its process ends")
    last = max(agents.windows("w.2"))
    until(lambda: max(agents.windows("w.2")) > last, "the other one polls on")
    assert main(["group", "drain", agents.url, "test", "w.2"]) == 0, log()

    assert process.wait(60) == 0, log()
    assert log().count(": has left: ") == 2
    assert "as 'alice' asks" in log()
    assert "died" not in log()


def test_the_log_of_workers_is_json_where_that_is_asked_for(ended):
    events = {(line.get("member"), line.get("event")) for line in ended.lines}
    assert {("w.1", "joined"), ("w.2", "joined"), ("w.1", "left"), ("w.2", "left")} <= events
    assert all(line["group"] == "test" for line in ended.lines if "event" in line)
    assert any("runs as process" in line["message"] for line in ended.lines)
