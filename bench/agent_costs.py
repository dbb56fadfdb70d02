"""What an agent costs that owns many resources: discovery, ownership check, and everything else.

    python -m bench.agent_costs --resources 100000 --interval 60

One agent, alone in its group, so that all resources are its own; they come from a file of
targets. The pollster does nothing and tells one volume, and the outlet counts: what is left is what
we add to a poll. Times are processor time; shares are of one core, for one window.
"""

from __future__ import annotations

import argparse
import json
import resource as system
import tempfile
import threading
import time
from pathlib import Path

import hashring
from hashring import clock
from hashring.telemetry.agent.agent import Agent
from hashring.telemetry.config.plan import Plugins, make_plan
from hashring.telemetry.http import late
from hashring.telemetry.model.sample import Measurement, Meter, MeterType
from hashring.telemetry.model.settings import Settings
from hashring.telemetry.plugin import Pollster
from hashring.telemetry.polling.catalogue import Catalogue
from hashring.telemetry.polling.shared import Shared
from hashring.telemetry.sources.web.targets import HTTPTargets

LOAD = Meter("web.load", MeterType.GAUGE, "")


class Nothing(Pollster):
    """Measures at no cost."""

    kinds = frozenset({"http"})
    meters = (LOAD,)

    def poll(self, resource):
        return [Measurement(LOAD, 1)]


class Counter:
    """An outlet that counts."""

    counts = {}  # noqa: RUF012
    closed = frozenset()
    finished = False

    def __init__(self):
        self.lock = threading.Lock()
        self.samples = 0

    def put(self, items):
        with self.lock:
            self.samples += sum(len(batch) for batch, _ in items)

    def flush(self, timeout):
        return True

    def close(self, timeout):
        """Hold nothing."""


def memory():
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith(("Private_Clean", "Private_Dirty")):
            yield int(line.split()[1]) * 1024


def processor_time(function, times=5):
    """Return the least processor time of a call, in seconds, and what it returned."""
    least = float("inf")
    for _ in range(times):
        began = time.process_time()
        found = function()
        least = min(least, time.process_time() - began)
    return least, found


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--resources", type=int, default=100_000)
    parser.add_argument("--interval", type=float, default=60.0)
    parser.add_argument("--windows", type=int, default=2)
    return parser.parse_args()


def configured(folder, options):
    """Write the files of an agent and of its targets; return its settings and the targets' file."""
    file = folder / "targets.json"
    targets = [f"http://web{n}.example:8080/status" for n in range(options.resources)]
    file.write_text(json.dumps([{"targets": targets}]))
    polling = folder / "polling.yaml"
    polling.write_text(
        f"sources:\n- name: web\n  interval: {options.interval:g}\n  meters: [web.load]\n"
        f"  discovery: ['http-targets://{file}']\n"
    )
    settings = Settings(
        backend_url="memory://agent-costs",
        member="alone",
        host="web1",
        polling_file=polling,
        interval=options.interval,
        spread=0.8,
        cycles=options.windows,
    )
    return settings, file


def discovery(catalogue, file):
    """Yield what looking for resources costs in seconds: at first, unchanged, and with one more."""

    def look():
        return catalogue.look(lambda: 60.0, None)

    yield "discovery, the first time", processor_time(look, 1)[0]
    yield "discovery, where nothing changed", processor_time(look)[0]
    changed = json.loads(file.read_text())
    changed[0]["targets"].append("http://another.example/")
    file.write_text(json.dumps(changed))
    del changed
    yield "discovery, where one was added", processor_time(look, 1)[0]


def ownership(keys):
    """Yield what asking for the own of these keys costs, in seconds, alone in a group."""
    with hashring.join("memory://agent-costs-ring", "g", "alone") as partition:
        assert partition.wait_settled(10)
        loop = partition.cycles(60.0)
        cycle = next(loop)
        yield "ownership check", processor_time(lambda: cycle.owned(keys))[0]
        yield (
            "ownership check, and each key's moment in the window",
            processor_time(lambda: cycle.owned(keys, spread=0.8))[0],
        )
        loop.close()


def print_table(rows, options):
    print(f"{options.resources:,} resources, a window of {options.interval:g} s")
    print()
    print("| what, once a window | processor time | of a core |")
    print("|---|---:|---:|")
    for what, seconds in rows:
        share = 100 * seconds / options.interval
        print(f"| {what} | {1000 * seconds:,.2f} ms | {share:.3f}% |")


def run_whole(settings, plan):
    """Run the whole agent, and print what a poll costs beside the poll."""
    outlet = Counter()
    agent = Agent(settings, plan=plan, outlet=outlet)
    began, wall = time.process_time(), clock.boottime()
    agent.run()
    used, wall = time.process_time() - began, clock.boottime() - wall
    print(
        f"\nThe whole agent with polls that cost nothing: {outlet.samples:,} samples of "
        f"{settings.cycles} windows in {wall:.0f} s, {used:.1f} s of processor time: "
        f"{1e6 * used / max(1, outlet.samples):.0f} µs a poll, {100 * used / wall:.1f}% of a core; "
        f"windows missed: {agent.status().missed}."
    )


def main():
    options = arguments()
    with tempfile.TemporaryDirectory() as folder:
        settings, file = configured(Path(folder), options)
        late.load()  # which comes with the first target: it is no resource
        before = sum(memory())
        plugins = Plugins({"http-targets": HTTPTargets(settings)}, [Nothing(settings)])
        plan = make_plan(settings, plugins)
        shared = Shared(settings, plan, Counter(), print)
        catalogue = Catalogue(plan.groups[0], shared)

        costs = discovery(catalogue, file)
        rows = [next(costs), next(costs)]
        keys, _ = catalogue.look(lambda: 60.0, None)
        held = sum(memory()) - before
        rows += costs
        rows += ownership(keys)
        shared.close()
        print_table(rows, options)
        run_whole(settings, plan)
    most = system.getrusage(system.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"Memory: resources, their keys and the last list hold {held / 2**20:.0f} MiB "
        f"({held / options.resources:.0f} bytes a resource); "
        f"the process held {most:.0f} MiB at most."
    )


if __name__ == "__main__":
    main()
