"""Reading expositions: samples a second and core, for label sets seen before and for new ones.

    python -m bench.expositions
    python -m bench.expositions --samples 10000 --seconds 5

An answer is read as an agent reads it, from the bytes to columns (``ExpositionReader``): of a
target whose series are those of the last answer, each with another number; and of one whose series
were never seen. Beside them stands the parser of prometheus-client, which is the oracle of the
tests. Rates are by processor time of the one thread that reads, so a busy machine disturbs little.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import time
from collections.abc import Callable, Iterator

from hashring.telemetry.model.resource import Resource
from hashring.telemetry.sources.web import exposition_lines, exposition_series
from hashring.telemetry.sources.web.exposition import _meter, measurements
from hashring.telemetry.sources.web.exposition_series import ExpositionReader


def exposition(samples: int, version: int, chance: random.Random) -> bytes:
    """What a target exposes: counters of five labels, a hundred of them to a metric."""
    lines = []
    for number in range(samples):
        metric, one = divmod(number, 100)
        name = f"node_{metric}_seconds_total"
        if not one:
            lines.append(f"# HELP {name} Seconds spent.\n# TYPE {name} counter\n")
        value = round(chance.random() * 1e6, chance.choice((0, 2, 3)))
        lines.append(
            f'{name}{{cpu="{one}",mode="idle",instance="web{one}.example:9100",job="node",'
            f'version="{version}"}} {value:g}\n'
        )
    return "".join(lines).encode()


def rate(answers: Iterator[bytes], read: Callable[[bytes], int], seconds: float) -> float:
    """Return how many samples a second of processor time are read."""
    spent, count = 0.0, 0
    while spent < seconds:
        body = next(answers)
        began = time.thread_time()
        count += read(body)
        spent += time.thread_time() - began
    return count / spent


def seen(options: argparse.Namespace) -> Iterator[bytes]:
    """Answers with the same series."""
    chance = random.Random(1)
    bodies = [exposition(options.samples, 0, chance) for _ in range(5)]
    while True:
        yield from bodies


def new(options: argparse.Namespace) -> Iterator[bytes]:
    """Answers each of whose series is new."""
    chance = random.Random(1)
    version = 0
    while True:
        version += 1
        yield exposition(options.samples, version, chance)


def measure(options: argparse.Namespace) -> None:
    target = Resource("prometheus+http://web1.example:9100/metrics", "exposition")
    print(
        f"{options.samples} samples an answer; Python {platform.python_version()}, "
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n"
    )
    print("| reader | label sets seen before | new ones |\n|---|---:|---:|")
    twins = {"plain Python": exposition_lines}
    if exposition_series._native is not None:
        twins = {"compiled": exposition_series._native, **twins}
    for name, twin in twins.items():
        exposition_series._lines = twin
        rates = []
        for answers in (seen(options), new(options)):
            reader = ExpositionReader(_meter)
            reader.read(next(answers), target)  # the first answer of all is new in any case
            rates.append(
                rate(answers, lambda body: len(reader.read(body, target)), options.seconds)  # noqa: B023
            )
        print(f"| {name} | {rates[0]:,.0f}/s | {rates[1]:,.0f}/s |")
    oracle = rate(
        new(options), lambda body: sum(1 for _ in measurements(body.decode(), target)), 0.5
    )
    print(f"| prometheus-client's parser | {oracle:,.0f}/s | {oracle:,.0f}/s |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--samples", type=int, default=2000, help="of an answer")
    parser.add_argument("--seconds", type=float, default=2.0, help="of processor time, each")
    measure(parser.parse_args())


if __name__ == "__main__":
    main()
