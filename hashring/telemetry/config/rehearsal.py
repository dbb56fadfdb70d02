"""Rehearsal: makes what an agent makes of its sinks and its spool, and lets go of it at once.

What can never work is found before an agent polls anything: by `hashring agent check`, at the start
and at a reload. A sink that is merely away is not an error: its samples wait for it. This module
publishes nothing; that a sink takes samples it cannot tell.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path

from hashring.errors import HashringError
from hashring.telemetry.agent.agent import make_publisher
from hashring.telemetry.config.plan import Plan
from hashring.telemetry.delivery.spool import Spool, SpoolBroken
from hashring.telemetry.model.settings import Settings
from hashring.telemetry.publishers.base import OutputClosed, OutputFailed, SinkUnusable
from hashring.url import masked, secrets_in, without_secrets

__all__ = ["Finding", "check_sinks", "rehearse"]


@dataclasses.dataclass(frozen=True)
class Finding:
    """What a rehearsal found of one sink, or of the spool.

    Attributes:
        text: where, and what is wrong; without secrets.
        error: as it was raised.
        is_fatal: it does not heal by itself: an agent refuses to start.
    """

    text: str
    error: HashringError
    is_fatal: bool


def rehearse(
    settings: Settings, plan: Plan, *, while_agents_run: bool = False
) -> Iterator[Finding]:
    """Yield what is wrong with the spool's folder and with the sinks that can be made at all.

    What a URL alone tells is not repeated: see :meth:`~hashring.telemetry.config.plan.Plan.
    publisher_problems`.

    Args:
        settings: of the agent.
        plan: of the agent.
        while_agents_run: what a running agent of this host holds is not an error: it may be the one
            that is to be replaced.
    """
    wrong = plan.publisher_problems()
    if settings.state_dir is not None:
        try:
            _try_spool(settings.state_dir / "spool", settings.spool_bytes)
        except SpoolBroken as error:
            yield Finding(str(error), error, is_fatal=True)
    for url in plan.targets:
        if masked(url) not in wrong and (found := _try_sink(url, settings, while_agents_run)):
            yield found


def check_sinks(urls: Iterable[str], settings: Settings, *, while_agents_run: bool = False) -> None:
    """Make sure that each of these sinks can work.

    Args:
        urls: the sinks.
        settings: of the agent.
        while_agents_run: as of :func:`rehearse`.

    Raises:
        HashringError: the first sink that does not heal by itself; the message says what to do.
    """
    for url in urls:
        found = _try_sink(url, settings, while_agents_run)
        if found is not None and found.is_fatal:
            raise found.error


def _try_sink(url: str, settings: Settings, while_agents_run: bool) -> Finding | None:
    try:
        make_publisher(url, settings).release()
    except HashringError as error:
        is_fatal = isinstance(error, SinkUnusable) or not isinstance(
            error, (OutputFailed, OutputClosed)
        )
        text = without_secrets(str(error), secrets_in(url))
        if while_agents_run and isinstance(error, SinkUnusable) and error.is_held_by_agent:
            is_fatal = False
            text += "; an agent that runs now holds it, and must end before another one starts"
        return Finding(f"{masked(url)}: {text}", error, is_fatal)
    return None


def _try_spool(folder: Path, max_bytes: int) -> None:
    """Make a spool and let go of it, with the folders that were not there before."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        Spool(folder, max_bytes=max_bytes).close()
    finally:
        for path in made:
            with contextlib.suppress(OSError):  # it holds what another process has put there
                path.rmdir()
