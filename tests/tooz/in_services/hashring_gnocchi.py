"""Beside Gnocchi's metricd: who worked on which sack and when; measures in, and their count out.

Runs in Gnocchi's environment. Imported before `gnocchi-metricd`, it writes down each time at which
a worker took measures out of a sack: under the sack's lock, so no two may do it at once. And it
stops itself in the middle of that, where it is asked to.
"""

import contextlib
import json
import os
import signal
import sys
import threading
import time
import uuid
from pathlib import Path

import numpy
from gnocchi import archive_policy, incoming, indexer, service, storage, utils
from gnocchi.incoming.redis import RedisStorage

RECORD = os.environ.get("RECORDED_FILE", "")
STOPS = Path(os.environ.get("RECORDED_STOPS", "."))  # a file here asks a process to stop
POLICY = "recorded"

_process = RedisStorage.process_measures_for_sack
_store = storage.StorageDriver.store_data_backend
_taken = [0]  # how many measures this process has in hand


def _stop(phase):
    wanted = STOPS / f"{os.getpid()}-{phase}"
    if wanted.exists():
        wanted.with_suffix(".new").write_text(str(_taken[0]), encoding="utf-8")
        wanted.with_suffix(".new").rename(wanted.with_suffix(".stopped"))
        wanted.unlink()
        os.kill(os.getpid(), signal.SIGSTOP)


def _stopped_before(self, *given):
    _stop("computed")
    return _store(self, *given)


@contextlib.contextmanager
def _recorded(self, sack):
    began, measures = time.clock_gettime(time.CLOCK_BOOTTIME), None
    try:
        with _process(self, sack) as measures:
            if measures:
                _taken[0] = sum(map(len, measures.values()))
                _stop("read")
            yield measures
            if measures:
                _stop("stored")
    finally:
        if measures:
            ended = time.clock_gettime(time.CLOCK_BOOTTIME)
            with open(RECORD, "a", encoding="utf-8") as file:  # noqa: PTH123 - one write, O_APPEND
                file.write(f"{began:.4f} {ended:.4f} {os.getpid()} {sack}\n")


if RECORD:
    RedisStorage.process_measures_for_sack = _recorded
    storage.StorageDriver.store_data_backend = _stopped_before


def feed():
    """Make so many metrics, and add a measure to each every 0.2 s, to SIGTERM. Say what was fed."""
    configuration, folder, count = sys.argv[1:]
    conf = service.prepare_service(["--config-file", configuration])
    index, incomings = indexer.get_driver(conf), incoming.get_driver(conf)
    index.create_archive_policy(
        archive_policy.ArchivePolicy(POLICY, 3600, [(7200, 1)], aggregation_methods=["count"])
    )
    ids = [index.create_metric(uuid.uuid4(), "here", POLICY).id for _ in range(int(count))]
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    rounds = 0
    while not ended.wait(0.2):
        measure = incoming.Measure(numpy.datetime64(utils.utcnow()), 1.0)
        incomings.add_measures_batch({one: [measure] for one in ids})
        rounds += 1
    told = {"rounds": rounds, "metrics": [str(one) for one in ids]}
    Path(folder, "fed").write_text(json.dumps(told), encoding="utf-8")


def count():
    """Print how many measures wait, and how many of those fed are not in the aggregates."""
    configuration, folder = sys.argv[1:]
    conf = service.prepare_service(["--config-file", configuration])
    index, store = indexer.get_driver(conf), storage.get_driver(conf)
    waiting = incoming.get_driver(conf).measures_report(details=False)["summary"]["measures"]
    fed = json.loads(Path(folder, "fed").read_text(encoding="utf-8"))
    lost = 0
    metrics = index.list_metrics(
        attribute_filter={"in": {"id": [uuid.UUID(one) for one in fed["metrics"]]}}
    )
    wanted = {one: one.archive_policy.get_aggregations_for_method("count") for one in metrics}
    found = store.get_aggregated_measures(wanted) if not waiting else {}
    for series in found.values():
        for points in series.values():
            lost += fed["rounds"] - int(sum(value for _, value in points.fetch()))
    told = {"waiting": int(waiting), "lost": lost, "fed": fed["rounds"] * len(metrics)}
    sys.stdout.write(json.dumps(told))
