"""At full speed, polls of thousands of samples one after the other: kills, and a disk that is full.

The short forms stand in ``test_spool.py``; here a whole delivery runs, with its sink.
"""

import json
import subprocess
import sys
from collections import Counter

import pytest

from hashring.telemetry.delivery import Delivery, Spool
from hashring.telemetry.model.settings import Settings
from hashring.telemetry.publishers.lines import FilePublisher

BATCH = 5000
SETTINGS = Settings(backend_url="memory://", member="a", host="h")

POLLS = """
import sys
from pathlib import Path
from hashring.telemetry.delivery import Delivery, Spool
from hashring.telemetry.errors import OutputFailed, SpoolBroken
from hashring.telemetry.model.batch import Batch, Measured
from hashring.telemetry.model.sample import Measurement, Meter, MeterType
from hashring.telemetry.model.settings import Settings
from hashring.telemetry.plugin import Publisher
from hashring.telemetry.publishers.lines import FilePublisher

SETTINGS = Settings(backend_url="memory://", member="a", host="h")
LOAD = Meter("load", MeterType.GAUGE, "")
SERIES = Measured.of(
    [Measurement(LOAD, 0, f"web1:{n}", {"n": n}) for n in range(2000)], "web1"
).series


def poll(window):
    token = ("v", "i", window)
    return Batch(SERIES, [window] * 2000, 1e9 + window, window, 60.0, "a", token, ("web",))

"""

PUT_UNTIL_KILLED = (
    POLLS
    + """
folder, url, first = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
delivery = Delivery(
    Spool(folder, max_bytes=2**30), lambda url: FilePublisher(url, SETTINGS), adopt_every=0.2
)
window = first
while True:
    delivery.put([(poll(window), (url,))])
    print(window, flush=True)
    window += 1
"""
)

FILL_THE_DISK = (
    POLLS
    + """
import json, resource, time
from collections import Counter

MOST = 2_000_000
resource.setrlimit(resource.RLIMIT_FSIZE, (MOST, resource.RLIM_INFINITY))
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
taken = Counter()
is_away = True


class Sink(Publisher):
    def publish(self, samples):
        raise NotImplementedError

    def publish_batches(self, batches):
        if is_away:
            raise OutputFailed("it is away")
        taken.update(batch.window for batch in batches for _ in range(len(batch)))

    def close(self):
        pass


delivery = Delivery(
    Spool(Path(sys.argv[1]), max_bytes=2**30),
    lambda url: Sink(url, SETTINGS),
    first_pause=0.05,
    longest_pause=0.1,
)
kept, refused = [], 0
window = 0
while refused < 20:
    window += 1
    try:
        delivery.put([(poll(window), ("sink://",))])
    except SpoolBroken as error:
        assert "disk is full" in str(error), error
        refused += 1
    else:
        kept.append(window)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
for _ in range(50):
    window += 1
    delivery.put([(poll(window), ("sink://",))])
    kept.append(window)
is_away = False
assert delivery.flush(60)
delivery.close(10)
print(json.dumps({"kept": kept, "taken": taken, "refused": refused}))
"""
)


def killed(script, polls, *arguments):
    """Let a process put polls, kill it in the midst of it, and return what it has acknowledged."""
    child = subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)], stdout=subprocess.PIPE, text=True
    )
    try:
        acknowledged = [int(child.stdout.readline()) for _ in range(polls)]
    finally:
        child.kill()
    # What it had said by then counts too; but for a number that was cut off.
    rest = child.stdout.read().split("\n")[:-1]
    child.wait()
    child.stdout.close()
    return [*acknowledged, *map(int, rest)]


@pytest.mark.long
def test_kills_at_full_speed_lose_nothing_and_repeat_at_most_what_was_in_hand(tmp_path):
    spool, out = tmp_path / "spool", tmp_path / "out.jsonl"
    url = f"file://{out}"
    acknowledged = []
    for turn in range(5):
        first = 1_000_000 * turn
        acknowledged += killed(PUT_UNTIL_KILLED, 10 + 8 * turn, spool, url, first)

    heir = Delivery(
        Spool(spool, max_bytes=2**30), lambda url: FilePublisher(url, SETTINGS), adopt_every=0.1
    )
    heir._spool.adopt()
    assert heir.flush(120)
    heir.close(10)

    found = Counter()
    windows = {}
    for line in out.read_bytes().splitlines():
        try:
            one = json.loads(line)
        except ValueError:
            continue  # the process was killed within this line; it is there again
        found[one["id"]] += 1
        windows.setdefault(one["window"], set()).add(one["id"])
    assert all(len(windows.get(window, ())) == 2000 for window in acknowledged)
    # The poll in hand may be there as well, though nobody was told; and whole, or not at all.
    assert len(windows.keys() - set(acknowledged)) <= 5
    assert {len(ids) for ids in windows.values()} == {2000}
    assert sum(found.values()) - len(found) <= 5 * BATCH
    assert not list(spool.glob("*.spool"))


@pytest.mark.long
def test_a_disk_that_is_full_at_full_speed_loses_nothing_that_was_put(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FILL_THE_DISK, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["refused"] == 20
    assert len(told["kept"]) > 60
    assert told["taken"] == {str(window): 2000 for window in told["kept"]}
