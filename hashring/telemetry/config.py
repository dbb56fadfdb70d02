"""AgentConfig: what one agent is told to do; checked here, once, for whoever starts it.

Plain values that can be sent to another process. Knows defaults and limits, and the user's state
folder; not how anything is done.
"""

from __future__ import annotations

import dataclasses
import math
import uuid
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from hashring.errors import HashringError, MissingDependency
from hashring.telemetry import machine

__all__ = ["AgentConfig", "BadConfig", "default_group", "default_member", "default_url"]


class BadConfig(HashringError, ValueError):
    """A setting of an agent is not usable; the message names it and its value."""


def default_url() -> str:
    """Return the URL of the embedded store in the user's state folder, which is made if missing.

    Raises:
        MissingDependency: platformdirs is not installed.
        BadConfig: the folder cannot be made.
    """
    try:
        import platformdirs
    except ImportError as error:  # pragma: no cover - the tests of the wheel run without it
        raise MissingDependency("the default --backend-url", "platformdirs", "telemetry") from error
    folder = Path(platformdirs.user_state_path("hashring", appauthor=False))
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise BadConfig(
            f"cannot make the state folder {str(folder)!r}: {error.strerror}; give --backend-url"
        ) from None
    return f"sqlite://{quote(str(folder / 'agents.db'))}"


def default_group() -> str:
    """Return the group of this host's agents.

    It bears the host's name: agents share what they discover, which here is this machine, and
    those of another one cannot poll it.

    >>> default_group().startswith("agents/")
    True
    """
    return f"agents/{machine.host_id()}"


def default_member() -> str:
    """Return a member id that no other agent has: the host's name and a random part."""
    return f"{machine.host_id()}-{uuid.uuid4().hex[:8]}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class AgentConfig:
    """What one agent is told to do.

    Attributes:
        backend_url: the store of the group.
        group: agents of one group share their resources.
        member: this agent's id in the group; another each time where none is given.
        interval: seconds between polls of a resource: the length of a window.
        ttl: seconds after which the others may take over from an agent that is silent.
        cycles: end after this many windows; ``None``: never.
        output: a file for the samples, appended to; ``"-"`` is the standard output.
        on_crash: ``"repeat"`` or ``"skip"`` the window in which a dead agent's share is taken over.
        resources: poll these ids alone; ``None``: whatever is discovered.
        status_file: keep the agent's status here, as JSON; ``None``: nowhere.
        patience: seconds to wait for the lease of an agent of the same member id to run out,
            before it is an error; for whoever restarts an agent that died.
        drain_timeout: seconds that handing over may take when the agent ends.

    Raises:
        BadConfig: a value is out of its range.

    Example:
        >>> AgentConfig(backend_url="memory://", interval=0)
        Traceback (most recent call last):
        ...
        hashring.telemetry.config.BadConfig: --interval must be a positive number of seconds, not 0
    """

    backend_url: str
    group: str = dataclasses.field(default_factory=default_group)
    member: str = dataclasses.field(default_factory=default_member)
    interval: float = 60.0
    ttl: float = 10.0
    cycles: int | None = None
    output: str = "-"
    on_crash: Literal["repeat", "skip"] = "repeat"
    resources: tuple[str, ...] | None = None
    status_file: str | None = None
    patience: float = 0.0
    drain_timeout: float = 30.0

    def __post_init__(self) -> None:
        for name in ("interval", "ttl", "drain_timeout"):
            value = getattr(self, name)
            if not (value > 0 and math.isfinite(value)):
                raise BadConfig(
                    f"--{name.replace('_', '-')} must be a positive number of seconds, "
                    f"not {value!r}"
                )
        if self.cycles is not None and self.cycles < 1:
            raise BadConfig(f"--cycles must be at least 1, not {self.cycles!r}")
        for name in ("group", "member", "output"):
            if not getattr(self, name):
                raise BadConfig(f"--{name} must not be empty")
        if self.on_crash not in ("repeat", "skip"):
            raise BadConfig(f"--on-crash must be 'repeat' or 'skip', not {self.on_crash!r}")
