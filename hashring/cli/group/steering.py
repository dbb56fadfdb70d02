"""The commands of ``hashring group`` that change something: each goes into the members' logs."""

from __future__ import annotations

import click

from hashring.cli.group.commands import _group, _json, _url, group
from hashring.cli.group.output import print_json, print_outcome
from hashring.exit_codes import FAILED
from hashring.steer import Operator
from hashring.steer.operator import DEFAULT_TIMEOUT
from hashring.steer.outcome import Outcome

__all__ = ["drain", "evict", "freeze", "thaw"]

_by = click.option(
    "--by", metavar="NAME", help="Who asks, for the members' logs. By default user@host."
)

_RISK = (
    "hashring: --force: the member is told to hold nothing from now on. What it has in hand may be "
    "done twice. If it does not hear, nobody gains its slots until it surely holds nothing."
)


@group.command()
@_url
@_group
@click.argument("member")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0.0),
    default=DEFAULT_TIMEOUT,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for the hand-over. It goes on all the same.",
)
@_by
@_json
def drain(
    url: str, name: str, member: str, timeout: float, by: str | None, as_one_json: bool
) -> int:
    """Ask a member to hand over and leave, and wait until it has.

    An agent's process then ends, with success. Exit code 1: it has not left, and why.
    """
    with Operator(url, by=by) as operator:
        outcome = operator.drain(name, member, timeout)
    return _told(outcome, as_one_json)


@group.command()
@_url
@_group
@click.argument("member")
@click.option("--force", is_flag=True, help="Also one that heartbeats. Says what that risks.")
@_by
@_json
def evict(url: str, name: str, member: str, force: bool, by: str | None, as_one_json: bool) -> int:
    """End the lease of a member that is dead, once it surely holds nothing.

    Exit code 1: it heartbeats, and so is left alone.
    """
    if force:
        click.echo(_RISK, err=True)
    with Operator(url, by=by) as operator:
        outcome = operator.evict(name, member, force=force)
    return _told(outcome, as_one_json)


@group.command()
@_url
@_group
@_by
@_json
def freeze(url: str, name: str, by: str | None, as_one_json: bool) -> int:
    """Let nobody gain or lose slots by joins and drains, until it is thawed.

    What a member that crashes held is taken over all the same. Exit code 1: some members do not
    know of it yet.
    """
    with Operator(url, by=by) as operator:
        outcome = operator.freeze(name)
    return _told(outcome, as_one_json)


@group.command()
@_url
@_group
@_by
@_json
def thaw(url: str, name: str, by: str | None, as_one_json: bool) -> int:
    """End a freeze: who came and who left since then count again.

    Exit code 1: some members do not know of it yet.
    """
    with Operator(url, by=by) as operator:
        outcome = operator.thaw(name)
    return _told(outcome, as_one_json)


def _told(outcome: Outcome, as_one_json: bool) -> int:
    if as_one_json:
        print_json(outcome)
    else:
        print_outcome(outcome)
    return 0 if outcome.done else FAILED
