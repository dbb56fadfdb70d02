"""What the agents' tests share: agents as processes that no test leaves behind, and patience."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import textwrap
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.begun import Begun


def until(reached: Callable[[], Any], what: str, seconds: float = 90.0) -> Any:
    """Return what ``reached`` returns as soon as that is true; fail where it never is."""
    deadline = time.monotonic() + seconds
    pause = 0.02
    while not (found := reached()):
        assert time.monotonic() < deadline, f"waited {seconds} s in vain until {what}"
        time.sleep(pause)
        pause = min(1.1 * pause, 0.1)  # what is looked for is often in a file that is read whole
    return found


class Agents:
    """Agents that one test starts, as ``hashring agent``, on a store and a file of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"sqlite://{folder / 'group.db'}"
        self.output = folder / "samples.jsonl"
        self.processes: dict[str, subprocess.Popen[str]] = {}  # the latest of each member
        self._started: list[subprocess.Popen[str]] = []

    def start(
        self, member: str, *options: str, status_file: bool = True, **popen: Any
    ) -> subprocess.Popen[str]:
        command = ["agent", "--member", member]
        command += ["--backend-url", self.url, "--group", "test", "--log-level", "info"]
        if status_file:
            command += ["--status-file", str(self.status_file(member))]
        if "--output" not in options:
            command += ["--output", str(self.output)]
        with self.log_file(member).open("w") as log:
            process = Begun(
                [*command, *options], stderr=log, text=True, start_new_session=True, **popen
            )
        self._started.append(process)
        self.processes[member] = process
        return process

    def start_configured(self, member: str, *files: Path) -> subprocess.Popen[str]:
        """Start an agent that files configure, of the namespace ``central``."""
        command = ["agent", "central", "--member", member]
        command += ["--log-level", "info", "--status-file", str(self.status_file(member))]
        for file in files:
            command += ["--config-file", str(file)]
        with self.log_file(member).open("w") as log:
            process = Begun(command, stderr=log, text=True, start_new_session=True)
        self._started.append(process)
        self.processes[member] = process
        return process

    def status_file(self, member: str) -> Path:
        return self.folder / f"{member}.json"

    def log_file(self, member: str) -> Path:
        return self.folder / f"{member}.log"

    def said(self, member: str) -> str:
        """What the latest agent of this name has logged."""
        return self.log_file(member).read_text()

    def status(self, member: str) -> dict[str, Any]:
        try:
            return dict(json.loads(self.status_file(member).read_text()))
        except FileNotFoundError:
            return {}

    def settle(self, *members: str) -> None:
        """Wait until these, and no others, share everything."""

        def settled() -> bool:
            statuses = [self.status(member) for member in members]
            return all(
                status.get("state") == "settled" and status["members"] == sorted(members)
                for status in statuses
            )

        try:
            until(settled, f"{', '.join(members)} have settled")
        except AssertionError as error:
            for member in members:
                error.add_note(f"{member}: {self.status(member)}\n{self.said(member)}")
            raise

    def samples(self, output: Path | None = None) -> list[dict[str, Any]]:
        path = output if output is not None else self.output
        if not path.exists():
            return []
        lines = path.read_bytes().split(b"\n")
        return [json.loads(line) for line in lines[:-1]]  # the last one may be half written

    def windows(self, member: str) -> set[int]:
        return {sample["window"] for sample in self.samples() if sample["member"] == member}

    def logs(self) -> str:
        """Return the end of each log."""
        files = sorted(self.folder.glob("*.log"))
        return "".join(f"--- {file.name}\n{file.read_text()[-8000:]}\n" for file in files)

    def end(self) -> None:
        for process in self._started:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


@pytest.fixture
def agents(tmp_path: Path) -> Iterator[Agents]:
    found = Agents(tmp_path)
    yield found
    found.end()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the agents of a test that fails have logged."""
    report = yield
    found = getattr(item, "funcargs", {}).get("agents")
    if report.failed and isinstance(found, Agents):
        report.sections.append(("the agents' logs", found.logs()))
    return report


@pytest.fixture(name="until")
def until_fixture() -> Callable[..., Any]:
    return until


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let polls outlast their windows: on a busy machine those of the shortest windows would be
    given up, whatever a test is about.
    """
    from hashring.telemetry.polling.loops import PollingLoop

    monkeypatch.setattr(PollingLoop, "_left", lambda loop, cycle: 600.0)


@pytest.fixture
def is_alive() -> Callable[[int], bool]:
    def alive(pid: int) -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        try:
            stat = Path(f"/proc/{pid}/stat").read_bytes()
        except (FileNotFoundError, ProcessLookupError):  # it has just ended
            return False
        return b") Z " not in stat  # a zombie has ended; only its parent has not looked yet

    return alive


@pytest.fixture
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file and no variable of this machine configures an agent."""
    from hashring.telemetry.config import options

    for name in [name for name in os.environ if name.startswith("OS_")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(options, "SYSTEM_FOLDER", tmp_path / "system")


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write what an operator would: a text, into a file of this name."""

    def file(text: str, name: str = "ceilometer.conf") -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    return file


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Run an agent on a polling definition of these sources; all end with the test."""
    from tests.telemetry.plant import Plant

    made: list[Plant] = []

    def make(*sources: dict[str, Any], announce: bool = False, **changes: Any) -> Plant:
        found = Plant(tmp_path, **changes)
        found.write(*sources)
        found.start(announce=announce)
        made.append(found)
        return found

    yield make
    for found in made:
        found.end()
