"""``hashring group`` and its commands that look: arguments, options, exit codes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from hashring.cli.group import tables
from hashring.cli.group.output import print_json
from hashring.errors import BadArgument, StoreUnavailable
from hashring.exit_codes import FAILED
from hashring.observe import GroupDescription, Observer
from hashring.observe.description import as_json

__all__ = ["group"]

_json = click.option("--json", "as_one_json", is_flag=True, help="Print JSON, for programs.")
_url = click.argument("url")
_group = click.argument("name", metavar="GROUP")


@click.group()
def group() -> None:
    """Look at groups from outside, and steer them. Whoever looks joins and changes nothing.

    URL is the store's, as the members have it. Exit codes: 0 nothing is wrong, 1 trouble was
    found, 2 what was asked for is wrong.
    """


@group.command("list")
@_url
@_json
def list_groups(url: str, as_one_json: bool) -> None:
    """List the groups that have members."""
    with Observer(url) as observer:
        found = observer.groups()
    if as_one_json:
        print_json({"url": observer.url, "groups": found})
        return
    for name in found:
        click.echo(name)


@group.command()
@_url
@_group
@_json
def describe(url: str, name: str, as_one_json: bool) -> int:
    """Show who is in a group, who waits for whom and since when, and what is wrong.

    Exit code 1: the group has not settled, or something is wrong.
    """
    with Observer(url) as observer:
        found = observer.describe(name)
    if as_one_json:
        print_json(found)
    else:
        tables.print_group(found)
    return 0 if found.is_settled else FAILED


@group.command()
@_url
@_group
@click.argument("keys", nargs=-1, required=True, metavar="KEY...")
@_json
def owner(url: str, name: str, keys: Sequence[str], as_one_json: bool) -> int:
    """Show whose a key is: by the table, and by who may hold it now.

    Exit code 1: for some key the two differ.
    """
    with Observer(url) as observer:
        found = observer.owner(name, keys)
    if as_one_json:
        print_json(found)
    else:
        tables.print_owners(found)
    return 0 if all(one.owner is not None and one.owner == one.holder for one in found) else FAILED


@group.command()
@_url
@_group
@click.option("--count", type=click.IntRange(min=1), help="End after so many descriptions.")
@_json
def watch(url: str, name: str, count: int | None, as_one_json: bool) -> None:
    """Describe a group whenever it changes, until Ctrl-C. It is read once a second at most."""
    with Observer(url) as observer:
        for number, found in enumerate(_changes(observer, name), 1):
            if as_one_json:
                print_json(found)
            else:
                click.echo(time.strftime("%Y-%m-%d %H:%M:%S"))
                tables.print_group(found)
            if number == count:
                return


def _changes(observer: Observer, name: str) -> Iterator[GroupDescription]:
    """Yield what differs from what was yielded before; a store that is away is said once."""
    shown: object = None
    away = False
    while True:
        try:
            for found in observer.watch(name):
                away = False
                now = _without_time(found)
                if now != shown:
                    shown = now
                    yield found
        except StoreUnavailable as error:
            if not away:
                click.echo(f"hashring: {error}", err=True)
            away = True
            time.sleep(1.0)


def _without_time(found: GroupDescription) -> object:
    told = as_json(found)
    del told["read_at"], told["memory_age"]
    for member in told["members"]:
        del member["lease_left"], member["heartbeat_age"]
    return told


@group.command()
@_url
@_group
@click.option(
    "--add", "added", multiple=True, metavar="ID[=WEIGHT]", help="A member that would come."
)
@click.option("--remove", "removed", multiple=True, metavar="ID", help="A member that would go.")
@click.option(
    "--keys",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file of keys, one a line: count those that would move.",
)
@_json
def preview(
    url: str,
    name: str,
    added: Sequence[str],
    removed: Sequence[str],
    file: Path | None,
    as_one_json: bool,
) -> None:
    """Show what would move if members came or went."""
    add = dict(map(_weighted, added))
    keys = None if file is None else _lines(file)
    with Observer(url) as observer:
        found = observer.preview(name, add=add, remove=removed, keys=keys)
    if as_one_json:
        print_json(found)
    else:
        tables.print_preview(found)


def _weighted(text: str) -> tuple[str, float]:
    """Read ``ID[=WEIGHT]``.

    >>> _weighted("web1=2.5"), _weighted("web1")
    (('web1', 2.5), ('web1', 1.0))
    """
    id, equals, weight = text.rpartition("=")
    if not equals:
        return text, 1.0
    try:
        return id, float(weight)
    except ValueError:
        raise BadArgument(
            f"--add {text!r:.200}: {weight!r:.100} is not a weight: write ID or ID=WEIGHT"
        ) from None


def _lines(file: Path) -> list[str]:
    try:
        return [line for line in file.read_text("utf-8").splitlines() if line]
    except (OSError, UnicodeDecodeError) as error:
        raise BadArgument(f"--keys {file}: {error}") from error


@group.command("can-stop")
@_url
@_group
@click.argument("member")
@_json
def can_stop(url: str, name: str, member: str, as_one_json: bool) -> int:
    """Say whether a member may be stopped now without anybody's missing a window.

    Exit code 0: yes. 1: no, and why.
    """
    with Observer(url) as observer:
        advice = observer.can_stop(name, member)
    if as_one_json:
        print_json(advice)
    else:
        tables.print_advice(advice)
    return 0 if advice.can_stop else FAILED
