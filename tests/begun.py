"""``hashring`` as a process that begins with everything imported: a fork of one that has done so.

To import what an agent or an evaluator needs takes up to a second of processor time, most of what a
short life of one costs. Tests that are about what happens afterwards start it here. What starts are
tested for (imports, packages that are missing, the command line of Python) starts a new Python.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import importlib
import inspect
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

_SUBREAPER = 36
"""``PR_SET_CHILD_SUBREAPER`` of prctl(2): orphans below this process become its children."""

_IMPORTED = ("hashring.cli.front", "hashring.alarms.running", "hashring.telemetry.cli.running")

_AT_FIRST = dict(os.environ)
"""The environment before a test has changed it."""

_LONGEST = 1 << 17
"""Bytes of a request, which has the environment of a process."""


class Begun(subprocess.Popen[Any]):
    """A process that runs ``hashring`` with these arguments, forked and not started anew.

    It is a child of this process, as every other; it has its own session where that is asked for,
    and the environment, folder and files that :class:`subprocess.Popen` would give it. Its command
    line, as the system shows it, is another one. Where its environment has something else that
    Python or the system's loader looks at when a process begins, it is started anew.

    Args:
        arguments: of the command.
        popen: as for :class:`subprocess.Popen`: ``cwd``, ``env``, ``start_new_session``, the
            standard files, and how they are read.
    """

    def __init__(self, arguments: Sequence[str], **popen: Any) -> None:
        super().__init__([str(argument) for argument in arguments], **popen)

    def _execute_child(self, *given: Any) -> None:  # what __init__ does once the pipes are there
        start = super()._execute_child  # type: ignore[misc]
        bound = inspect.signature(start).bind(*given)
        asked = bound.arguments
        environment = dict(os.environ if asked["env"] is None else asked["env"])
        origin = _origin(os.getpid())
        if _looked_at_when_a_process_begins(environment) != origin.began_with:
            asked["args"] = [sys.executable, "-m", "hashring", *asked["args"]]
            start(*bound.args, **bound.kwargs)
            return
        files = [
            standard if standard != -1 else inherited
            for inherited, standard in enumerate(
                asked[name] for name in ("p2cread", "c2pwrite", "errwrite")
            )
        ]
        self.pid = origin.fork(
            {
                "arguments": asked["args"],
                "environment": environment,
                "folder": os.fspath(asked["cwd"] or "."),
                "session": asked["start_new_session"],
            },
            files,
        )
        self._child_created = True
        self._close_pipe_fds(  # type: ignore[attr-defined]
            *(asked[name] for name in ("p2cread", "p2cwrite", "c2pread", "c2pwrite")),
            *(asked[name] for name in ("errread", "errwrite")),
        )


def run(*arguments: str, **popen: Any) -> subprocess.CompletedProcess[str]:
    """Run ``hashring`` with these arguments to its end, and return how it ended and what it said.

    Args:
        arguments: of the command.
        popen: as for :class:`Begun`.
    """
    pipe = subprocess.PIPE
    with Begun(arguments, stdout=pipe, stderr=pipe, text=True, **popen) as process:
        try:
            out, error = process.communicate(timeout=90)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(arguments, process.returncode, out, error)


def _looked_at_when_a_process_begins(environment: Mapping[str, str]) -> dict[str, str]:
    looked_at = ("PYTHON", "HASHRING_", "LD_", "MALLOC_", "GLIBC_", "LC_", "LANG")
    return {name: value for name, value in environment.items() if name.startswith(looked_at)}


class _Origin:
    """The process that has imported everything: one for each that starts such processes."""

    def __init__(self) -> None:
        self.of = os.getpid()
        self.began_with = _looked_at_when_a_process_begins(_AT_FIRST)
        self._lock = threading.Lock()
        self._socket, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.begun", str(there.fileno())],
            cwd=Path(__file__).parents[1],
            env=_AT_FIRST,
            pass_fds=[there.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C is for those that it has forked
        )
        there.close()

    def fork(self, request: dict[str, Any], files: Sequence[int]) -> int:
        """Return the id of a new process, which is a child of this one."""
        with self._lock, _adopting():
            socket.send_fds(self._socket, [json.dumps(request).encode()], files)
            answer = self._socket.recv(64)
        assert answer, "the process that has imported everything has ended"
        return int(answer)

    def end(self) -> None:
        if self.of != os.getpid():
            return  # a fork of this process has none of its own yet
        self._socket.close()  # at whose end it ends
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@functools.cache
def _origin(pid: int) -> _Origin:
    found = _Origin()
    atexit.register(found.end)
    return found


@contextlib.contextmanager
def _adopting() -> Iterator[None]:
    """While it lasts, orphans below this process become its children, and not those of init."""
    _set_subreaper(1)
    try:
        yield
    finally:
        _set_subreaper(0)


def _set_subreaper(value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(_SUBREAPER, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


# -- what runs in the process that has imported everything


def _serve(connection: socket.socket) -> Callable[[], int] | None:
    """Fork as often as asked for, until nobody can ask any more; return in each fork what it does.

    The fork's parent has ended before anybody hears of it: so somebody else has adopted it.
    """
    while True:
        said, files, _, _ = socket.recv_fds(connection, _LONGEST, 3)
        if not said:
            return None
        request = json.loads(said)
        reading, writing = os.pipe()
        between = os.fork()
        if not between:
            if os.fork():
                os._exit(0)
            connection.close()
            os.close(reading)
            return functools.partial(_become, request, files, writing)
        for file in (*files, writing):
            os.close(file)
        os.waitpid(between, 0)
        connection.send(os.read(reading, 64))
        os.close(reading)


def _become(request: dict[str, Any], files: Sequence[int], told: int) -> int:
    if request["session"]:
        os.setsid()
    os.write(told, b"%d" % os.getpid())
    os.close(told)
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    sys.argv = ["hashring", *request["arguments"]]
    # What starts processes of its own looks here for how this one began.
    sys.modules["__main__"] = importlib.import_module("hashring.__main__")
    from hashring.cli import main

    return main()


def _main() -> int:
    for module in _IMPORTED:
        importlib.import_module(module)
    work = _serve(socket.socket(fileno=int(sys.argv[1])))
    return 0 if work is None else work()


if __name__ == "__main__":
    sys.exit(_main())
