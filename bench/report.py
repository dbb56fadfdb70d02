"""Turn pytest-benchmark's JSON into tables of ratios, a list of promises kept, and SVG plots.

    python -m bench.report .benchmarks/short.json           # print the tables
    python -m bench.report .benchmarks/short.json --docs    # and put them into docs/benchmarks.md

In the docs, what stands between the two `results` comments is replaced; the rest is written by
hand. Ratios are within one run. A figure is the least over the rounds.
"""

import argparse
import dataclasses
import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from bench.names import COMPAT, KINDS, OURS, OURS_KEYS, TOOZ

DOCS = Path(__file__).resolve().parent.parent / "docs"
CALLS = {  # how the same contenders are called with one key
    OURS: "hashring: owner",
    COMPAT: "hashring.compat.tooz: get_nodes",
    TOOZ: "tooz: get_nodes",
}
COLOURS = {OURS: "#0b6e4f", OURS_KEYS: "#4caf50", COMPAT: "#1565c0", TOOZ: "#c62828"}
OTHERS = ("#fb8c00", "#8e24aa", "#6d4c41", "#00acc1", "#9e9d24")
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"

Figures = dict[tuple[str, int], float]


class Run:
    """The figures of one run, by form, and the run's particulars."""

    def __init__(self, path: Path) -> None:
        data = json.loads(path.read_text(encoding="utf-8"))
        self.about: dict[str, Any] = data["machine_info"]["run"]
        self.owned: dict[tuple[str, int], Figures] = {}  # nanoseconds a key, by list
        self.over_floor: dict[int, float] = {}  # owned(list) over hashing alone, by turns
        self.single: Figures = {}  # nanoseconds a call
        self.build: Figures = {}  # milliseconds
        self.memory: Figures = {}  # bytes a member
        self.memory_of_keys: float | None = None
        self.fewer: set[str] = set()
        for benchmark in data["benchmarks"]:
            info, least = benchmark["extra_info"], benchmark["stats"]["min"]
            place = (info["name"], info["members"])
            match info["form"]:
                case "owned":
                    figures = self.owned.setdefault((info["kind"], info["count"]), {})
                    figures[place] = least * 1e9 / info["keys"]
                    if "over_floor" in info:
                        self.over_floor[info["members"]] = info["over_floor"]
                    if info["keys"] < info["count"]:
                        self.fewer.add(info["name"])
                case "single":
                    self.single[place] = least * 1e9 / info["keys"]
                case "build":
                    self.build[place] = least * 1e3
                case "memory" if info["name"] == "Keys":
                    self.memory_of_keys = info["bytes"]
                case "memory":
                    self.memory[place] = info["bytes"]

    def footer(self) -> str:
        """Return the machine, the date and the command, as every table and plot carries them."""
        about = self.about
        return (
            f"{about['processor']}, {about['processors']} processors (load {about['load']:.1f} at "
            f"the start), {about['system']}, Python {about['python']}; {about['date']}; "
            f"{about['command']}"
        )


@dataclasses.dataclass(frozen=True)
class Promise:
    """A figure that was promised, and what this run shows."""

    what: str
    promised: str
    reached: str
    kept: bool


def promises(run: Run) -> list[Promise]:
    """Return every promise that this run can judge."""
    found: list[Promise] = []
    big = run.owned.get(("uuid", 1_000_000), {})

    def judge(what: str, value: float | None, bound: float, most: bool, form: str) -> None:
        if value is None:
            return
        sign, kept = ("at most", value <= bound) if most else ("at least", value >= bound)
        found.append(Promise(what, f"{sign} {form.format(bound)}", form.format(value), kept))

    def ratio(figures: Figures, over: str, under: str, members: int) -> float | None:
        above, below = figures.get((over, members)), figures.get((under, members))
        return None if above is None or below is None else above / below

    for members in (16, 200, 1_000, 10_000):
        what = f"`owned(list)` over hashing alone, {members:,} members"
        judge(what, run.over_floor.get(members), 1.5, True, "{:.2f}")
    for members, bound in ((16, 150), (200, 350), (1_000, 1_000)):
        what = f"`owned(list)` against tooz's `belongs_to_self`, {members:,} members"
        judge(what, ratio(big, TOOZ, OURS, members), bound, False, "{:,.0f}×")
    for members in (16, 200, 1_000, 10_000):
        what = f"`owned(Keys)`, {members:,} members"
        judge(what, big.get((OURS_KEYS, members)), 2.0, True, "{:.2f} ns a key")
    what = "one `owner(key)` against tooz's `get_nodes`, 16 members"
    judge(what, ratio(run.single, TOOZ, OURS, 16), 25, False, "{:.1f}×")
    judge("building 1,000 members", run.build.get((OURS, 1_000)), 30, True, "{:.1f} ms")
    what = "`compat.tooz` batch against tooz's loop, 200 members"
    judge(what, ratio(big, TOOZ, COMPAT, 200), 60, False, "{:.0f}×")
    what = "`Keys` with the reference to each key"
    judge(what, run.memory_of_keys, 12.1, True, "{:.1f} bytes a key")
    return found


def table(
    figures: Figures,
    form: Callable[[float], str],
    base: str | None = OURS,
    named: Callable[[str], str] = str,
) -> str:
    """Return a Markdown table, contenders by members, each with its ratio to the base."""
    sizes = sorted({members for _, members in figures})
    rows = list(dict.fromkeys(name for name, _ in figures))
    lines = [
        "| | " + " | ".join(f"{size:,} members" for size in sizes) + " |",
        "|---|" + "---:|" * len(sizes),
    ]
    for name in rows:
        cells = []
        for size in sizes:
            value, against = figures.get((name, size)), figures.get((base or "", size))
            if value is None:
                cells.append("")
            elif against and name != base:
                cells.append(f"{form(value)} ({_times(value / against)})")
            else:
                cells.append(form(value))
        lines.append(f"| {named(name)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _call(name: str) -> str:
    return CALLS.get(name, name)


def _ring(name: str) -> str:
    return name.partition(":")[0]


def _times(ratio: float) -> str:
    return f"{ratio:,.0f}×" if ratio >= 20 else f"{ratio:.1f}×" if ratio >= 2 else f"{ratio:.2f}×"


def _nanoseconds(value: float) -> str:
    return f"{value:,.0f} ns" if value >= 100 else f"{value:.1f} ns"


def _milliseconds(value: float) -> str:
    if value < 0.1:
        return f"{value * 1e3:.1f} µs"
    return f"{value:,.0f} ms" if value >= 10 else f"{value:.2f} ms"


def _bytes(value: float) -> str:
    return f"{value:,.0f} B"


def sections(run: Run) -> Iterable[tuple[str, str, str]]:
    """Yield title, introduction and table of each part of the report."""
    kept = promises(run)
    rows = [
        f"| {p.what} | {p.promised} | {p.reached} | {'yes' if p.kept else '**no**'} |" for p in kept
    ]
    head = ["| what | promised | this run | kept |", "|---|---|---|---|"]
    yield "Promises", "Ratios and times of this one run.", "\n".join(head + rows)
    for (kind, count), figures in sorted(run.owned.items(), key=lambda item: _order(*item[0])):
        intro = (
            f"Time for each of {count:,} keys ({KINDS[kind]}); in brackets, times `owned(list)`."
        )
        yield f"Mine among {count:,} keys: {kind}", intro, table(figures, _nanoseconds)
    if run.single:
        intro = "Time for one call with one key; in brackets, times ours."
        yield "One key", intro, table(run.single, _nanoseconds, OURS, _call)
    if run.build:
        intro = "From the list of members to the first answer; in brackets, times ours."
        yield "Building a ring", intro, table(run.build, _milliseconds, OURS, _ring)
    intro = "Bytes for each member, in a process of its own; in brackets, times ours."
    if run.memory_of_keys is not None:
        intro += (
            f" `Keys` takes {run.memory_of_keys:.1f} bytes a key, of which 8 are the reference to "
            "the key itself; no peer has such a thing."
        )
    if run.memory:
        yield "Memory", intro, table(run.memory, _bytes, OURS, _ring)


def _order(kind: str, count: int) -> tuple[int, int, int]:
    return (kind != "uuid", list(KINDS).index(kind), -count if count == 1_000_000 else count)


def notes(run: Run) -> str:
    """Return what the reader must know of this run."""
    about = run.about
    packages = ", ".join(f"{name} {version}" for name, version in about["packages"].items())
    lines = [
        "- Times are processor time of the measuring process, the least over the rounds: other "
        "programs on the machine cost less of it, though what they do to caches remains.",
        f"- Machine, date, command: {run.footer()}.",
        f"- Versions: {packages}. MD5 of `compat.tooz` by its `{about['md5']}` variant.",
    ]
    if run.fewer:
        lines.append(
            "- Measured on fewer keys and scaled by key, because the whole list would take too "
            f"long: {', '.join(sorted(run.fewer))}."
        )
    lines += [f"- Not here: `{name}`: {why}" for name, why in about["absent"].items()]
    return "\n".join(lines)


def markdown(run: Run) -> str:
    """Return the whole report."""
    parts = [notes(run)]
    parts += [f"### {title}\n\n{intro}\n\n{body}" for title, intro, body in sections(run)]
    return "\n\n".join(parts)


def plot(
    run: Run, figures: Figures, title: str, unit: str, file: Path, named: Callable[[str], str]
) -> None:
    """Write one plot, members against figure, both logarithmic."""
    figure = Figure(figsize=(8.5, 5.6), layout="constrained")
    axes = figure.add_subplot()
    axes.set_prop_cycle(color=OTHERS)
    for name in dict.fromkeys(name for name, _ in figures):
        points = sorted((members, value) for (n, members), value in figures.items() if n == name)
        floor = name.startswith("floor")
        axes.plot(
            [members for members, _ in points],
            [max(value, 1e-3) for _, value in points],
            marker="o",
            label=named(name),
            color="#777777" if floor else COLOURS.get(name),
            linestyle=(":" if "touch" in name else "--") if floor else "-",
            linewidth=2.5 if name in COLOURS else 1.3,
        )
    axes.set(xscale="log", yscale="log", xlabel="members", ylabel=unit, title=title)
    sizes = sorted({members for _, members in figures})
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes], minor=False)
    axes.minorticks_off()
    axes.grid(visible=True, alpha=0.3)
    figure.legend(loc="outside right upper", fontsize=7, frameon=False)
    figure.supxlabel(run.footer(), fontsize=5.5, color="#555555")
    figure.savefig(file, metadata={"Date": None})


def write_docs(run: Run) -> None:
    """Replace the results in docs/benchmarks.md and write the plots beside it."""
    mpl.rcParams["svg.hashsalt"] = "hashring"  # the same figures give the same file
    page, folder = DOCS / "benchmarks.md", DOCS / "benchmarks"
    folder.mkdir(exist_ok=True)
    owned = run.owned[("uuid", 1_000_000)]
    plots = [
        (owned, "Which of a million UUIDs are mine?", "nanoseconds a key", "owned.svg", str),
        (run.single, "Whose is this one key?", "nanoseconds a call", "single.svg", _call),
        (run.build, "Building a ring", "milliseconds", "build.svg", _ring),
        (run.memory, "Memory of a ring", "bytes a member", "memory.svg", _ring),
    ]
    shown = []
    for figures, title, unit, name, named in plots:
        if len({members for _, members in figures}) > 1:
            plot(run, figures, title, unit, folder / name, named)
            shown.append(f"![{title}](benchmarks/{name})")
    text = page.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise SystemExit(f"{page} must have {BEGIN} and {END} once each")
    body = "\n\n".join([BEGIN, *shown, markdown(run), END])
    pattern = re.compile(re.escape(BEGIN) + ".*" + re.escape(END), re.DOTALL)
    page.write_text(pattern.sub(lambda _: body, text), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("json", type=Path, help="what --benchmark-json wrote")
    parser.add_argument(
        "--docs", action="store_true", help="write docs/benchmarks.md and the plots"
    )
    arguments = parser.parse_args()
    run = Run(arguments.json)
    print(markdown(run))
    if arguments.docs:
        write_docs(run)


if __name__ == "__main__":
    main()
