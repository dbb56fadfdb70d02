"""Draw the hand-off's states from ``hashring.protocol.handoff.TRANSITIONS``: ``python
docs/draw_states.py``.

It writes ``docs/states.svg``; a test holds the file against the code.
"""

from __future__ import annotations

import math
from html import escape
from pathlib import Path

from hashring.protocol.handoff import TRANSITIONS

PLACES = {
    "joining": (100, 150),
    "settling": (350, 60),
    "settled": (620, 150),
    "fenced": (350, 260),
    "draining": (620, 330),
    "left": (800, 330),
}
WIDTH, HEIGHT, RADIUS_X, RADIUS_Y = 880, 680, 62, 26


def on_edge(centre: tuple[float, float], towards: tuple[float, float]) -> tuple[float, float]:
    """Return where the line from a state's centre towards a point leaves its ellipse."""
    x, y = towards[0] - centre[0], towards[1] - centre[1]
    scale = 1 / math.hypot(x / RADIUS_X, y / RADIUS_Y)
    return centre[0] + x * scale, centre[1] + y * scale


def draw() -> str:
    """Return the diagram as SVG: numbered arrows, and what each number means below."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="14">',
        '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" '
        'markerHeight="8" orient="auto"><path d="M0,0 L10,5 L0,10 z" fill="#446"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
    ]
    for number, (before, after) in enumerate(TRANSITIONS, 1):
        start, end = PLACES[before], PLACES[after]
        length = math.dist(start, end)
        # Bend to the left, so that there and back do not lie on each other.
        bend = 26
        middle = (
            (start[0] + end[0]) / 2 + bend * (end[1] - start[1]) / length,
            (start[1] + end[1]) / 2 - bend * (end[0] - start[0]) / length,
        )
        a, b = on_edge(start, middle), on_edge(end, middle)
        parts.append(
            f'<path d="M{a[0]:.1f},{a[1]:.1f} Q{middle[0]:.1f},{middle[1]:.1f} '
            f'{b[0]:.1f},{b[1]:.1f}" fill="none" stroke="#446" marker-end="url(#tip)"/>'
        )
        # The point of the curve a third of the way: near enough to its start to be told apart.
        t = 0.36
        x = (1 - t) ** 2 * a[0] + 2 * t * (1 - t) * middle[0] + t * t * b[0]
        y = (1 - t) ** 2 * a[1] + 2 * t * (1 - t) * middle[1] + t * t * b[1]
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="10" fill="#eef" stroke="#446"/>')
        parts.append(
            f'<text x="{x:.1f}" y="{y + 4:.1f}" text-anchor="middle" font-size="11">{number}</text>'
        )
    for name, (x, y) in PLACES.items():
        parts.append(
            f'<ellipse cx="{x}" cy="{y}" rx="{RADIUS_X}" ry="{RADIUS_Y}" fill="#dfe9dd" '
            'stroke="#343"/>'
        )
        parts.append(f'<text x="{x}" y="{y + 5}" text-anchor="middle">{name}</text>')
    for number, ((before, after), cause) in enumerate(TRANSITIONS.items(), 1):
        x, y = (30, 430 + 26 * (number - 1)) if number <= 9 else (450, 430 + 26 * (number - 10))
        parts.append(f'<text x="{x}" y="{y}">{number}. {before} → {after}: {escape(cause)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


if __name__ == "__main__":
    Path(__file__).with_name("states.svg").write_text(draw())
