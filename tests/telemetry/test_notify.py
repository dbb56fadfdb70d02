"""systemd's notify protocol, on a real datagram socket."""

import contextlib
import os
import socket
import threading
import time
import uuid

import pytest

from hashring.telemetry.agent.systemd import Notifier, Watchdog


@pytest.fixture(params=["path", "abstract"])
def listening(request, tmp_path):
    """What systemd is to a service: a socket, and its name in the environment."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.settimeout(60)
        if request.param == "path":
            name = str(tmp_path / "notify")
            listener.bind(name)
        else:
            name = f"@hashring-{uuid.uuid4().hex}"
            listener.bind(b"\0" + name[1:].encode())
        yield listener, {"NOTIFY_SOCKET": name}


def heard(listener):
    return listener.recv(4096).decode().split("\n")


def test_each_state_is_one_datagram(listening):
    listener, environment = listening
    notifier = Notifier(environment)

    assert notifier.ready("polls 12 resources")
    assert heard(listener) == ["READY=1", "STATUS=polls 12 resources"]
    assert notifier.status("drains")
    assert heard(listener) == ["STATUS=drains"]
    assert notifier.stopping()
    assert heard(listener) == ["STOPPING=1"]
    assert notifier.alive()
    assert heard(listener) == ["WATCHDOG=1"]


def test_a_reload_bears_the_monotonic_time_in_microseconds(listening):
    listener, environment = listening
    before = time.monotonic_ns() // 1000

    assert Notifier(environment).reloading()

    state, stamp = heard(listener)
    assert state == "RELOADING=1"
    name, _, value = stamp.partition("=")
    assert name == "MONOTONIC_USEC"
    assert before <= int(value) <= time.monotonic_ns() // 1000


def test_a_status_cannot_smuggle_in_another_assignment(listening):
    listener, environment = listening

    Notifier(environment).status("a\nSTOPPING=1")

    assert heard(listener) == ["STATUS=a STOPPING=1"]


def drained(listener):
    with contextlib.suppress(BlockingIOError):
        while listener.recv(4096):
            pass


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "tcp:1"}])
def test_without_a_socket_nothing_happens(environment):
    notifier = Notifier(environment)

    assert not notifier.ready()
    assert not notifier.reloading()


def test_a_socket_that_is_gone_fails_nothing(tmp_path):
    assert not Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready()


def test_a_socket_that_is_full_does_not_block(listening):
    _, environment = listening
    notifier = Notifier(environment)

    for _ in range(100_000):  # nobody reads
        if not notifier.status("x" * 1000):
            break
    else:
        pytest.fail("the socket was never full")


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({"WATCHDOG_USEC": "9" * 400}, None),
    ],
)
def test_the_watchdogs_time_is_this_processs_alone(environment, seconds):
    assert Notifier(environment).watchdog_timeout == seconds


def test_the_watchdog_pets_while_the_service_is_alive_and_only_then(listening, caplog, until):
    listener, environment = listening
    well = threading.Event()
    well.set()
    asked = []

    def alive():
        asked.append(None)
        return well.is_set()

    with Watchdog(Notifier(environment | {"WATCHDOG_USEC": "20000"}), alive):
        assert heard(listener) == heard(listener) == ["WATCHDOG=1"]
        well.clear()
        until(lambda: "hangs" in caplog.text, "it has seen that")
        listener.setblocking(False)
        drained(listener)  # of what was sent before
        seen = len(asked)
        until(lambda: len(asked) > seen + 3, "it has asked again")
        with pytest.raises(BlockingIOError):
            listener.recv(4096)
        well.set()
        listener.settimeout(60)
        assert heard(listener) == ["WATCHDOG=1"]

    assert caplog.text.count("hangs") == 1
    assert "watchdog" not in {thread.name for thread in threading.enumerate()}


def test_a_service_that_cannot_say_whether_it_is_alive_is_not(listening, caplog, until):
    listener, environment = listening

    with Watchdog(Notifier(environment | {"WATCHDOG_USEC": "20000"}), lambda: 1 / 0):
        until(lambda: caplog.text.count("ZeroDivisionError") > 1, "it was asked twice")

    listener.setblocking(False)
    with pytest.raises(BlockingIOError):
        listener.recv(4096)


def test_where_systemd_has_set_no_watchdog_there_is_no_thread(listening):
    _, environment = listening

    with Watchdog(Notifier(environment), lambda: True):
        assert "watchdog" not in {thread.name for thread in threading.enumerate()}
