"""Where an answer goes: a table on a terminal, plain columns into a pipe, or one JSON value."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

import click

from hashring.observe.description import as_json
from hashring.steer.outcome import Outcome

__all__ = ["print_json", "print_outcome", "print_table"]

Row = Sequence[str]


def print_json(answer: Any) -> None:
    """Print an answer as one line of JSON; a number that is infinite is ``null``."""
    click.echo(json.dumps(as_json(answer), ensure_ascii=False, allow_nan=False))


def print_outcome(outcome: Outcome) -> None:
    """Print in a line what came of a request."""
    done = "done" if outcome.done else "not done"
    whom = outcome.group if outcome.member == "*" else outcome.member
    line = f"{done}: {outcome.what} {whom}: {outcome.reason} ({outcome.seconds:.1f} s)"
    click.echo(_shown(line))


def print_table(columns: Row, rows: Sequence[Row], title: str = "") -> None:
    """Print rows under their columns' names: by rich on a terminal, if it is installed.

    What a store says is data from strangers: control characters are shown, not sent.
    """
    shown = [[_shown(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        try:
            _print_rich(columns, shown, title)
        except ImportError:
            pass
        else:
            return
    if title:
        click.echo(title)
    widths = [max(map(len, column)) for column in zip(columns, *shown, strict=True)]
    for row in (columns, *shown):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


def _print_rich(columns: Row, rows: Sequence[Row], title: str) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, title_justify="left")
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*map(Text, row))  # not markup: brackets in an id are no colours
    Console().print(table)


def _shown(cell: str) -> str:
    r"""Return text as it can be sent to a terminal.

    >>> print(_shown("web\x1b[2J1"))
    web\x1b[2J1
    """
    return "".join(
        character if character.isprintable() else repr(character)[1:-1] for character in cell
    )
