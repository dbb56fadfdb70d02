"""Real OpenStack services, in processes and an environment of their own, which sees our tree.

What runs there beside them stands in ``in_services``: plug-ins and recorders of ours.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sysconfig
from collections.abc import Iterable, Mapping
from pathlib import Path

_OURS = Path(__file__).with_name("in_services")

_DATE = re.compile(r"\d{4}-\d\d-\d\d ")

_PROGRAM = """
import importlib, site, sys
site.addsitedir({site!r})
sys.argv = {arguments!r}
for name in {first!r}:
    importlib.import_module(name)
sys.exit(getattr(importlib.import_module({module!r}), {function!r})())
"""


def fields_of(record: Path) -> list[list[str]]:
    """Return the words of each line that processes have written down; the last may be half one."""
    return [line.split() for line in record.read_text().split("\n")[:-1]]


class Services:
    """Processes of services that write into one log. They are ended with the ``with`` block.

    Args:
        folder: an empty one; the configuration goes there.
        python: that of the environment.
    """

    def __init__(self, folder: Path, python: Path) -> None:
        self.folder = folder
        self._python = python
        self._site = folder / "site"
        self._processes: list[subprocess.Popen[bytes]] = []
        self._site.mkdir()
        ours = Path(sysconfig.get_path("purelib"))
        for pattern in ("__editable__*hashring*", "hashring_ha-*.dist-info"):
            for found in ours.glob(pattern):
                (self._site / found.name).symlink_to(found)

    def install(self, module: str, entry_points: str = "") -> None:
        """Make one of our modules for there importable, and known by its entry points."""
        (self._site / f"{module}.py").symlink_to(_OURS / f"{module}.py")
        if entry_points:
            info = self._site / f"{module}-1.dist-info"
            info.mkdir()
            name = module.replace("_", "-")
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
            (info / "entry_points.txt").write_text(entry_points)

    def command(self, entry: str, *arguments: str, first: Iterable[str] = ()) -> list[str]:
        """Return the command that runs a program by its entry point.

        Args:
            entry: as ``module:function``.
            arguments: the first is the program's name.
            first: modules to import before it.
        """
        module, _, function = entry.partition(":")
        program = _PROGRAM.format(
            site=str(self._site),
            arguments=[*arguments],
            first=[*first],
            module=module,
            function=function,
        )
        return [str(self._python), "-W", "ignore", "-c", program]

    def run(self, entry: str, *arguments: str, environment: Mapping[str, str] | None = None) -> str:
        """Run a program to its end and return what it printed."""
        done = subprocess.run(
            self.command(entry, *arguments),
            env={**os.environ, **(environment or {})},
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def launch(
        self, command: list[str], environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start one more process, which leads a session of its own."""
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                command,
                env={**os.environ, **(environment or {})},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._processes.append(process)
        return process

    def signal(self, process: subprocess.Popen[bytes], number: signal.Signals) -> None:
        """Send a signal to a process and the workers that it has forked."""
        os.killpg(process.pid, number)

    def children(self, process: subprocess.Popen[bytes]) -> set[int]:
        """Return the processes that one has forked."""
        found: set[int] = set()
        for task in Path(f"/proc/{process.pid}/task").iterdir():  # any thread may have forked
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                found |= {int(pid) for pid in (task / "children").read_text().split()}
        return found

    def tell_to_stop(self, process: subprocess.Popen[bytes]) -> set[int]:
        """Send a process SIGTERM, as a service manager does; return its id and its workers'."""
        found = {process.pid, *self.children(process)}
        process.send_signal(signal.SIGTERM)
        return found

    def stop(self) -> None:
        """End all processes."""
        for process in self._processes:
            if process.poll() is None:
                self.signal(process, signal.SIGCONT)
                process.terminate()
        for process in self._processes:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                self.signal(process, signal.SIGKILL)
                process.wait()

    @property
    def log(self) -> str:
        """What the processes have said."""
        return (self.folder / "log").read_text(errors="replace")

    @property
    def errors(self) -> list[str]:
        """What they have complained of, but for plug-ins that lack what they need."""
        return [line for line in self.log.splitlines() if _is_error(line)]

    @property
    def complaints(self) -> str:
        """The same with the lines that belong to them, up to the next line with a date."""
        found, belongs = [], False
        for line in self.log.splitlines():
            belongs = _is_error(line) or (belongs and _DATE.match(line) is None)
            if belongs:
                found.append(line)
        return "\n".join(found)

    def check_log(self) -> None:
        """Fail with all that they have complained of, if it is anything."""
        if self.complaints:
            raise AssertionError(f"errors in the log of {self.folder}:\n{self.complaints}")


def _is_error(line: str) -> bool:
    return ("ERROR" in line or "Traceback" in line) and "Could not load" not in line
