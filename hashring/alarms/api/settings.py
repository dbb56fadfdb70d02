"""What the API's server is told. Knows no file and no option's place."""

from __future__ import annotations

import dataclasses
from pathlib import Path

__all__ = ["AUTH_MODES", "APISettings"]

AUTH_MODES = ("keystone", "basic", "noauth")


@dataclasses.dataclass(frozen=True, kw_only=True)
class APISettings:
    """What the API's server is told.

    Attributes:
        auth_mode: how it knows who asks: ``keystone``, ``basic``, ``noauth``.
        config_files: for Keystone's own options, ``[keystone_authtoken]``.
        password_file: users and their passwords, as ``htpasswd -B`` writes them, for ``basic``.
        admins: users of that file who are administrators.
        project_quota: alarms of a project that has no quota of its own; -1: any number.
        user_quota: alarms of a user; -1: any number.
        most_actions: URLs in each of an alarm's three lists; 0 or less: any number.
        record_history: changes are written to the history.
        threads: requests at once.
        gnocchi_owner: the project that makes resources in Gnocchi for those of others.
        gnocchi_owner_domain: its domain.
    """

    auth_mode: str = "keystone"
    config_files: tuple[Path, ...] = ()
    password_file: Path | None = None
    admins: frozenset[str] = frozenset()
    project_quota: int = -1
    user_quota: int = -1
    most_actions: int = -1
    record_history: bool = True
    threads: int = 8
    gnocchi_owner: str = "service"
    gnocchi_owner_domain: str = "Default"
