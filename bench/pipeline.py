"""From poll to sink, beside Prometheus: processor time a sample, peak memory and lag, in one run.

    python -m bench.pipeline                                      # 50 targets of 2,000 samples each
    python -m bench.pipeline --targets 25 --samples 500 --windows 3

nginx and Prometheus are Debian's (``tests/servers/install.sh nginx-light prometheus``). nginx
serves the targets; Prometheus scrapes them and stores the samples, an agent beside it polls the
same ones and delivers to a file, or to ``--output``, through its spool. Processor time is that of
the whole process (``/proc/PID/stat``), from when both have had their first window to the end of the
last one. Lag is what the sink lacked of a window when the next one began.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from tests.servers.process import Server, program, wait_until

_TICKS = os.sysconf("SC_CLK_TCK")


class Nginx(Server):
    """Serves a folder."""

    def __init__(self, files: Path) -> None:
        super().__init__()
        self._program = program("nginx", "nginx-light")
        (self.folder / "nginx.conf").write_text(
            f"""
            daemon off; worker_processes 1; pid {self.folder}/pid; error_log {self.folder}/error;
            {"user root;" if os.getuid() == 0 else ""}
            events {{ worker_connections 4096; }}
            http {{
              access_log off; keepalive_requests 1000000; default_type "text/plain; version=0.0.4";
              server {{ listen {self.address}; location / {{ root {files}; }} }}
            }}
            """
        )

    def command(self) -> list[str]:
        return [self._program, "-p", str(self.folder), "-c", str(self.folder / "nginx.conf")]

    def ready(self) -> bool:
        try:
            urllib.request.urlopen(f"http://{self.address}/0", timeout=1).close()
        except OSError:
            return False
        return True


class Prometheus(Server):
    """Scrapes the targets, and stores what they expose."""

    def __init__(self, targets: int, of: str, interval: float) -> None:
        super().__init__()
        self._program = program("prometheus", "prometheus")
        jobs = [
            {
                "job_name": str(number),
                "metrics_path": f"/{number}",
                "static_configs": [{"targets": [of]}],
            }
            for number in range(targets)
        ]
        (self.folder / "prometheus.yml").write_text(
            json.dumps({"global": {"scrape_interval": f"{interval:g}s"}, "scrape_configs": jobs})
        )

    def command(self) -> list[str]:
        return [
            self._program,
            f"--config.file={self.folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address={self.address}",
        ]

    def ready(self) -> bool:
        try:
            urllib.request.urlopen(f"http://{self.address}/-/ready", timeout=1).close()
        except OSError:
            return False
        return True

    def stored(self) -> int:
        """How many samples it has taken in."""
        text = urllib.request.urlopen(f"http://{self.address}/metrics", timeout=10).read().decode()
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
    """Counts the samples of each window in a file as it grows, from a thread-free look."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0
        self.samples = 0

    def look(self) -> int:
        with self._path.open("rb") as file:
            file.seek(self._at)
            while data := file.read(1 << 20):
                self.samples += data.count(b"\n")
                self._at += len(data)
        return self.samples


def measure(options: argparse.Namespace) -> None:
    a_window = options.targets * options.samples
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        folder.chmod(0o755)
        files = folder / "files"
        files.mkdir()
        for number in range(options.targets):
            (files / str(number)).write_text(exposition(options.samples))
        out = folder / "samples.jsonl"
        with Nginx(files) as nginx:
            write_configuration(folder, options, nginx.address, options.output or f"file://{out}")
            with Prometheus(options.targets, nginx.address, options.interval) as peer:
                agent = subprocess.Popen(agent_command(folder))
                try:
                    run(options, a_window, agent, peer, out)
                finally:
                    agent.kill()
                    agent.wait()


def run(options, a_window: int, agent: subprocess.Popen, peer: Prometheus, out: Path) -> None:
    arrived = Arrived(out)
    wait_until(out.exists, what="the agent's first sample")
    wait_until(lambda: arrived.look() >= a_window, what="the agent's first window")
    wait_until(lambda: peer.stored() >= a_window, what="Prometheus's first window")
    count, stored = arrived.look(), peer.stored()
    ours, theirs, began = Spent(agent.pid), Spent(peer.pid), time.time()
    lags = []
    for window in range(1, options.windows + 1):
        end = began + window * options.interval
        time.sleep(max(0.0, end - time.time()))
        lags.append(arrived.look())
    ours_after, theirs_after = Spent(agent.pid), Spent(peer.pid)
    taken, stored = arrived.look() - count, peer.stored() - stored
    begin_drain = time.time()
    agent.send_signal(signal.SIGTERM)
    agent.wait(60)
    drain = time.time() - begin_drain
    left = sum(1 for path in (out.parent / "state").rglob("*.spool"))
    print(
        f"{options.targets} targets of {options.samples} samples, every {options.interval:g} s: "
        f"{a_window / options.interval:,.0f} samples/s for "
        f"{options.windows * options.interval:g} s; "
        f"load {os.getloadavg()[0]:.1f}\n"
    )
    print("| | samples | processor time | of a sample | peak memory |\n|---|---:|---:|---:|---:|")
    rows = (
        ("Prometheus", stored, theirs_after.seconds - theirs.seconds, theirs_after.peak),
        ("the agent", taken, ours_after.seconds - ours.seconds, ours_after.peak),
    )
    for who, samples, seconds, peak in rows:
        print(
            f"| {who} | {samples:,} | {seconds:.2f} s | {seconds / max(1, samples) * 1e6:.1f} us "
            f"| {peak:.0f} MiB |"
        )
    ratio = (rows[1][2] / max(1, taken)) / (rows[0][2] / max(1, stored))
    offered = a_window * options.windows
    print(
        f"\nratio {ratio:.2f}; taken {taken / offered:.1%} of {offered:,} offered; "
        f"drain {drain:.1f} s, spools left {left}; in the sink at last {arrived.look():,}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--targets", type=int, default=50)
    parser.add_argument("--samples", type=int, default=2000, help="of a target")
    parser.add_argument("--interval", type=float, default=10.0, help="seconds between two polls")
    parser.add_argument("--windows", type=int, default=6)
    parser.add_argument("--output", default="", help="where the agent delivers; a file otherwise")
    parser.add_argument("--folder", type=Path, default=None, help="where files and spool lie")
    measure(parser.parse_args())


if __name__ == "__main__":
    main()
