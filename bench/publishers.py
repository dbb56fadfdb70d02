"""What publishers cost: a batch as lines, as messages, as datagrams, and shown to a scraper.

    python -m bench.publishers
    python -m bench.publishers --targets 100 --samples 2000

Nothing is sent: this is what an agent does for each sample before a sink, or a network, takes it.
The first time is that of series that are new; from then on polls bring other numbers alone.
Processor time of one thread; the best of some rounds, for a busy machine disturbs them.
"""

from __future__ import annotations

import argparse
import gzip
import os
import platform
import time
from collections.abc import Callable, Sequence

import cramjam

from bench.pipeline import exposition
from hashring import clock
from hashring.telemetry.model.batch import Batch, Series
from hashring.telemetry.model.resource import Resource
from hashring.telemetry.publishers.last_values import LastValues
from hashring.telemetry.publishers.otlp_message import Encoder
from hashring.telemetry.publishers.remotewrite_message import EncoderV1, EncoderV2
from hashring.telemetry.publishers.series_labels import ALL, SeriesLabels
from hashring.telemetry.publishers.udp import Datagrams
from hashring.telemetry.sources.web.exposition import _meter
from hashring.telemetry.sources.web.exposition_series import ExpositionReader


def polls(options: argparse.Namespace) -> list[tuple[Series, Sequence[float]]]:
    """What a poll of each target has measured."""
    reader = ExpositionReader(_meter)
    body = exposition(options.samples).encode()
    found = []
    for number in range(options.targets):
        target = Resource(f"prometheus+http://web{number}.example:9100/metrics", "exposition")
        measured = reader.read(body, target)
        found.append((measured.series, measured.volumes))
    return found


def window(polled: list[tuple[Series, Sequence[float]]], number: int) -> list[Batch]:
    """The batches of a window."""
    token = ("3f1c0a9b7d24e658", "9a61c0de-5d0e-4c55-9c55-3b8f5a1d2e64", number)
    return [
        Batch(
            series, volumes, clock.wall(), number, 10.0, "a", token, ("b",) * len(series.meters)
        )
        for series, volumes in polled
    ]  # fmt: skip


def timed(act: Callable[[], object]) -> float:
    began = time.thread_time()
    act()
    return time.thread_time() - began


def show(name: str, act: Callable[[list[Batch]], object], polled, options) -> None:
    count = options.targets * options.samples
    first = timed(lambda: act(window(polled, 1)))
    rest = min(timed(lambda n=n: act(window(polled, n))) for n in range(2, 2 + options.rounds))
    print(f"| {name} | {first / count * 1e6:.2f} us | {rest / count * 1e6:.2f} us |")


def measure(options: argparse.Namespace) -> None:
    print(
        f"{options.targets} targets of {options.samples} samples; "
        f"Python {platform.python_version()}, {os.cpu_count()} cores, "
        f"load {os.getloadavg()[0]:.1f}\n"
    )
    print("| a sample | at the first poll | from then on |\n|---|---:|---:|")
    otlp, datagrams = Encoder(), Datagrams()
    first, second = EncoderV1(SeriesLabels(ALL)), EncoderV2(SeriesLabels(ALL))
    last = LastValues(None, ("cpu", "mode", "instance", "job"), 10**7)
    for name, act in (
        ("lines of JSON", lambda found: [batch.lines() for batch in found]),
        ("OTLP", lambda found: [otlp.encoded([batch]) for batch in found]),
        (
            "OTLP, with gzip",
            lambda found: [gzip.compress(otlp.encoded([batch]), 1) for batch in found],
        ),
        (
            "remote write 1.0, with snappy",
            lambda found: [cramjam.snappy.compress_raw(first.encoded([batch])) for batch in found],
        ),
        (
            "remote write 2.0, with snappy",
            lambda found: [cramjam.snappy.compress_raw(second.encoded([batch])) for batch in found],
        ),
        ("datagrams", lambda found: [list(datagrams.of(batch)) for batch in found]),
        ("kept for a scraper", lambda found: [last.add(batch) for batch in found]),
    ):
        show(name, act, polls(options), options)
    rendering = min(timed(last.rendered) for _ in range(options.rounds))
    body = last.rendered()
    series = sum(not line.startswith(b"#") for line in body.splitlines())
    print(
        f"\nthe exporter renders {series:,} series, {len(body) / 2**20:.0f} MiB, "
        f"in {rendering:.2f} s; compressed, in {timed(lambda: gzip.compress(body, 1)):.2f} s more"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--targets", type=int, default=100)
    parser.add_argument("--samples", type=int, default=2000, help="of a target")
    parser.add_argument("--rounds", type=int, default=5)
    measure(parser.parse_args())


if __name__ == "__main__":
    main()
