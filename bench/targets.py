"""What 100,000 targets cost a discovery, and how fast an exposition is read.

Run as ``python -m bench.targets``; the figures are processor time on one core.
"""

import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import yaml

from hashring.telemetry.model.resource import Resource
from hashring.telemetry.model.settings import Settings
from hashring.telemetry.sources.web.exposition import _meter, measurements
from hashring.telemetry.sources.web.exposition_series import ExpositionReader
from hashring.telemetry.sources.web.targets import HTTPTargets

TARGETS = 100_000
SAMPLES = 20_000


def seconds(work: Callable[[], object]) -> float:
    """Return the least processor time of three runs."""
    found = []
    for _ in range(3):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return min(found)


def main() -> None:
    settings = Settings(backend_url="memory://", member="a", host="web1")
    urls = [f"http://host{number}.example:8080/api/status" for number in range(TARGETS)]
    entries = [{"targets": urls[first : first + 100]} for first in range(0, TARGETS, 100)]
    with tempfile.TemporaryDirectory() as folder:
        for name, content in (
            ("targets.json", json.dumps(entries)),
            ("targets.yaml", yaml.dump(entries, Dumper=yaml.CSafeDumper)),
        ):
            path = Path(folder, name)
            path.write_text(content)
            os.utime(path, (1, 1))  # long ago: it need not be read again
            discovery = HTTPTargets(settings)
            first = seconds(lambda path=path: HTTPTargets(settings).discover(str(path)))
            discovery.discover(str(path))
            again = seconds(
                lambda found=discovery, path=str(path): [found.discover(path) for _ in range(1000)]
            )
            print(f"{name}: {TARGETS} targets {first:.2f} s, unchanged {again * 1000:.0f} us")
    text = "# TYPE m_seconds_total counter\n" + "".join(
        f'm_seconds_total{{cpu="{number}",mode="idle"}} {number}.5\n' for number in range(SAMPLES)
    )
    target = Resource("prometheus+http://web1/metrics", "exposition")
    body = text.encode()
    first = seconds(lambda: ExpositionReader(_meter).read(body, target))
    reader = ExpositionReader(_meter)
    reader.read(body, target)
    again = seconds(lambda: reader.read(body, target))
    plain = seconds(lambda: list(measurements(text, target)))
    print(
        f"exposition: {SAMPLES / first:,.0f} samples/s of new series, {SAMPLES / again:,.0f} of "
        f"known ones; by prometheus-client's parser {SAMPLES / plain:,.0f}"
    )


if __name__ == "__main__":
    main()
