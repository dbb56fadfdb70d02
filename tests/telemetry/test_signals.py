import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

SCRIPT = """
import signal, sys, threading
from hashring.telemetry.agent.signals import Signals
# Whoever started the tests may have chosen to ignore some, which is inherited.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGTERM, signal.SIG_DFL)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.pthread_sigmask(signal.SIG_UNBLOCK, {{signal.SIGHUP}})
lock = threading.Lock()
stopped = threading.Event()

def stop():
    with lock:
        print("stopping", flush=True)
    stopped.set()

def reload():
    print("reloading", flush=True)

with Signals(stop{options}):
    print("ready", flush=True)
    {body}
print("done", flush=True)
assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL
assert threading.active_count() == 1
"""


@pytest.fixture
def program():
    started = []

    def start(body, options=""):
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT.format(body=body, options=options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_stops(program, number):
    process = program("stopped.wait()")

    process.send_signal(number)

    assert process.communicate(timeout=60)[0] == "stopping\ndone\n"
    assert process.returncode == 0


def test_stopping_needs_no_lock_that_the_main_thread_may_hold(program):
    # Were stop() called within the signal handler, it would wait for the thread it interrupted.
    process = program("lock.acquire(); sys.stdin.readline(); lock.release(); stopped.wait()")

    process.send_signal(signal.SIGTERM)

    assert process.communicate("the signal is on its way\n", timeout=60)[0] == "stopping\ndone\n"


def test_a_second_interrupt_ends_at_once(program):
    process = program("stopped.wait(); threading.Event().wait()")
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "stopping\n"

    process.send_signal(signal.SIGINT)

    assert process.wait(60) == 130


def test_a_second_sigterm_does_not_stop_twice(program):
    process = program("stopped.wait(); threading.Event().wait()")
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "stopping\n"

    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)

    assert process.wait(60) == 130
    assert process.stdout.read() == ""


def test_each_hangup_reloads_and_the_program_goes_on(program):
    process = program("stopped.wait()", ", reload=reload")
    for _ in range(3):
        process.send_signal(signal.SIGHUP)
        assert process.stdout.readline() == "reloading\n"

    process.send_signal(signal.SIGTERM)

    assert process.communicate(timeout=60)[0] == "stopping\ndone\n"
    assert process.returncode == 0


def test_a_reload_that_fails_is_logged_and_the_next_signals_are_heard(program):
    process = program("stopped.wait()", ", reload=lambda: [print('trying', flush=True), 1 / 0]")
    for _ in range(2):
        process.send_signal(signal.SIGHUP)
        assert process.stdout.readline() == "trying\n"

    process.send_signal(signal.SIGINT)

    assert process.communicate(timeout=60)[0] == "stopping\ndone\n"
    assert process.returncode == 0


def test_nothing_is_reloaded_once_the_program_stops(program):
    process = program("stopped.wait(); sys.stdin.readline()", ", reload=reload")
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "stopping\n"

    process.send_signal(signal.SIGHUP)

    assert process.communicate("go\n", timeout=60)[0] == "done\n"
    assert process.returncode == 0


def test_a_hangup_that_nobody_asked_to_hear_of_ends_the_program_as_ever(program):
    process = program("stopped.wait()")

    process.send_signal(signal.SIGHUP)

    assert process.wait(60) == -signal.SIGHUP


def test_a_reload_that_comes_too_early_is_kept_until_somebody_listens():
    script = """
import os, signal, threading
from hashring.telemetry.agent.signals import Signals, hold_reloads
hold_reloads()
os.kill(os.getpid(), signal.SIGHUP)
reloaded = threading.Event()
with Signals(lambda: None, reload=reloaded.set):
    assert reloaded.wait(60)
print("done")
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=90, check=False
    )

    assert (done.stdout, done.stderr, done.returncode) == ("done\n", "", 0)
