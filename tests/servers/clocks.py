"""Processes whose clocks run fast or slow, or step, by a library that is preloaded into them."""

from __future__ import annotations

import functools
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from tests.servers.process import Server


@functools.cache
def _library(name: str = "clock_rate") -> Path:
    folder = Path(tempfile.mkdtemp(prefix="clock-"))
    folder.chmod(0o755)  # for a server that runs as another user
    library = folder / f"{name}.so"
    source = Path(__file__).with_name(f"{name}.c")
    build = ["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"]
    subprocess.run(build, check=True)
    return library


def at_rate(rate: float, *, of: str = "all") -> dict[str, str]:
    """Return the environment of a process whose clocks run at a rate.

    Args:
        rate: seconds of its clocks in a true second.
        of: ``all`` clocks, or ``boot`` for the one of a member's leases alone.
    """
    return {"LD_PRELOAD": str(_library()), "CLOCK_RATE": str(rate), "CLOCK_RATE_OF": of}


def running_at(rate: float, kind: type[Server], *arguments: Any, **options: Any) -> Any:
    """Return a server of a kind whose clocks run at a rate."""

    class Running(kind):  # type: ignore[misc, valid-type]
        def command(self) -> list[str]:
            variables = [f"{name}={value}" for name, value in at_rate(rate).items()]
            return ["env", *variables, *super().command()]

    Running.__name__ = kind.__name__
    return Running(*arguments, **options)


def stepping(kind: type[Server], *arguments: Any, **options: Any) -> Any:
    """Return a server of a kind whose wall clock steps on demand, by ``step_clock(seconds)``."""

    class Stepping(kind):  # type: ignore[misc, valid-type]
        def command(self) -> list[str]:
            if not self._step.exists():
                self.step_clock(0)
            preload = [f"LD_PRELOAD={_library('clock_step')}", f"CLOCK_STEP_FILE={self._step}"]
            return ["env", *preload, *super().command()]

        @property
        def _step(self) -> Path:
            return Path(self.folder) / "clock-step"

        def step_clock(self, seconds: int) -> None:
            """Set how far the server's wall clock is from the true time."""
            new = self._step.with_suffix(".new")
            new.write_text(str(seconds))
            new.replace(self._step)

    Stepping.__name__ = kind.__name__
    return Stepping(*arguments, **options)
