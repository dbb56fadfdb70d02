"""From poll to sink, beside Prometheus: processor time a sample, peak memory and lag, in one run.

    python -m bench.pipeline                                      # 50 targets of 2,000 samples each
    python -m bench.pipeline --samples 12000                      # 60,000 samples a second
    python -m bench.pipeline --to remotewrite                     # to a second Prometheus

nginx and Prometheus are Debian's (``tests/servers/install.sh nginx-light prometheus``). nginx
serves the targets; Prometheus scrapes them and stores the samples, an agent beside it polls the
same ones and delivers to a file, or by remote write to a second Prometheus, through its spool.
Processor time is that of the whole process (``/proc/PID/stat``), from when both have had their
first window to the end of the last one. Lag is the most that the sink lacked, at the end of a
window, of what was offered by then. In the end the sink must have each sample of each poll that
nginx has answered: in a file its lines are counted, in a Prometheus the samples that a query finds.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from bench.nginx import Nginx
from tests.servers.process import wait_until
from tests.servers.prometheus import PrometheusServer

_TICKS = os.sysconf("SC_CLK_TCK")

_FIRST = 240.0
"""Seconds for the first window: there all series are new."""


def stored(address: str) -> int:
    """How many samples a Prometheus has taken in."""
    text = urllib.request.urlopen(f"http://{address}/metrics", timeout=10).read().decode()
    name = "prometheus_tsdb_head_samples_appended_total"
    lines = [line for line in text.splitlines() if line.startswith(name)]
    return int(sum(float(line.split()[-1]) for line in lines))


class Spent:
    """A process's processor time and memory, so far."""

    def __init__(self, pid: int) -> None:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        self.seconds = (int(fields[11]) + int(fields[12])) / _TICKS
        status = Path(f"/proc/{pid}/status").read_text()
        self.peak = int(status.partition("VmHWM:")[2].split()[0]) / 1024


def exposition(samples: int) -> str:
    """What a target exposes: counters of four labels, a hundred of them to a metric."""
    lines = []
    for number in range(samples):
        metric, one = divmod(number, 100)
        name = f"node_{metric}_seconds_total"
        if not one:
            lines.append(f"# HELP {name} Seconds spent.\n# TYPE {name} counter\n")
        lines.append(
            f'{name}{{cpu="{one}",mode="idle",instance="web{one}.example:9100",job="node"}} '
            f"{number * 17.25}\n"
        )
    return "".join(lines)


def write_configuration(folder: Path, options, nginx: str, output: str) -> None:
    resources = [f"prometheus+http://{nginx}/{number}" for number in range(options.targets)]
    (folder / "polling.yaml").write_text(
        json.dumps(
            {
                "sources": [
                    {
                        "name": "bench",
                        "interval": options.interval,
                        "meters": ["prometheus.*"],
                        "resources": resources,
                    }
                ]
            }
        )
    )
    (folder / "pipeline.yaml").write_text(
        json.dumps(
            {
                "sources": [{"name": "all", "meters": ["*"], "sinks": ["sink"]}],
                "sinks": [{"name": "sink", "publishers": [output]}],
            }
        )
    )
    (folder / "state").mkdir()
    (folder / "agent.conf").write_text(
        f"""
        [DEFAULT]
        polling_namespaces = central
        pipeline_cfg_file = {folder}/pipeline.yaml
        [coordination]
        backend_url = memory://bench
        [polling]
        cfg_file = {folder}/polling.yaml
        pollsters_definitions_dirs = {folder}/state
        [hashring]
        member = bench
        state_dir = {folder}/state
        """.replace("        ", "")
    )


def agent_command(folder: Path) -> list[str]:
    command = [sys.executable, "-m", "hashring", "agent", "central"]
    return [*command, "--config-file", str(folder / "agent.conf")]


class Arrived:
    """Counts the samples in a file as it grows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0
        self.samples = 0
        self.url = f"file://{path}"

    def look(self) -> int:
        """Return how many there are by now."""
        if not self._path.exists():
            return 0
        with self._path.open("rb") as file:
            file.seek(self._at)
            while data := file.read(1 << 20):
                self.samples += data.count(b"\n")
                self._at += len(data)
        return self.samples

    def found(self) -> int:
        """Return how many there are in the end."""
        return self.look()


class Written:
    """Counts the samples in a Prometheus that they are written to."""

    def __init__(self, server: PrometheusServer, metrics: int) -> None:
        self._server = server
        self._metrics = metrics
        self.url = f"remotewrite+http://{server.address}"

    def look(self) -> int:
        """Return how many it has taken by now."""
        return stored(self._server.address)

    def found(self) -> int:
        """Return how many queries find, one for each metric."""
        return sum(self._found(number) for number in range(self._metrics))

    def _found(self, metric: int) -> int:
        query = f"sum(count_over_time(node_{metric}_seconds_total[1h]))"
        result = self._server.ask("query", query=query, time=str(time.time() + 1))["result"]
        return int(result[0]["value"][1]) if result else 0


def measure(options: argparse.Namespace) -> None:
    a_window = options.targets * options.samples
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        folder.chmod(0o755)
        files = folder / "files"
        files.mkdir()
        for number in range(options.targets):
            (files / str(number)).write_text(exposition(options.samples))
        with contextlib.ExitStack() as stack:
            nginx = stack.enter_context(Nginx(f"root {files};", "text/plain; version=0.0.4"))
            arrived: Arrived | Written = Arrived(folder / "samples.jsonl")
            if options.to == "remotewrite":
                receiver = stack.enter_context(PrometheusServer.receiving())
                arrived = Written(receiver, -(-options.samples // 100))
            write_configuration(folder, options, nginx.address, arrived.url)
            targets = {
                str(number): f"{nginx.address}/{number}" for number in range(options.targets)
            }
            peer = stack.enter_context(
                PrometheusServer.scraping(targets, every=f"{options.interval:g}s")
            )
            agent = subprocess.Popen(agent_command(folder))
            try:
                run(options, a_window, agent, peer, arrived)
                left = sum(1 for path in (folder / "state").rglob("*.spool"))
                polled = nginx.answered("hashring") * options.samples
                print(
                    f"spools left {left}; {polled:,} samples were polled, "
                    f"the sink has {arrived.found():,}"
                )
            finally:
                agent.kill()
                agent.wait()


def run(
    options,
    a_window: int,
    agent: subprocess.Popen,
    peer: PrometheusServer,
    arrived: Arrived | Written,
) -> None:
    wait_until(lambda: arrived.look() >= a_window, within=_FIRST, what="the agent's first window")
    wait_until(
        lambda: stored(peer.address) >= a_window, within=_FIRST, what="Prometheus's first window"
    )
    count, before = arrived.look(), stored(peer.address)
    ours, theirs, began = Spent(agent.pid), Spent(peer.pid), time.time()
    lag = their_lag = 0
    for window in range(1, options.windows + 1):
        end = began + window * options.interval
        time.sleep(max(0.0, end - time.time()))
        lag = max(lag, window * a_window - (arrived.look() - count))
        their_lag = max(their_lag, window * a_window - (stored(peer.address) - before))
    ours_after, theirs_after = Spent(agent.pid), Spent(peer.pid)
    taken, scraped = arrived.look() - count, stored(peer.address) - before
    begin_drain = time.time()
    agent.send_signal(signal.SIGTERM)
    agent.wait(60)
    drain = time.time() - begin_drain
    print(
        f"{options.targets} targets of {options.samples} samples, every {options.interval:g} s: "
        f"{a_window / options.interval:,.0f} samples/s for "
        f"{options.windows * options.interval:g} s; "
        f"load {os.getloadavg()[0]:.1f}\n"
    )
    print("| | samples | processor time | of a sample | peak memory |\n|---|---:|---:|---:|---:|")
    rows = (
        ("Prometheus", scraped, theirs_after.seconds - theirs.seconds, theirs_after.peak),
        ("the agent", taken, ours_after.seconds - ours.seconds, ours_after.peak),
    )
    for who, samples, seconds, peak in rows:
        print(
            f"| {who} | {samples:,} | {seconds:.2f} s | {seconds / max(1, samples) * 1e6:.1f} us "
            f"| {peak:.0f} MiB |"
        )
    ratio = (rows[1][2] / max(1, taken)) / (rows[0][2] / max(1, scraped))
    offered = a_window * options.windows
    print(
        f"\nratio {ratio:.2f}; taken {taken / offered:.1%} of {offered:,} offered; "
        f"lag {lag:,} samples, Prometheus's {their_lag:,}; drain {drain:.1f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--targets", type=int, default=50)
    parser.add_argument("--samples", type=int, default=2000, help="of a target")
    parser.add_argument("--interval", type=float, default=10.0, help="seconds between two polls")
    parser.add_argument("--windows", type=int, default=6)
    parser.add_argument("--to", choices=("file", "remotewrite"), default="file", help="the sink")
    parser.add_argument("--folder", type=Path, default=None, help="where files and spool lie")
    measure(parser.parse_args())


if __name__ == "__main__":
    main()
