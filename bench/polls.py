"""Polls over HTTP: what a poll of a small JSON endpoint costs, and how many an agent makes in time.

    python -m bench.polls                     # 10,000 endpoints of one host, every 10 s
    python -m bench.polls --hosts 10000       # each at an address and connection of its own
    python -m bench.polls --hosts 10000 --asyncio  # where uvloop is not installed
    python -m bench.polls --ceilometer 500    # of so many, and the real Ceilometer's beside
    python -m bench.polls --clients           # what HTTP clients take for a request alone
    python -m bench.polls --clients --hosts 1000   # and for a connection with each

nginx is Debian's (``tests/servers/install.sh nginx-light``) and answers every path with the same
small JSON. The agent is bound to one core, nginx to another one; samples go through the spool into
a file, where they are counted by window and resource. Processor time is that of the whole process
(``/proc/PID/stat``), from the end of its first whole window to the end of the last one, over the
samples that came in that time, late ones too. Ceilometer polls the same endpoints after ours, a
definition for each, and makes samples that it sends nowhere.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from bench.nginx import Nginx
from bench.pipeline import Arrived, Spent, agent_command
from tests.servers import openstack
from tests.servers.process import wait_until

ANSWER = {"load": {"1min": 0.5, "5min": 0.25}, "requests": 1723, "version": "2.1"}


def nginx_on(core: int) -> Nginx:
    """What answers every path with a small JSON, at every address of the loopback."""
    location = f"return 200 '{json.dumps(ANSWER)}';"
    return Nginx(location, "application/json", host="0.0.0.0", core=core)


def urls(options: argparse.Namespace, port: int) -> list[str]:
    """Return the endpoints' URLs, over as many addresses as there are hosts."""
    found = []
    for number in range(options.endpoints):
        host = number % options.hosts
        address = f"127.{1 + host // 62500}.{host // 250 % 250}.{1 + host % 250}"
        found.append(f"http://{address}:{port}/{number}")
    return found


def configure(folder: Path, options: argparse.Namespace, targets: list[str]) -> None:
    (folder / "targets.json").write_text(json.dumps([{"targets": targets}]))
    definitions = folder / "definitions"
    definitions.mkdir()
    definition = {
        "name": "web.requests",
        "sample_type": "cumulative",
        "unit": "request",
        "response_entries_key": ".",
        "value_attribute": "requests",
        "metadata_fields": ["version"],
    }
    (definitions / "web.yaml").write_text(json.dumps([definition]))
    source = {
        "name": "web",
        "interval": options.interval,
        "meters": ["web.*"],
        "discovery": [f"http-targets://{folder}/targets.json"],
    }
    (folder / "polling.yaml").write_text(json.dumps({"sources": [source]}))
    sink = {"name": "sink", "publishers": [f"file://{folder}/samples.jsonl"]}
    pipeline = {"sources": [{"name": "all", "meters": ["*"], "sinks": ["sink"]}], "sinks": [sink]}
    (folder / "pipeline.yaml").write_text(json.dumps(pipeline))
    lines = f"""
        [DEFAULT]
        polling_namespaces = central
        pipeline_cfg_file = {folder}/pipeline.yaml
        [coordination]
        backend_url = memory://bench
        [polling]
        cfg_file = {folder}/polling.yaml
        pollsters_definitions_dirs = {definitions}
        [hashring]
        member = bench
        state_dir = {folder}/state
        spread = {options.spread}
        """
    (folder / "agent.conf").write_text("\n".join(line.strip() for line in lines.splitlines()))


def polled(path: Path) -> dict[int, collections.Counter[str]]:
    """Return how often each resource was sampled, by window."""
    found: dict[int, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    with path.open("rb") as file:
        for line in file:
            sample = json.loads(line)
            found[sample["window"]][sample["resource_id"]] += 1
    return found


def sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.time()))


_NAMED = """
import ctypes, sys, threading
if {asyncio}:
    sys.modules["uvloop"] = None  # as where it is not installed
prctl, PR_SET_NAME = ctypes.CDLL(None).prctl, 15
run = threading.Thread.run

def named(thread):
    prctl(PR_SET_NAME, thread.name.encode(), 0, 0, 0)
    run(thread)

threading.Thread.run = named
from hashring.cli import main
sys.exit(main(sys.argv[1:]))
"""
"""An agent whose threads have their names before the system too: it tells whose time is whose."""

_HEAD = (
    "| | polls | missed | repeated | processor time | of a poll | peak memory |\n"
    "|---|---:|---:|---:|---:|---:|---:|\n"
)

_PARTS = {
    "polls-loop": "asks, and reads the answers",
    "polls-loop-take": "makes samples, and puts them into the spool",
    "deliver to file": "takes them out, and writes lines",
    "poll-discovery:": "begins polls, each at its moment",
}
"""What the threads do, by the first 15 characters of their names."""


class Threads:
    """The processor time of a process's threads so far, by what they do."""

    def __init__(self, pid: int) -> None:
        self.seconds: collections.Counter[str] = collections.Counter()
        for task in Path(f"/proc/{pid}/task").iterdir():
            name, fields = (task / "stat").read_text().split("(", 1)[1].rsplit(")", 1)
            spent = int(fields.split()[11]) + int(fields.split()[12])
            part = _PARTS.get(name, "all else: memberships, watches")
            self.seconds[part] += spent / os.sysconf("SC_CLK_TCK")


def agent(options: argparse.Namespace) -> None:
    """Print what an agent spends on polls, and what it missed."""
    with tempfile.TemporaryDirectory() as name, nginx_on(options.cores[-1]) as nginx:
        folder = Path(name)
        configure(folder, options, urls(options, nginx.port))
        out = folder / "samples.jsonl"
        command = ["taskset", "-c", str(options.cores[0]), sys.executable, "-c"]
        command += [_NAMED.format(asyncio=options.asyncio), *agent_command(folder)[3:]]
        process = subprocess.Popen(command)
        try:
            wait_until(out.exists, what="the first sample")
            first = int(time.time() // options.interval) + 1  # the first whole window
            sleep_until(first * options.interval)
            arrived = Arrived(out)
            made = arrived.look()
            before, parts = Spent(process.pid), Threads(process.pid).seconds
            end = first + options.windows
            sleep_until(end * options.interval)
            after = Spent(process.pid)
            parts = Threads(process.pid).seconds - parts
            made = max(1, arrived.look() - made)
            process.send_signal(signal.SIGTERM)
            process.wait(60)
        finally:
            process.kill()
            process.wait()
        windows = polled(out)
        counts = [windows[window] for window in range(first, end)]
        missed = sum(options.endpoints - len(count) for count in counts)
        repeated = sum(count.total() - len(count) for count in counts)
        polls = sum(map(len, counts))
        seconds = after.seconds - before.seconds
        print(
            f"{options.endpoints:,} endpoints at {options.hosts:,} addresses every "
            f"{options.interval:g} s for {options.windows} windows; "
            f"load {os.getloadavg()[0]:.1f}\n\n"
            f"{_HEAD}| the agent | {polls:,} | {missed} | {repeated} | {seconds:.2f} s "
            f"| {seconds / made * 1e6:.0f} µs | {after.peak:.0f} MiB |\n\n"
            f"| part | of a poll |\n|---|---:|"
        )
        for part, spent in parts.most_common():
            print(f"| {part} | {spent / made * 1e6:.0f} µs |")


_AUTHENTICATION = """
class Nobody:
    def __init__(self, *given):
        pass

    def __call__(self, request):
        return request
"""

_PROGRAM = """
import sys
sys.path.insert(0, {folder!r})
sys.argv[0] = "ceilometer-polling"
from ceilometer.cmd.polling import main
main()
"""


def configure_ceilometer(folder: Path, options: argparse.Namespace, port: int) -> None:
    (folder / "nobody.py").write_text(_AUTHENTICATION)
    (folder / "pollsters.d").mkdir()
    definitions = [
        {
            "name": f"dynamic.bench.{number}",
            "sample_type": "cumulative",
            "unit": "request",
            "url_path": url,
            "value_attribute": "requests",
            "response_entries_key": "",
            "metadata_fields": ["version"],
            "resource_id_attribute": "version",
            "module": "nobody",
            "authentication_object": "Nobody",
            "authentication_parameters": "none",
        }
        for number, url in enumerate(urls(options, port)[: options.ceilometer])
    ]
    (folder / "pollsters.d" / "bench.yaml").write_text(json.dumps(definitions))
    source = {"name": "bench", "interval": int(options.interval), "meters": ["dynamic.bench.*"]}
    source["resources"] = ["nobody's credentials"]
    (folder / "polling.yaml").write_text(json.dumps({"sources": [source]}))
    (folder / "ceilometer.conf").write_text(
        # Ceilometer 27 reads the folders of dynamic pollsters from [DEFAULT].
        f"[DEFAULT]\nhost = here\npollsters_definitions_dirs = {folder}/pollsters.d\n"
        f"[polling]\ncfg_file = {folder}/polling.yaml\nenable_notifications = false\n"
    )


def ceilometer(options: argparse.Namespace) -> None:
    """Print what the real Ceilometer spends on polls of the same endpoints."""
    with tempfile.TemporaryDirectory() as name, nginx_on(options.cores[-1]) as nginx:
        folder = Path(name)
        configure_ceilometer(folder, options, nginx.port)
        command = ["taskset", "-c", str(options.cores[0]), str(openstack.python()), "-W", "ignore"]
        command += ["-c", _PROGRAM.format(folder=str(folder))]
        command += ["--config-file", str(folder / "ceilometer.conf")]
        command += ["--polling-namespaces", "central"]
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            idle = nginx.answered()
            wait_until(
                lambda: nginx.answered() - idle >= options.ceilometer, within=120, what="a round"
            )
            pids = [process.pid, *_children(process.pid)]
            began, count = time.time(), nginx.answered()
            before = sum(Spent(pid).seconds for pid in pids)
            sleep_until(began + options.windows * options.interval)
            seconds = sum(Spent(pid).seconds for pid in pids) - before
            polls = nginx.answered() - count
            peak = sum(Spent(pid).peak for pid in pids)
        except BaseException:
            print((folder / "log").read_text()[-4000:])
            raise
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        each = seconds / max(1, polls)
        print(
            f"\nIn {options.windows * options.interval:g} s; load {os.getloadavg()[0]:.1f}\n\n"
            f"{_HEAD}| Ceilometer | {polls:,} | | "
            f"| {seconds:.2f} s | {each * 1e6:.0f} µs | {peak:.0f} MiB |"
        )


def _children(pid: int) -> list[int]:
    return [
        int(child)
        for file in Path(f"/proc/{pid}/task").glob("*/children")
        for child in file.read_text().split()
    ]


def clients(options: argparse.Namespace) -> None:
    """Print what clients take for a request, 64 at a time, all else aside."""
    with nginx_on(options.cores[-1]) as nginx:
        os.sched_setaffinity(0, {options.cores[0]})
        options.endpoints = options.requests
        targets = urls(options, nginx.port)
        print(f"load {os.getloadavg()[0]:.1f}\n\n| client | of a request |\n|---|---:|")
        for client, ask in (
            ("ours, on uvloop", functools.partial(_ours, new_loop=_uvloop)),
            ("ours, on asyncio's loop", _ours),
            ("aiohttp", _aiohttp),
            ("urllib3, 16 threads", _urllib3),
            ("httpx", _httpx),
        ):
            ask(targets[:50])  # imports
            began = time.process_time()
            ask(targets)
            spent = (time.process_time() - began) / len(targets)
            print(f"| {client} | {spent * 1e6:,.0f} µs |")


async def _at_once(ask, targets: list[str]) -> None:
    """Ask for all of these, 64 at a time."""
    waiting = iter(targets)

    async def worker():
        for url in waiting:
            await ask(url)

    await asyncio.gather(*(worker() for _ in range(64)))


def _uvloop() -> asyncio.AbstractEventLoop:
    import uvloop

    return uvloop.new_event_loop()


def _ours(targets: list[str], new_loop=asyncio.new_event_loop) -> None:
    from hashring import clock
    from hashring.telemetry.http.looped import LoopClient

    async def all_of_them():
        client = LoopClient(per_host=64, idle=2.0)

        async def ask(url):
            deadline = clock.boottime() + 30
            async with client.exchange("GET", url, deadline=deadline, headers={}) as answer:
                while await answer.read():
                    pass

        await _at_once(ask, targets)
        await client.close()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(all_of_them())


def _aiohttp(targets: list[str]) -> None:
    import aiohttp

    async def all_of_them():
        limits = aiohttp.TCPConnector(limit=64)
        async with aiohttp.ClientSession(connector=limits) as session:

            async def ask(url):
                async with session.get(url) as answer:
                    await answer.read()

            await _at_once(ask, targets)

    asyncio.run(all_of_them())


def _httpx(targets: list[str]) -> None:
    import httpx

    async def all_of_them():
        limits = httpx.Limits(max_connections=64, max_keepalive_connections=64)
        async with httpx.AsyncClient(limits=limits, timeout=30) as client:
            await _at_once(client.get, targets)

    asyncio.run(all_of_them())


def _urllib3(targets: list[str]) -> None:
    from hashring import clock
    from hashring.telemetry.http import Client

    waiting = iter(targets)

    def ask():
        client = Client()
        for url in waiting:
            deadline = clock.boottime() + 30
            with client.exchange("GET", url, deadline=deadline, headers={}) as answer:
                for _ in answer.chunks():
                    pass
        client.close()

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def main() -> None:
    cores = sorted(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--endpoints", type=int, default=10_000)
    parser.add_argument("--hosts", type=int, default=1, help="addresses of the loopback")
    parser.add_argument("--interval", type=float, default=10.0, help="seconds between two polls")
    parser.add_argument("--windows", type=int, default=3)
    parser.add_argument("--spread", type=float, default=0.8, help="of the window, 0 to 1")
    parser.add_argument(
        "--cores", type=int, nargs="+", default=cores, help="ours first, nginx's last"
    )
    parser.add_argument("--ceilometer", type=int, default=0, metavar="DEFINITIONS")
    parser.add_argument("--asyncio", action="store_true", help="without uvloop")
    parser.add_argument("--clients", action="store_true")
    parser.add_argument("--requests", type=int, default=1000, help="of each client")
    options = parser.parse_args()
    if options.clients:
        clients(options)
    elif options.ceilometer:
        options.endpoints = options.ceilometer
        agent(options)
        ceilometer(options)
    else:
        agent(options)


if __name__ == "__main__":
    main()
