"""A fleet of agents, each a process, from one ceilometer.conf; and what a server saw of them."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.begun import Begun
from tests.standstill import Excusable, statuses
from tests.telemetry.conftest import until


class Fleet:
    """Agents that read one configuration; none of them outlives the test.

    Args:
        folder: for the configuration, the samples, the logs, the spool.
        backend_url: of ``[coordination]``; ``None``: the embedded store.
        sources: of polling.yaml.
        definitions: of dynamic pollsters.
        publishers: of the one sink; by default a file, which :meth:`samples` reads.
        sections: further options by section.
    """

    def __init__(
        self,
        folder: Path,
        backend_url: str | None,
        sources: list[dict[str, Any]],
        *,
        definitions: list[dict[str, Any]] = (),  # type: ignore[assignment]
        publishers: Iterable[str] | None = None,
        sections: Mapping[str, Mapping[str, object]] | None = None,
    ) -> None:
        self.folder = folder
        self.output = folder / "samples.jsonl"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._started: list[subprocess.Popen[bytes]] = []
        (folder / "pollsters.d").mkdir()
        (folder / "pollsters.d" / "all.yaml").write_text(yaml.safe_dump(list(definitions)))
        self.write_sources(sources)
        sink = {"name": "sink", "publishers": [*(publishers or [f"file://{self.output}"])]}
        pipeline = {
            "sources": [{"name": "all", "meters": ["*"], "sinks": ["sink"]}],
            "sinks": [sink],
        }
        (folder / "pipeline.yaml").write_text(yaml.safe_dump(pipeline))
        self.config = folder / "ceilometer.conf"
        self.write_config(backend_url, sections or {})

    def write_sources(self, sources: list[dict[str, Any]], name: str = "polling.yaml") -> Path:
        path = self.folder / name
        path.write_text(yaml.safe_dump({"sources": sources}))
        return path

    def write_config(
        self,
        backend_url: str | None,
        sections: Mapping[str, Mapping[str, object]],
        name: str = "ceilometer.conf",
    ) -> Path:
        merged: dict[str, dict[str, object]] = {
            "DEFAULT": {"pipeline_cfg_file": self.folder / "pipeline.yaml"},
            "coordination": {"heartbeat": 0.5},
            "polling": {
                "cfg_file": self.folder / "polling.yaml",
                "pollsters_definitions_dirs": self.folder / "pollsters.d",
            },
            "hashring": {"state_dir": self.folder / "state"},
        }
        if backend_url is not None:
            merged["coordination"]["backend_url"] = backend_url
        for section, options in sections.items():
            merged.setdefault(section, {}).update(options)
        path = self.folder / name
        path.write_text(
            "".join(
                f"[{section}]\n" + "".join(f"{key} = {value}\n" for key, value in options.items())
                for section, options in merged.items()
            )
        )
        return path

    # ---- agents ----------------------------------------------------------------------------

    def start(
        self, kind: str, name: str, *options: str, config: Path | None = None
    ) -> subprocess.Popen[bytes]:
        """Start an agent; ``kind`` is the command: central, compute or poll."""
        command = ["agent", kind]
        command += ["--config-file", str(config or self.config), "--member", name]
        command += ["--status-file", str(self.folder / f"{name}.json"), "--log-level", "info"]
        with (self.folder / f"{name}.log").open("ab") as log:
            process = Begun([*command, *options], stderr=log, start_new_session=True)
        self._started.append(process)
        self.processes[name] = process
        return process

    def stop(self, name: str, within: float = 90.0) -> None:
        """Tell an agent to drain, and wait for its end."""
        self.processes[name].send_signal(signal.SIGTERM)
        assert self.processes[name].wait(within) == 0, self.said(name)

    def kill(self, name: str) -> None:
        self.processes[name].kill()
        self.processes[name].wait()

    def said(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def status(self, name: str) -> dict[str, Any]:
        try:
            return dict(json.loads((self.folder / f"{name}.json").read_text()))
        except FileNotFoundError:
            return {}

    def settle(self, *names: str, within: float = 90.0) -> None:
        """Wait until these, and no others, share every group of theirs."""

        def settled() -> bool:
            return all(
                found.get("state") == "settled"
                and found["groups"]
                and all(group["members"] == sorted(names) for group in found["groups"].values())
                and found["pid"] == self.processes[name].pid
                for name in names
                for found in [self.status(name)]
            )

        try:
            until(settled, f"{', '.join(names)} have settled", within)
        except AssertionError as error:
            for name in names:
                error.add_note(f"{name}: {self.status(name)}\n{self.said(name)[-4000:]}")
            raise

    def end(self) -> None:
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.wait()

    # ---- what came of it -------------------------------------------------------------------

    def samples(self) -> list[dict[str, Any]]:
        if not self.output.exists():
            return []
        return [json.loads(line) for line in self.output.read_bytes().split(b"\n")[:-1]]


@contextmanager
def fleet(folder: Path, *arguments: Any, **options: Any) -> Iterator[Fleet]:
    found = Fleet(folder, *arguments, **options)
    try:
        yield found
    finally:
        found.end()


class Windows:
    """Full windows in which something was to happen, and how often it did.

    Args:
        interval: the length of a window in seconds.
    """

    def __init__(self, interval: float) -> None:
        self.interval = interval
        self.first = self.next_start()

    def next_start(self) -> int:
        return math.floor(time.time() / self.interval) + 1

    def sleep(self, windows: int) -> int:
        """Wait until so many full windows have passed, and return the last one."""
        last = self.next_start() + windows
        time.sleep(max(0.0, last * self.interval - time.time()))
        return last - 1

    def account(
        self, log: Iterable[tuple[str, float]], wanted: Iterable[str], first: int, last: int
    ) -> tuple[Counter[int], Counter[int]]:
        """Return how many were missed, and how many repeated, by window, first to last."""
        counts = Counter((what, math.floor(at / self.interval)) for what, at in log)
        missed: Counter[int] = Counter()
        repeated: Counter[int] = Counter()
        for window in range(first, last + 1):
            for what in wanted:
                times = counts[what, window]
                missed[window] += times == 0
                repeated[window] += max(0, times - 1)
        return +missed, +repeated

    def check(self, log: list[tuple[str, float]], wanted: list[str], first: int, last: int) -> None:
        """Fail unless each was seen once in each window, first to last.

        What a busy machine begins late is missed in one window and found twice in the next one:
        that is excusable, and more than that is not.
        """
        missed, repeated = self.account(log, wanted, first, last)
        if not missed and not repeated:
            return
        told = f"missed {dict(missed)}, repeated {dict(repeated)}"
        before, _ = self.account(log, wanted, first - 1, first - 1)
        assert repeated.total() <= missed.total() + before.total(), told
        raise Excusable(told)


def late_in(folder: Path) -> list[str]:
    """Return the agents that say, in a run's folder, that they were late for a window."""
    return sorted(name for name, found in statuses(folder).items() if found.get("missed"))


def excusable(holds: object, what: object) -> None:
    """Fail unless it holds; that it does not, a machine may have done that stood still."""
    if not holds:
        raise Excusable(str(what))
