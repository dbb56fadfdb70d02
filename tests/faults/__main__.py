"""The long form of the fault tests: ``python -m tests.faults --store sqlite --seconds 600``."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from hashring.testing.faults.faults import Step, random_plan, reference_plan, run_plan
from hashring.testing.faults.history import History
from hashring.testing.faults.report import figures, svg, table
from hashring.testing.faults.verdict import Verdict, check
from tests.faults.stores import STORES


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def judge(folder: Path, history: History, name: str) -> Verdict:
    verdict = check(history)
    (folder / "run.svg").write_text(svg(history, verdict, title=name))
    (folder / "table.md").write_text(table(history, verdict) + "\n")
    say(f"{name}\n{figures(history, verdict)}\nlogs, table and drawing: {folder}\n")
    return verdict


def announced(plan: Iterator[Step], *, loud: bool) -> Iterator[Step]:
    for step in plan:
        if loud:
            say(f"  {step.act} {', '.join(step.members)}")
        yield step


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--store", default="sqlite", choices=sorted(STORES))
    parser.add_argument("--seconds", type=float, default=600.0, help="how long a random plan runs")
    parser.add_argument("--seed", type=int, help="of the plan; default: a new one")
    parser.add_argument("--reference", type=int, metavar="RUNS", help="the reference plan instead")
    parser.add_argument("--amid", action="append", default=[], help="a fault amid the reference")
    parser.add_argument("--clock-steps", action="store_true", help="step clocks much more often")
    parser.add_argument("--keep", type=Path, help="folder for the logs; default: a temporary one")
    parser.add_argument("--verbose", action="store_true", help="say each step")
    options = parser.parse_args()
    seed = random.randrange(1 << 32) if options.seed is None else options.seed
    base = options.keep or Path(tempfile.mkdtemp(prefix="hashring-faults-logs-"))
    bad = 0
    for number in range(options.reference or 1):
        folder = base / f"{options.store}-{seed + number}"
        folder.mkdir(parents=True)
        with STORES[options.store]() as store:
            for kind, why in store.missing().items():
                say(f"not on this machine: {kind}: {why}")
            if options.reference:
                name = f"reference plan on {store.name}, seed {seed + number}"
                plan = iter(reference_plan(seed + number, amid=options.amid))
            else:
                name = f"{options.seconds:g} s of random faults on {store.name}, seed {seed}"
                plan = random_plan(
                    seed, options.seconds, store.faults(), clock_steps=options.clock_steps
                )
            say(name)
            history = run_plan(announced(plan, loud=options.verbose), store, folder)
        bad += bool(judge(folder, history, name).violations)
    if options.reference:
        say(f"{options.reference} runs, {bad} with a violation")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
