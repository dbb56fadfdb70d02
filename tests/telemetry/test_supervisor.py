"""Workers under a supervisor: restarted when they die, ended when they are told to."""

import json
import os
import re
import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def supervised(agents):
    """Start workers under one supervisor; end them all, by their pids, whatever happens."""
    started = []

    def start(*options, workers=2):
        command = [sys.executable, "-m", "hashring", "agent", "--workers", str(workers)]
        command += ["--member", "w", "--backend-url", agents.url, "--group", "test"]
        command += ["--interval", "0.5", "--ttl", "2", "--output", str(agents.output)]
        command += ["--log-level", "info", *options]
        log = agents.folder / "log"
        with log.open("ab") as stderr:
            process = subprocess.Popen(command, stderr=stderr, start_new_session=True)
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


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

    assert process.wait(30) == 0, log()
    assert not any(is_alive(pid) for pid in pids().values())


def test_a_worker_that_dies_is_started_again_once_its_lease_has_run_out(
    supervised, agents, pids, log, until
):
    supervised()
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

    assert process.wait(30) == 0, log()
    assert not any(is_alive(pid) for pid in pids().values())
    assert log().count("has left") == 2
    assert "Traceback" not in log()


def test_an_interrupt_while_workers_start_leaves_no_trace_of_itself(
    supervised, pids, until, is_alive, log
):
    process = supervised(workers=3)
    until(lambda: len(pids()) == 3, "the workers have been started")

    os.killpg(process.pid, signal.SIGINT)

    assert process.wait(30) == 0, log()
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

    assert process.wait(10) != 0
    until(lambda: not any(is_alive(pid) for pid in pids().values()), "the workers are gone")


def test_workers_outlive_their_supervisor_no_longer_than_it_takes_to_drain(
    supervised, agents, pids, until, is_alive, log
):
    process = supervised()
    until(lambda: agents.windows("w.1") and agents.windows("w.2"), "both workers poll")

    process.kill()

    until(lambda: not any(is_alive(pid) for pid in pids().values()), "the workers are gone")
    assert log().count("the supervisor has gone: stopping") == 2
    assert log().count("has left") == 2


def test_workers_end_after_their_cycles(supervised, agents, log):
    process = supervised("--cycles", "2", workers=3)

    assert process.wait(60) == 0
    assert {sample["member"] for sample in agents.samples()} == {"w.1", "w.2", "w.3"}
    assert "died" not in log()


def test_what_no_restart_can_mend_ends_all(supervised, agents, log, is_alive, pids):
    process = supervised("--backend-url", "sqlite:///x?no_such_option=1")

    assert process.wait(30) == 2
    assert "no_such_option" in log()
    assert not any(is_alive(pid) for pid in pids().values())


def test_a_store_of_one_process_cannot_be_shared_by_workers(supervised, log):
    process = supervised("--backend-url", "memory://")

    assert process.wait(30) == 2
    assert "memory://" in log()
    assert json.dumps(log()).count("\\n") == 1
