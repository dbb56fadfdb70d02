"""Processes whose clocks run fast or slow, by a library that is preloaded into them."""

from __future__ import annotations

import functools
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from tests.servers.process import Server


@functools.cache
def _library() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="clock-rate-"))
    library = folder / "clock_rate.so"
    source = Path(__file__).with_name("clock_rate.c")
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
