"""Reading expositions: samples a second and core, for label sets seen before and for new ones.

    python -m bench.expositions
    python -m bench.expositions --samples 10000 --seconds 5
    python -m bench.expositions --memory text --samples 400000   # of one answer, all new

An answer, as text or in protobuf, is read as an agent reads it, from the bytes to columns
(``ExpositionReader``): of a target whose series are those of the last answer, each with another
number; and of one whose series were never seen. Beside them stands the parser of prometheus-client,
which is the oracle of the tests. Rates are by processor time of the one thread that reads, so a
busy machine disturbs little.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from hashring.telemetry.model.resource import Resource
from hashring.telemetry.publishers.wire import message, sized, text
from hashring.telemetry.sources.web import (
    exposition_lines,
    exposition_messages,
    exposition_series,
)
from hashring.telemetry.sources.web.exposition import _meter, measurements
from hashring.telemetry.sources.web.exposition_series import ExpositionReader

_TEXT, _PROTOBUF = "text", "protobuf"


def series(samples: int, version: int, chance: random.Random) -> Iterator[tuple[str, dict, float]]:
    """What a target exposes: counters of five labels, a hundred of them to a metric."""
    for number in range(samples):
        metric, one = divmod(number, 100)
        labels = {
            "cpu": f"{one}",
            "mode": "idle",
            "instance": f"web{one}.example:9100",
            "job": "node",
            "version": f"{version}",
        }
        value = round(chance.random() * 1e6, chance.choice((0, 2, 3)))
        yield f"node_{metric}_seconds_total", labels, value


def as_text(found: Iterator[tuple[str, dict, float]]) -> bytes:
    """The same as text."""
    lines, last = [], ""
    for name, labels, value in found:
        if name != last:
            lines.append(f"# HELP {name} Seconds spent.\n# TYPE {name} counter\n")
        last = name
        shown = ",".join(f'{label}="{value}"' for label, value in labels.items())
        lines.append(f"{name}{{{shown}}} {value:g}\n")
    return "".join(lines).encode()


def as_protobuf(found: Iterator[tuple[str, dict, float]]) -> bytes:
    """The same in protobuf."""
    families: dict[str, list[bytes]] = {}
    for name, labels, value in found:
        pairs = [message(1, text(1, label) + text(2, one)) for label, one in labels.items()]
        counter = message(3, b"\x09" + struct.pack("<d", value))
        families.setdefault(name, []).append(message(4, b"".join((*pairs, counter))))
    return b"".join(
        sized(len(body)) + body
        for name, metrics in families.items()
        for body in (b"".join((text(1, name), text(2, "Seconds spent."), b"\x18\0", *metrics)),)
    )


def exposition(form: str, samples: int, version: int, chance: random.Random) -> bytes:
    """What a target answers."""
    made = series(samples, version, chance)
    return as_text(made) if form == _TEXT else as_protobuf(made)


def rate(answers: Iterator[bytes], read: Callable[[bytes], int], seconds: float) -> float:
    """Return how many samples a second of processor time are read."""
    spent, count = 0.0, 0
    while spent < seconds:
        body = next(answers)
        began = time.thread_time()
        count += read(body)
        spent += time.thread_time() - began
    return count / spent


def seen(form: str, options: argparse.Namespace) -> Iterator[bytes]:
    """Answers with the same series."""
    chance = random.Random(1)
    bodies = [exposition(form, options.samples, 0, chance) for _ in range(5)]
    while True:
        yield from bodies


def new(form: str, options: argparse.Namespace) -> Iterator[bytes]:
    """Answers each of whose series is new."""
    chance = random.Random(1)
    version = 0
    while True:
        version += 1
        yield exposition(form, options.samples, version, chance)


def readers() -> Iterator[tuple[str, str]]:
    """Let each reader be the one that is used, and tell what it is called, and what it reads."""
    for form, module, twins in (
        (_TEXT, "_lines", (exposition_series._native, exposition_lines)),
        (_PROTOBUF, "_messages", (exposition_series._native_messages, exposition_messages)),
    ):
        for name, twin in zip(("compiled", "plain Python"), twins, strict=True):
            if twin is not None:
                setattr(exposition_series, module, twin)
                yield name, form


def measure(options: argparse.Namespace) -> None:
    target = Resource("prometheus+http://web1.example:9100/metrics", "exposition")
    print(
        f"{options.samples} samples an answer; Python {platform.python_version()}, "
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n"
    )
    print("| reader | format | label sets seen before | new ones |\n|---|---|---:|---:|")
    for name, form in readers():
        rates = []
        for answers in (seen(form, options), new(form, options)):
            reader = ExpositionReader(_meter)
            read = reader.read if form == _TEXT else reader.read_messages
            read(next(answers), target)  # the first answer of all is new in any case
            rates.append(rate(answers, lambda body: len(read(body, target)), options.seconds))  # noqa: B023
        print(f"| {name} | {form} | {rates[0]:,.0f}/s | {rates[1]:,.0f}/s |")
    oracle = rate(
        new(_TEXT, options), lambda body: sum(1 for _ in measurements(body.decode(), target)), 0.5
    )
    print(f"| prometheus-client's parser | text | {oracle:,.0f}/s | {oracle:,.0f}/s |")


def memory(options: argparse.Namespace) -> None:
    """Print what reading one large answer takes, beside the answer itself."""
    form = options.memory
    target = Resource("prometheus+http://web1.example:9100/metrics", "exposition")
    body = exposition(form, options.samples, 0, random.Random(1))
    reader = ExpositionReader(_meter)
    read = reader.read if form == _TEXT else reader.read_messages
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = _status("VmRSS")
    found = read(body, target)
    print(
        f"{len(found):,} series, {form} of {len(body) / 2**20:.0f} MiB: reading took "
        f"{_status('VmHWM') - before:.0f} MiB at most; {_status('VmRSS') - before:.0f} MiB stay"
    )


def _status(name: str) -> float:
    text = Path("/proc/self/status").read_text()
    return int(text.partition(f"{name}:")[2].split()[0]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--samples", type=int, default=2000, help="of an answer")
    parser.add_argument("--seconds", type=float, default=2.0, help="of processor time, each")
    parser.add_argument("--memory", choices=(_TEXT, _PROTOBUF))
    options = parser.parse_args()
    if options.memory:
        memory(options)
    else:
        measure(options)


if __name__ == "__main__":
    main()
