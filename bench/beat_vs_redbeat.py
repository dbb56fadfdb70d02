"""The beat of `docs/recipes` beside celery-redbeat, on one Redis and under the same faults.

    pip install celery-redbeat
    python -m bench.beat_vs_redbeat

Three processes of each, whose schedule has so many entries, each due once a second. In turn the
process that sent last is killed with ``kill -9`` (and another one started), stopped for 10 s, and
cut off from Redis for 10 s, each through a proxy of its own. What is counted are the messages that
came into the broker's queue: of each entry, how many came less than half an interval after the one
before (close: sent twice, or one late and the next in time), and how many intervals passed without
one (missed). The ids of our messages name entry and window: an id that comes again was sent twice.
The lease of ours and the lock of redbeat run for 5 s.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from pathlib import Path

from hashring.testing import FaultProxy
from tests.conftest import TREE
from tests.servers.process import LOOPBACK
from tests.servers.redis import RedisServer

LEASE = 5
FAULT = 10.0  # seconds for which a process is stopped, or cut off
QUIET = 12.0  # seconds between two faults

REDBEAT = f"""
import sys
from celery import Celery
app = Celery("beat", broker="{{url}}")
app.conf.beat_schedule = {{schedule}}
app.conf.redbeat_redis_url = "{{url}}"
app.conf.beat_max_loop_interval = 1
app.conf.redbeat_lock_timeout = {LEASE}
app.conf.broker_connection_retry_on_startup = True
"""


def program(contender: str, folder: Path, number: int, url: str, jobs: int) -> list[str]:
    """Write a process's program; return its command."""
    names = [f"job-{job}" for job in range(jobs)]
    schedule = {name: {"task": f"tasks.{name}", "schedule": 1.0} for name in names}
    if contender == "redbeat":
        module = f"redbeat_{number}"
        text = REDBEAT.format(url=url, schedule=schedule)
        (folder / f"{module}.py").write_text(text)
        options = ["-S", "redbeat.RedBeatScheduler", "-l", "INFO", f"--pidfile={folder}/{number}"]
        return [sys.executable, "-m", "celery", "-A", module, "beat", *options]
    recipe = (TREE / "examples" / "recipes" / "celery_beat.py").read_text("utf-8")
    recipe = re.sub(
        r"beat_schedule = \{.*?\n\}\n", f"beat_schedule = {schedule!r}\n", recipe, flags=re.DOTALL
    )
    (folder / "celery_beat.py").write_text(recipe)
    return [sys.executable, "celery_beat.py", f"{url}?ttl={LEASE}", url]


class Beats:
    """The processes of one contender, each behind a proxy of its own."""

    def __init__(self, contender: str, folder: Path, server: RedisServer, jobs: int) -> None:
        self._contender, self._folder, self._server, self._jobs = contender, folder, server, jobs
        self._running: list[tuple[subprocess.Popen[bytes], FaultProxy, Path]] = []
        self._count = 0

    def start(self) -> None:
        """Start one more."""
        proxy = FaultProxy(LOOPBACK, self._server.port)
        proxy.start()
        url = f"redis://{LOOPBACK}:{proxy.address[1]}"
        command = program(self._contender, self._folder, self._count, url, self._jobs)
        log = self._folder / f"{self._count}.log"
        with log.open("w") as printed:
            process = subprocess.Popen(
                command, cwd=self._folder, stdout=printed, stderr=subprocess.STDOUT
            )
        self._running.append((process, proxy, log))
        self._count += 1

    def _latest(self) -> int:
        """Return the place of the one that wrote to its log last: it has sent something."""
        return max(range(3), key=lambda n: self._running[n][2].stat().st_mtime)

    def rest(self) -> None:
        """Let some time pass, and start another for each that ended by itself, as a supervisor."""
        for _ in range(int(QUIET)):
            time.sleep(1.0)
            for found in [one for one in self._running if one[0].poll() is not None]:
                self._running.remove(found)
                found[1].close()
                self.start()

    def kill(self) -> None:
        """Kill the one that sends, and start another."""
        process, proxy, _ = self._running.pop(self._latest())
        process.kill()
        process.wait()
        proxy.close()
        self.start()

    def pause(self) -> None:
        """Stop the one that sends for a while."""
        process = self._running[self._latest()][0]
        process.send_signal(signal.SIGSTOP)
        time.sleep(FAULT)
        process.send_signal(signal.SIGCONT)

    def cut(self) -> None:
        """Cut the one that sends off from the store for a while."""
        proxy = self._running[self._latest()][1]
        proxy.refuse()
        time.sleep(FAULT)
        proxy.restore()

    def end(self) -> None:
        """End all."""
        for process, proxy, _ in self._running:
            process.kill()
            process.wait()
            proxy.close()


def collect(
    server: RedisServer, ended: threading.Event, runs: dict[str, list[float]], ids: Counter[str]
) -> None:
    """Take messages from the broker's queue as they come."""
    client = server.client()
    while not ended.is_set():
        with contextlib.suppress(OSError):
            taken = client.blpop("celery", timeout=1)
            if taken is not None:
                headers = json.loads(taken[1])["headers"]
                runs[headers["task"]].append(time.monotonic())
                ids[headers["id"]] += 1


def measured(contender: str, jobs: int) -> dict[str, int]:
    """Play the faults against one contender; return what was counted."""
    runs: dict[str, list[float]] = defaultdict(list)
    ids: Counter[str] = Counter()
    ended = threading.Event()
    with tempfile.TemporaryDirectory() as name, RedisServer() as server:
        beats = Beats(contender, Path(name), server, jobs)
        taking = threading.Thread(target=collect, args=(server, ended, runs, ids))
        taking.start()
        try:
            for _ in range(3):
                beats.start()
            while len(runs) < jobs:
                time.sleep(0.1)
            beats.rest()
            for fault in (beats.kill, beats.pause, beats.cut):
                fault()
                beats.rest()
        finally:
            beats.end()
            time.sleep(1.0)  # what they sent is taken
            ended.set()
            taking.join()
    gaps = [later - sooner for at in runs.values() for sooner, later in itertools.pairwise(at)]
    sent = sum(map(len, runs.values()))
    counted = {
        "sent": sent,
        "close": sum(gap < 0.5 for gap in gaps),
        "missed": sum(max(0, round(gap) - 1) for gap in gaps),
    }
    if contender == "ours":  # the ids of redbeat's are random
        counted["twice"] = sum(times - 1 for times in ids.values())
    return counted


def main() -> None:
    """Measure both, and print a table."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--jobs", type=int, default=20)
    arguments.add_argument("--only", choices=["ours", "redbeat"])
    given = arguments.parse_args()
    load = os.getloadavg()[0]
    print(f"{given.jobs} entries a second, 3 processes of each; load {load:.1f}")
    for contender in [given.only] if given.only else ["ours", "redbeat"]:
        print(contender, measured(contender, given.jobs), flush=True)


if __name__ == "__main__":
    main()
