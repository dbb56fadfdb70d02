"""Delivery by real processes that are killed, into real files and sinks."""

import json
import os
import signal
import subprocess
import sys

import pytest

from hashring.telemetry.delivery.delivery import Delivery
from hashring.telemetry.delivery.spool import Spool
from hashring.telemetry.publishers import FilePublisher
from tests.servers.process import free_port
from tests.telemetry.delivery.sinks import MIB, SETTINGS, A, samples, to

pytestmark = pytest.mark.slow


def lines(path):
    """The whole lines of a file that is being written."""
    found = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in found]


# Processes.

HEIR = """
import sys
from pathlib import Path
from hashring.telemetry.delivery.delivery import Delivery
from hashring.telemetry.publishers import FilePublisher
from hashring.telemetry.model.settings import Settings
from hashring.telemetry.delivery.spool import Spool
settings = Settings(backend_url="memory://", member="a", host="plant")
spool = Spool(Path(sys.argv[1]), max_bytes=2**28)
make = lambda url: FilePublisher(f"file://{sys.argv[2]}", settings)
with Delivery(spool, make, adopt_every=0.01, close_timeout=60.0):
    print("ready", flush=True)
    sys.stdin.read()
"""


def test_several_heirs_deliver_each_orphan_once(tmp_path, until):
    folder = tmp_path / "spool"
    for start in range(0, 2000, 100):
        spool = Spool(folder, max_bytes=MIB)
        spool.put(to((A,), samples(100, start)))
        spool.close()
    outputs = [tmp_path / f"{name}.jsonl" for name in "xyz"]
    heirs = [
        subprocess.Popen(
            [sys.executable, "-c", HEIR, str(folder), str(output)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for output in outputs
    ]

    def arrived():
        return [found["window"] for path in outputs for found in lines(path)]

    try:
        until(lambda: len(arrived()) >= 2000, "all have arrived")
    finally:
        for heir in heirs:
            heir.communicate()

    assert sorted(arrived()) == list(range(2000))
    assert [heir.returncode for heir in heirs] == [0, 0, 0]
    assert list(folder.iterdir()) == []


def test_samples_arrive_in_a_real_file(tmp_path):
    output = tmp_path / "samples.jsonl"
    url = f"file://{output}"
    spool = Spool(tmp_path / "spool", max_bytes=MIB)

    with Delivery(spool, lambda url: FilePublisher(url, SETTINGS), close_timeout=60) as delivery:
        delivery.put(to((url,), samples(200)))

    assert [found["window"] for found in lines(output)] == list(range(200))


SINK = """
import http.server, json, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with open(sys.argv[2], "ab") as log:
            log.write(body)
        self.send_response(204)
        self.end_headers()
    def log_message(self, *arguments):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
print("ready", flush=True)
server.serve_forever()
"""


AGENT = """
import sys, time, urllib.request
from pathlib import Path
from hashring.telemetry.delivery.delivery import Delivery
from hashring.telemetry.errors import OutputFailed
from hashring.telemetry.plugin import Publisher
from hashring.telemetry.model.sample import Meter, MeterType, Sample
from hashring.telemetry.model.settings import Settings
from hashring.telemetry.delivery.spool import Spool
_, folder, url, name, polls = sys.argv
class Http(Publisher):
    def __init__(self, url):
        super().__init__(url, Settings(backend_url="memory://", member=name, host="plant"))
    def publish(self, samples):
        body = b"".join(sample.to_line() for sample in samples)
        try:
            with urllib.request.urlopen(url, body, timeout=60):
                pass
        except OSError as error:
            raise OutputFailed(f"cannot post to {url}: {error}") from None
    def close(self):
        pass
meter = Meter("tank.level", MeterType.GAUGE, "l")
spool = Spool(Path(folder), max_bytes=2**28, owner=name)
with Delivery(spool, Http, longest_pause=1.0, adopt_every=0.2, close_timeout=60.0) as delivery:
    for window in range(int(polls)):
        found = [
            Sample(meter, 1, f"plant:{name}:{tank}", 0.0, window, 1.0, name, ("v", "i", window))
            for tank in range(10)
        ]
        delivery.put([(sample, (url,)) for sample in found])
        for sample in found:
            sys.stdout.write(f"{sample.id}\\n")
        sys.stdout.flush()
        time.sleep(0.005)
    print("done", flush=True)
    sys.stdin.read()
"""


class Processes:
    def __init__(self):
        self.started = []

    def start(self, script, *arguments):
        process = subprocess.Popen(
            [sys.executable, "-c", script, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def end(self):
        for process in self.started:
            process.kill()
            process.communicate()


@pytest.fixture
def processes():
    found = Processes()
    yield found
    found.end()


def test_sink_away_and_agent_killed_meanwhile_every_sample_arrives_once_both_are_back(
    tmp_path, processes, until
):
    port, log = free_port(), tmp_path / "sink.jsonl"
    folder, url = tmp_path / "spool", f"http://127.0.0.1:{port}/samples"

    def arrived():
        return {found["id"] for found in lines(log)}

    def polled(agent, count):
        return {agent.stdout.readline().strip() for _ in range(count)}

    sink = processes.start(SINK, port, log)
    assert sink.stdout.readline() == "ready\n"
    agent = processes.start(AGENT, folder, url, "first", 10**9)
    before = polled(agent, 500)
    until(lambda: arrived() >= before, "what was polled while all was well has arrived")

    sink.kill()
    sink.wait()
    away = polled(agent, 2000)
    while away <= arrived():  # the pipe held these already when the sink was killed
        away |= polled(agent, 100)
    os.kill(agent.pid, signal.SIGKILL)
    away |= {line.strip() for line in agent.stdout if line.endswith("\n")}
    agent.wait()
    assert away - arrived()

    second = processes.start(AGENT, folder, url, "second", 20)
    assert "done\n" in iter(second.stdout.readline, "")
    assert away - arrived()
    sink = processes.start(SINK, port, log)
    assert sink.stdout.readline() == "ready\n"

    until(lambda: arrived() >= before | away, "every sample polled before the kill has arrived")
    second.communicate()
    assert second.returncode == 0
    assert list(folder.iterdir()) == []
