"""What ``hashring group`` prints for people. It decides nothing and asks no store."""

from __future__ import annotations

import math
import time

import click

from hashring.cli.group.output import print_table
from hashring.observe.description import (
    FreezeDescription,
    GroupDescription,
    MemberDescription,
    Ownership,
    Preview,
    StopAdvice,
    Waiting,
)

__all__ = ["print_advice", "print_group", "print_owners", "print_preview"]

_MOST_MOVES = 10
"""How many moves a preview lists."""


def print_group(group: GroupDescription) -> None:
    """Print who is in a group, who waits for whom, and what is wrong."""
    state = "settled" if group.is_settled else "not settled"
    if not group.members and not group.unreadable:
        click.echo(f"{group.group} at {group.url}: nobody is in it")
        return
    click.echo(f"{group.group} at {group.url}: {len(group.members)} members, {state}")
    if group.ttl is not None:
        memory = (
            "" if math.isinf(group.memory_age) else f", store known for {group.memory_age:.0f} s"
        )
        ring = f"{group.slots} slots, {group.handoff}"
        click.echo(f"view {group.view_id}, ttl {group.ttl:g} s, {ring}{memory}")
    if group.members:
        print_table(
            ("member", "state", "weight", "share", "due", "holds", "acked", "lease", "since"),
            [_row(member) for member in group.members],
        )
    for id in sorted(group.unreadable):
        click.echo(f"unreadable: {id!r}")
    if group.frozen is not None:
        click.echo(_frozen(group.frozen))
    for request in group.requests:
        click.echo(f"request: {request}")
    for wait in group.waits:
        click.echo(f"waits: {_wait(wait, group.read_at)}")
    for problem in group.problems:
        click.echo(f"problem: {problem}")


def _row(member: MemberDescription) -> tuple[str, ...]:
    return (
        member.id,
        member.state,
        f"{member.weight:g}",
        f"{member.share:.1%}",
        str(member.due),
        "?" if member.holds is None else str(member.holds),
        member.acked,
        "?" if member.lease_left is None else f"{member.lease_left:.1f} s",
        "?" if member.since is None else _clock(member.since),
    )


def _wait(wait: Waiting, now: float) -> str:
    first = ", ".join(
        str(one) if one == other else f"{one}-{other}" for one, other in wait.ranges[:3]
    )
    more = ", ..." if len(wait.ranges) > 3 else ""
    since = "" if wait.since is None else f" since {_clock(wait.since)} ({now - wait.since:.0f} s)"
    return (
        f"{wait.member} for {wait.whom}, {wait.slots} slots ({first}{more}){since}: {wait.reason}"
    )


def _frozen(frozen: FreezeDescription) -> str:
    kept_out = ", ".join(map(repr, frozen.kept_out[:_MOST_MOVES]))
    late = f"; {len(frozen.kept_out)} came later and hold nothing: {kept_out}" if kept_out else ""
    return (
        f"frozen: by {frozen.by!r} since {_clock(frozen.since)}: nobody gains or loses by joins "
        f"and drains{late}"
    )


def _clock(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))


def print_owners(owners: list[Ownership]) -> None:
    """Print whose some keys are."""
    print_table(
        ("key", "slot", "owner", "holder now", "holder before", "why they differ"),
        [
            (
                found.key,
                str(found.slot),
                found.owner or "-",
                found.holder or "-",
                found.previous or "-",
                found.reason,
            )
            for found in owners
        ],
    )


def print_preview(preview: Preview) -> None:
    """Print what a change would move."""
    print_table(
        ("member", "slots now", "slots then"),
        [
            (id, str(preview.before.get(id, 0)), str(preview.after.get(id, 0)))
            for id in sorted(preview.before.keys() | preview.after.keys())
        ],
    )
    click.echo(f"{preview.slots} slots would move ({preview.share_moved:.1%})")
    if preview.keys is not None:
        click.echo(f"{preview.keys} of {preview.of_keys} keys would move")
    click.echo(f"balance then: {preview.balance:.3f} (1 is even)")
    for one, other, slots in preview.moves[:_MOST_MOVES]:
        click.echo(f"{one or 'nobody'} -> {other or 'nobody'}: {slots} slots")


def print_advice(advice: StopAdvice) -> None:
    """Print whether a member may be stopped."""
    if advice.can_stop:
        click.echo(f"yes: {advice.member} can be stopped (SIGTERM hands over)")
        return
    click.echo(f"no: {advice.member} should not be stopped now")
    for reason in advice.reasons:
        click.echo(f"  {reason}")
