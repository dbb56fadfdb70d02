"""Disks that are full, children that were forked, processes that were killed."""

import os
import subprocess
import sys
from collections import Counter

from hashring.telemetry.errors import SpoolBroken
from tests.telemetry.spool.holding import A, B, delivered, samples, to, windows

FULL_DISK = """
import resource, sys
from pathlib import Path
from hashring.telemetry.model.sample import Meter, MeterType, Sample
from hashring.telemetry.delivery.spool import Spool
from hashring.telemetry.errors import SpoolBroken
meter = Meter("tank.level", MeterType.GAUGE, "l")
def put(window):
    sample = Sample(meter, 1, "plant:north", 0.0, window, 1.0, "a", (), {"filler": "x" * 1000})
    spool.put([(sample, ("http://a/",))])
spool = Spool(Path(sys.argv[1]), max_bytes=2**30)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
kept = 0
try:
    while True:
        put(kept)
        kept += 1
except SpoolBroken as error:
    print(error)
waiting = spool.waiting["http://a/"]
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
put(kept)
found = []
while batch := spool.take("http://a/", 50):
    found += [sample.window for sample in batch.samples]
    spool.done(batch)
assert waiting == kept > 10, (waiting, kept)
assert found == list(range(kept + 1)), found
"""


def test_a_disk_that_is_full_is_an_error_and_what_was_kept_stays(tmp_path):
    # The kernel refuses to let files grow, as it does on a full disk.
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, timeout=90
    )

    assert done.returncode == 0, done.stderr
    assert str(tmp_path) in done.stdout
    assert "disk is full" in done.stdout


def test_a_forked_child_neither_uses_nor_keeps_its_parents_spool(opened):
    spool = opened()
    spool.put(to((A,), samples(3)))
    ready, told = os.pipe()
    hold, release = os.pipe()
    child = os.fork()
    if child == 0:  # lives on, until the test lets it go
        try:
            spool.put(to((A,), samples(1)))
        except SpoolBroken:
            os.write(told, b"refused")
        os.read(hold, 1)
        os._exit(0)
    try:
        assert os.read(ready, 7) == b"refused"
        spool.close()
        heir = opened()

        assert heir.adopt() == 1
        assert windows(delivered(heir, A)) == [0, 1, 2]
    finally:
        os.write(release, b".")
        os.waitpid(child, 0)
        for descriptor in (ready, told, hold, release):
            os.close(descriptor)


PUTTER = """
import sys, threading
from pathlib import Path
from hashring.telemetry.model.sample import Meter, MeterType, Sample
from hashring.telemetry.delivery.spool import Spool
meter = Meter("tank.level", MeterType.GAUGE, "l")
spool = Spool(Path(sys.argv[1]), max_bytes=2**30, owner="putter")
said = threading.Lock()
def put(name):
    for window in range(10**9):
        sample = Sample(meter, 1, f"plant:{name}", 0.0, window, 1.0, "a", ("v", "i", window))
        spool.put([(sample, ("http://a/", "http://b/"))])
        with said:
            sys.stdout.write(f"{sample.id}\\n")
            sys.stdout.flush()
for name in "xyz":
    threading.Thread(target=put, args=(name,)).start()
"""


def test_after_kill_9_every_sample_that_was_put_is_there_once(opened, tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", PUTTER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as child:
        said = [child.stdout.readline().strip() for _ in range(2000)]
        child.kill()
        said += [line.strip() for line in child.stdout if line.endswith("\n")]
    spool = opened(max_bytes=2**30)

    assert spool.adopt() == 1

    for url in (A, B):
        found = [sample.id for sample in delivered(spool, url)]
        assert len(found) == len(set(found))
        assert set(found) >= set(said)


POLLER = """
import dataclasses, sys
from pathlib import Path
from hashring.telemetry.model.batch import batches_of
from hashring.telemetry.model.sample import Meter, MeterType, Sample
from hashring.telemetry.delivery.spool import Spool
meter = Meter("tank.level", MeterType.GAUGE, "l")
spool = Spool(Path(sys.argv[1]), max_bytes=2**30, owner="poller")
polls = [
    batches_of(
        Sample(meter, 1, f"plant:{name}:{n}", 0.0, 0, 1.0, "a", (), {"tank": n}) for n in range(500)
    )[0]
    for name in "xyz"
]
for window in range(10**9):
    for poll in polls:
        spool.put([(dataclasses.replace(poll, window=window), ("http://a/", "http://b/"))])
        if window % 3:
            spool.done(spool.take("http://b/", 300))
    print(window, flush=True)
"""


def test_after_kill_9_at_full_speed_every_poll_that_was_put_is_there_whole_and_once(
    opened, tmp_path
):
    with subprocess.Popen(
        [sys.executable, "-c", POLLER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as child:
        said = [int(child.stdout.readline()) for _ in range(60)]
        child.kill()
        said += [int(line) for line in child.stdout if line.endswith("\n")]
    spool = opened(max_bytes=2**30)

    assert spool.adopt() == 1

    found = []
    while (parcel := spool.take(A, 5000)) is not None:
        found += [(part.window, id_) for part in parcel.batches for id_ in part.ids()]
        spool.done(parcel)
    assert len(found) == len(set(found))
    whole = Counter(window for window, _ in found)
    assert all(whole[window] == 1500 for window in said)
    rest = sum(len(part) for part in delivered_batches(spool, B))
    assert 0 < rest < len(found)


def delivered_batches(spool, url):
    """Take and have done whatever waits for a publisher, as columns."""
    while (parcel := spool.take(url, 5000)) is not None:
        yield from parcel.batches
        spool.done(parcel)
