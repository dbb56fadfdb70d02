"""Defaults that are of a host: the state folder, the embedded store in it, and a member's id.

Both ways to configure an agent, by files and by the command line alone, take them from here.
"""

from __future__ import annotations

import uuid
from pathlib import Path
from urllib.parse import quote

from hashring.errors import MissingDependency
from hashring.telemetry.sources.host import machine

__all__ = ["default_group", "default_member", "embedded_url", "user_state_folder"]


def user_state_folder(what: str) -> Path:
    """Return the user's folder for hashring's state, which need not exist.

    Args:
        what: needs it, for the message where platformdirs is missing.

    Raises:
        MissingDependency: platformdirs is not installed.
    """
    try:
        import platformdirs
    except ImportError as error:  # pragma: no cover - the tests of the wheel run without it
        raise MissingDependency(what, "platformdirs", "telemetry") from error
    return Path(platformdirs.user_state_path("hashring", appauthor=False))


def embedded_url(folder: Path) -> str:
    """Return the URL of the embedded store in a state folder.

    Example:
        >>> embedded_url(Path("/var/lib/hashring"))
        'sqlite:///var/lib/hashring/agents.db'
    """
    return f"sqlite://{quote(str((folder / 'agents.db').absolute()))}"


def default_group() -> str:
    """Return the group of this host's agents.

    It bears the host's name: agents share what they discover, which here is this machine, and
    those of another one cannot poll it.

    >>> default_group().startswith("agents/")
    True
    """
    return f"agents/{machine.host_id()}"


def default_member(host: str | None = None) -> str:
    """Return a member id that no other agent has: the host's name and a random part.

    Args:
        host: by default this one's id.

    Example:
        >>> default_member("web1").startswith("web1-")
        True
    """
    return f"{machine.host_id() if host is None else host}-{uuid.uuid4().hex[:8]}"
