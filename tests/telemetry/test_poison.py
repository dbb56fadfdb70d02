"""A fleet that polls poison beside what is good: the poison costs itself, and nobody a lease."""

import gzip
from pathlib import Path

import pytest

from tests.servers.http import Answer, HTTPServer
from tests.servers.redis import RedisServer
from tests.standstill import judged
from tests.telemetry.fleet import Windows, excusable, fleet, late_in

pytestmark = pytest.mark.slow

INTERVAL = 4.0
TTL = 6.0
GOOD = 30
MEMORY = 512 * 1024
"""KiB that an agent may take at most: some 60 MiB at rest, 256 MiB that are read at once, and what
the allocator keeps. One agent that had all of this poison took 376 to 418 MiB in three runs."""

LOAD = {"name": "web.load", "sample_type": "gauge", "unit": "request", "value_attribute": "load"}


def poisons() -> dict[str, Answer]:
    """Answers that cost much to read; made only where they are used."""
    lists = b"[" + b"[]," * 20_000_000 + b"[]]"
    return {
        "/lists": Answer(lists),
        "/bomb": Answer(gzip.compress(lists, 1), headers=(("Content-Encoding", "gzip"),)),
        "/objects": Answer(b"[" + b'{"a":{}},' * 6_000_000 + b"{}]"),
        "/many": Answer(b"[" + b"[]," * 450_000 + b"[]]"),  # within every limit
        "/one-text": Answer(b'["' + b"\\n" * 14_000_000 + b'"]'),
    }


def expositions() -> dict[str, Answer]:
    """The same for expositions."""
    return {
        "/comments": Answer(b"# TYPE a b c\n" * 4_000_000, content_type="text/plain"),
        "/labels": Answer(b"a{" + b'b="c",' * 9_000_000 + b"} 1\n", content_type="text/plain"),
    }


def test_poison_costs_no_good_target_a_poll_and_no_agent_its_lease(tmp_path):
    judged(play, tmp_path, late_in)


def play(folder):
    names = ("central-1", "central-2", "central-3")
    with RedisServer() as server, HTTPServer() as web:
        web.otherwise(lambda asked: Answer({"load": 0.5}))
        json, text = poisons(), expositions()
        for path, answer in (json | text).items():
            web.answer_with(path, lambda asked, answer=answer: answer)
        good = [f"{web.url}/{number}" for number in range(GOOD)]
        bad = [web.url + path for path in json]
        bad += [f"prometheus+{web.url}{path}" for path in text]
        source = {
            "name": "web",
            "interval": INTERVAL,
            "meters": ["web.*", "prometheus.*"],
            "resources": [*good, *bad],
        }
        sections = {"hashring": {"ttl": TTL, "spread": 0.3}}
        url = f"redis://{server.address}"
        with fleet(folder, url, [source], definitions=[LOAD], sections=sections) as agents:
            windows = Windows(INTERVAL)
            for name in names:
                agents.start("central", name)
            agents.settle(*names)
            first = windows.sleep(2)
            last = windows.sleep(3)

            log = [(f"{web.url}{asked.path}", asked.at) for asked in web.log]
            windows.check(log, good, first, last)
            assert {path for path in (json | text) if not web.count(path)} == set()
            agents.settle(*names)
            for name in names:
                excusable("lease" not in agents.said(name), agents.said(name))
                assert most_memory(agents.processes[name].pid) < MEMORY, name


def most_memory(pid):
    """Return the most KiB that a process has ever had in memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])
