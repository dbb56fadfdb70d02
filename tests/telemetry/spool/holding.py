"""What the tests of the spool share: samples, and what becomes of them."""

import functools
import json
import sqlite3
import tempfile
from pathlib import Path

from hashring.telemetry.delivery.spool import Spool
from hashring.telemetry.model.sample import Meter, MeterType, Sample

METER = Meter("tank.level", MeterType.GAUGE, "l")
A, B, C = "http://a/", "http://b/", "file:///c"
MIB = 1024 * 1024
FIRST = 10_000  # from here on to 99,999 all samples have one size
# A folder in memory, where there is one: each end of a spool syncs its file to disk.
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None


def samples(count, start=0, **metadata):
    return [
        Sample(METER, window, "plant:north", 0.0, window, 1.0, "a", ("v", "i", window), metadata)
        for window in range(start, start + count)
    ]


def to(urls, found):
    return [(sample, urls) for sample in found]


@functools.cache
def size_of_one():
    """The bytes that a sample takes whose window has five digits."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        spool = Spool(Path(folder), max_bytes=MIB)
        spool.put(to((A,), samples(1, FIRST)))
        size = spool.bytes
        spool.close()
    return size


def windows(found):
    return [sample.window for sample in found]


def delivered(spool, url, limit=50):
    """Take and have done whatever waits for a publisher."""
    found = []
    while (batch := spool.take(url, limit)) is not None:
        found += batch.samples
        spool.done(batch)
    return found


def files(folder, suffix=".spool"):
    return sorted(folder.glob(f"*{suffix}"))


LAYOUT_1 = """
CREATE TABLE routes (
    route INTEGER NOT NULL, url TEXT NOT NULL, cursor INTEGER NOT NULL, PRIMARY KEY (route, url)
) WITHOUT ROWID;
CREATE TABLE samples (id INTEGER PRIMARY KEY, payload BLOB NOT NULL);
PRAGMA application_id = 0x68727370;
PRAGMA user_version = 1;
"""


def of_layout_1(folder, payloads, cursors):
    """Leave a spool behind as the versions with a row a sample did; return its path."""
    path = folder / "00001-former-1.spool"
    connection = sqlite3.connect(path)
    connection.executescript(LAYOUT_1)
    route = 1 << 44
    connection.executemany(
        "INSERT INTO routes VALUES (1, ?, ?)",
        [(url, route + cursor) for url, cursor in cursors.items()],
    )
    connection.executemany(
        "INSERT INTO samples VALUES (?, ?)",
        [(route + n, json.dumps(values).encode()) for n, values in enumerate(payloads, 1)],
    )
    connection.commit()
    connection.close()
    return path


def fields(sample):
    """A sample as layout 1 kept it."""
    return [
        *(sample.meter, sample.volume, sample.resource_id, sample.timestamp, sample.window),
        *(sample.interval, sample.member, sample.token, dict(sample.metadata)),
        *(sample.project_id, sample.user_id, sample.source),
    ]


def poll(count, window=7):
    """The samples of one poll: one row of the spool."""
    return [
        Sample(
            METER, n / 3, f"plant:{n}", 5.5, window, 1.0, "a", ("v", "i", window), {"tank": str(n)}
        )
        for n in range(count)
    ]
