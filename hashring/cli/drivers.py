"""``hashring drivers``: which stores can be used here. Needs the core and click alone."""

from __future__ import annotations

from collections.abc import Sequence

import click

from hashring import driver

__all__ = ["drivers"]


@click.command()
def drivers() -> None:
    """List the installed drivers: where they come from, what they promise, their options."""
    for found in driver.describe():
        click.echo(f"{found.scheme}://  from {found.distribution} ({found.target})")
        if found.problem is not None:
            click.echo(f"    cannot be used: {found.problem}")
            continue
        click.echo(f"    {found.promise}")
        _echo_options(found.options)
    click.echo("every driver")
    _echo_options(driver.COMMON_OPTIONS)


def _echo_options(options: Sequence[driver.Option]) -> None:
    for option in options:
        default = "" if option.default is None else f"  [default: {option.default}]"
        click.echo(f"    ?{option.name}=  {option.help}{default}")
