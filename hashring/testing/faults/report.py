"""A run for a person's eyes: its figures, a table by event, and a drawing of members against time.

``python -m hashring.testing.faults.report FOLDER [--svg FILE]`` judges the logs in a folder again.
This module only shows what :mod:`hashring.testing.faults.history` found.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.etree import ElementTree

from hashring.testing.faults.history import LOSSES, PLANNED, Event, History
from hashring.testing.faults.verdict import Verdict, check

__all__ = ["figures", "svg", "table"]


def _of_clock_steps(verdict: Verdict) -> list[tuple[str, str]]:
    if not verdict.relabelled:
        return []
    return [("relabelled", f"{verdict.relabelled:,} polled again under a label that came again")]


def _of_starving(history: History) -> list[tuple[str, str]]:
    still = history.starved()
    if still is None:
        return []
    at = still.begin - history.begin
    return [("starved", f"{still.member} got no processor for {still.seconds:.1f} s at {at:.1f} s")]


def figures(history: History, verdict: Verdict) -> str:
    """Return what a run did and what became of it, a line a figure."""
    kinds = Counter(event.kind for event in history.events)
    injected = ", ".join(f"{count} x {kind}" for kind, count in sorted(kinds.items()))
    moved = sum(handover.slots for handover in verdict.handovers)
    lines = [
        ("time", f"{history.end - history.begin:.0f} s, {_windows(verdict)} windows that count"),
        ("done to it", injected or "nothing"),
        ("polls", f"{verdict.made:,} made of {verdict.due:,} due"),
        ("missed", f"{verdict.missed:,}, of them late for want of a processor: {verdict.late:,}"),
        ("repeated", f"{verdict.repeated:,}"),
        *_of_clock_steps(verdict),
    ]
    if history.slots:
        lines += [
            ("hand-offs", f"{len(verdict.handovers):,}, of {moved:,} slots together"),
            ("holds checked", f"{verdict.holds_checked:,}"),
            ("overlaps", f"{len(verdict.overlaps):,}"),
            ("longest gap", f"{verdict.longest_gap:.2f} s in which a slot had no holder"),
        ]
    if history.behind:
        behind = sorted(history.behind)
        lines.append(
            (
                "lateness",
                f"cycles began {1000 * statistics.median(behind):.0f} ms after their window in "
                f"the median, {1000 * behind[-1]:.0f} ms at most",
            )
        )
    lines += _of_starving(history)
    lines.append(("violations", f"{len(verdict.violations)}"))
    width = max(len(name) for name, _ in lines)
    text = "\n".join(f"{name:<{width}}  {value}" for name, value in lines)
    told = [f"  - {violation}" for violation in verdict.violations[:_TOLD]]
    if len(verdict.violations) > _TOLD:
        told.append(f"  - and {len(verdict.violations) - _TOLD} more")
    return "\n".join([text, *told])


def _windows(verdict: Verdict) -> int:
    first, last = verdict.windows
    return max(0, last - first + 1)


def table(history: History, verdict: Verdict) -> str:
    """Return a Markdown table of misses and repeats by event, and their sums."""
    rows = [
        "| at | event | share | missed | late | repeated |",
        "|---:|---|---:|---:|---:|---:|",
    ]
    for cost in verdict.costs:
        missed = cost.missed + cost.stalled + cost.errors + cost.late
        if cost.event is None:
            if missed or cost.repeated:
                rows.append(
                    f"| | before any event | | {missed:,} | {cost.late:,} | {cost.repeated:,} |"
                )
            continue
        event = cost.event
        share = f"{cost.share:,}" if event.kind in LOSSES and history.slots else ""
        rows.append(
            f"| {event.begin - history.begin:.1f} s | {event.name} | {share} | {missed:,} "
            f"| {cost.late:,} | {cost.repeated:,} |"
        )
    rows.append(
        f"| | **all**, of {verdict.due:,} polls due | | **{verdict.missed:,}** | {verdict.late:,} "
        f"| **{verdict.repeated:,}** |"
    )
    return "\n".join(rows)


# ---- the drawing -------------------------------------------------------------------------------

_TOLD = 10  # violations in words

# A page's column is about as wide, so that the letters are read in the size that they have here.
_WIDTH = 760.0
_LEFT, _RIGHT, _TOP = 72.0, 16.0, 34.0
_LEVELS = 6  # lines of labels
_LEVEL = 13.0
_LETTER = 6.1  # the width of one in a label
_ROWS = _TOP + _LEVELS * _LEVEL + 2.0  # where the first member's row begins
_FOOT = 66.0
_ROW, _BETWEEN = 26.0, 6.0
_STRIP = 46.0
_MOST = 1 / 3  # the share that fills a row

_STYLE = """
text { font: 13px sans-serif; fill: #333 }
text.small { font-size: 11.5px; fill: #444 }
.paper { fill: #fff }
.life { fill: #eef1f5 }
.held { fill: #3b76b5 }
.event { stroke: #999; stroke-width: 0.7; stroke-dasharray: 3 2 }
.lost { fill: #d62728; fill-opacity: 0.22 }
.store { fill: #9467bd; fill-opacity: 0.15 }
.move { stroke: #2a9d5c; stroke-opacity: 0.55; fill: none }
.missed { fill: #d62728 }
.repeated { fill: #ff8c00 }
.axis { stroke: #777; stroke-width: 0.7 }
"""


class _Drawing:
    def __init__(self, history: History, verdict: Verdict, title: str) -> None:
        self.history, self.verdict = history, verdict
        self.members = list(dict.fromkeys(member for member, _, _ in self._lives()))
        self.rows = {member: index for index, member in enumerate(self.members)}
        self.seconds = max(
            1.0, max((end for _, _, end in history.lives), default=0) - history.begin
        )
        self.bottom = _ROWS + len(self.members) * (_ROW + _BETWEEN)
        self.root = ElementTree.Element(
            "svg",
            xmlns="http://www.w3.org/2000/svg",
            viewBox=f"0 0 {_WIDTH:g} {self.bottom + 2 * _STRIP + _FOOT:g}",
            role="img",
        )
        ElementTree.SubElement(self.root, "title").text = title
        ElementTree.SubElement(self.root, "style").text = _STYLE
        self.rect("paper", 0, 0, _WIDTH, self.bottom + 2 * _STRIP + _FOOT)
        self.text(title, _LEFT, 14)

    def _lives(self) -> list[tuple[str, float, float]]:
        return sorted(self.history.lives, key=lambda life: life[1])

    def x(self, moment: float) -> float:
        scale = (_WIDTH - _LEFT - _RIGHT) / self.seconds
        return _LEFT + min(max(0.0, moment - self.history.begin), self.seconds) * scale

    def y(self, member: str) -> float:
        return _ROWS + self.rows[member] * (_ROW + _BETWEEN)

    def rect(self, kind: str, x: float, y: float, width: float, height: float) -> None:
        ElementTree.SubElement(
            self.root,
            "rect",
            {"class": kind}
            | {"x": f"{x:.1f}", "y": f"{y:.1f}"}
            | {"width": f"{max(0.4, width):.1f}", "height": f"{height:.1f}"},
        )

    def line(self, kind: str, x1: float, y1: float, x2: float, y2: float, width: float = 0) -> None:
        found = {"class": kind, "x1": f"{x1:.1f}", "y1": f"{y1:.1f}"}
        found |= {"x2": f"{x2:.1f}", "y2": f"{y2:.1f}"}
        if width:
            found["stroke-width"] = f"{width:.1f}"
        ElementTree.SubElement(self.root, "line", found)

    def text(
        self, words: str, x: float, y: float, *, anchor: str = "start", small: bool = False
    ) -> None:
        found = {"x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor}
        if small:
            found["class"] = "small"
        ElementTree.SubElement(self.root, "text", found).text = words

    def bands(self) -> None:
        for member, begin, end in self._lives():
            self.rect("life", self.x(begin), self.y(member), self.x(end) - self.x(begin), _ROW)
        for member in self.members:
            self.text(member, _LEFT - 8, self.y(member) + _ROW - 8, anchor="end")
            for begin, end, share in self._shares(member):
                height = _ROW * min(1.0, share / _MOST)
                y = self.y(member) + _ROW - height
                self.rect("held", self.x(begin), y, self.x(end) - self.x(begin), height)

    def _shares(self, member: str) -> Iterator[tuple[float, float, float]]:
        """Yield what a member held, or polled where holds are not logged, as parts of all."""
        history = self.history
        if not history.slots:
            for window, polls in sorted(history.worked[member].items()):
                start = history.window_start(window)
                yield start, start + history.interval, polls / history.keys
            return
        run: tuple[float, float, int] | None = None
        for hold in history.holds:
            if hold.member != member or hold.cycle:
                continue
            if run is not None and hold.slots == run[2] and hold.begin - run[1] < 0.1:
                run = (run[0], hold.end, run[2])
                continue
            if run is not None:
                yield run[0], run[1], run[2].bit_count() / history.slots
            run = (hold.begin, hold.end, hold.slots)
        if run is not None:
            yield run[0], run[1], run[2].bit_count() / history.slots

    def moves(self) -> None:
        for handover in self.verdict.handovers:
            if handover.giver == handover.taker:
                continue
            upper, lower = sorted([self.y(handover.giver), self.y(handover.taker)])
            width = min(3.0, max(0.4, 40 * handover.slots / self.history.slots))
            x = self.x(handover.end)
            self.line("move", x, upper + _ROW / 2, x, lower + _ROW / 2, width)

    def events(self) -> None:
        free = [0.0] * _LEVELS  # from where on each line of labels has room
        for event in self.history.events:
            x = self.x(event.begin)
            words = _short(event)
            level = min(range(_LEVELS), key=lambda level: (free[level] > x, level))
            if free[level] <= x:
                self.text(words, x + 2, _TOP + _LEVEL * level, small=True)
                free[level] = x + _LETTER * len(words) + 6
            self.line("event", x, _TOP + _LEVEL * level - 9, x, self.bottom + 2 * _STRIP)

    def shade(self, event: Event) -> None:
        begin, end = self.x(event.begin), self.x(event.end)
        if event.kind in LOSSES:
            if event.kind == "kill":
                end = self.x(event.begin + self.history.ttl)
            for member in event.members:
                if member in self.rows:
                    self.rect("lost", begin, self.y(member), end - begin, _ROW)
        elif event.kind not in PLANNED:
            self.rect("store", begin, _ROWS, max(2.0, end - begin), self.bottom - _ROWS)

    def strips(self) -> None:
        for number, (kind, counts) in enumerate(
            [("missed", self.verdict.missed_in), ("repeated", self.verdict.repeated_in)]
        ):
            base = self.bottom + (number + 1) * _STRIP
            self.line("axis", _LEFT, base, _WIDTH - _RIGHT, base)
            most = max(counts.values(), default=0)
            self.text(kind, _LEFT - 8, base - 14, anchor="end")
            self.text(f"{sum(counts.values()):,}", _LEFT - 8, base, anchor="end", small=True)
            labelled = False
            for window, count in counts.items():
                start = self.history.window_start(window)
                width = self.x(start + self.history.interval) - self.x(start)
                height = max(1.0, (_STRIP - 10) * count / most)
                self.rect(kind, self.x(start), base - height, width - 0.4, height)
                if count == most and not labelled:
                    labelled = True
                    self.text(f"{count:,}", self.x(start), base - height - 2, small=True)
        base = self.bottom + 2 * _STRIP
        step = next(step for step in (1, 2, 5, 10, 30, 60, 120, 600) if self.seconds / step < 16)
        for second in range(0, int(self.seconds) + 1, step):
            x = self.x(self.history.begin + second)
            self.line("axis", x, base, x, base + 4)
            self.text(f"{second} s", x, base + 14, anchor="middle", small=True)
        what = "slots held" if self.history.slots else "keys polled in each window"
        legend = [
            ("held", f"{what} (full row: a third of all)"),
            ("move", "slots change hands"),
            ("lost", "killed (until the lease ends) or paused"),
            ("store", "fault of the store"),
        ]
        if not self.history.slots:
            legend = [(kind, words) for kind, words in legend if kind != "move"]
        for number, (kind, words) in enumerate(legend):
            x = _LEFT + (number % 2) * (_WIDTH - _LEFT - _RIGHT) / 2
            y = base + 34 + (number // 2) * 18
            if kind == "move":
                self.line("move", x + 5, y - 9, x + 5, y + 1, 2.0)
            else:
                self.rect(kind, x, y - 8, 10, 9)
            self.text(words, x + 16, y, small=True)


def _short(event: Event) -> str:
    names = ", ".join(event.members) if len(event.members) <= 2 else f"{len(event.members)}"
    return f"{event.kind} {names}".strip()


def svg(history: History, verdict: Verdict, *, title: str = "") -> str:
    """Return a drawing: members against time, what they held, hand-offs, faults, and below them
    the polls missed and repeated in each window.
    """
    drawing = _Drawing(history, verdict, title)
    drawing.events()
    drawing.bands()
    drawing.moves()
    for event in history.events:
        drawing.shade(event)
    drawing.strips()
    ElementTree.indent(drawing.root, " ")
    return ElementTree.tostring(drawing.root, encoding="unicode") + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Judge the logs in a folder; return 1 where they show what must not be."""
    parser = argparse.ArgumentParser(
        prog="python -m hashring.testing.faults.report", description=__doc__
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--svg", type=Path, help="also draw the run into this file")
    parser.add_argument("--title", default="")
    parser.add_argument("--on-crash", default="skip", choices=["skip", "repeat"])
    options = parser.parse_args(arguments)
    history = History.load(options.folder)
    verdict = check(history, on_crash=options.on_crash)
    sys.stdout.write(figures(history, verdict) + "\n\n" + table(history, verdict) + "\n")
    if options.svg is not None:
        options.svg.write_text(svg(history, verdict, title=options.title))
    return 1 if verdict.violations else 0


if __name__ == "__main__":
    sys.exit(main())
