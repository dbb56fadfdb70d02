"""The command: ``python -m hashring.testing.simulation``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from hashring.testing.simulation.profiles import PROFILES
from hashring.testing.simulation.result import Result, Violation
from hashring.testing.simulation.runs import run, run_many

__all__ = ["main"]

DESCRIPTION = "Play short lives of a group, with the real hand-off, under a seeded scheduler."


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m hashring.testing.simulation", description=DESCRIPTION
    )
    parser.add_argument("--runs", type=int, default=20000, help="in all, over the profiles")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument(
        "--profile", action="append", choices=sorted(PROFILES), help="default: all of them"
    )
    parser.add_argument("--processes", type=int, default=None)
    parser.add_argument("--trace", action="store_true", help="print every event (few runs only)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; exit with 1 on a violation."""
    options = _options(arguments)
    profiles = options.profile or list(PROFILES)
    failed = False
    for profile in profiles:
        runs = max(1, options.runs // len(profiles))
        began = time.perf_counter()
        if options.trace:
            total, violations = Result(), []
            for seed in range(options.seed, options.seed + runs):
                try:
                    total.add(run(seed, profile, trace=_print))
                except Violation as violation:
                    violations.append(f"{profile}: {violation}")
        else:
            total, violations = run_many(
                runs, profile, first=options.seed, processes=options.processes
            )
        seconds = time.perf_counter() - began
        events = ", ".join(f"{count} {kind}" for kind, count in sorted(total.events.items()))
        _print(
            f"{profile}: {runs} runs from seed {options.seed}, {total.steps} steps, "
            f"{total.gains} hand-overs; {events}; windows worked {total.worked}, "
            f"missed {total.missed} ({total.given_up} given up), repeated {total.repeated}; "
            f"{len(violations)} violations; {seconds:.0f} s"
        )
        for line in violations[:20]:
            _print(line)
        failed = failed or bool(violations)
    return 1 if failed else 0


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
