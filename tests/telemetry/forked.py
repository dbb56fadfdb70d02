"""The command in processes that begin with everything imported: forks of one that has done so.

For tests that only read what the command says: to import all that an agent needs takes most of the
time of such a process. What imports are tested for needs a process of its own.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from typing import Self

_PROGRAM = """
import json, os, sys, tempfile, traceback
import hashring.cli.drivers, hashring.telemetry.cli.running
from hashring.cli import main

for line in sys.stdin:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as error:
        child = os.fork()
        if child == 0:
            os.dup2(out.fileno(), 1)
            os.dup2(error.fileno(), 2)
            code = 1
            try:
                code = main(json.loads(line))
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        texts = []
        for file in (out, error):
            file.seek(0)
            texts.append(file.read().decode())
    print(json.dumps([code, *texts]), flush=True)
"""


@dataclasses.dataclass(frozen=True)
class Said:
    """How a command ended, under the names of :class:`subprocess.CompletedProcess`."""

    returncode: int
    stdout: str
    stderr: str


class Commands:
    """Runs ``hashring`` with arguments, one run after the other, each in a fork."""

    def __enter__(self) -> Self:
        command = [sys.executable, "-c", _PROGRAM]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        return self

    def __call__(self, *arguments: str) -> Said:
        asked, answers = self._process.stdin, self._process.stdout
        assert asked is not None
        assert answers is not None
        asked.write(json.dumps(arguments) + "\n")
        asked.flush()
        return Said(*json.loads(answers.readline()))

    def __exit__(self, *_: object) -> None:
        # Closes its input, at whose end it ends.
        self._process.communicate(timeout=90)
